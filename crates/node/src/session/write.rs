//! Writing: rows found or given become changes; changes are proposed at once, or
//! kept until COMMIT.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use chronos_model::{
    columns_bytes, Change, DataType, Expect, Key, Kind, Period, RowChange, RowChanges, SqlState,
    Stamp, TableSchema, Value, WriteSet,
};
use chronos_query::dml::{self, ConflictTarget, OnConflict, Portion};
use chronos_query::{QueryError, ReadContext, RowRules};
use chronos_store::{Applied, ReadView, Reservation};

use super::foreign_keys::Moves;
use super::migration::TableChanges;
use super::prepare::{known, ErasePlan, InsertPlan, ModifyPlan};
use super::transaction::Transaction;
use super::{Session, ATTEMPTS_MAX};
use crate::{CommandTag, Error, Outcome, RowData, Rows};

/// What a statement wrote.
pub(super) struct Written {
    pub(super) rows: u64,
    /// What RETURNING gives.
    pub(super) output: Vec<RecordBatch>,
}

impl Session {
    pub(super) fn refuse_read_only(&self, what: &str) -> Result<(), Error> {
        match &self.transaction {
            Some(t) if t.read_only => Err(Error::new(
                SqlState::READ_ONLY_TRANSACTION,
                format!("cannot execute {what} in a read-only transaction"),
            )),
            _ => self.refuse_other_time(what),
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
        let context = self.read_context()?;
        let begin = context.view.stamp();
        let mut held = self.write_memory();
        let batches = self.collect(&plan.source, parameters, &mut held).await?;
        let insert = &plan.insert;
        let mut rows = Vec::with_capacity(batches.len());
        let mut periods = Vec::new();
        for batch in batches {
            rows.push(insert.rows(&batch)?);
            if insert.gives_periods() {
                periods.extend(insert.periods(&batch, context.now_micros)?);
            }
        }
        if insert.gives_periods() {
            self.check_takes_periods(&insert.table)?;
        }
        // While they are put together, they are there twice; and so they are sorted by key.
        held.try_grow(held.bytes())?;
        let rows = concat(&insert.table, &std::mem::take(&mut rows))?;
        let rows = self.finish_rows(&plan.rules, rows).await?;
        if rows.num_rows() == 0 {
            return Ok(Written {
                rows: 0,
                output: vec![],
            });
        }
        match &insert.on_conflict {
            OnConflict::Fail => {
                self.insert_rows(plan, rows, &periods, Expect::Absent, parameters)
                    .await
            }
            OnConflict::Skip => match &insert.target {
                ConflictTarget::Any => {
                    self.insert_rows(plan, rows, &periods, Expect::DistinctOrSkip, parameters)
                        .await
                }
                ConflictTarget::Key => {
                    self.insert_rows(plan, rows, &periods, Expect::AbsentOrSkip, parameters)
                        .await
                }
                ConflictTarget::Index(index) => {
                    self.insert_distinct(plan, index, rows, parameters).await
                }
            },
            OnConflict::Update(update)
                if insert.gives_periods() || context.view.has_periods(&insert.table) =>
            {
                self.upsert_periods(plan, update, rows, &periods, parameters)
                    .await
            }
            OnConflict::Update(update) => self.upsert(plan, update, rows, begin, parameters).await,
        }
    }

    /// Rows as they are to be stored, in the table's columns.
    pub(super) async fn finish_rows(
        &mut self,
        rules: &Option<RowRules>,
        rows: RecordBatch,
    ) -> Result<RecordBatch, Error> {
        let Some(rules) = rules else {
            return Ok(rows);
        };
        let context = self.read_context()?;
        Ok(rules
            .finish(&self.node.inner.engine, rows, &context)
            .await?)
    }

    /// Inserts rows in the table's columns. `periods`: when each is true, if that was given.
    pub(super) async fn insert_rows(
        &mut self,
        plan: &InsertPlan,
        rows: RecordBatch,
        periods: &[Option<Period>],
        expect: Expect,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        let table = &plan.insert.table;
        // What a transaction leaves out it must know at once, row by row.
        let by_row = self.transaction.is_some() && expect != Expect::Absent;
        let mut change = match by_row {
            true => dml::row_insertions(table, &rows, expect, periods)?,
            false => dml::insertions(table, rows.clone(), expect, periods)?,
        };
        if self.transaction.is_some() {
            let kept = self.resolve_in_transaction(table, &mut change)?;
            let rows = match kept {
                None => rows,
                Some(kept) => take(&rows, kept)?,
            };
            let count = rows.num_rows() as u64;
            let output = self.returning(plan, rows, parameters).await?;
            self.write(table, vec![change], Stamp::MAX).await?;
            return Ok(Written {
                rows: count,
                output,
            });
        }
        if expect == Expect::Absent {
            let count = rows.num_rows() as u64;
            let output = self.returning(plan, rows, parameters).await?;
            self.write(table, vec![change], Stamp::MAX).await?;
            return Ok(Written {
                rows: count,
                output,
            });
        }
        // Which rows are skipped is known once they are written.
        let applied = self
            .write(table, vec![change], Stamp::MAX)
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

    pub(super) async fn returning(
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
        let mut held = self.write_memory();
        self.collect(&plan, parameters, &mut held).await
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
                let keys = self.node.inner.replica.hidden_keys();
                for (position, row) in changes.rows.iter_mut().enumerate() {
                    row.key = keys.key(position as u64);
                    if row.expect != Expect::DistinctOrSkip {
                        row.expect = Expect::Any;
                    }
                }
            }
        }
        let Change::Rows(changes) = change else {
            return Ok(None);
        };
        let context = self.read_context()?;
        let mut kept = Vec::with_capacity(changes.rows.len());
        let mut given = Given::default();
        for (position, row) in changes.rows.iter().enumerate() {
            let present =
                given.is_again(row, context.now_micros) || is_present(&context, table, row)?;
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

    /// ERASE: whatever was known of the keys that the query finds is gone.
    pub(super) async fn execute_erase(
        &mut self,
        plan: &ErasePlan,
        parameters: &[Value],
    ) -> Result<Outcome, Error> {
        self.refuse_read_only("ERASE")?;
        self.unbatch(&plan.table)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan.source, parameters, &mut held).await?;
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(dml::keys(batch)?.into_iter().map(dml::erasure));
        }
        let written = Written {
            rows: rows.len() as u64,
            output: vec![],
        };
        let change = Change::Rows(RowChanges {
            table: plan.table.id,
            rows,
        });
        self.write(&plan.table, vec![change], Stamp::MAX).await?;
        Ok(outcome("ERASE", written, &None))
    }

