//! Work on a write set that needs no look at stored rows, done before it reaches the
//! one thread that applies: encoding the keys of batches, sorting them, finding
//! duplicates within them.
//!
//! Depends on the write set and the tables' schemas only, so that every replica
//! prepares the same.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use bytes::Bytes;
use chronos_model::{
    encode_keys, encode_row, value_at, BatchChange, Catalog, CatalogChange, Change, DataError,
    Expect, IndexSchema, IndexState, Key, KeyError, Keys, Kind, Migration, Once, OptionChange,
    ReadSet, RowChange, RowChanges, SequenceSchema, Stamp, TableId, TableSchema, WriteSet,
};

use crate::error::{ApplyError, StoreError};
use crate::memtable::KeyRanges;
use crate::migrate;

/// A smaller batch is applied as single rows, so that runs stay worth their search.
const BATCH_ROWS_MIN: usize = 64;

/// A write set ready to be applied.
#[derive(Clone, Debug)]
pub struct PreparedWriteSet {
    pub(crate) begin: Stamp,
    pub(crate) changes: Vec<Prepared>,
    /// Whether a key may occur twice, so that changes must be checked against those
    /// before them.
    pub(crate) repeats: bool,
    /// Whether versions are true for periods of their own.
    pub(crate) has_periods: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    CreateTable(TableSchema),
    DropTable(TableId),
    Truncate(TableId),
    AlterOptions(TableId, Vec<OptionChange>),
    ExpectShape(TableId, u32),
    Catalog(CatalogChange),
    Migrate(Migration),
    ExpectReads(ReadSet),
    Once(Once),
    CreateIndex(IndexSchema),
    GiveUpIndex(TableId),
    DropIndex(TableId),
    SetIndexState(TableId, IndexState),
    CreateSequence(SequenceSchema),
    ReserveNumbers(TableId, u32),
    SetSequence(TableId, i64, bool),
    Rows(PreparedRows),
    Batch(PreparedBatch),
}

#[derive(Clone, Debug)]
pub(crate) struct PreparedRows {
    pub(crate) changes: RowChanges,
    /// Position of the first row among all rows of the write set.
    pub(crate) first_row: u32,
}

impl Prepared {
    /// Rows that it may write.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Prepared::Rows(rows) => rows.changes.rows.len(),
            Prepared::Batch(batch) => batch.rows,
            _ => 0,
        }
    }
}

/// A batch in key order.
#[derive(Clone, Debug)]
pub(crate) struct PreparedBatch {
    pub(crate) table: TableId,
    pub(crate) expect: Expect,
    /// Strictly ascending; empty for a table with a hidden key.
    pub(crate) keys: Arc<Keys>,
    pub(crate) columns: Vec<ArrayRef>,
    /// Rows of `columns`.
    pub(crate) rows: usize,
    pub(crate) ranges: KeyRanges,
    /// The batch's row that each row was; `None`: in the same order, none left out.
    pub(crate) order: Option<Vec<u32>>,
    /// A key that occurs twice although the batch must not repeat any.
    pub(crate) duplicate: Option<Key>,
    /// Rows left out because an earlier one of the batch has their key.
    pub(crate) skipped: Vec<u32>,
    /// Rows left out because a later one of the batch has their key.
    pub(crate) overwritten: usize,
    pub(crate) first_row: u32,
}

impl PreparedWriteSet {
    /// What it does to the catalog, if its rows are for what comes of that.
    pub(crate) fn migration(&self) -> Option<&Migration> {
        match self.changes.first() {
            Some(Prepared::Migrate(migration)) => Some(migration),
            _ => None,
        }
    }

