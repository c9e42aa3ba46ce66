//! Numbers of sequences: a stretch of them is reserved through the log, then given to
//! sessions one by one.
//!
//! ```text
//!   nextval -> [stretch in memory] -- empty --> propose: reserve -> log -> apply -> stretch
//! ```
//!
//! What a node had reserved and not given when it stopped is never given, nor what it has left when
//! the sequence is set, by whatever node. Stretches grow while
//! numbers go fast, so that a large INSERT does not wait for the log at each few rows.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use chronos_model::{Catalog, Change, SequenceSchema, SqlState, Stamp, TableId, WriteSet};
use chronos_query::{QueryError, SequenceCall, SequenceCalls};
use chronos_store::ApplyError;
use parking_lot::Mutex;

use crate::replica::{Committal, Replica};
use crate::{Error, Node};

/// Numbers of a first stretch, as many as PostgreSQL reserves.
const STRETCH_FIRST: u32 = 32;
/// Numbers of a stretch, at most.
const STRETCH_MAX: u32 = 4096;

/// What the node has reserved and not given yet, by sequence.
#[derive(Default)]
pub(crate) struct Sequences {
    stretches: Mutex<HashMap<TableId, Arc<Mutex<Stretch>>>>,
}

#[derive(Clone, Default)]
struct Stretch {
    next: i64,
    increment: i64,
    left: u32,
    /// How many are reserved next.
    size: u32,
    /// How often the sequence had been set.
    sets: u32,
    /// The catalog in which that was last looked up.
    seen: Option<Arc<Catalog>>,
}

impl Stretch {
    /// Gives up what is left if the sequence was set since, maybe on another node.
    fn follow(&mut self, id: TableId, catalog: Arc<Catalog>) {
        let is_seen = |seen: &Arc<Catalog>| Arc::ptr_eq(seen, &catalog);
        if self.left == 0 || self.seen.as_ref().is_some_and(is_seen) {
            return;
        }
        if catalog
            .sequence_by_id(id)
            .is_none_or(|s| s.sets != self.sets)
        {
            self.left = 0;
        }
        self.seen = Some(catalog);
    }
}

impl Sequences {
    fn stretch(&self, id: TableId) -> Arc<Mutex<Stretch>> {
        self.stretches.lock().entry(id).or_default().clone()
    }

    /// A number that nobody else is given.
    fn next(&self, replica: &Replica, id: TableId) -> Result<i64, Error> {
        let stretch = self.stretch(id);
        let mut stretch = stretch.lock();
        stretch.follow(id, replica.store.catalog());
        if stretch.left == 0 {
            let size = stretch.size.clamp(STRETCH_FIRST, STRETCH_MAX);
            let committal = commit(replica, Change::ReserveNumbers(id, size))?;
            let reserved = committal
                .applied
                .reserved
                .ok_or_else(|| Error::new(SqlState::INTERNAL, "a reservation gave no numbers"))?;
            *stretch = Stretch {
                next: reserved.first,
                increment: reserved.increment,
                left: reserved.count,
                size: size.saturating_mul(2),
                sets: reserved.sets,
                seen: None,
            };
        }
        let number = stretch.next;
        stretch.left -= 1;
        if stretch.left > 0 {
            stretch.next += stretch.increment;
        }
        Ok(number)
    }

    /// Goes on from a number.
    fn set(&self, replica: &Replica, id: TableId, value: i64, called: bool) -> Result<(), Error> {
        let stretch = self.stretch(id);
        let mut stretch = stretch.lock();
        commit(replica, Change::SetSequence(id, value, called))?;
        *stretch = Stretch::default();
        Ok(())
    }
}

/// What one session knows of sequences.
#[derive(Default)]
pub(crate) struct SessionSequences {
    given: Mutex<Given>,
    /// Its transaction may not change anything.
    is_read_only: AtomicBool,
}

#[derive(Default)]
struct Given {
    /// What `currval` and `lastval` tell of: numbers that the session was given.
    by_sequence: HashMap<TableId, i64>,
    last: Option<TableId>,
    /// Sequences that its transaction has created: nobody else knows them yet, and their
    /// numbers are not reserved.
    own: BTreeMap<TableId, SequenceSchema>,
    /// Those of them that it has dropped again.
    dropped: BTreeMap<TableId, SequenceSchema>,
}

impl Given {
    /// Hands out a number of a sequence of the transaction; `None`: it is not one of these.
    fn next_of_own(&mut self, id: TableId) -> Option<Result<i64, QueryError>> {
        let sequence = self.own.get_mut(&id)?;
        let number = sequence.reserve(1).map(|reserved| reserved.first);
        Some(number.ok_or_else(|| exhausted(sequence)))
    }

    fn give(&mut self, id: TableId, number: i64) -> i64 {
        self.by_sequence.insert(id, number);
        self.last = Some(id);
        number
    }
}

impl SessionSequences {
    /// Says whether the session's transaction may not change anything.
    pub(crate) fn follow_mode(&self, is_read_only: bool) {
        self.is_read_only.store(is_read_only, Ordering::Relaxed);
    }

    fn refuse_read_only(&self, function: &str) -> Result<(), QueryError> {
        if !self.is_read_only.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!("cannot execute {function}() in a read-only transaction");
        Err(QueryError::new(SqlState::READ_ONLY_TRANSACTION, message))
    }

