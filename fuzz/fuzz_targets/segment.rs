//! A segment's file: damage of a valid one gives an error, or exactly the rows that were
//! written; arbitrary bytes, footers that lie, and blocks of which the checksum is ignored give
//! an error or something, and no panic.
//!
//! `just fuzz segment -rss_limit_mb=512`
#![no_main]

#[path = "damage/mod.rs"]
mod damage;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, Int64Array, UInt32Array, UInt64Array, UInt8Array};
use chronos_env::{Env, SimEnv};
use chronos_model::{
    append_value, column_builder, encode_key, ColumnSchema, DataType, Decimal, Keys, Stamp,
    TableId, TableOptions, TableSchema, Value,
};
use chronos_store::segment::{
    PageCache, PageColumn, Segment, SegmentError, SegmentId, SegmentOptions, SegmentWriter,
    IGNORE_CHECKSUMS,
};
use chronos_store::version::{VersionBatch, UNTIL_CHANGED};
use libfuzzer_sys::fuzz_target;

const PATH: &str = "/s";

/// A segment with columns of many types, NULLs, deletes and several versions of a key.
static VALID: LazyLock<(TableSchema, Vec<u8>, Vec<ArrayRef>)> = LazyLock::new(|| {
    let schema = schema();
    let env = Env::simulated(1);
    let options = SegmentOptions {
        page_rows: 64,
        group_pages: 2,
        ..SegmentOptions::default()
    };
    let path = Path::new(PATH);
    let mut writer = SegmentWriter::create(&env, path, SegmentId(9), &schema, &options).unwrap();
    writer.append(&versions(&schema)).unwrap();
    writer.finish().unwrap();
    let bytes = env.disk.read(path).unwrap();
    let rows = read(&bytes, &schema).unwrap();
    (schema, bytes, rows)
});

fn schema() -> TableSchema {
    let columns = [
        ("device", "text"),
        ("ts", "timestamptz"),
        ("value", "float8"),
        ("steady", "int8"),
        ("note", "text"),
        ("price", "numeric(10,2)"),
        ("flag", "bool"),
        ("raw", "bytea"),
        ("tags", "text[]"),
        ("place", "vector(2)"),
    ];
    TableSchema {
        id: TableId(7),
        name: "t".into(),
        columns: columns
            .iter()
            .enumerate()
            .map(|(i, (name, data_type))| ColumnSchema {
                name: (*name).into(),
                data_type: DataType::parse(data_type).unwrap(),
                nullable: i > 1,
                default: None,
                attributes: Default::default(),
            })
            .collect(),
        primary_key: vec![0, 1],
        options: TableOptions::default(),
        rules: Default::default(),
        shape: Default::default(),
    }
}

fn versions(schema: &TableSchema) -> VersionBatch {
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as i64
    };
    let rows: Vec<(Vec<u8>, u64, u8, Vec<Value>)> = (0..300i64)
        .map(|i| {
            let row = vec![
                Value::Text(format!("pump-{}", i / 100).into()),
                Value::TimestampTz(1_700_000_000_000_000 + i / 2 * 60_000_000),
                Value::Float8(2_000.0 + (random() % 10_000) as f64 / 100.0),
                Value::Int8(i / 50),
                match i % 3 {
                    0 => Value::Null,
                    _ => Value::Text(format!("the reading of minute {} was fine", i * 17).into()),
                },
                Value::Numeric(Decimal {
                    unscaled: i128::from(random()),
                    scale: 2,
                }),
                Value::Bool(random() % 2 == 0),
                Value::Bytea(random().to_le_bytes().to_vec().into()),
                Value::Array(vec![Value::Text("a".into()), Value::Null][..(i % 3) as usize].to_vec()),
                Value::Vector(vec![i as f32, 0.5]),
            ];
            let key = encode_key(schema, &row[..2]).unwrap().0.to_vec();
            let stamp = Stamp::from_micros(1_700_000_100_000_000 + (600 - i as u64));
            (key, stamp.0, u8::from(i % 29 == 3), row)
        })
        .collect();
    let mut keys = Keys::default();
    rows.iter().for_each(|row| keys.push(&row.0));
    let columns = schema.columns.iter().enumerate().map(|(i, column)| {
        let mut builder = column_builder(&column.data_type, rows.len());
        for row in &rows {
            let value = if row.2 == 0 { &row.3[i] } else { &Value::Null };
            append_value(&mut builder, value).unwrap();
        }
        builder.finish()
    });
    let stamps = || rows.iter().map(|row| row.1);
    VersionBatch {
        keys: Arc::new(keys),
        recorded: UInt64Array::from_iter_values(stamps()),
        origin: UInt64Array::from_iter_values(stamps().map(|s| s - s % 3)),
        origin_node: UInt32Array::from_iter_values(stamps().map(|s| (s % 5) as u32)),
        kind: UInt8Array::from_iter_values(rows.iter().map(|row| row.2)),
        valid_from: Int64Array::from_iter_values(stamps().map(|s| Stamp(s).micros())),
        valid_to: Int64Array::from_iter_values(stamps().map(|_| UNTIL_CHANGED)),
        first: rows.iter().map(|row| row.2 == 0).collect(),
        columns: columns.collect(),
    }
}

