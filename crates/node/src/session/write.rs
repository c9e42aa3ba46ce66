//! Writing: rows found or given become changes; changes are proposed at once, or
//! kept until COMMIT.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, UInt32Array};
use arrow_schema::{DataType as Arrow, Field, Schema, SchemaRef};
use chronos_model::{
    Change, DataType, Expect, IndexSchema, Key, Kind, RowChange, RowChanges, SqlState, Stamp,
    TableSchema, Value, WriteSet,
};
use chronos_query::dml::{
    self, ConflictTarget, OnConflict, EXCLUDED_TABLE, EXISTING_TABLE, PAIR_COLUMN,
};
use chronos_query::QueryError;
use chronos_store::{Applied, ReadView};

use super::prepare::{known, InsertPlan, ModifyPlan};
use super::transaction::Transaction;
use super::{Session, ATTEMPTS_MAX};
use crate::{CommandTag, Error, Outcome, RowData, Rows};

/// What a statement wrote.
struct Written {
    rows: u64,
    /// What RETURNING gives.
    output: Vec<RecordBatch>,
}

impl Session {
    pub(super) fn refuse_read_only(&self, what: &str) -> Result<(), Error> {
        match &self.transaction {
            Some(t) if t.read_only => Err(Error::new(
                SqlState::READ_ONLY_TRANSACTION,
                format!("cannot execute {what} in a read-only transaction"),
            )),
            _ => Ok(()),
        }
    }

    /// Runs `attempt` again while it loses against concurrent writers, unless in
    /// a transaction, where the client must decide.
    pub(super) fn may_retry(&self, error: &Error, attempts: u32) -> bool {
        self.transaction.is_none()
            && error.code == SqlState::SERIALIZATION_FAILURE
            && attempts < ATTEMPTS_MAX
    }

    pub(super) async fn execute_insert(
        &mut self,
        plan: &InsertPlan,
        parameters: &[Value],
    ) -> Result<Outcome, Error> {
        self.refuse_read_only("INSERT")?;
        let mut attempts = 0;
        let written = loop {
            attempts += 1;
            match self.insert_once(plan, parameters).await {
                Err(e) if self.may_retry(&e, attempts) => {}
                // It is the statement itself that gives values twice.
                Err(e) if e.code == SqlState::SERIALIZATION_FAILURE && e.constraint.is_some() => {
                    let code = SqlState::UNIQUE_VIOLATION;
                    return Err(Error { code, ..e });
                }
                other => break other?,
            }
        };
        Ok(outcome("INSERT", written, &plan.columns))
    }

    async fn insert_once(
        &mut self,
        plan: &InsertPlan,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        let begin = self.read_context()?.view.stamp();
        let batches = self.collect(&plan.source, parameters).await?;
        let insert = &plan.insert;
        let mut rows = Vec::with_capacity(batches.len());
        for batch in &batches {
            rows.push(insert.rows(batch)?);
        }
        let rows = concat(&insert.table, &rows)?;
        if rows.num_rows() == 0 {
            return Ok(Written {
                rows: 0,
                output: vec![],
            });
        }
        match &insert.on_conflict {
            OnConflict::Fail => {
                self.insert_rows(plan, rows, Expect::Absent, parameters)
                    .await
            }
            OnConflict::Skip => match &insert.target {
                ConflictTarget::Any => {
                    self.insert_rows(plan, rows, Expect::DistinctOrSkip, parameters)
                        .await
                }
                ConflictTarget::Key => {
                    self.insert_rows(plan, rows, Expect::AbsentOrSkip, parameters)
                        .await
                }
                ConflictTarget::Index(index) => {
                    self.insert_distinct(plan, index, rows, parameters).await
                }
            },
            OnConflict::Update(update) => self.upsert(plan, update, rows, begin, parameters).await,
        }
    }

    /// INSERT .. ON CONFLICT DO NOTHING, of the values of one unique index: rows whose values
    /// are there are left out here; if somebody adds them meanwhile, this is done again.
    async fn insert_distinct(
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
            .insert_rows(plan, rows, Expect::Absent, parameters)
            .await;
        result.map_err(|e| self.lost_against(e, &index.name))
    }

    /// The values of a unique constraint were free when this was planned: who runs outside of
    /// a transaction tries again.
    fn lost_against(&self, mut error: Error, constraint: &str) -> Error {
        let is_it = error.constraint.as_deref() == Some(constraint);
        if error.code == SqlState::UNIQUE_VIOLATION && is_it && self.transaction.is_none() {
            error.code = SqlState::SERIALIZATION_FAILURE;
        }
        error
    }

