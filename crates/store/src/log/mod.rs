//! The replicated log: the only write-ahead log of the system.
//!
//! Owns its directory and one thread, through which every change goes:
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
//! Refuses: to know what a payload means, to lock the directory (the data directory as a
//! whole is locked by its owner), and to go on after a failed write or sync. Such a
//! failure poisons the log: nothing is acknowledged after it.
//!
//! The bytes are described in `docs/format/log.md`.

mod cursor;
mod durability;
mod error;
mod format;
mod layout;
mod queue;
mod reader;
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

pub use durability::{Durability, ParseDurabilityError};
pub use error::LogError;
pub use reader::LogReader;
pub use stats::{LogStats, SYNC_BUCKETS};
pub use verify::{verify, Verified};

use layout::Layout;
use queue::{Command, Queue};
use stats::Counters;
use thread::LogThread;

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
#[derive(Clone, Debug)]
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
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            durability: Durability::Strict,
            queue_bytes_max: 64 << 20,
            spare_files_max: 2,
        }
    }
}

/// What [`Log::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecovery {
    /// The first stored index; `None` if no entry is stored.
    pub first_index: Option<LogIndex>,
    /// The last stored index; `None` if no entry is stored.
    pub last_index: Option<LogIndex>,
    /// The index that the next append has to have; `None` if it may have any.
    pub next_index: Option<LogIndex>,
    /// The term of the last stored entry.
    pub last_term: Option<Term>,
    /// Bytes of unfinished writes that were cut off behind the last entry.
    pub truncated_bytes: u64,
    /// Files that hold entries or wait for them.
    pub files: u64,
}

/// A handle of an open log. Clones share it; the last one that is dropped closes it.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    /// Joins the thread when the last handle goes.
    thread: Arc<Mutex<LogThread>>,
}

/// What handles and the log thread have in common.
#[derive(Debug)]
struct Shared {
    queue: Queue,
    layout: Layout,
    counters: Counters,
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
        let summary = recovered.summary;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes_max),
            layout: Layout::default(),
            counters: Counters::default(),
        });
        let thread = LogThread::start(env.clone(), dir, options, shared.clone(), recovered)?;
        let log = Log {
            shared,
            thread: Arc::new(Mutex::new(thread)),
        };
        Ok((log, summary))
    }

    /// Appends entries whose indexes continue the log; the first entry of an empty log
    /// may have any index. Returns at once, unless the queue is full: then it waits.
    ///
    /// `done` runs on the log thread, in the order of the appends, after the entries are
    /// as durable as [`LogOptions::durability`] asks. It must be quick and must not wait
    /// for this log. An error means that the entries may or may not be found at the next
    /// start. After [`LogError::OutOfOrder`] and [`LogError::EntryTooLarge`] the log goes
    /// on, without any of these entries; every other error is final for this log.
    pub fn append(
        &self,
        entries: Vec<LogEntry>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        let payload_bytes = entries.iter().map(|it| it.payload.len() as u64).sum();
        self.shared.queue.push(
            Command::Append {
                entries,
                done: Box::new(done),
            },
            payload_bytes,
        );
    }

    /// Reads the entries from `from` to the last one that is written at this moment,
    /// durable or not. Empty if `from` lies behind the last entry. Appends that are
    /// still queued are not seen.
    ///
    /// # Errors
    /// [`LogError::BelowStart`] if `from` was cut. The iterator reports damage.
    pub fn read(&self, from: LogIndex) -> Result<LogReader, LogError> {
        Ok(LogReader::new(from, self.shared.layout.files_from(from)?))
    }

    /// The first and last index that are written; `None` if no entry is stored.
    pub fn bounds(&self) -> Option<(LogIndex, LogIndex)> {
        self.shared.layout.bounds()
    }

    /// The index that follows everything written at this moment; `None` if nothing was
    /// ever written, and the first append may have any index.
    pub fn next_index(&self) -> Option<LogIndex> {
        self.shared.layout.next_index()
    }

    /// Drops the entries behind `index`, durably, after everything queued before. The
    /// next append has to be `index + 1`. Does nothing if `index` is the last entry or
    /// lies behind it. Waits; not for use on the log thread.
    ///
    /// # Errors
    /// [`LogError::BelowStart`] if `index + 1` lies before the first stored entry.
    pub fn truncate_after(&self, index: LogIndex) -> Result<(), LogError> {
        self.wait_for(|done| Command::Truncate { index, done })
    }

    /// Declares that entries before `index` are not needed: files that hold nothing else
    /// are removed, so some of these entries may stay readable. If `index` lies behind
    /// the last entry by more than one, all entries are dropped, durably, and the next
    /// append has to be `index` (a checkpoint took the place of what is missing). Waits;
    /// not for use on the log thread.
    pub fn cut_before(&self, index: LogIndex) -> Result<(), LogError> {
        self.wait_for(|done| Command::Cut { index, done })
    }

    /// Makes everything queued so far durable, whatever the durability. Waits; not for
    /// use on the log thread.
    pub fn sync_now(&self) -> Result<(), LogError> {
        self.wait_for(|done| Command::Sync { done })
    }

    /// Writes and syncs what is queued, calls back, and ends the log thread. Later calls
    /// on any handle fail with [`LogError::Closed`]; closing again is no error. Waits;
    /// not for use on the log thread.
    pub fn close(&self) -> Result<(), LogError> {
        let synced = match self.sync_now() {
            Err(LogError::Closed) => return Ok(()),
            other => other,
        };
        self.thread.lock().stop();
        synced
    }

    /// The counters at this moment.
    pub fn stats(&self) -> LogStats {
        let queue_bytes = self.shared.queue.bytes();
        let size = self.shared.layout.size();
        self.shared.counters.read(queue_bytes, size)
    }

    fn wait_for(
        &self,
        command: impl FnOnce(Box<dyn FnOnce(Result<(), LogError>) + Send>) -> Command,
    ) -> Result<(), LogError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let done = Box::new(move |result| {
            // The receiver waits below, so it is still there.
            let _ = sender.send(result);
        });
        self.shared.queue.push(command(done), 0);
        receiver.recv().unwrap_or(Err(LogError::Closed))
    }
}
