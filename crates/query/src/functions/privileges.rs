//! `has_table_privilege` and its like: what a user may do, by its role.
//!
//! All take an optional user first, by name or object id; without, they speak of the session's.
//! Of several privileges (`'SELECT, INSERT'`) one is enough. Only an admin may grant.

use chronos_model::{Role, SqlState, Value};

use super::definition::{boolean, strict, undefined, Call, Definition};
use crate::system_tables::{is_system, relation_name, relation_oid};
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("has_database_privilege", (2, 3), boolean, |call| {
        has(call, 2, DATABASE)
    }),
    strict("has_schema_privilege", (2, 3), boolean, |call| {
        has(call, 2, SCHEMA)
    }),
    strict("has_table_privilege", (2, 3), boolean, of_table),
    strict("has_any_column_privilege", (2, 3), boolean, of_table),
    strict("has_column_privilege", (3, 4), boolean, |call| {
        of_relation(call, 3)
    }),
    strict("has_function_privilege", (2, 3), boolean, |call| {
        has(call, 2, FUNCTION)
    }),
    strict("has_sequence_privilege", (2, 3), boolean, |call| {
        has(call, 2, SEQUENCE)
    }),
    strict("has_tablespace_privilege", (2, 3), boolean, |call| {
        has(call, 2, TABLESPACE)
    }),
    strict("has_type_privilege", (2, 3), boolean, |call| {
        has(call, 2, TYPE)
    }),
    strict("pg_has_role", (2, 3), boolean, pg_has_role),
];

/// Privileges, and the least role that has each; `None`: everybody has it.
type Privileges = &'static [(&'static str, Option<Role>)];

const DATABASE: Privileges = &[
    ("CONNECT", None),
    ("CREATE", Some(Role::Admin)),
    ("TEMPORARY", Some(Role::Admin)),
    ("TEMP", Some(Role::Admin)),
];
const SCHEMA: Privileges = &[("USAGE", None), ("CREATE", Some(Role::Admin))];
const TABLE: Privileges = &[
    ("SELECT", Some(Role::ReadOnly)),
    ("INSERT", Some(Role::ReadWrite)),
    ("UPDATE", Some(Role::ReadWrite)),
    ("DELETE", Some(Role::ReadWrite)),
    ("TRUNCATE", Some(Role::ReadWrite)),
    ("REFERENCES", Some(Role::Admin)),
    ("TRIGGER", Some(Role::Admin)),
];
const SEQUENCE: Privileges = &[
    ("SELECT", Some(Role::ReadOnly)),
    ("USAGE", Some(Role::ReadWrite)),
    ("UPDATE", Some(Role::ReadWrite)),
];
const FUNCTION: Privileges = &[("EXECUTE", None)];
const TABLESPACE: Privileges = &[("CREATE", Some(Role::Admin))];
const TYPE: Privileges = &[("USAGE", None)];

/// What the user may do whom a function is asked about.
fn role_of(call: &Call<'_>, without_user: usize) -> Result<Option<Role>, QueryError> {
    if call.args.len() <= without_user {
        return Ok(call.scope.facts.role);
    }
    Ok(named(call, 0)?.1)
}

/// Name and role of the user or role that an argument names.
fn named(call: &Call<'_>, at: usize) -> Result<(String, Option<Role>), QueryError> {
    let objects = call.scope.objects();
    let found = match &call.args[at] {
        Value::Text(name) => objects.role_named(name).or_else(|| {
            let role = Role::of_name(name)?;
            objects.role_named(role.name())
        }),
        _ => objects.role_of_oid(call.int(at)?),
    };
    let found = found.ok_or_else(|| match &call.args[at] {
        Value::Text(name) => undefined("role", name),
        _ => undefined("role", "of that number"),
    })?;
    Ok((found.name.to_owned(), found.role))
}

fn has(call: &Call<'_>, arguments: usize, privileges: Privileges) -> Result<Value, QueryError> {
    let role = role_of(call, arguments)?;
    let asked = call.text(call.args.len() - 1)?;
    let mut any = false;
    for one in asked.split(',') {
        let one = one.trim().to_ascii_uppercase();
        let (name, grants) = match one.strip_suffix(" WITH GRANT OPTION") {
            Some(name) => (name.trim_end(), true),
            None => (one.as_str(), false),
        };
        let Some((_, least)) = privileges.iter().find(|(known, _)| *known == name) else {
            let message = format!("unrecognized privilege type: \"{name}\"");
            return Err(QueryError::new(SqlState::INVALID_PARAMETER, message));
        };
        let least = if grants { Some(Role::Admin) } else { *least };
        any |= role >= least;
    }
    Ok(Value::Bool(any))
}

fn of_table(call: &Call<'_>) -> Result<Value, QueryError> {
    of_relation(call, 2)
}

/// Everybody reads the system tables, and nobody writes them.
fn of_relation(call: &Call<'_>, arguments: usize) -> Result<Value, QueryError> {
    let at = call.args.len() - arguments;
    let objects = call.scope.objects();
    let oid = match &call.args[at] {
        Value::Text(name) => {
            relation_oid(&objects, name)?.ok_or_else(|| QueryError::unknown_table(name))?
        }
        _ => call.int(at)?,
    };
    let Some(name) = relation_name(&objects, oid) else {
        return Ok(Value::Null);
    };
    let name = name.trim_start_matches("information_schema.");
    let is_own = objects.table(oid).is_some() || call.scope.catalog.has_relation(name);
    if !is_own && is_system(None, name) {
        let asked = call.text(call.args.len() - 1)?.to_ascii_uppercase();
        has(call, arguments, TABLE)?;
        return Ok(Value::Bool(asked.split(',').any(|p| p.trim() == "SELECT")));
    }
    has(call, arguments, TABLE)
}

/// Whether the user is that role or has it; an admin has all.
fn pg_has_role(call: &Call<'_>) -> Result<Value, QueryError> {
    let user = match call.args.len() {
        2 => (call.scope.facts.user.clone(), call.scope.facts.role),
        _ => named(call, 0)?,
    };
    let wanted = named(call, call.args.len() - 2)?;
    let is_built_in = Role::of_name(&wanted.0).is_some();
    let has =
        user.0 == wanted.0 || user.1 == Some(Role::Admin) || (is_built_in && user.1 >= wanted.1);
    Ok(Value::Bool(has))
}
