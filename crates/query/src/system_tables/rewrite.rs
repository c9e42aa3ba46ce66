//! What clients write about system tables, as what DataFusion can plan.
//!
//! Applied to the syntax tree before planning, and only to statements that
//! [`concern`](concerns) system tables or use PostgreSQL's notations for them; all
//! others are left alone. The rules, each for any query and not for a known one:
//!
//! ```text
//! pg_catalog.f(x)                        f(x)
//! a OPERATOR(pg_catalog.~) b             a ~ b
//! e COLLATE "default" | "C" | "POSIX"    e                 text compares bytewise here
//! e::oid, ::name, ::"char" ..            e::int4, ::text
//! e::regclass, ::regtype ..              the object id; where it is shown (in a SELECT
//!                                        list, cast to text, concatenated): the name
//! ARRAY(SELECT e .. ORDER BY o)          coalesce((SELECT array_agg(e ORDER BY o) ..), make_array())
//! c.tableoid                             the object id of the system relation
//! indkey[0], array_lower(indkey, 1) ..   one more, one less: vectors are counted from 0
//! a LIKE p ESCAPE '/'                    a LIKE p, its escapes written as backslashes
//! ```
//!
//! What [`clients`] knows certain clients to send stands for its answer, and JDBC's
//! `_pg_expandarray` is unnested.

mod arrays;
mod casts;
mod clients;
mod expressions;
mod tableoid;
mod vectors;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, ObjectName, Visit, VisitMut, Visitor, VisitorMut,
};

use super::is_system;
use crate::sql::fold;
use arrays::{collect, expanded_array};
use casts::{cast, show_again, show_object, target};
use clients::known;
use expressions::{call, take};

/// Rewrites a statement that concerns system tables; says whether it did.
pub(crate) fn rewrite(statement: &mut ast::Statement) -> bool {
    let concerned = concerns(statement);
    if concerned {
        let _ = statement.visit(&mut Rewriter);
    }
    concerned
}

