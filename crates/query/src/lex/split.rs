//! Cutting a text into statements at its semicolons.
//!
//! Only the lexical rules decide: a `;` in a quote or comment is none, a `;` in
//! parentheses is one (no statement has one there).

use super::{tokens, LexError, TokenKind};

/// A statement: bytes `start..end` of the text, from its first token to its last
/// without the semicolon. Comments before and after are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatementSpan {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// The statements of a text; empty ones are dropped.
///
/// Errors: anything in the text that is no token, as PostgreSQL refuses such a
/// text as a whole.
pub fn split(sql: &str) -> Result<Vec<StatementSpan>, LexError> {
    let mut statements = Vec::new();
    let mut current: Option<StatementSpan> = None;
    for token in tokens(sql) {
        if let Some(error) = token.error(sql) {
            return Err(error);
        }
        match token.kind {
            TokenKind::Comment => {}
            TokenKind::Punct(b';') => statements.extend(current.take()),
            _ => {
                let start = current.map_or(token.start, |s| s.start);
                let end = token.end;
                current = Some(StatementSpan { start, end });
            }
        }
    }
    statements.extend(current);
    Ok(statements)
}

/// Whether an interactive reader need not wait for more lines: nothing is left
/// open, and the last thing that is no comment is a `;`. Text of comments and
/// blanks only is complete too.
pub fn ends_in_statement(sql: &str) -> bool {
    let mut complete = true;
    for token in tokens(sql) {
        complete = match token.kind {
            TokenKind::Comment => complete,
            // More input may end it, or a `;` must still send it to its error.
            TokenKind::Error(_) => false,
            TokenKind::Punct(b';') => true,
            _ => false,
        };
    }
    complete
}