    /// What must be as it was read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &ReadSet> {
        self.changes.iter().filter_map(|change| match change {
            Prepared::ExpectReads(reads) => Some(reads),
            _ => None,
        })
    }

    /// That it is applied once, if it came with a key.
    pub(crate) fn once(&self) -> Option<&Once> {
        self.changes.iter().find_map(|change| match change {
            Prepared::Once(once) => Some(once),
            _ => None,
        })
    }

    /// The tables whose rows it changes.
    pub(crate) fn tables(&self) -> std::collections::BTreeSet<TableId> {
        let of = |change: &Prepared| match change {
            Prepared::Rows(rows) => Some(rows.changes.table),
            Prepared::Batch(batch) => Some(batch.table),
            _ => None,
        };
        self.changes.iter().filter_map(of).collect()
    }

    /// How many rows it changes if none is skipped.
    pub fn rows(&self) -> u64 {
        let of = |change: &Prepared| match change {
            Prepared::Rows(rows) => rows.changes.rows.len(),
            Prepared::Batch(batch) => batch.rows + batch.skipped.len() + batch.overwritten,
            _ => 0,
        };
        self.changes.iter().map(|c| of(c) as u64).sum()
    }
}

/// Prepares a write set for tables as the catalog has them. What a change held is given up
/// before the next one is prepared, so that the two forms are never there as a whole.
pub(crate) fn prepare(set: WriteSet, catalog: &Catalog) -> Result<PreparedWriteSet, ApplyError> {
    let migrated = match set.changes.first() {
        Some(Change::Migrate(migration)) => {
            Some(migrate::catalog_of(migration, catalog, Stamp::MIN)?.catalog)
        }
        _ => None,
    };
    let catalog = migrated.as_ref().unwrap_or(catalog);
    let mut tables = HashSet::new();
    let mut repeats = false;
    let with_periods = tables_with_periods(&set);
    let mut row = 0u32;
    let mut shapes = Shapes::default();
    let mut changes = Vec::with_capacity(set.changes.len());
    for change in set.changes {
        let first_row = row;
        let prepared = match change {
            Change::CreateTable(schema) => Prepared::CreateTable(schema),
            Change::DropTable(table) => Prepared::DropTable(table),
            Change::CreateIndex(schema) => Prepared::CreateIndex(schema),
            Change::DropIndex(index) => Prepared::DropIndex(index),
            Change::GiveUpIndex(index) => Prepared::GiveUpIndex(index),
            Change::Once(once) => Prepared::Once(once),
            Change::SetIndexState(index, state) => Prepared::SetIndexState(index, state),
            Change::CreateSequence(schema) => Prepared::CreateSequence(schema),
            Change::ReserveNumbers(id, count) => Prepared::ReserveNumbers(id, count),
            Change::SetSequence(id, value, called) => Prepared::SetSequence(id, value, called),
            Change::Truncate(table) => {
                repeats |= !tables.insert(table);
                Prepared::Truncate(table)
            }
            Change::AlterOptions(table, changes) => Prepared::AlterOptions(table, changes),
            Change::ExpectShape(table, version) => {
                shapes.expect(table, version);
                Prepared::ExpectShape(table, version)
            }
            Change::Catalog(change) => Prepared::Catalog(change),
            Change::Migrate(migration) if changes.is_empty() => Prepared::Migrate(migration),
            Change::Migrate(_) => return Err(ApplyError::CatalogConflict),
            Change::ExpectReads(reads) => Prepared::ExpectReads(reads),
            Change::Rows(changes) => {
                shapes.check(schema_of(catalog, changes.table)?)?;
                repeats |= !tables.insert(changes.table);
                row += changes.rows.len() as u32;
                rows(changes, first_row, catalog, &mut repeats)?
            }
            Change::Batch(change) => {
                repeats |= !tables.insert(change.table);
                row += change.batch.num_rows() as u32;
                let schema = schema_of(catalog, change.table)?;
                shapes.check(schema)?;
                check_shape(schema, &change)?;
                // Beside periods of the same keys, the order of single changes counts.
                if change.batch.num_rows() < BATCH_ROWS_MIN || with_periods.contains(&change.table)
                {
                    let changes = as_rows(schema, &change)?;
                    rows(changes, first_row, catalog, &mut repeats)?
                } else {
                    Prepared::Batch(batch(schema, &change, first_row)?)
                }
            }
        };
        changes.push(prepared);
    }
    Ok(PreparedWriteSet {
        begin: set.begin,
        changes,
        repeats,
        has_periods: !with_periods.is_empty(),
    })
}

