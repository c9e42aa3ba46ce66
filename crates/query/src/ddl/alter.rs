//! ALTER TABLE as the schema that the table has afterwards.
//!
//! ```text
//!   actions, in PostgreSQL's order of passes -> schema and indexes as they shall be
//!                                            -> what must be true of stored rows first
//! ```
//!
//! Nothing is looked up here but the catalog: whoever carries it out evaluates defaults and
//! looks at stored rows.

mod columns;

use std::sync::Arc;

use chronos_model::{
    name_beside, own_name, Catalog, CatalogEdit, CheckSchema, ForeignKey, IndexSchema, SqlState,
    TableSchema, Uniqueness,
};
use datafusion::sql::sqlparser::ast::{self, AlterColumnOperation, AlterTableOperation};

use super::{foreign_keys, is_taken, rules};
use crate::sql::{fold, table_name};
use crate::QueryError;

/// What an ALTER TABLE does.
#[derive(Debug)]
pub struct Alteration {
    /// The table as it is.
    pub table: Arc<TableSchema>,
    /// The table as it shall be, but for the values that added columns have in rows from before.
    pub schema: TableSchema,
    /// Its indexes as they shall be, and which of them go.
    pub indexes: Vec<CatalogEdit>,
    /// Names of columns added with a default, which must be evaluated for them.
    pub defaults: Vec<(String, String)>,
    /// What must be true of the rows that are stored.
    pub demands: Vec<Demand>,
    /// What the client is told.
    pub notices: Vec<(SqlState, String)>,
}

/// What must be true of stored rows for a table to be altered.
#[derive(Debug, Clone, PartialEq)]
pub enum Demand {
    /// This column, by its present name, is NULL in none.
    NotNull(String),
    /// There are none: this column is added, and would be NULL in them.
    Empty(String),
    /// This CHECK is false of none.
    Check(CheckSchema),
}

/// `None`: the table does not exist, and need not.
pub fn alter_table(
    alter: &ast::AlterTable,
    catalog: &Catalog,
) -> Result<Option<Alteration>, QueryError> {
    let name = table_name(&alter.name)?;
    let Some(table) = catalog.table(&name) else {
        return match alter.if_exists {
            true => Ok(None),
            false => Err(QueryError::unknown_table(&name)),
        };
    };
    let mut work = Work {
        catalog,
        done: Alteration {
            table: table.clone(),
            schema: TableSchema::clone(table),
            indexes: Vec::new(),
            defaults: Vec::new(),
            demands: Vec::new(),
            notices: Vec::new(),
        },
        indexes: catalog
            .indexes_of(table.id)
            .map(|i| IndexSchema::clone(i))
            .collect(),
        cascades: false,
        dropped: None,
    };
    let mut actions: Vec<&AlterTableOperation> = alter.operations.iter().collect();
    actions.sort_by_key(|action| pass(action));
    for action in actions {
        work.act(action)?;
    }
    work.finish().map(Some)
}

/// PostgreSQL carries the actions of a statement out in this order.
fn pass(action: &AlterTableOperation) -> u8 {
    match action {
        AlterTableOperation::DropColumn { .. } | AlterTableOperation::DropConstraint { .. } => 0,
        AlterTableOperation::AlterColumn {
            op: AlterColumnOperation::SetDataType { .. },
            ..
        } => 1,
        AlterTableOperation::AddColumn { .. } => 2,
        AlterTableOperation::AlterColumn { .. } => 3,
        _ => 4,
    }
}

struct Work<'a> {
    catalog: &'a Catalog,
    done: Alteration,
    /// Indexes that stay.
    indexes: Vec<IndexSchema>,
    /// Whether what depends on something that is dropped goes, too.
    cascades: bool,
    /// What was dropped that others may refer to, and what of it they depend on.
    dropped: Option<(String, String)>,
}

