//! Functions that tools ask about the server and its objects, beside those that name objects
//! ([`super::catalog`]): mostly about what a node has none of.

use chronos_model::{DataType, SqlState, Value};

use super::definition::{bigint, boolean, oid, strict, text, Arguments, Call, Definition};
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("getdatabaseencoding", (0, 0), text, |_| {
        Ok(Value::Text("UTF8".into()))
    }),
    // Nobody waits for a lock.
    strict("pg_blocking_pids", (1, 1), numbers, |_| {
        Ok(Value::Array(vec![]))
    }),
    // None is held: none can be taken.
    strict("pg_advisory_unlock", (1, 2), boolean, |_| {
        Ok(Value::Bool(false))
    }),
    strict("pg_stat_get_live_tuples", (1, 1), bigint, zero),
    strict("pg_stat_get_dead_tuples", (1, 1), bigint, zero),
    strict("pg_stat_get_db_xact_commit", (1, 1), bigint, zero),
    strict("pg_stat_get_db_xact_rollback", (1, 1), bigint, zero),
    strict("parse_ident", (1, 2), texts, parse_ident),
    strict("__regoper_oid", (1, 1), oid, operator),
    strict("__regoper_name", (1, 1), text, |call| {
        operator(call).map(|found| match found {
            Value::Int8(0) => Value::Text("0".into()),
            Value::Int8(number) => Value::Text(number.to_string()),
            other => other,
        })
    }),
    strict("__subscripts_from_zero", (2, 2), numbers, |call| {
        let Value::Array(items) = &call.args[0] else {
            return Ok(Value::Null);
        };
        let count = match call.int(1)? {
            1 => items.len() as i64,
            _ => 0,
        };
        Ok(Value::Array((0..count).map(Value::Int8).collect()))
    }),
];

fn numbers(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Array(Box::new(DataType::Int4)))
}

fn texts(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Array(Box::new(DataType::Text)))
}

fn zero(_: &Call<'_>) -> Result<Value, QueryError> {
    Ok(Value::Int8(0))
}

/// Operators are no objects here: a number stays one.
fn operator(call: &Call<'_>) -> Result<Value, QueryError> {
    let written = match call.args.first() {
        Some(Value::Text(written)) => written.trim(),
        _ => return Ok(Value::Int8(call.int(0)?)),
    };
    written.parse().map(Value::Int8).map_err(|_| {
        QueryError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("operator does not exist: {written}"),
        )
    })
}

/// The parts of a dotted name.
fn parse_ident(call: &Call<'_>) -> Result<Value, QueryError> {
    let parts = crate::system_tables::name_parts(&call.text(0)?)?;
    Ok(Value::Array(parts.into_iter().map(Value::Text).collect()))
}
