//! How much of its log a member keeps for others that are behind: up to so many bytes, and not
//! for longer than so long. A leader keeps more for followers that answer: who is being sent a
//! checkpoint needs what comes after it, or the next one would have to follow at once.
//!
//! ```text
//!   first          noted 25 h ago    noted 24 h ago           flushed        last
//!     |------ too old ----|----------------|----- kept -----------|------------|
//!                                          `-- everything up to here may go
//! ```
//!
//! How old an entry is follows from notes, made from time to time, of where the log ended: what was
//! there at a note is at least as old as the note. Times are of a clock that never jumps, and no
//! longer known after a restart: what is found then counts as written at the start.

use std::collections::VecDeque;
use std::time::Duration;

use chronos_store::log::LogIndex;

/// Notes within the time for which entries are kept: an entry is let go of so much of it later, at
/// most.
const NOTES: u32 = 16;

/// A leader keeps so many times as many bytes for followers that answer and lack them.
const TIMES_FOR_FOLLOWERS: u64 = 4;

/// What a member keeps of its log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// Entries of the last so long.
    pub(super) age: Duration,
}

/// A log at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    /// Its first entry.
    pub(super) first: LogIndex,
    /// Its last entry.
    pub(super) last: LogIndex,
    /// Bytes of its files.
    pub(super) bytes: u64,
}

/// Up to where a log is to be cut, once that is flushed; `None`: it stays as it is. `followed`: what
/// all followers have that answer, if this member leads.
pub(super) fn cut_upto(
    length: Length,
    old: Option<LogIndex>,
    keep: Keep,
    followed: Option<LogIndex>,
) -> Option<LogIndex> {
    let half = LogIndex(length.first.0 + (length.last.0 - length.first.0) / 2);
    let long = (length.bytes > keep.bytes).then_some(half);
    let most = keep.bytes.saturating_mul(TIMES_FOR_FOLLOWERS);
    let lacking = followed.filter(|_| length.bytes <= most);
    let upto = long.max(old)?;
    let upto = lacking.map_or(upto, |followed| upto.min(followed));
    Some(upto).filter(|upto| *upto >= length.first)
}

/// Where the log ended, and when.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// Ascending in both: nanoseconds, and the last index then.
    notes: VecDeque<(u64, LogIndex)>,
}

impl Ages {
    /// Notes where the log ends now, unless that was noted a moment ago, and gives the last entry
    /// that is older than `age`.
    pub(super) fn look(
        &mut self,
        now_nanos: u64,
        last: LogIndex,
        age: Duration,
    ) -> Option<LogIndex> {
        let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let since = |at: u64| now_nanos.saturating_sub(at);
        let is_due = |(at, noted): &(u64, LogIndex)| {
            since(*at) >= nanos / u64::from(NOTES) && *noted != last
        };
        if self.notes.back().is_none_or(is_due) {
            self.notes.push_back((now_nanos, last));
        }
        let old = self.notes.iter().take_while(|(at, _)| since(*at) >= nanos);
        let old = old.count();
        // The last of them stays: it goes on saying the same.
        self.notes.drain(..old.saturating_sub(1));
        let (at, index) = *self.notes.front()?;
        // A log that was cut off behind it and written anew has younger entries there.
        (since(at) >= nanos).then_some(index.min(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;
    const KEEP: Duration = Duration::from_nanos(24 * HOUR);

    fn length(first: u64, last: u64, bytes: u64) -> Length {
        Length {
            first: LogIndex(first),
            last: LogIndex(last),
            bytes,
        }
    }

    fn cut_followed(length: Length, old: Option<u64>, followed: Option<u64>) -> Option<u64> {
        let keep = Keep {
            bytes: 1_000,
            age: KEEP,
        };
        let upto = cut_upto(length, old.map(LogIndex), keep, followed.map(LogIndex));
        upto.map(|index| index.0)
    }

    fn cut(length: Length, old: Option<u64>) -> Option<u64> {
        cut_followed(length, old, None)
    }

    #[test]
    fn more_is_kept_for_followers_that_answer_but_not_everything() {
        let long = length(1, 101, 1_001);
        assert_eq!(cut_followed(long, Some(60), Some(101)), Some(60));
        assert_eq!(cut_followed(long, Some(60), Some(30)), Some(30));
        assert_eq!(cut_followed(long, None, Some(0)), None);
        assert_eq!(cut_followed(length(1, 101, 4_000), None, Some(0)), None);
        assert_eq!(cut_followed(length(1, 101, 4_001), None, Some(0)), Some(51));
    }

    #[test]
    fn a_log_is_cut_by_its_size_or_by_the_age_of_its_entries_whichever_goes_further() {
        assert_eq!(cut(length(1, 100, 1_000), None), None);
        assert_eq!(cut(length(1, 101, 1_001), None), Some(51));
        assert_eq!(cut(length(1, 100, 10), Some(7)), Some(7));
        assert_eq!(cut(length(1, 100, 10), Some(100)), Some(100));
        assert_eq!(cut(length(1, 101, 1_001), Some(7)), Some(51));
        assert_eq!(cut(length(1, 101, 1_001), Some(99)), Some(99));
        // It is gone already.
        assert_eq!(cut(length(50, 100, 10), Some(49)), None);
        assert_eq!(cut(length(50, 50, 10), Some(50)), Some(50));
    }

    #[test]
    fn entries_are_as_old_as_the_note_that_has_them() {
        let mut ages = Ages::default();
        // What was there at the start, ten entries an hour.
        for hour in 0..24 {
            let last = LogIndex(1_000 + 10 * hour);
            assert_eq!(ages.look(hour * HOUR, last, KEEP), None, "{hour}");
        }
        for hour in 24..100 {
            let old = ages.look(hour * HOUR, LogIndex(1_000 + 10 * hour), KEEP);
            let old = old.unwrap().0;
            // Notes are an hour and a half apart, or here two hours.
            let exact = 1_000 + 10 * (hour - 24);
            assert!(old <= exact && old + 20 > exact, "{hour}: {old}");
            assert!(ages.notes.len() <= NOTES as usize + 1);
        }
    }

    #[test]
    fn entries_of_a_log_that_does_not_grow_grow_old() {
        let mut ages = Ages::default();
        assert_eq!(ages.look(5, LogIndex(9), KEEP), None);
        assert_eq!(ages.look(24 * HOUR + 4, LogIndex(9), KEEP), None);
        for later in [0, HOUR, 1_000 * HOUR] {
            let now = 24 * HOUR + 5 + later;
            assert_eq!(ages.look(now, LogIndex(9), KEEP), Some(LogIndex(9)));
        }
        // One more is as young as it is, whatever happened before.
        let now = 2_000 * HOUR;
        assert_eq!(ages.look(now, LogIndex(10), KEEP), Some(LogIndex(9)));
        assert_eq!(
            ages.look(now + 23 * HOUR, LogIndex(10), KEEP),
            Some(LogIndex(9))
        );
        assert_eq!(
            ages.look(now + 24 * HOUR, LogIndex(10), KEEP),
            Some(LogIndex(10))
        );
        // Entries that were never committed were taken out of it.
        assert_eq!(
            ages.look(now + 24 * HOUR, LogIndex(3), KEEP),
            Some(LogIndex(3))
        );
    }

    #[test]
    fn looking_often_takes_no_more_notes() {
        let mut ages = Ages::default();
        for look in 0..100_000 {
            ages.look(look * HOUR / 1_000, LogIndex(look), KEEP);
            assert!(ages.notes.len() <= NOTES as usize + 2);
        }
    }
}
