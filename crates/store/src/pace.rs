//! Pace: writers slow down before memory is full, and work in the background keeps out of
//! the way of what somebody waits for.
//!
//! ```text
//!   memtables:  [active 0..100 %] [frozen] [frozen]  | no room
//!   applying:    full speed           slower  ..   flush speed
//! ```
//!
//! While the last memtable but one waits for its flush, each write set is delayed by its share
//! of what a flush of it will take, times how full the active memtable is. When that is full,
//! rows come in no faster than they go out, and nobody waits for a whole flush at once.
//!
//! A compaction pauses while memtables queue up for their flush, and stays within a budget of
//! bytes per second if it has one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::StoreError;
use crate::store::{ApplyState, Shared};

/// A delay is gathered until it is worth a wait.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// A single wait, at most.
const DELAY_MAX: Duration = Duration::from_millis(100);
/// Memtables that wait for their flush while a compaction goes on.
const FROZEN_BESIDE_COMPACTION: usize = 1;
/// A compaction pauses for so long at a time, and so often between two batches of rows.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSES_MAX: u32 = 10;

/// How fast memtables become segments.
#[derive(Debug, Default)]
pub(crate) struct FlushSpeed {
    /// Bytes of memtables per second, averaged; 0: not known yet.
    bytes_per_second: AtomicU64,
}

impl FlushSpeed {
    /// Takes a flush of so many bytes into the average.
    pub(crate) fn note(&self, bytes: u64, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-6);
        let now = (bytes as f64 / seconds) as u64;
        let before = self.bytes_per_second.load(Ordering::Relaxed);
        let average = match before {
            0 => now,
            _ => before / 4 * 3 + now / 4,
        };
        self.bytes_per_second
            .store(average.max(1), Ordering::Relaxed);
    }

    /// What bytes that were just added are delayed by, with `frozen` memtables waiting of
    /// `frozen_max`, and the active one filled to a share.
    fn delay(&self, added: u64, frozen: usize, frozen_max: usize, filled: f64) -> Duration {
        let speed = self.bytes_per_second.load(Ordering::Relaxed);
        if speed == 0 || frozen + 1 < frozen_max {
            return Duration::ZERO;
        }
        let flush = added as f64 / speed as f64;
        Duration::from_secs_f64((flush * filled.clamp(0.0, 1.0)).min(3600.0))
    }
}

impl Shared {
    /// Slows down an apply that added bytes.
    pub(crate) fn slow_down(&self, apply: &mut ApplyState, added: u64) {
        if !self.options.background || added == 0 {
            return;
        }
        let mut frozen = self.frozen.lock();
        let filled = apply.active_bytes as f64 / self.options.memtable_bytes_max.max(1) as f64;
        let frozen_max = self.options.frozen_max.max(1);
        let speed = &self.flush_speed;
        apply.delay += speed.delay(added, frozen.len(), frozen_max, filled);
        if apply.delay < DELAY_MIN {
            return;
        }
        let delay = std::mem::take(&mut apply.delay).min(DELAY_MAX);
        // A flush that is done ends the wait: there is room again.
        let begun = self.env.clock.monotonic_nanos();
        self.frozen_changed.wait_for(&mut frozen, delay);
        self.note_stall(begun);
    }

    /// Counts the time since `begun` as time that applying waited.
    pub(crate) fn note_stall(&self, begun: u64) {
        let nanos = self.env.clock.monotonic_nanos().saturating_sub(begun);
        self.counters
            .stall_nanos
            .fetch_add(nanos, Ordering::Relaxed);
    }

    /// Lets a compaction that just wrote bytes wait for what is more urgent.
    pub(crate) fn give_way(&self, written: u64) -> Result<(), StoreError> {
        if !self.options.background {
            return Ok(());
        }
        let begun = self.env.clock.monotonic_nanos();
        let waited = self.wait_behind_others(written);
        let nanos = self.env.clock.monotonic_nanos().saturating_sub(begun);
        let counter = &self.counters.compaction_wait_nanos;
        counter.fetch_add(nanos, Ordering::Relaxed);
        waited
    }

    fn wait_behind_others(&self, written: u64) -> Result<(), StoreError> {
        let mut frozen = self.frozen.lock();
        for _ in 0..PAUSES_MAX {
            if frozen.len() <= FROZEN_BESIDE_COMPACTION {
                break;
            }
            self.frozen_changed.wait_for(&mut frozen, PAUSE);
            self.check_usable()?;
        }
        if let Some(budget) = self.options.compaction_bytes_per_second {
            let share = written as f64 / budget.max(1) as f64;
            let until = self.env.clock.monotonic_nanos() + (share * 1e9) as u64;
            while let Some(left) = until.checked_sub(self.env.clock.monotonic_nanos()) {
                if left == 0 {
                    break;
                }
                let left = Duration::from_nanos(left).min(DELAY_MAX);
                self.frozen_changed.wait_for(&mut frozen, left);
                self.check_usable()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_slow_down_to_the_speed_of_flushes() {
        let speed = FlushSpeed::default();
        assert_eq!(
            speed.delay(1000, 2, 3, 1.0),
            Duration::ZERO,
            "nothing is known"
        );
        speed.note(1_000_000, Duration::from_secs(1));
        let millis = |frozen, filled| speed.delay(1000, frozen, 3, filled).as_micros();
        assert_eq!(millis(1, 1.0), 0);
        assert_eq!(millis(2, 0.0), 0);
        assert_eq!(millis(2, 0.5), 500);
        assert_eq!(millis(2, 1.0), 1000);
        assert_eq!(millis(3, 7.0), 1000);
        // A slow flush counts, but not alone.
        speed.note(1_000_000, Duration::from_secs(10));
        assert!((1000..2000).contains(&millis(2, 1.0)));
    }
}
