//! `nextval` and its like. What they do is the session's business: it comes with its settings
//! when a plan is run.

use chronos_model::{SequenceSchema, SqlState, Value};

use super::definition::{bigint, strict, Call, Definition};
use crate::engine::SequenceCall;
use crate::system_tables::{relation_oid, table_oid};
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("nextval", (1, 1), bigint, |call| {
        let sequence = sequence(call)?;
        asked(call, SequenceCall::Next(sequence.id))?.ok_or_else(no_number)
    }),
    strict("currval", (1, 1), bigint, |call| {
        let sequence = sequence(call)?;
        asked(call, SequenceCall::Current(sequence.id))?.ok_or_else(|| {
            let message = format!(
                "currval of sequence \"{}\" is not yet defined in this session",
                sequence.name
            );
            QueryError::new(SqlState("55000"), message)
        })
    }),
    strict("lastval", (0, 0), bigint, |call| {
        asked(call, SequenceCall::Last)?.ok_or_else(|| {
            QueryError::new(
                SqlState("55000"),
                "lastval is not yet defined in this session",
            )
        })
    }),
    strict("setval", (2, 3), bigint, |call| {
        let sequence = sequence(call)?;
        let value = call.int(1)?;
        if !sequence.holds(value) {
            let message = format!(
                "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                sequence.name, sequence.min, sequence.max
            );
            return Err(QueryError::new(SqlState("22003"), message));
        }
        let called = call.args.len() < 3 || call.is_true(2);
        asked(call, SequenceCall::Set(sequence.id, value, called))?.ok_or_else(no_number)
    }),
];

/// Their names, and that of nothing else that is another at each call.
pub(crate) const NAMES: [&str; 4] = ["nextval", "currval", "lastval", "setval"];

fn asked(call: &Call<'_>, what: SequenceCall) -> Result<Option<Value>, QueryError> {
    match &call.scope.settings.sequences {
        Some(sequences) => Ok(sequences(what)?.map(Value::Int8)),
        None => Err(QueryError::unsupported("a sequence outside of a session")),
    }
}

fn no_number() -> QueryError {
    QueryError::new(SqlState::INTERNAL, "a sequence gave no number")
}

/// The sequence that the first argument names, or is the object id of.
fn sequence<'a>(call: &Call<'a>) -> Result<&'a SequenceSchema, QueryError> {
    let objects = call.scope.objects();
    let oid = match call.args.first() {
        Some(Value::Text(name)) => {
            relation_oid(&objects, name)?.ok_or_else(|| QueryError::unknown_table(name))?
        }
        _ => call.int(0)?,
    };
    let catalog = &call.scope.catalog;
    if let Some(found) = catalog.sequences.values().find(|s| table_oid(s.id) == oid) {
        return Ok(found);
    }
    let name = crate::system_tables::relation_name(&objects, oid);
    let message = format!("\"{}\" is not a sequence", name.unwrap_or(oid.to_string()));
    Err(QueryError::new(SqlState("42809"), message))
}
