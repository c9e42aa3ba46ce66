//! UPDATE, DELETE and ERASE: the rows that a query finds become changes.

use std::collections::HashSet;
use std::sync::Arc;

use chronos_model::{
    columns_bytes, Change, Expect, Key, Kind, RowChange, RowChanges, SqlState, Stamp, TableSchema,
    Value,
};
use chronos_query::dml::{self, Portion};

use super::foreign_keys::Moves;
use super::prepare::{ErasePlan, ModifyPlan};
use super::write::{internal, outcome, planned_without_periods, unique_violation, Written};
use super::Session;
use crate::{Error, Outcome};

impl Session {
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
}

/// What a change of an UPDATE or DELETE takes, and its key in the two sets that are compared.
fn modification_bytes(change: &RowChange) -> u64 {
    /// Of a key's allocation, and of its place in a set, which is not full.
    const KEY_BYTES: usize = 48;
    let key = KEY_BYTES + change.key.0.len();
    (change.memory_bytes() + 2 * key) as u64
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
