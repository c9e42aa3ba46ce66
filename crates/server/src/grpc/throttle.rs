//! Spreads bytes over time: so many a second, and no more than a tenth of a second's at once.

use std::num::NonZeroU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How much of a quiet time may be made up for.
const BURST: Duration = Duration::from_millis(100);

/// A rate that senders share.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: Option<NonZeroU64>,
    /// When all that was let through has been paid for; `None`: nothing was.
    paid_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Throttle {
        Throttle {
            bytes_per_second,
            paid_at: Mutex::new(None),
        }
    }

    /// Waits until so many bytes may go. Bytes are paid for after they went: a part larger than
    /// the rate goes, and the next one waits.
    pub(super) async fn pass(&self, bytes: usize) {
        if let Some(may_go_at) = self.reserve(bytes, Instant::now()) {
            tokio::time::sleep_until(may_go_at).await;
        }
    }

    /// When so many bytes may go; `None`: at once.
    fn reserve(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.bytes_per_second?;
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let mut paid_at = self.paid_at.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let may_go_at = paid_at.unwrap_or(now).max(earliest);
        *paid_at = Some(may_go_at + cost);
        Some(may_go_at).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time() {
        let throttle = Throttle::new(NonZeroU64::new(1000));
        let start = Instant::now();
        let half_seconds = |n: u32| Some(start + Duration::from_millis(500) * n);
        // Each part goes when those before it are paid for.
        assert_eq!(throttle.reserve(500, start), None);
        for n in 1..10 {
            assert_eq!(throttle.reserve(500, start), half_seconds(n));
        }
        // A long pause does not let everything through at once.
        let later = start + Duration::from_secs(60);
        assert_eq!(throttle.reserve(500, later), None);
        let next = later + Duration::from_millis(400);
        assert_eq!(throttle.reserve(500, later), Some(next));
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        assert_eq!(
            Throttle::new(None).reserve(usize::MAX, Instant::now()),
            None
        );
    }
}
