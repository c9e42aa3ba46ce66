//! Writing: changes are proposed at once, or kept until COMMIT. What statements have found to be written
//! comes from `insert`, `modify`, `direct` and `copy`.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use chronos_model::{Change, DataType, Expect, Key, SqlState, Stamp, TableSchema, Value, WriteSet};
use chronos_query::{dml, QueryError};
use chronos_store::{Applied, ReadView, Reservation};

use super::foreign_keys::Moves;
use super::migration::TableChanges;
use super::prepare::known;
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

    /// What RETURNING gives for rows that are about to be written. Asked before they are:
    /// its subqueries see what the statement saw, and if it fails nothing is written.
    pub(super) async fn evaluate_returning(
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
    pub(super) async fn write_moved(
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

pub(super) fn outcome(
    verb: &'static str,
    written: Written,
    columns: &Option<SchemaRef>,
) -> Outcome {
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
