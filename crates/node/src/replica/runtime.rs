//! Where the consensus runs: a thread of its own, or, in a simulation, the runtime of whoever
//! opens the node; and the random numbers it draws.
//!
//! A thread of its own means that a heartbeat waits for no query, no sync and no large reply:
//! nothing else runs there. Random numbers (election timeouts) come from a seed, so that a
//! simulation repeats itself.

use std::cell::Cell;
use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use chronos_env::Env;
use chronos_model::SqlState;
use openraft::async_runtime::AsyncRuntime;
use openraft::impls::TokioRuntime;
use openraft::OptionalSend;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::SeedableRng;
use tokio::sync::oneshot;
use tokio::time::{Instant, Timeout};

use crate::cluster::ConsensusRuntime;
use crate::Error;

thread_local! {
    /// What the next random numbers on this thread follow from.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Gives the seed of the next generator and moves on: SplitMix64's sequence.
fn next_seed() -> u64 {
    SEED.with(|seed| {
        let next = seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        seed.set(next);
        next
    })
}

/// Tokio, with random numbers that follow from the thread's seed.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(next_seed())
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// Waits for something on this thread, which may be one of a runtime's: what it polls must not be
/// made to yield to a scheduler that does not run meanwhile.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(tokio::task::unconstrained(future))
}

/// The place where the consensus runs.
pub(crate) struct Place {
    handle: tokio::runtime::Handle,
    /// The thread, and what ends it.
    own: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
    stepped: bool,
}

impl Place {
    pub(crate) fn new(env: &Env, runtime: ConsensusRuntime) -> Result<Place, Error> {
        match runtime {
            ConsensusRuntime::OwnThread => Place::own_thread(env.random.u64()),
            ConsensusRuntime::Ambient { seed } => {
                SEED.with(|own| own.set(own.get() ^ seed));
                let handle = tokio::runtime::Handle::try_current()
                    .map_err(|e| failed(&format!("no runtime to run in: {e}")))?;
                Ok(Place {
                    handle,
                    own: Mutex::new(None),
                    stepped: true,
                })
            }
        }
    }

    fn own_thread(seed: u64) -> Result<Place, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(&format!("cannot start the consensus: {e}")))?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("raft".into())
            .spawn(move || {
                SEED.with(|own| own.set(seed));
                // An error is the end of the place, which is an end as well.
                let _ = runtime.block_on(ended);
            })
            .map_err(|e| failed(&format!("cannot start the thread of the consensus: {e}")))?;
        Ok(Place {
            handle,
            own: Mutex::new(Some((end, thread))),
            stepped: false,
        })
    }

    /// Whether all work is done in steps, on one thread.
    pub(crate) fn is_stepped(&self) -> bool {
        self.stepped
    }

    /// Runs a task there.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Gives up waiting for something at a deadline. Works wherever it is waited for, also
    /// where no runtime is.
    pub(crate) fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        let _entered = self.handle.enter();
        tokio::time::timeout_at(deadline, future)
    }

    /// Waits for a task there. In a simulation the task must not wait for anything.
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        if self.stepped {
            return Ok(block_on(task));
        }
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.handle.spawn(async move {
            let _ = sender.send(task.await);
        });
        receiver
            .recv()
            .map_err(|_| failed("the thread of the consensus has ended"))
    }

    /// Ends the thread. Whatever still runs there is dropped.
    pub(crate) fn end(&self) {
        if let Some((end, thread)) = self.own.lock().take() {
            let _ = end.send(());
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end();
    }
}

fn failed(message: &str) -> Error {
    Error::new(SqlState::INTERNAL, message)
}
