//! What a segment knows without reading pages, and what it refuses.

use arrow_array::Array;
use chronos_env::Env;
use chronos_model::{DataType, Value};

use super::super::{ColumnRange, ColumnStats};
use super::*;

fn readings() -> TableSchema {
    table(
        &[
            ("device", DataType::Text),
            ("ts", DataType::TimestampTz),
            ("value", DataType::Float8),
            ("count", DataType::Int8),
        ],
        &[0, 1],
    )
}

fn reading(schema: &TableSchema, device: u64, tick: i64, stamp: u64) -> Version {
    let row = vec![
        Value::Text(format!("device-{device:03}")),
        Value::TimestampTz(tick * 1_000_000),
        Value::Float8(tick as f64 / 10.0),
        match tick % 10 {
            9 => Value::Null,
            _ => Value::Int8(tick),
        },
    ];
    put(schema, stamp, row)
}

fn series(schema: &TableSchema, devices: u64, ticks: i64) -> Vec<Version> {
    let reading = |d, t: i64| reading(schema, d, t, 1_000_000 + t as u64);
    (0..devices)
        .flat_map(|d| (0..ticks).map(move |t| (d, t)))
        .map(|(d, t)| reading(d, t))
        .collect()
}

#[test]
fn pages_know_their_columns() {
    let (env, schema) = (Env::simulated(1), readings());
    let all = batch(&schema, &series(&schema, 2, 100));
    let meta = write(&env, &schema, &small_pages(100), std::slice::from_ref(&all)).unwrap();
    let segment = open(&env, &schema).unwrap();
    assert_eq!((meta.rows, segment.pages().len()), (200, 2));
    assert!(meta.one_version_per_key && !meta.has_deletes);
    let page = &segment.pages()[0];
    assert!(page.one_version_per_key && page.open_valid && !page.has_deletes);
    assert_eq!(page.min_recorded, Stamp::from_micros(1_000_000));
    assert_eq!(page.max_recorded, Stamp::from_micros(1_000_099));
    let device: Box<[u8]> = b"device-000"[..].into();
    let expected = [
        ColumnStats {
            null_count: 0,
            range: Some(ColumnRange::Bytes {
                min: device.clone(),
                max: device,
            }),
        },
        ColumnStats {
            null_count: 0,
            range: Some(ColumnRange::Int {
                min: 0,
                max: 99_000_000,
                sum: None,
            }),
        },
        ColumnStats {
            null_count: 0,
            range: Some(ColumnRange::Float {
                min: 0.0,
                max: 9.9,
                sum: (0..100).map(|t| f64::from(t) / 10.0).sum(),
            }),
        },
        ColumnStats {
            null_count: 10,
            range: Some(ColumnRange::Int {
                min: 0,
                max: 98,
                sum: Some(4950 - 540),
            }),
        },
    ];
    assert_eq!(&*page.columns, &expected);
    assert_same(&segment, &schema, &all);
}

#[test]
fn a_key_over_a_page_end_marks_both_pages() {
    let (env, schema) = (Env::simulated(1), readings());
    let mut versions = series(&schema, 1, 30);
    versions.insert(10, reading(&schema, 0, 9, 9));
    versions[9].origin += 1;
    let all = batch(&schema, &versions);
    let meta = write(&env, &schema, &small_pages(10), std::slice::from_ref(&all)).unwrap();
    assert!(!meta.one_version_per_key);
    let segment = open(&env, &schema).unwrap();
    let flags: Vec<bool> = segment
        .pages()
        .iter()
        .map(|p| p.one_version_per_key)
        .collect();
    assert_eq!(flags, [false, false, true, true]);
    assert_eq!(segment.pages_of(&versions[9].key.0), 0..2);
    assert_same(&segment, &schema, &all);
}

#[test]
fn absent_keys_are_filtered() {
    let (env, schema) = (Env::simulated(1), readings());
    let all = batch(&schema, &series(&schema, 20, 500));
    write(&env, &schema, &SegmentOptions::default(), &[all]).unwrap();
    let segment = open(&env, &schema).unwrap();
    let absent = |device, tick: i64| {
        let mut version = reading(&schema, device, tick, 1);
        let last = version.key.0.len() - 1;
        version.key.0[last] ^= 1;
        version.key
    };
    let passed = (0..20)
        .flat_map(|d| (1..499).map(move |t| (d, t)))
        .filter(|(d, t)| segment.may_contain(&absent(*d, *t).0))
        .count();
    assert!(passed < 300, "{passed} of 9960 absent keys pass");
    assert!(!segment.may_contain(b"a"), "before the first key");
    assert!(!segment.may_contain(b"z"), "after the last key");
}

