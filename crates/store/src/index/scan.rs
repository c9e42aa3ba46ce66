//! Rows in the order of an index: a stretch of entries at a time, the versions of their
//! keys, and of these those that still have their entry's values.
//!
//! Stretches begin short and grow, so that a query with a small LIMIT looks up few rows.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryViewArray, RecordBatch};
use arrow_schema::SchemaRef;
use chronos_model::{IndexSchema, Keys, SystemColumn};

use super::entries::prefixes;
use super::lookup::{Group, Lookup, Seen};
use crate::error::StoreError;
use crate::scan::{KeyRange, ScanColumn, ScanPartition, ScanShape, ValidFilter, VersionFilter};
use crate::segment::PageColumn;
use crate::state::TableState;

/// Entries of the first stretch; each has twice as many as the one before.
const STRETCH_FIRST: usize = 32;

/// What a scan by an index is to return.
#[derive(Clone, PartialEq, Debug)]
pub struct IndexScanRequest {
    /// The output's columns.
    pub columns: Vec<ScanColumn>,
    /// Which versions.
    pub filter: VersionFilter,
    /// True when.
    pub valid: ValidFilter,
    /// Of which entries: sorted ranges that do not meet.
    pub ranges: Vec<KeyRange>,
    /// Rows of a record batch, at most, unless one key has more versions.
    pub batch_rows: usize,
    /// It ends after so many rows.
    pub limit: Option<usize>,
}

/// An iterator of record batches in the order of an index; versions with the same entry come
/// newest first.
#[derive(Debug)]
pub struct IndexScan {
    index: Arc<IndexSchema>,
    table: Arc<TableState>,
    shape: Arc<ScanShape>,
    lookup: Lookup,
    /// What is read of each version: the shape's columns, then the index's inputs.
    stored: Vec<PageColumn>,
    entries: VecDeque<ScanPartition>,
    /// Entries that were read, and how many of them are done.
    pending: Option<(BinaryViewArray, usize)>,
    stretch: usize,
    batch_rows: usize,
    left: usize,
}

impl IndexScan {
    pub(crate) fn new(
        index: Arc<IndexSchema>,
        table: Arc<TableState>,
        shape: ScanShape,
        entries: Vec<ScanPartition>,
        request: &IndexScanRequest,
    ) -> IndexScan {
        let lookup = Lookup {
            schema: table.schema.clone(),
            sources: table.sources_for(&shape),
            resolution: shape.resolution,
            valid: shape.valid,
            view: shape.view,
            truncated: table.truncated.clone(),
            retained: shape.retained,
            wants: shape.wants,
        };
        let inputs = index.inputs().into_iter().map(PageColumn::Column);
        let stored = shape.stored.iter().copied().chain(inputs).collect();
        IndexScan {
            index,
            table,
            shape: Arc::new(shape),
            lookup,
            stored,
            entries: entries.into(),
            pending: None,
            stretch: STRETCH_FIRST,
            batch_rows: request.batch_rows.max(1),
            left: request.limit.unwrap_or(usize::MAX),
        }
    }

    /// The schema of its batches.
    pub fn schema(&self) -> SchemaRef {
        self.shape.output.clone()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        while self.left > 0 {
            let Some(entries) = self.next_entries()? else {
                return Ok(None);
            };
            if let Some(batch) = self.rows_of(&entries)? {
                let rows = batch.num_rows().min(self.left);
                self.left -= rows;
                return Ok(Some(batch.slice(0, rows)));
            }
        }
        Ok(None)
    }

    /// The next stretch of entries, sorted.
    fn next_entries(&mut self) -> Result<Option<BinaryViewArray>, StoreError> {
        while self.pending.is_none() {
            let Some(first) = self.entries.front_mut() else {
                return Ok(None);
            };
            match first.next().transpose()? {
                Some(batch) => self.pending = Some((batch.column(0).as_binary_view().clone(), 0)),
                None => drop(self.entries.pop_front()),
            }
        }
        let Some((read, done)) = self.pending.take() else {
            return Ok(None);
        };
        let count = self.stretch.min(self.batch_rows).min(read.len() - done);
        self.stretch = self.stretch.saturating_mul(2);
        let stretch = read.slice(done, count);
        if done + count < read.len() {
            self.pending = Some((read, done + count));
        }
        Ok(Some(stretch))
    }

