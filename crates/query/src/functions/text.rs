//! Functions that write SQL and sizes.

use chronos_model::Value;

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
    strict("pg_size_pretty", (1, 1), text, pretty_size),
];

/// A string constant; one with backslashes in the escape form.
fn quote_literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
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
