//! Functions of text that PostgreSQL has and the engine has not, or has differently.

use chronos_model::{SqlState, Value};
use regex::Regex;

use super::definition::{bigint, lenient, strict, text, Call, Definition, VARIADIC};
use super::text::quote_literal;
use crate::system_tables::quote_ident;
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("__similar", (1, 2), text, |call| {
        let escape = match call.args.len() {
            2 => call.text(1)?,
            _ => "\\".to_owned(),
        };
        Ok(Value::Text(similar_pattern(&call.text(0)?, &escape)?))
    }),
    strict("__substring_pattern", (2, 2), text, |call| {
        let whole = call.text(0)?;
        let pattern = regex(&call.text(1)?)?;
        let Some(found) = pattern.captures(&whole) else {
            return Ok(Value::Null);
        };
        let group = if pattern.captures_len() > 1 { 1 } else { 0 };
        Ok(found
            .get(group)
            .map_or(Value::Null, |part| Value::Text(part.as_str().to_owned())))
    }),
    strict("__replacement", (1, 1), text, |call| {
        Ok(Value::Text(replacement(&call.text(0)?)))
    }),
    strict("regexp_substr", (2, 2), text, |call| {
        let whole = call.text(0)?;
        let found = regex(&call.text(1)?)?
            .find(&whole)
            .map(|m| m.as_str().to_owned());
        Ok(found.map_or(Value::Null, Value::Text))
    }),
    strict("octet_length", (1, 1), bigint, |call| {
        Ok(Value::Int8(match &call.args[0] {
            Value::Bytea(bytes) => bytes.len() as i64,
            _ => call.text(0)?.len() as i64,
        }))
    }),
    lenient("format", (1, VARIADIC), text, format),
    strict("chr", (1, 1), text, |call| {
        let code = call.int(0)?;
        if code == 0 {
            return Err(QueryError::new(
                SqlState::PROGRAM_LIMIT,
                "null character not permitted",
            ));
        }
        u32::try_from(code)
            .ok()
            .and_then(char::from_u32)
            .map(|c| Value::Text(c.to_string()))
            .ok_or_else(|| {
                QueryError::new(
                    SqlState::PROGRAM_LIMIT,
                    format!("requested character too large for encoding: {code}"),
                )
            })
    }),
];

fn regex(pattern: &str) -> Result<Regex, QueryError> {
    Regex::new(pattern).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.lines().last().unwrap_or_default();
        QueryError::new(
            SqlState("2201B"),
            format!(
                "invalid regular expression: {}",
                reason.trim_start_matches("error: ")
            ),
        )
    })
}

/// A pattern of SIMILAR TO as a regular expression for the whole text: `%` and `_` as in
/// LIKE, `| * + ? {} () []` as in regular expressions, everything else literal.
fn similar_pattern(pattern: &str, escape: &str) -> Result<String, QueryError> {
    let mut characters = escape.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        return Err(QueryError::new(SqlState("22019"), "invalid escape string"));
    }
    let mut written = String::from("^(?s:");
    let mut is_in_brackets = false;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if Some(c) == escape {
            let Some(literal) = rest.next() else {
                return Err(QueryError::new(
                    SqlState("22025"),
                    "SIMILAR TO pattern must not end with escape character",
                ));
            };
            if literal == '"' {
                return Err(QueryError::unsupported("escape-double-quote in SIMILAR TO"));
            }
            written.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            continue;
        }
        match c {
            ']' => {
                is_in_brackets = false;
                written.push(c);
            }
            // Within brackets these mean more to the engine than to SQL.
            '[' | '&' | '~' | '\\' if is_in_brackets => {
                written.push('\\');
                written.push(c);
            }
            _ if is_in_brackets => written.push(c),
            '[' => {
                is_in_brackets = true;
                written.push(c);
            }
            '%' => written.push_str(".*"),
            '_' => written.push('.'),
            // A group of SQL captures nothing.
            '(' => written.push_str("(?:"),
            '|' | ')' | '*' | '+' | '?' | '{' | '}' => written.push(c),
            literal => written.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    written.push_str(")$");
    Ok(written)
}

