//! The newest version of one key: memtables, then the row cache, then segments.
//!
//! Segments are asked from the one with the latest versions on, and only while they may hold a
//! newer one than was found. Those whose bounds the key is outside of are not asked at all, and of
//! the others first their key filters, but for the last: it most likely has the key, and a
//! filter that is not in memory costs more than to look.

use std::cell::LazyCell;
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{encode_row, Kind, Stamp, Value};

use super::{Newest, Place, SegmentFile, TableState};
use crate::error::StoreError;
use crate::memtable::{KeyRanges, Memtable};
use crate::segment::{CachedRow, SegmentError, SegmentId};

/// Rows of more bytes are not kept as rows.
const ROW_BYTES_MAX: usize = 4096;
/// Nor are those of more columns: each is a block to be read.
const COLUMNS_MAX: usize = 32;

/// The key that is looked for.
struct Wanted<'a, F> {
    key: &'a [u8],
    /// Made when there is something to compare them with.
    ranges: LazyCell<KeyRanges, F>,
}

impl TableState {
    /// The newest version of a key recorded at or before `view`, deletes included,
    /// truncations not considered.
    pub(crate) fn newest(&self, key: &[u8], view: Stamp) -> Result<Option<Newest>, StoreError> {
        let wanted = Wanted {
            key,
            ranges: LazyCell::new(|| KeyRanges::of_key(&self.schema, key)),
        };
        for memtable in self.memtables() {
            // What is in a memtable was recorded after all that is in older ones.
            if let Some(found) = newest_in_memory(memtable, &wanted, view) {
                return Ok(Some(found));
            }
        }
        match self.segments.is_empty() {
            true => Ok(None),
            false => self.newest_in_segments(&wanted),
        }
    }

    fn newest_in_segments(
        &self,
        wanted: &Wanted<'_, impl FnOnce() -> KeyRanges>,
    ) -> Result<Option<Newest>, StoreError> {
        let key = wanted.key;
        let cached = self.cached(key);
        let known = cached.as_ref().map(|row| (row.segment, row.recorded));
        let mut newest = cached.map(|row| Newest {
            recorded: row.recorded,
            kind: Kind::Put,
            place: Place::Row(row.row.clone()),
        });
        // Damage matters only if nothing newer is found elsewhere.
        let mut unread: Option<(Stamp, StoreError)> = None;
        let mut candidates = self.candidates(wanted, known).peekable();
        while let Some((segment, page)) = candidates.next() {
            let last = segment.meta().max_recorded;
            if newest.as_ref().is_some_and(|n| n.recorded >= last) {
                continue;
            }
            let is_last = newest.is_none() && candidates.peek().is_none();
            match look(segment, page, key, is_last) {
                Err(error) if error.is_damage() => {
                    if unread.as_ref().is_none_or(|(before, _)| *before < last) {
                        unread = Some((last, error));
                    }
                }
                found => {
                    let newer =
                        found?.filter(|f| newest.as_ref().is_none_or(|n| n.recorded < f.recorded));
                    newest = newer.or(newest);
                }
            }
        }
        match unread {
            Some((last, error)) if newest.as_ref().is_none_or(|n| n.recorded < last) => Err(error),
            _ => Ok(newest),
        }
    }

    /// The segments that have the key within their bounds and may have a newer version than the
    /// one that is known, and the page of each, from the one with the latest versions on.
    fn candidates<'a>(
        &'a self,
        wanted: &'a Wanted<'_, impl FnOnce() -> KeyRanges>,
        known: Option<(SegmentId, Stamp)>,
    ) -> impl Iterator<Item = (&'a Arc<SegmentFile>, usize)> {
        let is_known = move |segment: &SegmentFile| {
            let meta = segment.meta();
            known.is_some_and(|(id, recorded)| id == meta.id || recorded >= meta.max_recorded)
        };
        let candidate = move |segment: &'a Arc<SegmentFile>| {
            let is_apart = self.segments.len() > 1 && segment.ranges.disjoint(&wanted.ranges);
            if is_known(segment) || is_apart {
                return None;
            }
            Some((segment, segment.page_of(wanted.key)?))
        };
        self.segments.iter().rev().filter_map(candidate)
    }

    /// What the row cache has of a key, if it is of one of these segments.
    fn cached(&self, key: &[u8]) -> Option<Arc<CachedRow>> {
        let cache = self.segments.first()?.cache();
        let found = cache.row(&self.schema, key);
        let found = found.filter(|row| self.segments.iter().any(|s| s.meta().id == row.segment));
        cache.note_row(found.is_some());
        found
    }

    /// Takes a row that was read into the row cache, if it is asked for again and small.
    pub(crate) fn keep(&self, key: &[u8], newest: Newest) -> Newest {
        let Place::Segment(segment, page, row) = &newest.place else {
            return newest;
        };
        // Of a segment with fewer columns it is not for this to say what the others are.
        let columns = self.schema.columns.len();
        if newest.kind != Kind::Put
            || columns != segment.stored_columns()
            || columns > COLUMNS_MAX
            || !segment.cache().asked_again(self.schema.id, key)
        {
            return newest;
        }
        let values: Result<Vec<Value>, SegmentError> = (0..columns)
            .map(|column| segment.value(*page, *row, column))
            .collect();
        // Columns that nobody asked for may be damaged.
        let Ok(values) = values else {
            return newest;
        };
        let mut bytes = Vec::new();
        encode_row(&values, &mut bytes);
        if bytes.len() > ROW_BYTES_MAX {
            return newest;
        }
        let bytes = Bytes::from(bytes.into_boxed_slice());
        segment.cache().insert_row(CachedRow {
            schema: self.schema.clone(),
            key: key.into(),
            segment: segment.meta().id,
            recorded: newest.recorded,
            row: bytes.clone(),
        });
        Newest {
            place: Place::Row(bytes),
            ..newest
        }
    }
}

/// The newest version of a key in the page of a segment.
fn look(
    segment: &Arc<SegmentFile>,
    page: usize,
    key: &[u8],
    is_last: bool,
) -> Result<Option<Newest>, StoreError> {
    let may_contain = match is_last {
        true => segment.may_contain_as_far_as_known(page, key),
        false => segment.page_may_contain(page, key),
    };
    if !may_contain {
        return Ok(None);
    }
    let Some((row, recorded, kind)) = segment.newest(page, key)? else {
        // Keys that are not there are asked for: from now on the filter is worth its memory.
        segment.page_may_contain(page, key);
        return Ok(None);
    };
    Ok(Some(Newest {
        recorded,
        kind,
        place: Place::Segment(segment.clone(), page, row),
    }))
}

fn newest_in_memory(
    memtable: &Memtable,
    wanted: &Wanted<'_, impl FnOnce() -> KeyRanges>,
    view: Stamp,
) -> Option<Newest> {
    let row = match memtable.rows.is_empty() {
        true => None,
        false => memtable.rows.newest(wanted.key, view),
    };
    let mut newest = row.map(|(recorded, version)| Newest {
        recorded,
        kind: version.kind,
        place: Place::Row(version.row),
    });
    for run in memtable.runs().iter() {
        if run.ranges.disjoint(&wanted.ranges) {
            continue;
        }
        if let Some((row, recorded)) = run.newest(wanted.key, view) {
            if newest.as_ref().is_none_or(|n| n.recorded < recorded) {
                newest = Some(Newest {
                    recorded,
                    kind: Kind::Put,
                    place: Place::Run(run.clone(), row),
                });
            }
        }
    }
    newest
}
