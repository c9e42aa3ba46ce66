//! The scanner: from a byte offset to the next token.
//!
//! It works on bytes and needs no look-behind. All characters that it stops at
//! are ASCII, and every byte above 127 is a letter, so a token never ends inside
//! a UTF-8 sequence.

use super::{decode, Fault, StringKind, Token, TokenKind};

const SPACE: u8 = 1;
const IDENT_START: u8 = 2;
const IDENT: u8 = 4;
const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => IDENT_START | IDENT,
            b'0'..=b'9' => DIGIT | IDENT,
            b'$' => IDENT,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    table
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// The tokens of a text, comments and errors among them.
pub fn tokens(sql: &str) -> Tokens<'_> {
    Tokens {
        bytes: sql.as_bytes(),
        position: 0,
    }
}

/// Iterator of [`tokens`]; cheap to clone, which is how one looks ahead.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let mut start = self.position;
        while start < self.bytes.len() && is(self.bytes[start], SPACE) {
            start += 1;
        }
        let scanner = Scanner { bytes: self.bytes };
        let Some(&first) = self.bytes.get(start) else {
            self.position = start;
            return None;
        };
        let (kind, end) = scanner.token(start, first);
        self.position = end;
        Some(Token { kind, start, end })
    }
}

impl std::iter::FusedIterator for Tokens<'_> {}

/// Where the next part of a string constant begins (behind its quote) when white
/// space with a line break, and no more than that and `--` comments, joins it to
/// the part whose closing quote stands before `from`.
pub(super) fn continuation(bytes: &[u8], from: usize) -> Option<usize> {
    let mut newline = false;
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'\n' | b'\r' => newline = true,
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at += line_end(&bytes[at..]);
                continue;
            }
            b'\'' if newline => return Some(at + 1),
            byte if is(*byte, SPACE) => {}
            _ => return None,
        }
        at += 1;
    }
}

fn line_end(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|b| matches!(b, b'\n' | b'\r'))
        .unwrap_or(bytes.len())
}

struct Scanner<'a> {
    bytes: &'a [u8],
}