/// The replacement of `regexp_replace` for the engine, to which `$` means a group and `\&`
/// nothing.
fn replacement(given: &str) -> String {
    given.replace('$', "$$").replace("\\&", "\\0")
}

/// `format('%s %I %L', ..)`
fn format(call: &Call<'_>) -> Result<Value, QueryError> {
    if call.args[0].is_null() {
        return Ok(Value::Null);
    }
    let template = call.text(0)?;
    let mut out = String::new();
    let mut next = 1;
    let mut rest = template.as_str();
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(behind) = behind.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let (directive, behind) = Directive::read(behind)?;
        rest = behind;
        let position = directive.position.unwrap_or(next);
        next = position + 1;
        if position >= call.args.len() {
            return Err(QueryError::new(
                SqlState::INVALID_PARAMETER,
                "too few arguments for format()",
            ));
        }
        directive.write(call, position, &mut out)?;
    }
    out.push_str(rest);
    Ok(Value::Text(out))
}

struct Directive {
    position: Option<usize>,
    is_left: bool,
    width: usize,
    kind: char,
}

impl Directive {
    /// What stands behind a percent sign, and the rest.
    fn read(text: &str) -> Result<(Directive, &str), QueryError> {
        let invalid = |message: &str| QueryError::new(SqlState::INVALID_PARAMETER, message);
        let number = |text: &str| {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            (text[..digits].parse::<usize>().ok(), digits)
        };
        let mut rest = text;
        let mut position = None;
        let (first, digits) = number(rest);
        if let (Some(first), true) = (first, rest[digits..].starts_with('$')) {
            if first == 0 {
                return Err(invalid(
                    "format specifies argument 0, but arguments are numbered from 1",
                ));
            }
            position = Some(first);
            rest = &rest[digits + 1..];
        }
        let is_left = rest.starts_with('-');
        rest = rest.trim_start_matches('-');
        if rest.starts_with('*') {
            return Err(QueryError::unsupported(
                "a width from an argument in format()",
            ));
        }
        let (width, digits) = number(rest);
        rest = &rest[digits..];
        let kind = rest
            .chars()
            .next()
            .ok_or_else(|| invalid("unterminated format() type specifier"))?;
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(invalid(&format!(
                "unrecognized format() type specifier \"{kind}\""
            )));
        }
        let directive = Directive {
            position,
            is_left,
            // A width beyond this would only exhaust the memory.
            width: width.unwrap_or(0).min(1 << 20),
            kind,
        };
        Ok((directive, &rest[1..]))
    }

    fn write(&self, call: &Call<'_>, position: usize, out: &mut String) -> Result<(), QueryError> {
        let is_null = call.args[position].is_null();
        let shown = match self.kind {
            'I' if is_null => {
                return Err(QueryError::new(
                    SqlState("22004"),
                    "null values cannot be formatted as an SQL identifier",
                ))
            }
            'I' => quote_ident(&call.text(position)?),
            'L' if is_null => "NULL".to_owned(),
            'L' => quote_literal(&call.text(position)?),
            _ if is_null => String::new(),
            _ => call.text(position)?,
        };
        let padding = " ".repeat(self.width.saturating_sub(shown.chars().count()));
        if self.is_left {
            out.push_str(&shown);
            out.push_str(&padding);
        } else {
            out.push_str(&padding);
            out.push_str(&shown);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_to_is_neither_like_nor_a_regular_expression() {
        let is_match = |text: &str, pattern: &str| {
            Regex::new(&similar_pattern(pattern, "\\").unwrap())
                .unwrap()
                .is_match(text)
        };
        assert!(is_match("abc", "a(b|x)c"));
        assert!(is_match("abc", "a%"));
        assert!(is_match("abc", "[a-c]{3}"));
        assert!(!is_match("abc", "b"));
        assert!(!is_match("abc", "a.c"));
        assert!(!is_match("ab", "a\\%"));
        assert!(is_match("b", "a|b"));
        assert!(similar_pattern("a\\", "\\").is_err());
    }

    #[test]
    fn replacements_are_those_of_postgresql() {
        assert_eq!(replacement("[\\&] $1"), "[\\0] $$1");
    }
}