    /// Inserts rows in the table's columns.
    async fn insert_rows(
        &mut self,
        plan: &InsertPlan,
        rows: RecordBatch,
        expect: Expect,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        let table = &plan.insert.table;
        let mut change = dml::insertions(table, rows.clone(), expect)?;
        if self.transaction.is_some() {
            let kept = self.resolve_in_transaction(table, &mut change)?;
            let rows = match kept {
                None => rows,
                Some(kept) => take(&rows, kept)?,
            };
            let count = rows.num_rows() as u64;
            let output = self.returning(plan, rows, parameters).await?;
            self.write(vec![change], Stamp::MAX).await?;
            return Ok(Written {
                rows: count,
                output,
            });
        }
        if expect == Expect::Absent {
            let count = rows.num_rows() as u64;
            let output = self.returning(plan, rows, parameters).await?;
            self.write(vec![change], Stamp::MAX).await?;
            return Ok(Written {
                rows: count,
                output,
            });
        }
        // Which rows are skipped is known once they are written.
        let applied = self
            .write(vec![change], Stamp::MAX)
            .await?
            .unwrap_or_default();
        let skipped: HashSet<u32> = applied.skipped_rows.iter().copied().collect();
        let kept = (0..rows.num_rows() as u32)
            .filter(|i| !skipped.contains(i))
            .collect();
        let rows = take(&rows, kept)?;
        Ok(Written {
            rows: rows.num_rows() as u64,
            output: self.returning(plan, rows, parameters).await?,
        })
    }

    async fn returning(
        &mut self,
        plan: &InsertPlan,
        rows: RecordBatch,
        parameters: &[Value],
    ) -> Result<Vec<RecordBatch>, Error> {
        let types = &plan.source.parameters;
        self.evaluate_returning(&plan.insert.returning, rows, types, parameters)
            .await
    }

    /// What RETURNING gives for rows that are about to be written. Asked before they are:
    /// its subqueries see what the statement saw, and if it fails nothing is written.
    async fn evaluate_returning(
        &mut self,
        query: &Option<String>,
        rows: RecordBatch,
        types: &[DataType],
        parameters: &[Value],
    ) -> Result<Vec<RecordBatch>, Error> {
        let Some(query) = query else {
            return Ok(vec![]);
        };
        let catalog = self.catalog();
        let plan = self.plan_returning(query, rows, &known(types), &catalog)?;
        self.collect(&plan, parameters).await
    }

    /// In a transaction, keys already there are found when the row is given, and
    /// rows without a primary key get their hidden key, so that the transaction
    /// can change them again. Gives the positions of the rows kept, if not all.
    pub(super) fn resolve_in_transaction(
        &mut self,
        table: &Arc<TableSchema>,
        change: &mut Change,
    ) -> Result<Option<Vec<u32>>, Error> {
        if table.has_hidden_key() {
            if let Change::Rows(changes) = change {
                let stamp = self.node.inner.replica.next_stamp();
                for (position, row) in changes.rows.iter_mut().enumerate() {
                    row.key = hidden_key(stamp, position as u64);
                    if row.expect != Expect::DistinctOrSkip {
                        row.expect = Expect::Any;
                    }
                }
            }
        }
        let Change::Rows(changes) = change else {
            return Ok(None);
        };
        let view = self.read_context()?.view;
        let mut kept = Vec::with_capacity(changes.rows.len());
        let mut given = HashSet::new();
        for (position, row) in changes.rows.iter().enumerate() {
            let present = !given.insert(row.key.clone())
                || view.get(table, &row.key.0).map_err(Error::from)?.is_some();
            match row.expect {
                Expect::Absent if present => return Err(unique_violation(table, &row.key)),
                Expect::AbsentOrSkip | Expect::DistinctOrSkip if present => {}
                _ => kept.push(position as u32),
            }
        }
        let remaining: Vec<RowChange> = kept
            .iter()
            .map(|&i| changes.rows[i as usize].clone())
            .collect();
        let not_distinct = self.check_unique_in_transaction(table, &remaining)?;
        for position in not_distinct.into_iter().rev() {
            kept.remove(position);
        }
        if kept.len() == changes.rows.len() {
            return Ok(None);
        }
        changes.rows = kept
            .iter()
            .map(|&i| changes.rows[i as usize].clone())
            .collect();
        Ok(Some(kept))
    }

