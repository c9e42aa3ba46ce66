//! PostgreSQL's notations for expressions, as calls and operators that have types: the
//! engine plans them without a look at their operands, differently, or not at all.
//!
//! ```text
//! - x                   an operator that knows x's type
//! - a ^ b               (- a) ^ b: the sign binds closer than in the parser
//! @ x, |/ x, ||/ x, ~ x abs(x), sqrt(x), cbrt(x), x # -1
//! x BETWEEN a AND b     x >= a AND x <= b
//! a IS DISTINCT FROM b  an operator that knows the types
//! t AT TIME ZONE z      timezone(z, t)
//! EXTRACT(f FROM t)     extract('f', t)
//! x SIMILAR TO p        x ~ __similar(p)
//! avg(x)                __average(sum(x), count(x))
//! x = ANY (array)       __any('=', x, array), unless the engine's is right
//! ```

use std::ops::ControlFlow;

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator as Op, Expr, UnaryOperator as Unary, VisitMut, VisitorMut,
};

use super::operators::{DISTINCT, NEGATE, NOT_DISTINCT};
use crate::QueryError;

/// Rewrites the statement's expressions, or refuses them.
pub(super) fn rewrite(statement: &mut ast::Statement) -> Result<(), QueryError> {
    struct Rewriter;
    impl VisitorMut for Rewriter {
        type Break = QueryError;

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
            if let Err(e) = refuse(expr) {
                return ControlFlow::Break(e);
            }
            sign_binds_closer(expr);
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
            match rewritten(expr) {
                Ok(Some(other)) => *expr = other,
                Ok(None) => {}
                Err(e) => return ControlFlow::Break(e),
            }
            ControlFlow::Continue(())
        }
    }
    match statement.visit(&mut Rewriter) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// What the parser takes and PostgreSQL does not, and what would lose its meaning.
fn refuse(expr: &Expr) -> Result<(), QueryError> {
    let is_comparison = |e: &Expr| {
        matches!(
            e,
            Expr::BinaryOp {
                op: Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq,
                ..
            }
        )
    };
    match expr {
        Expr::BinaryOp { left, op, .. } if is_comparison(expr) && is_comparison(left) => {
            let message = format!("syntax error at or near \"{op}\"");
            Err(QueryError::new(SqlState::SYNTAX_ERROR, message)
                .with_hint("Comparisons do not chain: write parentheses."))
        }
        _ => Ok(()),
    }
}

/// `- (a ^ b)` without parentheses is `(- a) ^ b`.
fn sign_binds_closer(expr: &mut Expr) {
    let Expr::UnaryOp {
        op: op @ (Unary::Minus | Unary::Plus | Unary::PGAbs),
        expr: inner,
    } = expr
    else {
        return;
    };
    if !matches!(**inner, Expr::BinaryOp { op: Op::PGExp, .. }) {
        return;
    }
    let op = *op;
    let mut powers = std::mem::replace(&mut **inner, null());
    let mut base = &mut powers;
    while let Expr::BinaryOp {
        left,
        op: Op::PGExp,
        ..
    } = base
    {
        base = left;
    }
    let signed = Expr::UnaryOp {
        op,
        expr: Box::new(std::mem::replace(base, null())),
    };
    *base = signed;
    *expr = powers;
}

fn rewritten(expr: &Expr) -> Result<Option<Expr>, QueryError> {
    Ok(match expr {
        Expr::UnaryOp { op, expr } => unary(*op, expr),
        Expr::Between {
            expr,
            negated,
            low,
            high,
        } => Some(between(expr, *negated, low, high)),
        Expr::IsDistinctFrom(left, right) => Some(custom(left, DISTINCT, right)),
        Expr::IsNotDistinctFrom(left, right) => Some(custom(left, NOT_DISTINCT, right)),
        Expr::AtTimeZone {
            timestamp,
            time_zone,
        } => Some(call(
            "timezone",
            vec![(**time_zone).clone(), (**timestamp).clone()],
        )),
        Expr::Extract { field, expr, .. } => Some(call(
            "extract",
            vec![
                text(&field.to_string().to_ascii_lowercase()),
                (**expr).clone(),
            ],
        )),
        Expr::SimilarTo {
            negated,
            expr,
            pattern,
            escape_char,
        } => Some(similar(expr, *negated, pattern, escape_char)),
        Expr::Substring {
            expr,
            substring_from: Some(from),
            substring_for: None,
            ..
        } if is_text(from) => Some(call(
            "__substring_pattern",
            vec![(**expr).clone(), (**from).clone()],
        )),
        Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        } => quantified("__any", left, compare_op, right),
        Expr::AllOp {
            left,
            compare_op,
            right,
        } => quantified("__all", left, compare_op, right),
        Expr::Identifier(ident) if ident.quote_style.is_none() => local_time(ident),
        Expr::Function(function) => self::function(function)?,
        _ => None,
    })
}

