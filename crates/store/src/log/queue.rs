//! The queue between callers and the log thread, bounded by the size of its payloads.
//!
//! A mutex and a vector that is swapped out whole: the log thread wants everything there
//! is, in order, and to wait without a timer. Callers wait while the limit is exceeded;
//! one append that is larger than the limit alone is let in when nothing else is there.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{LogEntry, LogError, LogIndex};

pub(super) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// What the log thread is asked to do.
pub(super) enum Command {
    Append { entries: Vec<LogEntry>, done: Done },
    Truncate { index: LogIndex, done: Done },
    Cut { index: LogIndex, done: Done },
    Sync { done: Done },
}

impl Command {
    pub(super) fn done(self) -> Done {
        match self {
            Self::Append { done, .. }
            | Self::Truncate { done, .. }
            | Self::Cut { done, .. }
            | Self::Sync { done } => done,
        }
    }
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
    commands: Vec<Command>,
    /// Payloads of queued commands and of those the log thread is working on.
    bytes: u64,
    /// Set with the error that later callers get.
    closed: Option<LogError>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("commands", &self.commands.len())
            .field("bytes", &self.bytes)
            .field("closed", &self.closed)
            .finish()
    }
}

/// What the log thread finds when it asks for work.
pub(super) enum Work {
    Commands,
    TimedOut,
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

    /// Queues a command, waiting for room if it carries payload. A closed queue answers
    /// on the calling thread.
    pub(super) fn push(&self, command: Command, payload_bytes: u64) {
        let mut state = self.state.lock();
        while payload_bytes > 0
            && state.closed.is_none()
            && state.bytes > 0
            && state.bytes.saturating_add(payload_bytes) > self.bytes_max
        {
            self.room.wait(&mut state);
        }
        if let Some(error) = state.closed.clone() {
            drop(state);
            command.done()(Err(error));
            return;
        }
        state.bytes += payload_bytes;
        state.commands.push(command);
        // The log thread looks again before it waits, so only the first one wakes it.
        let first = state.commands.len() == 1;
        drop(state);
        if first {
            self.work.notify_one();
        }
    }

    /// Moves all commands into `commands`, which is empty, waiting for the first one;
    /// at most for `timeout`, if there is one.
    pub(super) fn take(&self, commands: &mut Vec<Command>, timeout: Option<Duration>) -> Work {
        let mut state = self.state.lock();
        loop {
            if !state.commands.is_empty() {
                std::mem::swap(&mut state.commands, commands);
                return Work::Commands;
            }
            if state.closed.is_some() {
                return Work::Closed;
            }
            match timeout {
                None => self.work.wait(&mut state),
                Some(timeout) => {
                    let timed_out = self.work.wait_for(&mut state, timeout).timed_out();
                    if timed_out && state.commands.is_empty() && state.closed.is_none() {
                        return Work::TimedOut;
                    }
                }
            }
        }
    }

    /// Moves what came since into `commands` too, without waiting.
    pub(super) fn take_more(&self, commands: &mut Vec<Command>) {
        commands.append(&mut self.state.lock().commands);
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
        let commands = std::mem::take(&mut self.state.lock().commands);
        for command in commands {
            command.done()(Err(error.clone()));
        }
    }
}
