//! Tables, rows and scans that the tests share.

use std::ops::Bound;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use chronos_model::{
    encode_key, encode_row, rows_to_batch, value_at, BatchChange, Change, ColumnSchema, DataType,
    Expect, Key, Kind, RowChange, RowChanges, Stamp, SystemColumn, TableId, TableOptions,
    TableSchema, Value,
};
use chronos_store::segment::SegmentOptions;
use chronos_store::{
    KeyRange, ReadView, ScanColumn, ScanPartition, ScanRequest, StoreError, StoreOptions,
    VersionFilter,
};

/// `(a INT8, b TEXT, v FLOAT8, s TEXT)` with the primary key `(b, a)` or none.
pub(crate) fn table(name: &str, id: u32, has_primary_key: bool) -> TableSchema {
    let column = |name: &str, data_type, nullable| ColumnSchema {
        name: name.into(),
        data_type,
        nullable,
        default: None,
        attributes: Default::default(),
    };
    TableSchema {
        id: TableId(id),
        name: name.into(),
        columns: vec![
            column("a", DataType::Int8, false),
            column("b", DataType::Text, false),
            column("v", DataType::Float8, true),
            column("s", DataType::Text, true),
        ],
        shape: Default::default(),
        rules: Default::default(),
        primary_key: if has_primary_key { vec![1, 0] } else { vec![] },
        options: TableOptions::default(),
    }
}

/// Small pages and memtables, so that few rows already make many of them.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        memtable_bytes_max: 64 << 10,
        cache_bytes: 1 << 20,
        background_bytes: 256 << 10,
        frozen_max: 2,
        background: false,
        compaction_bytes_per_second: None,
        segment: SegmentOptions {
            page_rows: 16,
            ..SegmentOptions::default()
        },
    }
}

/// Row `n` with a content that tells it from other versions of itself.
pub(crate) fn row(n: u32, content: u32) -> Vec<Value> {
    vec![
        Value::Int8(i64::from(n / 3)),
        Value::Text(["", "x", "a longer text\0 with a zero byte"][n as usize % 3].into()),
        if content.is_multiple_of(5) {
            Value::Null
        } else {
            Value::Float8(f64::from(content))
        },
        Value::Text(format!("content {content}")),
    ]
}

/// The same of a table whose columns behind the key are others by now.
pub(crate) fn row_of(table: &TableSchema, n: u32, content: u32) -> Vec<Value> {
    let mut values = row(n, content);
    for (value, column) in values.iter_mut().zip(&table.columns).skip(2) {
        let small = content % 1000;
        *value = match (&column.data_type, value.is_null()) {
            (_, true) => Value::Null,
            (DataType::Text, _) => Value::Text(format!("content {content}")),
            (DataType::Float4, _) => Value::Float4(small as f32 / 8.0),
            (DataType::Float8, _) => Value::Float8(f64::from(content)),
            (integer, _) => Value::Int8(i64::from(small)).coerce(integer).unwrap(),
        };
    }
    values
}

pub(crate) fn key_of(table: &TableSchema, row: &[Value]) -> Vec<u8> {
    let values: Vec<_> = table.primary_key.iter().map(|c| row[*c].clone()).collect();
    encode_key(table, &values).unwrap().0.into()
}

pub(crate) fn change(key: &[u8], expect: Expect, row: Option<&[Value]>) -> RowChange {
    let mut bytes = Vec::new();
    if let Some(row) = row {
        encode_row(row, &mut bytes);
    }
    RowChange {
        key: Key(key.into()),
        expect,
        kind: if row.is_some() {
            Kind::Put
        } else {
            Kind::Delete
        },
        row: Bytes::from(bytes),
        valid: None,
    }
}

pub(crate) fn rows(table: TableId, rows: Vec<RowChange>) -> Change {
    Change::Rows(RowChanges { table, rows })
}

pub(crate) fn batch(table: &TableSchema, expect: Expect, rows: &[Vec<Value>]) -> Change {
    Change::Batch(BatchChange {
        table: table.id,
        expect,
        batch: rows_to_batch(table, rows).unwrap(),
    })
}

