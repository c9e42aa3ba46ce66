//! String constants side by side: with a line break between them they are one, without it
//! they are an error. The parser takes the second one for a column's name.

use std::borrow::Cow;

use chronos_model::SqlState;

use crate::lex::{self, Token, TokenKind};
use crate::QueryError;

/// Errors with 42601 for two constants on one line. (The lexer makes one token of
/// constants that continue on the next line.)
pub(super) fn check(sql: &str) -> Result<(), QueryError> {
    let mut follows_string = false;
    for token in lex::tokens(sql).filter(|t| t.kind != TokenKind::Comment) {
        let is_string = token.kind == TokenKind::String;
        if is_string && follows_string && sql[token.start..].starts_with('\'') {
            let text = &sql[token.start..token.end];
            let message = format!("syntax error at or near \"{text}\"");
            let mut error = QueryError::new(SqlState::SYNTAX_ERROR, message);
            error.offset = Some(token.start);
            return Err(error);
        }
        follows_string = is_string;
    }
    Ok(())
}

/// The statement with constants that continue on further lines written as one. Blanks fill
/// the place of what was between, so that positions in errors stay.
pub(super) fn join(sql: &str) -> Cow<'_, str> {
    let mut joined = Cow::Borrowed(sql);
    for token in lex::tokens(sql).filter(|t| t.kind == TokenKind::String) {
        if !is_continued(&sql[token.start..token.end]) {
            continue;
        }
        let value = lex::unescape_string(&token, sql).replace('\'', "''");
        let length = token.end - token.start;
        let written = format!("'{value}'");
        let blanks = " ".repeat(length.saturating_sub(written.len()));
        // An escape may stand for more bytes than it takes; then there are no positions.
        if written.len() > length {
            return Cow::Owned(rewritten(sql));
        }
        let filled = format!("{written}{blanks}");
        joined
            .to_mut()
            .replace_range(token.start..token.end, &filled);
    }
    joined
}

/// All continued constants as one each, without regard to positions.
fn rewritten(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut copied = 0;
    for token in lex::tokens(sql).filter(|t| is_continued_token(sql, t)) {
        out.push_str(&sql[copied..token.start]);
        let value = lex::unescape_string(&token, sql).replace('\'', "''");
        out.push_str(&format!("'{value}'"));
        copied = token.end;
    }
    out.push_str(&sql[copied..]);
    out
}

fn is_continued_token(sql: &str, token: &Token) -> bool {
    token.kind == TokenKind::String && is_continued(&sql[token.start..token.end])
}

/// Whether a constant's text has a further part behind its first closing quote.
fn is_continued(text: &str) -> bool {
    let Some((prefix, body)) = text.split_once('\'') else {
        return false;
    };
    // `$tag$..$tag$` has quotes of its own.
    if prefix.contains('$') {
        return false;
    }
    let has_escapes = prefix.eq_ignore_ascii_case("e");
    let mut bytes = body.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if has_escapes => drop(bytes.next()),
            b'\'' if bytes.peek() == Some(&b'\'') => drop(bytes.next()),
            b'\'' => return bytes.peek().is_some(),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_on_consecutive_lines_are_one() {
        let words = |sql: &str| {
            join(sql)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words("SELECT 'a'\n  'b' AS x"),
            ["SELECT", "'ab'", "AS", "x"]
        );
        assert_eq!(words("'a' -- note\n 'b'\n'c'"), ["'abc'"]);
        assert_eq!(words("'it''s'\n'b'"), ["'it''sb'"]);
        let sql = "SELECT 'a', $$it's$$, 'b\n'";
        assert_eq!(join(sql), sql);
        let position = "SELECT 'a'\n 'b', nope".find("nope");
        assert_eq!(join("SELECT 'a'\n 'b', nope").find("nope"), position);
    }

    #[test]
    fn constants_on_one_line_are_an_error() {
        assert!(check("SELECT 'a' 'b'").is_err());
        assert!(check("SELECT 'a' /* x */ 'b'").is_err());
        assert!(check("SELECT 'a', 'b', DATE '2024-01-01'").is_ok());
        assert!(check("SELECT 'it''s'").is_ok());
        assert!(check("SELECT 'a'\n'b'").is_ok());
    }
}
