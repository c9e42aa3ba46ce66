//! `ARRAY(SELECT ..)`, and the arrays that JDBC expands.

use datafusion::sql::sqlparser::ast::{self, Expr};

use super::expressions::{call, function_of, number};
use super::schema_and_name;
use super::vectors::is_vector;
use crate::sql::fold;

/// `ARRAY(SELECT ..)` as a scalar subquery.
pub(super) fn collect(query: &mut ast::Query) -> Option<Expr> {
    let order_by = match query.order_by.take() {
        Some(ast::OrderBy {
            kind: ast::OrderByKind::Expressions(order),
            ..
        }) => order,
        Some(_) => return None,
        None => vec![],
    };
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let item = single_item(select)?.clone();
    let order_by = order_by
        .into_iter()
        .map(|mut o| {
            // `ORDER BY 1` means the item.
            if matches!(&o.expr, Expr::Value(v) if matches!(&v.value, ast::Value::Number(n, _) if n == "1")) {
                o.expr = item.clone();
            }
            o
        })
        .collect::<Vec<_>>();
    let clauses = if order_by.is_empty() {
        vec![]
    } else {
        vec![ast::FunctionArgumentClause::OrderBy(order_by)]
    };
    let args = vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(item))];
    let list = ast::FunctionArgumentList {
        duplicate_treatment: None,
        args,
        clauses,
    };
    select.projection = vec![ast::SelectItem::UnnamedExpr(Expr::Function(function_of(
        "array_agg",
        list,
    )))];
    // Of no rows, the array is empty.
    let items = Expr::Subquery(Box::new(query.clone()));
    Some(call("coalesce", vec![items, call("make_array", vec![])]))
}

pub(super) fn single_item(select: &ast::Select) -> Option<&Expr> {
    match select.projection.as_slice() {
        [ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }] => {
            Some(expr)
        }
        _ => None,
    }
}

/// JDBC's `(information_schema._pg_expandarray(a)).n`: an array's subscripts, and the
/// `.x` of it: its items. The function alone stands for the items.
pub(super) fn expanded_array(expr: &Expr) -> Option<Expr> {
    let argument = |expr: &Expr| match expr {
        Expr::Function(ast::Function {
            name,
            args: ast::FunctionArguments::List(list),
            ..
        }) if schema_and_name(name).is_some_and(|(_, name)| name == "_pg_expandarray") => {
            match list.args.as_slice() {
                [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(array))] => {
                    Some(array.clone())
                }
                _ => None,
            }
        }
        _ => None,
    };
    if let Some(array) = argument(expr) {
        return Some(call("unnest", vec![array]));
    }
    let Expr::CompoundFieldAccess { root, access_chain } = expr else {
        return None;
    };
    let Expr::Nested(inner) = root.as_ref() else {
        return None;
    };
    let [ast::AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice() else {
        return None;
    };
    match (fold(field).as_str(), argument(inner)) {
        ("n", Some(array)) => Some(call(
            "unnest",
            vec![call("__subscripts", vec![array, number(1)])],
        )),
        ("x", Some(array)) => Some(call("unnest", vec![array])),
        ("x", None) if matches!(**inner, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => {
            Some((**inner).clone())
        }
        _ => None,
    }
}

/// `generate_subscripts(..)`, whose function is this call.
pub(super) fn subscripts(function: &ast::Function) -> Expr {
    let of_vector = matches!(&function.args, ast::FunctionArguments::List(list)
        if matches!(list.args.first(), Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e))) if is_vector(e)));
    let name = if of_vector {
        "__subscripts_from_zero"
    } else {
        "__subscripts"
    };
    let mut function = function.clone();
    function.name = vec![ast::Ident::new(name)].into();
    call("unnest", vec![Expr::Function(function)])
}
