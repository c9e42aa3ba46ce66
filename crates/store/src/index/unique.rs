//! Unique indexes: values that a row has now may not be another row's.
//!
//! Decided when a write set is applied, like preconditions, and from what is stored alone.
//! What counts is how the rows stand after the whole set: two rows may exchange their values,
//! in one statement or one transaction. Rows with a NULL among their values equal no others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chronos_model::{
    decode_row, value_at, DataError, EntryPrefixes, Expect, IndexSchema, Kind, Stamp, TableId,
    Value,
};

use super::entries::{prefixes, with_prefix};
use crate::error::{ApplyError, StoreError};
use crate::prepare::{Prepared, PreparedBatch, PreparedRows, PreparedWriteSet};
use crate::retention::Retained;
use crate::state::{Newest, StoreState, TableState};

/// A row that is left out.
#[derive(Debug)]
pub(crate) struct Skipped {
    pub(crate) change: usize,
    /// In the change.
    pub(crate) row: usize,
    /// Among all rows of the write set, as given.
    pub(crate) position: u32,
}

/// Which versions of a table's rows count.
#[derive(Debug)]
pub(crate) struct SeenAt {
    /// Nothing recorded later does.
    pub(crate) view: Stamp,
    /// What is not expired.
    pub(crate) retained: Retained,
}

/// The key of the row, other than those in `replaced`, that has the values of `prefix` in a
/// unique index.
pub(crate) fn holder(
    state: &StoreState,
    table: &TableState,
    index: &IndexSchema,
    prefix: &[u8],
    seen: &SeenAt,
    replaced: impl Fn(&[u8]) -> bool,
) -> Result<Option<Box<[u8]>>, StoreError> {
    let Some(entries) = state.tables.get(&index.id) else {
        return Ok(None);
    };
    for entry in with_prefix(entries, prefix, seen.view)? {
        let key = &entry[prefix.len()..];
        if !replaced(key) && has_values(table, index, key, prefix, seen)? {
            return Ok(Some(key.into()));
        }
    }
    Ok(None)
}

/// Whether the row of a key is there and has the values of `prefix`.
pub(super) fn has_values(
    table: &TableState,
    index: &IndexSchema,
    key: &[u8],
    prefix: &[u8],
    seen: &SeenAt,
) -> Result<bool, StoreError> {
    let newest = table.newest_retained(key, seen.view, &seen.retained)?;
    let Some(newest) = newest.filter(|n| n.kind == Kind::Put) else {
        return Ok(false);
    };
    let values = values(table, newest, &index.inputs())?;
    let values: Vec<&Value> = values.iter().collect();
    let now = index.prefix_of(&table.schema, &values)?;
    Ok(now.is_some_and(|now| now.bytes == prefix))
}

fn values(table: &TableState, newest: Newest, columns: &[usize]) -> Result<Vec<Value>, StoreError> {
    crate::read_view::RowData::new(table.schema.clone(), newest.place).values(columns)
}

/// Checks the rows that a write set leaves behind. `left_out` says which of its rows are not
/// written, by change; of the tables in `truncated` nothing that is stored counts.
pub(crate) fn check(
    state: &StoreState,
    recorded: Stamp,
    set: &PreparedWriteSet,
    left_out: &[Vec<bool>],
    truncated: &[TableId],
) -> Result<Vec<Skipped>, ApplyError> {
    let mut check = Check {
        state,
        recorded,
        truncated,
        replaced: HashMap::new(),
        given: HashSet::new(),
        skipped: Vec::new(),
    };
    let stays = |change: usize, row: usize| {
        let out = left_out.get(change).and_then(|out| out.get(row));
        !out.copied().unwrap_or(false)
    };
    for (number, change) in set.changes.iter().enumerate() {
        check.note_replaced(change, |row| stays(number, row));
    }
    for (number, change) in set.changes.iter().enumerate() {
        match change {
            Prepared::Rows(rows) => check.rows(number, rows, |row| stays(number, row))?,
            Prepared::Batch(batch) => check.batch(number, batch, |row| stays(number, row))?,
            _ => {}
        }
    }
    Ok(check.skipped)
}