    /// The rows that have these entries; `None`: there are none.
    fn rows_of(&self, entries: &BinaryViewArray) -> Result<Option<RecordBatch>, StoreError> {
        let entries: Vec<&[u8]> = (0..entries.len()).map(|i| entries.value(i)).collect();
        let keys = self.row_keys(&entries)?;
        let seen = self.lookup.seen(&keys)?;
        if seen.is_empty() {
            return Ok(None);
        }
        let groups = self.lookup.values(&seen, &keys, &self.stored)?;
        let chosen = self.with_their_entries(&entries, &keys, &seen, &groups)?;
        if chosen.is_empty() {
            return Ok(None);
        }
        let places: Vec<(usize, usize)> = chosen.iter().map(|c| c.place).collect();
        let columns = (0..self.shape.stored.len())
            .map(|column| interleave(&groups, column, &places))
            .collect::<Result<Vec<_>, _>>()?;
        if self.shape.valid.is_some() {
            let pieces = chosen.iter().filter_map(|c| seen[c.version].piece);
            let pieces: Vec<_> = pieces.collect();
            return self.shape.pieces(&columns, &pieces).map(Some);
        }
        let ended: Vec<u64> = chosen.iter().map(|c| seen[c.version].ended.0).collect();
        self.shape.batch(&columns, &ended, chosen.len()).map(Some)
    }

    /// The distinct keys of the rows that entries belong to, sorted.
    fn row_keys(&self, entries: &[&[u8]]) -> Result<Keys, StoreError> {
        let key = |entry: &&'_ [u8]| -> Result<usize, StoreError> {
            Ok(self.index.key_start(&self.table.schema, entry)?)
        };
        let mut keys = Vec::with_capacity(entries.len());
        for entry in entries {
            keys.push(&entry[key(entry)?..]);
        }
        keys.sort_unstable();
        keys.dedup();
        let mut distinct = Keys::default();
        keys.iter().for_each(|key| distinct.push(key));
        Ok(distinct)
    }

    /// The versions that have one of these entries, in the order of the entries.
    fn with_their_entries(
        &self,
        entries: &[&[u8]],
        keys: &Keys,
        seen: &[Seen],
        groups: &[Group],
    ) -> Result<Vec<Chosen>, StoreError> {
        let mut chosen = Vec::new();
        let mut own = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let inputs: &[ArrayRef] = &group.columns[self.shape.stored.len()..];
            let prefixes = prefixes(&self.index, &self.table, inputs)?;
            for (row, &version) in group.versions.iter().enumerate() {
                let Some(prefix) = prefixes.get(row) else {
                    continue;
                };
                own.clear();
                own.extend_from_slice(prefix);
                own.extend_from_slice(keys.get(seen[version].key));
                if let Ok(entry) = entries.binary_search(&own.as_slice()) {
                    chosen.push(Chosen {
                        entry,
                        version,
                        place: (number, row),
                    });
                }
            }
        }
        // Versions of a key were found newest first.
        chosen.sort_unstable_by_key(|c| (c.entry, c.version));
        Ok(chosen)
    }
}

/// A version to be returned.
struct Chosen {
    /// Position of its entry.
    entry: usize,
    /// Position among the versions seen.
    version: usize,
    /// Group and row of its values.
    place: (usize, usize),
}

fn interleave(
    groups: &[Group],
    column: usize,
    places: &[(usize, usize)],
) -> Result<ArrayRef, StoreError> {
    let arrays: Vec<&dyn Array> = groups.iter().map(|g| g.columns[column].as_ref()).collect();
    Ok(arrow_select::interleave::interleave(&arrays, places)?)
}

impl Iterator for IndexScan {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch().transpose();
        if matches!(next, Some(Err(_))) {
            // Nothing follows an error.
            self.left = 0;
        }
        next
    }
}

/// The column that entries are read by.
pub(crate) const ENTRY: [ScanColumn; 1] = [ScanColumn::System(SystemColumn::Key)];
