//! Names that only quotes make possible: PostgreSQL's reserved words. The parser takes many
//! of them for tables and columns, and `SELECT FROM WHERE` for a query.

use std::ops::ControlFlow;

use chronos_model::{text, SqlState};
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};

use crate::QueryError;

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
    if name.quote_style.is_none() && text::is_reserved(&folded) {
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
