//! Functions that write SQL and sizes.

use chronos_model::{SqlState, Value};

use super::definition::{lenient, strict, text, Call, Definition};
use crate::system_tables::quote_ident;
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("quote_ident", (1, 1), text, |call| {
        Ok(Value::Text(quote_ident(&call.text(0)?)))
    }),
    strict("quote_literal", (1, 1), text, |call| {
        Ok(Value::Text(quote_literal(&call.text(0)?)))
    }),
    lenient("quote_nullable", (1, 1), text, |call| match &call.args[0] {
        Value::Null => Ok(Value::Text("NULL".into())),
        _ => Ok(Value::Text(quote_literal(&call.text(0)?))),
    }),
    strict("__like_pattern", (2, 2), text, like_pattern),
    strict("pg_size_pretty", (1, 1), text, pretty_size),
];

/// A string constant; one with backslashes in the escape form.
pub(super) fn quote_literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A pattern of LIKE with another escape character, or none, as one with backslashes.
fn like_pattern(call: &Call<'_>) -> Result<Value, QueryError> {
    let (pattern, escape) = (call.text(0)?, call.text(1)?);
    let mut characters = escape.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        let error = QueryError::new(SqlState("22019"), "invalid escape string");
        return Err(error.with_hint("Escape string must be empty or one character."));
    }
    let mut written = String::with_capacity(pattern.len() + 4);
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if Some(c) == escape {
            let Some(literal) = rest.next() else {
                return Err(QueryError::new(
                    SqlState("22025"),
                    "LIKE pattern must not end with escape character",
                ));
            };
            written.push('\\');
            written.push(literal);
        } else if c == '\\' {
            written.push_str("\\\\");
        } else {
            written.push(c);
        }
    }
    Ok(Value::Text(written))
}

/// Bytes in the largest unit in which they are below 10 240, rounded.
fn pretty_size(call: &Call<'_>) -> Result<Value, QueryError> {
    let bytes = call.int(0)?;
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if size.abs() < 10_240.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    Ok(Value::Text(format!("{} {unit}", size.round() as i64)))
}
