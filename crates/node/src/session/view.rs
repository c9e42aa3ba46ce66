//! CREATE VIEW, DROP VIEW, DROP TABLE with the views that need it, CREATE TABLE AS, COMMENT ON.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use chronos_model::{
    Catalog, CatalogChange, CatalogEdit, Change, ColumnId, ColumnSchema, DataType, Expect,
    SqlState, TableId, TableSchema, ViewColumn, ViewSchema,
};
use chronos_query::sql::{self, CommentOn, CreateTableAs, CreateView, ObjectName};
use chronos_query::{dml, views, QueryError};

use super::command::done;
use super::Session;
use crate::{CommandTag, Error, Outcome, Severity};

/// What a DROP is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    Table,
    View,
}

impl Session {
    pub(super) async fn create_view(&mut self, create: &CreateView) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        let name = &create.name;
        let existing = catalog.views.get(name).filter(|_| create.or_replace);
        if existing.is_none() && catalog.has_relation(name) {
            if create.or_replace {
                return Err(self.is_not("a view", name));
            }
            let message = format!("relation \"{name}\" already exists");
            return Err(Error::new(SqlState::DUPLICATE_TABLE, message));
        }
        let query = sql::parse_query(&create.query)?;
        let reads = views::relations_read(&query, &catalog)?;
        if let Some(existing) = existing {
            let within = views::dependents(&catalog, &[existing.id]);
            let reads_itself =
                |id: &TableId| *id == existing.id || within.iter().any(|v| v.id == *id);
            if reads.iter().any(reads_itself) {
                let message =
                    format!("infinite recursion detected in rules for relation \"{name}\"");
                return Err(Error::new(SqlState("42P17"), message));
            }
        }
        let plan = self.plan_over(&query, &[], &[], &catalog)?;
        if !plan.parameters.is_empty() {
            return Err(Error::new(SqlState("42P02"), "there is no parameter $1"));
        }
        let columns = columns(create, &plan.schema, views::has_wildcard(&query))?;
        if let Some(existing) = existing {
            check_replaces(&existing.columns, &columns)?;
        }
        let view = ViewSchema {
            id: existing.map_or(TableId(0), |v| v.id),
            name: name.clone(),
            columns,
            query: create.query.clone(),
            reads,
        };
        let edits = vec![CatalogEdit::View(Box::new(view))];
        self.edit_catalog(&catalog, edits).await?;
        done("CREATE VIEW")
    }

    /// Edits the catalog, if it is still the one that the edits were made for.
    pub(super) async fn edit_catalog(
        &mut self,
        catalog: &Catalog,
        edits: Vec<CatalogEdit>,
    ) -> Result<(), Error> {
        if edits.is_empty() {
            return Ok(());
        }
        let change = CatalogChange {
            base: catalog.version,
            unchanged: vec![],
            edits,
        };
        self.change_catalog(vec![Change::Catalog(change)]).await?;
        Ok(())
    }

    /// DROP TABLE, DROP VIEW: with CASCADE, the views that read what is dropped go, too.
    pub(super) async fn drop_relations(
        &mut self,
        what: Dropped,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Outcome, Error> {
        let (kind, a_kind, tag) = match what {
            Dropped::Table => ("table", "a table", "DROP TABLE"),
            Dropped::View => ("view", "a view", "DROP VIEW"),
        };
        let catalog = self.catalog();
        let mut found: Vec<TableId> = Vec::with_capacity(names.len());
        for name in names {
            let name = sql::table_name(name)?;
            let id = match what {
                Dropped::Table => catalog.table(&name).map(|t| t.id),
                Dropped::View => catalog.views.get(&name).map(|v| v.id),
            };
            match id {
                Some(id) if found.contains(&id) => {}
                Some(id) => found.push(id),
                None if catalog.has_relation(&name) => return Err(self.is_not(a_kind, &name)),
                None if if_exists => self.notice(
                    Severity::Notice,
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{kind} \"{name}\" does not exist, skipping"),
                ),
                None => {
                    let message = format!("{kind} \"{name}\" does not exist");
                    return Err(Error::new(SqlState::UNDEFINED_TABLE, message));
                }
            }
        }
        let mut dependents = views::dependents(&catalog, &found);
        dependents.retain(|view| !found.contains(&view.id));
        let (needing, keys) = self.foreign_keys_of_dropped(&catalog, &found, cascade);
        let is_needed = !dependents.is_empty() || !needing.is_empty();
        if is_needed && !cascade {
            return Err(needed(&catalog, &found, &dependents, needing));
        }
        for view in &dependents {
            self.notice(
                Severity::Notice,
                SqlState::SUCCESSFUL_COMPLETION,
                format!("drop cascades to view {}", view.name),
            );
        }
        let views = dependents.iter().map(|view| CatalogEdit::DropView(view.id));
        let named = found.iter().map(|id| match what {
            Dropped::Table => CatalogEdit::DropTable(*id),
            Dropped::View => CatalogEdit::DropView(*id),
        });
        self.edit_catalog(
            &catalog,
            keys.into_iter().chain(views).chain(named).collect(),
        )
        .await?;
        done(tag)
    }

    /// Views must go on giving the columns that they have.
    pub(super) fn check_views(
        &self,
        table: &TableSchema,
        before: &Catalog,
        after: Catalog,
    ) -> Result<(), Error> {
        let after = Arc::new(after);
        for view in views::dependents(before, &[table.id]) {
            let query = format!("SELECT * FROM {}", sql::quote(&view.name));
            let planned = sql::parse_query(&query)
                .map_err(Error::from)
                .and_then(|query| self.plan_over(&query, &[], &[], &after));
            let is_same = |schema: &SchemaRef| {
                let types = schema.fields().iter().map(|f| DataType::of_field(f));
                types.eq(view.columns.iter().map(|c| c.data_type.clone()))
            };
            let name = &table.name;
            let detail = match planned {
                Ok(plan) if is_same(&plan.schema) => continue,
                Ok(_) => format!("view {} would have columns of other types", view.name),
                Err(e) => format!("view {} depends on table {name}: {}", view.name, e.message),
            };
            let message = format!("cannot alter table {name} because other objects depend on it");
            return Err(Error::new(SqlState("2BP01"), message)
                .with_detail(detail)
                .with_hint("Drop the view, alter the table and create the view again."));
        }
        Ok(())
    }

    pub(super) async fn comment_on(&mut self, comment: &CommentOn) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        let name = &comment.relation;
        let id = match comment.kind {
            "table" => catalog.table(name).map(|t| t.id),
            "view" => catalog.views.get(name).map(|v| v.id),
            "index" => catalog.indexes.get(name).map(|i| i.id),
            "sequence" => catalog.sequences.get(name).map(|s| s.id),
            _ => {
                let table = catalog.table(name).map(|t| t.id);
                table.or_else(|| catalog.views.get(name).map(|v| v.id))
            }
        };
        let Some(id) = id else {
            if catalog.has_relation(name) && comment.kind != "column" {
                return Err(self.is_not(&format!("a {}", comment.kind), name));
            }
            return Err(QueryError::unknown_table(name).into());
        };
        let column = match &comment.column {
            None => None,
            Some(column) => Some(column_of(&catalog, id, column, name)?),
        };
        let edit = CatalogEdit::Comment(id, column, comment.text.clone());
        self.edit_catalog(&catalog, vec![edit]).await?;
        done("COMMENT")
    }

    /// Creates a table of what a query gives. The query comes first: if it fails, there is no
    /// table.
    pub(super) async fn create_table_as(
        &mut self,
        create: &CreateTableAs,
    ) -> Result<Outcome, Error> {
        let name = &create.name;
        let catalog = self.catalog();
        if catalog.has_relation(name) {
            let message = format!("relation \"{name}\" already exists");
            if !create.if_not_exists {
                return Err(Error::new(SqlState::DUPLICATE_TABLE, message));
            }
            let message = format!("{message}, skipping");
            self.notice(Severity::Notice, SqlState::DUPLICATE_TABLE, message);
            return done("CREATE TABLE AS");
        }
        self.may_change_catalog()?;
        let plan = self.plan_over(&create.query, &[], &[], &catalog)?;
        let schema = table_of(name, &plan.schema)?;
        let mut held = self.write_memory();
        let batches = self.collect(&plan, &[], &mut held).await?;
        self.change_catalog(vec![Change::CreateTable(schema)])
            .await?;
        let table = self.catalog().table(name).cloned();
        let table = table.ok_or_else(|| QueryError::unknown_table(name))?;
        let mut rows = 0;
        let mut changes = Vec::with_capacity(batches.len());
        for batch in &batches {
            let fields = plan.schema.fields();
            let coerced =
                chronos_query::coerce_batch(&table, fields, batch.columns(), batch.num_rows())?;
            let mut change = dml::insertions(&table, coerced, Expect::Absent, &[])?;
            self.resolve_in_transaction_if_any(&table, &mut change)?;
            rows += batch.num_rows() as u64;
            changes.push(change);
        }
        let written = self.write(&table, changes, chronos_model::Stamp::MAX).await;
        if let Err(e) = written {
            if self.in_transaction() {
                return Err(e);
            }
            // Nobody was told of the table yet.
            let dropped = self.change_catalog(vec![Change::DropTable(table.id)]).await;
            if let Err(e) = dropped {
                tracing::warn!(
                    error = e.message,
                    "a table without its rows was not dropped"
                );
            }
            return Err(e);
        }
        Ok(Outcome::Done(CommandTag {
            verb: "SELECT",
            rows: Some(rows),
        }))
    }

    fn resolve_in_transaction_if_any(
        &mut self,
        table: &Arc<TableSchema>,
        change: &mut Change,
    ) -> Result<(), Error> {
        if self.in_transaction() {
            self.resolve_in_transaction(table, change)?;
        }
        Ok(())
    }
}

