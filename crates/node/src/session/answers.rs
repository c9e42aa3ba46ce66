//! What statements with an idempotency key were answered, as it is kept with the key.

use bytes::Bytes;
use chronos_model::{
    decode_row, encode_row, value_at, ColumnSchema, DataType, Decoder, Encoder, Fingerprint,
    Remembered, SqlState, TableSchema, Value,
};
use chronos_query::QueryError;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::once::other_request;
use super::Prepared;
use crate::{CommandTag, Error, Outcome, RowData, Rows};

/// What all answers of a transaction may take, rows of RETURNING included: they are kept as long
/// as its key.
pub(super) const ANSWERS_BYTES_MAX: usize = 64 << 10;
const ANSWERS_FORMAT: u8 = 1;

/// Whose answers can be kept: what a statement that writes can say.
const VERBS: &[&str] = &[
    "INSERT",
    "UPDATE",
    "DELETE",
    "ERASE",
    "SELECT",
    "TRUNCATE TABLE",
    "COMMENT",
    "CREATE TABLE",
    "CREATE TABLE AS",
    "CREATE VIEW",
    "CREATE INDEX",
    "CREATE SEQUENCE",
    "CREATE SCHEMA",
    "ALTER TABLE",
    "DROP TABLE",
    "DROP VIEW",
    "DROP INDEX",
    "DROP SEQUENCE",
    "DROP SCHEMA",
];

/// What a client was told of a statement.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    /// Of the statement, its parameters and its user.
    pub(super) fingerprint: Fingerprint,
    tag: CommandTag,
    /// What RETURNING gave, row by row.
    returned: Option<Vec<Bytes>>,
}

/// What an outcome is kept as, and the outcome again.
pub(super) async fn answer_of(
    fingerprint: Fingerprint,
    outcome: Outcome,
) -> Result<(Answer, Outcome), Error> {
    let answer = |tag: CommandTag, returned| match VERBS.contains(&tag.verb) {
        true => Ok(Answer {
            fingerprint,
            tag,
            returned,
        }),
        false => {
            let verb = tag.verb;
            let message = format!("{verb} with an idempotency key is not supported");
            Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message))
        }
    };
    match outcome {
        Outcome::Done(tag) => Ok((answer(tag, None)?, Outcome::Done(tag))),
        Outcome::Rows(Rows { schema, data, tag }) => {
            let values = match data {
                RowData::Values(values) => values,
                RowData::Batches(mut batches) => {
                    let mut values = Vec::new();
                    while let Some(batch) = batches.next().await {
                        add_rows(&batch?, &mut values)?;
                    }
                    values
                }
            };
            let mut bytes = 0;
            let mut returned = Vec::with_capacity(values.len());
            for row in &values {
                let mut encoded = Vec::new();
                encode_row(row, &mut encoded);
                bytes += encoded.len();
                if bytes > ANSWERS_BYTES_MAX {
                    return Err(too_large());
                }
                returned.push(Bytes::from(encoded));
            }
            let outcome = Outcome::Rows(Rows {
                schema,
                data: RowData::Values(values),
                tag,
            });
            Ok((answer(tag, Some(returned))?, outcome))
        }
        Outcome::CopyIn(_) | Outcome::CopyOut(_) | Outcome::Empty => Err(Error::new(
            SqlState::INTERNAL,
            "a statement that writes has no answer",
        )),
    }
}

fn add_rows(batch: &arrow_array::RecordBatch, rows: &mut Vec<Vec<Value>>) -> Result<(), Error> {
    let schema = batch.schema();
    let types: Vec<DataType> = schema
        .fields()
        .iter()
        .map(|f| DataType::of_field(f))
        .collect();
    for row in 0..batch.num_rows() {
        let columns = batch.columns().iter().zip(&types);
        let values = columns.map(|(column, data_type)| value_at(column, row, data_type));
        let values: Result<Vec<Value>, _> = values.collect();
        rows.push(values.map_err(QueryError::from)?);
    }
    Ok(())
}

impl Answer {
    /// The outcome of a statement that was executed before.
    pub(super) fn outcome(self, prepared: &Prepared) -> Result<Outcome, Error> {
        let Some(returned) = self.returned else {
            return Ok(Outcome::Done(self.tag));
        };
        let Some(schema) = prepared.columns.clone() else {
            return Err(damaged());
        };
        let column = |field: &arrow_schema::FieldRef| ColumnSchema {
            name: field.name().clone(),
            data_type: DataType::of_field(field),
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        let table = TableSchema {
            id: Default::default(),
            name: String::new(),
            columns: schema.fields().iter().map(column).collect(),
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![],
            options: Default::default(),
        };
        let rows = returned.iter().map(|row| decode_row(&table, row));
        let rows: Result<Vec<Vec<Value>>, _> = rows.collect();
        Ok(Outcome::Rows(Rows {
            schema,
            data: RowData::Values(rows?),
            tag: self.tag,
        }))
    }
}

/// Of a statement of a user.
pub(super) fn fingerprint_of(user: &str, sql: &str, parameters: &[Value]) -> Fingerprint {
    let mut e = Encoder::default();
    e.bytes(user.as_bytes());
    e.bytes(sql.as_bytes());
    encode_row(parameters, &mut e.buffer);
    shortened(Sha256::digest(&e.buffer).as_slice())
}

pub(super) fn fingerprint_of_all(answers: &[Answer]) -> Fingerprint {
    let mut hash = Sha256::new();
    for answer in answers {
        hash.update(answer.fingerprint);
    }
    shortened(hash.finalize().as_slice())
}

pub(crate) fn shortened(digest: &[u8]) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    for (to, from) in fingerprint.iter_mut().zip(digest) {
        *to = *from;
    }
    fingerprint
}

