//! The oldest segment ever written must still read.

use chronos_env::Env;
use chronos_model::{DataType, Decimal, Value};

use super::*;

/// Written by [`the_segment`] at format version 1.
const GOLDEN: &[u8] = include_bytes!("../../../tests/data/segment-v1.bin");

fn schema() -> TableSchema {
    table(
        &[
            ("device", DataType::Text),
            ("ts", DataType::TimestampTz),
            ("value", DataType::Float8),
            ("note", DataType::Text),
            ("price", DataType::parse("numeric(10,2)").unwrap()),
            ("tags", DataType::parse("text[]").unwrap()),
            ("place", DataType::parse("vector(2)").unwrap()),
        ],
        &[0, 1],
    )
}

/// Columns of several types in the shapes readings have, with NULLs and deletes.
fn the_segment() -> VersionBatch {
    let schema = schema();
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as i64
    };
    let versions: Vec<Version> = (0..1_500i64)
        .map(|i| {
            let row = vec![
                Value::Text(format!("pump-{}", i / 500)),
                Value::TimestampTz(1_700_000_000_000_000 + i * 60_000_000 + random() % 500),
                Value::Float8(2_000.0 + (random() % 100) as f64 / 100.0),
                match i % 3 {
                    0 => Value::Null,
                    _ => Value::Text(format!("the reading of minute {} was fine", i * 17)),
                },
                Value::Numeric(Decimal {
                    unscaled: i128::from(random()),
                    scale: 2,
                }),
                Value::Array(
                    vec![Value::Text("a".into()), Value::Null][..(i % 3) as usize].to_vec(),
                ),
                Value::Vector(vec![i as f32, 0.5]),
            ];
            let mut version = put(&schema, 1_700_000_100_000_000 + i as u64 / 100, row);
            if i % 97 == 13 {
                version.row = None;
            }
            version
        })
        .collect();
    batch(&schema, &versions)
}

#[test]
fn the_oldest_file_still_reads() {
    let env = Env::simulated(1);
    let file = env.disk.create(Path::new("s")).unwrap();
    file.write_at(GOLDEN, 0).unwrap();
    let segment = open(&env, &schema()).unwrap();
    assert_same(&segment, &schema(), &the_segment());
}

/// With `CHRONOS_WRITE_GOLDEN_SEGMENT=<file>` keeps what it writes: for a new version of
/// the format, under a new name.
#[test]
fn todays_writer_takes_no_more_bytes() {
    let env = Env::simulated(1);
    let options = SegmentOptions {
        page_rows: 512,
        ..SegmentOptions::default()
    };
    write(&env, &schema(), &options, &[the_segment()]).unwrap();
    let bytes = env.disk.read(Path::new("s")).unwrap();
    if let Some(path) = std::env::var_os("CHRONOS_WRITE_GOLDEN_SEGMENT") {
        let file = Env::real().disk.create(Path::new(&path)).unwrap();
        file.write_at(&bytes, 0).unwrap();
    }
    let allowed = GOLDEN.len() + GOLDEN.len() / 50;
    assert!(bytes.len() <= allowed, "{} bytes", bytes.len());
}
