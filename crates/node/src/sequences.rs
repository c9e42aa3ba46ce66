//! Numbers of sequences: a stretch of them is reserved through the log, then given to
//! sessions one by one.
//!
//! ```text
//!   nextval -> [stretch in memory] -- empty --> propose: reserve -> log -> apply -> stretch
//! ```
//!
//! What a node had reserved and not given when it stopped is never given. Stretches grow while
//! numbers go fast, so that a large INSERT does not wait for the log at each few rows.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use chronos_model::{Change, SqlState, Stamp, TableId, WriteSet};
use chronos_query::{QueryError, SequenceCall, SequenceCalls};
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

#[derive(Clone, Copy, Default)]
struct Stretch {
    next: i64,
    increment: i64,
    left: u32,
    /// How many are reserved next.
    size: u32,
}

impl Sequences {
    fn stretch(&self, id: TableId) -> Arc<Mutex<Stretch>> {
        self.stretches.lock().entry(id).or_default().clone()
    }

    /// A number that nobody else is given.
    fn next(&self, replica: &Replica, id: TableId) -> Result<i64, Error> {
        let stretch = self.stretch(id);
        let mut stretch = stretch.lock();
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

/// What `currval` and `lastval` tell of: numbers that a session was given.
#[derive(Default)]
struct Given {
    by_sequence: HashMap<TableId, i64>,
    last: Option<TableId>,
}

/// The functions of sequences, for one session.
pub(crate) fn calls_of(node: &Node) -> SequenceCalls {
    let node = node.clone();
    let given: Mutex<Given> = Mutex::default();
    Arc::new(move |call| {
        let inner = &node.inner;
        match call {
            SequenceCall::Next(id) => {
                let number = inner.sequences.next(&inner.replica, id);
                let number = number.map_err(in_query)?;
                let mut given = given.lock();
                given.by_sequence.insert(id, number);
                given.last = Some(id);
                Ok(Some(number))
            }
            SequenceCall::Set(id, value, called) => {
                let set = inner.sequences.set(&inner.replica, id, value, called);
                set.map_err(in_query)?;
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
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
