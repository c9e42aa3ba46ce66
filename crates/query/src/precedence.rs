//! `a IS NOT DISTINCT FROM b AND c`, which the parser reads as `.. FROM (b AND c)`.
//!
//! A tree in which an unparenthesized AND or OR stands below an operator that binds
//! tighter cannot come from a right parse; each is turned until none is left.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, VisitMut, VisitorMut};

/// Turns the statement's expressions right.
pub(crate) fn restore(statement: &mut ast::Statement) {
    struct Turner;
    impl VisitorMut for Turner {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            while let Some(turned) = turned(expr) {
                *expr = turned;
            }
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Turner);
}

/// How tight an operator binds: OR, AND, NOT, everything else.
fn strength(op: &BinaryOperator) -> u8 {
    match op {
        BinaryOperator::Or => 0,
        BinaryOperator::And => 1,
        _ => 3,
    }
}

/// The expression with the connective below its right end on top, if one is there.
fn turned(expr: &mut Expr) -> Option<Expr> {
    let (own, end) = match expr {
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => (2, right),
        Expr::UnaryOp {
            op: ast::UnaryOperator::Not,
            expr,
        } => (2, expr),
        Expr::BinaryOp { op, right, .. } => (strength(op), right),
        _ => return None,
    };
    let Expr::BinaryOp { left, op, right } = end.as_mut() else {
        return None;
    };
    if strength(op) >= own {
        return None;
    }
    let (first, op, rest) = (left.clone(), op.clone(), right.clone());
    *end = first;
    let mut below = expr.clone();
    while let Some(turned) = turned(&mut below) {
        below = turned;
    }
    Some(Expr::BinaryOp {
        left: Box::new(below),
        op,
        right: rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expression with every operator in parentheses.
    fn shape(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                format!("({} {op} {})", shape(left), shape(right))
            }
            Expr::IsNotDistinctFrom(left, right) => format!("({} = {})", shape(left), shape(right)),
            Expr::IsDistinctFrom(left, right) => format!("({} # {})", shape(left), shape(right)),
            Expr::UnaryOp { expr, .. } => format!("(not {})", shape(expr)),
            Expr::Nested(inner) => shape(inner),
            other => other.to_string(),
        }
    }

    fn parsed(condition: &str) -> String {
        let statement = crate::sql::parse_query(&format!("SELECT 1 WHERE {condition}")).unwrap();
        let ast::Statement::Query(query) = statement else {
            panic!("no query")
        };
        let ast::SetExpr::Select(select) = *query.body else {
            panic!("no select")
        };
        shape(&select.selection.unwrap())
    }

    #[test]
    fn is_distinct_binds_tighter_than_connectives() {
        for (condition, expected) in [
            ("a IS NOT DISTINCT FROM b AND c", "((a = b) AND c)"),
            ("a IS DISTINCT FROM b OR c AND d", "((a # b) OR (c AND d))"),
            (
                "p AND a IS NOT DISTINCT FROM b OR c",
                "((p AND (a = b)) OR c)",
            ),
            ("NOT a IS DISTINCT FROM b AND c", "((not (a # b)) AND c)"),
            (
                "a IS NOT DISTINCT FROM b AND c IS NOT DISTINCT FROM d AND e",
                "((a = b) AND ((c = d) AND e))",
            ),
            ("a IS DISTINCT FROM (b AND c)", "(a # (b AND c))"),
            ("a AND (b OR c)", "(a AND (b OR c))"),
        ] {
            assert_eq!(parsed(condition), expected, "{condition}");
        }
    }
}
