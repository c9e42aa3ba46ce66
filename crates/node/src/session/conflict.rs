//! INSERT .. ON CONFLICT: what becomes of a row whose key, or whose values in a unique index,
//! are there. DO NOTHING of the key, or of everything, is decided when the write set is applied;
//! the rest is decided here on what the statement sees, and again if it lost against another.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType as Arrow, Field, Schema};
use chronos_model::{
    Change, Expect, IndexSchema, Key, Period, RowChange, RowChanges, SqlState, Stamp, TableSchema,
    Value,
};
use chronos_query::dml::{self, ConflictTarget, EXCLUDED_TABLE, EXISTING_TABLE, PAIR_COLUMN};
use chronos_store::ReadView;

use super::insert::{valid_from_now, Given};
use super::prepare::{known, InsertPlan};
use super::write::{concat, current_row, internal, take, unique_violation, Written};
use super::Session;
use crate::Error;

impl Session {
    /// INSERT .. ON CONFLICT DO NOTHING, of the values of one unique index: rows whose values
    /// are there are left out here; if somebody adds them meanwhile, this is done again.
    pub(super) async fn insert_distinct(
        &mut self,
        plan: &InsertPlan,
        index: &Arc<IndexSchema>,
        rows: RecordBatch,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        let table = &plan.insert.table;
        self.unbatch(table)?;
        let view = self.read_context()?.view;
        let (mut kept, mut given) = (Vec::new(), HashSet::new());
        for row in 0..rows.num_rows() {
            let values = dml::row_values(table, &rows, row)?;
            let prefix = index.prefix_of_row(table, &values)?;
            let is_new = match prefix.filter(|p| !p.has_null) {
                None => true,
                Some(prefix) => {
                    given.insert(prefix.bytes)
                        && view.holder(index, &values, &HashSet::new())?.is_none()
                }
            };
            kept.extend(is_new.then_some(row as u32));
        }
        let rows = take(&rows, kept)?;
        let result = self
            .insert_rows(plan, rows, &[], Expect::Absent, parameters)
            .await;
        result.map_err(|e| self.lost_against(e, &index.name))
    }

    /// The values of a unique constraint were free when this was planned: who runs outside of
    /// a transaction tries again.
    pub(super) fn lost_against(&self, mut error: Error, constraint: &str) -> Error {
        let is_it = error.constraint.as_deref() == Some(constraint);
        if error.code == SqlState::UNIQUE_VIOLATION && is_it && self.transaction.is_none() {
            error.code = SqlState::SERIALIZATION_FAILURE;
        }
        error
    }

    /// INSERT .. ON CONFLICT DO UPDATE.
    pub(super) async fn upsert(
        &mut self,
        plan: &InsertPlan,
        update: &dml::DoUpdate,
        rows: RecordBatch,
        begin: Stamp,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        let table = &plan.insert.table;
        self.unbatch(table)?;
        let view = self.read_context()?.view;
        let mut seen = HashSet::new();
        let mut changes = Vec::new();
        let (mut fresh, mut excluded, mut existing, mut keys) = (vec![], vec![], vec![], vec![]);
        for row in 0..rows.num_rows() {
            let values = dml::row_values(table, &rows, row)?;
            let key = dml::key_of(table, &values)?;
            let (found, constrained) = existing_row(&view, plan, &key, &values)?;
            if constrained.is_some_and(|values| !seen.insert(values)) {
                return Err(twice());
            }
            match found {
                None => {
                    changes.push(self.fresh_row(table, &view, key, &values)?);
                    fresh.push(row as u32);
                }
                Some((key, current)) => {
                    excluded.push(row as u32);
                    existing.push(current);
                    keys.push((key, None));
                }
            }
        }
        let fresh = take(&rows, fresh)?;
        let mut returned = vec![fresh.clone()];
        let mut count = returned[0].num_rows() as u64;
        if !keys.is_empty() {
            let updated = self
                .update_pairs(plan, update, &existing, take(&rows, excluded)?, parameters)
                .await?;
            count += updated.num_rows() as u64;
            let (new_rows, updates) = self.updates_of(plan, &updated, &keys, &existing).await?;
            changes.extend(updates);
            returned.push(new_rows);
        }
        self.check_unique_in_transaction(table, &changes)?;
        let returned = concat(table, &returned)?;
        let output = self.returning(plan, returned, parameters).await?;
        let change = Change::Rows(RowChanges {
            table: table.id,
            rows: changes,
        });
        let constraint = match &plan.insert.target {
            ConflictTarget::Index(index) => index.name.clone(),
            ConflictTarget::Any | ConflictTarget::Key => table.primary_key_name(),
        };
        match self.write(table, vec![change], begin).await {
            // Somebody inserted the row meanwhile: now it is one to update.
            Err(e) if !self.in_transaction() && self.is_taken_now(plan, &fresh)? => {
                Err(self.lost_against(e, &constraint))
            }
            Err(e) => Err(e),
            Ok(_) => Ok(Written {
                rows: count,
                output,
            }),
        }
    }

