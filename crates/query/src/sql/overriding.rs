//! `INSERT .. OVERRIDING .. VALUE`, which the parser does not know.

use std::borrow::Cow;

use crate::lex::{Token, TokenKind};

/// OVERRIDING: which values of identity columns an INSERT means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overriding {
    /// It says nothing: those that it gives, where they may be given.
    #[default]
    None,
    /// SYSTEM VALUE: those that it gives.
    System,
    /// USER VALUE: those of the sequence.
    User,
}

/// An INSERT without its OVERRIDING, which the parser does not know.
pub(super) fn without_overriding(sql: &str) -> (Cow<'_, str>, Overriding) {
    let mentions = |b: &[u8]| b.eq_ignore_ascii_case(b"overriding");
    if !sql.as_bytes().windows(10).any(mentions) {
        return (sql.into(), Overriding::None);
    }
    let tokens: Vec<Token> = crate::lex::tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    for around in tokens.windows(4) {
        let [overriding, whose, value, next] = around else {
            continue;
        };
        let is_clause = overriding.is_word(sql, "overriding")
            && value.is_word(sql, "value")
            && ["values", "select", "with", "("].iter().any(|w| match *w {
                "(" => next.text(sql) == "(",
                word => next.is_word(sql, word),
            });
        let found = match is_clause {
            true if whose.is_word(sql, "system") => Overriding::System,
            true if whose.is_word(sql, "user") => Overriding::User,
            _ => continue,
        };
        let mut text = sql.to_owned();
        let range = overriding.start..value.end;
        let blank = " ".repeat(range.len());
        text.replace_range(range, &blank);
        return (text.into(), found);
    }
    (sql.into(), Overriding::None)
}