    async fn modify_once(
        &mut self,
        plan: &ModifyPlan,
        parameters: &[Value],
    ) -> Result<Written, Error> {
        self.unbatch(&plan.modify.table)?;
        if plan.modify.portion != Portion::UntilChanged {
            self.check_takes_periods(&plan.modify.table)?;
        }
        let view = self.read_context()?.view;
        if plan.modify.portion == Portion::UntilChanged && view.has_periods(&plan.modify.table) {
            return Err(planned_without_periods(&plan.modify.table));
        }
        let begin = view.stamp();
        let mut held = self.write_memory();
        let batches = self.collect(&plan.source, parameters, &mut held).await?;
        let mut seen = HashSet::new();
        let shown = plan.modify.returning_schema(&plan.source.schema);
        let (mut changes, mut returned) = (Vec::new(), Vec::new());
        let mut rows = 0;
        let mut moves = Moves::default();
        let moves_matter = self.moves_matter(&plan.modify.table);
        for batch in batches {
            let mut found = plan.modify.rows(&batch, &mut seen, &shown)?;
            if plan.rules.is_some() {
                found.rows = self.finish_rows(&plan.rules, found.rows).await?;
                found.returned = plan.modify.with_rows(&found.returned, &found.rows)?;
            }
            rows += found.keys.len() as u64;
            let added = plan.modify.changes(&found)?;
            if moves_matter {
                moves.extend(plan.modify.moves(&found)?);
            }
            held.try_grow(added.iter().map(modification_bytes).sum())?;
            changes.extend(added);
            // RETURNING shows rows; else there are none in it.
            returned.push(found.returned);
            if plan.modify.returning.is_none() {
                held.shrink(columns_bytes(batch.columns()) as u64);
            }
        }
        drop(seen);
        let changes = match plan.modify.portion {
            Portion::UntilChanged => {
                self.check_moved_keys(&plan.modify.table, &changes)?;
                one_per_key(changes)
            }
            // What a row leaves another may take: whether it is free is seen when it is written.
            Portion::FromNow | Portion::Of(..) => removals_first(changes),
        };
        self.check_unique_in_transaction(&plan.modify.table, &changes)?;
        let returned = arrow_select::concat::concat_batches(&shown, &returned).map_err(internal)?;
        let types = &plan.source.parameters;
        let output = self
            .evaluate_returning(&plan.modify.returning, returned, types, parameters)
            .await?;
        let change = Change::Rows(RowChanges {
            table: plan.modify.table.id,
            rows: changes,
        });
        self.write_moved(&plan.modify.table, vec![change], begin, &moves)
            .await?;
        Ok(Written { rows, output })
    }

