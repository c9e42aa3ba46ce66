//! History: which versions no current read needs, and into which runs they go.
//!
//! Where versions are written, by a flush or a compaction, they come sorted by key,
//! newest first. A version that follows another of its key is *superseded*: no reader
//! of the current table will ever see it again. It goes to a run of history, a segment
//! that such readers do not open; so a key with a million old versions reads like a
//! key with none.
//!
//! ```text
//!   k1@9  k1@5  k1@2  k2@4          sorted by (key, recorded descending)
//!     |     |     |     `---------> newest of k2    -> segment of newest versions
//!     |     |     `- superseded @5 ----------------> run of the window of 5
//!     |     `- superseded @9 ----------------------> run of the window of 9
//!     `- newest of k1, may be superseded elsewhere -> segment of newest versions
//! ```
//!
//! The stamp at which a version was superseded is known here only as a bound: a version in
//! between may be in a segment that did not take part. So it is no truth about the version
//! (the resolver finds that by merging) but a reason not to open a run: whoever
//! reads at `s` needs no run whose versions were all superseded at or before `s`. A
//! hidden version may then be missing, but never the one that hides it: that was
//! recorded at the bound, and is itself newest, or superseded later.
//!
//! Deletes stay with the newest versions: they are what hides a key's older ones.
//!
//! Runs are cut by windows of the superseding stamp, so that retention drops whole runs
//! and a read of the past opens few. (XTDB's recency buckets work alike.)

use chronos_model::{Keys, Stamp};
use serde::{Deserialize, Serialize};

/// Windows that one compaction writes at most: each holds a group of pages in memory.
const WINDOWS_MAX: i64 = 8;

const DAY_MICROS: i64 = 86_400_000_000;

/// When the versions of a run of history were superseded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Superseded {
    /// Stamp before which none was.
    pub(crate) first: u64,
    /// Stamp at and after which none is visible.
    pub(crate) last: u64,
    /// Width of the run's window.
    pub(crate) window_days: u32,
}

/// A stretch of days since the epoch, UTC; `number` counts stretches of `days`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Window {
    pub(crate) days: u32,
    pub(crate) number: i64,
}

impl Window {
    fn of(stamp: Stamp, days: u32) -> Window {
        let number = stamp.micros().div_euclid(i64::from(days) * DAY_MICROS);
        Window { days, number }
    }

    /// The day after its last.
    pub(crate) fn end_day(self) -> i64 {
        (self.number + 1) * i64::from(self.days)
    }
}

impl Superseded {
    fn at(stamp: Stamp, window_days: u32) -> Superseded {
        Superseded {
            first: stamp.0,
            last: stamp.0,
            window_days,
        }
    }

    /// That of the versions of both.
    pub(crate) fn with(self, other: Superseded) -> Superseded {
        Superseded {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            window_days: self.window_days.max(other.window_days),
        }
    }

    /// The window of the run.
    pub(crate) fn window(self) -> Window {
        Window::of(Stamp(self.first), self.window_days)
    }
}

/// The width of windows for versions superseded within a span: a day, or as many
/// days, doubling, as make few windows of it.
fn window_days(first: Stamp, last: Stamp) -> u32 {
    let days = last.micros().saturating_sub(first.micros()) / DAY_MICROS;
    let mut width = 1u32;
    // A span of n windows touches n + 1.
    while days / i64::from(width) + 2 > WINDOWS_MAX && width < 1 << 20 {
        width *= 2;
    }
    width
}

/// Where the rows of a batch go.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Split {
    /// Rows that are the newest of their keys; of no meaning if no row is history.
    pub(crate) newest: Vec<u32>,
    /// Rows of each window.
    pub(crate) history: Vec<(Window, Superseded, Vec<u32>)>,
}

/// Splits sorted versions, batch after batch.
#[derive(Debug)]
pub(crate) struct Splitter {
    window_days: u32,
    /// Key and stamp of the version before.
    last: Option<(Box<[u8]>, u64)>,
}

