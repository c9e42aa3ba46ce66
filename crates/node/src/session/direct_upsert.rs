//! INSERT .. ON CONFLICT (key) DO UPDATE of given rows, the fast path of [`conflict`](super::conflict): a row that
//! is there is read by its key and replaced, without the engine.

use std::collections::HashSet;

use chronos_model::{Change, Expect, RowChanges};
use chronos_query::direct::{BoundReplacement, BoundRow, DirectPlan};
use chronos_query::dml;
use chronos_store::log::LogIndex;

use super::conflict::twice;
use super::direct::{bind_error, outcome, Row};
use super::write::{current_row, planned_without_periods};
use super::Session;
use crate::{Error, Outcome};

impl Session {
    /// `applied`: up to where this node had applied entries when the statement began. `None`: a row that is as it
    /// should be was not so any more when others' writes were waited for, once; it is to be done again.
    pub(super) async fn direct_upsert(
        &mut self,
        plan: &DirectPlan,
        (rows, assignments): (&[BoundRow], &[(usize, BoundReplacement)]),
        applied: LogIndex,
        has_waited: &mut bool,
    ) -> Result<Option<Outcome>, Error> {
        self.refuse_read_only("INSERT")?;
        let table = &plan.table;
        self.unbatch(table)?;
        let view = self.read_context()?.view;
        if view.has_periods(table) {
            return Err(planned_without_periods(table));
        }
        let mut given = HashSet::new();
        let mut changes = Vec::with_capacity(rows.len());
        let mut written: Vec<Row> = Vec::with_capacity(rows.len());
        for row in rows {
            let key = row.key.clone().unwrap_or_default();
            if !given.insert(key.clone()) {
                return Err(twice());
            }
            let Some(old) = current_row(&view, table, &key)? else {
                changes.push(dml::put(key, &row.values, Expect::Absent));
                written.push(row.values.clone());
                continue;
            };
            let new = plan
                .replaced_row(assignments, &old, &row.values)
                .map_err(|e| bind_error(&e))?;
            let change = dml::put(key, &new, Expect::Unchanged);
            // What is written as it was is no new version.
            if change.row != dml::put(change.key.clone(), &old, Expect::Unchanged).row {
                changes.push(change);
            }
            written.push(new);
        }
        // What is written is judged when it is applied. What is left out is not.
        let is_unjudged = changes.len() < rows.len() && !std::mem::replace(has_waited, true);
        if is_unjudged && self.saw_too_little(Some(applied)).await? {
            return Ok(None);
        }
        self.check_unique_in_transaction(table, &changes)?;
        let change = Change::Rows(RowChanges {
            table: table.id,
            rows: changes,
        });
        // A row that somebody has inserted meanwhile is one to update.
        let applied = self.write(table, vec![change], view.stamp()).await;
        applied.map_err(|e| self.lost_against(e, &table.primary_key_name()))?;
        let written: Vec<&Row> = written.iter().collect();
        Ok(Some(outcome("INSERT", plan, &written)))
    }
}
