//! INSERT: rows that are given or found, and what becomes of those that are there already.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use chronos_model::{Change, Expect, Key, Period, RowChange, SqlState, Stamp, TableSchema, Value};
use chronos_query::dml::{self, ConflictTarget, OnConflict};
use chronos_query::{ReadContext, RowRules};

use super::prepare::InsertPlan;
use super::write::{concat, outcome, take, unique_violation, Written};
use super::Session;
use crate::{Error, Outcome};

impl Session {
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
