//! Time: the wall clock for stamps, the monotonic clock for durations.
//!
//! Owns the only calls to the operating system's clocks. Refuses to interpret time:
//! stamps and their ordering belong to `chronos-model`.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where a component takes the time from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall clock: microseconds since 1970-01-01T00:00:00Z. May jump in either
    /// direction; a clock set before 1970 reads 0.
    fn now_micros(&self) -> u64;

    /// Nanoseconds since an arbitrary moment before this clock's first reading. Never
    /// goes backwards.
    fn monotonic_nanos(&self) -> u64;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts near zero.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    pub fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    fn now_micros(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct SimClock {
    wall_micros: AtomicU64,
    monotonic_nanos: AtomicU64,
}

impl SimClock {
    /// A clock whose wall time is `start_micros` and whose monotonic reading is 0.
    pub fn new(start_micros: u64) -> Self {
        Self {
            wall_micros: AtomicU64::new(start_micros),
            monotonic_nanos: AtomicU64::new(0),
        }
    }

    /// Steps the wall clock, in either direction, as an operator or NTP would. The
    /// monotonic clock is not touched.
    pub fn set_now_micros(&self, now_micros: u64) {
        self.wall_micros.store(now_micros, Ordering::SeqCst);
    }

    /// Lets time pass: both clocks move forward.
    pub fn advance(&self, by: Duration) {
        self.wall_micros
            .fetch_add(by.as_micros() as u64, Ordering::SeqCst);
        self.monotonic_nanos
            .fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_micros(&self) -> u64 {
        self.wall_micros.load(Ordering::SeqCst)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.monotonic_nanos.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_is_past_2024_and_monotonic() {
        let clock = SystemClock::new();
        assert!(clock.now_micros() > 1_704_067_200_000_000);
        let first = clock.monotonic_nanos();
        assert!(clock.monotonic_nanos() >= first);
    }

    #[test]
    fn a_step_of_the_wall_clock_leaves_the_monotonic_clock_alone() {
        let clock = SimClock::new(5_000_000);
        clock.advance(Duration::from_millis(3));
        assert_eq!(
            (clock.now_micros(), clock.monotonic_nanos()),
            (5_003_000, 3_000_000)
        );
        clock.set_now_micros(7);
        assert_eq!(
            (clock.now_micros(), clock.monotonic_nanos()),
            (7, 3_000_000)
        );
    }
}
