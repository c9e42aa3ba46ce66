//! The log of transactions: a table of the store in which applying a write set notes who
//! changed which tables, and when.
//!
//! It is not among the catalog's tables: users read it as `chronos.transactions` and cannot
//! write it. Its rows are made of what stands in the log entry, so that every replica, and
//! every replay, has the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    encode_key, encode_row, ColumnSchema, DataType, Expect, Kind, NodeId, RowChange, Stamp,
    TableId, TableSchema, Value,
};

/// The table's id, which no other gets.
pub const TRANSACTIONS_TABLE: TableId = TableId(u32::MAX);

/// Where transactions are noted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TransactionLog {
    /// The table. Its `ttl` says how long they are kept.
    pub table: Arc<TableSchema>,
    /// Whether new ones are noted.
    pub enabled: bool,
}

impl TransactionLog {
    /// One that notes transactions and keeps them for so many microseconds, or for ever.
    pub fn new(ttl_micros: Option<i64>) -> TransactionLog {
        let column = |name: &str, data_type, nullable| ColumnSchema {
            name: name.into(),
            data_type,
            nullable,
            default: None,
            attributes: Default::default(),
        };
        let mut table = TableSchema {
            id: TRANSACTIONS_TABLE,
            name: "transactions".into(),
            columns: vec![
                column("id", DataType::Int8, false),
                column("system_time", DataType::TimestampTz, false),
                column("node", DataType::Int8, false),
                column("user_name", DataType::Text, true),
                column("tables", DataType::Array(Box::new(DataType::Text)), false),
                column("rows", DataType::Int8, false),
            ],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![0],
            options: Default::default(),
        };
        table.options.ttl_micros = ttl_micros;
        TransactionLog {
            table: Arc::new(table),
            enabled: true,
        }
    }
}

/// Who made a write set, and where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Author {
    /// The node that proposed it.
    pub node: NodeId,
    /// The user; `None`: the node by itself.
    pub user: Option<Arc<str>>,
}

impl From<NodeId> for Author {
    fn from(node: NodeId) -> Author {
        Author { node, user: None }
    }
}

/// A transaction that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction<'a> {
    /// The index of its log entry.
    pub id: u64,
    /// When it was recorded.
    pub recorded: Stamp,
    /// Where it was made.
    pub node: NodeId,
    /// By whom; `None`: by the node itself.
    pub user: Option<&'a str>,
    /// The tables that it changed, by name.
    pub tables: Vec<String>,
    /// Rows changed.
    pub rows: u64,
}

impl Transaction<'_> {
    /// As a row of the table of transactions; `None`: its id is no number for SQL.
    pub fn row(self, table: &TableSchema) -> Option<RowChange> {
        let id = Value::Int8(i64::try_from(self.id).ok()?);
        let key = encode_key(table, std::slice::from_ref(&id)).ok()?;
        let user = self.user.map_or(Value::Null, |u| Value::Text(u.to_owned()));
        let tables = self.tables.into_iter().map(Value::Text).collect();
        let values = [
            id,
            Value::TimestampTz(self.recorded.micros()),
            Value::Int8(i64::from(self.node.0)),
            user,
            Value::Array(tables),
            Value::Int8(i64::try_from(self.rows).unwrap_or(i64::MAX)),
        ];
        let mut row = Vec::with_capacity(96);
        encode_row(&values, &mut row);
        Some(RowChange {
            key,
            expect: Expect::Any,
            kind: Kind::Put,
            row: row.into(),
            valid: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode_row, Catalog};

    #[test]
    fn a_transaction_is_a_row_of_its_table() {
        let log = TransactionLog::new(Some(5));
        let transaction = Transaction {
            id: 7,
            recorded: Stamp::last_of_micros(1_000),
            node: NodeId(3),
            user: Some("ann"),
            tables: vec!["a".into(), "b".into()],
            rows: 12,
        };
        let row = transaction.row(&log.table).unwrap();
        let values = decode_row(&log.table, &row.row).unwrap();
        let tables = vec![Value::Text("a".into()), Value::Text("b".into())];
        assert_eq!(
            values,
            [
                Value::Int8(7),
                Value::TimestampTz(1_000),
                Value::Int8(3),
                Value::Text("ann".into()),
                Value::Array(tables),
                Value::Int8(12),
            ]
        );
    }

    #[test]
    fn the_catalog_stores_it_and_lists_it_among_no_tables() {
        let catalog = Catalog {
            transactions: Some(TransactionLog::new(None)),
            ..Catalog::default()
        };
        assert!(catalog.stores(TRANSACTIONS_TABLE));
        assert_eq!(catalog.stored().count(), 2);
        assert!(catalog.tables.is_empty() && !catalog.has_relation("transactions"));
    }
}