/// Reads everything, in the ways in which the store does.
fn read(bytes: &[u8], schema: &TableSchema) -> Result<Vec<ArrayRef>, SegmentError> {
    let sim = SimEnv::new(1);
    let env = sim.env();
    let path = Path::new(PATH);
    env.disk.create(path).unwrap().write_at(bytes, 0).unwrap();
    let segment = Segment::open(&env, path, schema, Arc::new(PageCache::new(1 << 20)))?;
    let own = (0..schema.columns.len()).map(PageColumn::Column);
    let columns: Vec<PageColumn> = [
        PageColumn::Key,
        PageColumn::Recorded,
        PageColumn::Origin,
        PageColumn::OriginNode,
        PageColumn::Kind,
        PageColumn::ValidFrom,
        PageColumn::ValidTo,
    ]
    .into_iter()
    .chain(own)
    .collect();
    let mut rows = Vec::new();
    for page in 0..segment.pages().len() {
        let key = segment.pages()[page].min_key.to_vec();
        segment.may_contain(&key);
        for other in segment.pages_of(&key) {
            segment.find_rows(other, &key)?;
        }
        let last = segment.pages()[page].rows - 1;
        segment.read_rows(page, &[last, 0], &columns)?;
        for column in 0..schema.columns.len() {
            segment.value(page, last, column)?;
        }
        // Page by page: a footer may promise more pages than memory holds.
        rows.extend(segment.read_columns(page..page + 1, &columns)?);
    }
    segment.verify()?;
    Ok(rows)
}

/// A file with another footer, whose checksums are right.
fn with_footer(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let trailer = bytes.len() - 32;
    let start = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    let mut footer = bytes[start..trailer].to_vec();
    change(&mut footer);
    let mut file = bytes[..start].to_vec();
    file.extend_from_slice(&footer);
    let mut end = (start as u64).to_le_bytes().to_vec();
    end.extend((footer.len() as u64).to_le_bytes());
    end.extend(crc32(&footer).to_le_bytes());
    end.extend(crc32(&end).to_le_bytes());
    end.extend(b"CHRONEND");
    file.extend(end);
    file
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    let (schema, valid, rows) = &*VALID;
    IGNORE_CHECKSUMS.store(false, Ordering::Relaxed);
    match mode % 4 {
        0 => {
            let mut file = valid.clone();
            damage::damage(&mut file, rest);
            if let Ok(read) = read(&file, schema) {
                assert!(&read == rows, "damaged bytes gave other rows");
            }
        }
        1 => {
            let file = with_footer(valid, |footer| damage::damage(footer, rest));
            let _ = read(&file, schema);
        }
        2 => {
            IGNORE_CHECKSUMS.store(true, Ordering::Relaxed);
            let footer_bytes = with_footer(valid, |_| {});
            assert!(&footer_bytes == valid);
            let mut file = valid.clone();
            let tail = file.split_off(file.len() / 2);
            let head = file.len();
            damage::damage(&mut file, rest);
            // Blocks keep their places.
            file.resize(head, 0);
            file.extend(tail);
            let _ = read(&file, schema);
        }
        _ => {
            let _ = read(rest, schema);
        }
    }
});
