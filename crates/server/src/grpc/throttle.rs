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
        let Some(rate) = self.bytes_per_second else {
            return;
        };
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let may_go_at = {
            let now = Instant::now();
            let mut paid_at = self.paid_at.lock();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let may_go_at = paid_at.unwrap_or(now).max(earliest);
            *paid_at = Some(may_go_at + cost);
            may_go_at
        };
        tokio::time::sleep_until(may_go_at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time() {
        let throttle = Throttle::new(NonZeroU64::new(1000));
        let start = Instant::now();
        for _ in 0..11 {
            throttle.pass(500).await;
        }
        // The last one goes when the ten before it are paid for.
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_millis(5100));
        // A long pause does not let everything through at once.
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..3 {
            throttle.pass(500).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(900));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nobody_waits() {
        let start = Instant::now();
        Throttle::new(None).pass(usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