/// 2BP01.
fn needed(
    catalog: &Catalog,
    found: &[TableId],
    dependents: &[Arc<ViewSchema>],
    mut details: Vec<String>,
) -> Error {
    let named = |id: TableId| match catalog.table_by_id(id) {
        Some(table) => Some(format!("table {}", table.name)),
        None => Some(format!("view {}", catalog.view_by_id(id)?.name)),
    };
    let first = found.first().and_then(|id| named(*id)).unwrap_or_default();
    for view in dependents {
        let of = view
            .reads
            .iter()
            .find(|id| found.contains(id) || dependents.iter().any(|v| v.id == **id));
        let of = of.and_then(|id| named(*id)).unwrap_or_default();
        details.push(format!("view {} depends on {of}", view.name));
    }
    let message = format!("cannot drop {first} because other objects depend on it");
    Error::new(SqlState("2BP01"), message)
        .with_detail(details.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

fn columns(
    create: &CreateView,
    schema: &SchemaRef,
    has_wildcard: bool,
) -> Result<Vec<ViewColumn>, Error> {
    let fields = schema.fields();
    if create.columns.len() > fields.len() {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "CREATE VIEW specifies more column names than columns",
        ));
    }
    let occurs = |name: &str| fields.iter().filter(|f| f.name() == name).count();
    let is_by_name = fields.iter().all(|f| occurs(f.name()) == 1);
    if !is_by_name && has_wildcard {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "a view with * whose query gives a name twice is not supported",
        )
        .with_hint("Name the columns in the query."));
    }
    let mut columns: Vec<ViewColumn> = Vec::with_capacity(fields.len());
    for (position, field) in fields.iter().enumerate() {
        let given = create.columns.get(position);
        let name = given.unwrap_or(field.name()).clone();
        if columns.iter().any(|c| c.name == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
        }
        columns.push(ViewColumn {
            name,
            source: is_by_name.then(|| field.name().clone()),
            data_type: DataType::of_field(field),
        });
    }
    Ok(columns)
}