/// `LOCALTIMESTAMP`, `LOCALTIME`: the session's zone is UTC.
fn local_time(ident: &ast::Ident) -> Option<Expr> {
    let data_type = match ident.value.to_ascii_lowercase().as_str() {
        "localtimestamp" => ast::DataType::Timestamp(None, ast::TimezoneInfo::None),
        "localtime" => ast::DataType::Time(None, ast::TimezoneInfo::None),
        _ => return None,
    };
    Some(Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(call("now", vec![])),
        data_type,
        array: false,
        format: None,
    })
}

fn unary(op: Unary, inner: &Expr) -> Option<Expr> {
    match op {
        Unary::Minus => match inner {
            Expr::Value(v) if matches!(v.value, ast::Value::Number(..)) => None,
            _ => Some(custom(&null(), NEGATE, inner)),
        },
        Unary::PGAbs => Some(call("abs", vec![inner.clone()])),
        Unary::PGSquareRoot => Some(call("sqrt", vec![inner.clone()])),
        Unary::PGCubeRoot => Some(call("cbrt", vec![inner.clone()])),
        Unary::BitwiseNot => {
            let all_bits = Expr::UnaryOp {
                op: Unary::Minus,
                expr: Box::new(Expr::Value(ast::Value::Number("1".into(), false).into())),
            };
            Some(binary(inner.clone(), Op::PGBitwiseXor, all_bits))
        }
        _ => None,
    }
}

fn between(expr: &Expr, negated: bool, low: &Expr, high: &Expr) -> Expr {
    let compare = |op, bound: &Expr| binary(expr.clone(), op, bound.clone());
    let (above, link, below) = if negated {
        (Op::Lt, Op::Or, Op::Gt)
    } else {
        (Op::GtEq, Op::And, Op::LtEq)
    };
    let both = binary(compare(above, low), link, compare(below, high));
    Expr::Nested(Box::new(both))
}

fn similar(
    expr: &Expr,
    negated: bool,
    pattern: &Expr,
    escape: &Option<ast::ValueWithSpan>,
) -> Expr {
    let mut arguments = vec![pattern.clone()];
    if let Some(escape) = escape {
        arguments.push(Expr::Value(escape.clone()));
    }
    let op = if negated {
        Op::PGRegexNotMatch
    } else {
        Op::PGRegexMatch
    };
    Expr::Nested(Box::new(binary(
        expr.clone(),
        op,
        call("__similar", arguments),
    )))
}

/// `x op ANY (array)`. The engine's `x = ANY (..)` knows how to use a key, and is kept for
/// parameters and columns.
fn quantified(name: &str, left: &Expr, op: &Op, right: &Expr) -> Option<Expr> {
    let array = match right {
        Expr::Nested(inner) => inner.as_ref(),
        other => other,
    };
    let items = match array {
        Expr::Array(ast::Array { elem, .. }) => elem,
        _ => return None,
    };
    let is_any = name == "__any";
    let link = if is_any { Op::Or } else { Op::And };
    if items.is_empty() {
        return None;
    }
    if is_any && *op == Op::Eq {
        return Some(Expr::InList {
            expr: Box::new(left.clone()),
            list: items.clone(),
            negated: false,
        });
    }
    items
        .iter()
        .map(|item| binary(left.clone(), op.clone(), item.clone()))
        .reduce(|a, b| binary(a, link.clone(), b))
        .map(|e| Expr::Nested(Box::new(e)))
}

fn function(function: &ast::Function) -> Result<Option<Expr>, QueryError> {
    let name = match function.name.0.as_slice() {
        [part] => part.as_ident().map(crate::sql::fold),
        _ => None,
    };
    let Some(name) = name else {
        return Ok(None);
    };
    match name.as_str() {
        "avg" => Ok(average(function)),
        "count" if is_without_arguments(function) => Err(QueryError::new(
            SqlState("42809"),
            "count(*) must be used to call a parameterless aggregate function",
        )),
        "power" | "pow" => Ok(match arguments(function).as_deref() {
            Some([base, exponent]) => Some(Expr::Nested(Box::new(binary(
                base.clone(),
                Op::PGExp,
                exponent.clone(),
            )))),
            _ => None,
        }),
        "substring" | "substr" => Ok(match arguments(function).as_deref() {
            Some([whole, pattern]) if is_text(pattern) => Some(call(
                "__substring_pattern",
                vec![whole.clone(), pattern.clone()],
            )),
            _ => None,
        }),
        "gen_random_uuid" => Ok(Some(Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(call("uuid", vec![])),
            data_type: ast::DataType::Uuid,
            array: false,
            format: None,
        })),
        "regexp_replace" => Ok(safe_replacement(function)),
        _ => Ok(other_name(&name).map(|other| renamed(function, other))),
    }
}

