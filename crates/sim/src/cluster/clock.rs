//! Clocks of simulated machines: all run on the simulation's time, each with an error of its own.

use std::sync::atomic::{AtomicI64, Ordering};

use chronos_env::Clock;
use tokio::time::Instant;

/// Where wall clocks begin: 2024-01-01T00:00:00Z.
const START_MICROS: i64 = 1_704_067_200_000_000;

/// The clock of one machine. It outlives the processes on it.
#[derive(Debug)]
pub(super) struct MachineClock {
    begun: Instant,
    /// How far it is ahead.
    ahead_micros: AtomicI64,
    /// How much faster the wall clock runs, in parts of a million.
    drift_ppm: i64,
    /// And what measures how long something took.
    rate_ppm: i64,
}

impl MachineClock {
    /// A clock that begins now, ahead or behind, and runs faster or slower.
    pub(super) fn new(ahead_micros: i64, drift_ppm: i64, rate_ppm: i64) -> MachineClock {
        MachineClock {
            begun: Instant::now(),
            ahead_micros: AtomicI64::new(ahead_micros),
            drift_ppm,
            rate_ppm,
        }
    }

    /// How much faster than time it measures how long something took, in parts of a million.
    pub(super) fn rate_ppm(&self) -> i64 {
        self.rate_ppm
    }

    /// Steps the wall clock, as an operator or NTP would.
    pub(super) fn jump(&self, micros: i64) {
        self.ahead_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for MachineClock {
    fn now_micros(&self) -> u64 {
        let passed = self.begun.elapsed().as_micros() as i64;
        let drifted = passed + passed / 1_000 * self.drift_ppm / 1_000;
        let now = START_MICROS + drifted + self.ahead_micros.load(Ordering::Relaxed);
        u64::try_from(now).unwrap_or(0)
    }

    fn monotonic_nanos(&self) -> u64 {
        let passed = self.begun.elapsed().as_nanos() as i64;
        (passed + passed / 1_000 * self.rate_ppm / 1_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_clocks_differ_and_jump_and_monotonic_ones_do_not() {
        let (right, wrong) = (MachineClock::new(0, 0, 0), MachineClock::new(-500, 100, 0));
        let fast = MachineClock::new(0, 0, 40_000);
        assert_eq!(right.now_micros() - wrong.now_micros(), 500);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(wrong.now_micros() - right.now_micros(), 500);
        assert_eq!(right.monotonic_nanos(), wrong.monotonic_nanos());
        assert_eq!(fast.monotonic_nanos(), 10_400_000_000);
        wrong.jump(-3_000_000);
        assert_eq!(right.now_micros() - wrong.now_micros(), 2_999_500);
        assert_eq!(wrong.monotonic_nanos(), 10_000_000_000);
    }
}
