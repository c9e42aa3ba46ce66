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
//! What retention no longer needs is left out here. Of a table that keeps so many old
//! versions of a row, a *cut* stays where the others were: it says that there were some.
//!
//! Runs are cut by windows of the superseding stamp, so that retention drops whole runs
//! and a read of the past opens few. (XTDB's recency buckets work alike.)

use std::sync::Arc;

use arrow_buffer::BooleanBuffer;
use chronos_model::{Keys, Kind, Period, Stamp, TableSchema};
use serde::{Deserialize, Serialize};

use crate::buckets::Bucket;
use crate::erase::{Erased, ERASE};
use crate::merge::ended_by;
use crate::retention::{Retained, CUT};

/// Windows that one compaction writes at most: each holds a group of pages in memory.
const WINDOWS_MAX: i64 = 8;

const DAY_MICROS: i64 = 86_400_000_000;

/// A window that holds all of a table's history.
const WHOLE_HISTORY_DAYS: u32 = 1 << 20;

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

/// What the versions of a file have in common.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Place {
    /// Of a run of history: when they were superseded.
    pub(crate) superseded: Option<Superseded>,
    /// The window of time that their rows are in.
    pub(crate) bucket: Option<Bucket>,
}

/// What a splitter is to do.
#[derive(Clone, Debug)]
pub(crate) struct SplitRules {
    /// What need not be written any more.
    pub(crate) retained: Retained,
    /// When the table was truncated, ascending.
    pub(crate) truncated: Arc<[Stamp]>,
    /// Deletes recorded at or before, which are the newest of their keys, hide nothing
    /// that is anywhere else.
    pub(crate) forget_deletes: Stamp,
    /// What need not be written because it is erased.
    pub(crate) erased: Erased,
    /// Erasures recorded before hide nothing that is anywhere else.
    pub(crate) forget_erasures: Stamp,
}

impl SplitRules {
    /// Of a table as it was after the last commit that is in segments, whose stamp is
    /// `applied`: the log behind it is replayed after a crash, and must find what it found
    /// before.
    pub(crate) fn new(schema: &TableSchema, truncated: Arc<[Stamp]>, applied: Stamp) -> SplitRules {
        SplitRules {
            retained: Retained::of(schema, applied.micros()),
            truncated,
            forget_deletes: Stamp::MIN,
            erased: Erased::default(),
            forget_erasures: Stamp::MIN,
        }
    }
}

/// Where the rows of a batch go. Those that are nowhere are not kept.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Split {
    /// Every row is the newest of its key, and kept; the lists are empty.
    pub(crate) all_newest: bool,
    /// Rows that are the newest of their keys.
    pub(crate) newest: Vec<u32>,
    /// Rows of each window.
    pub(crate) history: Vec<(Window, Superseded, Vec<u32>)>,
    /// Rows, of those in `history`, that are to become cuts.
    pub(crate) cuts: Vec<u32>,
}

/// Splits sorted versions, batch after batch.
#[derive(Debug)]
pub(crate) struct Splitter {
    rules: SplitRules,
    window_days: u32,
    /// Of a run of history that is rewritten: all versions are superseded.
    superseded: Option<Superseded>,
    /// Key of the version before.
    last: Option<Box<[u8]>>,
    /// Of that key: when the last of its versions was recorded that hides older ones from now on.
    superseding: Option<Stamp>,
    /// Of that key: whether what is older is erased.
    erasing: bool,
    /// Of that key: superseded versions kept so far, and whether it was cut.
    kept: u32,
    cut: bool,
}

/// A batch of versions to be split, as columns.
#[derive(Clone, Copy)]
pub(crate) struct ToSplit<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) recorded: &'a [u64],
    pub(crate) kinds: &'a [u8],
    /// Since when and until when each is true.
    pub(crate) valid: (&'a [i64], &'a [i64]),
    /// Rows that are expired; `None`: none is.
    pub(crate) expired: Option<&'a BooleanBuffer>,
}

impl ToSplit<'_> {
    /// Whether nothing older of the key is true any more from when the version was recorded.
    /// Versions that are true for other periods leave something.
    fn hides_older(&self, row: usize) -> bool {
        let valid = (self.valid.0[row], self.valid.1[row]);
        hides_older(Stamp(self.recorded[row]), valid)
    }
}

/// Whether nothing older of its key is true any more from when a version was recorded, which is
/// true since and until two moments.
pub(crate) fn hides_older(recorded: Stamp, (from, to): (i64, i64)) -> bool {
    to == Period::UNTIL_CHANGED && from <= recorded.micros()
}

