//! Which segments to merge: size-tiered.
//!
//! Segments of like size form a tier; when a tier has [`TIER_SEGMENTS`] of them, they
//! become one segment of the next tier. Every version is therefore rewritten about
//! log4(data / flush size) times, and a table has at most a few segments per tier.
//! (O'Neil et al., "The Log-Structured Merge-Tree", 1996; tiering as in Cassandra's
//! SizeTieredCompactionStrategy.)

use crate::segment::SegmentId;

/// So many segments of like size are merged.
pub(crate) const TIER_SEGMENTS: usize = 4;
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

/// The segments of one table to merge now, smallest tier first, oldest segments
/// first; empty: none.
pub(crate) fn choose(segments: &[Candidate]) -> Vec<SegmentId> {
    let mut by_tier: Vec<(u32, SegmentId)> =
        segments.iter().map(|s| (tier(s.bytes), s.id)).collect();
    by_tier.sort_unstable();
    by_tier
        .chunk_by(|a, b| a.0 == b.0)
        .find(|tier| tier.len() >= TIER_SEGMENTS)
        .map(|tier| tier.iter().take(INPUTS_MAX).map(|(_, id)| *id).collect())
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

    proptest! {
        /// Whatever is flushed, compaction comes to an end, leaves few segments, and
        /// rewrites each byte a logarithmic number of times.
        #[test]
        fn compaction_ends_with_few_segments(flushes in prop::collection::vec(1u64..(64 << 20), 1..200)) {
            let mut segments: Vec<Candidate> = Vec::new();
            let mut next = 0;
            let (mut flushed, mut rewritten) = (0u64, 0u64);
            for bytes in flushes {
                flushed += bytes;
                segments.push(Candidate { id: SegmentId(next), bytes });
                next += 1;
                loop {
                    let chosen = choose(&segments);
                    if chosen.is_empty() {
                        break;
                    }
                    prop_assert!(chosen.len() >= TIER_SEGMENTS && chosen.len() <= INPUTS_MAX);
                    let inputs = segments.iter().filter(|s| chosen.contains(&s.id));
                    let bytes: u64 = inputs.map(|s| s.bytes).sum();
                    rewritten += bytes;
                    segments.retain(|s| !chosen.contains(&s.id));
                    segments.push(Candidate { id: SegmentId(next), bytes });
                    next += 1;
                }
                let tiers = u64::from(tier(flushed)) + 1;
                prop_assert!(segments.len() as u64 <= tiers * (TIER_SEGMENTS as u64 - 1));
                prop_assert!(rewritten <= flushed * tiers);
            }
        }
    }
}
