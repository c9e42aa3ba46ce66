//! How far a setting reaches: SET LOCAL ends with its transaction, and ROLLBACK takes every SET back.
//!
//! The settings of a moment are one shared map, so a transaction, and each of its savepoints, keeps the map that it
//! began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronos_model::SqlState;

use super::settings::Settings;
use super::Session;
use crate::{Error, Outcome, Severity};

type Values = Arc<BTreeMap<String, String>>;

/// What a transaction has changed and may take back.
#[derive(Default, Debug)]
pub(super) struct Scope {
    /// What was set before the transaction.
    outside: Option<Values>,
    /// What SET LOCAL has hidden: for each name, what it is without that.
    hidden: Hidden,
    /// What was set at the transaction's savepoints.
    saved: Vec<(Values, Hidden)>,
}

type Hidden = BTreeMap<String, Option<String>>;

impl Settings {
    /// Remembers what was set before the transaction, if there is one, changes anything.
    pub(super) fn outside(&mut self, in_transaction: bool) {
        if in_transaction && self.scope.outside.is_none() {
            self.scope.outside = Some(self.raw());
        }
    }

    /// The transaction has come to a good end: what was local goes.
    pub(super) fn committed(&mut self) {
        let scope = std::mem::take(&mut self.scope);
        if scope.hidden.is_empty() {
            return;
        }
        let mut values = BTreeMap::clone(&self.raw());
        for (name, value) in scope.hidden {
            match value {
                Some(value) => drop(values.insert(name, value)),
                None => drop(values.remove(&name)),
            }
        }
        self.put_back(Arc::new(values));
    }

    /// The transaction has come to nothing.
    pub(super) fn rolled_back(&mut self) {
        if let Some(outside) = std::mem::take(&mut self.scope).outside {
            self.put_back(outside);
        }
    }

    /// Nothing is hidden any more: RESET ALL.
    pub(super) fn forget_local(&mut self) {
        self.scope.hidden.clear();
    }

    /// Sets what is taken back when the transaction ends.
    fn set_for_transaction(&mut self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.outside(true);
        let before = self.raw().get(name).cloned();
        self.set(name, value)?;
        let hidden = &mut self.scope.hidden;
        hidden.entry(name.to_owned()).or_insert(before);
        Ok(())
    }

    /// A savepoint begins.
    pub(super) fn save(&mut self) {
        self.outside(true);
        let saved = (self.raw(), self.scope.hidden.clone());
        self.scope.saved.push(saved);
    }

    /// Back to a savepoint, which stays.
    pub(super) fn rolled_back_to(&mut self, savepoint: usize) {
        self.scope.saved.truncate(savepoint + 1);
        if let Some((values, hidden)) = self.scope.saved.last().cloned() {
            self.scope.hidden = hidden;
            self.put_back(values);
        }
    }

    /// Savepoints from this one on are no more.
    pub(super) fn released(&mut self, savepoint: usize) {
        self.scope.saved.truncate(savepoint);
    }
}

impl Session {
    /// SET, and RESET of one: taken back if the transaction is.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.settings.outside(self.transaction.is_some());
        self.settings.set(name, value)?;
        self.settings.scope.hidden.remove(name);
        Ok(())
    }

    /// SET LOCAL: taken back with the transaction, however that ends.
    pub(super) fn set_local(&mut self, name: &str, value: Option<&str>) -> Result<Outcome, Error> {
        if self.transaction.is_none() {
            self.notice(
                Severity::Warning,
                SqlState::NO_ACTIVE_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            );
            // Checked all the same.
            let mut apart = Settings::new();
            apart.set(name, value)?;
            return super::command::done("SET");
        }
        self.settings.set_for_transaction(name, value)?;
        super::command::done("SET")
    }

    /// Takes over what the statement before has written with `set_config`.
    pub(super) fn take_written(&mut self) {
        let Some(given) = &self.given else {
            return;
        };
        let written = std::mem::take(&mut *given.written.lock());
        let in_transaction = self.transaction.is_some();
        for (name, value, is_local) in written {
            // The value was checked when it was written.
            let taken = match (is_local, in_transaction) {
                (false, _) => self.set(&name, Some(&value)),
                (true, true) => self.settings.set_for_transaction(&name, Some(&value)),
                // Its transaction was the statement.
                (true, false) => Ok(()),
            };
            if let Err(e) = taken {
                tracing::debug!(name, error = %e, "a setting was not taken");
            }
        }
    }

    /// What a transaction leaves when it is rolled back: nothing.
    pub(super) fn forget_transaction(&mut self) {
        self.cursors.rolled_back();
        self.settings.rolled_back();
    }
}
