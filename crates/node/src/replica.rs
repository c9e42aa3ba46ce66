//! The replica: proposes write sets, has the log make them durable, applies them
//! in log order, answers the proposer.
//!
//! ```text
//! session --propose--> [order: index + stamp] --> log thread (write, fsync)
//!                                                     | in log order
//!         <--Applied-- apply thread (preconditions, memtable) <--
//! ```
//!
//! One node is a cluster of one, so what is durable in its log is committed. The
//! apply thread reads no clock and no random source: everything that a replica
//! must agree on stands in the entry.
//!
//! Entry payload: `[format: 2] [recorded stamp: u64] [node: u32] [user: u8 length, bytes] [write
//! set]`; in format 1 there is no user.

mod replay;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use chronos_env::Env;
use chronos_model::{Author, Hlc, NodeId, SqlState, Stamp, TableId, WriteSet};
use chronos_store::log::{GroupId, Log, LogEntry, LogError, LogIndex, Term};
use chronos_store::{
    with_causes, Applied, ApplyError, MemoryAccount, MemoryClass, PreparedWriteSet, Reason,
    Reservation, Store, StoreError,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

pub(crate) use replay::decode;
use replay::replay;

use crate::cluster::{AdminRequest, ClusterOptions, ClusterStatus, MemberStatus, NodeRole, Peer};
use crate::indexes::{shown_key, Indexes};
use crate::Error;

const PAYLOAD_FORMAT: u8 = 2;
/// Before the user's name.
const HEADER_BYTES: usize = 14;
/// The only term there is until nodes vote.
const TERM: Term = Term(1);

/// Answers that the apply thread keeps back while there is more to apply, at most.
const REPLIES_MAX: usize = 256;
/// Rows of a write set from which on it is answered at once.
const LARGE_ROWS: u64 = 1024;

type Reply = oneshot::Sender<Result<Committal, Error>>;

/// What was durably logged and waits to be applied.
struct Committed {
    index: LogIndex,
    recorded: Stamp,
    author: Author,
    durable: Result<(), LogError>,
    set: PreparedWriteSet,
    reply: Reply,
}

/// A write set that is committed and applied.
#[derive(Debug)]
pub(crate) struct Committal {
    pub(crate) applied: Applied,
}

/// One node's replica of the database.
pub(crate) struct Replica {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) indexes: Indexes,
    env: Env,
    hlc: Hlc,
    node: NodeId,
    /// The next index; held while an entry is given its stamp and queued, so that
    /// stamps and indexes have the same order.
    next_index: Arc<Mutex<LogIndex>>,
    applies: Mutex<Option<crossbeam_channel::Sender<Committed>>>,
    settled: watch::Receiver<Settled>,
    apply_thread: Mutex<Option<JoinHandle<()>>>,
    fault: Arc<Mutex<Option<Fault>>>,
    closing: AtomicBool,
    memory: Arc<MemoryAccount>,
    cluster: ClusterOptions,
}

/// How far the apply thread knows the outcomes of entries.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    /// The last entry of which it does.
    index: LogIndex,
    /// How often entries were withdrawn: what had their indexes is settled, too.
    withdrawals: u64,
}

/// Why a node writes no more.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: SqlState,
    pub(crate) reason: String,
}

impl Fault {
    /// The store stopped by itself.
    fn of_store(reason: Reason) -> Fault {
        let code = match reason.disk_full {
            true => SqlState::DISK_FULL,
            false => SqlState::IO_ERROR,
        };
        Fault {
            code,
            reason: reason.text,
        }
    }
}

