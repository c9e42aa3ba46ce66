//! What foreign keys do to rows that refer to those that a statement changes.
//!
//! ```text
//!   DELETE of a parent -> its children, by ON DELETE -> their children, .. -> one write set
//! ```
//!
//! It is worked out on what the statement sees, and written with its own changes. A child that was
//! added meanwhile refuses the set when it is applied, and the statement runs again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use chronos_model::{
    decode_row, rows_to_batch, value_at, Catalog, Change, Expect, ForeignKey, Key, Kind,
    ReferentialAction, RowChange, RowChanges, Stamp, TableId, TableSchema, Value,
};
use chronos_query::{dml, sql, RowRules};
use chronos_store::{ReadView, Reservation};

use super::lost;
use crate::session::write::{current_row, unique_violation};
use crate::session::Session;
use crate::Error;

/// Rows whose keys a statement changes: from, to.
pub(in crate::session) type Moves = HashMap<Key, Key>;

/// What foreign keys added to a statement's changes.
#[derive(Debug)]
pub(in crate::session) struct Acted {
    pub(super) keys: HashSet<(TableId, String)>,
    /// The tables that are changed besides the statement's own.
    pub(in crate::session) others: Vec<Arc<TableSchema>>,
    /// As of when rows were read.
    pub(in crate::session) begin: Stamp,
}

impl Default for Acted {
    fn default() -> Acted {
        Acted {
            keys: HashSet::new(),
            others: Vec::new(),
            begin: Stamp::MAX,
        }
    }
}

impl Acted {
    /// A refused write: a child that was not there when its parent's children were changed may
    /// be changed with them when the statement runs again.
    pub(in crate::session) fn lost(&self, error: Error, catalog: &Catalog) -> Error {
        lost(error, &self.keys, catalog)
    }
}

/// A row that goes or changes, as its children shall hear of it.
struct Event {
    table: Arc<TableSchema>,
    old: Vec<Value>,
    new: Option<Vec<Value>>,
}

/// A statement's changes while foreign keys add to them.
struct Work {
    catalog: Arc<Catalog>,
    view: ReadView,
    planned: BTreeMap<TableId, BTreeMap<Key, RowChange>>,
    events: VecDeque<Event>,
    acted: Acted,
    held: Reservation,
}

impl Session {
    /// Whether it matters to rows of other tables which key a row of this one moves to.
    pub(in crate::session) fn moves_matter(&self, table: &TableSchema) -> bool {
        let catalog = self.catalog();
        let mut keys = catalog.foreign_keys_to(table.id);
        keys.any(|(_, key)| key.on_update.acts())
    }