/// CREATE OR REPLACE VIEW may only add columns at the end.
fn check_replaces(old: &[ViewColumn], new: &[ViewColumn]) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, message));
    if new.len() < old.len() {
        return refuse("cannot drop columns from view".into());
    }
    for (old, new) in old.iter().zip(new) {
        if old.name != new.name {
            return refuse(format!(
                "cannot change name of view column \"{}\" to \"{}\"",
                old.name, new.name
            ));
        }
        if old.data_type != new.data_type {
            return refuse(format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                old.name, old.data_type, new.data_type
            ));
        }
    }
    Ok(())
}

/// What COMMENT ON COLUMN keeps its text by.
fn column_of(
    catalog: &Catalog,
    id: TableId,
    column: &str,
    relation: &str,
) -> Result<ColumnId, Error> {
    let found = match catalog.table_by_id(id) {
        Some(table) => table.column_index(column).map(|p| table.column_id(p)),
        None => {
            let columns = catalog.view_by_id(id).map(|v| v.columns.iter());
            let position = columns.and_then(|mut c| c.position(|c| c.name == column));
            position.map(|p| ColumnId(p as u32))
        }
    };
    found.ok_or_else(|| QueryError::unknown_column(column, relation).into())
}

/// A table with the columns of a query.
fn table_of(name: &str, schema: &SchemaRef) -> Result<TableSchema, Error> {
    let mut columns: Vec<ColumnSchema> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name().clone();
        if columns.iter().any(|c| c.name == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if chronos_model::SystemColumn::of_name(&name).is_some() {
            let message = format!("column name \"{name}\" conflicts with a system column name");
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
        }
        columns.push(ColumnSchema {
            name,
            data_type: DataType::of_field(field),
            nullable: true,
            default: None,
            attributes: Default::default(),
        });
    }
    if columns.is_empty() {
        return Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "a table needs at least one column",
        ));
    }
    Ok(TableSchema {
        id: TableId(0),
        name: name.to_owned(),
        columns,
        shape: Default::default(),
        rules: Default::default(),
        primary_key: vec![],
        options: Default::default(),
    })
}
