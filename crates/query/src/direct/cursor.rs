//! One token at a time, without comments, with as much of it consumed as was
//! recognised.

use std::borrow::Cow;

use super::names;
use crate::lex::{ident, tokens, Token, TokenKind, Tokens};

/// A place in a statement; clone it to look ahead.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a str,
    tokens: Tokens<'a>,
    current: Option<Token>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(sql: &'a str) -> Cursor<'a> {
        let mut cursor = Cursor {
            sql,
            tokens: tokens(sql),
            current: None,
        };
        cursor.advance();
        cursor
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<Token> {
        self.current
    }

    #[inline]
    pub(super) fn advance(&mut self) {
        self.current = self.tokens.next();
        while self.current.is_some_and(|t| t.kind == TokenKind::Comment) {
            self.current = self.tokens.next();
        }
    }

    /// Goes on if the condition holds.
    fn take(&mut self, holds: bool) -> bool {
        if holds {
            self.advance();
        }
        holds
    }

    pub(super) fn word(&mut self, keyword: &str) -> bool {
        self.take(self.is_word(keyword))
    }

    pub(super) fn is_word(&self, keyword: &str) -> bool {
        self.current.is_some_and(|t| t.is_word(self.sql, keyword))
    }

    pub(super) fn punct(&mut self, character: u8) -> bool {
        self.take(self.current.is_some_and(|t| t.is_punct(character)))
    }

    pub(super) fn operator(&mut self, operator: &str) -> bool {
        let is = |t: Token| t.kind == TokenKind::Operator && t.text(self.sql) == operator;
        self.take(self.current.is_some_and(is))
    }

    /// The next token if it is of the kind.
    pub(super) fn kind(&mut self, kind: TokenKind) -> Option<Token> {
        let token = self.current.filter(|t| t.kind == kind)?;
        self.advance();
        Some(token)
    }

    /// The name of a column, a table or an alias: reserved words are none.
    pub(super) fn name(&mut self) -> Option<Cow<'a, str>> {
        let token = self.current?;
        let name = match token.kind {
            TokenKind::QuotedIdent => ident(&token, self.sql),
            TokenKind::Word => {
                let name = ident(&token, self.sql);
                if chronos_model::text::is_reserved(&name) {
                    return None;
                }
                name
            }
            _ => return None,
        };
        self.advance();
        Some(name)
    }

    /// The name behind `AS` of an output column: any word will do.
    pub(super) fn label(&mut self) -> Option<Cow<'a, str>> {
        let token = self.current?;
        matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdent).then(|| {
            self.advance();
            ident(&token, self.sql)
        })
    }

    /// An output column's name without `AS`, if one stands here.
    pub(super) fn bare_label(&mut self) -> Option<Cow<'a, str>> {
        let token = self.current?;
        if token.kind == TokenKind::Word && names::needs_as(&ident(&token, self.sql)) {
            return None;
        }
        self.name()
    }

    /// The end of the text, or one semicolon and then the end.
    pub(super) fn statement_end(&mut self) -> Option<()> {
        self.punct(b';');
        self.current.is_none().then_some(())
    }
}
