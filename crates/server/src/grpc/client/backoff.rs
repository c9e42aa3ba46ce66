//! When a node that could not be reached is tried again.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(10);
/// A node that is back is found after this at the latest.
const LONGEST: Duration = Duration::from_millis(500);

/// Keeps calls to an unreachable node from each trying to connect: those in between fail at once.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<Option<Failed>>);

#[derive(Debug)]
struct Failed {
    why: String,
    pause: Duration,
    at: Instant,
}

impl Backoff {
    /// Whether connecting may be tried. Errors: not yet; says why the last one failed.
    pub(super) fn check(&self) -> io::Result<()> {
        match &*self.0.lock() {
            Some(failed) if failed.at.elapsed() < failed.pause => {
                Err(io::Error::new(io::ErrorKind::NotConnected, &*failed.why))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn connected(&self) {
        *self.0.lock() = None;
    }

    pub(super) fn failed(&self, error: &io::Error) {
        let mut state = self.0.lock();
        let pause = match &*state {
            Some(before) => (before.pause * 2).min(LONGEST),
            None => FIRST,
        };
        *state = Some(Failed {
            why: error.to_string(),
            pause,
            at: Instant::now(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_limit() {
        let backoff = Backoff::default();
        let error = io::Error::other("no route");
        assert!(backoff.check().is_ok());
        backoff.failed(&error);
        assert_eq!(backoff.check().unwrap_err().to_string(), "no route");
        tokio::time::advance(FIRST).await;
        assert!(backoff.check().is_ok());
        for _ in 0..20 {
            backoff.failed(&error);
        }
        tokio::time::advance(LONGEST - Duration::from_millis(1)).await;
        assert!(backoff.check().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(backoff.check().is_ok());
        backoff.failed(&error);
        backoff.connected();
        assert!(backoff.check().is_ok());
    }
}
