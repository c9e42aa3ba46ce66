//! Writing the rows of a checked write set to the memtables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::UInt32Array;
use chronos_model::{Keys, NodeId, Stamp, TableId, TableSchema};

use super::Checked;
use crate::error::StoreError;
use crate::first::FirstVersions;
use crate::index;
use crate::memtable::{KeyRanges, Run};
use crate::prepare::{Prepared, PreparedBatch, PreparedWriteSet};
use crate::state::StoreState;

/// The stamps of a write set's versions: that of its commit, and following ones of the same
/// microsecond for further versions of a key, which then are true for different periods.
pub(super) struct Stamps<'a> {
    recorded: Stamp,
    /// Versions so far; `None`: no key has more than one.
    counts: Option<HashMap<(TableId, &'a [u8]), u64>>,
}

impl<'a> Stamps<'a> {
    pub(super) fn new(set: &PreparedWriteSet, recorded: Stamp) -> Stamps<'a> {
        Stamps {
            recorded,
            counts: (set.repeats && set.has_periods).then(HashMap::new),
        }
    }

    /// Whether they are not all the same.
    pub(super) fn differ(&self) -> bool {
        self.counts.is_some()
    }

    pub(super) fn next(&mut self, table: TableId, key: &'a [u8]) -> Stamp {
        match &mut self.counts {
            Some(counts) if !key.is_empty() => {
                let count = counts.entry((table, key)).or_default();
                *count += 1;
                Stamp(self.recorded.0 + *count - 1)
            }
            _ => self.recorded,
        }
    }
}

/// The key of a row without a primary key.
fn hidden_key(recorded: Stamp, position: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&recorded.0.to_be_bytes());
    key[8..].copy_from_slice(&u64::from(position).to_be_bytes());
    key
}

/// Writes the rows of a checked write set to the memtables; returns the bytes they
/// take. Readers do not see them until the stamp is published.
pub(crate) fn write(
    state: &StoreState,
    recorded: Stamp,
    node: NodeId,
    set: &PreparedWriteSet,
    checked: &Checked,
) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut stamps = Stamps::new(set, recorded);
    let checks = checked.leave_out.iter().zip(&checked.first);
    for (change, (leave_out, first)) in set.changes.iter().zip(checks) {
        let stays = |i: usize| !leave_out.get(i).copied().unwrap_or(false);
        match change {
            Prepared::Rows(rows) => {
                let Some(table) = state.tables.get(&rows.changes.table) else {
                    continue;
                };
                for (i, change) in rows.changes.rows.iter().enumerate() {
                    if !stays(i) {
                        continue;
                    }
                    let hidden;
                    let key: &[u8] = if change.key.0.is_empty() {
                        hidden = hidden_key(recorded, rows.first_row + i as u32);
                        &hidden
                    } else {
                        &change.key.0
                    };
                    let stamp = stamps.next(rows.changes.table, &change.key.0);
                    let is_first = first.get(i);
                    bytes += table.active.insert(key, change, stamp, node, is_first);
                    bytes += index::add_row(state, table, key, change, stamp, node)?;
                }
            }
            Prepared::Batch(batch) => {
                let Some(table) = state.tables.get(&batch.table) else {
                    continue;
                };
                if let Some(run) = run(batch, leave_out, first, &table.schema, recorded, node)? {
                    bytes += run.bytes;
                    bytes += index::add_run(state, table, &run, recorded, node)?;
                    table.active.push(run)?;
                }
            }
            _ => {}
        }
    }
    Ok(bytes)
}

fn run(
    batch: &PreparedBatch,
    leave_out: &[bool],
    first: &FirstVersions,
    schema: &TableSchema,
    recorded: Stamp,
    node: NodeId,
) -> Result<Option<Run>, StoreError> {
    let keys = if schema.has_hidden_key() {
        let mut keys = Keys::default();
        for row in 0..batch.rows as u32 {
            keys.push(&hidden_key(recorded, batch.first_row + row));
        }
        Arc::new(keys)
    } else {
        batch.keys.clone()
    };
    let ranges = batch.ranges.clone();
    if !leave_out.contains(&true) {
        let columns = batch.columns.clone();
        let first = first.clone();
        return Ok(Some(Run::of_batch(
            keys, columns, ranges, recorded, node, first,
        )));
    }
    let kept: Vec<u32> = (0..batch.rows as u32)
        .filter(|i| !leave_out[*i as usize])
        .collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let mut kept_keys = Keys::default();
    kept.iter()
        .for_each(|i| kept_keys.push(keys.get(*i as usize)));
    let first = first.take(&kept);
    let kept = UInt32Array::from(kept);
    let columns = batch
        .columns
        .iter()
        .map(|c| arrow_select::take::take(c, &kept, None))
        .collect::<Result<Vec<_>, _>>()?;
    let ranges = KeyRanges::of_columns(schema, &columns);
    Ok(Some(Run::of_batch(
        Arc::new(kept_keys),
        columns,
        ranges,
        recorded,
        node,
        first,
    )))
}
