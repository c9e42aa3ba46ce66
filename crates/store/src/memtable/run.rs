//! Many new rows as sorted columns: what a batch insert leaves in the memtable.
//!
//! A batch of 10,000 rows is one run, not 10,000 tree inserts, and a scan passes its
//! columns on without copying. A run holds puts only.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, BinaryViewArray, UInt32Array, UInt8Array};
use arrow_buffer::ScalarBuffer;
use chronos_model::{Keys, NodeId, Stamp, TableSchema};

use super::ranges::KeyRanges;
use crate::error::StoreError;
use crate::first::FirstVersions;
use crate::merge::{
    arrays_bytes, gallop, i64_array, u32_array, u64_array, Block, MergeRequest, Merger, PerVersion,
    Source,
};
use crate::scan::KeyRange;
use crate::segment::PageColumn;
use crate::version::UNTIL_CHANGED;

#[derive(Debug)]
pub(crate) struct Run {
    keys: Arc<Keys>,
    recorded: PerVersion<u64>,
    nodes: PerVersion<u32>,
    columns: Vec<ArrayRef>,
    pub(crate) ranges: KeyRanges,
    pub(crate) one_version_per_key: bool,
    first: FirstVersions,
    pub(crate) min_recorded: Stamp,
    pub(crate) max_recorded: Stamp,
    pub(crate) bytes: u64,
}

impl Run {
    /// The rows of one batch: keys strictly ascending.
    pub(crate) fn of_batch(
        keys: Arc<Keys>,
        columns: Vec<ArrayRef>,
        ranges: KeyRanges,
        recorded: Stamp,
        node: NodeId,
        first: FirstVersions,
    ) -> Run {
        let bytes = (keys.memory_bytes() + arrays_bytes(&columns)) as u64;
        Run {
            keys,
            recorded: PerVersion::Same(recorded.0),
            nodes: PerVersion::Same(node.0),
            columns,
            ranges,
            one_version_per_key: true,
            first,
            min_recorded: recorded,
            max_recorded: recorded,
            bytes,
        }
    }

    /// One run of all versions of `runs`, of which there is at least one.
    pub(crate) fn merged(schema: &Arc<TableSchema>, runs: &[Arc<Run>]) -> Result<Run, StoreError> {
        let mut columns = vec![PageColumn::OriginNode];
        columns.extend((0..schema.columns.len()).map(PageColumn::Column));
        let request = MergeRequest::everything(schema.clone(), columns, usize::MAX);
        let sources = runs.iter().map(|run| Source::Run(run.clone()));
        let mut merger = Merger::open(Arc::new(request), sources, &KeyRange::ALL)?;
        let Some(mut merged) = merger.next_batch()? else {
            return Err(StoreError::Columns("there are no runs to merge".into()));
        };
        let columns = merged.columns.split_off(1);
        let nodes = merged.columns[0].as_primitive::<UInt32Type>();
        let keys = Arc::new(merged.keys);
        let ranges = runs[1..]
            .iter()
            .fold(runs[0].ranges.clone(), |sum, run| sum.union(&run.ranges));
        let mut run = Run {
            one_version_per_key: (1..keys.len()).all(|i| keys.get(i - 1) != keys.get(i)),
            keys,
            recorded: PerVersion::Each(ScalarBuffer::from(merged.recorded)),
            first: merged.first.into(),
            nodes: PerVersion::Each(nodes.values().clone()),
            columns,
            ranges,
            min_recorded: runs
                .iter()
                .map(|r| r.min_recorded)
                .min()
                .unwrap_or_default(),
            max_recorded: runs
                .iter()
                .map(|r| r.max_recorded)
                .max()
                .unwrap_or_default(),
            bytes: 0,
        };
        run.bytes = (run.keys.memory_bytes()
            + run.recorded.memory_bytes()
            + run.nodes.memory_bytes()
            + arrays_bytes(&run.columns)) as u64;
        Ok(run)
    }