fn renamed(function: &ast::Function, name: &str) -> Expr {
    let mut renamed = function.clone();
    renamed.name = ast::ObjectName::from(vec![ast::Ident::new(name)]);
    Expr::Function(renamed)
}

/// The replacement's `$` and `\&` as the engine writes them.
fn safe_replacement(function: &ast::Function) -> Option<Expr> {
    let mut args = arguments(function)?;
    let replacement = args.get_mut(2)?;
    let is_safe = matches!(replacement, Expr::Function(f) if f.name.to_string() == "__replacement");
    if is_safe {
        return None;
    }
    *replacement = call("__replacement", vec![replacement.clone()]);
    Some(call("regexp_replace", args))
}

/// Functions that the engine has under another name.
fn other_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "every" => "bool_and",
        "variance" => "var_samp",
        "ceiling" => "ceil",
        _ => return None,
    })
}

fn is_without_arguments(function: &ast::Function) -> bool {
    matches!(&function.args, ast::FunctionArguments::List(list) if list.args.is_empty())
}

fn arguments(function: &ast::Function) -> Option<Vec<Expr>> {
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    list.args
        .iter()
        .map(|argument| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect()
}

/// The engine's average cuts digits off; sum and count, both under the call's FILTER,
/// DISTINCT and OVER, divide as PostgreSQL divides.
fn average(function: &ast::Function) -> Option<Expr> {
    arguments(function).filter(|a| a.len() == 1)?;
    let parts = ["sum", "count"].map(|name| renamed(function, name));
    Some(call("__average", parts.to_vec()))
}

fn is_text(expr: &Expr) -> bool {
    match expr {
        Expr::Value(v) => matches!(
            v.value,
            ast::Value::SingleQuotedString(_)
                | ast::Value::EscapedStringLiteral(_)
                | ast::Value::DollarQuotedString(_)
        ),
        Expr::Nested(inner) => is_text(inner),
        _ => false,
    }
}

fn null() -> Expr {
    Expr::Value(ast::Value::Null.into())
}

fn text(value: &str) -> Expr {
    Expr::Value(ast::Value::SingleQuotedString(value.to_owned()).into())
}

fn binary(left: Expr, op: Op, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

fn custom(left: &Expr, op: &str, right: &Expr) -> Expr {
    Expr::Nested(Box::new(binary(
        left.clone(),
        Op::Custom(op.to_owned()),
        right.clone(),
    )))
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args
        .into_iter()
        .map(|e| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)))
        .collect();
    Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statement = crate::sql::parse_query(sql).unwrap();
        rewrite(&mut statement).unwrap();
        statement.to_string()
    }

    #[test]
    fn notations_become_calls() {
        for (given, expected) in [
            ("SELECT - 2 ^ 2", "SELECT -2 ^ 2"),
            ("SELECT @ x", "SELECT abs(x)"),
            (
                "SELECT a BETWEEN 1 AND 2",
                "SELECT (a >= 1 AND a <= 2)",
            ),
            (
                "SELECT t AT TIME ZONE 'UTC'",
                "SELECT timezone('UTC', t)",
            ),
            (
                "SELECT avg(DISTINCT x) FILTER (WHERE y)",
                "SELECT __average(sum(DISTINCT x) FILTER (WHERE y), count(DISTINCT x) FILTER (WHERE y))",
            ),
        ] {
            assert_eq!(rewritten(given), expected);
        }
    }

    #[test]
    fn the_sign_binds_closer_than_the_power() {
        let mut statement = crate::sql::parse_query("SELECT - 2 ^ 2").unwrap();
        rewrite(&mut statement).unwrap();
        let ast::Statement::Query(query) = &statement else {
            panic!("no query")
        };
        let ast::SetExpr::Select(select) = query.body.as_ref() else {
            panic!("no select")
        };
        assert!(matches!(
            &select.projection[0],
            ast::SelectItem::UnnamedExpr(Expr::BinaryOp { op: Op::PGExp, .. })
        ));
    }
}
