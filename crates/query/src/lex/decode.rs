//! What quoted text means: identifiers folded and unquoted, escapes resolved.

use std::borrow::Cow;

use super::scan::continuation;
use super::{Fault, StringKind, Token, TokenKind};

/// The name a token stands for: a word folded to lower case (ASCII letters only,
/// as PostgreSQL does in UTF-8), a quoted identifier without its quotes. Of a
/// token that is no name, its text.
pub fn ident<'a>(token: &Token, sql: &'a str) -> Cow<'a, str> {
    let text = token.text(sql);
    match token.kind {
        TokenKind::Word if text.bytes().any(|b| b.is_ascii_uppercase()) => {
            Cow::Owned(text.to_ascii_lowercase())
        }
        TokenKind::QuotedIdent => undouble(inner(text, 1, 1)),
        TokenKind::UnicodeIdent => unicode_name(text).unwrap_or(Cow::Borrowed(text)),
        _ => Cow::Borrowed(text),
    }
}

/// The value of a string constant. Of `B'..'` and `X'..'` it is their digits, of
/// `U&'..'` the text with `\` as the escape character. Of a token that is no
/// string, its text.
pub fn unescape_string<'a>(token: &Token, sql: &'a str) -> Cow<'a, str> {
    let text = token.text(sql);
    match token.string_kind(sql) {
        // The scanner has checked the escapes of every token of kind String.
        Some(kind) => string_value(text, kind).unwrap_or(Cow::Borrowed(text)),
        None => Cow::Borrowed(text),
    }
}

pub(super) fn string_value(text: &str, kind: StringKind) -> Result<Cow<'_, str>, Fault> {
    match kind {
        StringKind::Dollar => {
            let tag = text.match_indices('$').nth(1).map_or(0, |(at, _)| at + 1);
            Ok(Cow::Borrowed(inner(text, tag, tag)))
        }
        StringKind::Plain => Ok(parts(text, 1)),
        StringKind::Bit | StringKind::Hex => Ok(parts(text, 2)),
        StringKind::Unicode => unicode_escapes(parts(text, 3)),
        StringKind::Escape => backslash_escapes(text),
    }
}

pub(super) fn unicode_name(text: &str) -> Result<Cow<'_, str>, Fault> {
    unicode_escapes(undouble(inner(text, 3, 1)))
}

fn inner(text: &str, front: usize, back: usize) -> &str {
    text.get(front..text.len().saturating_sub(back))
        .unwrap_or("")
}

fn undouble(text: &str) -> Cow<'_, str> {
    if text.contains("\"\"") {
        Cow::Owned(text.replace("\"\"", "\""))
    } else {
        Cow::Borrowed(text)
    }
}

