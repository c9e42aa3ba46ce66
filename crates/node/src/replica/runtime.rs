//! Where the consensus runs: a thread of its own, or, in a simulation, the runtime of whoever
//! opens the node; and the random numbers it draws.
//!
//! A thread of its own means that a heartbeat waits for no query, no sync and no large reply:
//! nothing else runs there. Random numbers (election timeouts) come from a seed, so that a
//! simulation repeats itself.
//!
//! The consensus's time has a [`Pace`]: what it waits for is that much longer than it believes, and
//! what has passed is that much less. Each of its tasks carries the pace of the one that spawned
//! it; elsewhere time is what it is. What it pauses between two attempts is not longer.

use std::cell::{Cell, RefCell};
use std::future::{poll_fn, Future};
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::pin;
use std::sync::Arc;
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

use super::pace::Pace;
use crate::cluster::ConsensusRuntime;
use crate::Error;

thread_local! {
    /// The pace of the task that is polled on this thread, if it is one of the consensus.
    static PACE: RefCell<Option<Arc<Pace>>> = const { RefCell::new(None) };
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

/// Gives a future, and all tasks that it spawns in the consensus's name, a pace.
pub(super) async fn paced<F: Future>(pace: Arc<Pace>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _polled = Polled::at(&pace);
        future.as_mut().poll(context)
    })
    .await
}

/// While a task with a pace is polled.
struct Polled(Option<Arc<Pace>>);

impl Polled {
    fn at(pace: &Arc<Pace>) -> Polled {
        Polled(PACE.with(|own| own.replace(Some(Arc::clone(pace)))))
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        PACE.with(|own| own.replace(self.0.take()));
    }
}

/// A time of the consensus, as it is now.
pub(super) fn stretched(given: Duration) -> Duration {
    PACE.with_borrow(|pace| match pace {
        Some(pace) => pace.until_clocked(pace.stretched(given)),
        None => given,
    })
}

fn shrunk(passed: Duration) -> Duration {
    PACE.with_borrow(|pace| match pace {
        Some(pace) => pace.shrunk(pace.clocked(passed)),
        None => passed,
    })
}

/// A moment. Which of two is earlier does not depend on the pace; how far apart they are does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl openraft::Instant for Moment {
    fn now() -> Moment {
        Moment(Instant::now())
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0 + stretched(duration))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        let duration = stretched(duration);
        // The clock may have begun after that.
        Moment(self.0.checked_sub(duration).unwrap_or(self.0))
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        shrunk(self.0 - earlier.0)
    }
}

/// Tokio, with random numbers that follow from the thread's seed, and a time that has a pace.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = Moment;
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
        match PACE.with_borrow(Clone::clone) {
            Some(pace) => TokioRuntime::spawn(paced(pace, future)),
            None => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        tokio::time::sleep_until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(stretched(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(deadline.0, future)
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

#[cfg(test)]
mod tests {
    use openraft::Instant as _;

    use super::*;
    use crate::cluster::Timing;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Three times as slow as given.
    fn slow() -> Arc<Pace> {
        let given = Timing {
            heartbeat_ms: 100,
            election_timeout_ms: 1_000,
        };
        let pace = Pace::new(given, true);
        pace.told(1, 3_000);
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_stretched_for_the_consensus_and_for_nobody_else() {
        let start = Moment::now();
        let (later, passed) = paced(slow(), async move {
            let later = start + ms(100);
            assert_eq!(later - ms(100), start);
            tokio::time::sleep(ms(600)).await;
            (later, Moment::now() - start)
        })
        .await;
        assert_eq!(later - start, ms(300));
        // The clock goes by whole milliseconds.
        assert!((ms(200)..=ms(201)).contains(&passed));
        assert!((ms(600)..=ms(601)).contains(&(Moment::now() - start)));
        assert!(start < later && later < Moment::now());
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_inherit_the_pace_and_deadlines_keep_to_it() {
        let began = Instant::now();
        let waits = Runtime::spawn(std::future::pending::<()>());
        waits.abort();
        paced(slow(), async {
            let task = Runtime::spawn(async {
                let given_up = Runtime::timeout(ms(100), std::future::pending::<()>()).await;
                assert!(given_up.is_err());
                Runtime::sleep_until(Moment::now() + ms(100)).await;
                // A pause is as long as it is.
                Runtime::sleep(ms(100)).await;
            });
            task.await.unwrap();
        })
        .await;
        assert!((ms(700)..ms(705)).contains(&began.elapsed()));
        assert_eq!(stretched(ms(1)), ms(1));
    }

    #[tokio::test(start_paused = true)]
    async fn each_next_beat_of_a_regular_clock_is_later() {
        // As the library computes them, however the pace changes and however short the wait was.
        let pace = slow();
        paced(Arc::clone(&pace), async move {
            let first = Moment::now();
            let step = ms(7).as_micros();
            for round in 0..1_000_u32 {
                pace.told(u64::from(round) + 2, 1_000 + round * 37 % 9_000);
                let now = Moment::now();
                let mut passed = (now - first).as_micros();
                passed -= passed % step;
                passed += step;
                let next = first + Duration::from_micros(passed as u64);
                assert!(next > now);
                Runtime::sleep_until(next).await;
                assert!(Moment::now() >= next);
            }
        })
        .await;
    }
}
