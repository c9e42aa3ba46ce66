//! Expressions that certain clients send, of which the answer is known and planning is not, and
//! functions in FROM that are relations here.

use datafusion::sql::sqlparser::ast::{self, Expr};

use super::expressions::null;
use crate::sql::{fold, parse_query};

/// Functions in FROM that are relations here.
const RELATIONS: [&str; 3] = [
    "pg_get_keywords",
    "pg_partition_ancestors",
    "pg_show_all_settings",
];

/// Whether it may be the name of such a function.
pub(super) fn is_relation(name: &ast::ObjectName) -> bool {
    let last = name.0.last().and_then(|part| part.as_ident()).map(fold);
    last.is_some_and(|last| RELATIONS.contains(&last.as_str()))
}

/// The relation that a function in FROM is the same as: `pg_show_all_settings()`.
pub(super) fn put_relation(factor: &mut ast::TableFactor) {
    let ast::TableFactor::Table {
        name,
        alias,
        args: Some(arguments),
        ..
    } = factor
    else {
        return;
    };
    let function = name.0.last().and_then(|p| p.as_ident()).map(fold);
    let query = match function.as_deref() {
        Some("pg_show_all_settings") if arguments.args.is_empty() => "SELECT * FROM pg_settings",
        // Nothing is partitioned; the second column is WITH ORDINALITY's.
        Some("pg_partition_ancestors") => "SELECT 0 AS relid, 1 AS ordinality WHERE false",
        // Which words are reserved is what is asked for.
        Some("pg_get_keywords") if arguments.args.is_empty() => {
            "SELECT word, 'R' AS catcode, 'reserved' AS catdesc FROM unnest(ARRAY['all', 'analyse', \
             'analyze', 'and', 'any', 'array', 'as', 'asc', 'asymmetric', 'both', 'case', 'cast', \
             'check', 'collate', 'column', 'constraint', 'create', 'current_date', 'default', \
             'deferrable', 'desc', 'distinct', 'do', 'else', 'end', 'except', 'fetch', 'for', \
             'foreign', 'from', 'grant', 'group', 'having', 'in', 'initially', 'intersect', 'into', \
             'lateral', 'leading', 'limit', 'localtime', 'localtimestamp', 'not', 'null', 'offset', \
             'on', 'only', 'or', 'order', 'placing', 'primary', 'references', 'returning', 'select', \
             'session_user', 'some', 'symmetric', 'table', 'then', 'to', 'trailing', 'true', 'union', \
             'unique', 'user', 'using', 'variadic', 'when', 'where', 'window', 'with']) AS words(word)"
        }
        _ => return,
    };
    let Ok(ast::Statement::Query(subquery)) = parse_query(query) else {
        return;
    };
    let own = ast::TableAlias {
        explicit: true,
        name: ast::Ident::new(function.unwrap_or_default()),
        columns: vec![],
        at: None,
    };
    *factor = ast::TableFactor::Derived {
        lateral: false,
        subquery,
        alias: alias.take().or(Some(own)),
        sample: None,
    };
}

/// What stands for such an expression.
pub(super) fn known(expr: &Expr) -> Option<Expr> {
    match expr {
        // asyncpg asks for the columns of composite types, of which there are none.
        Expr::Case {
            operand: None,
            conditions,
            else_result,
            ..
        } if matches!(conditions.as_slice(), [only] if only.condition.to_string().ends_with(".typtype = 'c'"))
            && else_result.as_ref().is_none_or(|e| **e == null()) =>
        {
            Some(null())
        }
        // And, by recursion, what domains are based on.
        Expr::Subquery(query)
            if query.with.as_ref().is_some_and(|w| w.recursive)
                && query.to_string().contains("typbasetype") =>
        {
            Some(null())
        }
        // Grafana expands search_path.
        Expr::InSubquery {
            expr,
            subquery,
            negated,
        } if subquery
            .to_string()
            .contains("current_setting('search_path')") =>
        {
            let list = vec![Expr::Value(
                ast::Value::SingleQuotedString("public".into()).into(),
            )];
            Some(Expr::InList {
                expr: expr.clone(),
                list,
                negated: *negated,
            })
        }
        _ => None,
    }
}