impl Replica {
    /// Replays what the log holds beyond the store and takes up work.
    pub(crate) fn start(
        env: &Env,
        store: Store,
        log: Log,
        memory: Arc<MemoryAccount>,
        cluster: ClusterOptions,
    ) -> Result<Arc<Replica>, Error> {
        let hlc = Hlc::new(store.floor());
        let (next_index, held_back) = replay(&store, &log, &hlc)?;
        let (sender, receiver) = crossbeam_channel::unbounded::<Committed>();
        let (index_requests, requested) = crate::indexes::requests();
        let (indexes, builder) = Indexes::new(index_requests.clone());
        let (settling, settled) = watch::channel(Settled {
            index: LogIndex(next_index.0.saturating_sub(1)),
            withdrawals: 0,
        });
        let fault = Arc::new(Mutex::new(held_back));
        let next_index = Arc::new(Mutex::new(next_index));
        let applier = Applier {
            store: store.clone(),
            log: log.clone(),
            fault: Arc::clone(&fault),
            next_index: Arc::clone(&next_index),
            cut_below: store.flushed_index(),
            settled: settling,
            index_requests,
        };
        let thread = std::thread::Builder::new()
            .name("apply".into())
            .spawn(move || applier.run(&receiver))
            .map_err(|e| {
                Error::new(
                    SqlState::INTERNAL,
                    format!("cannot start the apply thread: {e}"),
                )
            })?;
        let replica = Arc::new(Replica {
            store,
            log,
            indexes,
            env: env.clone(),
            hlc,
            node: NodeId(0),
            next_index,
            applies: Mutex::new(Some(sender)),
            settled,
            apply_thread: Mutex::new(Some(thread)),
            fault,
            closing: AtomicBool::new(false),
            memory,
            cluster,
        });
        replica.indexes.start(builder, &replica, requested)?;
        Ok(replica)
    }

