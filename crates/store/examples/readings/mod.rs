//! The table that the examples measure with.

use chronos_model::{ColumnSchema, DataType, TableId, TableSchema};

/// Readings under the key (device, ts).
pub(crate) fn table() -> TableSchema {
    let column = |name: &str, data_type| ColumnSchema {
        name: name.into(),
        data_type,
        nullable: false,
        default: None,
        attributes: Default::default(),
    };
    TableSchema {
        id: TableId(1),
        name: "readings".into(),
        columns: vec![
            column("device", DataType::Text),
            column("ts", DataType::TimestampTz),
            column("value", DataType::Float8),
        ],
        shape: Default::default(),
        rules: Default::default(),
        primary_key: vec![0, 1],
        options: Default::default(),
    }
}
