//! ALTER TABLE as the schema that the table has afterwards.
//!
//! ```text
//!   actions, in PostgreSQL's order of passes -> schema and indexes as they shall be
//!                                            -> what must be true of stored rows first
//! ```
//!
//! Nothing is looked up here but the catalog: whoever carries it out evaluates defaults and
//! looks at stored rows.

use std::sync::Arc;

use chronos_model::{
    name_beside, own_name, Catalog, CatalogEdit, CheckSchema, ColumnSchema, DataType, ForeignKey,
    IndexSchema, SqlState, TableSchema, Uniqueness,
};
use datafusion::sql::sqlparser::ast::{self, AlterColumnOperation, AlterTableOperation};

use super::{add_rules, column_schema, default_text, foreign_keys, is_taken, rules};
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

    fn add_column(
        &mut self,
        definition: &ast::ColumnDef,
        if_not_exists: bool,
    ) -> Result<(), QueryError> {
        let (mut column, is_key) = column_schema(definition)?;
        let table = &self.done.schema.name;
        if self.done.schema.column_index(&column.name).is_some() {
            let message = format!(
                "column \"{}\" of relation \"{table}\" already exists",
                column.name
            );
            if !if_not_exists {
                return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
            }
            self.notice(SqlState::DUPLICATE_COLUMN, format!("{message}, skipping"));
            return Ok(());
        }
        let is_unique = |o: &ast::ColumnOptionDef| matches!(o.option, ast::ColumnOption::Unique(_));
        let is_generated =
            |o: &ast::ColumnOptionDef| matches!(o.option, ast::ColumnOption::Generated { .. });
        let is_serial = super::sequences::serial(&definition.data_type).is_some();
        if is_serial || definition.options.iter().any(is_generated) {
            return Err(QueryError::unsupported("ADD COLUMN .. GENERATED or SERIAL")
                .with_hint("Its values would have to be computed for the rows there are."));
        }
        if is_key || definition.options.iter().any(is_unique) {
            return Err(
                QueryError::unsupported("ADD COLUMN with PRIMARY KEY or UNIQUE")
                    .with_hint("Add the column, then CREATE UNIQUE INDEX."),
            );
        }
        if let Some(default) = &column.default {
            self.done
                .defaults
                .push((column.name.clone(), default.clone()));
        }
        if !column.nullable {
            // It may be in rows that are no more.
            column.attributes.was_nullable = column.default.is_none();
            if column.default.is_none() {
                self.done.demands.push(Demand::Empty(column.name.clone()));
            }
        }
        self.schema().add_column(column);
        let position = self.done.schema.columns.len() - 1;
        let checks = self.done.schema.rules.checks.len();
        add_rules(&mut self.done.schema, position, definition)?;
        let added = self.done.schema.rules.checks[checks..].iter().cloned();
        self.done.demands.extend(added.map(Demand::Check));
        Ok(())
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

    fn drop_column(&mut self, name: &str, if_exists: bool) -> Result<(), QueryError> {
        let schema = &self.done.schema;
        let Some(position) = schema.column_index(name) else {
            let error = unknown_column(name, schema);
            if !if_exists {
                return Err(error);
            }
            let message = format!("{}, skipping", error.message);
            self.notice(SqlState::SUCCESSFUL_COMPLETION, message);
            return Ok(());
        };
        if schema.primary_key.contains(&position) {
            return Err(QueryError::unsupported(format!(
                "DROP COLUMN of \"{name}\", which is in the primary key"
            )));
        }
        if schema.columns.len() == 1 {
            return Err(QueryError::unsupported(
                "DROP COLUMN of a table's only column",
            ));
        }
        self.refuse_generated_from(position)?;
        super::period::refuse_drop(&self.done.schema, position)?;
        let owner = Some((self.done.table.id, self.done.schema.column_id(position)));
        let mut owned = self.catalog.sequences_of(self.done.table.id);
        if let Some(sequence) = owned.find(|s| s.owner == owner) {
            self.done
                .indexes
                .push(CatalogEdit::DropSequence(sequence.id));
        }
        let mut checks = std::mem::take(&mut self.schema().rules.checks);
        let schema = &self.done.schema;
        let mut used = Vec::with_capacity(checks.len());
        for check in &checks {
            used.push(rules::uses(&check.expression, schema, position)?);
        }
        let mut used = used.into_iter();
        checks.retain(|_| !used.next().unwrap_or(false));
        self.schema().rules.checks = checks;
        let id = self.done.schema.column_id(position);
        let keys = &mut self.schema().rules.foreign_keys;
        keys.retain(|key| !key.columns.contains(&id));
        let what = format!("column {name} of table {}", self.done.schema.name);
        self.dropped = Some((what.clone(), what));
        self.schema().remove_column(position);
        let (gone, mut stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.indexes)
            .into_iter()
            .partition(|index| index.uses(position));
        let gone = gone
            .into_iter()
            .map(|index| CatalogEdit::DropIndex(index.id));
        self.done.indexes.extend(gone);
        stay.iter_mut()
            .for_each(|index| index.column_removed(position));
        self.indexes = stay;
        Ok(())
    }

    /// A column from which another is computed cannot go.
    fn refuse_generated_from(&self, position: usize) -> Result<(), QueryError> {
        let schema = &self.done.schema;
        let name = &schema.columns[position].name;
        for column in &schema.columns {
            let Some(expression) = &column.attributes.generated else {
                continue;
            };
            if rules::uses(expression, schema, position)? {
                let table = &schema.name;
                let message = format!(
                    "cannot drop column {name} of table {table} because other objects depend on it"
                );
                return Err(
                    QueryError::new(SqlState("2BP01"), message).with_detail(format!(
                        "column {} of table {table} depends on column {name} of table {table}",
                        column.name
                    )),
                );
            }
        }
        Ok(())
    }

    fn rename_column(&mut self, from: &str, to: String) -> Result<(), QueryError> {
        let schema = &self.done.schema;
        let position = schema.column_index(from).ok_or_else(|| {
            let message = format!("column \"{from}\" does not exist");
            QueryError::new(SqlState::UNDEFINED_COLUMN, message)
        })?;
        if chronos_model::SystemColumn::of_name(&to).is_some() {
            let message = format!("column name \"{to}\" conflicts with a system column name");
            return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if schema.column_index(&to).is_some() {
            let message = format!(
                "column \"{to}\" of relation \"{}\" already exists",
                schema.name
            );
            return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        rules::rename(&mut self.done.schema, from, &to)?;
        self.schema().columns[position].name = to;
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

    fn alter_column(&mut self, name: &str, op: &AlterColumnOperation) -> Result<(), QueryError> {
        let position = self.column(name)?;
        match op {
            AlterColumnOperation::SetNotNull => self.set_not_null(position),
            AlterColumnOperation::DropNotNull => {
                self.refuse_identity(position)?;
                if self.done.schema.primary_key.contains(&position) {
                    let message = format!("column \"{name}\" is in a primary key");
                    return Err(QueryError::new(SqlState::INVALID_TABLE_DEFINITION, message));
                }
                self.column_mut(position).nullable = true;
                self.schema().reshape();
                Ok(())
            }
            AlterColumnOperation::SetDefault { value } => {
                let column = &self.done.schema.columns[position];
                if column.attributes.generated.is_some() {
                    let table = &self.done.schema.name;
                    let message =
                        format!("column \"{name}\" of relation \"{table}\" is a generated column");
                    return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
                }
                self.refuse_identity(position)?;
                self.column_mut(position).default = default_text(value);
                Ok(())
            }
            AlterColumnOperation::DropDefault => {
                self.refuse_identity(position)?;
                self.column_mut(position).default = None;
                Ok(())
            }
            AlterColumnOperation::SetDataType {
                data_type, using, ..
            } => {
                let to = super::data_type(data_type)?;
                if using.as_ref().is_some_and(|e| !is_plain_cast(e, name, &to)) {
                    return Err(QueryError::unsupported("ALTER COLUMN TYPE .. USING"));
                }
                self.set_type(position, to)
            }
            other => Err(QueryError::unsupported(format!("ALTER COLUMN .. {other}"))),
        }
    }

    fn refuse_identity(&self, position: usize) -> Result<(), QueryError> {
        let column = &self.done.schema.columns[position];
        if column.attributes.identity.is_none() {
            return Ok(());
        }
        let message = format!(
            "column \"{}\" of relation \"{}\" is an identity column",
            column.name, self.done.schema.name
        );
        Err(QueryError::new(SqlState::SYNTAX_ERROR, message))
    }

    fn column_mut(&mut self, position: usize) -> &mut ColumnSchema {
        &mut self.done.schema.columns[position]
    }

    fn set_not_null(&mut self, position: usize) -> Result<(), QueryError> {
        if !self.done.schema.columns[position].nullable {
            return Ok(());
        }
        let id = self.done.schema.column_id(position);
        let table = &self.done.table;
        let demand = match table.position_of(id) {
            Some(before) => Demand::NotNull(table.columns[before].name.clone()),
            None => {
                let column = &self.done.schema.columns[position];
                let is_given = self
                    .done
                    .defaults
                    .iter()
                    .any(|(name, _)| *name == column.name);
                match is_given {
                    true => {
                        return Err(QueryError::unsupported(
                            "ADD COLUMN and SET NOT NULL of the same column in one statement",
                        )
                        .with_hint("Write ADD COLUMN .. NOT NULL DEFAULT .."))
                    }
                    false => Demand::Empty(column.name.clone()),
                }
            }
        };
        self.done.demands.push(demand);
        let column = self.column_mut(position);
        column.nullable = false;
        column.attributes.was_nullable = true;
        self.schema().reshape();
        Ok(())
    }

    fn set_type(&mut self, position: usize, to: DataType) -> Result<(), QueryError> {
        let column = &self.done.schema.columns[position];
        let (name, from) = (column.name.clone(), column.data_type.clone());
        if from == to {
            return Ok(());
        }
        if !from.widens_to(&to) {
            return Err(QueryError::unsupported(format!(
                "ALTER COLUMN \"{name}\" TYPE from {from} to {to}"
            ))
            .with_hint("Types can be made wider: int2 to int4 to int8, real to double precision, varchar(n) to longer ones and text, numeric to more digits with the same scale."));
        }
        for column in &self.done.schema.columns {
            if let Some(expression) = &column.attributes.generated {
                if rules::uses(expression, &self.done.schema, position)? {
                    let message = "cannot alter type of a column used by a generated column";
                    return Err(QueryError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                        .with_detail(format!(
                            "Column \"{name}\" is used by generated column \"{}\".",
                            column.name
                        )));
                }
            }
        }
        // Entries of an index, and keys, are bytes of the type.
        let is_text = |t: &DataType| matches!(t, DataType::Text | DataType::Varchar(_));
        let keeps_bytes = is_text(&from) || matches!(from, DataType::Numeric(_));
        if !keeps_bytes && self.done.schema.primary_key.contains(&position) {
            return Err(QueryError::unsupported(format!(
                "ALTER COLUMN TYPE of \"{name}\", which is in the primary key"
            )));
        }
        if let Some(index) = self
            .indexes
            .iter()
            .find(|i| !keeps_bytes && i.uses(position))
        {
            return Err(QueryError::unsupported(format!(
                "ALTER COLUMN TYPE of \"{name}\", which is in the index \"{}\"",
                index.name
            ))
            .with_hint("Drop the index, alter the column and create the index again."));
        }
        Ok(self.schema().widen_column(position, to)?)
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

/// Whether USING says no more than what is done without it: the column itself, or a cast of it to
/// its new type, as Django and Rails write it always.
fn is_plain_cast(using: &ast::Expr, name: &str, to: &DataType) -> bool {
    match using {
        ast::Expr::Identifier(ident) => fold(ident) == name,
        ast::Expr::Nested(inner) => is_plain_cast(inner, name, to),
        ast::Expr::Cast {
            expr, data_type, ..
        } => super::data_type(data_type).is_ok_and(|t| t == *to) && is_plain_cast(expr, name, to),
        _ => false,
    }
}

fn unknown_column(name: &str, table: &TableSchema) -> QueryError {
    let message = format!(
        "column \"{name}\" of relation \"{}\" does not exist",
        table.name
    );
    QueryError::new(SqlState::UNDEFINED_COLUMN, message)
}
