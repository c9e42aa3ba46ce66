//! The log thread: takes what is queued, has it written and synced, and calls back. So does, for
//! a moment, whoever appends while it sleeps and would only wait for it ([`Log::append_here`]).
//!
//! Owns the order of acknowledgements and what happens after a failure: who has the worker takes
//! from the queue, and nobody takes what another one's answers come before. How bytes get into
//! files is the writer's business.
//!
//! [`Log::append_here`]: super::Log::append_here

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chronos_env::{Clock, Env};
use parking_lot::Mutex;

use super::queue::{Batch, Command, Done, Work};
use super::recovery::Recovered;
use super::writer::Writer;
use super::{Durability, LogError, LogOptions, Shared};

/// Owner of the thread; dropping it closes the queue and joins.
pub(super) struct LogThread {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

impl LogThread {
    pub(super) fn start(
        worker: Arc<Mutex<Worker>>,
        dir: &Path,
        shared: Arc<Shared>,
    ) -> Result<Self, LogError> {
        let of_thread = shared.clone();
        let handle = thread::Builder::new()
            .name("chronos-log".into())
            .spawn(move || {
                let guard = ExitGuard(of_thread.clone());
                run(&of_thread, &worker);
                drop(guard);
            })
            .map_err(LogError::io("start the thread of", dir))?;
        Ok(Self {
            shared,
            handle: Some(handle),
        })
    }

    pub(super) fn stop(&mut self) {
        self.shared.queue.close(LogError::Closed);
        if let Some(handle) = self.handle.take() {
            // The last handle may be dropped by a callback, which runs on that thread.
            if handle.thread().id() != thread::current().id() {
                // A panic was reported by the thread itself and answered by its guard.
                let _ = handle.join();
            }
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sees to it that nobody waits for a thread that is gone, however it went.
struct ExitGuard(Arc<Shared>);

impl Drop for ExitGuard {
    fn drop(&mut self) {
        drop(PanicGuard(self.0.clone()));
        self.0.queue.close(LogError::Closed);
        self.0.queue.refuse_queued(&LogError::Closed);
    }
}

/// Lets nothing more in after a panic: what the writer was doing is not known.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = LogError::Poisoned {
                cause: "the writer of the log panicked".into(),
                disk_full: false,
            };
            self.0.queue.close(error.clone());
            self.0.queue.refuse_queued(&error);
        }
    }
}

/// The log thread.
fn run(shared: &Shared, worker: &Mutex<Worker>) {
    let durability = worker.lock().durability;
    loop {
        let timeout = worker.lock().until_sync_due();
        match shared.queue.wait(timeout) {
            // Where processors are scarce and syncs fast, threads that are about to append wait for
            // this one to sleep: it lets them run first, so that they share its sync. Where nobody
            // waits this costs a system call and no time.
            Work::Commands if durability == Durability::Strict => thread::yield_now(),
            Work::Commands | Work::Nothing => {}
            Work::Closed => break,
        }
        worker.lock().step();
    }
    worker.lock().finish();
}

/// Calls back. A panic in there is the caller's bug and was printed by the panic hook; the
/// log and everyone else who waits for it go on.
fn answer(done: Done, result: Result<(), LogError>) {
    if panic::catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a callback of the log panicked");
    }
}

/// What does the work, on whatever thread.
pub(super) struct Worker {
    clock: Arc<dyn Clock>,
    durability: Durability,
    shared: Arc<Shared>,
    writer: Writer,
    /// What every request gets after a failure.
    poison: Option<LogError>,
    /// When `Durability::Interval` wants the next sync; `None` if nothing is unsynced.
    sync_due_nanos: Option<u64>,
    /// Answers of the batch under way, in order; an error is a refusal.
    acknowledgements: Vec<(Done, Result<(), LogError>)>,
}

impl Worker {
    pub(super) fn new(
        env: Env,
        dir: &Path,
        options: LogOptions,
        shared: Arc<Shared>,
        recovered: Recovered,
    ) -> Result<Self, LogError> {
        let durability = options.durability;
        let writer = Writer::new(&env, dir, options, shared.clone(), recovered)?;
        Ok(Self {
            clock: env.clock,
            durability,
            shared,
            writer,
            poison: None,
            sync_due_nanos: None,
            acknowledgements: Vec::new(),
        })
    }