/// `[format: 1] [count: varint] ([fingerprint: 16 bytes] [verb bytes] [rows + 1: varint, or 0]
/// [returned + 1: varint, or 0] [row bytes]*)*`
pub(super) fn encode(answers: &[Answer]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u8(ANSWERS_FORMAT);
    e.varint(answers.len() as u64);
    for answer in answers {
        e.buffer.extend_from_slice(&answer.fingerprint);
        e.bytes(answer.tag.verb.as_bytes());
        e.varint(answer.tag.rows.map_or(0, |rows| rows.saturating_add(1)));
        let returned = answer.returned.as_ref();
        e.varint(returned.map_or(0, |rows| rows.len() as u64 + 1));
        for row in returned.into_iter().flatten() {
            e.bytes(row);
        }
    }
    e.buffer
}

/// What a transaction was answered.
///
/// Errors: the key is that of something else than a transaction.
pub(super) fn answers_of(key: &str, before: &Remembered) -> Result<Vec<Answer>, Error> {
    if before.answer.is_empty() {
        return Err(other_request(key));
    }
    let mut d = Decoder::new("what was answered", &before.answer);
    if d.u8()? != ANSWERS_FORMAT {
        return Err(d.damaged("an unknown format version").into());
    }
    let count = d.count()?;
    (0..count).map(|_| decode_answer(&mut d)).collect()
}

fn decode_answer(d: &mut Decoder<'_>) -> Result<Answer, Error> {
    let fingerprint = d.array()?;
    let verb = d.text()?;
    let verb = VERBS.iter().find(|known| **known == verb);
    let verb = verb.ok_or_else(damaged)?;
    let rows = d.varint()?.checked_sub(1);
    let returned = match d.varint()?.checked_sub(1) {
        None => None,
        Some(count) => {
            let rows = (0..count).map(|_| Ok(Bytes::copy_from_slice(d.bytes()?)));
            Some(rows.collect::<Result<Vec<_>, Error>>()?)
        }
    };
    Ok(Answer {
        fingerprint,
        tag: CommandTag { verb, rows },
        returned,
    })
}

fn damaged() -> Error {
    let message = "what was answered to an idempotency key does not read";
    Error::new(SqlState::DATA_CORRUPTED, message)
}

pub(super) fn too_large() -> Error {
    let message = format!(
        "what is answered is larger than {ANSWERS_BYTES_MAX} bytes, which is too much to be remembered for an idempotency key"
    );
    Error::new(SqlState::PROGRAM_LIMIT, message)
        .with_hint("Leave out RETURNING, or do less in one transaction.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Answer>, Error> {
        let before = Remembered {
            transaction: 1,
            fingerprint: [0; 16],
            rows: 2,
            answer: Bytes::copy_from_slice(bytes),
        };
        answers_of("k", &before)
    }

    #[test]
    fn answers_are_read_as_they_were_written_and_damage_is_an_error() {
        let answer = |verb, rows, returned| Answer {
            fingerprint: fingerprint_of("ann", verb, &[Value::Int8(7), Value::Null]),
            tag: CommandTag { verb, rows },
            returned,
        };
        let row = Bytes::from_static(b"a row");
        let answers = vec![
            answer("CREATE TABLE", None, None),
            answer("UPDATE", Some(0), None),
            answer("INSERT", Some(2), Some(vec![row.clone(), row])),
            answer("DELETE", Some(u64::MAX - 1), Some(vec![])),
        ];
        let bytes = encode(&answers);
        assert_eq!(read(&bytes).unwrap(), answers);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
        // What is not a statement's is another request's.
        assert_eq!(read(b"").unwrap_err().code, SqlState::INVALID_PARAMETER);
        let unknown = [answer("LISTEN", None, None)];
        let unknown = read(&encode(&unknown)).unwrap_err();
        assert_eq!(unknown.code, SqlState::DATA_CORRUPTED);
    }

    #[test]
    fn a_fingerprint_tells_users_texts_parameters_and_their_order() {
        let of = |user, sql, value| fingerprint_of(user, sql, &[Value::Int8(value)]);
        let one = of("ann", "a", 1);
        assert_eq!(one, of("ann", "a", 1));
        for other in [
            of("bob", "a", 1),
            of("ann", "b", 1),
            of("ann", "a", 2),
            of("an", "na", 1),
        ] {
            assert_ne!(one, other);
        }
        let answer = |fingerprint| Answer {
            fingerprint,
            tag: CommandTag {
                verb: "INSERT",
                rows: None,
            },
            returned: None,
        };
        let (a, b) = (answer([1; 16]), answer([2; 16]));
        let both = fingerprint_of_all(&[a.clone(), b.clone()]);
        assert_ne!(both, fingerprint_of_all(&[b, a.clone()]));
        assert_ne!(both, fingerprint_of_all(&[a]));
    }
}
