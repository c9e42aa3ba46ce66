//! The fast path: statements that name one row by its key, or insert given rows.
//! No engine and no Arrow on the way.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use chronos_model::{Change, Expect, Key, Kind, RowChange, RowChanges, Stamp, SystemColumn, Value};
use chronos_query::direct::{
    BoundAssignment, BoundDirect, BoundRow, DirectError, DirectKind, DirectPlan, OnConflict,
    ScanItem,
};
use chronos_query::dml;
use chronos_store::{Found, ReadView};

use super::write::{current_row, planned_without_periods};
use super::Session;
use crate::{CommandTag, Error, Outcome, RowData, Rows};

/// What became of a row that was to be changed.
enum Modified {
    /// It is as the statement wants it, or gone.
    Written(Outcome),
    /// There is none, or it was so already: nobody has checked what was read.
    Nothing(Outcome),
}

/// A row's values, column by column.
pub(super) type Row = Vec<Value>;

impl Session {
    pub(super) async fn execute_direct(
        &mut self,
        plan: &DirectPlan,
        parameters: &[Value],
    ) -> Result<Outcome, Error> {
        let bound = plan.bind(parameters).map_err(|e| bind_error(&e))?;
        let (mut attempts, mut has_waited) = (0, false);
        loop {
            attempts += 1;
            let before = self.applied();
            let applied = match &bound {
                BoundDirect::Get { .. } | BoundDirect::Insert { .. } => None,
                BoundDirect::Upsert { .. }
                | BoundDirect::Update { .. }
                | BoundDirect::Delete { .. } => Some(before),
            };
            let result = match &bound {
                BoundDirect::Get { key } => return self.direct_get(plan, key.as_ref()),
                BoundDirect::Insert { rows } => {
                    let inserted = self.direct_insert(plan, rows).await;
                    inserted.map(Modified::Written)
                }
                BoundDirect::Upsert { rows, assignments } => {
                    let upserted = self
                        .direct_upsert(plan, (rows, assignments), before, &mut has_waited)
                        .await;
                    match upserted.transpose() {
                        None => continue,
                        Some(outcome) => outcome.map(Modified::Written),
                    }
                }
                BoundDirect::Update { key, assignments } => {
                    self.direct_update(plan, key.as_ref(), assignments).await
                }
                BoundDirect::Delete { key } => self.direct_delete(plan, key.as_ref()).await,
            };
            match result {
                Err(e) if self.may_retry(&e, attempts) => {}
                // The version that it has read was the newest when it was applied.
                Ok(Modified::Written(outcome)) => return Ok(outcome),
                Ok(Modified::Nothing(outcome)) => {
                    let is_settled = std::mem::replace(&mut has_waited, true);
                    if is_settled || !self.saw_too_little(applied).await? {
                        return Ok(outcome);
                    }
                }
                Err(e) => {
                    // What was proposed and refused was judged by what is so.
                    let was_judged = self.committing.load(Ordering::Acquire);
                    let is_settled = was_judged || std::mem::replace(&mut has_waited, true);
                    if is_settled || !self.saw_too_little(applied).await? {
                        return Err(e);
                    }
                }
            }
        }
    }

    fn direct_get(&mut self, plan: &DirectPlan, key: Option<&Key>) -> Result<Outcome, Error> {
        let view = self.read_context()?.view;
        let found = match key {
            Some(key) => view.get(&plan.table, &key.0).map_err(Error::from)?,
            None => None,
        };
        let DirectKind::Get { projection, .. } = &plan.kind else {
            return Ok(Outcome::Done(CommandTag {
                verb: "SELECT",
                rows: Some(0),
            }));
        };
        let rows = match (found, key) {
            (Some(found), Some(key)) => vec![project(&found, key, projection)?],
            _ => vec![],
        };
        let tag = CommandTag {
            verb: "SELECT",
            rows: Some(rows.len() as u64),
        };
        let schema = plan
            .columns
            .clone()
            .unwrap_or_else(|| plan.table.arrow_schema());
        Ok(Outcome::Rows(Rows {
            schema,
            data: RowData::Values(rows),
            tag,
        }))
    }

    async fn direct_insert(
        &mut self,
        plan: &DirectPlan,
        rows: &[BoundRow],
    ) -> Result<Outcome, Error> {
        self.refuse_read_only("INSERT")?;
        let on_conflict = match &plan.kind {
            DirectKind::Insert { on_conflict, .. } => *on_conflict,
            _ => OnConflict::Error,
        };
        let expect = match on_conflict {
            OnConflict::Error => Expect::Absent,
            OnConflict::DoNothing => Expect::AbsentOrSkip,
            OnConflict::DoNothingAtAll => Expect::DistinctOrSkip,
        };
        let changes = rows
            .iter()
            .map(|row| dml::put(row.key.clone().unwrap_or_default(), &row.values, expect))
            .collect();
        let mut change = Change::Rows(RowChanges {
            table: plan.table.id,
            rows: changes,
        });
        let mut kept: Option<Vec<u32>> = None;
        if self.in_transaction() {
            kept = self.resolve_in_transaction(&plan.table, &mut change)?;
        }
        let applied = self.write(&plan.table, vec![change], Stamp::MAX).await?;
        if let Some(applied) = applied.filter(|a| a.skipped > 0) {
            kept = Some(
                (0..rows.len() as u32)
                    .filter(|i| !applied.skipped_rows.contains(i))
                    .collect(),
            );
        }
        let inserted: Vec<&Row> = match &kept {
            None => rows.iter().map(|r| &r.values).collect(),
            Some(kept) => kept.iter().map(|&i| &rows[i as usize].values).collect(),
        };
        Ok(outcome("INSERT", plan, &inserted))
    }

