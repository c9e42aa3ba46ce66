//! Tests of whole segments: what goes in comes out, and damage is an error.

mod damage;
mod golden;
mod read;
mod round_trip;
mod shaped;

use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, UInt32Array, UInt64Array, UInt8Array};
use arrow_buffer::BooleanBuffer;
use chronos_env::Env;
use chronos_model::{
    append_value, column_builder, encode_key, value_at, ColumnSchema, DataType, Key, Keys, Kind,
    Stamp, TableId, TableOptions, TableSchema, Value,
};

use super::{
    FloatCodec, PageCache, PageColumn, Segment, SegmentError, SegmentId, SegmentMeta,
    SegmentOptions, SegmentWriter,
};
use crate::version::{VersionBatch, UNTIL_CHANGED};

/// One version in plain form.
#[derive(Clone, Debug)]
struct Version {
    key: Key,
    origin: u64,
    node: u32,
    recorded: u64,
    valid: (i64, i64),
    /// `None`: a delete.
    row: Option<Vec<Value>>,
}

fn table(columns: &[(&str, DataType)], primary_key: &[usize]) -> TableSchema {
    TableSchema {
        id: TableId(7),
        name: "t".into(),
        columns: columns
            .iter()
            .enumerate()
            .map(|(i, (name, data_type))| ColumnSchema {
                name: (*name).into(),
                data_type: data_type.clone(),
                nullable: !primary_key.contains(&i),
                default: None,
                attributes: Default::default(),
            })
            .collect(),
        shape: Default::default(),
        rules: Default::default(),
        primary_key: primary_key.to_vec(),
        options: TableOptions::default(),
    }
}

/// A version that is valid from when it is recorded, until changed.
fn put(schema: &TableSchema, stamp: u64, row: Vec<Value>) -> Version {
    let values: Vec<Value> = schema.primary_key.iter().map(|c| row[*c].clone()).collect();
    let stamp = Stamp::from_micros(stamp);
    Version {
        key: encode_key(schema, &values).unwrap(),
        origin: stamp.0,
        node: 1,
        recorded: stamp.0,
        valid: (stamp.micros(), UNTIL_CHANGED),
        row: Some(row),
    }
}

fn batch(schema: &TableSchema, versions: &[Version]) -> VersionBatch {
    let mut keys = Keys::default();
    versions.iter().for_each(|v| keys.push(&v.key.0));
    let columns = schema.columns.iter().enumerate().map(|(i, column)| {
        let mut builder = column_builder(&column.data_type, versions.len());
        for version in versions {
            let value = version.row.as_ref().map_or(&Value::Null, |row| &row[i]);
            append_value(&mut builder, value).unwrap();
        }
        builder.finish()
    });
    let kind = |v: &Version| match v.row {
        Some(_) => Kind::Put as u8,
        None => Kind::Delete as u8,
    };
    VersionBatch {
        keys: Arc::new(keys),
        recorded: UInt64Array::from_iter_values(versions.iter().map(|v| v.recorded)),
        origin: UInt64Array::from_iter_values(versions.iter().map(|v| v.origin)),
        origin_node: UInt32Array::from_iter_values(versions.iter().map(|v| v.node)),
        kind: UInt8Array::from_iter_values(versions.iter().map(kind)),
        valid_from: Int64Array::from_iter_values(versions.iter().map(|v| v.valid.0)),
        valid_to: Int64Array::from_iter_values(versions.iter().map(|v| v.valid.1)),
        first: BooleanBuffer::new_unset(versions.len()),
        columns: columns.collect(),
    }
}

fn small_pages(rows: usize) -> SegmentOptions {
    SegmentOptions {
        page_rows: rows,
        group_pages: 3,
        ..SegmentOptions::default()
    }
}

fn write(
    env: &Env,
    schema: &TableSchema,
    options: &SegmentOptions,
    batches: &[VersionBatch],
) -> Result<SegmentMeta, SegmentError> {
    let mut writer = SegmentWriter::create(env, Path::new("s"), SegmentId(9), schema, options)?;
    for batch in batches {
        writer.append(batch)?;
    }
    writer.finish()
}

fn open(env: &Env, schema: &TableSchema) -> Result<Arc<Segment>, SegmentError> {
    let cache = Arc::new(PageCache::new(1 << 20));
    Segment::open(env, Path::new("s"), schema, cache)
}

