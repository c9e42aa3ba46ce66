//! Functions about the session and the server.

use chronos_model::{DataType, SqlState, Value};

use super::definition::{bigint, boolean, oid, strict, text, Arguments, Call, Definition};
use crate::system_tables::setting;
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("version", (0, 0), text, |_| {
        constant(concat!(
            "PostgreSQL 15.0 (Chronos ",
            env!("CARGO_PKG_VERSION"),
            ")"
        ))
    }),
    strict("current_database", (0, 0), text, database),
    strict("current_catalog", (0, 0), text, database),
    strict("current_user", (0, 0), text, user),
    strict("session_user", (0, 0), text, user),
    strict("current_role", (0, 0), text, user),
    strict("user", (0, 0), text, user),
    strict("current_schema", (0, 0), text, |call| {
        let path = call.scope.facts.path(&call.scope.catalog);
        Ok(path.into_iter().next().map_or(Value::Null, Value::Text))
    }),
    strict("current_schemas", (1, 1), names, current_schemas),
    strict("pg_backend_pid", (0, 0), oid, |_| Ok(Value::Int4(1))),
    strict("pg_is_in_recovery", (0, 0), boolean, |_| {
        Ok(Value::Bool(false))
    }),
    strict("pg_is_wal_replay_paused", (0, 0), boolean, |_| {
        Ok(Value::Bool(false))
    }),
    strict("pg_my_temp_schema", (0, 0), oid, |_| Ok(Value::Int4(0))),
    strict("pg_is_other_temp_schema", (1, 1), boolean, |_| {
        Ok(Value::Bool(false))
    }),
    strict("pg_conf_load_time", (0, 0), timestamptz, |_| {
        Ok(Value::Null)
    }),
    strict("pg_postmaster_start_time", (0, 0), timestamptz, |_| {
        Ok(Value::Null)
    }),
    strict("inet_server_addr", (0, 0), text, |_| Ok(Value::Null)),
    strict("inet_server_port", (0, 0), oid, |_| Ok(Value::Null)),
    strict("inet_client_addr", (0, 0), text, |_| Ok(Value::Null)),
    strict("inet_client_port", (0, 0), oid, |_| Ok(Value::Null)),
    strict("current_setting", (1, 2), text, current_setting),
    strict("set_config", (3, 3), text, set_config),
    strict("pg_advisory_lock", (1, 2), text, |_| {
        refuse("pg_advisory_lock")
    }),
    strict("pg_try_advisory_lock", (1, 2), boolean, |_| {
        refuse("pg_try_advisory_lock")
    }),
    strict("pg_advisory_unlock_all", (0, 0), text, |_| constant("")),
    strict("pg_encoding_to_char", (1, 1), text, |call| {
        constant(if call.int(0)? == 6 { "UTF8" } else { "" })
    }),
    strict("pg_char_to_encoding", (1, 1), oid, |call| {
        Ok(Value::Int4(
            if call.text(0)?.to_ascii_lowercase().replace('-', "") == "utf8" {
                6
            } else {
                -1
            },
        ))
    }),
    strict("pg_client_encoding", (0, 0), text, |_| constant("UTF8")),
    strict("pg_database_size", (1, 1), bigint, |_| Ok(Value::Null)),
    strict("pg_tablespace_size", (1, 1), bigint, |_| Ok(Value::Null)),
];

fn names(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Array(Box::new(DataType::Text)))
}

fn timestamptz(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::TimestampTz)
}

fn constant(value: &str) -> Result<Value, QueryError> {
    Ok(Value::Text(value.to_owned()))
}

fn refuse(name: &str) -> Result<Value, QueryError> {
    Err(QueryError::unsupported(format!("the function {name}")))
}

fn database(call: &Call<'_>) -> Result<Value, QueryError> {
    Ok(Value::Text(call.scope.facts.database.clone()))
}

fn user(call: &Call<'_>) -> Result<Value, QueryError> {
    Ok(Value::Text(call.scope.facts.user.clone()))
}

fn current_schemas(call: &Call<'_>) -> Result<Value, QueryError> {
    let implicit = call.is_true(0).then_some("pg_catalog");
    Ok(Value::Array(
        implicit
            .into_iter()
            .map(str::to_owned)
            .chain(call.scope.facts.path(&call.scope.catalog))
            .map(Value::Text)
            .collect(),
    ))
}

/// What the session has SET, else the value with which sessions begin (see
/// `system_tables::settings`).
fn current_setting(call: &Call<'_>) -> Result<Value, QueryError> {
    let name = call.text(0)?.to_ascii_lowercase();
    if let Some(value) = call.scope.settings.changed.get(&name) {
        return constant(value);
    }
    match setting(&name) {
        Some(value) => constant(value),
        None if call.is_true(1) => Ok(Value::Null),
        None => {
            let message = format!("unrecognized configuration parameter \"{name}\"");
            Err(QueryError::new(SqlState::UNDEFINED_OBJECT, message))
        }
    }
}

/// Takes effect with the session's next statement; LOCAL is like SET LOCAL.
fn set_config(call: &Call<'_>) -> Result<Value, QueryError> {
    let name = call.text(0)?.to_ascii_lowercase();
    let settings = &call.scope.settings;
    let value = (settings.check)(&name, &call.text(1)?)?;
    let is_local = matches!(call.args.get(2), Some(Value::Bool(true)));
    let mut written = settings.written.lock();
    written.push((name, value.clone(), is_local));
    Ok(Value::Text(value))
}
