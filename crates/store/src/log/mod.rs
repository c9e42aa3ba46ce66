//! The replicated log: the only write-ahead log of the system.
//!
//! Owns its directory and one thread, through which every change goes, unless that thread sleeps and
//! who appends would rather do it himself ([`Log::append_here`]):
//!
//! ```text
//!   append(entries, done) ---> queue ---> log thread: drain the queue,
//!      any thread, blocks      (bounded)  one write, one sync,
//!      only if it is full                 done(..) of each append, in order
//! ```
//!
//! There is no timer that waits for company: while one sync runs, the next batch
//! collects by itself, so the batch grows with the load and one client alone waits for
//! exactly one sync.
//!
//! An index is never written twice in one file. A truncation starts a new file whose
//! first index says from where on earlier files are void, so dropping entries is one
//! atomic rename. Files that are no longer needed are kept as spares and written again:
//! a sync into blocks that were written before has no metadata to journal, which halves
//! its time for batches of some kilobytes (docs/decisions/0010).
//!
//! Beside the entries it keeps what a member of a consensus group must not forget: its vote, what
//! was purged, and what is committed (`hard_state.rs`). Whether a change fits is decided on the
//! caller's thread, which can read it at once (`recent.rs`).
//!
//! Refuses: to know what a payload means, to lock the directory (the data directory as a
//! whole is locked by its owner), and to go on after a failed write or sync. Such a
//! failure poisons the log: nothing is acknowledged after it.
//!
//! The bytes are described in `docs/format/log.md`.

mod consensus;
mod cursor;
mod driver;
mod durability;
mod error;
mod format;
mod hard_state;
mod layout;
mod queue;
mod reader;
mod recent;
mod recovery;
mod stats;
#[cfg(test)]
mod tests;
mod thread;
mod verify;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chronos_env::Env;
use parking_lot::Mutex;

pub use driver::Driver;
pub use durability::{Durability, ParseDurabilityError};
pub use error::LogError;
pub use hard_state::HardVote;
pub use reader::LogReader;
pub use stats::{LogStats, SYNC_BUCKETS};
pub use verify::{verify, Verified};

use driver::Engine;
use layout::Layout;
use queue::{Command, Done, Queue};
use recent::Recent;
use stats::Counters;

/// The consensus group that an entry belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// Position of an entry. Indexes of a log have no gaps, except across
/// [`Log::cut_before`] an index that was never appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The index after this one. `u64::MAX` is its own successor, and no entry has it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The consensus term in which an entry was proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The lowest term of an entry.
    pub const FIRST: Term = Term(1);
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its consensus group.
    pub group: GroupId,
    /// The term in which it was proposed.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// What it says, at most [`LogEntry::PAYLOAD_BYTES_MAX`] bytes. The log does not look
    /// inside.
    pub payload: Bytes,
}

impl LogEntry {
    /// Largest payload: 1 GiB.
    pub const PAYLOAD_BYTES_MAX: u64 = format::PAYLOAD_BYTES_MAX;
}

/// How a log is kept.
#[derive(Clone)]
pub struct LogOptions {
    /// Size at which a file is closed and the next begun, and to which it is
    /// preallocated. An entry that is larger gets a file of its own. Clamped to
    /// 4 KiB..=4 GiB.
    pub segment_bytes: u64,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// Appends wait while payloads of this size are accepted and not acknowledged.
    pub queue_bytes_max: u64,
    /// How many files that were cut are kept for being written again.
    pub spare_files_max: usize,
    /// The last entries stay in memory while they and their payloads take no more than this. What
    /// is not written yet stays whatever it takes.
    pub cache_bytes: u64,
    /// Who writes.
    pub driver: Driver,
    /// Called after something was queued, on the thread that did: there is a
    /// [step](Log::step) to do. It must not call the log.
    pub on_work: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl LogOptions {
    /// What [`LogOptions::cache_bytes`] is if nothing else is said: 16 MiB.
    pub const CACHE_BYTES_DEFAULT: u64 = 16 << 20;
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("segment_bytes", &self.segment_bytes)
            .field("durability", &self.durability)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("spare_files_max", &self.spare_files_max)
            .field("cache_bytes", &self.cache_bytes)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            durability: Durability::Strict,
            queue_bytes_max: 64 << 20,
            spare_files_max: 2,
            cache_bytes: Self::CACHE_BYTES_DEFAULT,
            driver: Driver::default(),
            on_work: None,
        }
    }
}