/// The body of a string without backslash escapes: `''` is a quote, any other
/// inner quote ends a part.
fn parts(text: &str, front: usize) -> Cow<'_, str> {
    let body = inner(text, front, 1);
    if !body.as_bytes().contains(&b'\'') {
        return Cow::Borrowed(body);
    }
    let bytes = text.as_bytes();
    let mut value = String::with_capacity(text.len());
    let mut from = front;
    while let Some(quote) = text.get(from..).and_then(|t| t.find('\'')) {
        let quote = from + quote;
        value.push_str(&text[from..quote]);
        if bytes.get(quote + 1) == Some(&b'\'') {
            value.push('\'');
            from = quote + 2;
        } else {
            match continuation(bytes, quote + 1) {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    Cow::Owned(value)
}

/// The body of an `E'..'` string.
fn backslash_escapes(text: &str) -> Result<Cow<'_, str>, Fault> {
    let body = inner(text, 2, 1);
    if !body.bytes().any(|b| matches!(b, b'\'' | b'\\')) {
        return Ok(Cow::Borrowed(body));
    }
    let bytes = text.as_bytes();
    let mut value: Vec<u8> = Vec::with_capacity(text.len());
    let mut at = 2;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => {
                value.push(b'\'');
                at += 2;
            }
            b'\'' => match continuation(bytes, at + 1) {
                Some(next) => at = next,
                None => break,
            },
            b'\\' => at = escape(bytes, at, &mut value)?,
            _ => {
                value.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(value)
        .ok()
        .filter(|s| !s.contains('\0'))
        .map(Cow::Owned)
        .ok_or(Fault::BadUtf8)
}

/// Resolves the escape at `bytes[at]`, a backslash, and returns where it ends.
fn escape(bytes: &[u8], at: usize, value: &mut Vec<u8>) -> Result<usize, Fault> {
    let Some(&letter) = bytes.get(at + 1) else {
        return Ok(at + 1);
    };
    let digits = |from: usize, radix: u32, max: usize| {
        bytes[from..]
            .iter()
            .take(max)
            .take_while(|b| char::from(**b).is_digit(radix))
            .count()
    };
    match letter {
        b'b' => value.push(8),
        b'f' => value.push(12),
        b'n' => value.push(b'\n'),
        b'r' => value.push(b'\r'),
        b't' => value.push(b'\t'),
        b'v' => value.push(11),
        b'0'..=b'7' => {
            let count = digits(at + 1, 8, 3);
            value.push(number(&bytes[at + 1..at + 1 + count], 8) as u8);
            return Ok(at + 1 + count);
        }
        b'x' if digits(at + 2, 16, 2) > 0 => {
            let count = digits(at + 2, 16, 2);
            value.push(number(&bytes[at + 2..at + 2 + count], 16) as u8);
            return Ok(at + 2 + count);
        }
        b'u' | b'U' => {
            let (c, end) = backslash_unicode(bytes, at)?;
            value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(end);
        }
        other => value.push(other),
    }
    Ok(at + 2)
}

/// `\uXXXX` or `\UXXXXXXXX` at `at`; two of them may make a surrogate pair.
fn backslash_unicode(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let unit = |at: usize| -> Option<(u32, usize)> {
        let count = match bytes.get(at..at + 2)? {
            b"\\u" => 4,
            b"\\U" => 8,
            _ => return None,
        };
        let digits = bytes.get(at + 2..at + 2 + count)?;
        let all = digits.iter().all(u8::is_ascii_hexdigit);
        all.then(|| (number(digits, 16), at + 2 + count))
    };
    let (first, end) = unit(at).ok_or(Fault::BadEscape)?;
    let (code, end) = surrogates(first, || unit(end)).unwrap_or((first, end));
    Ok((character(code)?, end))
}

fn character(code: u32) -> Result<char, Fault> {
    match char::from_u32(code) {
        Some('\0') => Err(Fault::BadEscapeValue),
        Some(c) => Ok(c),
        None if (0xd800..0xe000).contains(&code) => Err(Fault::BadSurrogatePair),
        None => Err(Fault::BadEscapeValue),
    }
}

fn surrogates(first: u32, second: impl FnOnce() -> Option<(u32, usize)>) -> Option<(u32, usize)> {
    if !(0xd800..0xdc00).contains(&first) {
        return None;
    }
    let (second, end) = second()?;
    (0xdc00..0xe000)
        .contains(&second)
        .then(|| (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), end))
}

fn number(digits: &[u8], radix: u32) -> u32 {
    digits.iter().fold(0u32, |n, d| {
        let digit = char::from(*d).to_digit(radix).unwrap_or(0);
        n.wrapping_mul(radix).wrapping_add(digit)
    })
}

/// Resolves `\XXXX`, `\+XXXXXX` and `\\`.
fn unicode_escapes(text: Cow<'_, str>) -> Result<Cow<'_, str>, Fault> {
    if !text.contains('\\') {
        return Ok(text);
    }
    let bytes = text.as_bytes();
    let unit = |at: usize| -> Option<(u32, usize)> {
        let (skip, count) = match (bytes.get(at)?, bytes.get(at + 1)?) {
            (b'\\', b'+') => (2, 6),
            (b'\\', _) => (1, 4),
            _ => return None,
        };
        let digits = bytes.get(at + skip..at + skip + count)?;
        let all = digits.iter().all(u8::is_ascii_hexdigit);
        all.then(|| (number(digits, 16), at + skip + count))
    };
    let mut value = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = text[from..].find('\\').map(|b| from + b) {
        value.push_str(&text[from..at]);
        if bytes.get(at + 1) == Some(&b'\\') {
            value.push('\\');
            from = at + 2;
            continue;
        }
        let (first, end) = unit(at).ok_or(Fault::BadEscape)?;
        let (code, end) = surrogates(first, || unit(end)).unwrap_or((first, end));
        value.push(character(code)?);
        from = end;
    }
    value.push_str(&text[from..]);
    Ok(Cow::Owned(value))
}