impl Scanner<'_> {
    fn at(&self, i: usize) -> u8 {
        // NUL begins no token and continues none, so it can stand for the end.
        self.bytes.get(i).copied().unwrap_or(0)
    }

    fn run(&self, mut from: usize, class: u8) -> usize {
        while from < self.bytes.len() && is(self.bytes[from], class) {
            from += 1;
        }
        from
    }

    #[inline]
    fn token(&self, start: usize, first: u8) -> (TokenKind, usize) {
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word(start, first),
            b'0'..=b'9' => self.number(start),
            b'\'' => self.quoted(start, start + 1, StringKind::Plain),
            b'"' => self.quoted_ident(start, start + 1, TokenKind::QuotedIdent),
            b'$' => self.dollar(start),
            b'.' => match self.at(start + 1) {
                b'0'..=b'9' => self.number(start),
                b'.' => (TokenKind::Operator, start + 2),
                _ => (TokenKind::Punct(b'.'), start + 1),
            },
            b':' => match self.at(start + 1) {
                b':' | b'=' => (TokenKind::Operator, start + 2),
                _ => (TokenKind::Punct(b':'), start + 1),
            },
            b'(' | b')' | b'[' | b']' | b',' | b';' => (TokenKind::Punct(first), start + 1),
            b'-' if self.at(start + 1) == b'-' => {
                let length = line_end(&self.bytes[start..]);
                (TokenKind::Comment, start + length)
            }
            b'/' if self.at(start + 1) == b'*' => self.block_comment(start),
            _ if is(first, OPERATOR) => (TokenKind::Operator, self.operator(start)),
            _ => (TokenKind::Error(Fault::UnexpectedCharacter), start + 1),
        }
    }

    #[inline]
    fn word(&self, start: usize, first: u8) -> (TokenKind, usize) {
        match (first, self.at(start + 1)) {
            (b'e' | b'E', b'\'') => return self.quoted(start, start + 2, StringKind::Escape),
            (b'b' | b'B', b'\'') => return self.quoted(start, start + 2, StringKind::Bit),
            (b'x' | b'X', b'\'') => return self.quoted(start, start + 2, StringKind::Hex),
            (b'u' | b'U', b'&') => match self.at(start + 2) {
                b'\'' => return self.quoted(start, start + 3, StringKind::Unicode),
                b'"' => return self.quoted_ident(start, start + 3, TokenKind::UnicodeIdent),
                _ => {}
            },
            _ => {}
        }
        (TokenKind::Word, self.run(start + 1, IDENT))
    }

    /// A string whose body begins at `body`.
    fn quoted(&self, start: usize, body: usize, kind: StringKind) -> (TokenKind, usize) {
        let mut at = body;
        let mut has_escape = false;
        while let Some(&byte) = self.bytes.get(at) {
            match byte {
                b'\\' if kind == StringKind::Escape => {
                    has_escape = true;
                    at += 2;
                }
                b'\\' => {
                    has_escape |= kind == StringKind::Unicode;
                    at += 1;
                }
                b'\'' if self.at(at + 1) == b'\'' => at += 2,
                b'\'' => match continuation(self.bytes, at + 1) {
                    Some(next) => at = next,
                    None => {
                        let checked = has_escape.then(|| self.check(start, at + 1, kind));
                        let fault = checked.and_then(Result::err);
                        return (fault.map_or(TokenKind::String, TokenKind::Error), at + 1);
                    }
                },
                _ => at += 1,
            }
        }
        let fault = match kind {
            StringKind::Bit => Fault::UnterminatedBitString,
            StringKind::Hex => Fault::UnterminatedHexString,
            _ => Fault::UnterminatedString,
        };
        (TokenKind::Error(fault), self.bytes.len())
    }

    /// Whether the escapes of the constant `start..end` mean something.
    #[cold]
    fn check(&self, start: usize, end: usize, kind: StringKind) -> Result<(), Fault> {
        let text = std::str::from_utf8(&self.bytes[start..end]).map_err(|_| Fault::BadUtf8)?;
        decode::string_value(text, kind).map(|_| ())
    }

    fn quoted_ident(&self, start: usize, body: usize, kind: TokenKind) -> (TokenKind, usize) {
        let mut at = body;
        while let Some(&byte) = self.bytes.get(at) {
            if byte != b'"' {
                at += 1;
            } else if self.at(at + 1) == b'"' {
                at += 2;
            } else if at == body {
                return (TokenKind::Error(Fault::EmptyIdent), at + 1);
            } else {
                let text = std::str::from_utf8(&self.bytes[start..=at]);
                let checked = (kind == TokenKind::UnicodeIdent)
                    .then(|| decode::unicode_name(text.unwrap_or("")).map(|_| ()));
                let fault = checked.and_then(Result::err);
                return (fault.map_or(kind, TokenKind::Error), at + 1);
            }
        }
        (TokenKind::Error(Fault::UnterminatedIdent), self.bytes.len())
    }

    /// `$1`, `$$..$$` or `$tag$..$tag$`.
    fn dollar(&self, start: usize) -> (TokenKind, usize) {
        if is(self.at(start + 1), DIGIT) {
            let end = self.run(start + 1, DIGIT);
            if is(self.at(end), IDENT_START) {
                return (TokenKind::Error(Fault::ParamJunk), self.run(end, IDENT));
            }
            return (TokenKind::Param, end);
        }
        let mut tag_end = start + 1;
        while is(self.at(tag_end), IDENT_START | DIGIT) {
            tag_end += 1;
        }
        if self.at(tag_end) != b'$' {
            return (TokenKind::Error(Fault::UnexpectedCharacter), start + 1);
        }
        let tag = &self.bytes[start..=tag_end];
        let mut at = tag_end + 1;
        while let Some(found) = self.bytes[at..].iter().position(|b| *b == b'$') {
            at += found;
            if self.bytes[at..].starts_with(tag) {
                return (TokenKind::String, at + tag.len());
            }
            at += 1;
        }
        (
            TokenKind::Error(Fault::UnterminatedDollarString),
            self.bytes.len(),
        )
    }

    fn block_comment(&self, start: usize) -> (TokenKind, usize) {
        let mut depth = 1usize;
        let mut at = start + 2;
        while at < self.bytes.len() {
            match (self.bytes[at], self.at(at + 1)) {
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (TokenKind::Comment, at);
                    }
                }
                _ => at += 1,
            }
        }
        (
            TokenKind::Error(Fault::UnterminatedComment),
            self.bytes.len(),
        )
    }

    /// The longest run of operator characters before a comment; a trailing `+`
    /// or `-` belongs to it only beside characters that no standard operator
    /// has, so that `=-1` is `=` and `-1`.
    fn operator(&self, start: usize) -> usize {
        let mut end = start + 1;
        while is(self.at(end), OPERATOR) {
            match (self.at(end), self.at(end + 1)) {
                (b'-', b'-') | (b'/', b'*') => break,
                _ => end += 1,
            }
        }
        let special = |b: &u8| {
            matches!(
                b,
                b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
            )
        };
        if !self.bytes[start..end].iter().any(special) {
            while end > start + 1 && matches!(self.bytes[end - 1], b'+' | b'-') {
                end -= 1;
            }
        }
        end
    }

    fn number(&self, start: usize) -> (TokenKind, usize) {
        let radix = match (self.at(start), self.at(start + 1)) {
            (b'0', b'x' | b'X') => Some((16, Fault::BadHex)),
            (b'0', b'o' | b'O') => Some((8, Fault::BadOctal)),
            (b'0', b'b' | b'B') => Some((2, Fault::BadBinary)),
            _ => None,
        };
        if let Some((radix, fault)) = radix {
            let end = self.digits(start + 2, radix, true);
            if end == start + 2 {
                return (TokenKind::Error(fault), self.run(end, IDENT));
            }
            return self.number_end(end);
        }
        let mut end = self.digits(start, 10, false);
        // `1..2` is a range between integers, not two decimals.
        if self.at(end) == b'.' && self.at(end + 1) != b'.' {
            end = self.digits(end + 1, 10, false);
        }
        if matches!(self.at(end), b'e' | b'E') {
            let sign = usize::from(matches!(self.at(end + 1), b'+' | b'-'));
            let exponent = self.digits(end + 1 + sign, 10, false);
            if exponent > end + 1 + sign {
                end = exponent;
            } else if sign == 1 {
                return (TokenKind::Error(Fault::NumberJunk), end + 2);
            }
        }
        self.number_end(end)
    }

    fn number_end(&self, end: usize) -> (TokenKind, usize) {
        if is(self.at(end), IDENT_START) {
            return (TokenKind::Error(Fault::NumberJunk), self.run(end, IDENT));
        }
        (TokenKind::Number, end)
    }

    /// Digits with single underscores between them (and, after `0x`, before).
    fn digits(&self, from: usize, radix: u32, leading_underscore: bool) -> usize {
        let digit = |i: usize| char::from(self.at(i)).is_digit(radix);
        let mut at = from;
        loop {
            if digit(at) {
                at += 1;
            } else if self.at(at) == b'_' && digit(at + 1) && (at > from || leading_underscore) {
                at += 2;
            } else {
                return at;
            }
        }
    }
}
