//! Stretches sorted by where they begin, searched for those that meet another.

use std::ops::Range;

/// Stretches under one maximum, and maxima under one of the next level.
const FAN: usize = 16;

/// Stretches `[low, high]`, by group and low; both bounds are inclusive, and a stretch may be
/// reversed.
pub(super) struct Intervals {
    lows: Vec<i64>,
    highs: Vec<i64>,
    /// Which of the stretches given each was.
    rows: Vec<u32>,
    /// `maxima[l][i]` is the highest high of the `FAN^(l+1)` stretches from `i * FAN^(l+1)` on.
    maxima: Vec<Vec<i64>>,
}

impl Intervals {
    /// Bytes that each stretch takes.
    pub(super) const BYTES: usize = 8 + 8 + 4 + 1;

    /// Sorts the stretches; of each group, if there are any, where it stands. Those of groups from
    /// `groups` on are left out.
    pub(super) fn new(
        lows: &[i64],
        highs: &[i64],
        group_of: Option<&[u32]>,
        groups: u32,
    ) -> (Intervals, Vec<Range<usize>>) {
        let mut rows: Vec<u32> = (0..lows.len() as u32).collect();
        let mut ranges = Vec::new();
        match group_of {
            None => rows.sort_unstable_by_key(|row| lows[*row as usize]),
            Some(group_of) => {
                rows.retain(|row| group_of[*row as usize] < groups);
                rows.sort_unstable_by_key(|row| (group_of[*row as usize], lows[*row as usize]));
                let mut at = 0;
                for group in 0..groups {
                    let begin = at;
                    while rows.get(at).is_some_and(|r| group_of[*r as usize] == group) {
                        at += 1;
                    }
                    ranges.push(begin..at);
                }
            }
        }
        let sorted = |of: &[i64]| rows.iter().map(|row| of[*row as usize]).collect::<Vec<_>>();
        let (lows, highs) = (sorted(lows), sorted(highs));
        let mut maxima: Vec<Vec<i64>> = Vec::new();
        loop {
            let below = maxima.last().unwrap_or(&highs);
            if below.len() <= FAN {
                break;
            }
            let highest = |part: &[i64]| part.iter().copied().max().unwrap_or(i64::MIN);
            maxima.push(below.chunks(FAN).map(highest).collect());
        }
        let intervals = Intervals {
            lows,
            highs,
            rows,
            maxima,
        };
        (intervals, ranges)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Which of the stretches given stands at a place.
    pub(super) fn row(&self, place: usize) -> u32 {
        self.rows[place]
    }

    /// The part of a range whose stretches begin at `high` or before.
    pub(super) fn beginning_by(&self, range: Range<usize>, high: i64) -> Range<usize> {
        let within = &self.lows[range.clone()];
        range.start..range.start + within.partition_point(|low| *low <= high)
    }

    /// The first place in a range whose stretch ends at `low` or behind.
    pub(super) fn next(&self, range: Range<usize>, low: i64) -> Option<usize> {
        let mut at = range.start;
        'search: while at < range.end {
            // Over as much as a maximum allows.
            let (mut level, mut step) = (0, FAN);
            let mut passed = 0;
            while at.is_multiple_of(step) && level < self.maxima.len() {
                if self.maxima[level][at / step] >= low {
                    break;
                }
                passed = step;
                (level, step) = (level + 1, step * FAN);
            }
            if passed > 0 {
                at += passed;
                continue 'search;
            }
            if self.highs[at] >= low {
                return Some(at);
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_look_at_all_finds(
            stretches in prop::collection::vec((0_i64..200, -5_i64..40, 0_u32..4), 0..700),
            low in 0_i64..220,
            length in -5_i64..30,
            group in 0_u32..3,
        ) {
            let lows: Vec<i64> = stretches.iter().map(|s| s.0).collect();
            let highs: Vec<i64> = stretches.iter().map(|s| s.0 + s.1).collect();
            let groups: Vec<u32> = stretches.iter().map(|s| s.2).collect();
            let high = low + length;
            for grouped in [false, true] {
                let group_of = grouped.then_some(groups.as_slice());
                let (intervals, ranges) = Intervals::new(&lows, &highs, group_of, 3);
                let all = match grouped {
                    true => ranges[group as usize].clone(),
                    false => 0..intervals.len(),
                };
                let range = intervals.beginning_by(all, high);
                let (mut found, mut at) = (Vec::new(), range.start);
                while let Some(place) = intervals.next(at..range.end, low) {
                    found.push(intervals.row(place));
                    at = place + 1;
                }
                found.sort_unstable();
                let meets = |row: &u32| {
                    let row = *row as usize;
                    lows[row] <= high && highs[row] >= low && (!grouped || groups[row] == group)
                };
                let expected: Vec<u32> = (0..lows.len() as u32).filter(meets).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