    /// INSERT .. ON CONFLICT DO UPDATE where rows are true for periods: of each row's period
    /// what overlaps rows that are there is updated, the rest is inserted.
    pub(super) async fn upsert_periods(
        &mut self,
        plan: &InsertPlan,
        update: &dml::DoUpdate,
        rows: RecordBatch,
        periods: &[Option<Period>],
        parameters: &[Value],
    ) -> Result<Written, Error> {
        let table = &plan.insert.table;
        self.check_takes_periods(table)?;
        self.unbatch(table)?;
        let context = self.read_context()?;
        let mut pairs = Pairs::default();
        let mut given = Given::default();
        for row in 0..rows.num_rows() {
            let values = dml::row_values(table, &rows, row)?;
            let key = dml::key_of(table, &values)?;
            let valid = periods.get(row).copied().flatten();
            let change = RowChange {
                valid,
                ..dml::put(key, &values, Expect::Absent)
            };
            if given.is_again(&change, context.now_micros) {
                return Err(twice());
            }
            let valid = valid_from_now(valid, context.now_micros);
            let there = context.view.pieces(table, &change.key.0, valid)?;
            let shown = there.into_iter().map(|(period, mut values)| {
                dml::show_period(table, &mut values, period);
                (period, values)
            });
            pairs.divide(row as u32, change, valid, shown.collect());
        }
        let fresh = take(&rows, pairs.fresh)?;
        let mut changes = pairs.insertions;
        let mut returned = vec![fresh];
        if !pairs.existing.is_empty() {
            let excluded = take_again(&rows, pairs.excluded)?;
            let updated = self
                .update_pairs(plan, update, &pairs.existing, excluded, parameters)
                .await?;
            let (replaced, existing) = (&pairs.replaced, &pairs.existing);
            let (new_rows, updates) = self.updates_of(plan, &updated, replaced, existing).await?;
            changes.extend(updates);
            returned.push(new_rows);
        }
        let count = returned.iter().map(|b| b.num_rows() as u64).sum();
        let returned = concat(table, &returned)?;
        let output = self.returning(plan, returned, parameters).await?;
        let change = Change::Rows(RowChanges {
            table: table.id,
            rows: changes,
        });
        let written = self.write(table, vec![change], context.view.stamp()).await;
        written.map_err(|e| self.lost_against(e, &table.primary_key_name()))?;
        Ok(Written {
            rows: count,
            output,
        })
    }