    /// The same versions with other columns.
    pub(crate) fn with_columns(&self, columns: Vec<ArrayRef>, ranges: KeyRanges) -> Run {
        let bytes = self.bytes - (arrays_bytes(&self.columns) as u64).min(self.bytes);
        Run {
            keys: self.keys.clone(),
            recorded: self.recorded.clone(),
            nodes: self.nodes.clone(),
            bytes: bytes + arrays_bytes(&columns) as u64,
            columns,
            ranges,
            one_version_per_key: self.one_version_per_key,
            first: self.first.clone(),
            min_recorded: self.min_recorded,
            max_recorded: self.max_recorded,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    pub(crate) fn columns(&self) -> &[ArrayRef] {
        &self.columns
    }

    /// Whether every version is known to be the first of its key.
    pub(crate) fn are_first(&self) -> bool {
        self.first.are_all()
    }

    pub(crate) fn recorded(&self, row: usize) -> Stamp {
        Stamp(self.recorded.get(row))
    }

    /// The newest version of a key recorded at or before `view`: row and stamp.
    pub(crate) fn newest(&self, key: &[u8], view: Stamp) -> Option<(usize, Stamp)> {
        if self.min_recorded > view || self.len() == 0 {
            return None;
        }
        if key < self.keys.get(0) || key > self.keys.get(self.len() - 1) {
            return None;
        }
        let mut row = self.keys.lower_bound(key);
        while row < self.len() && self.keys.get(row) == key {
            if self.recorded(row) <= view {
                return Some((row, self.recorded(row)));
            }
            row += 1;
        }
        None
    }

    /// Calls `hit(index, recorded)` for each of the sorted, distinct keys that is
    /// here, with its newest version.
    pub(crate) fn for_each_common(&self, keys: &Keys, mut hit: impl FnMut(usize, Stamp)) {
        let (mut ours, mut wanted) = (0, 0);
        while wanted < keys.len() {
            let key = keys.get(wanted);
            ours = gallop(ours, self.len(), |i| self.keys.get(i) < key);
            if ours == self.len() {
                return;
            }
            let found = self.keys.get(ours);
            if found == key {
                hit(wanted, self.recorded(ours));
                wanted += 1;
            } else {
                wanted = gallop(wanted, keys.len(), |i| keys.get(i) < found);
            }
        }
    }

    /// The given columns of rows `start..start + rows`, without copying user columns.
    pub(crate) fn read(&self, start: usize, rows: usize, columns: &[PageColumn]) -> Vec<ArrayRef> {
        let recorded = || self.recorded.slice(start, rows).expand(rows);
        let read = |column: &PageColumn| -> ArrayRef {
            match column {
                PageColumn::Column(i) => self.columns[*i].slice(start, rows),
                PageColumn::Recorded | PageColumn::Origin => u64_array(recorded()),
                PageColumn::OriginNode => u32_array(self.nodes.slice(start, rows).expand(rows)),
                PageColumn::ValidFrom => {
                    let micros: Vec<i64> = recorded().iter().map(|r| Stamp(*r).micros()).collect();
                    i64_array(micros.into())
                }
                PageColumn::ValidTo => i64_array(vec![UNTIL_CHANGED; rows].into()),
                PageColumn::Kind => Arc::new(UInt8Array::from(vec![0; rows])),
                PageColumn::Key => Arc::new(BinaryViewArray::from_iter_values(
                    (start..start + rows).map(|i| self.keys.get(i)),
                )),
            }
        };
        columns.iter().map(read).collect()
    }

    /// The given columns of single rows, in the order asked for.
    pub(crate) fn take(
        &self,
        rows: &[u32],
        columns: &[PageColumn],
    ) -> Result<Vec<ArrayRef>, StoreError> {
        let positions = UInt32Array::from(rows.to_vec());
        let each = || rows.iter().map(|row| *row as usize);
        let recorded = || each().map(|row| self.recorded(row).0).collect::<Vec<_>>();
        let take = |column: &PageColumn| -> Result<ArrayRef, StoreError> {
            Ok(match column {
                PageColumn::Column(i) => {
                    arrow_select::take::take(&self.columns[*i], &positions, None)?
                }
                PageColumn::Recorded | PageColumn::Origin => u64_array(recorded().into()),
                PageColumn::OriginNode => {
                    let nodes: Vec<u32> = each().map(|row| self.nodes.get(row)).collect();
                    u32_array(nodes.into())
                }
                PageColumn::ValidFrom => {
                    let stamps = recorded();
                    let micros: Vec<i64> = stamps.iter().map(|r| Stamp(*r).micros()).collect();
                    i64_array(micros.into())
                }
                PageColumn::ValidTo => i64_array(vec![UNTIL_CHANGED; rows.len()].into()),
                PageColumn::Kind => Arc::new(UInt8Array::from(vec![0; rows.len()])),
                PageColumn::Key => Arc::new(BinaryViewArray::from_iter_values(
                    each().map(|row| self.keys.get(row)),
                )),
            })
        };
        columns.iter().map(take).collect()
    }

    /// Rows `start..start + rows` as a block.
    pub(crate) fn block(&self, start: usize, rows: usize, columns: &[PageColumn]) -> Block {
        Block::of_part(
            self.keys.clone(),
            start,
            self.recorded.slice(start, rows),
            (self.min_recorded.0, self.max_recorded.0),
            self.one_version_per_key,
            rows,
            self.read(start, rows, columns),
        )
        .with_first(self.first.slice(start, rows))
    }
}