    async fn direct_update(
        &mut self,
        plan: &DirectPlan,
        key: Option<&Key>,
        assignments: &[(usize, BoundAssignment)],
    ) -> Result<Modified, Error> {
        self.refuse_read_only("UPDATE")?;
        let Some((key, view, old)) = self.row_to_change(plan, key)? else {
            return Ok(Modified::Nothing(outcome("UPDATE", plan, &[])));
        };
        let new = plan
            .updated_row(assignments, &old)
            .map_err(|e| bind_error(&e))?;
        let change = dml::put(key, &new, Expect::Unchanged);
        // What is written as it was is no new version.
        let is_as_it_was = change.row == dml::put(change.key.clone(), &old, Expect::Unchanged).row;
        if is_as_it_was {
            return Ok(Modified::Nothing(outcome("UPDATE", plan, &[&new])));
        }
        self.write_one(plan, change, view.stamp()).await?;
        Ok(Modified::Written(outcome("UPDATE", plan, &[&new])))
    }

    async fn direct_delete(
        &mut self,
        plan: &DirectPlan,
        key: Option<&Key>,
    ) -> Result<Modified, Error> {
        self.refuse_read_only("DELETE")?;
        let Some((key, view, old)) = self.row_to_change(plan, key)? else {
            return Ok(Modified::Nothing(outcome("DELETE", plan, &[])));
        };
        self.write_one(plan, dml::removal(key), view.stamp())
            .await?;
        Ok(Modified::Written(outcome("DELETE", plan, &[&old])))
    }

    async fn write_one(
        &mut self,
        plan: &DirectPlan,
        change: RowChange,
        begin: Stamp,
    ) -> Result<(), Error> {
        debug_assert!(change.kind == Kind::Delete || !change.row.is_empty());
        self.check_unique_in_transaction(&plan.table, std::slice::from_ref(&change))?;
        let change = Change::Rows(RowChanges {
            table: plan.table.id,
            rows: vec![change],
        });
        self.write(&plan.table, vec![change], begin).await.map(drop)
    }

    fn row_to_change(
        &mut self,
        plan: &DirectPlan,
        key: Option<&Key>,
    ) -> Result<Option<(Key, ReadView, Row)>, Error> {
        let Some(key) = key else { return Ok(None) };
        self.unbatch(&plan.table)?;
        let view = self.read_context()?.view;
        if view.has_periods(&plan.table) {
            return Err(planned_without_periods(&plan.table));
        }
        Ok(current_row(&view, &plan.table, key)?.map(|row| (key.clone(), view, row)))
    }
}

/// The columns that a SELECT asked for.
fn project(found: &Found, key: &Key, projection: &[ScanItem]) -> Result<Row, Error> {
    let columns: Vec<usize> = projection
        .iter()
        .filter_map(|item| match item {
            ScanItem::Column(c) => Some(*c),
            ScanItem::System(_) => None,
        })
        .collect();
    let values = found.row.values(&columns).map_err(Error::from)?;
    if columns.len() == projection.len() {
        return Ok(values);
    }
    let mut values = values.into_iter();
    let recorded = Value::TimestampTz(found.recorded.micros());
    Ok(projection
        .iter()
        .map(|item| match item {
            ScanItem::Column(_) => values.next().unwrap_or(Value::Null),
            ScanItem::System(SystemColumn::SystemFrom | SystemColumn::ValidFrom) => {
                recorded.clone()
            }
            ScanItem::System(SystemColumn::SystemTo | SystemColumn::ValidTo) => Value::Null,
            ScanItem::System(SystemColumn::Key) => Value::Bytea(key.0.to_vec()),
        })
        .collect())
}

pub(super) fn outcome(verb: &'static str, plan: &DirectPlan, rows: &[&Row]) -> Outcome {
    let tag = CommandTag {
        verb,
        rows: Some(rows.len() as u64),
    };
    let returning = match &plan.kind {
        DirectKind::Insert { returning, .. }
        | DirectKind::Upsert { returning, .. }
        | DirectKind::Update { returning, .. }
        | DirectKind::Delete { returning, .. } => returning,
        DirectKind::Get { .. } => &None,
    };
    match (returning, &plan.columns) {
        (Some(columns), Some(schema)) => {
            let rows = rows
                .iter()
                .map(|row| columns.iter().map(|&c| row[c].clone()).collect())
                .collect();
            Outcome::Rows(Rows {
                schema: Arc::clone(schema),
                data: RowData::Values(rows),
                tag,
            })
        }
        _ => Outcome::Done(tag),
    }
}

pub(super) fn bind_error(e: &DirectError) -> Error {
    let mut error = Error::new(e.sqlstate(), e.to_string());
    error.detail = e.detail();
    error
}