    /// Adds to the changes of a table what foreign keys do to rows that refer to it.
    pub(in crate::session) async fn act_on_references(
        &mut self,
        table: &TableSchema,
        changes: &mut Vec<Change>,
        moves: &Moves,
    ) -> Result<Acted, Error> {
        let catalog = self.catalog();
        let acts = |(_, key): (_, &ForeignKey)| key.on_update.acts() || key.on_delete.acts();
        if !changes.iter().any(replaces) || !catalog.foreign_keys_to(table.id).any(acts) {
            return Ok(Acted::default());
        }
        for table in reached(&catalog, table.id) {
            self.unbatch(&table)?;
        }
        let view = self.read_context()?.view;
        let begin = view.stamp();
        let mut work = Work {
            catalog: view.catalog().clone(),
            view,
            planned: BTreeMap::new(),
            events: VecDeque::new(),
            acted: Acted {
                begin,
                ..Acted::default()
            },
            held: self.write_memory(),
        };
        work.begin(table, changes, moves)?;
        while let Some(event) = work.events.pop_front() {
            let catalog = work.catalog.clone();
            for (child, key) in catalog.foreign_keys_to(event.table.id) {
                self.act(&mut work, &event, child, key).await?;
            }
        }
        let Work {
            mut planned,
            mut acted,
            catalog,
            ..
        } = work;
        if acted.keys.is_empty() {
            return Ok(Acted::default());
        }
        let own = planned.remove(&table.id).unwrap_or_default();
        finish(table.id, changes, own);
        for (id, rows) in planned.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            let rows: Vec<RowChange> = rows.into_values().collect();
            if let Some(table) = catalog.table_by_id(id) {
                self.check_unique_in_transaction(table, &rows)?;
                acted.others.push(table.clone());
            }
            changes.push(Change::Rows(RowChanges { table: id, rows }));
        }
        Ok(acted)
    }

    /// What a foreign key does to the rows that refer to one that goes or changes.
    async fn act(
        &mut self,
        work: &mut Work,
        event: &Event,
        child: &Arc<TableSchema>,
        key: &ForeignKey,
    ) -> Result<(), Error> {
        let old = key.referred_by(&event.table, &event.old, child);
        let (Some(old), Some(columns)) = (old, key.positions(child)) else {
            return Ok(());
        };
        let (action, given) = match &event.new {
            None => (key.on_delete, None),
            Some(new) => {
                if key.referred_by(&event.table, new, child).as_ref() == Some(&old) {
                    return Ok(());
                }
                (
                    key.on_update,
                    Some(values_of(key, &event.table, new, child)?),
                )
            }
        };
        if !action.acts() {
            return Ok(());
        }
        work.acted.keys.insert((child.id, key.name.clone()));
        let found = work.children(event, child, key, &columns, &old)?;
        if found.is_empty() {
            return Ok(());
        }
        if action == ReferentialAction::Cascade && event.new.is_none() {
            for (row_key, row) in found {
                work.plan(child, dml::removal(row_key));
                work.events.push_back(Event {
                    table: child.clone(),
                    old: row,
                    new: None,
                });
            }
            return Ok(());
        }
        let mut rows: Vec<Vec<Value>> = found.iter().map(|(_, row)| row.clone()).collect();
        for (i, column) in columns.iter().enumerate() {
            match action {
                ReferentialAction::SetDefault => {
                    for row in &mut rows {
                        row[*column] = self.default_value(child, *column).await?;
                    }
                }
                _ => {
                    let given = given
                        .as_ref()
                        .filter(|_| action == ReferentialAction::Cascade);
                    let value = given.map_or(Value::Null, |values| values[i].clone());
                    rows.iter_mut().for_each(|row| row[*column] = value.clone());
                }
            }
        }
        let rows = self.ruled(child, &rows, &work.catalog).await?;
        for (i, (row_key, before)) in found.into_iter().enumerate() {
            let row = dml::row_values(child, &rows, i)?;
            work.replace(child, row_key, &row)?;
            work.events.push_back(Event {
                table: child.clone(),
                old: before,
                new: Some(row),
            });
        }
        Ok(())
    }

    /// Changed rows as they are to be stored.
    async fn ruled(
        &mut self,
        table: &Arc<TableSchema>,
        rows: &[Vec<Value>],
        catalog: &Arc<Catalog>,
    ) -> Result<RecordBatch, Error> {
        let rules = RowRules::plan(&self.node.inner.engine, table, catalog, &self.facts)?;
        let mut any = TableSchema::clone(table);
        any.columns.iter_mut().for_each(|c| c.nullable = true);
        dml::check_not_null(table, &rows_to_batch(&any, rows)?)?;
        let batch = rows_to_batch(table, rows)?;
        self.finish_rows(&rules, batch).await
    }

    async fn default_value(&mut self, table: &TableSchema, column: usize) -> Result<Value, Error> {
        let column = &table.columns[column];
        let Some(default) = &column.default else {
            return Ok(Value::Null);
        };
        let default = chronos_query::schemas::stored_default(default);
        let data_type = &column.data_type;
        let query = sql::parse_query(&format!("SELECT CAST(({default}) AS {data_type})"))?;
        let catalog = self.catalog();
        let plan = self.plan_over(&query, &[], &[], &catalog)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan, &[], &mut held).await?;
        match batches.iter().find(|batch| batch.num_rows() > 0) {
            Some(batch) => Ok(value_at(batch.column(0), 0, data_type)?),
            None => Ok(Value::Null),
        }
    }
}

