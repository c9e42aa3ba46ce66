//! What PostgreSQL refuses in a query and the engine would answer, or refuse in other words.

use std::collections::HashSet;
use std::ops::ControlFlow;

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut};

use super::names;
use crate::sql::fold;
use crate::QueryError;

/// Checks every query of the statement; may rename output columns that would hide input
/// columns from ORDER BY.
pub(super) fn check(statement: &mut ast::Statement) -> Result<(), QueryError> {
    if let ast::Statement::Query(query) = statement {
        names::hide_from_order(query);
    }
    struct Checker;
    impl VisitorMut for Checker {
        type Break = QueryError;
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
            stop_at(check_order(query))
        }
        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<QueryError> {
            stop_at(check_from(&select.from))
        }
    }
    match statement.visit(&mut Checker) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn stop_at(outcome: Result<(), QueryError>) -> ControlFlow<QueryError> {
    match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => ControlFlow::Break(e),
    }
}

/// Two relations of one FROM clause have different names.
fn check_from(from: &[ast::TableWithJoins]) -> Result<(), QueryError> {
    let mut given = HashSet::new();
    from.iter().try_for_each(|t| check_names(t, &mut given))
}

fn check_names(
    tables: &ast::TableWithJoins,
    given: &mut HashSet<String>,
) -> Result<(), QueryError> {
    let joined = tables.joins.iter().map(|j| &j.relation);
    for factor in std::iter::once(&tables.relation).chain(joined) {
        let name = match factor {
            ast::TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                check_names(table_with_joins, given)?;
                continue;
            }
            ast::TableFactor::Table {
                alias: Some(alias), ..
            }
            | ast::TableFactor::Derived {
                alias: Some(alias), ..
            }
            | ast::TableFactor::Function {
                alias: Some(alias), ..
            }
            | ast::TableFactor::UNNEST {
                alias: Some(alias), ..
            }
            | ast::TableFactor::NestedJoin {
                alias: Some(alias), ..
            } => fold(&alias.name),
            ast::TableFactor::Table { name, .. } => {
                match name.0.last().and_then(|p| p.as_ident()) {
                    Some(ident) => fold(ident),
                    None => continue,
                }
            }
            _ => continue,
        };
        if !given.insert(name.clone()) {
            let message = format!("table name \"{name}\" specified more than once");
            return Err(QueryError::new(SqlState("42712"), message));
        }
    }
    Ok(())
}

/// ORDER BY: a bare name that several output columns have is ambiguous; in an expression
/// a name means an input column, which the engine reads as an output column.
fn check_order(query: &ast::Query) -> Result<(), QueryError> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return Ok(());
    };
    let Some(ast::OrderBy {
        kind: ast::OrderByKind::Expressions(order),
        ..
    }) = &query.order_by
    else {
        return Ok(());
    };
    for key in order {
        if let ast::Expr::Identifier(ident) = &key.expr {
            let wanted = fold(ident);
            let named: HashSet<String> = select
                .projection
                .iter()
                .filter_map(|item| names::output_column(item))
                .filter(|(name, _)| *name == wanted)
                .map(|(_, expr)| expr.to_string())
                .collect();
            if named.len() > 1 {
                let message = format!("ORDER BY \"{wanted}\" is ambiguous");
                return Err(QueryError::new(SqlState::AMBIGUOUS_COLUMN, message));
            }
        } else if let Some(alias) = hidden_by_alias(&key.expr, select) {
            let what = format!("ORDER BY an expression over \"{alias}\", which is also the name of an output column,");
            return Err(QueryError::unsupported(what)
                .with_hint("Qualify the column, or give the output another name."));
        }
    }
    Ok(())
}

/// A name within an ORDER BY expression that is an output column's alias for something else.
pub(super) fn hidden_by_alias(expr: &ast::Expr, select: &ast::Select) -> Option<String> {
    struct Finder<'a>(&'a ast::Select);
    impl Visitor for Finder<'_> {
        type Break = String;
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<String> {
            let ast::Expr::Identifier(ident) = expr else {
                return ControlFlow::Continue(());
            };
            let wanted = fold(ident);
            let hides = self.0.projection.iter().any(|item| match item {
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    let is_itself = match expr {
                        ast::Expr::Identifier(own) => fold(own) == wanted,
                        ast::Expr::CompoundIdentifier(parts) => {
                            parts.last().is_some_and(|own| fold(own) == wanted)
                        }
                        _ => false,
                    };
                    fold(alias) == wanted && !is_itself
                }
                _ => false,
            });
            if hides {
                return ControlFlow::Break(wanted);
            }
            ControlFlow::Continue(())
        }
    }
    match expr.visit(&mut Finder(select)) {
        ControlFlow::Break(name) => Some(name),
        ControlFlow::Continue(()) => None,
    }
}