    /// Commits a write set: returns after it is durable and applied. What the set itself takes in
    /// memory is for the caller to have reserved; its form in the log is reserved here. `user`:
    /// who makes it, if it is not the node by itself.
    ///
    /// Errors: a precondition does not hold (23505, 40001), there is no memory for it (53200),
    /// or the node cannot write any more.
    pub(crate) async fn propose(
        &self,
        set: WriteSet,
        user: Option<&str>,
    ) -> Result<Committal, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::new(
                SqlState::ADMIN_SHUTDOWN,
                "the node is shutting down",
            ));
        }
        let mut held = self.write_memory();
        held.try_grow(set.memory_bytes() as u64)?;
        let author = Author {
            node: self.node,
            user: user.map(|user| Arc::from(shortened(user))),
        };
        let name = author.user.as_deref().unwrap_or_default().as_bytes();
        let mut payload = set.encode_behind(HEADER_BYTES + name.len())?;
        payload[HEADER_BYTES - 1] = name.len() as u8;
        payload[HEADER_BYTES..HEADER_BYTES + name.len()].copy_from_slice(name);
        let prepared = self
            .store
            .prepare(set, &self.store.catalog())
            .map_err(|e| self.apply_error(e))?;
        let sender = self.applies.lock().clone();
        let Some(sender) = sender else {
            return Err(Error::new(
                SqlState::ADMIN_SHUTDOWN,
                "the node is shutting down",
            ));
        };
        if let Some(fault) = self.fault() {
            return Err(stopped(&fault));
        }
        self.store.check_writable(&prepared)?;
        let (reply, answer) = oneshot::channel();
        {
            let mut next_index = self.next_index.lock();
            let index = *next_index;
            let recorded = self.hlc.next(self.env.clock.now_micros());
            payload[0] = PAYLOAD_FORMAT;
            payload[1..9].copy_from_slice(&recorded.0.to_le_bytes());
            payload[9..13].copy_from_slice(&self.node.0.to_le_bytes());
            let payload = Bytes::from(payload);
            if payload.len() as u64 > LogEntry::PAYLOAD_BYTES_MAX {
                return Err(Error::new(
                    SqlState::PROGRAM_LIMIT,
                    "the transaction is larger than 1 GiB",
                )
                .with_hint("Split it, or COPY in several steps."));
            }
            let entry = LogEntry {
                group: GroupId(0),
                term: TERM,
                index,
                payload,
            };
            self.log.append(vec![entry], move |durable| {
                let committed = Committed {
                    index,
                    recorded,
                    author,
                    durable,
                    set: prepared,
                    reply,
                };
                // The apply thread outlives the log: `close` joins it afterwards.
                let _ = sender.send(committed);
            });
            *next_index = index.next();
        }
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                SqlState::ADMIN_SHUTDOWN,
                "the node stopped before it could answer; the outcome is unknown",
            )),
        }
    }

    /// Waits until every commit with a stamp up to `now_micros` is applied or refused, and
    /// sees to it that no later one gets such a stamp: a view that is taken then shows the
    /// past up to this instant as it will be for ever.
    pub(crate) async fn settle(&self, now_micros: i64) {
        let mut settled = self.settled.clone();
        let (last, withdrawals) = {
            let next_index = self.next_index.lock();
            self.hlc.restore(Stamp::last_of_micros(now_micros));
            let last = LogIndex(next_index.0.saturating_sub(1));
            (last, settled.borrow().withdrawals)
        };
        let is_settled = |s: &Settled| s.index >= last || s.withdrawals > withdrawals;
        // An error means that the apply thread is gone, and nothing will be applied.
        let _ = settled.wait_for(is_settled).await;
    }

    /// An empty reservation for rows and changes on their way.
    pub(crate) fn write_memory(&self) -> Reservation {
        self.memory.reservation(MemoryClass::Writes, "a write")
    }

    /// A stamp that no other write has.
    pub(crate) fn next_stamp(&self) -> Stamp {
        self.hlc.next(self.env.clock.now_micros())
    }

    pub(crate) fn cluster_status(&self) -> ClusterStatus {
        let member = &self.cluster.member;
        let last = self.next_index.lock().0.saturating_sub(1);
        let settled = self.settled.borrow().index.0;
        ClusterStatus {
            node_id: member.name.clone(),
            number: member.number,
            cluster_id: self.cluster.cluster_id.clone().unwrap_or_default(),
            role: "leader".into(),
            term: TERM.0,
            leader: Some(member.number),
            leader_id: Some(member.name.clone()),
            leader_address: Some(member.address.clone()),
            last_index: last,
            committed_index: settled,
            applied_index: settled,
            members: vec![MemberStatus {
                id: member.name.clone(),
                number: member.number,
                address: member.address.clone(),
                role: NodeRole::Voter,
                progress: None,
            }],
            ..ClusterStatus::default()
        }
    }

    pub(crate) async fn administer(&self, request: AdminRequest) -> Result<(), Error> {
        let _ = request;
        Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "not a cluster"))
    }

    pub(crate) fn peer_service(self: &Arc<Self>) -> Arc<dyn Peer> {
        unreachable!("base of a branch")
    }

    fn apply_error(&self, e: ApplyError) -> Error {
        describe(e, &self.store)
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let known = self.fault.lock().clone();
        known.or_else(|| self.store.stopped().map(Fault::of_store))
    }

    /// Takes no more proposals, finishes those under way, flushes and closes.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.closing.store(true, Ordering::Release);
        let logged = self.log.sync_now();
        self.indexes.stop();
        drop(self.applies.lock().take());
        let closed = self.log.close();
        if let Some(thread) = self.apply_thread.lock().take() {
            let _ = thread.join();
        }
        let stored = if self.fault().is_none() {
            self.store.flush_now()
        } else {
            Ok(())
        };
        self.store.close();
        self.indexes.join();
        logged.and(closed).map_err(log_error)?;
        stored.map_err(Error::from)
    }
}

/// What became of an entry.
enum Outcome {
    Known(Result<Committal, Error>),
    /// It needs what is damaged here.
    Unknown(StoreError),
}

impl Outcome {
    fn known(result: Result<Committal, Error>) -> Outcome {
        Outcome::Known(result)
    }
}