    /// Periods of valid time are not given to rows whose uniqueness an index keeps: it knows
    /// one row of each key.
    pub(super) fn check_takes_periods(&self, table: &TableSchema) -> Result<(), Error> {
        let catalog = self.catalog();
        if catalog.has_foreign_keys(table) {
            let message = format!(
                "periods of valid time are not supported in table \"{}\", which has or is the target of a foreign key",
                table.name
            );
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        let mut indexes = catalog.indexes_of(table.id);
        let Some(index) = indexes.find(|index| index.is_enforced()) else {
            return Ok(());
        };
        let message = format!(
            "periods of valid time are not supported in table \"{}\", which has the unique index \"{}\"",
            table.name, index.name
        );
        Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message))
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

    /// Single rows that a transaction keeps have keys of their own.
    fn give_hidden_keys(&self, table: &TableSchema, changes: &mut [Change]) {
        if self.transaction.is_none() || !table.has_hidden_key() {
            return;
        }
        let keys = self.node.inner.replica.hidden_keys();
        let rows = changes.iter_mut().filter_map(|change| match change {
            Change::Rows(rows) => Some(&mut rows.rows),
            _ => None,
        });
        let fresh = rows.flatten().filter(|row| row.key.0.is_empty());
        for (position, row) in fresh.enumerate() {
            row.key = keys.key(position as u64);
            row.expect = Expect::Any;
        }
    }

    pub(super) fn unbatch(&mut self, table: &Arc<TableSchema>) -> Result<(), Error> {
        let keys = self.node.inner.replica.hidden_keys();
        match &mut self.transaction {
            Some(t) => t.unbatch(table, keys),
            None => Ok(()),
        }
    }

    /// Proposes changes of a table, or keeps them for COMMIT (`None`).
    pub(super) async fn write(
        &mut self,
        table: &TableSchema,
        changes: Vec<Change>,
        begin: Stamp,
    ) -> Result<Option<Applied>, Error> {
        self.write_moved(table, changes, begin, &Moves::default())
            .await
    }

    /// The same, of changes by which some rows move to other keys.
    async fn write_moved(
        &mut self,
        table: &TableSchema,
        mut changes: Vec<Change>,
        begin: Stamp,
        moves: &Moves,
    ) -> Result<Option<Applied>, Error> {
        changes.retain(|c| !matches!(c, Change::Rows(r) if r.rows.is_empty()));
        self.give_hidden_keys(table, &mut changes);
        let acted = self.act_on_references(table, &mut changes, moves).await?;
        self.check_references_now(&changes)?;
        match &mut self.transaction {
            Some(transaction) => {
                transaction.constraints.note(&acted);
                for change in changes {
                    transaction.add(change)?;
                }
                Ok(None)
            }
            None if changes.is_empty() => Ok(None),
            None => {
                let others = acted.others.iter().map(|table| &**table);
                let shapes = others.chain([table]).filter_map(dml::expected_shape);
                let set = WriteSet {
                    begin: begin.min(acted.begin),
                    changes: shapes.chain(changes).collect(),
                };
                let committal = self.propose(set).await;
                let committal = committal.map_err(|e| acted.lost(e, &self.catalog()))?;
                Ok(Some(committal.applied))
            }
        }
    }

    pub(super) async fn commit_transaction(
        &mut self,
        mut transaction: Transaction,
    ) -> Result<(), Error> {
        let attempt = transaction.attempt.take();
        if let Some(attempt) = attempt.as_ref().filter(|a| a.is_again()) {
            // It was committed before, and has written nothing this time.
            self.sequences_follow();
            return attempt.check_complete();
        }
        let mut set = transaction.to_write_set(self.known_sequences.own());
        set.changes.extend(attempt.as_ref().map(|a| a.change()));
        let committed = self.commit_set(set, &transaction.tables).await;
        let committed = match (committed, attempt) {
            (Ok(applied), Some(attempt)) => attempt.check_alike(applied),
            (committed, _) => committed,
        };
        let (constraints, catalog) = (&transaction.constraints, transaction.view.catalog());
        let committed = committed.map_err(|e| constraints.lost(e, catalog).with_own_names());
        match &committed {
            Ok(_) => self.known_sequences.committed(),
            Err(_) => self.sequences_follow(),
        }
        let indexes = committed?.created_indexes;
        let restarts = transaction.tables.restarts.clone();
        drop(transaction);
        if let Err(e) = self.restart(restarts).await {
            // It is committed; the numbers go on.
            tracing::warn!(error = e.message, "sequences were not restarted");
        }
        self.wait_for_indexes(&indexes).await;
        Ok(())
    }