impl Work<'_> {
    fn act(&mut self, action: &AlterTableOperation) -> Result<(), QueryError> {
        match action {
            AlterTableOperation::AddColumn {
                if_not_exists,
                column_def,
                column_position: None,
                ..
            } => self.add_column(column_def, *if_not_exists),
            AlterTableOperation::DropColumn {
                column_names,
                if_exists,
                drop_behavior,
                ..
            } => {
                self.note_behavior(*drop_behavior);
                column_names
                    .iter()
                    .try_for_each(|name| self.drop_column(&fold(name), *if_exists))
            }
            AlterTableOperation::RenameColumn {
                old_column_name,
                new_column_name,
            } => self.rename_column(&fold(old_column_name), fold(new_column_name)),
            AlterTableOperation::RenameTable {
                table_name: ast::RenameTableNameKind::To(name),
            } => self.rename_table(name),
            AlterTableOperation::AddConstraint {
                constraint: ast::TableConstraint::Check(check),
                not_valid: false,
            } => self.add_check(check),
            AlterTableOperation::DropConstraint {
                if_exists,
                name,
                drop_behavior,
            } => {
                self.note_behavior(*drop_behavior);
                self.drop_constraint(&fold(name), *if_exists)
            }
            AlterTableOperation::RenameConstraint { old_name, new_name } => {
                self.rename_constraint(&fold(old_name), fold(new_name))
            }
            AlterTableOperation::AlterColumn { column_name, op } => {
                self.alter_column(&fold(column_name), op)
            }
            other => Err(QueryError::unsupported(format!("ALTER TABLE .. {other}"))),
        }
    }

    fn schema(&mut self) -> &mut TableSchema {
        &mut self.done.schema
    }

    /// A column that must be there.
    fn column(&self, name: &str) -> Result<usize, QueryError> {
        let schema = &self.done.schema;
        schema
            .column_index(name)
            .ok_or_else(|| unknown_column(name, schema))
    }

    fn notice(&mut self, code: SqlState, message: String) {
        self.done.notices.push((code, message));
    }

    fn add_check(&mut self, check: &ast::CheckConstraint) -> Result<(), QueryError> {
        if let Some(name) = &check.name {
            let name = fold(name);
            if self
                .indexes
                .iter()
                .any(|i| own_name(&i.name) == name && i.unique == Uniqueness::Constraint)
            {
                return Err(rules::taken(&self.done.schema, &name));
            }
        }
        rules::add_check(&mut self.done.schema, check.name.as_ref(), &check.expr)?;
        let added = self.done.schema.rules.checks.last().cloned();
        self.done.demands.extend(added.map(Demand::Check));
        self.schema().reshape();
        Ok(())
    }

    fn drop_constraint(&mut self, name: &str, if_exists: bool) -> Result<(), QueryError> {
        let checks = &mut self.done.schema.rules.checks;
        let before = checks.len();
        checks.retain(|c| c.name != name);
        if checks.len() < before {
            self.schema().reshape();
            return Ok(());
        }
        let keys = &mut self.done.schema.rules.foreign_keys;
        if let Some(at) = keys.iter().position(|key| key.name == name) {
            keys.remove(at);
            return Ok(());
        }
        let is_it =
            |i: &IndexSchema| own_name(&i.name) == name && i.unique == Uniqueness::Constraint;
        if let Some(at) = self.indexes.iter().position(is_it) {
            let gone = self.indexes.remove(at);
            let on = format!("constraint {name} on table {}", self.done.schema.name);
            self.dropped = Some((on, format!("index {name}")));
            self.done.indexes.push(CatalogEdit::DropIndex(gone.id));
            return Ok(());
        }
        let schema = &self.done.schema;
        if rules::has_constraint(schema, name) {
            return Err(QueryError::unsupported(format!(
                "DROP CONSTRAINT \"{name}\""
            )));
        }
        let message = format!(
            "constraint \"{name}\" of relation \"{}\" does not exist",
            schema.name
        );
        if !if_exists {
            return Err(QueryError::new(SqlState::UNDEFINED_OBJECT, message));
        }
        self.notice(
            SqlState::SUCCESSFUL_COMPLETION,
            format!("{message}, skipping"),
        );
        Ok(())
    }

    fn rename_constraint(&mut self, from: &str, to: String) -> Result<(), QueryError> {
        let is_index =
            |i: &&mut IndexSchema| own_name(&i.name) == from && i.unique == Uniqueness::Constraint;
        let beside = name_beside(&self.done.schema.name, &to);
        let is_taken =
            rules::has_constraint(&self.done.schema, &to) || is_taken(self.catalog, &beside);
        if is_taken {
            return Err(rules::taken(&self.done.schema, &to));
        }
        let checks = &mut self.done.schema.rules.checks;
        if let Some(check) = checks.iter_mut().find(|c| c.name == from) {
            check.name = to;
        } else if let Some(key) = find_key(&mut self.done.schema, from) {
            key.name = to;
        } else if let Some(index) = self.indexes.iter_mut().find(is_index) {
            index.name = beside;
        } else if rules::has_constraint(&self.done.schema, from) {
            return Err(QueryError::unsupported(format!(
                "RENAME CONSTRAINT \"{from}\""
            )));
        } else {
            let message = format!(
                "constraint \"{from}\" for table \"{}\" does not exist",
                self.done.schema.name
            );
            return Err(QueryError::new(SqlState::UNDEFINED_OBJECT, message));
        }
        Ok(())
    }

    fn rename_table(&mut self, to: &ast::ObjectName) -> Result<(), QueryError> {
        let to = name_beside(&self.done.schema.name, &table_name(to)?);
        if is_taken(self.catalog, &to) {
            let message = format!("relation \"{to}\" already exists");
            return Err(QueryError::new(SqlState::DUPLICATE_TABLE, message));
        }
        self.schema().name = to;
        Ok(())
    }

    fn note_behavior(&mut self, behavior: Option<ast::DropBehavior>) {
        self.cascades |= behavior == Some(ast::DropBehavior::Cascade);
    }

    /// Foreign keys go with the key that they refer to, or that stays; the indexes that were made
    /// for them go with them.
    fn settle_foreign_keys(&mut self) -> Result<(), QueryError> {
        let id = self.done.table.id;
        let mut gone = Vec::new();
        let outside = self.catalog.foreign_keys_to(id);
        let outside = outside.filter(|(child, _)| child.id != id);
        let outside = outside.map(|(child, key)| (child.id, child.name.clone(), key.clone()));
        let own = self.done.schema.rules.foreign_keys.iter();
        let own = own.filter(|key| key.table == id);
        let own = own.map(|key| (id, self.done.schema.name.clone(), key.clone()));
        for (child, child_name, key) in outside.chain(own) {
            if key.target(&self.done.schema, &self.indexes).is_some() {
                continue;
            }
            let (what, of) = self.dropped.clone().unwrap_or_default();
            let depends = format!("constraint {} on table {child_name}", key.name);
            if !self.cascades {
                let message = format!("cannot drop {what} because other objects depend on it");
                return Err(QueryError::new(SqlState("2BP01"), message)
                    .with_detail(format!("{depends} depends on {of}"))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            gone.push((child, key.name, depends));
        }
        for (_, _, depends) in &gone {
            let message = format!("drop cascades to {depends}");
            self.notice(SqlState::SUCCESSFUL_COMPLETION, message);
        }
        let keys = &mut self.done.schema.rules.foreign_keys;
        keys.retain(|key| {
            !gone
                .iter()
                .any(|(t, name, _)| *t == id && *name == key.name)
        });
        let outside = gone.into_iter().filter(|(child, ..)| *child != id);
        let outside: Vec<_> = outside.map(|(child, name, _)| (child, name)).collect();
        let edits = foreign_keys::without_keys(self.catalog, &outside);
        self.done.indexes.extend(edits);
        let unused = foreign_keys::let_go(&self.done.schema, &mut self.indexes);
        let unused = unused.into_iter().map(CatalogEdit::DropIndex);
        self.done.indexes.extend(unused);
        let schema = &self.done.schema;
        for key in &schema.rules.foreign_keys {
            if key.access(schema, &self.indexes).is_none() {
                return Err(QueryError::unsupported(format!(
                    "dropping an index by which the foreign key \"{}\" finds its rows",
                    key.name
                ))
                .with_hint("Create another index on its columns first."));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Alteration, QueryError> {
        self.settle_foreign_keys()?;
        for index in self.indexes {
            let before = self.catalog.index_by_id(index.id);
            if before.is_some_and(|before| **before != index) {
                self.done.indexes.push(CatalogEdit::Index(Box::new(index)));
            }
        }
        Ok(self.done)
    }
}

impl Alteration {
    /// A CHECK as a condition over the rows that are stored: over columns by their present
    /// names, and over the values that added ones have in them.
    pub fn over_stored(&self, check: &CheckSchema) -> Result<String, QueryError> {
        rules::over_stored(&check.expression, &self.schema, &self.table)
    }

    /// What the catalog is edited by.
    pub fn edits(&self) -> Vec<CatalogEdit> {
        let table = CatalogEdit::Table(Box::new(self.schema.clone()));
        self.indexes.iter().cloned().chain([table]).collect()
    }
}

fn find_key<'a>(schema: &'a mut TableSchema, name: &str) -> Option<&'a mut ForeignKey> {
    let mut keys = schema.rules.foreign_keys.iter_mut();
    keys.find(|key| key.name == name)
}

fn unknown_column(name: &str, table: &TableSchema) -> QueryError {
    let message = format!(
        "column \"{name}\" of relation \"{}\" does not exist",
        table.name
    );
    QueryError::new(SqlState::UNDEFINED_COLUMN, message)
}