enum Fate {
    Newest,
    History(Superseded),
    Cut(Superseded),
    Dropped,
}

impl Splitter {
    /// For versions recorded from `first` to `last` that may be current.
    pub(crate) fn new(first: Stamp, last: Stamp, rules: SplitRules) -> Splitter {
        let window_days = match rules.retained.keep {
            // Old versions are counted over all of a key's history, so it stays together.
            Some(_) => WHOLE_HISTORY_DAYS,
            None => window_days(first, last),
        };
        Splitter {
            rules,
            window_days,
            superseded: None,
            last: None,
            superseding: None,
            erasing: false,
            kept: 0,
            cut: false,
        }
    }

    /// For the versions of runs of history.
    pub(crate) fn of_history(superseded: Superseded, rules: SplitRules) -> Splitter {
        Splitter {
            superseded: Some(superseded),
            ..Splitter::new(Stamp::MIN, Stamp::MIN, rules)
        }
    }

    /// What need not be written any more.
    pub(crate) fn retained(&self) -> &Retained {
        &self.rules.retained
    }

    /// Where the next versions go, which follow all split before by (key, newest
    /// first).
    pub(crate) fn split(&mut self, batch: ToSplit<'_>) -> Split {
        let mut split = Split {
            all_newest: true,
            ..Split::default()
        };
        for row in 0..batch.recorded.len() {
            let fate = self.fate(batch, row);
            split.add(row as u32, fate);
        }
        if let Some(last) = batch.recorded.len().checked_sub(1) {
            self.last = Some(batch.keys.get(last).into());
        }
        split
    }

    fn fate(&mut self, batch: ToSplit<'_>, row: usize) -> Fate {
        let key = batch.keys.get(row);
        let before = match row {
            0 => self.last.as_deref(),
            _ => Some(batch.keys.get(row - 1)),
        };
        if before != Some(key) {
            (self.superseding, self.kept, self.cut) = (None, 0, false);
            self.erasing = false;
        }
        let superseded = self.superseding;
        let (recorded, kind) = (Stamp(batch.recorded[row]), batch.kinds[row]);
        if self.erasing || self.rules.erased.has(key, recorded) {
            return Fate::Dropped;
        }
        if kind == ERASE {
            // It stays with the newest versions, whatever is newer: readers of any time need it.
            self.erasing = true;
            let is_done =
                recorded < self.rules.forget_erasures && self.rules.erased.is_of(key, recorded);
            return match is_done {
                true => Fate::Dropped,
                false => Fate::Newest,
            };
        }
        let hides_older = batch.hides_older(row);
        if hides_older {
            self.superseding = Some(recorded);
        }
        let horizon = self.rules.retained.history;
        let expired = batch.expired.is_some_and(|expired| expired.value(row));
        let ended = ended_by(&self.rules.truncated, recorded);
        if expired || ended <= horizon || superseded.is_some_and(|at| at <= horizon) {
            return Fate::Dropped;
        }
        let place = match (self.superseded, superseded) {
            (Some(run), _) => run,
            (None, Some(at)) => Superseded::at(at, self.window_days),
            (None, None) => {
                let is_delete = kind != Kind::Put as u8 && hides_older;
                let forgotten = is_delete && recorded <= self.rules.forget_deletes;
                return if forgotten {
                    Fate::Dropped
                } else {
                    Fate::Newest
                };
            }
        };
        self.fate_of_superseded(kind, place)
    }

    fn fate_of_superseded(&mut self, kind: u8, place: Superseded) -> Fate {
        if self.cut {
            return Fate::Dropped;
        }
        if kind == CUT {
            self.cut = true;
            return Fate::History(place);
        }
        if self.rules.retained.keep.is_none_or(|keep| self.kept < keep) {
            self.kept += 1;
            return Fate::History(place);
        }
        self.cut = true;
        Fate::Cut(place)
    }
}

impl Split {
    fn add(&mut self, row: u32, fate: Fate) {
        if self.all_newest {
            if let Fate::Newest = fate {
                return;
            }
            // Until now every row was newest, and none was noted.
            self.all_newest = false;
            self.newest = (0..row).collect();
        }
        match fate {
            Fate::Newest => self.newest.push(row),
            Fate::Dropped => {}
            Fate::History(place) => self.add_history(row, place),
            Fate::Cut(place) => {
                self.cuts.push(row);
                self.add_history(row, place);
            }
        }
    }