/// All columns a segment has, in the order of [`columns_of`].
fn all_columns(schema: &TableSchema) -> Vec<PageColumn> {
    let version = [
        PageColumn::Recorded,
        PageColumn::Origin,
        PageColumn::OriginNode,
        PageColumn::Kind,
        PageColumn::ValidFrom,
        PageColumn::ValidTo,
    ];
    let own = (0..schema.columns.len()).map(PageColumn::Column);
    version.into_iter().chain(own).collect()
}

fn columns_of(batch: &VersionBatch) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(batch.recorded.clone()),
        Arc::new(batch.origin.clone()),
        Arc::new(batch.origin_node.clone()),
        Arc::new(batch.kind.clone()),
        Arc::new(batch.valid_from.clone()),
        Arc::new(batch.valid_to.clone()),
    ];
    columns.extend(batch.columns.iter().cloned());
    columns
}

/// Panics unless the segment gives back exactly the versions of the batch, whichever
/// way it is read.
fn assert_same(segment: &Segment, schema: &TableSchema, expected: &VersionBatch) {
    segment.verify().unwrap();
    let columns = all_columns(schema);
    let pages = segment.pages().len();
    let read = segment.read_columns(0..pages, &columns).unwrap();
    for ((array, expected), column) in read.iter().zip(columns_of(expected)).zip(&columns) {
        assert_eq!(array.as_ref(), expected.as_ref(), "{column:?}");
        assert_eq!(array.data_type(), expected.data_type(), "{column:?}");
    }
    assert_found(segment, expected);
    assert_single_values(segment, schema, expected);
    let mut row = 0;
    for (page, meta) in segment.pages().iter().enumerate() {
        let keys = segment.read_keys(page).unwrap();
        assert_eq!(keys.len(), meta.rows as usize);
        let rows: Vec<u32> = (0..meta.rows).rev().step_by(3).collect();
        let taken = segment.read_rows(page, &rows, &columns).unwrap();
        let positions: Vec<u32> = rows.iter().map(|r| row as u32 + r).collect();
        let expected_rows = expected.take(&positions).unwrap();
        for (array, expected) in taken.iter().zip(columns_of(&expected_rows)) {
            assert_eq!(array.as_ref(), expected.as_ref());
        }
        for i in 0..keys.len() {
            assert_eq!(keys.get(i), expected.keys.get(row), "key of row {row}");
            assert!(segment.may_contain(keys.get(i)));
            assert!(segment.pages_of(keys.get(i)).contains(&page));
            row += 1;
        }
    }
    assert_eq!(row, expected.num_rows());
}

/// Panics unless single rows have their stamps, kinds and values.
fn assert_single_values(segment: &Segment, schema: &TableSchema, expected: &VersionBatch) {
    let mut start = 0;
    for (page, meta) in segment.pages().iter().enumerate() {
        // All of small pages, and of large ones what is on both sides of a packed run's end.
        let rows = meta.rows as usize;
        for row in (0..rows).filter(|r| rows <= 300 || r % 7 == 0 || r % 1024 > 1000) {
            let at = start + row;
            let stamp = segment.stamp(page, row as u32).unwrap();
            let recorded = Stamp(expected.recorded.value(at));
            assert_eq!(stamp, (recorded, expected.kind.value(at)));
            for (c, column) in schema.columns.iter().enumerate() {
                let value = segment.value(page, row as u32, c).unwrap();
                let expected = value_at(&expected.columns[c], at, &column.data_type).unwrap();
                // Bit for bit: a NaN is not equal to itself.
                assert_eq!(format!("{value:?}"), format!("{expected:?}"), "row {at}");
                assert_eq!(float_bits(&value), float_bits(&expected), "row {at}");
            }
        }
        start += rows;
    }
}

/// A float's bits.
fn float_bits(value: &Value) -> Option<u64> {
    match value {
        Value::Float4(v) => Some(u64::from(v.to_bits())),
        Value::Float8(v) => Some(v.to_bits()),
        _ => None,
    }
}

/// Panics unless every key is found at exactly its rows.
fn assert_found(segment: &Segment, expected: &VersionBatch) {
    let mut start = 0;
    for (page, meta) in segment.pages().iter().enumerate() {
        let rows = meta.rows as usize;
        let key = |row: usize| expected.keys.get(start + row);
        for row in (0..rows).step_by(1 + rows / 50) {
            let first = (0..rows).find(|r| key(*r) == key(row)).unwrap();
            let count = (0..rows).filter(|r| key(*r) == key(row)).count();
            let found = segment.find_rows(page, key(row)).unwrap();
            assert_eq!(found, first as u32..(first + count) as u32);
            let mut absent = key(row).to_vec();
            absent.push(0);
            assert!(segment.find_rows(page, &absent).unwrap().is_empty());
        }
        start += rows;
    }
}
