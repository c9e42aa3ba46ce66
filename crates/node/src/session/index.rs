//! CREATE INDEX and DROP INDEX; unique indexes as the statements of a transaction see them.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use chronos_model::{
    decode_row, Catalog, CatalogEdit, Change, Expect, IndexSchema, Key, Kind, RowChange, SqlState,
    TableId, TableSchema, Uniqueness, Value,
};
use chronos_query::{ddl, sql};
use chronos_store::ReadView;

use super::command::done;
use super::Session;
use crate::indexes::shown_key;
use crate::{Error, Outcome, Severity};

impl Session {
    /// Returns when the index is complete. Writers go on meanwhile; so does the build, if the
    /// client no longer waits.
    pub(super) async fn create_index(
        &mut self,
        create: &sql::CreateIndex,
    ) -> Result<Outcome, Error> {
        if create.concurrently && self.in_transaction() {
            let message = "CREATE INDEX CONCURRENTLY cannot run inside a transaction block";
            return Err(Error::new(SqlState::ACTIVE_TRANSACTION, message));
        }
        if let Some(named) = &create.name {
            let name = sql::table_name(named)?;
            if ddl::is_taken(&self.catalog(), &name) {
                let message = format!("relation \"{name}\" already exists");
                if !create.if_not_exists {
                    return Err(Error::new(SqlState::DUPLICATE_TABLE, message));
                }
                let message = format!("{message}, skipping");
                self.notice(Severity::Notice, SqlState::DUPLICATE_TABLE, message);
                return done("CREATE INDEX");
            }
        }
        let catalog = self.catalog();
        let schema = ddl::create_index(create, &catalog)?;
        self.add_index(schema, &catalog).await?;
        done("CREATE INDEX")
    }

