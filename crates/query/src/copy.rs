//! COPY as its parts.

use chronos_model::SqlState;
use datafusion::sql::sqlparser::ast;

use crate::sql::{fold, table_name};
use crate::QueryError;

/// COPY, its options not yet checked.
#[derive(Debug, Clone)]
pub struct CopyStatement {
    /// Where the rows go.
    pub direction: CopyDirection,
    /// `FORMAT`, folded.
    pub format: Option<String>,
    /// `DELIMITER`
    pub delimiter: Option<char>,
    /// `NULL`
    pub null: Option<String>,
    /// `HEADER`
    pub header: bool,
    /// `QUOTE`
    pub quote: Option<char>,
    /// `ESCAPE`
    pub escape: Option<char>,
}

/// Where COPY's rows go.
#[derive(Debug, Clone)]
pub enum CopyDirection {
    /// Into a table: its name and columns (none named: all).
    From {
        /// Folded name.
        table: String,
        /// Folded names.
        columns: Vec<String>,
    },
    /// Out of a table or a view: its name and columns (none named: all that can be written).
    Of {
        /// Folded name.
        table: String,
        /// Folded names.
        columns: Vec<String>,
    },
    /// Out of a query.
    To {
        /// Its text.
        query: String,
    },
}

/// COPY as its parts; only STDIN and STDOUT.
pub fn copy(statement: &ast::Statement) -> Result<CopyStatement, QueryError> {
    let ast::Statement::Copy {
        source,
        to,
        target,
        options,
        legacy_options,
        values: _,
    } = statement
    else {
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, "expected COPY"));
    };
    match (to, target) {
        (false, ast::CopyTarget::Stdin) | (true, ast::CopyTarget::Stdout) => {}
        _ => {
            return Err(
                QueryError::unsupported("COPY from or to a file or program on the server")
                    .with_hint("Use COPY .. FROM STDIN / TO STDOUT, or psql's \\copy."),
            );
        }
    }
    let direction = match (source, to) {
        (
            ast::CopySource::Table {
                table_name: name,
                columns,
            },
            false,
        ) => CopyDirection::From {
            table: table_name(name)?,
            columns: columns.iter().map(fold).collect(),
        },
        (
            ast::CopySource::Table {
                table_name: name,
                columns,
            },
            true,
        ) => CopyDirection::Of {
            table: table_name(name)?,
            columns: columns.iter().map(fold).collect(),
        },
        (ast::CopySource::Query(query), true) => CopyDirection::To {
            query: query.to_string(),
        },
        (ast::CopySource::Query(_), false) => {
            return Err(QueryError::new(
                SqlState::SYNTAX_ERROR,
                "COPY (query) can only go TO STDOUT",
            ));
        }
    };
    let mut copy = CopyStatement {
        direction,
        format: None,
        delimiter: None,
        null: None,
        header: false,
        quote: None,
        escape: None,
    };
    for option in options {
        match option {
            ast::CopyOption::Format(name) => copy.format = Some(name.value.to_ascii_lowercase()),
            ast::CopyOption::Delimiter(c) => copy.delimiter = Some(*c),
            ast::CopyOption::Null(text) => copy.null = Some(text.clone()),
            ast::CopyOption::Header(on) => copy.header = *on,
            ast::CopyOption::Quote(c) => copy.quote = Some(*c),
            ast::CopyOption::Escape(c) => copy.escape = Some(*c),
            ast::CopyOption::Freeze(_) => {}
            ast::CopyOption::Encoding(name)
                if name.to_ascii_lowercase().replace('-', "") == "utf8" => {}
            other => return Err(QueryError::unsupported(format!("the COPY option {other}"))),
        }
    }
    for option in legacy_options {
        match option {
            ast::CopyLegacyOption::Binary => copy.format = Some("binary".into()),
            ast::CopyLegacyOption::Delimiter(c) => copy.delimiter = Some(*c),
            ast::CopyLegacyOption::Null(text) => copy.null = Some(text.clone()),
            ast::CopyLegacyOption::Header => copy.header = true,
            ast::CopyLegacyOption::Csv(options) => {
                copy.format = Some("csv".into());
                for option in options {
                    match option {
                        ast::CopyLegacyCsvOption::Header => copy.header = true,
                        ast::CopyLegacyCsvOption::Quote(c) => copy.quote = Some(*c),
                        ast::CopyLegacyCsvOption::Escape(c) => copy.escape = Some(*c),
                        other => {
                            return Err(QueryError::unsupported(format!("the COPY option {other}")))
                        }
                    }
                }
            }
            other => return Err(QueryError::unsupported(format!("the COPY option {other}"))),
        }
    }
    Ok(copy)
}
