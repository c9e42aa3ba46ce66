//! Which chunks of a cluster need no merge although their intervals of keys meet: those
//! that certainly have no key in common, or none of which a version hides another's.
//!
//! Of two chunks that share a key the one with the newer version hides the older one. So
//! they are *apart* if
//!
//! ```text
//!   both hold first versions only     the newer version of a shared key would not be first
//!   one does, and the other is older  the same
//!   the values of a key column differ readings of the same devices at other times
//! ```
//!
//! Table after table of readings is made of first versions: late ones make the intervals
//! of its segments meet everywhere, and nothing of it is merged.

use std::ops::Bound;

use super::plan::{pass, Chunk, Item, Passing};
use crate::memtable::{key_of, Memtable};
use crate::merge::Source;

/// Lets those chunks of a cluster pass that are apart from all others and from the given
/// single rows; returns the rest, to be merged. Chunks are sorted by their first keys, and
/// pass by source.
pub(super) fn pass_apart<'a>(
    cluster: Vec<Chunk<'a>>,
    sources: &[Source],
    single_rows: &[usize],
    items: &mut Vec<Item>,
) -> Vec<Chunk<'a>> {
    let mut meets = meeting_others(&cluster, sources);
    for (chunk, meets) in cluster.iter().zip(&mut meets) {
        let mut rows = single_rows.iter();
        *meets = *meets || rows.any(|rows| meets_rows(chunk, &sources[*rows]));
    }
    let (mut passing, mut rest) = (Vec::new(), Vec::new());
    for (chunk, meets) in cluster.into_iter().zip(meets) {
        match chunk.passing {
            _ if meets => rest.push(chunk),
            _ if chunk.unwanted => {}
            Passing::No => rest.push(chunk),
            Passing::Filtered | Passing::Part | Passing::Whole => passing.push(chunk),
        }
    }
    passing.sort_by_key(|chunk| (chunk.source, chunk.part.start));
    passing.iter().for_each(|chunk| pass(chunk, items));
    rest
}

/// Which chunks, sorted by their first keys, are not apart from all others.
fn meeting_others(cluster: &[Chunk<'_>], sources: &[Source]) -> Vec<bool> {
    let mut meets = vec![false; cluster.len()];
    if cluster.iter().all(|chunk| chunk.are_first) {
        return meets;
    }
    // Chunks that reach up to where the sweep is: at most a few of each source.
    let mut open: Vec<usize> = Vec::new();
    for (i, chunk) in cluster.iter().enumerate() {
        open.retain(|other| cluster[*other].max >= chunk.min);
        for other in &open {
            if !are_apart(&cluster[*other], chunk, sources) {
                meets[*other] = true;
                meets[i] = true;
            }
        }
        open.push(i);
    }
    meets
}

fn are_apart(a: &Chunk<'_>, b: &Chunk<'_>, sources: &[Source]) -> bool {
    let follows = |later: &Chunk<'_>, before: &Chunk<'_>| {
        later.are_first && (before.are_first || before.recorded.1 < later.recorded.0)
    };
    if follows(a, b) || follows(b, a) {
        return true;
    }
    match (sources[a.source].ranges(), sources[b.source].ranges()) {
        (Some(a), Some(b)) => a.disjoint(b),
        _ => false,
    }
}

/// Whether a chunk is not apart from the single rows of a memtable.
fn meets_rows(chunk: &Chunk<'_>, rows: &Source) -> bool {
    let Source::Rows(memtable) = rows else {
        return false;
    };
    let is_apart = memtable.rows.are_first()
        && (chunk.are_first || chunk.recorded.1 < memtable.rows.first_recorded());
    !is_apart && has_row_within(memtable, chunk)
}

/// Whether a single row of a memtable is in a chunk's interval.
fn has_row_within(memtable: &Memtable, chunk: &Chunk<'_>) -> bool {
    let lower = Bound::Included(chunk.min.to_vec());
    let first = memtable.rows.first(&lower);
    first.is_some_and(|entry| key_of(entry.key()) <= chunk.max)
}
