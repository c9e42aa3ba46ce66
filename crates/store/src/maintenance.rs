//! The background threads: one flushes, one compacts, so that a long compaction never
//! delays a flush and with it the writers.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{with_causes, Reason, StoreError};
use crate::store::Shared;

/// After a failed flush (a full disk) it is tried again this much later.
const RETRY: Duration = Duration::from_secs(1);
/// So often is looked for what has expired, whether or not anything was written.
const SWEEP: Duration = Duration::from_secs(60);

/// Wakes the background threads.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// How often there was something new, and whether to stop.
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Signals {
    pub(crate) fn wake(&self) {
        self.state.lock().0 += 1;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }

    /// Waits until there is something that was not there at `seen`, or until a
    /// limit; false: stop.
    fn wait(&self, seen: &mut u64, limit: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        while state.0 == *seen && !state.1 {
            match limit {
                None => self.changed.wait(&mut state),
                Some(limit) => {
                    if self.changed.wait_for(&mut state, limit).timed_out() {
                        break;
                    }
                }
            }
        }
        *seen = state.0;
        !state.1
    }
}

/// Starts the threads; they end when the store stops.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, StoreError> {
    let spawn =
        |name: &str, pause: Option<Duration>, work: fn(&Shared) -> Result<(), StoreError>| {
            let own = shared.clone();
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    let _guard = StopOnPanic(&own);
                    run(&own, pause, work);
                })
                .map_err(|e| StoreError::io("start a thread for", &shared.dir, e))
        };
    Ok(vec![
        spawn("store-flush", None, |shared| {
            shared.flush_frozen()?;
            Ok(())
        })?,
        spawn("store-compact", Some(SWEEP), |shared| {
            // Where the system lets us: what somebody waits for comes first.
            chronos_env::lower_priority_of_this_thread();
            shared.flush_for_retention()?;
            while shared.compact_once()? {}
            Ok(())
        })?,
    ])
}

/// A thread that panics must not leave writers waiting for it.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = Reason::new("a background thread panicked");
            self.0.poison(&StoreError::Poisoned { reason });
        }
    }
}

fn run(shared: &Shared, pause: Option<Duration>, work: fn(&Shared) -> Result<(), StoreError>) {
    let mut seen = 0;
    // What was reported last: the same failure is not told at every attempt.
    let mut told: Option<String> = None;
    loop {
        let failed = match work(shared) {
            Ok(()) => None,
            Err(error) if shared.check_usable().is_ok() => Some(with_causes(&error)),
            Err(_) => None,
        };
        if let Some(error) = failed
            .as_ref()
            .filter(|error| told.as_ref() != Some(*error))
        {
            tracing::warn!(
                error,
                "background work of the store failed and will be retried"
            );
        }
        let pause = failed.is_some().then_some(RETRY).or(pause);
        told = failed;
        if !shared.signals.wait(&mut seen, pause) {
            return;
        }
    }
}