impl Splitter {
    /// For versions recorded from `first` to `last`.
    pub(crate) fn new(first: Stamp, last: Stamp) -> Splitter {
        Splitter {
            window_days: window_days(first, last),
            last: None,
        }
    }

    /// Where the next versions go, which follow all split before by (key, newest
    /// first).
    pub(crate) fn split(&mut self, keys: &Keys, recorded: &[u64]) -> Split {
        let mut split = Split::default();
        let mut before = self.last.as_ref().map(|(key, at)| (&**key, *at));
        for (row, stamp) in recorded.iter().enumerate() {
            let key = keys.get(row);
            match before {
                Some((k, at)) if k == key => split.add_history(row, Stamp(at), self.window_days),
                _ if split.history.is_empty() => {}
                _ => split.newest.push(row as u32),
            }
            before = Some((key, *stamp));
        }
        self.last = before.map(|(key, at)| (key.into(), at));
        split
    }
}

impl Split {
    fn add_history(&mut self, row: usize, superseded: Stamp, window_days: u32) {
        if self.history.is_empty() {
            // Until now every row was newest, and none was noted.
            self.newest = (0..row as u32).collect();
        }
        let window = Window::of(superseded, window_days);
        let at = Superseded::at(superseded, window_days);
        match self.history.iter_mut().find(|(w, _, _)| *w == window) {
            Some((_, superseded, rows)) => {
                *superseded = superseded.with(at);
                rows.push(row as u32);
            }
            None => self.history.push((window, at, vec![row as u32])),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(day: i64, micros: i64) -> Stamp {
        Stamp::from_micros((day * DAY_MICROS + micros) as u64)
    }

    fn keys(names: &[&str]) -> Keys {
        let mut keys = Keys::default();
        names.iter().for_each(|name| keys.push(name.as_bytes()));
        keys
    }

    #[test]
    fn older_versions_go_to_the_window_in_which_they_were_superseded() {
        let mut splitter = Splitter::new(at(10, 0), at(12, 5));
        let stamps = [at(12, 5), at(10, 7), at(10, 3), at(11, 0)].map(|s| s.0);
        let split = splitter.split(&keys(&["a", "a", "a", "b"]), &stamps);
        assert_eq!(split.newest, [0, 3]);
        let windows: Vec<_> = split
            .history
            .iter()
            .map(|(w, s, rows)| (w.end_day() - 1, s.last, rows.clone()))
            .collect();
        let expected = [(12, at(12, 5).0, vec![1]), (10, at(10, 7).0, vec![2])];
        assert_eq!(windows, expected);
        // The next batch goes on with the key of the last.
        let split = splitter.split(&keys(&["b", "c"]), &[at(10, 0).0, at(10, 1).0]);
        assert_eq!(split.newest, [1]);
        assert_eq!(split.history[0].2, [0]);
    }

    #[test]
    fn without_history_nothing_is_listed() {
        let mut splitter = Splitter::new(at(1, 0), at(1, 9));
        let split = splitter.split(&keys(&["a", "b"]), &[at(1, 1).0, at(1, 2).0]);
        assert_eq!(split, Split::default());
    }

    proptest! {
        /// Few windows, whatever the span.
        #[test]
        fn windows_are_few(first in 0i64..40_000, days in 0i64..10_000, stamps in prop::collection::vec(0i64..1_000, 1..50)) {
            let (low, high) = (at(first, 0), at(first + days, 0));
            let width = window_days(low, high);
            let span = high.micros() - low.micros();
            let mut windows: Vec<Window> = stamps
                .iter()
                .map(|s| Window::of(Stamp::from_micros((low.micros() + span / 999 * s) as u64), width))
                .collect();
            windows.sort_unstable();
            windows.dedup();
            prop_assert!(windows.len() as i64 <= WINDOWS_MAX);
            for pair in windows.windows(2) {
                prop_assert!(pair[0].end_day() < pair[1].end_day());
            }
        }
    }
}