/// The thread that applies.
struct Applier {
    store: Store,
    log: Log,
    fault: Arc<Mutex<Option<Fault>>>,
    next_index: Arc<Mutex<LogIndex>>,
    cut_below: LogIndex,
    settled: watch::Sender<Settled>,
    /// Takes the indexes that are to be built.
    index_requests: crossbeam_channel::Sender<TableId>,
}

impl Applier {
    /// Entries that one sync made durable come together: they are applied together too, then
    /// answered, so that waking their proposers does not take turns with applying.
    fn run(mut self, committed: &crossbeam_channel::Receiver<Committed>) {
        let mut replies: Vec<(Reply, Result<Committal, Error>)> = Vec::new();
        while let Ok(first) = committed.recv() {
            let mut last = first.index;
            let mut next = Some(first);
            while let Some(entry) = next {
                let is_large = entry.set.rows() >= LARGE_ROWS;
                last = entry.index;
                match self.apply(&entry) {
                    Outcome::Known(result) => replies.push((entry.reply, result)),
                    Outcome::Unknown(damage) => {
                        last = LogIndex(entry.index.0.saturating_sub(1));
                        self.withdraw(entry, damage, committed, &mut replies);
                        break;
                    }
                }
                next = match is_large || replies.len() >= REPLIES_MAX {
                    true => None,
                    false => committed.try_recv().ok(),
                };
            }
            self.settled.send_modify(|settled| settled.index = last);
            for (reply, result) in replies.drain(..) {
                // A client that has gone away does not hear of it.
                let _ = reply.send(result);
            }
            self.cut_log();
        }
    }

    /// Lets go of what the store has flushed.
    fn cut_log(&mut self) {
        let flushed = self.store.flushed_index();
        if flushed > self.cut_below && self.log.cut_before(flushed.next()).is_ok() {
            self.cut_below = flushed;
        }
    }

    fn apply(&self, entry: &Committed) -> Outcome {
        if let Some(fault) = self.fault.lock().as_ref() {
            return Outcome::known(Err(stopped(fault)));
        }
        if let Err(e) = &entry.durable {
            let refused = matches!(
                e,
                LogError::OutOfOrder { .. } | LogError::EntryTooLarge { .. }
            );
            let error = log_error(e.clone());
            if !refused {
                self.stop(&error, "the log failed; nothing more is written");
            }
            return Outcome::known(Err(error));
        }
        let author = entry.author.clone();
        match self
            .store
            .apply(entry.index, entry.recorded, author, &entry.set)
        {
            Ok(applied) => {
                for index in &applied.created_indexes {
                    let _ = self.index_requests.send(*index);
                }
                Outcome::known(Ok(Committal { applied }))
            }
            Err(ApplyError::Storage(e)) if e.is_damage() => Outcome::Unknown(e),
            Err(e) => {
                let storage_failed = matches!(e, ApplyError::Storage(_));
                let error = describe(e, &self.store);
                if storage_failed {
                    self.stop(&error, "the store failed; nothing more is written");
                }
                Outcome::known(Err(error))
            }
        }
    }

    /// Takes an entry of which damage hides the outcome out of the log again, and with it
    /// those after it, none of which is acknowledged; a replay will not meet them.
    fn withdraw(
        &self,
        entry: Committed,
        damage: StoreError,
        committed: &crossbeam_channel::Receiver<Committed>,
        replies: &mut Vec<(Reply, Result<Committal, Error>)>,
    ) {
        // Nothing is given an index meanwhile.
        let mut next_index = self.next_index.lock();
        let before = LogIndex(entry.index.0.saturating_sub(1));
        let truncated = self.log.truncate_after(before).map_err(log_error);
        // The truncation came after all that was queued, so all of it is here by now.
        let later: Vec<Committed> = committed.try_iter().collect();
        if let Err(error) = &truncated {
            self.stop(
                error,
                "an entry that cannot be applied cannot be withdrawn either",
            );
            for entry in later {
                replies.push((entry.reply, Err(error.clone())));
            }
            replies.push((entry.reply, Err(damage.into())));
            return;
        }
        for later in later {
            let error = Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "the commit was withdrawn together with one before it that met damaged data",
            )
            .with_hint("Retry the transaction.");
            replies.push((later.reply, Err(error)));
        }
        replies.push((entry.reply, Err(damage.into())));
        *next_index = entry.index;
        self.settled.send_modify(|settled| settled.withdrawals += 1);
    }

    fn stop(&self, error: &Error, what: &str) {
        tracing::error!(error = error.message, "{what}");
        *self.fault.lock() = Some(Fault {
            code: error.code,
            reason: error.message.clone(),
        });
    }
}