/// What [`Log::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecovery {
    /// The first stored index that was not purged; `None` if there is none.
    pub first_index: Option<LogIndex>,
    /// The last stored index that was not purged; `None` if there is none.
    pub last_index: Option<LogIndex>,
    /// The index that the next append has to have; `None` if it may have any.
    pub next_index: Option<LogIndex>,
    /// The term of the entry at `last_index`.
    pub last_term: Option<Term>,
    /// The last vote that was saved.
    pub vote: Option<HardVote>,
    /// The last entry that was purged.
    pub purged: Option<(Term, LogIndex)>,
    /// The last entry, or purged one, that was noted as committed and is known to be what
    /// was noted.
    pub committed: Option<(Term, LogIndex)>,
    /// Bytes of unfinished writes that were cut off behind the last entry.
    pub truncated_bytes: u64,
    /// Files that hold entries or wait for them.
    pub files: u64,
}

/// A handle of an open log. Clones share it; the last one that is dropped closes it.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    /// Ends the work when the last handle goes.
    engine: Arc<Engine>,
}

/// What handles and the log thread have in common.
#[derive(Debug)]
struct Shared {
    queue: Queue,
    /// Locked before the queue and the layout.
    recent: Mutex<Recent>,
    layout: Layout,
    counters: Counters,
    /// The last vote that is durable.
    vote: Mutex<Option<HardVote>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `dir`, creating the directory if needed: verifies every record,
    /// cuts off a torn tail, and starts the log thread.
    ///
    /// # Errors
    /// [`LogError::Damaged`] names the file and the offset of the first bytes that were
    /// durable once and cannot be read; nothing is changed on disk then.
    pub fn open(
        env: &Env,
        dir: &Path,
        options: LogOptions,
    ) -> Result<(Log, LogRecovery), LogError> {
        let recovered = recovery::recover(&*env.disk, dir)?;
        let recent = Recent::new(recovered.known.clone(), options.cache_bytes);
        let vote = recovered.hard.state().vote;
        let found = LogRecovery {
            first_index: None,
            last_index: None,
            next_index: recent.next(),
            last_term: None,
            vote,
            purged: recent.floor(),
            committed: recent.committed(),
            truncated_bytes: recovered.truncated_bytes,
            files: recovered.files.len() as u64,
        };
        let found = match recent.last() {
            Some((term, last)) if last >= recent.first() => LogRecovery {
                first_index: Some(recent.first()),
                last_index: Some(last),
                last_term: Some(term),
                ..found
            },
            _ => found,
        };
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes_max),
            recent: Mutex::new(recent),
            layout: Layout::default(),
            counters: Counters::default(),
            vote: Mutex::new(vote),
        });
        let engine = Engine::start(env.clone(), dir, options, shared.clone(), recovered)?;
        let log = Log {
            shared,
            engine: Arc::new(engine),
        };
        Ok((log, found))
    }

    /// Appends entries whose indexes continue the log; the first entry of an empty log
    /// may have any index. Returns at once, unless the queue is full: then it waits. From
    /// then on [`Log::entries`] has them, unless the log has [`stopped`](Log::stopped).
    ///
    /// `done` runs on the thread that writes, in the order of the appends, after the entries are
    /// as durable as [`LogOptions::durability`] asks. It must be quick and must not wait
    /// for this log. An error means that the entries may or may not be found at the next
    /// start. After [`LogError::OutOfOrder`] and [`LogError::EntryTooLarge`] the log goes
    /// on, without any of these entries; every other error is final for this log.
    pub fn append(
        &self,
        entries: Vec<LogEntry>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        if self.queue_entries(entries, Box::new(done)) {
            self.shared.queue.wake();
        }
    }

    /// Like [`Log::append`], but writes and syncs on the caller's thread if the log thread sleeps:
    /// for a caller who waits for the answer anyway and has little to append. `done` may have run
    /// when this returns; what is queued besides is done, too.
    pub fn append_here(
        &self,
        entries: Vec<LogEntry>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        let is_first = self.queue_entries(entries, Box::new(done));
        if !self.engine.work_here() && is_first {
            self.shared.queue.wake();
        }
    }

    /// Whether the log thread is to be woken.
    #[must_use]
    fn queue_entries(&self, entries: Vec<LogEntry>, done: Done) -> bool {
        let payload_bytes = entries.iter().map(|it| it.payload.len() as u64).sum();
        if let Err(closed) = self.engine.reserve(payload_bytes) {
            done(Err(closed));
            return false;
        }
        self.queue_command(done, |recent, done| Command::Append {
            taken: recent.append(&entries),
            entries,
            done,
        })
    }

    /// Reads the entries from `from` to the last one that is written at this moment,
    /// durable or not. Empty if `from` lies behind the last entry. Appends that are
    /// still queued are not seen.
    ///
    /// # Errors
    /// [`LogError::BelowStart`] if `from` was purged. The iterator reports damage.
    pub fn read(&self, from: LogIndex) -> Result<LogReader, LogError> {
        let recent = self.shared.recent.lock();
        let first = recent.first();
        if from < first && self.shared.layout.next_index().is_some() {
            return Err(LogError::BelowStart { index: from, first });
        }
        Ok(LogReader::new(from, self.shared.layout.files_from(from)?))
    }

    /// The first and last index that are written and not purged; `None` if there is none.
    pub fn bounds(&self) -> Option<(LogIndex, LogIndex)> {
        let recent = self.shared.recent.lock();
        let (first, last) = self.shared.layout.bounds()?;
        let first = first.max(recent.first());
        (first <= last).then_some((first, last))
    }

    /// The index that follows everything written at this moment; `None` if nothing was
    /// ever written, and the first append may have any index.
    pub fn next_index(&self) -> Option<LogIndex> {
        self.shared.layout.next_index()
    }

    /// Makes everything queued so far durable, whatever the durability. Waits; not for
    /// use on the log thread.
    pub fn sync_now(&self) -> Result<(), LogError> {
        self.wait_for(|_, done| Command::Sync { done })
    }

    /// Writes and syncs what is queued and noted, calls back, and ends the log thread. Later calls
    /// on any handle fail with [`LogError::Closed`]; closing again is no error. Waits;
    /// not for use on the log thread.
    pub fn close(&self) -> Result<(), LogError> {
        let synced = match self.sync_now() {
            Err(LogError::Closed) => return Ok(()),
            other => other,
        };
        self.engine.stop();
        synced
    }

    /// The counters at this moment.
    pub fn stats(&self) -> LogStats {
        let queue_bytes = self.shared.queue.bytes();
        let size = self.shared.layout.size();
        self.shared.counters.read(queue_bytes, size)
    }

    /// Queues what `decide` makes of the log as it will be. Without a decision if the log is
    /// closed: then `done` gets the error.
    fn submit(&self, done: Done, decide: impl FnOnce(&mut Recent, Done) -> Command) {
        if self.queue_command(done, decide) {
            self.shared.queue.wake();
        }
    }

    /// Whether the log thread is to be woken.
    #[must_use]
    fn queue_command(&self, done: Done, decide: impl FnOnce(&mut Recent, Done) -> Command) -> bool {
        let mut recent = self.shared.recent.lock();
        if let Some(closed) = self.shared.queue.closed() {
            drop(recent);
            done(Err(closed));
            return false;
        }
        let command = decide(&mut recent, done);
        let pushed = self.shared.queue.push(command);
        drop(recent);
        match pushed {
            Ok(is_first) => {
                self.engine.tell();
                is_first
            }
            Err(refused) => {
                let (command, closed) = *refused;
                command.done()(Err(closed));
                false
            }
        }
    }

    fn wait_for(&self, decide: impl FnOnce(&mut Recent, Done) -> Command) -> Result<(), LogError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let done = Box::new(move |result| {
            // The receiver waits below, so it is still there.
            let _ = sender.send(result);
        });
        self.submit(done, decide);
        self.engine.work_until(|| !receiver.is_empty());
        receiver.recv().unwrap_or(Err(LogError::Closed))
    }
}