    /// The rows that DO UPDATE made of pairs, and the changes that write them. A row that is as
    /// it was is not written.
    async fn updates_of(
        &mut self,
        plan: &InsertPlan,
        updated: &RecordBatch,
        replaced: &[(Key, Option<Period>)],
        existing: &[Vec<Value>],
    ) -> Result<(RecordBatch, Vec<RowChange>), Error> {
        let table = &plan.insert.table;
        let pairs = updated.column(0);
        let pairs =
            arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(pairs);
        let schema = updated.schema();
        let new_rows = chronos_query::coerce_batch(
            table,
            &schema.fields()[1..],
            &updated.columns()[1..],
            updated.num_rows(),
        )?;
        let changed = pairs.values().iter();
        let periods = changed.map(|pair| &replaced[*pair as usize].1);
        let new_rows = dml::show_periods(table, new_rows, periods)?;
        let new_rows = self.finish_rows(&plan.rules, new_rows).await?;
        dml::check_not_null(table, &new_rows)?;
        let mut changes = Vec::with_capacity(updated.num_rows());
        for (row, pair) in pairs.values().iter().enumerate() {
            let values = dml::row_values(table, &new_rows, row)?;
            let (old_key, valid) = &replaced[*pair as usize];
            let new_key = match table.has_hidden_key() {
                true => old_key.clone(),
                false => dml::key_of(table, &values)?,
            };
            if new_key != *old_key {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "ON CONFLICT DO UPDATE cannot change the primary key",
                ));
            }
            let change = RowChange {
                valid: *valid,
                ..dml::put(new_key, &values, Expect::Unchanged)
            };
            if !is_as_it_was(table, &existing[*pair as usize], &change) {
                changes.push(change);
            }
        }
        Ok((new_rows, changes))
    }

    /// Whether a row that was to be inserted would be one to update by now.
    fn is_taken_now(&self, plan: &InsertPlan, fresh: &RecordBatch) -> Result<bool, Error> {
        let view = self.node.inner.replica.store.read_view();
        for row in 0..fresh.num_rows() {
            let values = dml::row_values(&plan.insert.table, fresh, row)?;
            let key = dml::key_of(&plan.insert.table, &values)?;
            if existing_row(&view, plan, &key, &values)?.0.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A row that ON CONFLICT DO UPDATE inserts.
    fn fresh_row(
        &self,
        table: &TableSchema,
        view: &ReadView,
        key: Key,
        values: &[Value],
    ) -> Result<RowChange, Error> {
        if self.transaction.is_none() {
            return Ok(dml::put(key, values, Expect::Absent));
        }
        if table.has_hidden_key() {
            let key = self.node.inner.replica.hidden_keys().key(0);
            return Ok(dml::put(key, values, Expect::Any));
        }
        if view.get(table, &key.0).map_err(Error::from)?.is_some() {
            return Err(unique_violation(table, &key));
        }
        Ok(dml::put(key, values, Expect::Absent))
    }

    /// Evaluates DO UPDATE SET over pairs of an existing and an excluded row.
    async fn update_pairs(
        &mut self,
        insert: &InsertPlan,
        update: &dml::DoUpdate,
        existing: &[Vec<Value>],
        excluded: RecordBatch,
        parameters: &[Value],
    ) -> Result<RecordBatch, Error> {
        let query = insert.insert.update_query(update)?;
        let tables = paired(&insert.insert.table, existing, Some(&excluded))?;
        let types = known(&insert.source.parameters);
        let catalog = self.catalog();
        let plan = self.plan_over(&query, &tables, &types, &catalog)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan, parameters, &mut held).await?;
        match batches.first() {
            None => Ok(RecordBatch::new_empty(Arc::clone(&plan.schema))),
            Some(first) => {
                arrow_select::concat::concat_batches(&first.schema(), &batches).map_err(internal)
            }
        }
    }
}

/// Whether a change writes the values that are there.
fn is_as_it_was(table: &TableSchema, before: &[Value], change: &RowChange) -> bool {
    let mut row = Vec::with_capacity(change.row.len());
    match change.valid {
        None => chronos_model::encode_row(before, &mut row),
        Some(period) => {
            let mut before = before.to_vec();
            dml::show_period(table, &mut before, period);
            chronos_model::encode_row(&before, &mut row);
        }
    }
    row == *change.row
}

