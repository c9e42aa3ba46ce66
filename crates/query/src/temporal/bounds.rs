//! Where the bounds of a clause end, known from tokens alone.
//!
//! A bound is a value expression: operands joined by operators. It ends where an
//! operand is complete and no operator follows. That is why neither the `AND` and
//! `TO` of a clause nor an alias without `AS` needs a list of keywords: after a
//! complete operand every word ends the bound, but for `AT TIME ZONE`. What is in
//! parentheses, brackets and `CASE .. END` is passed over whole.

use crate::lex::{LexError, Token, TokenKind};

/// Tokens of a text without its comments.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) sql: &'a str,
    pub(crate) tokens: &'a [Token],
}

impl<'a> Words<'a> {
    pub(crate) fn get(&self, i: usize) -> Option<&'a Token> {
        self.tokens.get(i)
    }

    pub(crate) fn is_word(&self, i: usize, word: &str) -> bool {
        self.get(i).is_some_and(|t| t.is_word(self.sql, word))
    }

    pub(crate) fn are_words(&self, i: usize, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, w)| self.is_word(i + n, w))
    }

    pub(crate) fn is_punct(&self, i: usize, character: u8) -> bool {
        self.get(i).is_some_and(|t| t.is_punct(character))
    }

    pub(crate) fn is_name(&self, i: usize) -> bool {
        self.get(i).is_some_and(Token::is_name)
    }

    fn is_string(&self, i: usize) -> bool {
        self.get(i).is_some_and(|t| t.kind == TokenKind::String)
    }

    /// The text of the tokens `from..to`.
    pub(crate) fn text(&self, from: usize, to: usize) -> String {
        let bounds = (
            self.get(from),
            to.checked_sub(1).and_then(|last| self.get(last)),
        );
        match bounds {
            (Some(first), Some(last)) => self.sql[first.start..last.end].to_owned(),
            _ => String::new(),
        }
    }

    /// The error of a token that should not stand there.
    pub(crate) fn unexpected(&self, i: usize) -> LexError {
        match self.get(i) {
            Some(token) => LexError::near("syntax error", self.sql, token),
            None => LexError::at_end(self.sql),
        }
    }

    pub(crate) fn expect(&self, i: usize, word: &str) -> Result<usize, LexError> {
        match self.is_word(i, word) {
            true => Ok(i + 1),
            false => Err(self.unexpected(i)),
        }
    }

    /// Behind the bracket that closes the one at `open`.
    fn group_end(&self, open: usize) -> Result<usize, LexError> {
        let mut depth = 0usize;
        for (n, token) in self.tokens.iter().enumerate().skip(open) {
            match token.kind {
                TokenKind::Punct(b'(' | b'[') => depth += 1,
                TokenKind::Punct(b')' | b']') if depth == 1 => return Ok(n + 1),
                TokenKind::Punct(b')' | b']') => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Err(self.unexpected(self.tokens.len()))
    }

    /// Behind the `END` of the `CASE` at `start`.
    fn case_end(&self, start: usize) -> Result<usize, LexError> {
        let mut depth = 0usize;
        for n in start..self.tokens.len() {
            if self.is_word(n, "CASE") {
                depth += 1;
            } else if self.is_word(n, "END") {
                depth -= 1;
                if depth == 0 {
                    return Ok(n + 1);
                }
            }
        }
        Err(self.unexpected(self.tokens.len()))
    }

    /// Behind the expression that begins at `start`.
    pub(crate) fn expression_end(&self, start: usize) -> Result<usize, LexError> {
        let mut at = self.operand_end(start)?;
        loop {
            at = match self.get(at).map(|t| t.kind) {
                Some(TokenKind::Operator) if self.is_operator(at, "::") => self.type_end(at + 1)?,
                Some(TokenKind::Operator) => self.operand_end(at + 1)?,
                Some(TokenKind::Punct(b'[')) => self.group_end(at)?,
                Some(TokenKind::Punct(b'.')) if self.is_name(at + 1) => at + 2,
                _ if self.are_words(at, &["AT", "TIME", "ZONE"]) => self.operand_end(at + 3)?,
                _ if self.are_words(at, &["AT", "LOCAL"]) => at + 2,
                _ => return Ok(at),
            };
        }
    }

    pub(crate) fn is_operator(&self, i: usize, operator: &str) -> bool {
        self.get(i)
            .is_some_and(|t| t.kind == TokenKind::Operator && t.text(self.sql) == operator)
    }

    fn operand_end(&self, start: usize) -> Result<usize, LexError> {
        let mut at = start;
        while self.is_operator(at, "-") || self.is_operator(at, "+") {
            at += 1;
        }
        let Some(token) = self.get(at) else {
            return Err(self.unexpected(at));
        };
        match token.kind {
            TokenKind::String | TokenKind::Number | TokenKind::Param => Ok(at + 1),
            TokenKind::Punct(b'(') => self.group_end(at),
            TokenKind::Word if self.is_word(at, "CASE") => self.case_end(at),
            TokenKind::Word if self.is_clause_word(at) => Err(self.unexpected(at)),
            TokenKind::Word | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => self.name_end(at),
            _ => Err(self.unexpected(at)),
        }
    }

    /// Words at which an operand is missing, rather than being called so.
    fn is_clause_word(&self, at: usize) -> bool {
        const WORDS: [&str; 12] = [
            "AS", "AND", "FOR", "FROM", "GROUP", "JOIN", "LIMIT", "ON", "ORDER", "TO", "WHERE",
            "UNION",
        ];
        WORDS.iter().any(|w| self.is_word(at, w))
    }

    /// Behind a column, a function call or a typed constant.
    fn name_end(&self, start: usize) -> Result<usize, LexError> {
        let mut at = start + 1;
        while self.is_punct(at, b'.') && self.is_name(at + 1) {
            at += 2;
        }
        if self.is_word(start, "INTERVAL") {
            return self.interval_end(at);
        }
        // TIMESTAMP WITH TIME ZONE '..', DOUBLE PRECISION '1'
        let typed = self.type_end(start)?;
        if self.is_string(typed) {
            return Ok(typed + 1);
        }
        match self.is_punct(at, b'(') {
            true => self.group_end(at),
            false => Ok(at),
        }
    }

    /// Behind `INTERVAL [(p)] '..' [fields]`, `at` being behind the word.
    fn interval_end(&self, at: usize) -> Result<usize, LexError> {
        let string = match self.is_punct(at, b'(') {
            true => self.group_end(at)?,
            false => at,
        };
        if !self.is_string(string) {
            return Ok(string);
        }
        let field = |i: usize| {
            ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"]
                .iter()
                .any(|f| self.is_word(i, f))
        };
        Ok(match string + 1 {
            at if field(at) && self.is_word(at + 1, "TO") && field(at + 2) => at + 3,
            at if field(at) => at + 1,
            at => at,
        })
    }

    /// Behind a type's name.
    fn type_end(&self, start: usize) -> Result<usize, LexError> {
        if !self.is_name(start) {
            return Err(self.unexpected(start));
        }
        let mut at = start + 1;
        while self.is_punct(at, b'.') && self.is_name(at + 1) {
            at += 2;
        }
        if self.are_words(start, &["DOUBLE", "PRECISION"])
            || self.are_words(start, &["CHARACTER", "VARYING"])
        {
            at += 1;
        }
        if self.is_punct(at, b'(') {
            at = self.group_end(at)?;
        }
        if self.are_words(at, &["WITH", "TIME", "ZONE"])
            || self.are_words(at, &["WITHOUT", "TIME", "ZONE"])
        {
            at += 3;
        }
        while self.is_punct(at, b'[') {
            at = self.group_end(at)?;
        }
        Ok(at)
    }
}
