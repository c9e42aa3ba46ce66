//! `tableoid` of system relations: the id of the relation it is asked of.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, VisitMut, VisitorMut};

use super::expressions::number;
use super::schema_and_name;
use crate::sql::fold;
use crate::system_tables::relations;

const NAME: &str = "tableoid";

/// Puts the ids in their places, in everything that stands in this SELECT.
pub(super) fn put_in(select: &mut ast::Select) {
    let named = named(&select.from);
    if named.is_empty() {
        return;
    }
    for item in &mut select.projection {
        if let ast::SelectItem::UnnamedExpr(expr) = item {
            if let Some(oid) = oid_of(expr, &named) {
                *item = ast::SelectItem::ExprWithAlias {
                    expr: oid,
                    alias: ast::Ident::new(NAME),
                };
            }
        }
    }
    let _ = VisitMut::visit(select, &mut Put { named: &named });
}

struct Put<'a> {
    named: &'a [(String, i64)],
}

impl VisitorMut for Put<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(oid) = oid_of(expr, self.named) {
            *expr = oid;
        }
        ControlFlow::Continue(())
    }
}

/// The system relations of a FROM clause by the names that they have in it, and their ids.
fn named(from: &[ast::TableWithJoins]) -> Vec<(String, i64)> {
    from.iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
        .filter_map(|factor| match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let (schema, name) = schema_and_name(name)?;
                let relation = relations::find(schema.as_deref(), &name)?;
                let alias = alias.as_ref().map(|a| fold(&a.name));
                Some((alias.unwrap_or(name), relation.oid))
            }
            _ => None,
        })
        .collect()
}

/// Without a qualifier it is that of the only relation.
fn oid_of(expr: &Expr, named: &[(String, i64)]) -> Option<Expr> {
    let (qualifier, column) = match expr {
        Expr::Identifier(column) => (None, column),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., qualifier, column] => (Some(fold(qualifier)), column),
            _ => return None,
        },
        _ => return None,
    };
    if !column.value.eq_ignore_ascii_case(NAME) {
        return None;
    }
    match (qualifier, named) {
        (None, [(_, oid)]) => Some(number(*oid)),
        (None, _) => None,
        (Some(qualifier), named) => {
            let (_, oid) = named.iter().find(|(name, _)| *name == qualifier)?;
            Some(number(*oid))
        }
    }
}