    /// Commits all that a transaction does.
    async fn commit_set(&mut self, set: WriteSet, tables: &TableChanges) -> Result<Applied, Error> {
        if set.changes.is_empty() {
            return Ok(Applied::default());
        }
        if tables.reshapes() {
            // As a statement does that alters a table at once.
            self.flush().await?;
        }
        Ok(self.propose(set).await?.applied)
    }

    /// An empty reservation for rows and changes of a statement.
    pub(super) fn write_memory(&self) -> Reservation {
        self.node.inner.replica.write_memory()
    }

    /// Proposes a write set; from here on the statement is not cancelled.
    pub(super) async fn propose(
        &mut self,
        set: WriteSet,
    ) -> Result<crate::replica::Committal, Error> {
        self.committing.store(true, Ordering::Release);
        let user = self.facts.user.as_str();
        self.node.inner.replica.propose(set, Some(user)).await
    }
}

/// What a change of an UPDATE or DELETE takes, and its key in the two sets that are compared.
fn modification_bytes(change: &RowChange) -> u64 {
    /// Of a key's allocation, and of its place in a set, which is not full.
    const KEY_BYTES: usize = 48;
    let key = KEY_BYTES + change.key.0.len();
    (change.memory_bytes() + 2 * key) as u64
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

/// Rows were given periods since the statement was planned: it has to be planned again.
pub(super) fn planned_without_periods(table: &TableSchema) -> Error {
    let message = format!("rows of \"{}\" are true for periods by now", table.name);
    Error::new(SqlState::SERIALIZATION_FAILURE, message)
}

/// Whether a row of its key is there when this one is to be.
fn is_present(context: &ReadContext, table: &TableSchema, row: &RowChange) -> Result<bool, Error> {
    let view = &context.view;
    if row.valid.is_none() && !view.has_periods(table) {
        return Ok(view.get(table, &row.key.0)?.is_some());
    }
    let valid = valid_from_now(row.valid, context.now_micros);
    Ok(!view.pieces(table, &row.key.0, valid)?.is_empty())
}

/// When a row is true that is written now.
pub(super) fn valid_from_now(given: Option<Period>, now_micros: i64) -> Period {
    given.unwrap_or(Period {
        from: now_micros,
        to: Period::UNTIL_CHANGED,
    })
}

/// The keys that rows of a statement have, and when those are true.
#[derive(Default)]
pub(super) struct Given(HashMap<Key, Vec<Period>>);

impl Given {
    /// Takes note of a row; whether one before has its key at some moment of its period.
    pub(super) fn is_again(&mut self, row: &RowChange, now_micros: i64) -> bool {
        let valid = valid_from_now(row.valid, now_micros);
        let of_key = self.0.entry(row.key.clone()).or_default();
        let is_again = of_key.iter().any(|before| before.overlaps(valid));
        of_key.push(valid);
        is_again
    }
}

/// First what is removed, then what is written.
fn removals_first(mut changes: Vec<RowChange>) -> Vec<RowChange> {
    changes.sort_by_key(|change| change.kind == Kind::Put);
    changes
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

pub(super) fn unique_violation(table: &TableSchema, key: &Key) -> Error {
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

pub(super) fn internal(e: arrow_schema::ArrowError) -> Error {
    Error::from(QueryError::new(SqlState::INTERNAL, e.to_string()))
}

pub(super) fn concat(table: &TableSchema, batches: &[RecordBatch]) -> Result<RecordBatch, Error> {
    match batches {
        [] => Ok(RecordBatch::new_empty(table.arrow_schema())),
        [one] => Ok(one.clone()),
        many => arrow_select::concat::concat_batches(&many[0].schema(), many).map_err(internal),
    }
}

pub(super) fn take(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, Error> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    arrow_select::take::take_record_batch(batch, &UInt32Array::from(rows)).map_err(internal)
}
