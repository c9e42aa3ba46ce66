//! The valid time of one key, as the versions of it divide it up.
//!
//! A version takes for its period what older ones said of it. A *piece* is what came of that: a
//! version, for a stretch of valid time that is its own, from when it came to be so to when a
//! newer version took some of it (what is left is another piece, recorded at that moment, as
//! SQL:2011 has it for UPDATE FOR PORTION OF). At any moment of system time the pieces of a key
//! do not overlap.
//!
//! Versions come newest first. For each stretch of valid time the timeline knows when it was
//! first covered by one of those that came, which is when an older version ended there. It
//! needs as much memory as the key's valid time has stretches, however many versions there are.

use chronos_model::{Period, Stamp};

use super::resolve::Resolution;
use crate::scan::ValidFilter;

/// A version for a stretch of valid time and of system time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Piece {
    pub(crate) valid: Period,
    pub(crate) system_from: Stamp,
    /// `MAX`: still so.
    pub(crate) system_to: Stamp,
}

/// Which pieces are seen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct PieceFilter {
    pub(crate) system: Resolution,
    pub(crate) valid: ValidFilter,
}

impl PieceFilter {
    /// Whether pieces of a system time that begins there, or later, may be seen.
    fn sees_from(&self, from: Stamp) -> bool {
        match self.system {
            Resolution::Snapshot { at } => from <= at,
            Resolution::History {
                to, inclusive_to, ..
            } => from < to || (inclusive_to && from == to),
            Resolution::Everything => true,
        }
    }

    /// Whether pieces of a system time that ends there, or later, may be seen.
    fn sees_to(&self, to: Stamp) -> bool {
        match self.system {
            Resolution::Snapshot { at } => to > at || to == Stamp::MAX,
            Resolution::History { from, .. } => to > from,
            Resolution::Everything => true,
        }
    }

