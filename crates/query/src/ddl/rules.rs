//! CHECK constraints and generated columns in CREATE TABLE and ALTER TABLE: their names, the
//! columns they are about, and what becomes of them when a column changes its name or goes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use chronos_model::{own_name, CheckSchema, SqlState, TableSchema};
use datafusion::sql::sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut};

use super::index::short_name;
use crate::engine::parse_expression;
use crate::sql::{fold, quote};
use crate::system_tables::quote_ident;
use crate::QueryError;

/// Adds a CHECK constraint to a table, the columns of which are all there.
pub(super) fn add_check(
    schema: &mut TableSchema,
    name: Option<&ast::Ident>,
    expression: &ast::Expr,
) -> Result<(), QueryError> {
    let mut expression = expression.clone();
    let columns = own(&mut expression, schema, "check constraint")?;
    let name = match name {
        Some(name) => {
            let name = fold(name);
            if has_constraint(schema, &name) {
                return Err(taken(schema, &name));
            }
            name
        }
        None => {
            let only = match columns.iter().collect::<Vec<_>>().as_slice() {
                [only] => schema.columns[**only].name.clone(),
                _ => String::new(),
            };
            free_name(schema, &only, "check")
        }
    };
    let expression = expression.to_string();
    schema.rules.checks.push(CheckSchema { name, expression });
    Ok(())
}

/// 42710.
pub(super) fn taken(schema: &TableSchema, name: &str) -> QueryError {
    let message = format!(
        "constraint \"{name}\" for relation \"{}\" already exists",
        schema.name
    );
    QueryError::new(SqlState("42710"), message)
}

/// Whether a constraint that the table's own schema keeps has that name.
pub(super) fn has_constraint(schema: &TableSchema, name: &str) -> bool {
    let key = schema.primary_key_name();
    let is_key = !schema.has_hidden_key() && (key == name || own_name(&key) == name);
    let rules = &schema.rules;
    is_key
        || rules.checks.iter().any(|c| c.name == name)
        || rules.foreign_keys.iter().any(|k| k.name == name)
}

/// `table_column_label`, with a number if that is taken.
pub(super) fn free_name(schema: &TableSchema, column: &str, label: &str) -> String {
    let mut number = 0;
    loop {
        let label = match number {
            0 => label.to_owned(),
            n => format!("{label}{n}"),
        };
        let name = match column {
            "" => format!("{}_{label}", own_name(&schema.name)),
            column => short_name(own_name(&schema.name), column, &label),
        };
        if !has_constraint(schema, &name) {
            return name;
        }
        number += 1;
    }
}

/// Makes a column a generated one.
pub(super) fn set_generated(
    schema: &mut TableSchema,
    position: usize,
    expression: &ast::Expr,
) -> Result<(), QueryError> {
    let mut expression = expression.clone();
    let used = own(&mut expression, schema, "column generation expression")?;
    for column in used.into_iter().map(|c| &schema.columns[c]) {
        if column.attributes.generated.is_some() || column.name == schema.columns[position].name {
            let message = format!(
                "cannot use generated column \"{}\" in column generation expression",
                column.name
            );
            return Err(QueryError::new(SqlState("42P17"), message)
                .with_detail("A generated column cannot reference another generated column."));
        }
    }
    schema.columns[position].attributes.generated = Some(expression.to_string());
    Ok(())
}

/// Checks that an expression is over the table alone, and strips its columns of the table's
/// name, which may change. Gives the columns.
fn own(
    expression: &mut ast::Expr,
    schema: &TableSchema,
    place: &str,
) -> Result<BTreeSet<usize>, QueryError> {
    if super::holds_subquery(expression) {
        return Err(QueryError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cannot use subquery in {place}"),
        ));
    }
    let mut stripper = Stripper(schema);
    let _ = VisitMut::visit(expression, &mut stripper);
    Ok(columns_of(expression, schema))
}

struct Stripper<'a>(&'a TableSchema);

impl VisitorMut for Stripper<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::CompoundIdentifier(parts) = expr {
            if let [table, column] = parts.as_slice() {
                if fold(table) == own_name(&self.0.name) {
                    *expr = ast::Expr::Identifier(column.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The columns of a table that an expression names.
fn columns_of(expression: &ast::Expr, schema: &TableSchema) -> BTreeSet<usize> {
    struct Collector<'a>(&'a TableSchema, BTreeSet<usize>);
    impl Visitor for Collector<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Identifier(name) = expr {
                self.1.extend(self.0.column_index(&fold(name)));
            }
            ControlFlow::Continue(())
        }
    }
    let mut collector = Collector(schema, BTreeSet::new());
    let _ = expression.visit(&mut collector);
    collector.1
}

/// The columns that an expression that is kept names.
pub(crate) fn columns_in(
    expression: &str,
    schema: &TableSchema,
) -> Result<BTreeSet<usize>, QueryError> {
    Ok(columns_of(&parse_expression(expression)?, schema))
}

/// An expression over `schema` as one over the rows that are stored of `table`.
pub(super) fn over_stored(
    expression: &str,
    schema: &TableSchema,
    table: &TableSchema,
) -> Result<String, QueryError> {
    struct Stored<'a>(&'a TableSchema, &'a TableSchema);
    impl VisitorMut for Stored<'_> {
        type Break = QueryError;
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<QueryError> {
            let ast::Expr::Identifier(name) = &*expr else {
                return ControlFlow::Continue(());
            };
            let Some(position) = self.0.column_index(&fold(name)) else {
                return ControlFlow::Continue(());
            };
            let column = &self.0.columns[position];
            let text = match self.1.position_of(self.0.column_id(position)) {
                Some(before) => quote(&self.1.columns[before].name),
                None => match &column.attributes.missing {
                    None => format!("CAST(NULL AS {})", column.data_type),
                    Some(value) => {
                        format!(
                            "CAST('{}' AS {})",
                            value.replace('\'', "''"),
                            column.data_type
                        )
                    }
                },
            };
            match parse_expression(&text) {
                Ok(stored) => *expr = stored,
                Err(e) => return ControlFlow::Break(e),
            }
            ControlFlow::Continue(())
        }
    }
    let mut expression = parse_expression(expression)?;
    match VisitMut::visit(&mut expression, &mut Stored(schema, table)) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(expression.to_string()),
    }
}

/// Whether an expression that is kept names a column.
pub(super) fn uses(
    expression: &str,
    schema: &TableSchema,
    position: usize,
) -> Result<bool, QueryError> {
    Ok(columns_in(expression, schema)?.contains(&position))
}

/// Follows a column that gets another name.
pub(super) fn rename(schema: &mut TableSchema, from: &str, to: &str) -> Result<(), QueryError> {
    let renamed = |text: &str| -> Result<String, QueryError> {
        let mut expression = parse_expression(text)?;
        let _ = VisitMut::visit(&mut expression, &mut Renamer { from, to });
        Ok(expression.to_string())
    };
    for check in &mut schema.rules.checks {
        check.expression = renamed(&check.expression)?;
    }
    for column in &mut schema.columns {
        if let Some(expression) = &mut column.attributes.generated {
            *expression = renamed(expression)?;
        }
    }
    Ok(())
}

struct Renamer<'a> {
    from: &'a str,
    to: &'a str,
}

impl VisitorMut for Renamer<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Identifier(name) = expr {
            if fold(name) == self.from {
                *name = match quote_ident(self.to) == self.to {
                    true => ast::Ident::new(self.to),
                    false => ast::Ident::with_quote('"', self.to),
                };
            }
        }
        ControlFlow::Continue(())
    }
}
