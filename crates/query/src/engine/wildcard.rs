//! System columns are there when named and absent from `*`.
//!
//! Statements that name none are planned on tables without them. In one that
//! does, every `*` over base tables is written out before planning.

use std::ops::ControlFlow;
use std::sync::Arc;

use chronos_model::{Catalog, SystemColumn, TableSchema};
use datafusion::sql::sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut};

use crate::sql::{fold, table_name};

/// Whether the statement names a system column anywhere.
pub(super) fn mentions_system_columns(statement: &ast::Statement) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            let ident = match expr {
                ast::Expr::Identifier(ident) => Some(ident),
                ast::Expr::CompoundIdentifier(parts) => parts.last(),
                _ => None,
            };
            match ident.and_then(|i| SystemColumn::of_name(&fold(i))) {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        }
    }
    statement.visit(&mut Finder).is_break()
}

/// Writes out every wildcard that would otherwise show system columns.
pub(super) fn expand(statement: &mut ast::Statement, catalog: &Catalog) {
    struct Expander<'a>(&'a Catalog);
    impl VisitorMut for Expander<'_> {
        type Break = ();
        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
            expand_select(select, self.0);
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Expander(catalog));
}

/// A FROM item: what its columns are qualified with, and its table if it is one.
struct FromItem {
    qualifier: ast::Ident,
    table: Option<Arc<TableSchema>>,
    /// Columns that USING joins to an earlier item.
    joined: Vec<String>,
}

fn expand_select(select: &mut ast::Select, catalog: &Catalog) {
    let has_wildcard = select.projection.iter().any(|item| {
        matches!(
            item,
            ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
        )
    });
    if !has_wildcard {
        return;
    }
    let Some(items) = from_items(&select.from, catalog) else {
        return;
    };
    let mut projection = Vec::with_capacity(select.projection.len() + 8);
    for item in std::mem::take(&mut select.projection) {
        match &item {
            ast::SelectItem::Wildcard(options)
                if *options == ast::WildcardAdditionalOptions::default() =>
            {
                let merged = merged_names(&items);
                projection.extend(merged.iter().map(|name| {
                    let column = ast::Ident::with_quote('"', name.clone());
                    ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(column))
                }));
                for from in &items {
                    projection.extend(columns_of(from, &merged));
                }
            }
            ast::SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) => {
                let wanted = name.0.last().and_then(|p| p.as_ident()).map(fold);
                match items.iter().find(|i| Some(fold(&i.qualifier)) == wanted) {
                    Some(from) => projection.extend(columns_of(from, &[])),
                    None => projection.push(item),
                }
            }
            _ => projection.push(item),
        }
    }
    select.projection = projection;
}

/// Columns that USING merges: first in `*`, once.
fn merged_names(items: &[FromItem]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in items.iter().flat_map(|item| &item.joined) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn columns_of(from: &FromItem, merged: &[String]) -> Vec<ast::SelectItem> {
    match &from.table {
        Some(table) => table
            .columns
            .iter()
            .filter(|c| !merged.contains(&c.name))
            .map(|c| {
                let column = ast::Ident::with_quote('"', c.name.clone());
                ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(vec![
                    from.qualifier.clone(),
                    column,
                ]))
            })
            .collect(),
        None => vec![ast::SelectItem::QualifiedWildcard(
            ast::SelectItemQualifiedWildcardKind::ObjectName(vec![from.qualifier.clone()].into()),
            ast::WildcardAdditionalOptions::default(),
        )],
    }
}

/// The FROM items in order; `None` where one has no name to qualify with.
fn from_items(from: &[ast::TableWithJoins], catalog: &Catalog) -> Option<Vec<FromItem>> {
    let mut items = Vec::new();
    for table in from {
        items.push(from_item(&table.relation, catalog)?);
        for join in &table.joins {
            let mut item = from_item(&join.relation, catalog)?;
            use ast::JoinOperator as J;
            if let J::Join(c)
            | J::Inner(c)
            | J::Left(c)
            | J::LeftOuter(c)
            | J::Right(c)
            | J::RightOuter(c)
            | J::FullOuter(c) = &join.join_operator
            {
                match c {
                    ast::JoinConstraint::Using(names) => {
                        item.joined = names
                            .iter()
                            .filter_map(|n| n.0.last()?.as_ident().map(fold))
                            .collect();
                    }
                    ast::JoinConstraint::Natural => return None,
                    _ => {}
                }
            }
            items.push(item);
        }
    }
    // What a subquery shows is not known here; such a * is left to the planner, which
    // then finds no system columns.
    let is_merged = items.iter().any(|item| !item.joined.is_empty());
    if is_merged && items.iter().any(|item| item.table.is_none()) {
        return None;
    }
    Some(items)
}

fn from_item(relation: &ast::TableFactor, catalog: &Catalog) -> Option<FromItem> {
    let (qualifier, table) = match relation {
        ast::TableFactor::Table {
            name, alias, args, ..
        } => {
            let own = name.0.last()?.as_ident()?.clone();
            let is_temporal = args
                .as_ref()
                .is_none_or(|a| a.args.iter().all(|a| a.to_string().starts_with("__")));
            let table = catalog.table(&table_name(name).ok()?);
            let table = table.filter(|_| is_temporal).cloned();
            (alias.as_ref().map_or(own, |a| a.name.clone()), table)
        }
        ast::TableFactor::Derived { alias, .. }
        | ast::TableFactor::TableFunction { alias, .. }
        | ast::TableFactor::UNNEST { alias, .. } => (alias.as_ref()?.name.clone(), None),
        _ => return None,
    };
    Some(FromItem {
        qualifier,
        table,
        joined: vec![],
    })
}