impl Work {
    /// Takes up the statement's own changes, and what becomes of each row by them.
    fn begin(
        &mut self,
        table: &TableSchema,
        changes: &[Change],
        moves: &Moves,
    ) -> Result<(), Error> {
        let Some(schema) = self.catalog.table_by_id(table.id).cloned() else {
            return Ok(());
        };
        let rows = changes.iter().filter_map(|change| match change {
            Change::Rows(rows) => Some(&rows.rows),
            _ => None,
        });
        let rows: Vec<&RowChange> = rows.flatten().filter(|r| !r.key.0.is_empty()).collect();
        self.held
            .try_grow(rows.iter().map(|r| r.memory_bytes() as u64).sum())?;
        let own = self.planned.entry(schema.id).or_default();
        own.extend(rows.iter().map(|row| (row.key.clone(), (*row).clone())));
        // A key that moves to another may be taken by a third.
        let left = moves.keys().filter(|key| !own.contains_key(*key));
        let keys: BTreeSet<Key> = own.keys().chain(left).cloned().collect();
        let mut events = Vec::new();
        for key in keys {
            if own.get(&key).is_some_and(|row| row.kind == Kind::Erase) {
                continue;
            }
            let Some(old) = current_row(&self.view, &schema, &key)? else {
                continue;
            };
            let to = moves.get(&key).unwrap_or(&key);
            let put = own.get(to).filter(|row| row.kind == Kind::Put);
            let new = put.map(|row| decode_row(&schema, &row.row)).transpose()?;
            events.push(Event {
                table: schema.clone(),
                old,
                new,
            });
        }
        self.events.extend(events);
        Ok(())
    }

    /// The rows that refer to a row, as they are by now, and their keys.
    fn children(
        &mut self,
        event: &Event,
        child: &Arc<TableSchema>,
        key: &ForeignKey,
        columns: &[usize],
        old: &[Value],
    ) -> Result<Vec<(Key, Vec<Value>)>, Error> {
        let refers = |row: &[Value]| columns.iter().zip(old).all(|(c, value)| row[*c] == *value);
        let planned = self.planned.entry(child.id).or_default();
        let mut found: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        let mut failed: Option<Error> = None;
        let held = &mut self.held;
        let visit = |row_key: Key, row: Vec<Value>| {
            let row = match planned.get(&row_key) {
                None => Ok(Some(row)),
                Some(change) if change.kind != Kind::Put => Ok(None),
                Some(change) => decode_row(child, &change.row).map(Some),
            };
            let row = match row {
                Ok(row) => row.filter(|row| refers(row)),
                Err(e) => {
                    failed = Some(e.into());
                    return ControlFlow::Break(());
                }
            };
            if let Some(row) = row {
                if let Err(e) = held.try_grow(row_bytes(&row_key, &row)) {
                    failed = Some(e.into());
                    return ControlFlow::Break(());
                }
                found.insert(row_key, row);
            }
            ControlFlow::Continue(())
        };
        let view = &self.view;
        view.for_each_referring(child, key, &event.table, &event.old, visit)
            .map_err(|e| Error::new(e.sqlstate(), e.to_string()))?;
        match failed {
            Some(error) => Err(error),
            None => Ok(found.into_iter().collect()),
        }
    }

    /// A change on top of what is planned of its key.
    fn plan(&mut self, table: &TableSchema, mut change: RowChange) {
        let planned = self.planned.entry(table.id).or_default();
        if let Some(before) = planned.get(&change.key) {
            // Whatever held before the first change is what must still hold.
            change.expect = before.expect;
        }
        planned.insert(change.key.clone(), change);
    }