    /// Says which sequences the session's transaction has created. Those that it knew go on where
    /// they stand, also if they were dropped and a ROLLBACK TO has brought them back.
    pub(crate) fn follow<'a>(&self, own: impl Iterator<Item = &'a Arc<SequenceSchema>>) {
        let mut given = self.given.lock();
        let mut before = std::mem::take(&mut given.own);
        before.append(&mut given.dropped);
        for sequence in own {
            let id = sequence.id;
            let known = before.remove(&id).filter(|s| s.name == sequence.name);
            let known = known.unwrap_or_else(|| SequenceSchema::clone(sequence));
            given.own.insert(id, known);
        }
        for id in before.keys() {
            given.by_sequence.remove(id);
        }
        given.dropped = before;
    }

    /// Where the sequences of the transaction stand.
    pub(crate) fn own(&self) -> Vec<SequenceSchema> {
        self.given.lock().own.values().cloned().collect()
    }

    /// The transaction is committed: its sequences are everybody's.
    pub(crate) fn committed(&self) {
        let mut given = self.given.lock();
        given.own.clear();
        given.dropped.clear();
    }

    /// There is no transaction: what one has created and not committed never was.
    pub(crate) fn forget(&self) {
        self.follow(std::iter::empty());
        self.given.lock().dropped.clear();
    }
}

/// PostgreSQL's words for [`chronos_store::ApplyError::SequenceExhausted`].
fn exhausted(sequence: &SequenceSchema) -> QueryError {
    let (end, bound) = match sequence.increment > 0 {
        true => ("maximum", sequence.max),
        false => ("minimum", sequence.min),
    };
    let error = ApplyError::SequenceExhausted {
        name: sequence.name.clone(),
        end,
        bound,
    };
    QueryError::new(error.sqlstate(), error.to_string())
}

/// The functions of sequences, for one session.
pub(crate) fn calls_of(node: &Node, session: Arc<SessionSequences>) -> SequenceCalls {
    let node = node.clone();
    Arc::new(move |call| {
        let inner = &node.inner;
        let given = &session.given;
        match call {
            SequenceCall::Next(id) => {
                session.refuse_read_only("nextval")?;
                let own = given.lock().next_of_own(id);
                let number = match own {
                    Some(number) => number?,
                    None => {
                        let number = inner.sequences.next(&inner.replica, id);
                        number.map_err(in_query)?
                    }
                };
                Ok(Some(given.lock().give(id, number)))
            }
            SequenceCall::Set(id, value, called) => {
                session.refuse_read_only("setval")?;
                let is_own = match given.lock().own.get_mut(&id) {
                    Some(sequence) => {
                        sequence.set(value, called);
                        true
                    }
                    None => false,
                };
                if !is_own {
                    let set = inner.sequences.set(&inner.replica, id, value, called);
                    set.map_err(in_query)?;
                }
                if called {
                    given.lock().by_sequence.insert(id, value);
                }
                Ok(Some(value))
            }
            SequenceCall::Current(id) => Ok(given.lock().by_sequence.get(&id).copied()),
            SequenceCall::Last => {
                let given = given.lock();
                let last = given.last.and_then(|id| given.by_sequence.get(&id));
                Ok(last.copied())
            }
        }
    })
}

fn in_query(error: Error) -> QueryError {
    let mut e = QueryError::new(error.code, error.message);
    e.detail = error.detail;
    e.hint = error.hint;
    e
}

/// Commits a change and waits for it. A function is evaluated on a thread of the engine, which
/// cannot wait otherwise; the log and apply threads, which it waits for, wait for nobody.
fn commit(replica: &Replica, change: Change) -> Result<Committal, Error> {
    let set = WriteSet {
        begin: Stamp::MAX,
        changes: vec![change],
    };
    wait(replica.propose(set, None))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    // Nobody schedules the task that this thread runs while it is parked.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_model::DataType;

    #[test]
    fn what_was_reserved_before_a_sequence_is_set_is_not_given() {
        let id = TableId(3);
        let mut sequence = SequenceSchema {
            id,
            name: "s".into(),
            data_type: DataType::Int8,
            start: 1,
            increment: 1,
            min: 1,
            max: 100,
            cycle: false,
            owner: None,
            last: 1,
            is_called: false,
            sets: 0,
        };
        let catalog = |sequence: &SequenceSchema| {
            let mut catalog = Catalog::default();
            let sequence = Arc::new(sequence.clone());
            catalog.sequences.insert("s".into(), sequence);
            Arc::new(catalog)
        };
        let mut stretch = Stretch {
            left: 5,
            ..Stretch::default()
        };
        stretch.follow(id, catalog(&sequence));
        sequence.reserve(32);
        stretch.follow(id, catalog(&sequence));
        assert_eq!(stretch.left, 5, "another node has reserved numbers");
        sequence.set(1, false);
        stretch.follow(id, catalog(&sequence));
        assert_eq!(stretch.left, 0);
        let mut stretch = Stretch {
            left: 5,
            ..Stretch::default()
        };
        stretch.follow(id, Arc::default());
        assert_eq!(stretch.left, 0, "it is gone");
    }
}