/// Whether another change of the same key may add to it instead of taking its place.
fn needs_order(row: &RowChange) -> bool {
    row.valid.is_some() || row.kind == Kind::Erase
}

/// Tables of which versions with periods of their own, or erasures, are written.
fn tables_with_periods(set: &WriteSet) -> HashSet<TableId> {
    let of = |change: &Change| match change {
        Change::Rows(rows) if rows.rows.iter().any(needs_order) => Some(rows.table),
        _ => None,
    };
    set.changes.iter().filter_map(of).collect()
}

/// Which shapes of tables the rows of a write set were made for.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Vec<(TableId, u32)>);

impl Shapes {
    pub(crate) fn expect(&mut self, table: TableId, version: u32) {
        self.0.push((table, version));
    }

    /// Refuses rows that were made for another shape than the table has.
    pub(crate) fn check(&self, schema: &TableSchema) -> Result<(), ApplyError> {
        let expected = self.0.iter().rfind(|(table, _)| *table == schema.id);
        match expected.map_or(0, |(_, version)| *version) == schema.shape.version {
            true => Ok(()),
            false => Err(ApplyError::Conflict {
                table: schema.name.clone(),
            }),
        }
    }
}

fn schema_of(catalog: &Catalog, id: TableId) -> Result<&Arc<TableSchema>, ApplyError> {
    let found = catalog.table_by_id(id);
    found.ok_or(ApplyError::UnknownTable { id })
}

fn rows(
    changes: RowChanges,
    first_row: u32,
    catalog: &Catalog,
    repeats: &mut bool,
) -> Result<Prepared, ApplyError> {
    let schema = schema_of(catalog, changes.table)?;
    let keys = || changes.rows.iter().map(|r| &*r.key.0);
    if !schema.has_hidden_key() && keys().any(<[u8]>::is_empty) {
        // Made before the table was given its key.
        return Err(ApplyError::Conflict {
            table: schema.name.clone(),
        });
    }
    if !*repeats && changes.rows.len() > 1 && !keys().is_sorted_by(|a, b| a < b) {
        let mut seen = HashSet::with_capacity(changes.rows.len());
        *repeats = keys().any(|key| !key.is_empty() && !seen.insert(key));
    }
    Ok(Prepared::Rows(PreparedRows { changes, first_row }))
}

fn check_shape(schema: &TableSchema, change: &BatchChange) -> Result<(), ApplyError> {
    let columns = change.batch.columns();
    let wrong = |reason| ApplyError::Shape {
        table: schema.name.clone(),
        reason,
    };
    if columns.len() != schema.columns.len() {
        return Err(wrong(format!(
            "{} columns were given, but the table has {}",
            columns.len(),
            schema.columns.len()
        )));
    }
    for (array, column) in columns.iter().zip(&schema.columns) {
        if !array
            .data_type()
            .equals_datatype(&column.data_type.to_arrow())
        {
            return Err(wrong(format!(
                "column \"{}\" was given as {}, but is of type {}",
                column.name,
                array.data_type(),
                column.data_type
            )));
        }
        if !column.nullable && array.null_count() > 0 {
            return Err(ApplyError::Key(KeyError::Null {
                column: column.name.clone(),
            }));
        }
    }
    if change.expect == Expect::Unchanged {
        return Err(wrong("a batch cannot expect rows to be unchanged".into()));
    }
    Ok(())
}

