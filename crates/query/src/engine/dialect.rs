//! What PostgreSQL's grammar has and the engine plans wrongly or not at all, put into
//! words that it plans rightly; what has no such words is refused.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::from_functions;
use crate::functions::JSON_AGGREGATES;
use crate::QueryError;

/// Rewrites the statement, or refuses it.
pub(super) fn rewrite(statement: &mut ast::Statement) -> Result<(), QueryError> {
    struct Rewriter;
    impl VisitorMut for Rewriter {
        type Break = QueryError;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
            match fetch_as_limit(query).and_then(|()| rows_as_selects(query)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }

        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<QueryError> {
            from_functions::rewrite_list(select);
            from_functions::rewrite_whole_rows(select);
            match select.selection.as_mut().map_or(Ok(()), row_conditions) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }

        fn pre_visit_table_factor(
            &mut self,
            factor: &mut ast::TableFactor,
        ) -> ControlFlow<QueryError> {
            if let ast::TableFactor::Table {
                sample: Some(_), ..
            }
            | ast::TableFactor::Derived {
                sample: Some(_), ..
            } = factor
            {
                return ControlFlow::Break(QueryError::unsupported("TABLESAMPLE"));
            }
            match from_functions::rewrite_factor(factor) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        }

        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<QueryError> {
            if let Some(rewritten) = quantified(expr) {
                *expr = rewritten;
            }
            for rewrite in [row_membership, array_of_columns, json_aggregate] {
                match rewrite(expr) {
                    Ok(Some(rewritten)) => *expr = rewritten,
                    Ok(None) => {}
                    Err(e) => return ControlFlow::Break(e),
                }
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

/// `= ANY (SELECT ..)` is IN, `<> ALL (SELECT ..)` is NOT IN.
fn quantified(expr: &ast::Expr) -> Option<ast::Expr> {
    use ast::BinaryOperator as Op;
    let (left, right, negated) = match expr {
        ast::Expr::AnyOp {
            left,
            compare_op: Op::Eq,
            right,
            ..
        } => (left, right, false),
        ast::Expr::AllOp {
            left,
            compare_op: Op::NotEq,
            right,
        } => (left, right, true),
        _ => return None,
    };
    let ast::Expr::Subquery(subquery) = right.as_ref() else {
        return None;
    };
    Some(ast::Expr::InSubquery {
        expr: left.clone(),
        subquery: subquery.clone(),
        negated,
    })
}

/// A row that is searched for in a subquery: its items, and the subquery under names.
fn searched_row(expr: &ast::Expr) -> Option<(String, String, bool)> {
    let ast::Expr::InSubquery {
        expr,
        subquery,
        negated,
    } = expr
    else {
        return None;
    };
    let ast::Expr::Tuple(items) = expr.as_ref() else {
        return None;
    };
    let names: Vec<String> = (0..items.len()).map(|i| format!("__c{i}")).collect();
    let equal: Vec<String> = items
        .iter()
        .zip(&names)
        .map(|(item, name)| format!("({item}) = __row.{name}"))
        .collect();
    let rows = format!("({subquery}) AS __row ({})", names.join(", "));
    Some((equal.join(" AND "), rows, *negated))
}

/// `(a, b) IN (SELECT ..)`, with SQL's NULLs: true if a row is equal, NULL if one may be.
fn row_membership(expr: &ast::Expr) -> Result<Option<ast::Expr>, QueryError> {
    let Some((equal, rows, negated)) = searched_row(expr) else {
        return Ok(None);
    };
    let (found, absent) = if negated {
        ("false", "true")
    } else {
        ("true", "false")
    };
    parse_expression(&format!(
        "CASE WHEN EXISTS (SELECT 1 FROM {rows} WHERE {equal}) THEN {found} \
         WHEN EXISTS (SELECT 1 FROM {rows} WHERE ({equal}) IS NULL) THEN NULL::boolean \
         ELSE {absent} END"
    ))
    .map(Some)
}

/// A whole condition of a WHERE clause is asked only whether it is true.
fn row_conditions(condition: &mut ast::Expr) -> Result<(), QueryError> {
    match condition {
        ast::Expr::BinaryOp {
            left,
            op: ast::BinaryOperator::And,
            right,
        } => {
            row_conditions(left)?;
            row_conditions(right)
        }
        ast::Expr::Nested(inner) => row_conditions(inner),
        other => {
            if let Some((equal, rows, false)) = searched_row(other) {
                *other = parse_expression(&format!("EXISTS (SELECT 1 FROM {rows} WHERE {equal})"))?;
            }
            Ok(())
        }
    }
}

/// `ARRAY[a, b]`: the engine's own planner does not find an outer query's columns in it.
fn array_of_columns(expr: &ast::Expr) -> Result<Option<ast::Expr>, QueryError> {
    match expr {
        ast::Expr::Array(array) if array.elem.iter().any(names_column) => {
            let items: Vec<String> = array.elem.iter().map(ToString::to_string).collect();
            parse_expression(&format!("make_array({})", items.join(", "))).map(Some)
        }
        _ => Ok(None),
    }
}

/// `json_agg(x ORDER BY y)` is an array of what each x is as JSON, joined.
fn json_aggregate(expr: &ast::Expr) -> Result<Option<ast::Expr>, QueryError> {
    let ast::Expr::Function(function) = expr else {
        return Ok(None);
    };
    let name = function.name.to_string().to_ascii_lowercase();
    let Some((_, item, join)) = JSON_AGGREGATES.iter().find(|(of, ..)| *of == name) else {
        return Ok(None);
    };
    let mut inner = function.clone();
    let ast::FunctionArguments::List(list) = &mut inner.args else {
        return Ok(None);
    };
    let args: Vec<String> = list.args.iter().map(ToString::to_string).collect();
    let item = parse_expression(&format!("{item}({})", args.join(", ")))?;
    list.args = vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(item))];
    inner.name = ast::ObjectName::from(vec![ast::Ident::new("array_agg")]);
    parse_expression(&format!("{join}({inner})")).map(Some)
}

/// VALUES that name columns of an outer query, as a SELECT for each row.
fn rows_as_selects(query: &mut ast::Query) -> Result<(), QueryError> {
    let ast::SetExpr::Values(values) = query.body.as_ref() else {
        return Ok(());
    };
    if !values
        .rows
        .iter()
        .any(|row| row.content.iter().any(names_column))
    {
        return Ok(());
    }
    let selects: Vec<String> = values
        .rows
        .iter()
        .map(|row| {
            let items: Vec<String> = row
                .content
                .iter()
                .enumerate()
                .map(|(i, item)| format!("{item} AS column{}", i + 1))
                .collect();
            format!("SELECT {}", items.join(", "))
        })
        .collect();
    if let ast::Statement::Query(rows) = crate::sql::parse_query(&selects.join(" UNION ALL "))? {
        query.body = rows.body;
    }
    Ok(())
}

/// Whether a column is named anywhere within.
fn names_column(expr: &ast::Expr) -> bool {
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            let is_column = matches!(
                expr,
                ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_)
            );
            if is_column {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    expr.visit(&mut Finder).is_break()
}

/// Parses an expression that was put together here.
pub(crate) fn parse_expression(sql: &str) -> Result<ast::Expr, QueryError> {
    let dialect = PostgreSqlDialect {};
    Parser::new(&dialect)
        .try_with_sql(sql)
        .and_then(|mut p| p.parse_expr())
        .map_err(|e| {
            QueryError::new(
                chronos_model::SqlState::SYNTAX_ERROR,
                format!("invalid expression {sql}: {e}"),
            )
        })
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
            rewritten("SELECT a FROM t FETCH FIRST 2 ROWS ONLY").unwrap(),
            "SELECT a FROM t LIMIT 2"
        );
    }
}