/// A version as a scan shows it: key, system time in microseconds, values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) key: Vec<u8>,
    pub(crate) from: i64,
    pub(crate) to: Option<i64>,
    pub(crate) values: Vec<Value>,
}

pub(crate) fn request(filter: VersionFilter) -> ScanRequest {
    let mut columns: Vec<ScanColumn> = (0..4).map(ScanColumn::Column).collect();
    columns.extend(SystemColumn::ALL.map(ScanColumn::System));
    ScanRequest {
        columns,
        filter,
        ..ScanRequest::default()
    }
}

/// Runs a scan of the columns that [`request`] names.
pub(crate) fn scan(view: &ReadView, table: &Arc<TableSchema>, request: ScanRequest) -> Vec<Shown> {
    try_scan(view, table, request).unwrap()
}

/// The same where it may fail.
pub(crate) fn try_scan(
    view: &ReadView,
    table: &Arc<TableSchema>,
    request: ScanRequest,
) -> Result<Vec<Shown>, StoreError> {
    let partitions = view.scan(table, request.clone())?;
    collect(partitions, table, &request)
}

/// The same from the last key to the first, turned around afterwards.
pub(crate) fn scan_descending(
    view: &ReadView,
    table: &Arc<TableSchema>,
    request: ScanRequest,
) -> Vec<Shown> {
    let partitions = view.scan_descending(table, request.clone()).unwrap();
    let mut all = Vec::new();
    for partition in partitions {
        let mut shown = collect(vec![partition], table, &request).unwrap();
        shown.reverse();
        all.extend(shown);
    }
    all
}

/// The same without an order, sorted afterwards.
pub(crate) fn scan_unordered(
    view: &ReadView,
    table: &Arc<TableSchema>,
    request: ScanRequest,
) -> Vec<Shown> {
    let partitions = view.scan_unordered(table, request.clone()).unwrap();
    let mut shown = collect(partitions, table, &request).unwrap();
    shown.sort_by(|a, b| a.key.cmp(&b.key).then(b.from.cmp(&a.from)));
    shown
}

fn collect(
    partitions: Vec<ScanPartition>,
    table: &TableSchema,
    request: &ScanRequest,
) -> Result<Vec<Shown>, StoreError> {
    assert!(partitions.len() <= request.partitions.max(1));
    let mut shown = Vec::new();
    for partition in partitions {
        let schema = partition.schema();
        for batch in partition {
            let batch = batch?;
            assert_eq!(batch.schema(), schema);
            assert!(batch.num_rows() > 0 && batch.num_rows() <= request.batch_rows.max(16));
            show(table, &batch, &mut shown);
        }
    }
    Ok(shown)
}

fn show(table: &TableSchema, batch: &RecordBatch, shown: &mut Vec<Shown>) {
    let micros = |column: usize, row: usize| match value_at(
        batch.column(column),
        row,
        &DataType::TimestampTz,
    )
    .unwrap()
    {
        Value::TimestampTz(t) => Some(t),
        _ => None,
    };
    for row in 0..batch.num_rows() {
        let value = |c: usize| value_at(batch.column(c), row, &table.columns[c].data_type).unwrap();
        let Value::Bytea(key) = value_at(batch.column(8), row, &DataType::Bytea).unwrap() else {
            panic!("a key is NULL");
        };
        assert_eq!(micros(6, row), micros(4, row), "valid from when recorded");
        assert_eq!(micros(7, row), None, "valid until changed");
        shown.push(Shown {
            key,
            from: micros(4, row).unwrap(),
            to: micros(5, row),
            values: (0..4).map(value).collect(),
        });
    }
}

pub(crate) fn range(lower: Option<&[u8]>, upper: Option<&[u8]>) -> KeyRange {
    KeyRange {
        lower: lower.map_or(Bound::Unbounded, |k| Bound::Included(k.to_vec())),
        upper: upper.map_or(Bound::Unbounded, |k| Bound::Excluded(k.to_vec())),
    }
}

/// The stamp of entry `index` in tests.
pub(crate) fn stamp(index: u64) -> Stamp {
    Stamp::from_micros(1_000_000 + index * 10)
}
