//! Foreign keys in DDL: adding them to tables, and what stands in the way of dropping and
//! emptying tables that are referred to.

use std::sync::Arc;

use chronos_model::{
    value_at, Catalog, CatalogChange, CatalogEdit, Change, ForeignKey, SqlState, Stamp, TableId,
    TableSchema,
};
use chronos_query::{ddl, sql};
use chronos_store::{End, ForeignKeyViolation};

use super::command::done;
use super::foreign_keys::violation;
use super::{Session, ATTEMPTS_MAX};
use crate::{Error, Outcome, Severity};

impl Session {
    /// ALTER TABLE with foreign keys among what it adds: first the rest, then for each an index,
    /// if it needs one, a look at the rows there are, and the constraint.
    pub(super) async fn add_foreign_keys(
        &mut self,
        rest: &sql::AlterTable,
        keys: &[sql::ForeignKeyConstraint],
        catalog: &Arc<Catalog>,
    ) -> Result<Outcome, Error> {
        self.may_change_catalog()?;
        let Some(alteration) = ddl::alter_table(rest, catalog)? else {
            return self.change_table(rest, catalog).await;
        };
        // Before anything is done.
        let mut schema = alteration.schema;
        for key in keys {
            let indexes = indexes_of(catalog, schema.id);
            let added = ddl::added_foreign_key(key, &schema, &indexes, catalog)?;
            self.refuse_periods(catalog, &schema, &added.key)?;
            schema.rules.foreign_keys.push(added.key);
        }
        if !rest.operations.is_empty() {
            self.change_table(rest, catalog).await?;
        }
        let name = sql::table_name(&rest.name)?;
        for key in keys {
            let mut attempts = 0;
            loop {
                attempts += 1;
                match self.add_foreign_key(&name, key).await {
                    Err(e)
                        if e.code == SqlState::SERIALIZATION_FAILURE
                            && attempts < ATTEMPTS_MAX
                            && !self.in_transaction() => {}
                    other => break other?,
                }
            }
        }
        done("ALTER TABLE")
    }

    async fn add_foreign_key(
        &mut self,
        table: &str,
        written: &sql::ForeignKeyConstraint,
    ) -> Result<(), Error> {
        let catalog = self.catalog();
        let schema = found(&catalog, table)?;
        let indexes = indexes_of(&catalog, schema.id);
        let added = ddl::added_foreign_key(written, &schema, &indexes, &catalog)?;
        let Some(index) = added.index else {
            return self.enact(&catalog, &schema, added.key).await;
        };
        let name = index.name.clone();
        self.add_index(index, &catalog).await?;
        let catalog = self.catalog();
        let schema = found(&catalog, table)?;
        let enacted = self.enact(&catalog, &schema, added.key).await;
        if enacted
            .as_ref()
            .is_err_and(|e| e.code != SqlState::SERIALIZATION_FAILURE)
        {
            let index = self.catalog().indexes.get(&name).map(|index| index.id);
            let drop: Vec<Change> = index.into_iter().map(Change::DropIndex).collect();
            self.change_catalog(drop).await?;
        }
        enacted
    }

    /// Looks at the rows there are, and adds the constraint if nothing is written meanwhile.
    async fn enact(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<TableSchema>,
        key: ForeignKey,
    ) -> Result<(), Error> {
        self.refuse_periods(catalog, table, &key)?;
        let stamp = self.read_context()?.view.stamp();
        self.check_stored(catalog, table, &key).await?;
        let mut unchanged: Vec<(TableId, Stamp)> = vec![(table.id, stamp)];
        if key.table != table.id {
            unchanged.push((key.table, stamp));
        }
        let mut schema = TableSchema::clone(table);
        schema.rules.foreign_keys.push(key);
        let change = CatalogChange {
            base: catalog.version,
            unchanged,
            edits: vec![CatalogEdit::Table(Box::new(schema))],
        };
        self.change_catalog(vec![Change::Catalog(change)]).await?;
        Ok(())
    }

