//! What PostgreSQL's grammar has and the engine plans wrongly or not at all, put into
//! words that it plans rightly; what has no such words is refused.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::QueryError;

/// Rewrites the statement, or refuses it.
pub(super) fn rewrite(statement: &mut ast::Statement) -> Result<(), QueryError> {
    struct Rewriter;
    impl VisitorMut for Rewriter {
        type Break = QueryError;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
            match fetch_as_limit(query) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }

        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<QueryError> {
            match quantified(expr) {
                Ok(Some(rewritten)) => *expr = rewritten,
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

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn fetch_as_limit(query: &mut ast::Query) -> Result<(), QueryError> {
    let Some(fetch) = query.fetch.take() else {
        return Ok(());
    };
    if fetch.with_ties || fetch.percent {
        return Err(QueryError::unsupported("FETCH .. WITH TIES or PERCENT"));
    }
    let one = || ast::Expr::Value(ast::Value::Number("1".into(), false).into());
    let quantity = fetch.quantity.unwrap_or_else(one);
    match &mut query.limit_clause {
        Some(ast::LimitClause::LimitOffset {
            limit: limit @ None,
            ..
        }) => *limit = Some(quantity),
        None => {
            query.limit_clause = Some(ast::LimitClause::LimitOffset {
                limit: Some(quantity),
                offset: None,
                limit_by: vec![],
            });
        }
        Some(_) => {
            return Err(QueryError::new(
                chronos_model::SqlState::SYNTAX_ERROR,
                "multiple LIMIT clauses not allowed",
            ))
        }
    }
    Ok(())
}

/// `= ANY (SELECT ..)` is IN, `<> ALL (SELECT ..)` is NOT IN; the engine drops the
/// comparison of the others.
fn quantified(expr: &ast::Expr) -> Result<Option<ast::Expr>, QueryError> {
    use ast::BinaryOperator as Op;
    let (left, operator, right, is_any) = match expr {
        ast::Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        } => (left, compare_op, right, true),
        ast::Expr::AllOp {
            left,
            compare_op,
            right,
        } => (left, compare_op, right, false),
        _ => return Ok(None),
    };
    let ast::Expr::Subquery(subquery) = right.as_ref() else {
        return Ok(None);
    };
    let negated = match (is_any, operator) {
        (true, Op::Eq) => false,
        (false, Op::NotEq) => true,
        _ => {
            let word = if is_any { "ANY" } else { "ALL" };
            return Err(
                QueryError::unsupported(format!("{operator} {word} (subquery)"))
                    .with_hint("Compare with the subquery's min or max, or use EXISTS."),
            );
        }
    };
    Ok(Some(ast::Expr::InSubquery {
        expr: left.clone(),
        subquery: subquery.clone(),
        negated,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> Result<String, QueryError> {
        let mut statement = crate::sql::parse_query(sql)?;
        rewrite(&mut statement)?;
        Ok(statement.to_string())
    }

    #[test]
    fn quantified_comparisons() {
        assert_eq!(
            rewritten("SELECT a = ANY (SELECT b FROM t)").unwrap(),
            "SELECT a IN (SELECT b FROM t)"
        );
        assert_eq!(
            rewritten("SELECT a <> ALL (SELECT b FROM t)").unwrap(),
            "SELECT a NOT IN (SELECT b FROM t)"
        );
        assert_eq!(
            rewritten("SELECT a > ALL (SELECT b FROM t)")
                .unwrap_err()
                .code
                .0,
            "0A000"
        );
        assert_eq!(
            rewritten("SELECT a FROM t FETCH FIRST 2 ROWS ONLY").unwrap(),
            "SELECT a FROM t LIMIT 2"
        );
    }
}