/// As much of a user's name as an entry has room for.
fn shortened(user: &str) -> &str {
    &user[..user.floor_char_boundary(usize::from(u8::MAX))]
}

fn stopped(fault: &Fault) -> Error {
    let code = match fault.code {
        known @ (SqlState::DISK_FULL | SqlState::DATA_CORRUPTED) => known,
        _ => SqlState::IO_ERROR,
    };
    let reason = &fault.reason;
    Error::new(
        code,
        format!("the node has stopped writing after a failure: {reason}"),
    )
    .with_hint("Mend the cause and restart the node; nothing that was acknowledged is lost.")
}

pub(crate) fn log_error(e: LogError) -> Error {
    let code = match &e {
        e if e.is_disk_full() => SqlState::DISK_FULL,
        LogError::EntryTooLarge { .. } => SqlState::PROGRAM_LIMIT,
        LogError::Damaged { .. }
        | LogError::UnsupportedVersion { .. }
        | LogError::BelowStart { .. } => SqlState::DATA_CORRUPTED,
        LogError::Closed => SqlState::ADMIN_SHUTDOWN,
        _ => SqlState::IO_ERROR,
    };
    Error::new(code, with_causes(&e))
}

/// A failed apply in PostgreSQL's words.
pub(crate) fn describe(e: ApplyError, store: &Store) -> Error {
    match e {
        ApplyError::UniqueViolation {
            table,
            constraint,
            key,
        } => {
            let mut error = Error::new(
                SqlState::UNIQUE_VIOLATION,
                format!("duplicate key value violates unique constraint \"{constraint}\""),
            );
            let catalog = store.catalog();
            error.detail = catalog.table(&table).map(|t| {
                let columns = match catalog.indexes.get(&constraint) {
                    Some(index) => index.columns.iter().map(|c| c.column).collect(),
                    None => t.primary_key.clone(),
                };
                format!("{} already exists.", shown_key(t, &columns, &key))
            });
            error.table = Some(table);
            error.constraint = Some(constraint);
            error
        }
        ApplyError::ForeignKey(violation) => crate::session::violation(&violation),
        ApplyError::TruncatesReferenced { table, child } => {
            crate::session::truncates_referenced(&table, &child)
        }
        ApplyError::Conflict { table } => {
            let mut error = Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .with_hint("Retry the transaction.");
            error.table = Some(table);
            error
        }
        e @ ApplyError::CatalogConflict => {
            Error::new(SqlState::SERIALIZATION_FAILURE, e.to_string())
                .with_hint("Retry the statement.")
        }
        ApplyError::DuplicateTable { name } => Error::new(
            SqlState::DUPLICATE_TABLE,
            format!("relation \"{name}\" already exists"),
        ),
        ApplyError::Storage(e) => e.into(),
        e @ ApplyError::UnknownSchema { .. } => Error::new(e.sqlstate(), e.to_string()),
        e @ ApplyError::SequenceExhausted { .. } => Error::new(e.sqlstate(), e.to_string()),
        e @ ApplyError::UnknownIndex { .. } => {
            Error::new(SqlState::UNDEFINED_OBJECT, e.to_string())
        }
        other => Error::new(other.sqlstate(), other.to_string()),
    }
}
