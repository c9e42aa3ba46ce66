//! The queue between callers and the log thread, bounded by the size of its payloads.
//!
//! A mutex and a vector that is swapped out whole: the log thread wants everything there
//! is, in order, and to wait without a timer. Callers wait while the limit is exceeded;
//! one append that is larger than the limit alone is let in when nothing else is there.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::hard_state::HardVote;
use super::{LogEntry, LogError, LogIndex, Term};

pub(super) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// What the log thread is asked to do. Whether it can be done is decided before.
pub(super) enum Command {
    Append {
        entries: Vec<LogEntry>,
        /// An error if they are refused, as a whole.
        taken: Result<(), LogError>,
        done: Done,
    },
    Truncate {
        index: LogIndex,
        line: u64,
        done: Done,
    },
    Purge {
        floor: (Term, LogIndex),
        line: u64,
        done: Done,
    },
    Vote {
        vote: HardVote,
        done: Done,
    },
    Sync {
        done: Done,
    },
    /// There is nothing to do but to answer in order.
    Answer {
        result: Result<(), LogError>,
        done: Done,
    },
}

impl Command {
    pub(super) fn done(self) -> Done {
        match self {
            Self::Append { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Vote { done, .. }
            | Self::Sync { done }
            | Self::Answer { done, .. } => done,
        }
    }
}

/// What the log thread takes at once.
#[derive(Default)]
pub(super) struct Batch {
    pub commands: Vec<Command>,
    /// What is committed, of the log as these commands leave it.
    pub committed: Option<(Term, LogIndex)>,
}

#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: u64,
    state: Mutex<State>,
    /// There is a command, or the queue is closed.
    work: Condvar,
    /// There is room again, or the queue is closed.
    room: Condvar,
}

#[derive(Default)]
struct State {
    batch: Batch,
    /// Payloads of queued commands and of those the log thread is working on.
    bytes: u64,
    /// The log thread shall look when it is to wake.
    nudged: bool,
    /// Set with the error that later callers get.
    closed: Option<LogError>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("commands", &self.batch.commands.len())
            .field("bytes", &self.bytes)
            .field("closed", &self.closed)
            .finish()
    }
}

impl State {
    fn has_room(&self, payload_bytes: u64, bytes_max: u64) -> bool {
        payload_bytes == 0
            || self.bytes == 0
            || self.bytes.saturating_add(payload_bytes) <= bytes_max
    }

    fn reserve(&mut self, payload_bytes: u64) -> Result<(), LogError> {
        if let Some(error) = self.closed.clone() {
            return Err(error);
        }
        self.bytes += payload_bytes;
        Ok(())
    }
}

/// What the log thread finds when it asks for work.
pub(super) enum Work {
    Commands,
    Nothing,
    Closed,
}

impl Queue {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Takes room for payloads, waiting for it. Given back by [`Queue::finished`].
    ///
    /// # Errors
    /// The queue is closed.
    pub(super) fn reserve(&self, payload_bytes: u64) -> Result<(), LogError> {
        let mut state = self.state.lock();
        while state.closed.is_none() && !state.has_room(payload_bytes, self.bytes_max) {
            self.room.wait(&mut state);
        }
        state.reserve(payload_bytes)
    }

    /// Like [`Queue::reserve`], but does not wait: the caller drives the log, so that there is
    /// nobody to wait for.
    pub(super) fn reserve_at_once(&self, payload_bytes: u64) -> Result<(), LogError> {
        self.state.lock().reserve(payload_bytes)
    }

    pub(super) fn has_room(&self, payload_bytes: u64) -> bool {
        self.state.lock().has_room(payload_bytes, self.bytes_max)
    }

    /// Why nothing is let in any more.
    pub(super) fn closed(&self) -> Option<LogError> {
        self.state.lock().closed.clone()
    }

    /// Queues a command. `true`: [`Queue::wake`] has to follow. A closed queue gives it back,
    /// with the error to answer it with.
    pub(super) fn push(&self, command: Command) -> Result<bool, Box<(Command, LogError)>> {
        let mut state = self.state.lock();
        if let Some(error) = state.closed.clone() {
            return Err(Box::new((command, error)));
        }
        state.batch.commands.push(command);
        // The log thread looks again before it waits, so only the first one wakes it.
        Ok(state.batch.commands.len() == 1)
    }

    /// Tells the log thread that there is a command.
    pub(super) fn wake(&self) {
        self.work.notify_one();
    }

    /// Keeps a position for the next batch.
    pub(super) fn note_committed(&self, position: (Term, LogIndex)) {
        self.state.lock().batch.committed = Some(position);
    }

    /// Waits for a command, which stays where it is; at most for `timeout`, if there is one.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Work {
        let mut state = self.state.lock();
        loop {
            if !state.batch.commands.is_empty() {
                return Work::Commands;
            }
            if state.closed.is_some() {
                return Work::Closed;
            }
            if std::mem::take(&mut state.nudged) {
                return Work::Nothing;
            }
            match timeout {
                None => self.work.wait(&mut state),
                Some(timeout) => {
                    let timed_out = self.work.wait_for(&mut state, timeout).timed_out();
                    if timed_out && state.batch.commands.is_empty() && state.closed.is_none() {
                        return Work::Nothing;
                    }
                }
            }
        }
    }

    /// Has the log thread ask again how long it may wait.
    pub(super) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.work.notify_one();
    }

    /// Takes the commands, and leaves what is noted.
    pub(super) fn take_commands(&self, batch: &mut Batch) {
        batch.commands.append(&mut self.state.lock().batch.commands);
    }

    /// Takes all there is, without waiting.
    pub(super) fn take(&self, batch: &mut Batch) {
        let mut state = self.state.lock();
        batch.commands.append(&mut state.batch.commands);
        batch.committed = state.batch.committed.take().or(batch.committed);
    }

    /// Gives room back.
    pub(super) fn finished(&self, payload_bytes: u64) {
        if payload_bytes > 0 {
            self.state.lock().bytes -= payload_bytes;
            self.room.notify_all();
        }
    }

    /// Lets no further command in; they get `error`. What is queued is still taken.
    pub(super) fn close(&self, error: LogError) {
        self.state.lock().closed.get_or_insert(error);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Answers what is queued with `error`, on the calling thread.
    pub(super) fn refuse_queued(&self, error: &LogError) {
        let commands = std::mem::take(&mut self.state.lock().batch.commands);
        for command in commands {
            command.done()(Err(error.clone()));
        }
    }
}
