//! Rows of expressions, `(a, b)`, put into words that the engine plans rightly: it would
//! compare them as structures, for which NULL is a value like any other.
//!
//! ```text
//! (a, b) = (c, d)          a = c AND b = d
//! (a, b) < (c, d)          a < c OR (a = c AND b < d)
//! (a, b) IS NULL           a IS NULL AND b IS NULL
//! (a, b) IN ((c, d), ..)   (a = c AND b = d) OR ..
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator as Op, Expr, VisitMut, VisitorMut};

/// Rewrites what is said of rows.
pub(super) fn rewrite(statement: &mut ast::Statement) {
    struct Rewriter;
    impl VisitorMut for Rewriter {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(rewritten) = of_rows(expr) {
                *expr = rewritten;
            }
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Rewriter);
}

fn of_rows(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::BinaryOp { left, op, right } => compare(&row(left)?, op, &row(right)?),
        Expr::IsNull(inner) => all(&row(inner)?, |e| Expr::IsNull(Box::new(e.clone()))),
        Expr::IsNotNull(inner) => all(&row(inner)?, |e| Expr::IsNotNull(Box::new(e.clone()))),
        Expr::IsDistinctFrom(left, right) => pairwise(&row(left)?, &row(right)?, Op::Or, |a, b| {
            Expr::IsDistinctFrom(Box::new(a), Box::new(b))
        }),
        Expr::IsNotDistinctFrom(left, right) => {
            pairwise(&row(left)?, &row(right)?, Op::And, |a, b| {
                Expr::IsNotDistinctFrom(Box::new(a), Box::new(b))
            })
        }
        Expr::InList {
            expr,
            list,
            negated,
        } => {
            let subject = row(expr)?;
            let any = list
                .iter()
                .map(|item| compare(&subject, &Op::Eq, &row(item)?))
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .reduce(|a, b| join(a, Op::Or, b))?;
            Some(negate_if(*negated, any))
        }
        _ => None,
    }
}

/// The items of `(a, b)` or `ROW(a, b)`.
fn row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(items) if items.len() > 1 => Some(items.clone()),
        Expr::Nested(inner) => row(inner),
        Expr::Function(ast::Function {
            name,
            args: ast::FunctionArguments::List(list),
            ..
        }) if name.to_string().eq_ignore_ascii_case("row") => list
            .args
            .iter()
            .map(|argument| match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn compare(left: &[Expr], op: &Op, right: &[Expr]) -> Option<Expr> {
    if left.len() != right.len() {
        return None;
    }
    let equal = |a, b| join(a, Op::Eq, b);
    match op {
        Op::Eq => pairwise(left, right, Op::And, equal),
        Op::NotEq => {
            let equal = pairwise(left, right, Op::And, equal)?;
            Some(negate_if(true, equal))
        }
        Op::Lt | Op::LtEq | Op::Gt | Op::GtEq => ordered(left, op, right),
        _ => None,
    }
}

/// The first difference decides.
fn ordered(left: &[Expr], op: &Op, right: &[Expr]) -> Option<Expr> {
    let (a, b) = (left.first()?, right.first()?);
    if left.len() == 1 {
        return Some(join(a.clone(), op.clone(), b.clone()));
    }
    let strict = match op {
        Op::LtEq => Op::Lt,
        Op::GtEq => Op::Gt,
        other => other.clone(),
    };
    let rest = ordered(&left[1..], op, &right[1..])?;
    let equal = join(a.clone(), Op::Eq, b.clone());
    Some(join(
        join(a.clone(), strict, b.clone()),
        Op::Or,
        join(equal, Op::And, rest),
    ))
}

fn pairwise(
    left: &[Expr],
    right: &[Expr],
    link: Op,
    f: impl Fn(Expr, Expr) -> Expr,
) -> Option<Expr> {
    if left.len() != right.len() {
        return None;
    }
    left.iter()
        .zip(right)
        .map(|(a, b)| nested(f(a.clone(), b.clone())))
        .reduce(|a, b| join(a, link.clone(), b))
        .map(nested)
}

fn all(items: &[Expr], f: impl Fn(&Expr) -> Expr) -> Option<Expr> {
    items
        .iter()
        .map(f)
        .reduce(|a, b| join(a, Op::And, b))
        .map(nested)
}

fn join(left: Expr, op: Op, right: Expr) -> Expr {
    nested(Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    })
}

fn nested(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(_) => expr,
        other => Expr::Nested(Box::new(other)),
    }
}

fn negate_if(negated: bool, expr: Expr) -> Expr {
    if negated {
        Expr::UnaryOp {
            op: ast::UnaryOperator::Not,
            expr: Box::new(nested(expr)),
        }
    } else {
        expr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statement = crate::sql::parse_query(sql).unwrap();
        rewrite(&mut statement);
        statement.to_string()
    }

    #[test]
    fn rows_are_compared_item_by_item() {
        assert_eq!(
            rewritten("SELECT (a, b) IS NOT NULL"),
            "SELECT (a IS NOT NULL AND b IS NOT NULL)"
        );
        assert_eq!(
            rewritten("SELECT (a, b) < (1, 2)"),
            "SELECT ((a < 1) OR ((a = 1) AND (b < 2)))"
        );
        assert_eq!(
            rewritten("SELECT (a, b) NOT IN ((1, 2))"),
            "SELECT NOT ((a = 1) AND (b = 2))"
        );
        assert_eq!(rewritten("SELECT (a) = (b)"), "SELECT (a) = (b)");
    }
}