    /// Creates an index and waits until it is complete.
    pub(super) async fn add_index(
        &mut self,
        schema: IndexSchema,
        catalog: &Catalog,
    ) -> Result<(), Error> {
        let name = schema.name.clone();
        let table = catalog.table_by_id(schema.table);
        if let Some(table) = table.filter(|_| schema.unique != Uniqueness::No) {
            if self.read_context()?.view.has_periods(table) {
                let message = format!("a unique index on \"{}\", whose rows are true for periods of their own, is not supported", table.name);
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
        }
        if self.in_transaction() {
            self.may_change_catalog()?;
            return self.add_index_in_transaction(schema);
        }
        // It names columns by position.
        let shape = catalog.table_by_id(schema.table);
        let shape = shape.map(|table| Change::ExpectShape(table.id, table.shape.version));
        let changes = shape.into_iter().chain([Change::CreateIndex(schema)]);
        let applied = self.change_catalog(changes.collect()).await?;
        // What is committed goes on by itself: from here on the client may leave.
        self.committing.store(false, Ordering::Release);
        if let Some(id) = applied.created_indexes.first() {
            let replica = Arc::clone(&self.node.inner.replica);
            replica.indexes.wait(&replica.store, *id, &name).await?;
        }
        Ok(())
    }

    pub(super) async fn drop_indexes(
        &mut self,
        names: &[sql::ObjectName],
        if_exists: bool,
    ) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        let mut found: Vec<TableId> = Vec::with_capacity(names.len());
        for name in names {
            let name = sql::table_name(name)?;
            if let Some(index) = catalog.indexes.get(&name) {
                if index.unique == Uniqueness::Constraint {
                    let table = catalog.table_by_id(index.table);
                    return Err(required(&name, table.map_or("", |t| t.name.as_str())));
                }
                if !found.contains(&index.id) {
                    found.push(index.id);
                }
                continue;
            }
            if catalog.table(&name).is_some() {
                return Err(
                    Error::new(SqlState("42809"), format!("\"{name}\" is not an index"))
                        .with_hint("Use DROP TABLE to remove a table."),
                );
            }
            let is_key =
                |t: &&Arc<TableSchema>| !t.has_hidden_key() && t.primary_key_name() == name;
            if let Some(table) = catalog.tables.values().find(is_key) {
                return Err(required(&name, &table.name));
            }
            let message = format!("index \"{name}\" does not exist");
            if !if_exists {
                return Err(Error::new(SqlState::UNDEFINED_OBJECT, message));
            }
            let message = format!("{message}, skipping");
            self.notice(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
        }
        let edits = ddl::drop_indexes(&found, &catalog)?;
        for edit in &edits {
            if let CatalogEdit::Index(kept) = edit {
                let name = chronos_model::own_name(&kept.name);
                let message = format!("a foreign key goes on with the index as \"{name}\"");
                self.notice(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
            }
        }
        if !edits.is_empty() {
            self.edit_catalog(&catalog, edits).await?;
        }
        done("DROP INDEX")
    }

    /// In a transaction, checks changes of rows against unique indexes at once, as far as what
    /// it sees tells; COMMIT checks again. Gives the positions of rows to be left out.
    pub(super) fn check_unique_in_transaction(
        &mut self,
        table: &Arc<TableSchema>,
        changes: &[RowChange],
    ) -> Result<Vec<usize>, Error> {
        if self.transaction.is_none() {
            return Ok(vec![]);
        }
        let view = self.read_context()?.view;
        let indexes = unique_indexes(&view, table);
        if indexes.is_empty() {
            return Ok(vec![]);
        }
        let replaced: HashSet<Key> = changes.iter().map(|c| c.key.clone()).collect();
        let mut given = HashSet::new();
        let mut skipped = Vec::new();
        for (position, change) in changes.iter().enumerate() {
            if change.kind != Kind::Put {
                continue;
            }
            let row = decode_row(table, &change.row)?;
            let taken = taken(&view, table, &indexes, &row, &replaced, &mut given)?;
            match (taken, change.expect) {
                (None, _) => {}
                (Some(_), Expect::DistinctOrSkip) => skipped.push(position),
                (Some(index), _) => return Err(violation(table, &index, &row)),
            }
        }
        Ok(skipped)
    }
}

/// The unique indexes of a table that are in force in a view.
fn unique_indexes(view: &ReadView, table: &TableSchema) -> Vec<Arc<IndexSchema>> {
    let indexes = view.catalog().indexes_of(table.id);
    let mut indexes: Vec<_> = indexes.filter(|i| i.is_enforced()).cloned().collect();
    indexes.sort_by_key(|index| index.id);
    indexes
}

/// The index in which another row has the values of `row`; else these count as given.
fn taken(
    view: &ReadView,
    table: &TableSchema,
    indexes: &[Arc<IndexSchema>],
    row: &[Value],
    replaced: &HashSet<Key>,
    given: &mut HashSet<(TableId, Vec<u8>)>,
) -> Result<Option<Arc<IndexSchema>>, Error> {
    let mut own = Vec::new();
    for index in indexes {
        let prefix = index.prefix_of_row(table, row)?;
        let Some(prefix) = prefix.filter(|p| !p.has_null) else {
            continue;
        };
        let values = (index.id, prefix.bytes);
        if given.contains(&values) || view.holder(index, row, replaced)?.is_some() {
            return Ok(Some(index.clone()));
        }
        own.push(values);
    }
    given.extend(own);
    Ok(None)
}

fn violation(table: &TableSchema, index: &IndexSchema, row: &[Value]) -> Error {
    let columns: Vec<usize> = index.columns.iter().map(|c| c.column).collect();
    let values: Vec<Value> = columns.iter().map(|c| row[*c].clone()).collect();
    let name = &index.name;
    let mut error = Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{name}\""),
    );
    error.detail = Some(format!(
        "{} already exists.",
        shown_key(table, &columns, &values)
    ));
    error.table = Some(table.name.clone());
    error.constraint = Some(name.clone());
    error
}

fn required(index: &str, table: &str) -> Error {
    let message = format!(
        "cannot drop index {index} because constraint {index} on table {table} requires it"
    );
    Error::new(SqlState("2BP01"), message).with_hint(format!(
        "The constraint goes with its table: DROP TABLE {table}."
    ))
}
