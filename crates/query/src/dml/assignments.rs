//! `SET column = expression`, for UPDATE and for ON CONFLICT DO UPDATE.

use std::ops::ControlFlow;

use chronos_model::{Identity, SqlState, TableSchema};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use super::insert::is_default;
use super::{assignable, not_updatable};
use crate::engine::parse_expression;
use crate::schemas::stored_default;
use crate::sql::{fold, quote};
use crate::QueryError;

/// Every column: assigned ones as their expression, others as they are.
pub(super) fn projection(table: &TableSchema, assigned: &[Option<String>], alias: &str) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .zip(assigned)
        .enumerate()
        .map(|(i, (column, expr))| match expr {
            Some(expr) => format!("({expr}) AS \"__c{i}\""),
            None => format!("{}.{} AS \"__c{i}\"", quote(alias), quote(&column.name)),
        })
        .collect();
    columns.join(", ")
}

/// `SET` clauses as (column, expression); `(a, b) = (x, y)` too.
pub(super) fn assignments(
    list: &[ast::Assignment],
    table: &TableSchema,
) -> Result<Vec<(usize, ast::Expr)>, QueryError> {
    let last = |name: &ast::ObjectName| {
        name.0
            .last()
            .and_then(|p| p.as_ident())
            .map(fold)
            .unwrap_or_default()
    };
    let mut found: Vec<(usize, ast::Expr)> = Vec::with_capacity(list.len());
    for assignment in list {
        let pairs = match (&assignment.target, &assignment.value) {
            (ast::AssignmentTarget::ColumnName(name), value) => vec![(last(name), value.clone())],
            (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values))
                if names.len() == values.len() =>
            {
                names.iter().map(last).zip(values.iter().cloned()).collect()
            }
            (ast::AssignmentTarget::Tuple(names), ast::Expr::Subquery(query)) => {
                let names: Vec<String> = names.iter().map(last).collect();
                let values = fields_of(query, names.len())?;
                names.into_iter().zip(values).collect()
            }
            (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) => {
                let message = format!(
                    "number of columns does not match number of values: {} and {}",
                    names.len(),
                    values.len()
                );
                return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
            }
            (ast::AssignmentTarget::Tuple(_), _) => {
                return Err(QueryError::unsupported("SET (..) = an expression"));
            }
        };
        for (name, value) in pairs {
            let position = assignable(table, &name)?;
            let column = &table.columns[position];
            let is_computed = column.attributes.generated.is_some()
                || column.attributes.identity == Some(Identity::Always);
            if is_computed && !is_default(&value) {
                return Err(not_updatable(column));
            }
            if found.iter().any(|(p, _)| *p == position) {
                let message = format!("multiple assignments to same column \"{name}\"");
                return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
            }
            found.push((position, value));
        }
    }
    Ok(found)
}

/// The columns of a subquery that gives one row. The row is one value, so that all columns
/// come of the same one.
fn fields_of(query: &ast::Query, width: usize) -> Result<Vec<ast::Expr>, QueryError> {
    let names: Vec<String> = (0..width).map(|i| format!("c{i}")).collect();
    let fields: Vec<String> = names
        .iter()
        .map(|name| format!("'{name}', __set.{name}"))
        .collect();
    let row = format!(
        "(SELECT named_struct({}) FROM ({query}) AS __set ({}))",
        fields.join(", "),
        names.join(", ")
    );
    names
        .iter()
        .map(|name| parse_expression(&format!("get_field({row}, '{name}')")))
        .collect()
}

pub(super) fn assigned_text(expr: &ast::Expr, table: &TableSchema, position: usize) -> String {
    match expr {
        expr if is_default(expr) => {
            let default = table.columns[position].default.as_deref();
            let default = default.map(|d| stored_default(d).into_owned());
            default.unwrap_or_else(|| "NULL".into())
        }
        other => other.to_string(),
    }
}

/// Unqualified columns of the table become `alias.column`.
pub(super) fn qualify(expr: &mut ast::Expr, table: &TableSchema, alias: &str) {
    struct Qualifier<'a>(&'a TableSchema, &'a str);
    impl VisitorMut for Qualifier<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Identifier(ident) = expr {
                if self.0.column_index(&fold(ident)).is_some() {
                    let own = ast::Ident::with_quote('"', self.1);
                    *expr = ast::Expr::CompoundIdentifier(vec![own, ident.clone()]);
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _ = expr.visit(&mut Qualifier(table, alias));
}