    fn add_history(&mut self, row: u32, at: Superseded) {
        let window = at.window();
        match self.history.iter_mut().find(|(w, _, _)| *w == window) {
            Some((_, superseded, rows)) => {
                *superseded = superseded.with(at);
                rows.push(row);
            }
            None => self.history.push((window, at, vec![row])),
        }
    }
}

#[cfg(test)]
mod tests {
    use chronos_model::{TableId, TableOptions};
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

    fn rules() -> SplitRules {
        let options = TableOptions::default();
        SplitRules {
            retained: Retained::of(&schema(options), 0),
            truncated: Arc::from([]),
            forget_deletes: Stamp::MIN,
            erased: Erased::default(),
            forget_erasures: Stamp::MIN,
        }
    }

    fn schema(options: TableOptions) -> TableSchema {
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: vec![],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![],
            options,
        }
    }

    /// All true from the beginning until changed.
    fn open(count: usize) -> (&'static [i64], &'static [i64]) {
        (&[0; 16][..count], &[Period::UNTIL_CHANGED; 16][..count])
    }

    fn split(splitter: &mut Splitter, names: &[&str], stamps: &[u64]) -> Split {
        splitter.split(ToSplit {
            keys: &keys(names),
            recorded: stamps,
            kinds: &vec![0; stamps.len()],
            valid: open(stamps.len()),
            expired: None,
        })
    }

    #[test]
    fn older_versions_go_to_the_window_in_which_they_were_superseded() {
        let mut splitter = Splitter::new(at(10, 0), at(12, 5), rules());
        let stamps = [at(12, 5), at(10, 7), at(10, 3), at(11, 0)].map(|s| s.0);
        let first = split(&mut splitter, &["a", "a", "a", "b"], &stamps);
        assert_eq!(first.newest, [0, 3]);
        let windows: Vec<_> = first
            .history
            .iter()
            .map(|(w, s, rows)| (w.end_day() - 1, s.last, rows.clone()))
            .collect();
        let expected = [(12, at(12, 5).0, vec![1]), (10, at(10, 7).0, vec![2])];
        assert_eq!(windows, expected);
        // The next batch goes on with the key of the last.
        let next = split(&mut splitter, &["b", "c"], &[at(10, 0).0, at(10, 1).0]);
        assert_eq!(next.newest, [1]);
        assert_eq!(next.history[0].2, [0]);
    }

    #[test]
    fn without_history_nothing_is_listed() {
        let mut splitter = Splitter::new(at(1, 0), at(1, 9), rules());
        let all = split(&mut splitter, &["a", "b"], &[at(1, 1).0, at(1, 2).0]);
        let expected = Split {
            all_newest: true,
            ..Split::default()
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn of_many_old_versions_so_many_stay_and_a_cut() {
        let mut rules = rules();
        rules.retained.keep = Some(2);
        let mut splitter = Splitter::new(at(1, 0), at(1, 9), rules);
        let stamps: Vec<u64> = (0..7).rev().map(|i| at(1, i).0).collect();
        let first = split(&mut splitter, &["a"; 5], &stamps[..5]);
        assert_eq!((first.newest, first.cuts), (vec![0], vec![3]));
        assert_eq!(first.history[0].2, [1, 2, 3]);
        // The older ones of the key are behind the cut, another key has its own.
        let next = split(&mut splitter, &["a", "b"], &stamps[5..]);
        assert_eq!((next.newest, next.history.len()), (vec![1], 0));
    }

    #[test]
    fn what_was_superseded_before_the_horizon_is_dropped() {
        let mut rules = rules();
        rules.retained.history = at(1, 5);
        rules.truncated = Arc::from([at(1, 2)]);
        rules.forget_deletes = at(1, 4);
        let mut splitter = Splitter::new(at(1, 0), at(1, 9), rules);
        let names = ["a", "a", "a", "b", "c", "d"];
        let split = splitter.split(ToSplit {
            keys: &keys(&names),
            recorded: &[6, 5, 4, 1, 4, 5].map(|i| at(1, i).0),
            kinds: &[0, 0, 0, 0, 1, 1],
            valid: open(6),
            expired: None,
        });
        // a@5 was seen until 6; b ended with the truncation; c's delete hides nothing.
        assert_eq!(split.newest, [0, 5]);
        assert_eq!(split.history[0].2, [1]);
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