fn key_columns(schema: &TableSchema, change: &BatchChange) -> Vec<ArrayRef> {
    let columns = change.batch.columns();
    schema
        .primary_key
        .iter()
        .map(|c| columns[*c].clone())
        .collect()
}

/// A small batch as single rows.
fn as_rows(schema: &TableSchema, change: &BatchChange) -> Result<RowChanges, ApplyError> {
    let keys = encode_keys(schema, &key_columns(schema, change))?;
    let stored = |e: DataError| ApplyError::Storage(StoreError::Data(e));
    let row = |i: usize| {
        let values = schema
            .columns
            .iter()
            .zip(change.batch.columns())
            .map(|(column, array)| value_at(array, i, &column.data_type))
            .collect::<Result<Vec<_>, _>>()
            .map_err(stored)?;
        let mut bytes = Vec::new();
        encode_row(&values, &mut bytes);
        Ok(RowChange {
            key: Key(if schema.has_hidden_key() {
                Box::from([])
            } else {
                keys.get(i).into()
            }),
            expect: change.expect,
            kind: Kind::Put,
            row: Bytes::from(bytes),
            valid: None,
        })
    };
    let rows = (0..change.batch.num_rows())
        .map(row)
        .collect::<Result<_, ApplyError>>()?;
    Ok(RowChanges {
        table: change.table,
        rows,
    })
}

fn batch(
    schema: &TableSchema,
    change: &BatchChange,
    first_row: u32,
) -> Result<PreparedBatch, ApplyError> {
    let mut prepared = PreparedBatch {
        table: change.table,
        expect: change.expect,
        keys: Arc::default(),
        columns: change.batch.columns().to_vec(),
        rows: change.batch.num_rows(),
        ranges: KeyRanges::of_columns(schema, change.batch.columns()),
        order: None,
        duplicate: None,
        skipped: Vec::new(),
        overwritten: 0,
        first_row,
    };
    if schema.has_hidden_key() {
        return Ok(prepared);
    }
    let keys = encode_keys(schema, &key_columns(schema, change))?;
    if (1..keys.len()).all(|i| keys.get(i - 1) < keys.get(i)) {
        prepared.keys = Arc::new(keys);
        return Ok(prepared);
    }
    let order = sorted(&keys, &mut prepared);
    let mut ordered = Keys::default();
    order
        .iter()
        .for_each(|i| ordered.push(keys.get(*i as usize)));
    let indices = UInt32Array::from(order.clone());
    prepared.columns = prepared
        .columns
        .iter()
        .map(|c| arrow_select::take::take(c, &indices, None))
        .collect::<Result<_, _>>()
        .map_err(StoreError::from)?;
    prepared.keys = Arc::new(ordered);
    prepared.rows = order.len();
    prepared.order = Some(order);
    Ok(prepared)
}

/// The rows in key order, those left out that share their key with another.
fn sorted(keys: &Keys, prepared: &mut PreparedBatch) -> Vec<u32> {
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_unstable_by(|a, b| {
        let by_key = keys.get(*a as usize).cmp(keys.get(*b as usize));
        by_key.then(a.cmp(b))
    });
    let same = |a: u32, b: u32| keys.get(a as usize) == keys.get(b as usize);
    if order.windows(2).all(|w| !same(w[0], w[1])) {
        return order;
    }
    let mut kept: Vec<u32> = Vec::with_capacity(order.len());
    for row in order {
        match kept.last_mut() {
            Some(last) if same(*last, row) => match prepared.expect {
                Expect::AbsentOrSkip | Expect::DistinctOrSkip => prepared.skipped.push(row),
                Expect::Any => {
                    *last = row;
                    prepared.overwritten += 1;
                }
                Expect::Absent | Expect::Unchanged => {
                    let key = keys.get(row as usize);
                    prepared.duplicate.get_or_insert_with(|| Key(key.into()));
                }
            },
            _ => kept.push(row),
        }
    }
    kept
}
