//! PostgreSQL's lexical rules, and nothing of its grammar.
//!
//! [`tokens`] cuts a text into [`Token`]s without copying or allocating: a token
//! is a kind and a byte range. White space is skipped, comments are tokens, and
//! what cannot be a token is one of kind [`TokenKind::Error`], so that scanning
//! never fails half-way. Text is decoded only when asked for, by [`ident`] and
//! [`unescape_string`]; escapes were checked by then.
//!
//! ```text
//! SELECT "A b", E'x\n'::text FROM t; -- all
//! Word   Quoted Str.. Op Word Word Word Punct Comment
//! ```
//!
//! The rules are those of PostgreSQL 17's `scan.l` with
//! `standard_conforming_strings` on. What is left to the grammar there is left to
//! the callers here: `UESCAPE`, and `N'..'`, which is the word `N` and a string.
//! Identifiers are not cut to 63 bytes.

mod decode;
mod scan;
mod split;
#[cfg(test)]
mod tests;

use chronos_model::SqlState;

#[cfg(test)]
pub(crate) use tests::soup;

pub use decode::{ident, unescape_string};
pub use scan::{tokens, Tokens};
pub use split::{ends_in_statement, split, StatementSpan};

/// A piece of SQL text: bytes `start..end` of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// What a [`Token`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// A keyword or an identifier without quotes; folds to lower case.
    Word,
    /// `"identifier"`
    QuotedIdent,
    /// `U&"identifier"`
    UnicodeIdent,
    /// A string constant, with the further parts that a line break joins to it;
    /// [`Token::string_kind`] says of which form.
    String,
    /// `1`, `1.5`, `.5`, `1e10`, `1_000`, `0x1F`; never signed.
    Number,
    /// `$1`
    Param,
    /// One or more operator characters, `::`, `:=` or `..`.
    Operator,
    /// One of `( ) [ ] , ; . :`
    Punct(u8),
    /// `-- to the end of the line` or `/* nested */`
    Comment,
    /// Not a token.
    Error(Fault),
}

/// The forms of string constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringKind {
    /// `'..'`
    Plain,
    /// `E'..'` with backslash escapes.
    Escape,
    /// `U&'..'` with Unicode escapes.
    Unicode,
    /// `$tag$..$tag$`
    Dollar,
    /// `B'0101'`
    Bit,
    /// `X'1F'`
    Hex,
}

/// Why bytes are no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A string constant without end.
    UnterminatedString,
    /// A bit string without end.
    UnterminatedBitString,
    /// A hexadecimal string without end.
    UnterminatedHexString,
    /// A dollar-quoted string without end.
    UnterminatedDollarString,
    /// A quoted identifier without end.
    UnterminatedIdent,
    /// A block comment without end.
    UnterminatedComment,
    /// `""`
    EmptyIdent,
    /// `12ab`, `1e+`
    NumberJunk,
    /// `$1a`
    ParamJunk,
    /// `0x` without digits.
    BadHex,
    /// `0o` without digits.
    BadOctal,
    /// `0b` without digits.
    BadBinary,
    /// A character that begins no token.
    UnexpectedCharacter,
    /// An escape that is none, as `\\u12`.
    BadEscape,
    /// An escape of what is no character, as `\\U00110000`.
    BadEscapeValue,
    /// Half a surrogate pair.
    BadSurrogatePair,
    /// Byte escapes that are no UTF-8, or a zero byte.
    BadUtf8,
}

