//! What is remembered of requests that came with an idempotency key: a table of the store in
//! which applying a write set notes its key and what was answered.
//!
//! A request that comes again, because its client did not hear what became of it, is found there
//! and changes nothing. Like the log of transactions the table is not among the catalog's tables;
//! users read it as `chronos.idempotency` and cannot write it. It is there in every database.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    encode_key, encode_row, text, ColumnSchema, DataType, Expect, Key, Kind, RowChange, Stamp,
    TableId, TableSchema, Value,
};

/// The table's id, which no other gets.
pub const IDEMPOTENCY_TABLE: TableId = TableId(u32::MAX - 1);

/// Bytes of a key, at most.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// How long a key is remembered unless somebody says otherwise: a day.
const REMEMBERED_MICROS: i64 = text::DAY_MICROS;

const FINGERPRINT: usize = 1;
const TRANSACTION: usize = 2;
const ROWS: usize = 4;
const ANSWER: usize = 5;

/// What tells one request from another.
pub type Fingerprint = [u8; 16];

/// That a write set is applied once, however often it is proposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Once {
    /// The key that the client gave; not empty, at most [`IDEMPOTENCY_KEY_BYTES_MAX`] bytes.
    pub key: Arc<str>,
    /// Of what was asked for: with the same key and another one it is another request.
    pub fingerprint: Fingerprint,
    /// What the client is told, in a form that the store does not know.
    pub answer: Bytes,
}

/// What a write set with a key did when it was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// The index of its log entry.
    pub transaction: u64,
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// Rows changed.
    pub rows: u64,
    /// What the client was told.
    pub answer: Bytes,
}

/// Where keys are remembered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RememberedKeys {
    /// The table. Its `ttl` says for how long.
    pub table: Arc<TableSchema>,
}

impl Default for RememberedKeys {
    fn default() -> RememberedKeys {
        let column = |name: &str, data_type| ColumnSchema {
            name: name.into(),
            data_type,
            nullable: false,
            default: None,
            attributes: Default::default(),
        };
        let mut table = TableSchema {
            id: IDEMPOTENCY_TABLE,
            name: "idempotency".into(),
            columns: vec![
                column("key", DataType::Text),
                column("fingerprint", DataType::Bytea),
                column("transaction", DataType::Int8),
                column("system_time", DataType::TimestampTz),
                column("rows", DataType::Int8),
                column("answer", DataType::Bytea),
            ],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![0],
            options: Default::default(),
        };
        table.options.ttl_micros = Some(REMEMBERED_MICROS);
        RememberedKeys {
            table: Arc::new(table),
        }
    }
}

impl RememberedKeys {
    /// Whether nobody has said how long.
    pub fn is_default(&self) -> bool {
        *self == RememberedKeys::default()
    }

    /// The key of a row of the table; `None`: it is too long for one.
    pub fn key_of(&self, key: &str) -> Option<Key> {
        encode_key(&self.table, &[Value::Text(key.to_owned())]).ok()
    }
}

impl Once {
    /// The row that remembers that it was applied; `None`: it cannot be one.
    pub fn row(
        &self,
        keys: &RememberedKeys,
        transaction: u64,
        recorded: Stamp,
        rows: u64,
    ) -> Option<RowChange> {
        let number = |n: u64| Value::Int8(i64::try_from(n).unwrap_or(i64::MAX));
        let values = [
            Value::Text(self.key.to_string()),
            Value::Bytea(self.fingerprint.to_vec()),
            number(transaction),
            Value::TimestampTz(recorded.micros()),
            number(rows),
            Value::Bytea(self.answer.to_vec()),
        ];
        let mut row = Vec::with_capacity(96 + self.answer.len());
        encode_row(&values, &mut row);
        Some(RowChange {
            key: keys.key_of(&self.key)?,
            expect: Expect::Any,
            kind: Kind::Put,
            row: row.into(),
            valid: None,
        })
    }
}

impl Remembered {
    /// Reads a row of the table; `None`: it is none.
    pub fn of_row(values: &[Value]) -> Option<Remembered> {
        let number = |column: usize| match values.get(column) {
            Some(Value::Int8(n)) => u64::try_from(*n).ok(),
            _ => None,
        };
        let bytes = |column: usize| match values.get(column) {
            Some(Value::Bytea(bytes)) => Some(bytes),
            _ => None,
        };
        Some(Remembered {
            transaction: number(TRANSACTION)?,
            fingerprint: bytes(FINGERPRINT)?.as_slice().try_into().ok()?,
            rows: number(ROWS)?,
            answer: Bytes::copy_from_slice(bytes(ANSWER)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode_row, Catalog};

    #[test]
    fn what_is_remembered_is_read_as_it_was_written() {
        let keys = RememberedKeys::default();
        let once = Once {
            key: "order 7".into(),
            fingerprint: [9; 16],
            answer: Bytes::from_static(b"INSERT"),
        };
        let row = once
            .row(&keys, 12, Stamp::last_of_micros(5_000), 3)
            .unwrap();
        assert_eq!(Some(&row.key), keys.key_of("order 7").as_ref());
        let values = decode_row(&keys.table, &row.row).unwrap();
        assert_eq!(values[3], Value::TimestampTz(5_000));
        let remembered = Remembered {
            transaction: 12,
            fingerprint: [9; 16],
            rows: 3,
            answer: Bytes::from_static(b"INSERT"),
        };
        assert_eq!(Remembered::of_row(&values), Some(remembered));
        assert_eq!(Remembered::of_row(&values[1..]), None);
    }

    #[test]
    fn every_catalog_has_the_table_and_names_it_only_if_somebody_changed_it() {
        let mut catalog: Catalog =
            serde_json::from_str(r#"{"version":1,"next_table_id":1,"tables":{}}"#).unwrap();
        assert!(catalog.stores(IDEMPOTENCY_TABLE) && catalog.tables.is_empty());
        let written = serde_json::to_string(&catalog).unwrap();
        assert!(!written.contains("idempotency"), "{written}");
        let mut table = TableSchema::clone(&catalog.idempotency.table);
        table.options.ttl_micros = Some(5);
        catalog.replace_table(Arc::new(table));
        let written = serde_json::to_string(&catalog).unwrap();
        let read: Catalog = serde_json::from_str(&written).unwrap();
        assert_eq!(read.idempotency.table.options.ttl_micros, Some(5));
        assert_eq!(read, catalog);
    }
}