    /// 23503 if a row that is stored has not what it would refer to.
    async fn check_stored(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<TableSchema>,
        key: &ForeignKey,
    ) -> Result<(), Error> {
        let parent = catalog.table_by_id(key.table);
        let parent = parent.ok_or_else(|| chronos_query::QueryError::unknown_table(&key.name))?;
        let (Some(columns), Some(referenced)) =
            (key.positions(table), key.referenced_positions(parent))
        else {
            return Ok(());
        };
        let name = |table: &TableSchema, c: &usize| sql::quote(&table.columns[*c].name);
        let own: Vec<String> = columns
            .iter()
            .map(|c| format!("c.{}", name(table, c)))
            .collect();
        let given: Vec<String> = own.iter().map(|c| format!("{c} IS NOT NULL")).collect();
        let pairs = own.iter().zip(&referenced);
        let equal: Vec<String> = pairs
            .map(|(c, r)| format!("{c} = p.{}", name(parent, r)))
            .collect();
        let query = format!(
            "SELECT {} FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {}) LIMIT 1",
            own.join(", "),
            sql::quote(&table.name),
            given.join(" AND "),
            sql::quote(&parent.name),
            equal.join(" AND "),
        );
        let plan = self.plan_over(&sql::parse_query(&query)?, &[], &[], catalog)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan, &[], &mut held).await?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else {
            return Ok(());
        };
        let mut values = Vec::with_capacity(columns.len());
        for (array, c) in batch.columns().iter().zip(&columns) {
            values.push(value_at(array, 0, &table.columns[*c].data_type)?);
        }
        Err(violation(&ForeignKeyViolation {
            end: End::Child,
            constraint: key.name.clone(),
            child: table.name.clone(),
            parent: parent.name.clone(),
            columns: columns
                .iter()
                .map(|c| table.columns[*c].name.clone())
                .collect(),
            values,
        }))
    }

    /// Foreign keys are about what is true now, and know nothing of what is true only for a time.
    pub(super) fn refuse_periods(
        &mut self,
        catalog: &Catalog,
        table: &TableSchema,
        key: &ForeignKey,
    ) -> Result<(), Error> {
        let stored = self.node.inner.replica.store.read_view();
        let own = self
            .transaction
            .as_mut()
            .map(|t| t.read_view())
            .transpose()?;
        let has_periods = |table: &TableSchema| {
            stored.has_periods(table) || own.as_ref().is_some_and(|view| view.has_periods(table))
        };
        let parent = catalog.table_by_id(key.table).map(|parent| &**parent);
        for table in [Some(table), parent].into_iter().flatten() {
            if has_periods(table) || table.period_columns().is_some() {
                let message = format!(
                    "a foreign key between tables of which \"{}\" has rows that are true for periods of their own is not supported",
                    table.name
                );
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
        }
        Ok(())
    }

    /// The same for a table that was created just now: while it was, its parents may have been
    /// given periods. It goes again then.
    pub(super) async fn confirm_foreign_keys(&mut self, table: &str) -> Result<(), Error> {
        let catalog = self.catalog();
        let Some(schema) = catalog.table(table).cloned() else {
            return Ok(());
        };
        for key in &schema.rules.foreign_keys {
            if let Err(e) = self.refuse_periods(&catalog, &schema, key) {
                self.change_catalog(vec![Change::DropTable(schema.id)])
                    .await?;
                return Err(e);
            }
        }
        Ok(())
    }

    /// All tables that a TRUNCATE empties.
    pub(super) fn truncated_tables(
        &mut self,
        named: Vec<TableId>,
        cascade: bool,
    ) -> Result<Vec<TableId>, Error> {
        let catalog = self.catalog();
        let mut all = named;
        loop {
            let next = ddl::keys_from_outside(&catalog, &all).next();
            let Some((child, key)) = next else {
                return Ok(all);
            };
            if !cascade {
                let parent = catalog.table_by_id(key.table);
                return Err(truncates_referenced(
                    parent.map_or("", |t| t.name.as_str()),
                    &child.name,
                ));
            }
            let (id, name) = (child.id, child.name.clone());
            all.push(id);
            self.notice(
                Severity::Notice,
                SqlState::SUCCESSFUL_COMPLETION,
                format!("truncate cascades to table \"{name}\""),
            );
        }
    }

    /// What keeps tables from being dropped: the foreign keys of others, each as PostgreSQL says
    /// it; with CASCADE, the edits that take them away.
    pub(super) fn foreign_keys_of_dropped(
        &mut self,
        catalog: &Catalog,
        dropped: &[TableId],
        cascade: bool,
    ) -> (Vec<String>, Vec<CatalogEdit>) {
        let mut details = Vec::new();
        let mut keys = Vec::new();
        for (child, key) in ddl::keys_from_outside(catalog, dropped) {
            let of = catalog.table_by_id(key.table).map(|t| t.name.clone());
            let what = format!("constraint {} on table {}", key.name, child.name);
            if cascade {
                self.notice(
                    Severity::Notice,
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("drop cascades to {what}"),
                );
            }
            details.push(format!(
                "{what} depends on table {}",
                of.unwrap_or_default()
            ));
            keys.push((child.id, key.name.clone()));
        }
        match cascade {
            true => (vec![], ddl::without_keys(catalog, &keys)),
            false => (details, vec![]),
        }
    }

    /// 0A000 if rows expire that others refer to.
    pub(super) fn refuse_expiry(
        &self,
        catalog: &Catalog,
        table: &TableSchema,
    ) -> Result<(), Error> {
        let Some((child, key)) = catalog.foreign_keys_to(table.id).next() else {
            return Ok(());
        };
        let message = format!(
            "a ttl for table \"{}\", to which the foreign key \"{}\" on table \"{}\" refers, is not supported",
            table.name, key.name, child.name
        );
        Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message))
    }
}

/// 0A000.
pub(crate) fn truncates_referenced(table: &str, child: &str) -> Error {
    Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "cannot truncate a table referenced in a foreign key constraint",
    )
    .with_detail(format!("Table \"{child}\" references \"{table}\"."))
    .with_hint(format!(
        "Truncate table \"{child}\" at the same time, or use TRUNCATE ... CASCADE."
    ))
}

fn found(catalog: &Catalog, name: &str) -> Result<Arc<TableSchema>, Error> {
    let table = catalog.table(name).cloned();
    table.ok_or_else(|| chronos_query::QueryError::unknown_table(name).into())
}

fn indexes_of(catalog: &Catalog, table: TableId) -> Vec<chronos_model::IndexSchema> {
    let indexes = catalog.indexes_of(table);
    indexes
        .map(|i| chronos_model::IndexSchema::clone(i))
        .collect()
}