impl Fault {
    /// PostgreSQL's words for it.
    pub fn message(self) -> &'static str {
        match self {
            Fault::UnterminatedString => "unterminated quoted string",
            Fault::UnterminatedBitString => "unterminated bit string literal",
            Fault::UnterminatedHexString => "unterminated hexadecimal string literal",
            Fault::UnterminatedDollarString => "unterminated dollar-quoted string",
            Fault::UnterminatedIdent => "unterminated quoted identifier",
            Fault::UnterminatedComment => "unterminated /* comment",
            Fault::EmptyIdent => "zero-length delimited identifier",
            Fault::NumberJunk => "trailing junk after numeric literal",
            Fault::ParamJunk => "trailing junk after parameter",
            Fault::BadHex => "invalid hexadecimal integer",
            Fault::BadOctal => "invalid octal integer",
            Fault::BadBinary => "invalid binary integer",
            Fault::UnexpectedCharacter => "syntax error",
            Fault::BadEscape => "invalid Unicode escape",
            Fault::BadEscapeValue => "invalid Unicode escape value",
            Fault::BadSurrogatePair => "invalid Unicode surrogate pair",
            Fault::BadUtf8 => "invalid byte sequence for encoding \"UTF8\"",
        }
    }

    /// Its SQLSTATE.
    pub fn code(self) -> SqlState {
        match self {
            Fault::BadEscape => SqlState("22025"),
            Fault::BadUtf8 => SqlState::INVALID_ENCODING,
            _ => SqlState::SYNTAX_ERROR,
        }
    }
}

impl Token {
    /// The bytes it was cut from; `sql` is the text it was scanned in.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.start..self.end).unwrap_or("")
    }

    /// Whether it is this keyword, in any case and without quotes.
    pub fn is_word(&self, sql: &str, keyword: &str) -> bool {
        self.kind == TokenKind::Word
            && self.end - self.start == keyword.len()
            && self.text(sql).eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this punctuation character.
    pub fn is_punct(&self, character: u8) -> bool {
        self.kind == TokenKind::Punct(character)
    }

    /// Whether it may name something.
    pub fn is_name(&self) -> bool {
        matches!(
            self.kind,
            TokenKind::Word | TokenKind::QuotedIdent | TokenKind::UnicodeIdent
        )
    }

    /// The error it stands for, if it is of kind [`TokenKind::Error`].
    pub fn error(&self, sql: &str) -> Option<LexError> {
        match self.kind {
            TokenKind::Error(fault) => Some(LexError {
                code: fault.code(),
                ..LexError::near(fault.message(), sql, self)
            }),
            _ => None,
        }
    }

    /// The form of a string constant.
    pub fn string_kind(&self, sql: &str) -> Option<StringKind> {
        if self.kind != TokenKind::String {
            return None;
        }
        Some(match sql.as_bytes().get(self.start)? {
            b'e' | b'E' => StringKind::Escape,
            b'b' | b'B' => StringKind::Bit,
            b'x' | b'X' => StringKind::Hex,
            b'u' | b'U' => StringKind::Unicode,
            b'$' => StringKind::Dollar,
            _ => StringKind::Plain,
        })
    }
}

/// SQL text that is wrong before any grammar has seen it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LexError {
    /// SQLSTATE.
    pub code: SqlState,
    /// PostgreSQL's message.
    pub message: String,
    /// Byte of the text at which it went wrong; [`char_position`] makes of it
    /// what the protocol reports.
    pub position: usize,
}

impl LexError {
    /// A syntax error at a token: `what at or near "text"`.
    pub(crate) fn near(what: &str, sql: &str, token: &Token) -> LexError {
        LexError {
            code: SqlState::SYNTAX_ERROR,
            message: format!("{what} at or near \"{}\"", token.text(sql)),
            position: token.start,
        }
    }

    /// A syntax error behind the last token.
    pub(crate) fn at_end(sql: &str) -> LexError {
        LexError {
            code: SqlState::SYNTAX_ERROR,
            message: "syntax error at end of input".to_owned(),
            position: sql.len(),
        }
    }
}

/// A byte offset as PostgreSQL reports positions: in characters, from 1.
pub fn char_position(sql: &str, offset: usize) -> u32 {
    let before = sql
        .char_indices()
        .take_while(|(byte, _)| *byte < offset)
        .count();
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}
