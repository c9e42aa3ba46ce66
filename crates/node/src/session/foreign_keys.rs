//! Foreign keys in statements: their checks before COMMIT, and when they wait for it.
//!
//! Whether all is well is decided when a write set is applied. In a transaction what is not
//! deferred is checked at the end of each statement, too, as far as the transaction sees. What they do
//! to other rows is worked out in `actions`.

mod actions;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chronos_model::{
    Catalog, Change, Deferral, ForeignKey, ReferentialAction, SqlState, Stamp, TableId,
    TableSchema, WriteSet,
};
use chronos_query::dml;
use chronos_store::{End, ForeignKeyViolation};

use super::command::done;
use super::{Session, Transaction};
use crate::replica::describe;
use crate::{Error, Outcome, Severity};

use actions::Acted;
pub(super) use actions::Moves;

/// How the message of a violation begins that is found at the referenced end.
const PARENT_IS_REFERRED_TO: &str = "update or delete on table";

/// What a transaction has to remember of foreign keys.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    /// What SET CONSTRAINTS ALL said last: whether checks wait.
    all: Option<bool>,
    /// What it said of single ones since.
    named: BTreeMap<String, bool>,
    /// Those that have acted: table and name.
    acted: HashSet<(TableId, String)>,
}

impl Constraints {
    fn defers(&self, key: &ForeignKey) -> bool {
        let said = self.named.get(&key.name).copied().or(self.all);
        match key.deferral {
            Deferral::Never => false,
            Deferral::InitiallyImmediate => said.unwrap_or(false),
            Deferral::InitiallyDeferred => said.unwrap_or(true),
        }
    }

    /// Remembers what acted, so that a child that came meanwhile is told from one that may not
    /// be there at all.
    pub(super) fn note(&mut self, acted: &Acted) {
        self.acted.extend(acted.keys.iter().cloned());
    }

    /// A refused COMMIT.
    pub(super) fn lost(&self, error: Error, catalog: &Catalog) -> Error {
        lost(error, &self.acted, catalog)
    }
}

fn lost(mut error: Error, acted: &HashSet<(TableId, String)>, catalog: &Catalog) -> Error {
    // A row that refers to nothing would not by trying again.
    let is_parent = error.message.starts_with(PARENT_IS_REFERRED_TO);
    if error.code != SqlState::FOREIGN_KEY_VIOLATION || !is_parent {
        return error;
    }
    let table = error.table.as_deref().and_then(|name| catalog.table(name));
    let key = table.map(|t| t.id).zip(error.constraint.clone());
    if key.is_some_and(|key| acted.contains(&key)) {
        error.code = SqlState::SERIALIZATION_FAILURE;
        error.message = "could not serialize access due to concurrent update".into();
        error.hint = Some("Retry the transaction.".into());
    }
    error
}

impl Session {
    /// In a transaction, checks what a statement's changes leave behind, but for what is deferred.
    pub(super) fn check_references_now(&mut self, changes: &[Change]) -> Result<(), Error> {
        let Some(transaction) = &self.transaction else {
            return Ok(());
        };
        let catalog = transaction.view.catalog().clone();
        let tables: BTreeSet<TableId> = changes.iter().filter_map(table_of).collect();
        let written = tables.iter().filter_map(|id| catalog.table_by_id(*id));
        let written: Vec<&Arc<TableSchema>> = written.collect();
        if !written.iter().any(|table| catalog.has_foreign_keys(table)) {
            return Ok(());
        }
        let view = self.read_context()?.view;
        let Some(transaction) = &self.transaction else {
            return Ok(());
        };
        let constraints = &transaction.constraints;
        let shapes = written.iter().filter_map(|t| dml::expected_shape(t));
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: shapes.chain(changes.iter().cloned()).collect(),
        };
        let checked = view.check_foreign_keys(&set, |key, end| {
            let restricts = [key.on_update, key.on_delete].contains(&ReferentialAction::Restrict);
            !constraints.defers(key) || (end == End::Parent && restricts)
        });
        checked.map_err(|e| describe(e, &self.node.inner.replica.store))
    }

    /// SET CONSTRAINTS; `names`: none for ALL.
    pub(super) fn set_constraints(
        &mut self,
        names: &[String],
        is_deferred: bool,
    ) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        for name in names {
            check_deferrable(&catalog, name)?;
        }
        let store = self.node.inner.replica.store.clone();
        let Some(transaction) = &mut self.transaction else {
            self.notice(
                Severity::Warning,
                SqlState::NO_ACTIVE_TRANSACTION,
                "SET CONSTRAINTS can only be used in transaction blocks",
            );
            return done("SET CONSTRAINTS");
        };
        if !is_deferred {
            let view = &transaction.view;
            let set = transaction.writes.to_write_set(Stamp::MAX, view.catalog());
            let checked = view
                .check_foreign_keys(&set, |key, _| names.is_empty() || names.contains(&key.name));
            checked.map_err(|e| describe(e, &store))?;
        }
        set_deferred(transaction, names, is_deferred);
        done("SET CONSTRAINTS")
    }
}

fn set_deferred(transaction: &mut Transaction, names: &[String], is_deferred: bool) {
    let constraints = &mut transaction.constraints;
    if names.is_empty() {
        constraints.all = Some(is_deferred);
        constraints.named.clear();
    }
    for name in names {
        constraints.named.insert(name.clone(), is_deferred);
    }
}

fn check_deferrable(catalog: &Catalog, name: &str) -> Result<(), Error> {
    let tables = catalog.tables.values();
    let mut keys = tables.flat_map(|t| &t.rules.foreign_keys);
    let found = keys.find(|key| key.name == name);
    let refused = match found.map(|key| key.deferral) {
        Some(Deferral::Never) => Error::new(
            SqlState("42809"),
            format!("constraint \"{name}\" is not deferrable"),
        ),
        Some(_) => return Ok(()),
        None => Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("constraint \"{name}\" does not exist"),
        ),
    };
    Err(refused)
}

fn table_of(change: &Change) -> Option<TableId> {
    match change {
        Change::Rows(rows) => Some(rows.table),
        Change::Batch(batch) => Some(batch.table),
        _ => None,
    }
}

/// 23503 in PostgreSQL's words.
pub(crate) fn violation(violation: &ForeignKeyViolation) -> Error {
    let ForeignKeyViolation {
        end,
        constraint,
        child,
        parent,
        columns,
        values,
    } = violation;
    let values: Vec<String> = values.iter().map(chronos_model::text::format).collect();
    let key = format!("Key ({})=({})", columns.join(", "), values.join(", "));
    let (message, detail) = match end {
        End::Child => (
            format!(
                "insert or update on table \"{child}\" violates foreign key constraint \"{constraint}\""
            ),
            format!("{key} is not present in table \"{parent}\"."),
        ),
        End::Parent => (
            format!(
                "{PARENT_IS_REFERRED_TO} \"{parent}\" violates foreign key constraint \"{constraint}\" on table \"{child}\""
            ),
            format!("{key} is still referenced from table \"{child}\"."),
        ),
    };
    let mut error = Error::new(SqlState::FOREIGN_KEY_VIOLATION, message).with_detail(detail);
    error.table = Some(child.clone());
    error.constraint = Some(constraint.clone());
    error
}
