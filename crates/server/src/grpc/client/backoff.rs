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
    pub(super) fn check(&self, now: Instant) -> io::Result<()> {
        match &*self.0.lock() {
            Some(failed) if now < failed.at + failed.pause => {
                Err(io::Error::new(io::ErrorKind::NotConnected, &*failed.why))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn connected(&self) {
        *self.0.lock() = None;
    }

    pub(super) fn failed(&self, error: &io::Error, now: Instant) {
        let mut state = self.0.lock();
        let pause = match &*state {
            Some(before) => (before.pause * 2).min(LONGEST),
            None => FIRST,
        };
        *state = Some(Failed {
            why: error.to_string(),
            pause,
            at: now,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let backoff = Backoff::default();
        let error = io::Error::other("no route");
        let now = Instant::now();
        assert!(backoff.check(now).is_ok());
        backoff.failed(&error, now);
        assert_eq!(backoff.check(now).unwrap_err().to_string(), "no route");
        assert!(backoff.check(now + FIRST).is_ok());
        for _ in 0..20 {
            backoff.failed(&error, now);
        }
        let almost = LONGEST - Duration::from_millis(1);
        assert!(backoff.check(now + almost).is_err());
        assert!(backoff.check(now + LONGEST).is_ok());
        backoff.failed(&error, now);
        backoff.connected();
        assert!(backoff.check(now).is_ok());
    }
}
