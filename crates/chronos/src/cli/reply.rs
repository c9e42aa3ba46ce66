//! What a statement answers, whoever executes it.
//!
//! The seam between executing (the wire, the embedded database) and showing
//! (`output`). An executor calls one sink with a sequence of [`Event`]s:
//!
//! ```text
//!   Columns Row* Complete      a query
//!   Complete                   a command
//!   CopyOut* Complete          COPY .. TO STDOUT
//!   Notice                     at any time
//! ```
//!
//! Rows are borrowed and passed one by one, so a result of any size streams through
//! without being held; who needs rows together (the table layout) bounds that itself.

use std::fmt;
use std::io;

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) name: String,
    /// How its text is to be read.
    pub(crate) kind: Kind,
}

/// What the text of a cell stands for; decides alignment and JSON form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Aligned right; a JSON number when it is one (NaN is not).
    Number,
    /// `t` or `f`.
    Boolean,
    /// JSON text.
    Json,
    /// Anything else, shown as it is.
    Text,
}

/// One step of an answer.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A result with these columns begins.
    Columns(&'a [Column]),
    /// One row; `None` is NULL. As many cells as columns.
    Row(&'a [Option<&'a str>]),
    /// The statement is done; its command tag, such as `SELECT 3` or `CREATE TABLE`.
    Complete(&'a str),
    /// Something the server wants said.
    Notice(&'a SqlError),
    /// Data of COPY .. TO STDOUT, to be passed on unchanged.
    CopyOut(&'a [u8]),
}

/// Where events go. Its error stops the statement.
pub(crate) type Sink<'s> = dyn FnMut(Event<'_>) -> io::Result<()> + 's;

/// Where a statement stands when control returns to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Progress {
    /// The next statement may be sent.
    Done,
    /// COPY .. FROM STDIN waits for its data.
    WantsCopyData,
}

/// An error, or a notice, as SQL reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SqlError {
    /// `ERROR`, `FATAL`, `NOTICE`, …
    pub(crate) severity: String,
    /// SQLSTATE, five characters.
    pub(crate) code: String,
    /// One sentence.
    pub(crate) message: String,
    /// More about this case.
    pub(crate) detail: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Where in the statement, in characters counted from 1.
    pub(crate) position: Option<usize>,
    /// Where in the data or in nested statements (`COPY t, line 3, column x`).
    pub(crate) context: Option<String>,
    /// The column concerned, where the server names one.
    pub(crate) column: Option<String>,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.code.is_empty() {
            write!(f, " ({})", self.code)?;
        }
        Ok(())
    }
}

/// Why a statement gave no complete answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// It was refused; the session goes on.
    #[error("{0}")]
    Sql(Box<SqlError>),
    /// The session is gone.
    #[error("the connection to the node was lost: {0}")]
    Lost(String),
    /// The sink failed; the session goes on.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// Whether a transaction is open, as far as the session knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Transaction {
    /// None.
    #[default]
    Idle,
    /// Open.
    Open,
    /// Open, and failed: only ROLLBACK is accepted.
    Failed,
}

/// A whole result held in memory, for the small questions the command line asks itself.
#[derive(Debug, Default)]
pub(crate) struct SmallResult {
    /// The columns, empty for a command.
    pub(crate) columns: Vec<Column>,
    /// The rows, at most [`SmallResult::ROWS_MAX`]; further ones are dropped.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

impl SmallResult {
    /// More rows than any question of the command line itself should return.
    pub(crate) const ROWS_MAX: usize = 50_000;

    /// Takes in one event.
    pub(crate) fn absorb(&mut self, event: Event<'_>) {
        match event {
            Event::Columns(columns) => self.columns = columns.to_vec(),
            Event::Row(cells) if self.rows.len() < Self::ROWS_MAX => {
                let owned = cells.iter().map(|cell| cell.map(str::to_owned)).collect();
                self.rows.push(owned);
            }
            _ => {}
        }
    }
}

/// `text` as an SQL string literal.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `name` as an SQL identifier, quoted only when it has to be.
pub(crate) fn quote_identifier(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !chronos_model::text::is_reserved(name);
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_when_they_must_be() {
        assert_eq!(quote_identifier("device_id"), "device_id");
        assert_eq!(quote_identifier("timestamp"), "timestamp");
        assert_eq!(quote_identifier("order"), "\"order\"");
        assert_eq!(quote_identifier("user"), "\"user\"");
        assert_eq!(quote_identifier("Mixed \"x\""), "\"Mixed \"\"x\"\"\"");
        assert_eq!(quote_identifier("1st"), "\"1st\"");
        assert_eq!(quote_identifier(""), "\"\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
    }
}
