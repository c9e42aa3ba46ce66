//! Arrays (`{1,NULL,"a b"}`) and vectors (`[1,2.5]`).

use ::bytes::BufMut;

use super::fault::Fault;
use super::number::{parse_f32, write_f32};
use crate::value::check_dimensions;
use crate::{DataError, DataType, Value};

/// Reads a one-dimensional array of `item`.
pub(super) fn parse_array(item: &DataType, text: &str) -> Result<Value, DataError> {
    let invalid = || Fault::Syntax.named(&format!("{item}[]"), text.as_bytes());
    let inner = text
        .trim_ascii()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or_else(invalid)?;
    let mut items = Vec::new();
    if inner.trim_ascii().is_empty() {
        return Ok(Value::Array(items));
    }
    let mut rest = inner;
    let mut unescaped = String::new();
    loop {
        let token = Token::read(&mut rest, &mut unescaped).ok_or_else(invalid)?;
        items.push(match token {
            Token::Nested => {
                return Err(DataError::InvalidType {
                    reason: "arrays of more than one dimension are not supported".into(),
                })
            }
            Token::Plain if unescaped.eq_ignore_ascii_case("null") => Value::Null,
            Token::Plain | Token::Quoted => super::parse(item, &unescaped)?,
        });
        match rest.as_bytes().first() {
            None => return Ok(Value::Array(items)),
            Some(b',') => rest = &rest[1..],
            Some(_) => return Err(invalid()),
        }
    }
}

/// How an item was written; its unescaped text stands beside.
enum Token {
    Plain,
    Quoted,
    Nested,
}

impl Token {
    /// Takes an item and the blanks around it from the front of `rest`.
    fn read(rest: &mut &str, unescaped: &mut String) -> Option<Token> {
        unescaped.clear();
        let text = rest.trim_start_matches(is_blank);
        if text.starts_with('{') {
            return Some(Token::Nested);
        }
        let (token, after) = match text.strip_prefix('"') {
            Some(quoted) => (Token::Quoted, read_quoted(quoted, unescaped)?),
            None => (Token::Plain, read_plain(text, unescaped)?),
        };
        *rest = after.trim_start_matches(is_blank);
        Some(token)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Reads up to the closing quote and gives what follows it.
fn read_quoted<'a>(text: &'a str, unescaped: &mut String) -> Option<&'a str> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some(&text[at + 1..]),
            '\\' => unescaped.push(chars.next()?.1),
            c => unescaped.push(c),
        }
    }
    None
}

/// Reads up to the next comma; trailing blanks do not count unless escaped.
fn read_plain<'a>(text: &'a str, unescaped: &mut String) -> Option<&'a str> {
    let mut chars = text.char_indices();
    let mut kept = 0;
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' => {
                end = at;
                break;
            }
            '"' | '{' | '}' => return None,
            '\\' => {
                unescaped.push(chars.next()?.1);
                kept = unescaped.len();
            }
            c => {
                unescaped.push(c);
                if !is_blank(c) {
                    kept = unescaped.len();
                }
            }
        }
    }
    unescaped.truncate(kept);
    (kept > 0).then_some(&text[end..])
}

pub(super) fn write_array(items: &[Value], out: &mut Vec<u8>) {
    let mut text = Vec::new();
    out.push(b'{');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if item.is_null() {
            out.extend_from_slice(b"NULL");
            continue;
        }
        text.clear();
        super::write(item, &mut text);
        // An array within an array is a further dimension, not a text.
        match item {
            Value::Array(_) => out.extend_from_slice(&text),
            _ => write_array_item(&text, out),
        }
    }
    out.push(b'}');
}

/// Whether an item's text must stand in quotes within an array.
pub fn is_array_item_quoted(text: &[u8]) -> bool {
    text.is_empty()
        || text.eq_ignore_ascii_case(b"null")
        || text.iter().any(|b| {
            matches!(
                b,
                b'{' | b'}' | b',' | b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c
            )
        })
}

/// Appends the text of an array's item, in quotes if it needs them.
pub fn write_array_item(text: &[u8], out: &mut impl BufMut) {
    if !is_array_item_quoted(text) {
        out.put_slice(text);
        return;
    }
    out.put_u8(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}

/// Reads a vector; `dimensions` 0 takes any length.
pub(super) fn parse_vector(text: &str, dimensions: u32) -> Result<Value, DataError> {
    let invalid = || Fault::Syntax.named("vector", text.as_bytes());
    let inner = text
        .trim_ascii()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or_else(invalid)?;
    let items = inner
        .split(',')
        .map(|item| match parse_f32(item.as_bytes()) {
            Ok(value) if value.is_finite() => Ok(value),
            Err(error @ DataError::OutOfRange { .. }) => Err(error),
            _ => Err(invalid()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    check_dimensions(items, dimensions)
}

/// Appends a vector.
pub fn write_vector(items: &[f32], out: &mut impl BufMut) {
    out.put_u8(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        write_f32(*item, out);
    }
    out.put_u8(b']');
}