    /// What ended at this moment, or before, is not seen.
    fn first(&self) -> Stamp {
        match self.system {
            Resolution::Snapshot { at } => at,
            Resolution::History { from, .. } => from,
            Resolution::Everything => Stamp::MIN,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Covered {
    valid: Period,
    since: Stamp,
}

/// What the newer versions of a key cover.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Ascending and disjoint.
    covered: Vec<Covered>,
    /// Stretches still to be looked at.
    open: Vec<(Period, Stamp)>,
}

impl Timeline {
    pub(crate) fn clear(&mut self) {
        self.covered.clear();
    }

    /// The covered stretches that overlap a period.
    fn within(&self, period: Period) -> &[Covered] {
        let start = self.covered.partition_point(|c| c.valid.to <= period.from);
        let rest = &self.covered[start..];
        &rest[..rest.partition_point(|c| c.valid.from < period.to)]
    }

    /// Whether nothing that an older version says can be seen.
    pub(crate) fn is_decided(&self, filter: &PieceFilter) -> bool {
        let window = filter.valid.window();
        let limit = filter.first();
        let mut from = window.from;
        for covered in self.within(window) {
            if covered.valid.from > from || covered.since > limit {
                return false;
            }
            from = covered.valid.to;
        }
        from >= window.to
    }

    /// Calls `give` with those pieces of the next version that are seen. What is left of it at
    /// `ended` ends there.
    pub(crate) fn pieces(
        &mut self,
        valid: Period,
        recorded: Stamp,
        ended: Stamp,
        filter: &PieceFilter,
        mut give: impl FnMut(Piece),
    ) {
        let mut open = std::mem::take(&mut self.open);
        open.push((valid, recorded));
        while let Some((valid, system_from)) = open.pop() {
            if !filter.valid.sees(valid) || !filter.sees_from(system_from) {
                continue;
            }
            let within = self.within(valid);
            let cut = within.iter().map(|c| c.since).min();
            let system_to = cut.unwrap_or(Stamp::MAX).min(ended);
            // What was so for no microsecond, within a commit, was never so.
            let lasted = system_to == Stamp::MAX || system_from.micros() < system_to.micros();
            if lasted && filter.sees_to(system_to) {
                give(Piece {
                    valid,
                    system_from,
                    system_to,
                });
            }
            if system_to == ended || filter.valid == ValidFilter::Written {
                continue;
            }
            let mut from = valid.from;
            for covered in within.iter().filter(|c| c.since <= system_to) {
                let to = covered.valid.from;
                if from < to {
                    open.push((Period { from, to }, system_to));
                }
                from = covered.valid.to;
            }
            if from < valid.to {
                let to = valid.to;
                open.push((Period { from, to }, system_to));
            }
        }
        self.open = open;
    }

    /// Takes note of a version that the pieces of older ones end at.
    pub(crate) fn cover(&mut self, valid: Period, since: Stamp) {
        let start = self.covered.partition_point(|c| c.valid.to <= valid.from);
        let end = start + self.within(valid).len();
        let mut new = Vec::with_capacity(3);
        if let Some(first) = self.covered[start..end].first() {
            if first.valid.from < valid.from {
                let valid = Period {
                    to: valid.from,
                    ..first.valid
                };
                new.push(Covered { valid, ..*first });
            }
        }
        new.push(Covered { valid, since });
        if let Some(last) = self.covered[start..end].last() {
            if last.valid.to > valid.to {
                let valid = Period {
                    from: valid.to,
                    ..last.valid
                };
                new.push(Covered { valid, ..*last });
            }
        }
        self.covered.splice(start..end, new);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAST: i64 = 12;

    fn at(micros: u64) -> Stamp {
        Stamp::from_micros(micros)
    }

    fn all(valid: ValidFilter) -> PieceFilter {
        PieceFilter {
            system: Resolution::History {
                from: Stamp::MIN,
                to: Stamp::MAX,
                inclusive_to: true,
            },
            valid,
        }
    }

    /// The pieces of versions given oldest first, recorded at 1, 2, ..
    fn pieces(versions: &[Period], filter: &PieceFilter) -> Vec<(usize, Piece)> {
        let mut timeline = Timeline::default();
        let mut found = Vec::new();
        for (i, valid) in versions.iter().enumerate().rev() {
            let recorded = at(i as u64 + 1);
            if timeline.is_decided(filter) {
                break;
            }
            timeline.pieces(*valid, recorded, Stamp::MAX, filter, |piece| {
                found.push((i, piece));
            });
            timeline.cover(*valid, recorded);
        }
        found.sort_by_key(|(i, p)| (*i, p.system_from, p.valid.from));
        found
    }

    /// Replays the versions, oldest first, moment by moment.
    fn naive(versions: &[Period]) -> Vec<(usize, Piece)> {
        let mut live: Vec<(usize, Piece)> = Vec::new();
        let mut ended = Vec::new();
        for (i, valid) in versions.iter().enumerate() {
            let now = at(i as u64 + 1);
            let touched: Vec<_> = live
                .extract_if(.., |(_, p)| p.valid.overlaps(*valid))
                .collect();
            for (version, piece) in touched {
                let system_to = now;
                ended.push((version, Piece { system_to, ..piece }));
                let left = Period {
                    to: valid.from,
                    ..piece.valid
                };
                let right = Period {
                    from: valid.to,
                    ..piece.valid
                };
                for valid in [left, right].into_iter().filter(|p| !p.is_empty()) {
                    let system_from = now;
                    let rest = Piece {
                        valid,
                        system_from,
                        ..piece
                    };
                    live.push((version, rest));
                }
            }
            let whole = Piece {
                valid: *valid,
                system_from: now,
                system_to: Stamp::MAX,
            };
            live.push((i, whole));
        }
        ended.extend(live);
        ended.sort_by_key(|(i, p)| (*i, p.system_from, p.valid.from));
        ended
    }

    fn period() -> impl Strategy<Value = Period> {
        let end = prop_oneof![4 => 1..=LAST, 1 => Just(Period::UNTIL_CHANGED)];
        (0..LAST, end).prop_filter_map("empty", |(from, to)| {
            let period = Period { from, to };
            (!period.is_empty()).then_some(period)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_are_those_of_a_replay(versions in prop::collection::vec(period(), 0..9), moment in 0..LAST, stamp in 0u64..10) {
            let expected = naive(&versions);
            prop_assert_eq!(&pieces(&versions, &all(ValidFilter::All)), &expected);
            let of_moment = |p: &Piece| p.valid.contains(moment);
            let at_moment: Vec<_> = expected.iter().copied().filter(|(_, p)| of_moment(p)).collect();
            prop_assert_eq!(pieces(&versions, &all(ValidFilter::AsOf(moment))), at_moment);
            let snapshot = PieceFilter {
                system: Resolution::Snapshot { at: at(stamp) },
                valid: ValidFilter::Between { from: moment, to: moment + 3, inclusive_to: false },
            };
            let seen = |p: &Piece| p.system_from <= at(stamp) && p.system_to > at(stamp)
                && p.valid.from < moment + 3 && p.valid.to > moment;
            let at_stamp: Vec<_> = expected.iter().copied().filter(|(_, p)| seen(p)).collect();
            prop_assert_eq!(pieces(&versions, &snapshot), at_stamp);
        }
    }

    #[test]
    fn a_row_that_is_updated_from_now_on_takes_no_memory() {
        let mut timeline = Timeline::default();
        let mut count = 0;
        for i in (1..1000u64).rev() {
            let valid = Period {
                from: i as i64,
                to: Period::UNTIL_CHANGED,
            };
            let filter = all(ValidFilter::All);
            timeline.pieces(valid, at(i), Stamp::MAX, &filter, |_| count += 1);
            timeline.cover(valid, at(i));
            assert_eq!(timeline.covered.len(), 1);
        }
        // Each but the newest as it was first, and as it was left.
        assert_eq!(count, 2 * 998 + 1);
    }
}
