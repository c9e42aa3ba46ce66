//! Statements about how tables are kept: ALTER TABLE .. SET, COMPACT, VACUUM.

use chronos_model::{Change, OptionChange, SqlState, TableId};
use chronos_query::sql::{AlterOptions, Maintenance};
use chronos_query::{table_options, QueryError};

use super::command::done;
use super::transaction::Transaction;
use super::Session;
use crate::{Error, Outcome, Severity};

impl Session {
    pub(super) async fn alter_options(&mut self, alter: &AlterOptions) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        let Some(table) = catalog.table(&alter.table) else {
            if !alter.if_exists {
                return Err(QueryError::unknown_table(&alter.table).into());
            }
            self.notice(
                Severity::Notice,
                SqlState::SUCCESSFUL_COMPLETION,
                format!("relation \"{}\" does not exist, skipping", alter.table),
            );
            return done("ALTER TABLE");
        };
        let changes = table_options::changes(&alter.options, table)?;
        let expires = |c: &OptionChange| matches!(c, OptionChange::Ttl(Some(_)));
        if changes.iter().any(expires) {
            self.refuse_expiry(&catalog, table)?;
        }
        let change = Change::AlterOptions(table.id, changes);
        self.change_catalog(vec![change]).await?;
        done("ALTER TABLE")
    }

    /// Rewrites tables on a thread of its own. When the client goes away the work is
    /// finished all the same: it changes no rows.
    pub(super) async fn maintain(&mut self, maintenance: &Maintenance) -> Result<Outcome, Error> {
        let is_block = |t: &Transaction| !t.implicit || !t.tables.is_empty();
        if self.transaction.as_ref().is_some_and(is_block) {
            return Err(Error::new(
                SqlState::ACTIVE_TRANSACTION,
                format!("{} cannot run inside a transaction block", maintenance.verb),
            ));
        }
        let catalog = self.catalog();
        let mut ids: Vec<TableId> = Vec::new();
        for name in &maintenance.tables {
            let table = catalog.table(name);
            ids.push(table.ok_or_else(|| QueryError::unknown_table(name))?.id);
        }
        if maintenance.tables.is_empty() {
            ids.extend(catalog.tables.values().map(|table| table.id));
        }
        let indexes = ids.iter().flat_map(|id| catalog.indexes_of(*id));
        let indexes: Vec<TableId> = indexes.map(|index| index.id).collect();
        ids.extend(indexes);
        let store = self.node.inner.replica.store.clone();
        let everything = maintenance.everything;
        let work = tokio::task::spawn_blocking(move || store.compact_tables(&ids, everything));
        let worked = work.await.map_err(|e| {
            let message = format!("{} ended early: {e}", maintenance.verb);
            Error::new(SqlState::INTERNAL, message)
        })?;
        worked?;
        done(maintenance.verb)
    }
}