#[test]
fn a_column_added_later_reads_as_null() {
    let (env, schema) = (Env::simulated(1), readings());
    write(
        &env,
        &schema,
        &small_pages(10),
        &[batch(&schema, &series(&schema, 1, 25))],
    )
    .unwrap();
    let mut wider = schema.clone();
    wider.columns.push(ColumnSchema {
        name: "note".into(),
        data_type: DataType::Text,
        nullable: true,
        default: None,
        attributes: Default::default(),
    });
    let segment = open(&env, &wider).unwrap();
    let arrays = segment
        .read_columns(0..3, &[PageColumn::Column(4)])
        .unwrap();
    assert_eq!((arrays[0].len(), arrays[0].null_count()), (25, 25));
    assert_eq!(arrays[0].data_type(), &DataType::Text.to_arrow());
    let row = segment
        .read_rows(1, &[2], &[PageColumn::Column(4)])
        .unwrap();
    assert!(row[0].is_null(0));
}

#[test]
fn other_tables_are_refused() {
    let (env, schema) = (Env::simulated(1), readings());
    write(
        &env,
        &schema,
        &small_pages(10),
        &[batch(&schema, &series(&schema, 1, 5))],
    )
    .unwrap();
    let mut other = schema.clone();
    other.id = TableId(8);
    let mut retyped = schema.clone();
    retyped.columns[2].data_type = DataType::Float4;
    let mut rekeyed = schema.clone();
    rekeyed.primary_key = vec![1, 0];
    let mut narrower = schema.clone();
    narrower.columns.pop();
    for schema in [other, retyped, rekeyed, narrower] {
        let error = open(&env, &schema).unwrap_err();
        assert!(
            matches!(error, SegmentError::SchemaMismatch { .. }),
            "{error}"
        );
    }
}

#[test]
fn unsorted_and_misshapen_versions_are_refused() {
    let (env, schema) = (Env::simulated(1), readings());
    let sorted = batch(&schema, &series(&schema, 1, 9));
    let swapped = sorted.take(&[0, 1, 3, 2]).unwrap();
    let mut older_first = series(&schema, 1, 1);
    older_first.push(reading(&schema, 0, 0, 2_000_000));
    let mut narrow = sorted.clone();
    narrow.columns.pop();
    let mut retyped = sorted.clone();
    retyped.columns[2] = retyped.columns[3].clone();
    for batches in [
        vec![swapped],
        vec![sorted.clone(), sorted],
        vec![batch(&schema, &older_first)],
        vec![narrow],
        vec![retyped],
        vec![],
    ] {
        let error = write(&env, &schema, &small_pages(4), &batches).unwrap_err();
        assert!(
            matches!(error, SegmentError::InvalidInput { .. }),
            "{error}"
        );
    }
}

#[test]
fn wide_rows_make_short_pages() {
    let (env, schema) = (
        Env::simulated(1),
        table(&[("k", DataType::Int8), ("v", DataType::Text)], &[0]),
    );
    let versions: Vec<Version> = (0..60)
        .map(|i| {
            let text = char::from(b'a' + (i % 26) as u8)
                .to_string()
                .repeat(100_000);
            put(&schema, 1, vec![Value::Int8(i), Value::Text(text)])
        })
        .collect();
    let all = batch(&schema, &versions);
    write(
        &env,
        &schema,
        &SegmentOptions::default(),
        std::slice::from_ref(&all),
    )
    .unwrap();
    let segment = open(&env, &schema).unwrap();
    assert_eq!(segment.pages()[0].rows, 11);
    assert_same(&segment, &schema, &all);
}

#[test]
fn a_cache_of_one_byte_still_reads() {
    let (env, schema) = (Env::simulated(1), readings());
    let all = batch(&schema, &series(&schema, 3, 50));
    write(&env, &schema, &small_pages(16), std::slice::from_ref(&all)).unwrap();
    let cache = Arc::new(PageCache::new(1));
    let segment = Segment::open(&env, Path::new("s"), &schema, cache.clone()).unwrap();
    assert_same(&segment, &schema, &all);
    assert!(cache.memory_bytes() <= 1);
}
