//! Which segments to merge: size-tiered, history apart.
//!
//! Segments of like size form a tier; when a tier has [`TIER_SEGMENTS`] of them, they
//! become one segment of the next tier. Every version is therefore rewritten about
//! log4(data / flush size) times, and a table has at most a few segments per tier.
//! (O'Neil et al., "The Log-Structured Merge-Tree", 1996; tiering as in Cassandra's
//! SizeTieredCompactionStrategy.)
//!
//! Segments that may hold current versions are one such family, the runs of each window
//! of history another. A window to which later ones have followed gets little more, so
//! two runs of a tier suffice there: many windows with few runs each.

use crate::history::Window;
use crate::segment::SegmentId;

/// So many segments of like size are merged.
pub(crate) const TIER_SEGMENTS: usize = 4;
/// The same, in a window of history that is over.
const CLOSED_TIER_SEGMENTS: usize = 2;
/// Segments merged at once, at most: each costs a page of memory per column.
const INPUTS_MAX: usize = 16;
/// Each tier holds segments up to so many times the size of those below.
const TIER_FACTOR: u64 = 4;
/// Segments up to this size are all in the lowest tier.
const SMALLEST_BYTES: u64 = 1 << 20;

/// What the policy knows of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: SegmentId,
    pub(crate) bytes: u64,
    /// Of a run of history; `None`: it may hold current versions.
    pub(crate) window: Option<Window>,
}

fn tier(bytes: u64) -> u32 {
    let mut tier = 0;
    let mut limit = SMALLEST_BYTES;
    while bytes > limit {
        limit = limit.saturating_mul(TIER_FACTOR);
        tier += 1;
    }
    tier
}

/// The segments of one table to merge now, those that may hold current versions and
/// small ones first, oldest first; empty: none.
pub(crate) fn choose(segments: &[Candidate]) -> Vec<SegmentId> {
    let last_day = segments
        .iter()
        .filter_map(|s| s.window)
        .map(Window::end_day);
    let last_day = last_day.max().unwrap_or(i64::MIN);
    let enough = |window: Option<Window>| match window {
        Some(window) if window.end_day() < last_day => CLOSED_TIER_SEGMENTS,
        _ => TIER_SEGMENTS,
    };
    let mut by_tier: Vec<(Option<Window>, u32, SegmentId)> = segments
        .iter()
        .map(|s| (s.window, tier(s.bytes), s.id))
        .collect();
    by_tier.sort_unstable();
    by_tier
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .find(|tier| tier.len() >= enough(tier[0].0))
        .map(|tier| tier.iter().take(INPUTS_MAX).map(|(.., id)| *id).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(sizes: &[u64]) -> Vec<Candidate> {
        let candidate = |(id, bytes): (usize, &u64)| Candidate {
            id: SegmentId(id as u64),
            bytes: *bytes,
            window: None,
        };
        sizes.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn a_tier_is_merged_when_it_is_full() {
        const MIB: u64 = 1 << 20;
        assert!(choose(&of(&[])).is_empty());
        assert!(choose(&of(&[MIB, MIB, MIB, 300 * MIB])).is_empty());
        let chosen = choose(&of(&[90 * MIB, MIB, 2, 3, 4 * MIB, 5]));
        assert_eq!(chosen, [1, 2, 3, 5].map(SegmentId));
    }

    #[test]
    fn windows_are_merged_apart_and_closed_ones_sooner() {
        let day = |number| Some(Window { days: 1, number });
        let in_windows = |windows: &[Option<Window>]| -> Vec<Candidate> {
            let mut segments = of(&vec![5; windows.len()]);
            for (segment, window) in segments.iter_mut().zip(windows) {
                segment.window = *window;
            }
            segments
        };
        let open = in_windows(&[None, None, None, day(3), day(3), day(3)]);
        assert!(choose(&open).is_empty());
        let closed = in_windows(&[None, day(3), None, day(3), None, day(4)]);
        assert_eq!(choose(&closed), [1, 3].map(SegmentId));
        let current = in_windows(&[None, day(3), None, day(3), None, day(4), None]);
        assert_eq!(choose(&current), [0, 2, 4, 6].map(SegmentId));
    }

    proptest! {
        /// Whatever is flushed, compaction comes to an end, leaves few segments, and
        /// rewrites each byte a logarithmic number of times.
        #[test]
        fn compaction_ends_with_few_segments(
            flushes in prop::collection::vec((1u64..(64 << 20), prop::option::of(0i64..4)), 1..200),
        ) {
            let mut segments: Vec<Candidate> = Vec::new();
            let mut next = 0;
            let (mut flushed, mut rewritten) = (0u64, 0u64);
            for (bytes, window) in flushes {
                let window = window.map(|number| Window { days: 1, number });
                flushed += bytes;
                segments.push(Candidate { id: SegmentId(next), bytes, window });
                next += 1;
                loop {
                    let chosen = choose(&segments);
                    if chosen.is_empty() {
                        break;
                    }
                    prop_assert!(chosen.len() >= CLOSED_TIER_SEGMENTS && chosen.len() <= INPUTS_MAX);
                    let inputs = || segments.iter().filter(|s| chosen.contains(&s.id));
                    let bytes: u64 = inputs().map(|s| s.bytes).sum();
                    let window = inputs().next().and_then(|s| s.window);
                    prop_assert!(inputs().all(|s| s.window == window));
                    rewritten += bytes;
                    segments.retain(|s| !chosen.contains(&s.id));
                    segments.push(Candidate { id: SegmentId(next), bytes, window });
                    next += 1;
                }
                let tiers = u64::from(tier(flushed)) + 1;
                for family in [None, Some(0), Some(1), Some(2), Some(3)] {
                    let family = family.map(|number| Window { days: 1, number });
                    let count = segments.iter().filter(|s| s.window == family).count() as u64;
                    prop_assert!(count <= tiers * (TIER_SEGMENTS as u64 - 1));
                }
                // Merges of two leave the tier after a few of them.
                let merges_per_tier = TIER_FACTOR + 1;
                prop_assert!(rewritten <= flushed * tiers * merges_per_tier);
            }
        }
    }
}
