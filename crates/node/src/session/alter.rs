//! ALTER TABLE: looks at what must be true of stored rows, evaluates the defaults of added
//! columns, and proposes the change for the catalog and the rows that it looked at.

use std::sync::Arc;

use chronos_model::{
    value_at, Catalog, CatalogChange, Change, SqlState, Stamp, TableId, TableSchema, Value,
};
use chronos_query::ddl::{self, Alteration, Demand};
use chronos_query::{sql, RowRules};

use super::command::done;
use super::Session;
use crate::{Error, Outcome, Severity};

impl Session {
    pub(super) async fn alter_table(&mut self, alter: &sql::AlterTable) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        if let Some((rest, keys)) = ddl::split_foreign_keys(alter)? {
            return self.add_foreign_keys(&rest, &keys, &catalog).await;
        }
        if let Some(index) = ddl::added_unique(alter, &catalog)? {
            self.add_index(index, &catalog).await?;
            return done("ALTER TABLE");
        }
        if let Some(key) = ddl::added_primary_key(alter, &catalog)? {
            self.add_primary_key(key, &catalog).await?;
            return done("ALTER TABLE");
        }
        self.change_table(alter, &catalog).await
    }

    /// Carries out actions that change nothing but the catalog.
    pub(super) async fn change_table(
        &mut self,
        alter: &sql::AlterTable,
        catalog: &Arc<Catalog>,
    ) -> Result<Outcome, Error> {
        let Some(mut alteration) = ddl::alter_table(alter, catalog)? else {
            self.notice(
                Severity::Notice,
                SqlState::SUCCESSFUL_COMPLETION,
                format!(
                    "relation \"{}\" does not exist, skipping",
                    sql::table_name(&alter.name)?
                ),
            );
            return done("ALTER TABLE");
        };
        self.may_change_catalog()?;
        for (code, message) in std::mem::take(&mut alteration.notices) {
            self.notice(Severity::Notice, code, message);
        }
        self.check_defaults(&alteration.schema, &[])?;
        self.check_rules(&alteration.schema)?;
        self.evaluate_missing(&mut alteration).await?;
        let unchanged = self.check_demands(&alteration).await?;
        let change = CatalogChange {
            base: catalog.version,
            unchanged,
            edits: alteration.edits(),
        };
        if let Ok(after) = change.applied(catalog) {
            self.check_views(&alteration.table, catalog, after)?;
        }
        if !alteration.schema.stores_like(&alteration.table) && !self.in_transaction() {
            // Applying flushes what is in memory. What can be flushed before keeps nobody
            // waiting, and a disk that is full refuses the statement and stops nothing.
            self.flush().await?;
        }
        self.change_catalog(vec![Change::Catalog(change)]).await?;
        done("ALTER TABLE")
    }

    pub(super) async fn flush(&self) -> Result<(), Error> {
        let store = self.node.inner.replica.store.clone();
        let flushed = tokio::task::spawn_blocking(move || store.flush_now()).await;
        let flushed = flushed
            .map_err(|e| Error::new(SqlState::INTERNAL, format!("a flush ended early: {e}")))?;
        Ok(flushed?)
    }

    /// An added column has in rows from before what its default gives now.
    async fn evaluate_missing(&mut self, alteration: &mut Alteration) -> Result<(), Error> {
        for (name, default) in &alteration.defaults {
            let Some(position) = alteration.schema.column_index(name) else {
                continue;
            };
            let data_type = alteration.schema.columns[position].data_type.clone();
            let value = self.evaluate_constant(default, &data_type).await?;
            let column = &mut alteration.schema.columns[position];
            if value.is_null() && !column.nullable {
                column.attributes.was_nullable = true;
                alteration.demands.push(Demand::Empty(name.clone()));
            }
            column.set_missing(&value);
        }
        Ok(())
    }

    async fn evaluate_constant(
        &mut self,
        expression: &str,
        data_type: &chronos_model::DataType,
    ) -> Result<Value, Error> {
        let query = sql::parse_query(&format!("SELECT CAST(({expression}) AS {data_type})"))?;
        let catalog = self.catalog();
        let plan = self.plan_over(&query, &[], &[], &catalog)?;
        if plan.is_volatile() {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("ADD COLUMN with a default that is another for each row is not supported: {expression}"),
            )
            .with_hint("Add the column without it, SET DEFAULT, and UPDATE the rows there are."));
        }
        let mut held = self.write_memory();
        let batches = self.collect(&plan, &[], &mut held).await?;
        match batches.first() {
            Some(batch) => Ok(value_at(batch.column(0), 0, data_type)?),
            None => Ok(Value::Null),
        }
    }

    /// Looks at stored rows; gives the table and as of when, if there was something to look at.
    pub(super) async fn check_demands(
        &mut self,
        alteration: &Alteration,
    ) -> Result<Vec<(TableId, Stamp)>, Error> {
        if alteration.demands.is_empty() {
            return Ok(vec![]);
        }
        let table = &alteration.table;
        let stamp = self.read_context()?.view.stamp();
        for demand in &alteration.demands {
            let (column, condition) = match demand {
                Demand::NotNull(column) => (column, format!("{} IS NULL", sql::quote(column))),
                Demand::Empty(column) => (column, "true".to_owned()),
                Demand::Check(check) => {
                    let failed = chronos_query::is_false(&alteration.over_stored(check)?);
                    if self.has_row(&table.name, &failed).await? {
                        return Err(is_violated(&alteration.schema.name, &check.name));
                    }
                    continue;
                }
            };
            if self.has_row(&table.name, &condition).await? {
                let name = &alteration.schema.name;
                let message =
                    format!("column \"{column}\" of relation \"{name}\" contains null values");
                let mut error = Error::new(SqlState::NOT_NULL_VIOLATION, message);
                error.table = Some(name.clone());
                error.column = Some(column.clone());
                return Err(error);
            }
        }
        Ok(vec![(table.id, stamp)])
    }

    /// What a table demands of its rows must be conditions and values over its columns.
    pub(super) fn check_rules(&self, schema: &TableSchema) -> Result<(), Error> {
        let table = Arc::new(schema.clone());
        let engine = &self.node.inner.engine;
        let rules = RowRules::plan(engine, &table, &self.catalog(), &self.facts)?;
        match rules.is_none_or(|rules| rules.is_immutable()) {
            true => Ok(()),
            false => Err(Error::new(
                SqlState("42P17"),
                "generation expression is not immutable",
            )),
        }
    }

    /// Whether a table has a row for which a condition is true.
    async fn has_row(&mut self, table: &str, condition: &str) -> Result<bool, Error> {
        let catalog = self.catalog();
        let schema = catalog.table(table);
        let view = self.read_context()?.view;
        // Rows that will be true only later, too.
        let from_now = match schema.is_some_and(|schema| view.has_periods(schema)) {
            true => "(__valid_from_to(now(), NULL))",
            false => "",
        };
        let table = sql::quote(table);
        let query = format!("SELECT 1 FROM {table}{from_now} WHERE {condition} LIMIT 1");
        let plan = self.plan_over(&sql::parse_query(&query)?, &[], &[], &catalog)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan, &[], &mut held).await?;
        Ok(batches.iter().any(|batch| batch.num_rows() > 0))
    }
}

/// 23514 of rows that are stored.
fn is_violated(table: &str, check: &str) -> Error {
    let message =
        format!("check constraint \"{check}\" of relation \"{table}\" is violated by some row");
    let mut error = Error::new(SqlState::CHECK_VIOLATION, message);
    error.table = Some(table.to_owned());
    error.constraint = Some(check.to_owned());
    error
}
