//! Foreign keys: whether every row that refers to a key has it, after a write set.
//!
//! Decided when a write set is applied, like preconditions, and from what is stored alone; so of
//! two sets of which one adds a child and the other takes its parent away, the later in the log
//! is refused, on every replica alike. What counts is how rows stand after the whole set.
//!
//! ```text
//!   a child is written       its parent is in the set, or stored and not taken away by it
//!   a parent goes, changes   no child has the key: none that is stored and not written by the
//!                            set; those in the set look for their parents themselves
//! ```
//!
//! The same check, over what a transaction sees, answers its statements before COMMIT does.
//! Children are found by an index, or by the beginning of their own keys, never by a scan.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{
    decode_row, key_values, value_at, Access, DataError, Expect, ForeignKey, IndexSchema, Kind,
    Stamp, TableId, TableSchema, Target, Value,
};

use crate::error::{ApplyError, StoreError};
use crate::index::{self, SeenAt};
use crate::prepare::{Prepared, PreparedBatch, PreparedWriteSet};
use crate::read_view::RowData;
use crate::retention::Retained;
use crate::state::{Newest, StoreState, TableState};

/// A foreign key that a write would break.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignKeyViolation {
    /// Of which end of it a row was written.
    pub end: End,
    /// The constraint's name.
    pub constraint: String,
    /// The table that refers.
    pub child: String,
    /// The table referred to.
    pub parent: String,
    /// The columns at the end that was written.
    pub columns: Vec<String>,
    /// Their values.
    pub values: Vec<Value>,
}

/// An end of a foreign key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A row that refers, to a key that is not there.
    Child,
    /// A row whose key is still referred to.
    Parent,
}

/// What is stored, as of when.
pub(crate) struct At<'a> {
    pub(crate) state: &'a StoreState,
    /// Nothing recorded later counts.
    pub(crate) view: Stamp,
    /// What is expired by then is gone, and what is true then counts.
    pub(crate) now_micros: i64,
}

/// Checks what a write set leaves behind. `left_out` says which of its rows are not written, by
/// change; of the tables in `truncated` nothing that is stored counts; `asked` chooses what is
/// checked.
pub(crate) fn check(
    at: &At<'_>,
    set: &PreparedWriteSet,
    left_out: &[Vec<bool>],
    truncated: &[TableId],
    asked: impl Fn(&ForeignKey, End) -> bool,
) -> Result<(), ApplyError> {
    let mut check = Check {
        at,
        set,
        left_out,
        truncated,
        written: HashMap::new(),
    };
    for id in set.tables() {
        let Some(table) = at.state.tables.get(&id) else {
            continue;
        };
        for key in &table.schema.rules.foreign_keys {
            if asked(key, End::Child) {
                check.children(table, key)?;
            }
        }
        for child in table.referenced_by.iter() {
            let Some(child) = at.state.tables.get(child) else {
                continue;
            };
            let keys = child.schema.rules.foreign_keys.iter();
            for key in keys.filter(|key| key.table == id && asked(key, End::Parent)) {
                check.parents(table, child, key)?;
            }
        }
    }
    Ok(())
}

/// Whether rows of one of these tables are written that a foreign key is about.
pub(crate) fn concerns(state: &StoreState, set: &PreparedWriteSet) -> bool {
    set.changes.iter().any(|change| {
        let id = match change {
            Prepared::Rows(rows) => rows.changes.table,
            Prepared::Batch(batch) => batch.table,
            _ => return false,
        };
        let table = state.tables.get(&id);
        table
            .is_some_and(|t| !t.schema.rules.foreign_keys.is_empty() || !t.referenced_by.is_empty())
    })
}

/// Gives the foreign keys of a new table that refer to itself its id.
pub(crate) fn made_own(schema: &mut TableSchema) {
    let id = schema.id;
    let keys = schema.rules.foreign_keys.iter_mut();
    for key in keys.filter(|key| key.table == TableId(0)) {
        key.table = id;
    }
}

/// A table is emptied with those that refer to it, or not at all.
pub(crate) fn check_truncations(
    state: &StoreState,
    truncated: &[TableId],
) -> Result<(), ApplyError> {
    for table in truncated.iter().filter_map(|id| state.tables.get(id)) {
        let mut referring = table.referenced_by.iter();
        let Some(child) = referring.find(|child| !truncated.contains(child)) else {
            continue;
        };
        let child = state.tables.get(child).map(|c| c.schema.name.clone());
        return Err(ApplyError::TruncatesReferenced {
            table: table.schema.name.clone(),
            child: child.unwrap_or_default(),
        });
    }
    Ok(())
}

/// The tables at the other ends of a table's foreign keys.
pub(crate) fn neighbours(table: &TableState) -> Vec<TableId> {
    let parents = table.schema.rules.foreign_keys.iter().map(|key| key.table);
    parents.chain(table.referenced_by.iter().copied()).collect()
}

