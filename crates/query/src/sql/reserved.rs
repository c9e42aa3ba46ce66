//! Names that only quotes make possible: PostgreSQL's reserved words. The parser takes many
//! of them for tables and columns, and `SELECT FROM WHERE` for a query.

use std::ops::ControlFlow;

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};

use crate::QueryError;

/// In order, for a binary search.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Errors with 42601 when a table or a column to be created has such a name.
pub(super) fn check(statement: &ast::Statement) -> Result<(), QueryError> {
    if let ast::Statement::CreateTable(create) = statement {
        for column in &create.columns {
            unreserved(&column.name)?;
        }
    }
    struct Relations;
    impl Visitor for Relations {
        type Break = QueryError;
        fn pre_visit_relation(&mut self, name: &ast::ObjectName) -> ControlFlow<QueryError> {
            match name.0.as_slice() {
                [part] => match part.as_ident().map_or(Ok(()), unreserved) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(e) => ControlFlow::Break(e),
                },
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match statement.visit(&mut Relations) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn unreserved(name: &ast::Ident) -> Result<(), QueryError> {
    let folded = name.value.to_ascii_lowercase();
    if name.quote_style.is_none() && RESERVED.binary_search(&folded.as_str()).is_ok() {
        return Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            format!("syntax error at or near \"{}\"", name.value),
        )
        .with_hint("A reserved word is a name only in double quotes."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn reserved_words_need_quotes() {
        for sql in [
            "SELECT FROM WHERE",
            "CREATE TABLE x (\"from\" INT, \"select\" INT)",
        ] {
            assert_eq!(crate::sql::parse(sql).is_ok(), sql.starts_with("CREATE"));
        }
    }
}