pub(super) fn twice() -> Error {
    Error::new(
        SqlState::CARDINALITY_VIOLATION,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .with_hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

/// What becomes of rows with periods, piece by piece.
#[derive(Default)]
struct Pairs {
    /// Rows of which something is inserted.
    fresh: Vec<u32>,
    insertions: Vec<RowChange>,
    /// Rows that are there, and of each the row that was to be inserted.
    existing: Vec<Vec<Value>>,
    excluded: Vec<u32>,
    /// The key of each, and the period in which it is replaced.
    replaced: Vec<(Key, Option<Period>)>,
}

impl Pairs {
    /// Divides a row's period into what is there, by stretches, and what is free.
    fn divide(
        &mut self,
        row: u32,
        change: RowChange,
        valid: Period,
        mut there: Vec<(Period, Vec<Value>)>,
    ) {
        there.sort_by_key(|(period, _)| period.from);
        // Until changed, from when it is recorded, unless it was given otherwise.
        let as_given =
            |period: Period| (change.valid.is_some() || period != valid).then_some(period);
        let mut from = valid.from;
        let mut free = Vec::new();
        for (period, values) in there {
            let overlap = period.intersection(valid);
            free.push(Period {
                from,
                to: overlap.from,
            });
            from = overlap.to;
            self.existing.push(values);
            self.excluded.push(row);
            self.replaced.push((change.key.clone(), as_given(overlap)));
        }
        free.push(Period { from, to: valid.to });
        free.retain(|period| !period.is_empty());
        if !free.is_empty() {
            self.fresh.push(row);
        }
        self.insertions
            .extend(free.into_iter().map(|period| RowChange {
                valid: as_given(period),
                ..change.clone()
            }));
    }
}

/// Rows of a batch, some of them more than once.
fn take_again(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, Error> {
    let rows = arrow_array::UInt32Array::from(rows);
    arrow_select::take::take_record_batch(batch, &rows).map_err(internal)
}

/// The tables that ON CONFLICT DO UPDATE reads; `None`: no rows yet.
pub(super) fn paired(
    table: &TableSchema,
    existing: &[Vec<Value>],
    excluded: Option<&RecordBatch>,
) -> Result<[(String, RecordBatch); 2], Error> {
    let existing = chronos_model::rows_to_batch(table, existing)?;
    let excluded = excluded.unwrap_or(&existing);
    Ok([
        (EXISTING_TABLE.to_owned(), numbered(&existing)?),
        (EXCLUDED_TABLE.to_owned(), numbered(excluded)?),
    ])
}

/// A row's key and values.
type KeyedRow = (Key, Vec<Value>);

/// The row that ON CONFLICT DO UPDATE changes instead of inserting one, with its key; and what
/// no two rows of the statement may have in common, if there is such.
fn existing_row(
    view: &ReadView,
    plan: &InsertPlan,
    key: &Key,
    values: &[Value],
) -> Result<(Option<KeyedRow>, Option<Vec<u8>>), Error> {
    let table = &plan.insert.table;
    let ConflictTarget::Index(index) = &plan.insert.target else {
        let found = current_row(view, table, key)?.map(|row| (key.clone(), row));
        return Ok((found, Some(key.0.to_vec())));
    };
    let prefix = index.prefix_of_row(table, values)?;
    let Some(prefix) = prefix.filter(|p| !p.has_null) else {
        return Ok((None, None));
    };
    let found = match view.holder(index, values, &HashSet::new())? {
        None => None,
        Some(holder) => current_row(view, table, &holder)?.map(|row| (holder, row)),
    };
    Ok((found, Some(prefix.bytes)))
}

/// The batch with its rows numbered in [`PAIR_COLUMN`].
fn numbered(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(PAIR_COLUMN, Arrow::Int64, false)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(
        0..batch.num_rows() as i64,
    )));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(internal)
}
