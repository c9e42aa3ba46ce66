//! Parts of a JSON text as slices of it.

use std::borrow::Cow;

use chronos_model::SqlState;

use super::malformed;
use crate::QueryError;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Kind {
    /// As `jsonb_typeof` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Null => "null",
        }
    }

    pub(crate) fn is_scalar(self) -> bool {
        !matches!(self, Kind::Object | Kind::Array)
    }
}

/// The kind of a value, told by its first character.
pub(crate) fn kind(json: &str) -> Kind {
    match json.trim_start().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// Where the value that begins at `start` ends.
fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + depth,
            b'}' | b']' => depth -= 1,
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Takes values from a text, one after the other.
#[derive(Clone)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Within the brackets of an array or object; of anything else, at the end.
    fn within(json: &'a str, open: u8) -> Cursor<'a> {
        let text = json.trim();
        let at = match text.as_bytes().first() {
            Some(first) if *first == open => 1,
            _ => text.len(),
        };
        Cursor { text, at }
    }

    /// The next value, over blanks and one of `, :`.
    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = bytes.get(self.at) {
            self.at += 1;
        }
        if matches!(bytes.get(self.at), None | Some(b']' | b'}')) {
            return None;
        }
        let start = self.at;
        self.at = value_end(bytes, start);
        self.text.get(start..self.at)
    }
}

/// The items of an array; none of anything else.
pub(crate) fn items(json: &str) -> impl Iterator<Item = &str> {
    let mut cursor = Cursor::within(json, b'[');
    std::iter::from_fn(move || cursor.next())
}

/// The members of an object, keys in quotes; none of anything else.
pub(crate) fn members(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut cursor = Cursor::within(json, b'{');
    std::iter::from_fn(move || Some((cursor.next()?, cursor.next()?)))
}

/// A string without its quotes and escapes.
///
/// Errors with 22P05 for the zero character, which a text cannot hold.
pub(crate) fn unquoted(string: &str) -> Result<Cow<'_, str>, QueryError> {
    let inner = string
        .strip_prefix('"')
        .and_then(|s| s.strip_suffix('"'))
        .ok_or_else(malformed)?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let plain: String = serde_json::from_str(string).map_err(|_| malformed())?;
    if plain.contains('\0') {
        return Err(QueryError::new(
            SqlState("22P05"),
            "unsupported Unicode escape sequence",
        ));
    }
    Ok(Cow::Owned(plain))
}

/// `json -> 'key'`: of equal keys the last.
pub(crate) fn get<'a>(json: &'a str, key: &str) -> Result<Option<&'a str>, QueryError> {
    let mut found = None;
    for (name, value) in members(json) {
        if unquoted(name)? == key {
            found = Some(value);
        }
    }
    Ok(found)
}

/// `json -> n`, from 0; below 0 from the end.
pub(crate) fn get_position(json: &str, position: i64) -> Option<&str> {
    match usize::try_from(position) {
        Ok(position) => items(json).nth(position),
        Err(_) => {
            let from_end = usize::try_from(position.unsigned_abs()).ok()?;
            let length = items(json).count();
            items(json).nth(length.checked_sub(from_end)?)
        }
    }
}

/// `json #> path`; a NULL in the path finds nothing.
pub(crate) fn get_path<'a>(
    json: &'a str,
    path: &[Option<&str>],
) -> Result<Option<&'a str>, QueryError> {
    let mut at = json.trim();
    for step in path {
        let Some(step) = step else {
            return Ok(None);
        };
        let found = match kind(at) {
            Kind::Object => get(at, step)?,
            Kind::Array => step
                .parse::<i32>()
                .ok()
                .and_then(|n| get_position(at, i64::from(n))),
            _ => None,
        };
        match found {
            Some(found) => at = found,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// A value as `->>` gives it: strings without quotes, null as NULL.
pub(crate) fn scalar_text(json: &str) -> Result<Option<Cow<'_, str>>, QueryError> {
    let json = json.trim();
    match kind(json) {
        Kind::Null => Ok(None),
        Kind::String => unquoted(json).map(Some),
        _ => Ok(Some(Cow::Borrowed(json))),
    }
}