/// A row of the set.
#[derive(Clone, Copy)]
enum Row<'a> {
    Encoded(&'a Bytes),
    Batch(&'a PreparedBatch, usize),
}

/// What a set makes of a table.
#[derive(Default)]
struct Written<'a> {
    /// By key; `None`: the row goes.
    keys: HashMap<&'a [u8], Option<Row<'a>>>,
    /// New rows with hidden keys.
    fresh: Vec<Row<'a>>,
}

struct Check<'a, 'b> {
    at: &'b At<'a>,
    set: &'a PreparedWriteSet,
    left_out: &'b [Vec<bool>],
    truncated: &'b [TableId],
    /// Made for the tables of which it is asked.
    written: HashMap<TableId, Arc<Written<'a>>>,
}

impl<'a> Check<'a, '_> {
    fn stays(&self, change: usize, row: usize) -> bool {
        let out = self.left_out.get(change).and_then(|out| out.get(row));
        !out.copied().unwrap_or(false)
    }

    /// Calls `visit` with each change of a row of a table: key, precondition, and the row, if it
    /// does not go.
    fn for_each(
        &self,
        table: TableId,
        mut visit: impl FnMut(&'a [u8], Expect, Option<Row<'a>>) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        for (number, change) in self.set.changes.iter().enumerate() {
            match change {
                Prepared::Rows(rows) if rows.changes.table == table => {
                    for (i, change) in rows.changes.rows.iter().enumerate() {
                        if self.stays(number, i) {
                            let row =
                                (change.kind == Kind::Put).then_some(Row::Encoded(&change.row));
                            visit(&change.key.0, change.expect, row)?;
                        }
                    }
                }
                Prepared::Batch(batch) if batch.table == table => {
                    for i in (0..batch.rows).filter(|i| self.stays(number, *i)) {
                        let key = match batch.keys.is_empty() {
                            true => &[][..],
                            false => batch.keys.get(i),
                        };
                        visit(key, batch.expect, Some(Row::Batch(batch, i)))?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn written(&mut self, table: TableId) -> Result<Arc<Written<'a>>, ApplyError> {
        if let Some(known) = self.written.get(&table) {
            return Ok(known.clone());
        }
        let mut written = Written::default();
        self.for_each(table, |key, _, row| {
            match (key.is_empty(), row) {
                (false, row) => drop(written.keys.insert(key, row)),
                (true, Some(row)) => written.fresh.push(row),
                (true, None) => {}
            }
            Ok(())
        })?;
        let written = Arc::new(written);
        self.written.insert(table, written.clone());
        Ok(written)
    }

    /// Whether the rows of a table that the set writes have what they refer to.
    fn children(&mut self, child: &TableState, key: &ForeignKey) -> Result<(), ApplyError> {
        let Some(parent) = self.at.state.tables.get(&key.table) else {
            return Err(ApplyError::CatalogConflict);
        };
        let (schema, columns, target) = target(parent, key)?;
        // In the order of the keys, so that each page is met once.
        let mut wanted: BTreeMap<Vec<u8>, Vec<Value>> = BTreeMap::new();
        self.for_each(child.schema.id, |_, _, row| {
            let Some(row) = row else { return Ok(()) };
            let row = row.values(&child.schema)?;
            match key.refers_to(&child.schema, &row, schema) {
                None => Ok(()),
                Some(None) => Err(missing(&child.schema, schema, key, &row)),
                Some(Some(values)) => {
                    let bytes = target
                        .bytes(schema, &columns, &values)
                        .map_err(StoreError::from)?;
                    wanted.entry(bytes).or_insert_with(|| {
                        let own = key.positions(&child.schema).unwrap_or_default();
                        own.iter().map(|c| row[*c].clone()).collect()
                    });
                    Ok(())
                }
            }
        })?;
        if wanted.is_empty() {
            return Ok(());
        }
        let written = self.written(key.table)?;
        let given = given(&written, schema, target)?;
        for (bytes, shown) in wanted {
            let there = match target {
                Target::PrimaryKey => match written.keys.get(bytes.as_slice()) {
                    Some(row) => row.is_some(),
                    None => self.is_stored(parent, &bytes)?,
                },
                Target::Index(index) => {
                    given.contains(&bytes) || self.has_holder(parent, index, &bytes, &written)?
                }
            };
            if !there {
                return Err(missing_values(&child.schema, schema, key, shown));
            }
        }
        Ok(())
    }

    /// Whether a row that is stored stays, and is there.
    fn is_stored(&self, table: &TableState, key: &[u8]) -> Result<bool, StoreError> {
        let is_gone = self.truncated.contains(&table.schema.id);
        Ok(!is_gone && self.at.current(table, key)?.is_some())
    }

    fn has_holder(
        &self,
        parent: &TableState,
        index: &IndexSchema,
        prefix: &[u8],
        written: &Written<'a>,
    ) -> Result<bool, StoreError> {
        if self.truncated.contains(&parent.schema.id) {
            return Ok(false);
        }
        let seen = SeenAt {
            view: self.at.view,
            retained: self.at.retained(parent),
        };
        let replaced = |key: &[u8]| written.keys.contains_key(key);
        let found = index::holder(self.at.state, parent, index, prefix, &seen, replaced)?;
        Ok(found.is_some())
    }

    /// Whether the keys that go from a table are referred to by none.
    fn parents(
        &mut self,
        parent: &TableState,
        child: &TableState,
        key: &ForeignKey,
    ) -> Result<(), ApplyError> {
        let (schema, columns, target) = target(parent, key)?;
        let written = self.written(schema.id)?;
        let given = given(&written, schema, target)?;
        let mut gone: BTreeMap<Vec<u8>, Vec<Value>> = BTreeMap::new();
        let repeats = self.set.repeats;
        self.for_each(schema.id, |row_key, expect, _| {
            let is_new = matches!(
                expect,
                Expect::Absent | Expect::AbsentOrSkip | Expect::DistinctOrSkip
            );
            let now = written.keys.get(row_key).copied().flatten();
            let keeps_key = matches!(target, Target::PrimaryKey) && now.is_some();
            if row_key.is_empty() || keeps_key || (is_new && !repeats) {
                return Ok(());
            }
            let Some(old) = self.old_row(parent, row_key, target)? else {
                return Ok(());
            };
            if columns.iter().any(|c| old[*c].is_null()) {
                return Ok(());
            }
            let values: Vec<Value> = columns.iter().map(|c| old[*c].clone()).collect();
            let bytes = target
                .bytes(schema, &columns, &values)
                .map_err(StoreError::from)?;
            if !given.contains(&bytes) {
                gone.insert(bytes, old);
            }
            Ok(())
        })?;
        for old in gone.into_values() {
            if self.has_child(parent, child, key, &old)? {
                return Err(referenced(&child.schema, schema, key, &old));
            }
        }
        Ok(())
    }

    /// A row as it is stored. Of one whose primary key is all that matters, there may be no more
    /// than that, and it may not be there: then nothing refers to it.
    fn old_row(
        &self,
        parent: &TableState,
        key: &[u8],
        target: Target<'_>,
    ) -> Result<Option<Vec<Value>>, StoreError> {
        if self.truncated.contains(&parent.schema.id) {
            return Ok(None);
        }
        let schema = &parent.schema;
        if matches!(target, Target::PrimaryKey) {
            let mut row = vec![Value::Null; schema.columns.len()];
            for (column, value) in schema.primary_key.iter().zip(key_values(schema, key)?) {
                row[*column] = value;
            }
            return Ok(Some(row));
        }
        match self.at.current(parent, key)? {
            None => Ok(None),
            Some(newest) => RowData::new(schema.clone(), newest.place)
                .all_values()
                .map(Some),
        }
    }

    /// Whether a row that is stored, and not written by the set, refers to a row.
    fn has_child(
        &mut self,
        parent: &TableState,
        child: &TableState,
        key: &ForeignKey,
        old: &[Value],
    ) -> Result<bool, ApplyError> {
        if self.truncated.contains(&child.schema.id) {
            return Ok(false);
        }
        let written = self.written(child.schema.id)?;
        let mut found = false;
        self.at
            .for_each_child(&parent.schema, child, key, old, |row_key, _| {
                found = !written.keys.contains_key(row_key);
                Ok(match found {
                    true => Search::Ends,
                    false => Search::GoesOn,
                })
            })?;
        Ok(found)
    }
}

/// Whether more is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    GoesOn,
    Ends,
}

impl At<'_> {
    fn retained(&self, table: &TableState) -> Retained {
        Retained::of(&table.schema, self.now_micros)
    }

    /// The current row of a key.
    fn current(&self, table: &TableState, key: &[u8]) -> Result<Option<Newest>, StoreError> {
        let retained = self.retained(table);
        let newest = match table.has_periods() {
            false => table.newest_retained(key, self.view, &retained)?,
            true => table.row_at(key, self.view, self.now_micros, &retained)?,
        };
        Ok(newest.filter(|n| n.kind == Kind::Put))
    }

    /// Calls `visit` with the keys of the current rows that refer to a row, and the rows; with
    /// some of them more than once, perhaps.
    pub(crate) fn for_each_child(
        &self,
        parent: &TableSchema,
        child: &TableState,
        key: &ForeignKey,
        row: &[Value],
        mut visit: impl FnMut(&[u8], RowData) -> Result<Search, StoreError>,
    ) -> Result<(), ApplyError> {
        let schema = &child.schema;
        let Some(values) = key.referred_by(parent, row, schema) else {
            return Ok(());
        };
        let indexes = child.indexes.iter().map(|index| &**index);
        let access = key.access(schema, indexes);
        let (Some(columns), Some(access)) = (key.positions(schema), access) else {
            return Err(ApplyError::CatalogConflict);
        };
        let prefix = access.prefix(schema, &columns, &values);
        let prefix = prefix.map_err(StoreError::from)?;
        let entries = match access {
            Access::KeyPrefix => child,
            Access::Index(index) => match self.state.tables.get(&index.id) {
                Some(entries) => entries,
                None => return Err(ApplyError::CatalogConflict),
            },
        };
        index::for_each_with_prefix(entries, &prefix, self.view, |entry| {
            let start = match access {
                Access::KeyPrefix => 0,
                Access::Index(index) => index.key_start(schema, entry)?,
            };
            let row_key = &entry[start..];
            let Some(newest) = self.current(child, row_key)? else {
                return Ok(Search::GoesOn);
            };
            let row = RowData::new(schema.clone(), newest.place);
            if let Access::Index(_) = access {
                let now = row.values(&columns)?;
                let is_null = now.iter().any(Value::is_null);
                if is_null || access.prefix(schema, &columns, &now)? != prefix {
                    return Ok(Search::GoesOn);
                }
            }
            visit(row_key, row)
        })?;
        Ok(())
    }
}

impl Row<'_> {
    fn values(self, schema: &TableSchema) -> Result<Vec<Value>, StoreError> {
        match self {
            Row::Encoded(bytes) => Ok(decode_row(schema, bytes)?),
            Row::Batch(batch, row) => {
                let columns = schema.columns.iter().zip(&batch.columns);
                let values = columns.map(|(column, array)| value_at(array, row, &column.data_type));
                Ok(values.collect::<Result<Vec<_>, DataError>>()?)
            }
        }
    }
}

