//! Who carries out what is queued: a thread of the log's own, or the caller, step by step.
//!
//! The second is for a simulation that decides when a disk is ready: nothing happens but in
//! [`Log::step`](super::Log::step) and in calls that wait, on the caller's thread.

use std::path::Path;
use std::sync::Arc;

use chronos_env::Env;
use parking_lot::Mutex;

use super::recovery::Recovered;
use super::thread::{LogThread, Worker};
use super::{LogError, LogOptions, Shared};

/// Who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// A thread of the log's own.
    #[default]
    Thread,
    /// Whoever calls [`Log::step`](super::Log::step); calls that wait take the steps that they
    /// wait for. For one thread; callbacks must not wait for the log. A handle that is dropped
    /// without [`Log::close`](super::Log::close) is a process that was killed: what is queued
    /// is not written, and is answered with [`LogError::Closed`].
    Stepped,
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    on_work: Option<Arc<dyn Fn() + Send + Sync>>,
    kind: Kind,
}

enum Kind {
    Thread {
        thread: Mutex<LogThread>,
        worker: Arc<Mutex<Worker>>,
    },
    Stepped(Box<Mutex<Worker>>),
}

impl Engine {
    pub(super) fn start(
        env: Env,
        dir: &Path,
        options: LogOptions,
        shared: Arc<Shared>,
        recovered: Recovered,
    ) -> Result<Self, LogError> {
        let on_work = options.on_work.clone();
        let driver = options.driver;
        let worker = Worker::new(env, dir, options, shared.clone(), recovered)?;
        let kind = match driver {
            Driver::Thread => {
                let worker = Arc::new(Mutex::new(worker));
                let thread = LogThread::start(worker.clone(), dir, shared.clone())?;
                Kind::Thread {
                    thread: Mutex::new(thread),
                    worker,
                }
            }
            Driver::Stepped => Kind::Stepped(Box::new(Mutex::new(worker))),
        };
        Ok(Self {
            shared,
            on_work,
            kind,
        })
    }

    /// Takes room in the queue, and waits for it if somebody makes room.
    pub(super) fn reserve(&self, payload_bytes: u64) -> Result<(), LogError> {
        let queue = &self.shared.queue;
        match &self.kind {
            Kind::Thread { .. } => queue.reserve(payload_bytes),
            Kind::Stepped(_) => {
                // A callback may append while its batch still counts: it is let in.
                while !queue.has_room(payload_bytes) && self.step() {}
                queue.reserve_at_once(payload_bytes)
            }
        }
    }

    /// Something was queued.
    pub(super) fn tell(&self) {
        if let Some(on_work) = &self.on_work {
            on_work();
        }
    }

    /// Does what is queued, if the log thread sleeps. `false`: it is not known to be done.
    pub(super) fn work_here(&self) -> bool {
        match &self.kind {
            Kind::Thread { worker, .. } => match worker.try_lock() {
                Some(mut worker) => {
                    worker.step_for_thread();
                    true
                }
                None => false,
            },
            Kind::Stepped(_) => false,
        }
    }

    /// Does what is queued, if that is not a thread's business. Says whether there was
    /// anything to do.
    pub(super) fn step(&self) -> bool {
        match &self.kind {
            Kind::Thread { .. } => false,
            // Taken already: a step's callback asks for another.
            Kind::Stepped(worker) => worker.try_lock().is_some_and(|mut worker| worker.step()),
        }
    }

    /// Steps, if that is not a thread's business, until `is_done`.
    pub(super) fn work_until(&self, is_done: impl Fn() -> bool) {
        if let Kind::Stepped(_) = &self.kind {
            while !is_done() {
                assert!(self.step(), "a callback of the log waits for the log");
            }
        }
    }

    /// Writes what was acknowledged or noted, and lets nothing more in.
    pub(super) fn stop(&self) {
        match &self.kind {
            Kind::Thread { thread, .. } => thread.lock().stop(),
            Kind::Stepped(worker) => {
                self.shared.queue.close(LogError::Closed);
                worker.lock().finish();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Kind::Stepped(_) = &self.kind {
            self.shared.queue.close(LogError::Closed);
            self.shared.queue.refuse_queued(&LogError::Closed);
        }
    }
}