    /// INSERT .. ON CONFLICT DO UPDATE.
    async fn upsert(
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
                return Err(Error::new(SqlState::CARDINALITY_VIOLATION, "ON CONFLICT DO UPDATE command cannot affect row a second time")
                    .with_hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values."));
            }
            match found {
                None => {
                    changes.push(self.fresh_row(table, &view, key, &values)?);
                    fresh.push(row as u32);
                }
                Some((key, current)) => {
                    excluded.push(row as u32);
                    existing.push(current);
                    keys.push(key);
                }
            }
        }
        let fresh = take(&rows, fresh)?;
        let mut returned = vec![fresh.clone()];
        let mut count = returned[0].num_rows() as u64;
        if !keys.is_empty() {
            let updated = self
                .update_pairs(plan, update, existing, take(&rows, excluded)?, parameters)
                .await?;
            count += updated.num_rows() as u64;
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
            dml::check_not_null(table, &new_rows)?;
            for (row, pair) in pairs.values().iter().enumerate() {
                let values = dml::row_values(table, &new_rows, row)?;
                let old_key = &keys[*pair as usize];
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
                changes.push(dml::put(new_key, &values, Expect::Unchanged));
            }
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
        match self.write(vec![change], begin).await {
            // Somebody inserted the row meanwhile: now it is one to update.
            Err(e) if self.is_taken_now(plan, &fresh)? => Err(self.lost_against(e, &constraint)),
            Err(e) => Err(e),
            Ok(_) => Ok(Written {
                rows: count,
                output,
            }),
        }
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
            let stamp = self.node.inner.replica.next_stamp();
            return Ok(dml::put(hidden_key(stamp, 0), values, Expect::Any));
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
        existing: Vec<Vec<Value>>,
        excluded: RecordBatch,
        parameters: &[Value],
    ) -> Result<RecordBatch, Error> {
        let query = insert.insert.update_query(update)?;
        let tables = paired(&insert.insert.table, &existing, Some(&excluded))?;
        let types = known(&insert.source.parameters);
        let catalog = self.catalog();
        let plan = self.plan_over(&query, &tables, &types, &catalog)?;
        let batches = self.collect(&plan, parameters).await?;
        match batches.first() {
            None => Ok(RecordBatch::new_empty(Arc::clone(&plan.schema))),
            Some(first) => {
                arrow_select::concat::concat_batches(&first.schema(), &batches).map_err(internal)
            }
        }
    }

    pub(super) async fn execute_modify(
        &mut self,
        plan: &ModifyPlan,
        parameters: &[Value],
    ) -> Result<Outcome, Error> {
        let verb = if plan.modify.kind == Kind::Delete {
            "DELETE"
        } else {
            "UPDATE"
        };
        self.refuse_read_only(verb)?;
        let mut attempts = 0;
        let written = loop {
            attempts += 1;
            match self.modify_once(plan, parameters).await {
                Err(e) if self.may_retry(&e, attempts) => {}
                other => break other?,
            }
        };
        Ok(outcome(verb, written, &plan.columns))
    }

    async fn modify_once(
        &mut self,
        plan: &ModifyPlan,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        self.unbatch(&plan.modify.table)?;
        let begin = self.read_context()?.view.stamp();
        let batches = self.collect(&plan.source, parameters).await?;
        let mut seen = HashSet::new();
        let shown = plan.modify.returning_schema(&plan.source.schema);
        let (mut changes, mut returned) = (Vec::new(), Vec::new());
        let mut rows = 0;
        for batch in &batches {
            let found = plan.modify.rows(batch, &mut seen, &shown)?;
            rows += found.keys.len() as u64;
            changes.extend(plan.modify.changes(&found.keys, &found.rows)?);
            returned.push(found.returned);
        }
        self.check_moved_keys(&plan.modify.table, &changes)?;
        self.check_unique_in_transaction(&plan.modify.table, &changes)?;
        let returned = arrow_select::concat::concat_batches(&shown, &returned).map_err(internal)?;
        let types = &plan.source.parameters;
        let output = self
            .evaluate_returning(&plan.modify.returning, returned, types, parameters)
            .await?;
        let change = Change::Rows(RowChanges {
            table: plan.modify.table.id,
            rows: one_per_key(changes),
        });
        self.write(vec![change], begin).await?;
        Ok(Written { rows, output })
    }

    /// An UPDATE of the primary key must not run into rows that stay: checked here
    /// against each other and, in a transaction, against what it sees.
    fn check_moved_keys(
        &mut self,
        table: &Arc<TableSchema>,
        changes: &[RowChange],
    ) -> Result<(), Error> {
        let removed: HashSet<&Key> = changes
            .iter()
            .filter(|c| c.kind == Kind::Delete)
            .map(|c| &c.key)
            .collect();
        let mut written = HashSet::new();
        let moved: Vec<&RowChange> = changes.iter().filter(|c| c.kind == Kind::Put).collect();
        if !moved.iter().any(|c| c.expect == Expect::Absent) {
            return Ok(());
        }
        let view = self.read_context()?.view;
        for change in moved {
            let taken = change.expect == Expect::Absent
                && !removed.contains(&change.key)
                && view
                    .get(table, &change.key.0)
                    .map_err(Error::from)?
                    .is_some();
            if taken || !written.insert(&change.key) {
                return Err(unique_violation(table, &change.key));
            }
        }
        Ok(())
    }