/// What a foreign key names of its parent.
fn target<'a>(
    parent: &'a TableState,
    key: &ForeignKey,
) -> Result<(&'a Arc<TableSchema>, Vec<usize>, Target<'a>), ApplyError> {
    let schema = &parent.schema;
    let indexes = parent.indexes.iter().map(|index| &**index);
    let found = key
        .referenced_positions(schema)
        .zip(key.target(schema, indexes));
    let (columns, target) = found.ok_or(ApplyError::CatalogConflict)?;
    Ok((schema, columns, target))
}

/// The prefixes in a unique index of the rows that a set writes.
fn given(
    written: &Written<'_>,
    schema: &TableSchema,
    target: Target<'_>,
) -> Result<HashSet<Vec<u8>>, StoreError> {
    let Target::Index(index) = target else {
        return Ok(HashSet::new());
    };
    let mut given = HashSet::new();
    let rows = written.keys.values().flatten().chain(&written.fresh);
    for row in rows {
        let prefix = index.prefix_of_row(schema, &row.values(schema)?)?;
        given.extend(prefix.filter(|p| !p.has_null).map(|p| p.bytes));
    }
    Ok(given)
}

fn missing(
    child: &TableSchema,
    parent: &TableSchema,
    key: &ForeignKey,
    row: &[Value],
) -> ApplyError {
    let columns = key.positions(child).unwrap_or_default();
    let values = columns.iter().map(|c| row[*c].clone()).collect();
    missing_values(child, parent, key, values)
}

fn missing_values(
    child: &TableSchema,
    parent: &TableSchema,
    key: &ForeignKey,
    values: Vec<Value>,
) -> ApplyError {
    let columns = key.positions(child).unwrap_or_default();
    ApplyError::ForeignKey(Box::new(ForeignKeyViolation {
        end: End::Child,
        constraint: key.name.clone(),
        child: child.name.clone(),
        parent: parent.name.clone(),
        columns: names(child, &columns),
        values,
    }))
}

fn referenced(
    child: &TableSchema,
    parent: &TableSchema,
    key: &ForeignKey,
    row: &[Value],
) -> ApplyError {
    let columns = key.referenced_positions(parent).unwrap_or_default();
    ApplyError::ForeignKey(Box::new(ForeignKeyViolation {
        end: End::Parent,
        constraint: key.name.clone(),
        child: child.name.clone(),
        parent: parent.name.clone(),
        columns: names(parent, &columns),
        values: columns.iter().map(|c| row[*c].clone()).collect(),
    }))
}

fn names(table: &TableSchema, columns: &[usize]) -> Vec<String> {
    let name = |c: &usize| table.columns[*c].name.clone();
    columns.iter().map(name).collect()
}
