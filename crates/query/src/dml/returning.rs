//! RETURNING: a query over the rows written, and what it takes along of the other tables.
//!
//! The rows written are known after the query that found them. What RETURNING names of the
//! tables in FROM and USING is therefore *carried*: that query gives it in columns of its
//! own behind the row's, and RETURNING finds them there.

use std::ops::ControlFlow;
use std::sync::Arc;

use chronos_model::{own_name, Catalog, SqlState, SystemColumn, TableSchema};
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use super::RETURNING_TABLE;
use crate::sql::{fold, quote, table_name};
use crate::QueryError;

/// The query that RETURNING is, over [`RETURNING_TABLE`].
pub(super) fn returning_query(items: &Option<Vec<ast::SelectItem>>, alias: &str) -> Option<String> {
    let items: Vec<String> = items.as_ref()?.iter().map(ToString::to_string).collect();
    Some(format!(
        "SELECT {} FROM {RETURNING_TABLE} AS {}",
        items.join(", "),
        quote(alias)
    ))
}

/// A relation of FROM or USING.
pub(super) struct Source {
    name: String,
    /// Its columns, where it is a table.
    table: Option<Arc<TableSchema>>,
}

/// The relations that stand beside the target.
pub(super) fn sources(tables: &[ast::TableWithJoins], catalog: &Catalog) -> Vec<Source> {
    let mut found = Vec::new();
    for tables in tables {
        found.extend(source(&tables.relation, catalog));
        found.extend(
            tables
                .joins
                .iter()
                .filter_map(|join| source(&join.relation, catalog)),
        );
    }
    found
}

fn source(factor: &ast::TableFactor, catalog: &Catalog) -> Option<Source> {
    match factor {
        ast::TableFactor::Table { name, alias, .. } => {
            let own = table_name(name).ok()?;
            let table = catalog.table(&own).cloned();
            let name = alias.as_ref().map(|a| fold(&a.name));
            let name = name.unwrap_or_else(|| own_name(&own).to_owned());
            Some(Source { name, table })
        }
        ast::TableFactor::Derived { alias, .. }
        | ast::TableFactor::Function { alias, .. }
        | ast::TableFactor::UNNEST { alias, .. } => Some(Source {
            name: fold(&alias.as_ref()?.name),
            table: None,
        }),
        _ => None,
    }
}

/// RETURNING's items over the carried columns `__r0`, `__r1` .., and what these are.
pub(super) fn carry(
    items: &mut Vec<ast::SelectItem>,
    target: (&TableSchema, &str),
    sources: &[Source],
) -> Result<Vec<String>, QueryError> {
    if sources.is_empty() {
        return Ok(vec![]);
    }
    let mut shown = Vec::with_capacity(items.len());
    for item in std::mem::take(items) {
        expand(item, target, sources, &mut shown)?;
    }
    let mut carrier = Carrier {
        target,
        sources,
        carried: Vec::new(),
    };
    for item in &mut shown {
        let own_name = match item {
            ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts)) => {
                parts.last().cloned()
            }
            ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(ident)) => Some(ident.clone()),
            _ => None,
        };
        let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) =
            &mut *item
        else {
            continue;
        };
        if let ControlFlow::Break(e) = expr.visit(&mut carrier) {
            return Err(e);
        }
        if let (Some(alias), ast::SelectItem::UnnamedExpr(expr)) = (own_name, &*item) {
            let expr = expr.clone();
            *item = ast::SelectItem::ExprWithAlias { expr, alias };
        }
    }
    *items = shown;
    Ok(carrier.carried)
}

/// Wildcards as columns: the target's, then the sources'.
fn expand(
    item: ast::SelectItem,
    (table, alias): (&TableSchema, &str),
    sources: &[Source],
    out: &mut Vec<ast::SelectItem>,
) -> Result<(), QueryError> {
    let wanted = match &item {
        ast::SelectItem::Wildcard(_) => None,
        ast::SelectItem::QualifiedWildcard(
            ast::SelectItemQualifiedWildcardKind::ObjectName(name),
            _,
        ) => name.0.last().and_then(|p| p.as_ident()).map(fold),
        _ => {
            out.push(item);
            return Ok(());
        }
    };
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|w| w == name);
    let mut push_all = |name: &str, table: &TableSchema| {
        out.extend(table.columns.iter().map(|column| {
            ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(vec![
                ast::Ident::with_quote('"', name),
                ast::Ident::with_quote('"', column.name.clone()),
            ]))
        }));
    };
    if is_wanted(alias) {
        push_all(alias, table);
    }
    for source in sources.iter().filter(|s| is_wanted(&s.name)) {
        match &source.table {
            Some(table) => push_all(&source.name, table),
            None => {
                let what = format!("RETURNING * over the subquery \"{}\"", source.name);
                return Err(QueryError::unsupported(what).with_hint("Name the columns."));
            }
        }
    }
    Ok(())
}

struct Carrier<'a> {
    target: (&'a TableSchema, &'a str),
    sources: &'a [Source],
    carried: Vec<String>,
}

impl Carrier<'_> {
    /// The carried column that holds an expression over the sources.
    fn column(&mut self, text: String) -> ast::Expr {
        let position = match self.carried.iter().position(|c| *c == text) {
            Some(position) => position,
            None => {
                self.carried.push(text);
                self.carried.len() - 1
            }
        };
        ast::Expr::Identifier(ast::Ident::with_quote('"', carried_name(position)))
    }
}

impl VisitorMut for Carrier<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<QueryError> {
        let what = "a subquery in RETURNING of a statement with FROM or USING";
        ControlFlow::Break(QueryError::unsupported(what))
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<QueryError> {
        let (table, alias) = self.target;
        match expr {
            ast::Expr::CompoundIdentifier(parts) if parts.len() == 2 => {
                let name = fold(&parts[0]);
                if name != alias && self.sources.iter().any(|s| s.name == name) {
                    let text = expr.to_string();
                    *expr = self.column(text);
                }
            }
            ast::Expr::Identifier(ident) => {
                let name = fold(ident);
                let is_targets =
                    table.column_index(&name).is_some() || SystemColumn::of_name(&name).is_some();
                let is_others = self.sources.iter().any(|s| {
                    let table = s.table.as_ref();
                    table.is_some_and(|t| t.column_index(&name).is_some())
                });
                if is_targets && is_others {
                    let message = format!("column reference \"{name}\" is ambiguous");
                    return ControlFlow::Break(QueryError::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        message,
                    ));
                }
                if !is_targets {
                    let text = expr.to_string();
                    *expr = self.column(text);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The name of a carried column.
pub(super) fn carried_name(position: usize) -> String {
    format!("__r{position}")
}