    /// Does what is queued, without waiting. Says whether there was anything to do.
    pub(super) fn step(&mut self) -> bool {
        let mut batch = Batch::default();
        self.shared.queue.take(&mut batch);
        let worked = !batch.commands.is_empty() || batch.committed.is_some();
        self.carry_out(&mut batch);
        self.sync_if_due() || worked
    }

    /// Nobody waits for an answer any more, but what was acknowledged or noted shall be kept.
    pub(super) fn finish(&mut self) {
        let mut batch = Batch::default();
        self.shared.queue.take(&mut batch);
        self.carry_out(&mut batch);
        // The poisoned one was told about.
        let _ = self.unless_poisoned(|writer| {
            writer.sync()?;
            writer.sync_notes()
        });
    }

    /// What the log thread does, on another one: only what somebody waits for. Nobody is left waiting
    /// if it panics.
    pub(super) fn step_for_thread(&mut self) {
        let was_due = self.sync_due_nanos;
        let guard = PanicGuard(self.shared.clone());
        let mut batch = Batch::default();
        self.shared.queue.take_commands(&mut batch);
        self.carry_out(&mut batch);
        drop(guard);
        if self.sync_due_nanos != was_due {
            self.shared.queue.nudge();
        }
    }

    fn until_sync_due(&self) -> Option<Duration> {
        let now = self.clock.monotonic_nanos();
        self.sync_due_nanos
            .map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// Empties `batch`.
    fn carry_out(&mut self, batch: &mut Batch) {
        let mut payload_bytes = 0;
        for command in batch.commands.drain(..) {
            match command {
                Command::Append {
                    entries,
                    taken,
                    done,
                } => {
                    payload_bytes += entries
                        .iter()
                        .map(|it| it.payload.len() as u64)
                        .sum::<u64>();
                    let result = self.unless_poisoned(|writer| {
                        taken?;
                        writer.append(&entries)
                    });
                    self.acknowledgements.push((done, result));
                }
                Command::Truncate { index, line, done } => {
                    self.alone(done, |writer| writer.truncate_after(index, line));
                }
                Command::Purge { floor, line, done } => {
                    self.alone(done, |writer| writer.purge(floor, line));
                }
                Command::Vote { vote, done } => self.alone(done, |writer| writer.save_vote(vote)),
                Command::Sync { done } => self.alone(done, Writer::sync),
                Command::Answer { result, done } => self.alone(done, |_| result),
            }
        }
        self.commit();
        if let Some(position) = batch.committed.take() {
            let _ = self.unless_poisoned(|writer| writer.note_committed(position));
        }
        self.shared.queue.finished(payload_bytes);
    }

    /// Commits what came before, then does `work`, then answers.
    fn alone(&mut self, done: Done, work: impl FnOnce(&mut Writer) -> Result<(), LogError>) {
        self.commit();
        let result = self.unless_poisoned(work);
        answer(done, result);
    }

    fn unless_poisoned(
        &mut self,
        work: impl FnOnce(&mut Writer) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        let result = work(&mut self.writer);
        self.note(result.clone());
        result
    }

    fn note(&mut self, result: Result<(), LogError>) {
        if let Err(error) = result {
            if !error.is_refusal() && self.poison.is_none() {
                let poison = error.poison();
                tracing::error!(%poison, "the log stops accepting writes");
                self.shared.recent.lock().stop(poison.clone());
                self.poison = Some(poison);
            }
        }
    }

    /// Writes what the batch appended, makes it durable, and answers.
    fn commit(&mut self) {
        if self.acknowledgements.is_empty() {
            return;
        }
        let durability = self.durability;
        let result = self.unless_poisoned(|writer| match durability {
            Durability::Strict => writer.sync(),
            Durability::Interval(_) | Durability::None => writer.flush(),
        });
        if let (Durability::Interval(interval), None) = (durability, self.sync_due_nanos) {
            let now = self.clock.monotonic_nanos();
            self.sync_due_nanos = Some(now.saturating_add(interval.as_nanos() as u64));
        }
        for (done, appended) in self.acknowledgements.drain(..) {
            answer(done, appended.and_then(|()| result.clone()));
        }
    }

    /// Says whether a sync was due.
    fn sync_if_due(&mut self) -> bool {
        let due = self
            .sync_due_nanos
            .is_some_and(|due| self.clock.monotonic_nanos() >= due);
        if due {
            self.sync_due_nanos = None;
            // The poisoned one was told about.
            let _ = self.unless_poisoned(Writer::sync);
        }
        due
    }
}
