//! Segments of a table whose columns have changed.

use chronos_env::Env;
use chronos_model::{value_at, DataType, Value};

use super::super::ColumnRange;
use super::*;

fn before() -> TableSchema {
    table(
        &[
            ("k", DataType::Int8),
            ("gone", DataType::Text),
            ("n", DataType::Int2),
        ],
        &[0],
    )
}

/// `n` is wider, `gone` is gone, `late` has come.
fn after() -> TableSchema {
    let mut schema = before();
    schema.widen_column(2, DataType::Int8).unwrap();
    let mut late = schema.columns[1].clone();
    late.name = "late".into();
    late.set_missing(&Value::Text("x".into()));
    schema.remove_column(1);
    schema.add_column(late);
    schema
}

fn written(env: &Env, schema: &TableSchema, row: impl Fn(i64) -> Vec<Value>) {
    let versions: Vec<Version> = (0..25).map(|k| put(schema, 1_000, row(k))).collect();
    write(env, schema, &small_pages(10), &[batch(schema, &versions)]).unwrap();
}

fn values(segment: &Segment, schema: &TableSchema, row: u32) -> Vec<Value> {
    let columns: Vec<_> = (0..schema.columns.len()).map(PageColumn::Column).collect();
    let whole = segment.read_columns(0..3, &columns).unwrap();
    let single = segment.read_rows(1, &[row], &columns).unwrap();
    let value = |(i, array): (usize, &arrow_array::ArrayRef)| {
        let data_type = &schema.columns[i].data_type;
        let value = value_at(array, 0, data_type).unwrap();
        let same = value_at(&whole[i], 10 + row as usize, data_type).unwrap();
        assert_eq!(value, same);
        value
    };
    single.iter().enumerate().map(value).collect()
}

#[test]
fn an_older_segment_is_read_with_the_columns_of_today() {
    let (env, schema) = (Env::simulated(1), after());
    written(&env, &before(), |k| {
        vec![
            Value::Int8(k),
            Value::Text("old".into()),
            Value::Int2(k as i16),
        ]
    });
    let segment = open(&env, &schema).unwrap();
    let row = [Value::Int8(12), Value::Int8(12), Value::Text("x".into())];
    assert_eq!(values(&segment, &schema, 2), row);
    let columns = &segment.pages()[0].columns;
    let (min, max, sum) = (0, 9, Some(45));
    assert_eq!(columns[1].range, Some(ColumnRange::Int { min, max, sum }));
    let bound: Box<[u8]> = b"x"[..].into();
    let range = ColumnRange::Bytes {
        min: bound.clone(),
        max: bound,
    };
    assert_eq!(
        (columns[2].null_count, &columns[2].range),
        (0, &Some(range))
    );
    segment.verify().unwrap();
}

#[test]
fn a_newer_segment_says_which_columns_it_has() {
    let (env, schema) = (Env::simulated(1), after());
    written(&env, &schema, |k| {
        vec![
            Value::Int8(k),
            Value::Int8(k << 40),
            Value::Text("new".into()),
        ]
    });
    let segment = open(&env, &schema).unwrap();
    let row = [
        Value::Int8(12),
        Value::Int8(12 << 40),
        Value::Text("new".into()),
    ];
    assert_eq!(values(&segment, &schema, 2), row);
    let mut later = schema.clone();
    later.remove_column(1);
    let segment = segment.shaped_as(&later).unwrap();
    let row = [Value::Int8(12), Value::Text("new".into())];
    assert_eq!(values(&segment, &later, 2), row);
    // A table that never had one of its columns is another table.
    let error = open(&env, &before()).unwrap_err();
    assert!(
        matches!(error, SegmentError::SchemaMismatch { .. }),
        "{error}"
    );
}
