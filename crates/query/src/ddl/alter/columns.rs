//! What ALTER TABLE does to columns.

use chronos_model::{CatalogEdit, ColumnSchema, DataType, SqlState};
use datafusion::sql::sqlparser::ast::{self, AlterColumnOperation};

use super::{unknown_column, Demand, Work};
use crate::ddl::{add_rules, column_schema, default_text, rules};
use crate::sql::fold;
use crate::QueryError;

impl Work<'_> {
    pub(super) fn add_column(
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
        let is_serial = crate::ddl::sequences::serial(&definition.data_type).is_some();
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

    pub(super) fn drop_column(&mut self, name: &str, if_exists: bool) -> Result<(), QueryError> {
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
        crate::ddl::period::refuse_drop(&self.done.schema, position)?;
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

    pub(super) fn rename_column(&mut self, from: &str, to: String) -> Result<(), QueryError> {
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

    pub(super) fn alter_column(
        &mut self,
        name: &str,
        op: &AlterColumnOperation,
    ) -> Result<(), QueryError> {
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
                let to = crate::ddl::data_type(data_type)?;
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

    fn column_mut(&mut self, position: usize) -> &mut ColumnSchema {
        &mut self.done.schema.columns[position]
    }
}

/// Whether USING says no more than what is done without it: the column itself, or a cast of it to
/// its new type, as Django and Rails write it always.
fn is_plain_cast(using: &ast::Expr, name: &str, to: &DataType) -> bool {
    match using {
        ast::Expr::Identifier(ident) => fold(ident) == name,
        ast::Expr::Nested(inner) => is_plain_cast(inner, name, to),
        ast::Expr::Cast {
            expr, data_type, ..
        } => {
            crate::ddl::data_type(data_type).is_ok_and(|t| t == *to)
                && is_plain_cast(expr, name, to)
        }
        _ => false,
    }
}