    pub(super) fn unbatch(&mut self, table: &Arc<TableSchema>) -> Result<(), Error> {
        match &mut self.transaction {
            Some(t) => t.unbatch(table),
            None => Ok(()),
        }
    }

    /// Proposes changes, or keeps them for COMMIT (`None`).
    pub(super) async fn write(
        &mut self,
        changes: Vec<Change>,
        begin: Stamp,
    ) -> Result<Option<Applied>, Error> {
        let changes: Vec<Change> = changes
            .into_iter()
            .filter(|c| !matches!(c, Change::Rows(r) if r.rows.is_empty()))
            .collect();
        match &mut self.transaction {
            Some(transaction) => {
                changes.into_iter().for_each(|c| transaction.add(c));
                Ok(None)
            }
            None if changes.is_empty() => Ok(None),
            None => {
                let committal = self.propose(WriteSet { begin, changes }).await?;
                Ok(Some(committal.applied))
            }
        }
    }

    pub(super) async fn commit_transaction(
        &mut self,
        transaction: Transaction,
    ) -> Result<(), Error> {
        let set = transaction.writes.to_write_set(transaction.view.stamp());
        if !set.changes.is_empty() {
            self.propose(set).await?;
        }
        Ok(())
    }

    /// Proposes a write set; from here on the statement is not cancelled.
    pub(super) async fn propose(
        &mut self,
        set: WriteSet,
    ) -> Result<crate::replica::Committal, Error> {
        self.committing.store(true, Ordering::Release);
        self.node.inner.replica.propose(set).await
    }
}

fn outcome(verb: &'static str, written: Written, columns: &Option<SchemaRef>) -> Outcome {
    let tag = CommandTag {
        verb,
        rows: Some(written.rows),
    };
    let Some(columns) = columns else {
        return Outcome::Done(tag);
    };
    let stream = futures::stream::iter(written.output.into_iter().map(Ok));
    Outcome::Rows(Rows {
        schema: Arc::clone(columns),
        data: RowData::Batches(Box::pin(stream)),
        tag,
    })
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

/// The current row of a key, all columns.
pub(super) fn current_row(
    view: &ReadView,
    table: &TableSchema,
    key: &Key,
) -> Result<Option<Vec<Value>>, Error> {
    match view.get(table, &key.0).map_err(Error::from)? {
        None => Ok(None),
        Some(found) => Ok(Some(found.row.all_values().map_err(Error::from)?)),
    }
}

fn hidden_key(stamp: Stamp, position: u64) -> Key {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&stamp.0.to_be_bytes());
    bytes.extend_from_slice(&position.to_be_bytes());
    Key(bytes.into())
}

/// A key that one row leaves and another takes is simply replaced.
fn one_per_key(changes: Vec<RowChange>) -> Vec<RowChange> {
    let written: HashSet<Key> = changes
        .iter()
        .filter(|c| c.kind == Kind::Put)
        .map(|c| c.key.clone())
        .collect();
    let removed: HashSet<Key> = changes
        .iter()
        .filter(|c| c.kind == Kind::Delete)
        .map(|c| c.key.clone())
        .collect();
    changes
        .into_iter()
        .filter(|c| c.kind == Kind::Put || !written.contains(&c.key))
        .map(|mut c| {
            if c.kind == Kind::Put && removed.contains(&c.key) {
                c.expect = Expect::Unchanged;
            }
            c
        })
        .collect()
}

fn unique_violation(table: &TableSchema, key: &Key) -> Error {
    let constraint = table.primary_key_name();
    let mut error = Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{constraint}\""),
    );
    let names: Vec<&str> = table
        .primary_key
        .iter()
        .map(|&c| table.columns[c].name.as_str())
        .collect();
    if let Ok(values) = chronos_model::key_values(table, &key.0) {
        let shown: Vec<String> = values.iter().map(chronos_model::text::format).collect();
        error.detail = Some(format!(
            "Key ({})=({}) already exists.",
            names.join(", "),
            shown.join(", ")
        ));
    }
    error.table = Some(table.name.clone());
    error.constraint = Some(constraint);
    error
}

fn internal(e: arrow_schema::ArrowError) -> Error {
    Error::from(QueryError::new(SqlState::INTERNAL, e.to_string()))
}

pub(super) fn concat(table: &TableSchema, batches: &[RecordBatch]) -> Result<RecordBatch, Error> {
    match batches {
        [] => Ok(RecordBatch::new_empty(table.arrow_schema())),
        [one] => Ok(one.clone()),
        many => arrow_select::concat::concat_batches(&many[0].schema(), many).map_err(internal),
    }
}

fn take(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, Error> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    arrow_select::take::take_record_batch(batch, &UInt32Array::from(rows)).map_err(internal)
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