struct Check<'a> {
    state: &'a StoreState,
    recorded: Stamp,
    truncated: &'a [TableId],
    /// Keys that the set writes: what is stored of them does not count.
    replaced: HashMap<TableId, HashSet<&'a [u8]>>,
    /// Values that rows of the set have, by index.
    given: HashSet<(TableId, Vec<u8>)>,
    skipped: Vec<Skipped>,
}

/// Whether a row may be written.
enum Verdict {
    Write,
    Skip,
}

impl<'a> Check<'a> {
    /// The table, if it has a unique index in force.
    fn table(&self, id: TableId) -> Option<&'a Arc<TableState>> {
        let table = self.state.tables.get(&id)?;
        let enforced = table.indexes.iter().any(|i| i.is_enforced());
        enforced.then_some(table)
    }

    fn note_replaced(&mut self, change: &'a Prepared, stays: impl Fn(usize) -> bool) {
        let (id, keys): (_, Vec<&[u8]>) = match change {
            Prepared::Rows(rows) => {
                let all = rows.changes.rows.iter().enumerate();
                let keys = all.filter(|(i, r)| stays(*i) && !r.key.0.is_empty());
                (rows.changes.table, keys.map(|(_, r)| &*r.key.0).collect())
            }
            Prepared::Batch(batch) => {
                let rows = (0..batch.keys.len()).filter(|row| stays(*row));
                (batch.table, rows.map(|row| batch.keys.get(row)).collect())
            }
            _ => return,
        };
        if self.table(id).is_some() {
            self.replaced.entry(id).or_default().extend(keys);
        }
    }

    fn rows(
        &mut self,
        number: usize,
        rows: &PreparedRows,
        stays: impl Fn(usize) -> bool,
    ) -> Result<(), ApplyError> {
        let Some(table) = self.table(rows.changes.table) else {
            return Ok(());
        };
        for (i, change) in rows.changes.rows.iter().enumerate() {
            if change.kind != Kind::Put || !stays(i) {
                continue;
            }
            let row = decode_row(&table.schema, &change.row).map_err(StoreError::from)?;
            if let Verdict::Skip = self.row(table, &row, change.expect)? {
                self.skipped.push(Skipped {
                    change: number,
                    row: i,
                    position: rows.first_row + i as u32,
                });
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        number: usize,
        batch: &PreparedBatch,
        stays: impl Fn(usize) -> bool,
    ) -> Result<(), ApplyError> {
        let Some(table) = self.table(batch.table) else {
            return Ok(());
        };
        let enforced = table.indexes.iter().filter(|i| i.is_enforced());
        let probes = enforced
            .map(|index| self.probe(table, index, batch, &stays))
            .collect::<Result<Vec<_>, _>>()?;
        // In the order in which the rows were given: the first of several is the one that stays.
        let mut given: Vec<(u32, usize)> = (0..batch.rows)
            .filter(|row| stays(*row))
            .map(|row| {
                let order = batch.order.as_ref();
                (order.map_or(row as u32, |order| order[row]), row)
            })
            .collect();
        given.sort_unstable();
        for (position, row) in given {
            let taken = probes.iter().find(|p| p.is_taken(row, &self.given));
            let Some(taken) = taken else {
                let values = probes.iter().filter_map(|probe| probe.values(row));
                self.given.extend(values);
                continue;
            };
            if batch.expect != Expect::DistinctOrSkip {
                let row = row_of(table, batch, row)?;
                return Err(violation(table, taken.index, &row));
            }
            self.skipped.push(Skipped {
                change: number,
                row,
                position: batch.first_row + position,
            });
        }
        Ok(())
    }

    /// Looks the values of a batch up in one index, in their order, so that each page is met
    /// once.
    fn probe(
        &self,
        table: &TableState,
        index: &'a IndexSchema,
        batch: &PreparedBatch,
        stays: impl Fn(usize) -> bool,
    ) -> Result<Probe<'a>, StoreError> {
        let inputs = index.inputs();
        let inputs: Vec<_> = inputs.iter().map(|c| batch.columns[*c].clone()).collect();
        let prefixes = prefixes(index, table, &inputs)?;
        let mut probe = Probe {
            index,
            prefixes,
            stored: vec![false; batch.rows],
        };
        let mut rows: Vec<usize> = (0..batch.rows).filter(|row| stays(*row)).collect();
        rows.retain(|row| probe.prefix(*row).is_some());
        rows.sort_unstable_by(|a, b| probe.prefix(*a).cmp(&probe.prefix(*b)));
        for row in rows {
            if let Some(prefix) = probe.prefix(row) {
                probe.stored[row] = self.is_stored(table, index, prefix)?;
            }
        }
        Ok(probe)
    }

    fn row(
        &mut self,
        table: &TableState,
        row: &[Value],
        expect: Expect,
    ) -> Result<Verdict, ApplyError> {
        let mut own = Vec::new();
        for index in table.indexes.iter().filter(|i| i.is_enforced()) {
            let prefix = index
                .prefix_of_row(&table.schema, row)
                .map_err(StoreError::from)?;
            let Some(prefix) = prefix.filter(|p| !p.has_null) else {
                continue;
            };
            let given = (index.id, prefix.bytes);
            if self.given.contains(&given) || self.is_stored(table, index, &given.1)? {
                return match expect {
                    Expect::DistinctOrSkip => Ok(Verdict::Skip),
                    _ => Err(violation(table, index, row)),
                };
            }
            own.push(given);
        }
        self.given.extend(own);
        Ok(Verdict::Write)
    }

    fn is_stored(
        &self,
        table: &TableState,
        index: &IndexSchema,
        prefix: &[u8],
    ) -> Result<bool, StoreError> {
        if self.truncated.contains(&table.schema.id) {
            return Ok(false);
        }
        let replaced = self.replaced.get(&table.schema.id);
        let replaced = |key: &[u8]| replaced.is_some_and(|keys| keys.contains(key));
        let seen = SeenAt {
            view: Stamp::MAX,
            retained: Retained::of(&table.schema, self.recorded.micros()),
        };
        Ok(holder(self.state, table, index, prefix, &seen, replaced)?.is_some())
    }
}