    /// A row with other values, which may be stored under another key then.
    fn replace(&mut self, table: &TableSchema, key: Key, row: &[Value]) -> Result<(), Error> {
        let new_key = match table.has_hidden_key() {
            true => key.clone(),
            false => dml::key_of(table, row)?,
        };
        if new_key == key {
            self.plan(table, dml::put(key, row, Expect::Unchanged));
            return Ok(());
        }
        self.plan(table, dml::removal(key));
        let planned = self.planned.entry(table.id).or_default();
        let taken = planned.get(&new_key).map(|change| change.kind);
        match taken {
            Some(Kind::Put) => Err(unique_violation(table, &new_key)),
            Some(_) => {
                self.plan(table, dml::put(new_key, row, Expect::Unchanged));
                Ok(())
            }
            None => {
                if current_row(&self.view, table, &new_key)?.is_some() {
                    return Err(unique_violation(table, &new_key));
                }
                self.plan(table, dml::put(new_key, row, Expect::Absent));
                Ok(())
            }
        }
    }
}

/// About what a row that was found takes, there and in the changes.
fn row_bytes(key: &Key, row: &[Value]) -> u64 {
    /// Of the places in maps and queues.
    const PLACES_BYTES: usize = 256;
    let text = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Bytea(bytes) => bytes.len(),
        _ => 0,
    };
    let values: usize = row.iter().map(|v| size_of::<Value>() + text(v)).sum();
    (PLACES_BYTES + key.0.len() + 3 * values) as u64
}

/// The statement's own changes with what was added to them.
fn finish(table: TableId, changes: &mut Vec<Change>, own: BTreeMap<Key, RowChange>) {
    for change in changes.iter_mut() {
        if let Change::Rows(rows) = change {
            rows.rows.retain(|row| row.key.0.is_empty());
        }
    }
    changes.retain(|change| !matches!(change, Change::Rows(rows) if rows.rows.is_empty()));
    if !own.is_empty() {
        let rows = own.into_values().collect();
        changes.push(Change::Rows(RowChanges { table, rows }));
    }
}

/// The values that a changed key gives to the columns that refer to it.
fn values_of(
    key: &ForeignKey,
    parent: &TableSchema,
    row: &[Value],
    child: &TableSchema,
) -> Result<Vec<Value>, Error> {
    let columns = key.positions(child).unwrap_or_default();
    let referenced = key.referenced_positions(parent).unwrap_or_default();
    let pairs = columns.iter().zip(&referenced);
    let values = pairs.map(|(c, r)| match &row[*r] {
        Value::Null => Ok(Value::Null),
        value => value.clone().coerce(&child.columns[*c].data_type),
    });
    Ok(values.collect::<Result<Vec<_>, _>>()?)
}

/// Whether a change may take rows away or change their keys.
fn replaces(change: &Change) -> bool {
    let is_new = |row: &RowChange| {
        let expects_none = matches!(
            row.expect,
            Expect::Absent | Expect::AbsentOrSkip | Expect::DistinctOrSkip
        );
        expects_none && row.kind == Kind::Put
    };
    match change {
        Change::Rows(rows) => !rows.rows.iter().all(is_new),
        _ => false,
    }
}

/// A table and all that refer to it, directly or not.
fn reached(catalog: &Catalog, table: TableId) -> Vec<Arc<TableSchema>> {
    let mut ids = vec![table];
    let mut next = 0;
    while let Some(id) = ids.get(next).copied() {
        next += 1;
        for (child, _) in catalog.foreign_keys_to(id) {
            if !ids.contains(&child.id) {
                ids.push(child.id);
            }
        }
    }
    let tables = ids.into_iter().filter_map(|id| catalog.table_by_id(id));
    tables.cloned().collect()
}
