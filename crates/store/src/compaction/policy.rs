//! Which segments to merge: size-tiered, history apart.
//!
//! Segments of like size form a tier; when a tier has [`TIER_SEGMENTS`] of them, they
//! become one segment of the next tier. Every version is therefore rewritten about
//! log4(data / flush size) times, and a table has at most a few segments per tier.
//! (O'Neil et al., "The Log-Structured Merge-Tree", 1996; tiering as in Cassandra's
//! SizeTieredCompactionStrategy.)
//!
//! Segments that may hold current versions are one such family, or one for each bucket of
//! time; the runs of each window of history are another. A window or bucket to which later
//! ones have followed gets little more, so two runs of a tier suffice there: many windows
//! with few runs each.
//!
//! What retention no longer keeps goes first: whole segments at once, and a segment half of
//! which is gone is rewritten.

use crate::buckets::Bucket;
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

/// A window whose expired share of rows is this large is rewritten without them.
const EXPIRED_SHARE_MAX: f64 = 0.5;

/// What the policy knows of a segment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: SegmentId,
    pub(crate) bytes: u64,
    /// Of a run of history; `None`: it may hold current versions.
    pub(crate) window: Option<Window>,
    /// The window of time that its rows are in.
    pub(crate) bucket: Option<Bucket>,
    /// The share of its versions of which it is known that they are no longer kept; 1: all.
    pub(crate) expired: f64,
}

/// What to do with segments of one table.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Decision {
    /// Nothing in them is kept any more.
    Drop(Vec<SegmentId>),
    /// They become one; of a single one, what is kept of it.
    Merge(Vec<SegmentId>),
}

/// Segments of a family have the same window and bucket; only they are merged.
type Family = (Option<Window>, Option<Bucket>);

fn tier(bytes: u64) -> u32 {
    let mut tier = 0;
    let mut limit = SMALLEST_BYTES;
    while bytes > limit {
        limit = limit.saturating_mul(TIER_FACTOR);
        tier += 1;
    }
    tier
}

/// What to do now, if anything. What is expired goes first: it costs next to nothing. Of
/// merges, those of segments that may hold current versions and small ones come first, oldest
/// first.
pub(crate) fn choose(segments: &[Candidate]) -> Option<Decision> {
    let gone = segments.iter().filter(|s| s.expired >= 1.0);
    let gone: Vec<SegmentId> = gone.map(|s| s.id).collect();
    if !gone.is_empty() {
        return Some(Decision::Drop(gone));
    }
    if let Some(stale) = segments.iter().find(|s| s.expired >= EXPIRED_SHARE_MAX) {
        return Some(Decision::Merge(vec![stale.id]));
    }
    full_tier(segments).map(Decision::Merge)
}

fn full_tier(segments: &[Candidate]) -> Option<Vec<SegmentId>> {
    let windows = segments.iter().filter_map(|s| s.window);
    let last_day = windows.map(Window::end_day).max().unwrap_or(i64::MIN);
    let buckets = segments.iter().filter_map(|s| s.bucket);
    let last_time = buckets.map(Bucket::end).max().unwrap_or(i64::MIN);
    let is_over = |(window, bucket): Family| match (window, bucket) {
        (Some(window), _) => window.end_day() < last_day,
        (None, Some(bucket)) => bucket.end() < last_time,
        (None, None) => false,
    };
    let enough = |family: Family| match is_over(family) {
        true => CLOSED_TIER_SEGMENTS,
        false => TIER_SEGMENTS,
    };
    let mut by_tier: Vec<(Family, u32, SegmentId)> = segments
        .iter()
        .map(|s| ((s.window, s.bucket), tier(s.bytes), s.id))
        .collect();
    by_tier.sort_unstable();
    by_tier
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .find(|tier| tier.len() >= enough(tier[0].0))
        .map(|tier| tier.iter().take(INPUTS_MAX).map(|(.., id)| *id).collect())
}

/// The segments of each family that a full compaction merges: all there are, also a single
/// one if something of it may have to go.
pub(crate) fn families(segments: &[Candidate], singles_too: bool) -> Vec<Vec<SegmentId>> {
    let mut by_family: Vec<(Family, SegmentId)> = segments
        .iter()
        .map(|s| ((s.window, s.bucket), s.id))
        .collect();
    by_family.sort_unstable();
    by_family
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|family| singles_too || family.len() > 1)
        .map(|family| family.iter().map(|(_, id)| *id).collect())
        .collect()
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
            bucket: None,
            expired: 0.0,
        };
        sizes.iter().enumerate().map(candidate).collect()
    }

    fn merge(ids: &[u64]) -> Option<Decision> {
        Some(Decision::Merge(
            ids.iter().map(|id| SegmentId(*id)).collect(),
        ))
    }

    #[test]
    fn a_tier_is_merged_when_it_is_full() {
        const MIB: u64 = 1 << 20;
        assert_eq!(choose(&of(&[])), None);
        assert_eq!(choose(&of(&[MIB, MIB, MIB, 300 * MIB])), None);
        let chosen = choose(&of(&[90 * MIB, MIB, 2, 3, 4 * MIB, 5]));
        assert_eq!(chosen, merge(&[1, 2, 3, 5]));
    }

    #[test]
    fn what_is_expired_goes_first() {
        let mut segments = of(&[5, 5, 5, 5, 5]);
        segments[3].expired = 0.5;
        assert_eq!(choose(&segments), merge(&[3]));
        segments[1].expired = 1.0;
        let dropped = Decision::Drop(vec![SegmentId(1)]);
        assert_eq!(choose(&segments), Some(dropped));
    }

    #[test]
    fn buckets_are_merged_apart_and_past_ones_sooner() {
        let mut segments = of(&[5; 5]);
        let hour = |number| {
            Some(Bucket {
                micros: 3600,
                number,
            })
        };
        for (segment, number) in segments.iter_mut().zip([1, 2, 1, 2, 2]) {
            segment.bucket = hour(number);
        }
        assert_eq!(choose(&segments), merge(&[0, 2]));
        segments[0].bucket = hour(0);
        assert_eq!(choose(&segments), None);
        let all = families(&segments, true);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 3]);
        assert_eq!(families(&segments, false).len(), 1);
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
        assert_eq!(choose(&open), None);
        let closed = in_windows(&[None, day(3), None, day(3), None, day(4)]);
        assert_eq!(choose(&closed), merge(&[1, 3]));
        let current = in_windows(&[None, day(3), None, day(3), None, day(4), None]);
        assert_eq!(choose(&current), merge(&[0, 2, 4, 6]));
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
                let candidate = |next, bytes, window| Candidate {
                    id: SegmentId(next), bytes, window, bucket: None, expired: 0.0,
                };
                segments.push(candidate(next, bytes, window));
                next += 1;
                while let Some(Decision::Merge(chosen)) = choose(&segments) {
                    prop_assert!(chosen.len() >= CLOSED_TIER_SEGMENTS && chosen.len() <= INPUTS_MAX);
                    let inputs = || segments.iter().filter(|s| chosen.contains(&s.id));
                    let bytes: u64 = inputs().map(|s| s.bytes).sum();
                    let window = inputs().next().and_then(|s| s.window);
                    prop_assert!(inputs().all(|s| s.window == window));
                    rewritten += bytes;
                    segments.retain(|s| !chosen.contains(&s.id));
                    segments.push(candidate(next, bytes, window));
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