/// Whether a statement names a system table or uses a notation that is rewritten.
fn concerns(statement: &ast::Statement) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            found(names_system(name) || is_qualified(name) || clients::is_relation(name))
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            found(match expr {
                Expr::Like { escape_char, .. } | Expr::ILike { escape_char, .. } => {
                    other_escape(escape_char).is_some()
                }
                Expr::Collate { .. }
                | Expr::BinaryOp {
                    op: BinaryOperator::PGCustomBinaryOperator(_),
                    ..
                } => true,
                Expr::Function(f) => {
                    f.name.0.len() > 1
                        || matches!(f.args, ast::FunctionArguments::Subquery(_))
                        || is_rewritten(f)
                }
                Expr::Cast { data_type, .. } => target(data_type).is_some(),
                Expr::TypedString(typed) => target(&typed.data_type).is_some(),
                Expr::Identifier(ident) => keyword_function(ident).is_some(),
                _ => false,
            })
        }
    }
    fn found(is: bool) -> ControlFlow<()> {
        if is {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
    statement.visit(&mut Finder).is_break()
}

fn is_rewritten(function: &ast::Function) -> bool {
    let name = function.name.to_string().to_ascii_lowercase();
    matches!(
        name.as_str(),
        "generate_subscripts"
            | "to_regclass"
            | "to_regtype"
            | "to_regnamespace"
            | "to_regrole"
            | "to_regproc"
    )
}

fn is_qualified(name: &ObjectName) -> bool {
    matches!(schema_and_name(name), Some((Some(schema), _)) if schema == "pg_catalog")
}

/// A name's schema, if it has one, and its last part, folded.
fn schema_and_name(name: &ObjectName) -> Option<(Option<String>, String)> {
    let mut parts = name.0.iter().rev();
    let last = fold(parts.next()?.as_ident()?);
    let schema = match parts.next() {
        Some(part) => Some(fold(part.as_ident()?)),
        None => None,
    };
    Some((schema, last))
}

fn names_system(name: &ObjectName) -> bool {
    schema_and_name(name).is_some_and(|(schema, name)| is_system(schema.as_deref(), &name))
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<()> {
        if let ast::TableFactor::Table {
            name,
            args: Some(_),
            ..
        }
        | ast::TableFactor::Function { name, .. } = factor
        {
            unqualify(name);
        }
        clients::put_relation(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        tableoid::put_in(select);
        for item in &mut select.projection {
            if let ast::SelectItem::UnnamedExpr(Expr::Identifier(ident)) = item {
                if let Some(name) = keyword_function(ident) {
                    *item = ast::SelectItem::ExprWithAlias {
                        expr: call(name, vec![]),
                        alias: ast::Ident::new(name),
                    };
                }
            }
            if let ast::SelectItem::UnnamedExpr(expr)
            | ast::SelectItem::ExprWithAlias { expr, .. } = item
            {
                show_object(expr);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(constant) = known(expr) {
            *expr = constant;
        }
        if let Some(expanded) = expanded_array(expr) {
            *expr = expanded;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate {
                expr: inner,
                collation,
            } if is_bytewise(collation) => *expr = take(inner),
            Expr::BinaryOp { left, op, right } => {
                plain_operator(op);
                if *op == BinaryOperator::StringConcat {
                    show_again(left);
                    show_again(right);
                }
            }
            Expr::Cast { .. } => cast(expr),
            Expr::TypedString(typed) if target(&typed.data_type).is_some() => {
                *expr = Expr::Cast {
                    kind: ast::CastKind::DoubleColon,
                    expr: Box::new(Expr::Value(typed.value.clone())),
                    data_type: typed.data_type.clone(),
                    array: false,
                    format: None,
                };
                cast(expr);
            }
            Expr::Identifier(ident) => {
                if let Some(name) = keyword_function(ident) {
                    *expr = call(name, vec![]);
                }
            }
            Expr::Function(function) => {
                unqualify(&mut function.name);
                if let Some(rewritten) = self::function(function) {
                    *expr = rewritten;
                } else if let Some(counted) = vectors::counted(expr) {
                    *expr = counted;
                }
            }
            Expr::CompoundFieldAccess { .. } => {
                if let Some(counted) = vectors::counted(expr) {
                    *expr = counted;
                }
            }
            Expr::Like {
                pattern,
                escape_char,
                ..
            }
            | Expr::ILike {
                pattern,
                escape_char,
                ..
            } => {
                if let Some(escape) = other_escape(escape_char) {
                    *escape_char = None;
                    let escape = Expr::Value(ast::Value::SingleQuotedString(escape).into());
                    **pattern = call("__like_pattern", vec![take(pattern), escape]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Functions that SQL calls without parentheses and the parser takes for columns.
fn keyword_function(ident: &ast::Ident) -> Option<&'static str> {
    if ident.quote_style.is_some() {
        return None;
    }
    ["current_schema", "current_role"]
        .into_iter()
        .find(|name| ident.value.eq_ignore_ascii_case(name))
}

fn unqualify(name: &mut ObjectName) {
    if is_qualified(name) {
        name.0.drain(..name.0.len() - 1);
    }
}

fn is_bytewise(collation: &ObjectName) -> bool {
    let name = schema_and_name(collation).map(|(_, name)| name.to_ascii_lowercase());
    matches!(
        name.as_deref(),
        Some("default" | "c" | "posix" | "ucs_basic")
    )
}

fn plain_operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else {
        return;
    };
    let plain = match parts.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("~~*") => BinaryOperator::PGILikeMatch,
        Some("!~~*") => BinaryOperator::PGNotILikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">") => BinaryOperator::Gt,
        Some(">=") => BinaryOperator::GtEq,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        Some("*") => BinaryOperator::Multiply,
        Some("/") => BinaryOperator::Divide,
        Some("||") => BinaryOperator::StringConcat,
        _ => return,
    };
    *op = plain;
}

fn function(function: &mut ast::Function) -> Option<Expr> {
    if let ast::FunctionArguments::Subquery(query) = &mut function.args {
        if !function.name.to_string().eq_ignore_ascii_case("array") {
            return None;
        }
        return collect(query);
    }
    if function
        .name
        .to_string()
        .eq_ignore_ascii_case("generate_subscripts")
    {
        return Some(arrays::subscripts(function));
    }
    None
}

/// The escape character of LIKE if it is not the backslash, which DataFusion knows.
fn other_escape(escape: &Option<ast::ValueWithSpan>) -> Option<String> {
    match escape.as_ref().map(|v| &v.value) {
        Some(ast::Value::SingleQuotedString(s)) if s != "\\" => Some(s.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