/// What one index knows of the values of a batch.
struct Probe<'a> {
    index: &'a IndexSchema,
    prefixes: EntryPrefixes,
    /// Whether a row that is stored has them, for each row.
    stored: Vec<bool>,
}

impl Probe<'_> {
    /// The values that must be unique; `None`: the row is not in the index, or has a NULL.
    fn prefix(&self, row: usize) -> Option<&[u8]> {
        let prefix = self.prefixes.get(row);
        prefix.filter(|_| !self.prefixes.has_null[row])
    }

    fn values(&self, row: usize) -> Option<(TableId, Vec<u8>)> {
        Some((self.index.id, self.prefix(row)?.to_vec()))
    }

    fn is_taken(&self, row: usize, given: &HashSet<(TableId, Vec<u8>)>) -> bool {
        let is_given = |values| given.contains(&values);
        self.stored[row] || self.values(row).is_some_and(is_given)
    }
}

/// All values of a row of a batch.
fn row_of(table: &TableState, batch: &PreparedBatch, row: usize) -> Result<Vec<Value>, StoreError> {
    let columns = table.schema.columns.iter().zip(&batch.columns);
    let values = columns.map(|(column, array)| value_at(array, row, &column.data_type));
    Ok(values.collect::<Result<Vec<_>, DataError>>()?)
}

fn violation(table: &TableState, index: &IndexSchema, row: &[Value]) -> ApplyError {
    ApplyError::UniqueViolation {
        table: table.schema.name.clone(),
        constraint: index.name.clone(),
        key: index
            .columns
            .iter()
            .map(|c| row[c.column].clone())
            .collect(),
    }
}
