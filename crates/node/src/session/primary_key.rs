//! ALTER TABLE .. ADD PRIMARY KEY: a key for a table in which nothing was stored yet; NOT NULL and
//! a unique index for one with rows.

use std::sync::Arc;

use chronos_model::{Catalog, CatalogChange, CatalogEdit, Change, SqlState};
use chronos_query::ddl::{self, AddedKey};

use super::Session;
use crate::{Error, Severity};

impl Session {
    pub(super) async fn add_primary_key(
        &mut self,
        key: AddedKey,
        catalog: &Arc<Catalog>,
    ) -> Result<(), Error> {
        self.may_change_catalog()?;
        let view = match &self.transaction {
            Some(transaction) => transaction.view.clone(),
            None => self.node.inner.replica.store.read_view(),
        };
        if !view.is_blank(&key.table)? {
            return self.add_unique_key(key, catalog).await;
        }
        let change = CatalogChange {
            base: catalog.version,
            unchanged: vec![(key.table.id, view.stamp())],
            edits: vec![CatalogEdit::Table(Box::new(key.keyed))],
        };
        self.change_catalog(vec![Change::Catalog(change)]).await?;
        Ok(())
    }

    /// Demands of the rows that there are, and of all to come, what a primary key does.
    async fn add_unique_key(&mut self, key: AddedKey, catalog: &Arc<Catalog>) -> Result<(), Error> {
        // Before an index is built in vain.
        if let Some(alteration) = ddl::alter_table(&key.not_null, catalog)? {
            self.check_demands(&alteration).await?;
        }
        let name = key.index.name.clone();
        self.add_index(key.index, catalog).await?;
        let catalog = self.catalog();
        if let Err(error) = self.change_table(&key.not_null, &catalog).await {
            let index = self.catalog().indexes.get(&name).map(|index| index.id);
            let drop: Vec<Change> = index.into_iter().map(Change::DropIndex).collect();
            if !self.in_transaction() {
                self.change_catalog(drop).await?;
            }
            return Err(error);
        }
        self.notice(
            Severity::Notice,
            SqlState::SUCCESSFUL_COMPLETION,
            format!(
                "table \"{}\" has rows, now or in the past: they keep their hidden keys, and \"{name}\" is a UNIQUE constraint over columns that are NOT NULL",
                key.table.name
            ),
        );
        Ok(())
    }
}
