//! The oldest segments ever written must still read.

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

/// Written by [`the_floats`] at format version 2, with Chimp128.
const GOLDEN_CHIMP: &[u8] = include_bytes!("../../../tests/data/segment-v2.bin");

fn float_schema() -> TableSchema {
    table(
        &[
            ("id", DataType::Int8),
            ("walk", DataType::Float8),
            ("noise", DataType::Float8),
            ("narrow", DataType::Float4),
            ("list", DataType::parse("float8[]").unwrap()),
        ],
        &[0],
    )
}

/// Floats of every kind that Chimp128 tells apart, with NULLs.
fn the_floats() -> VersionBatch {
    let schema = float_schema();
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 20
    };
    let odd = [
        -0.0,
        f64::from_bits(0x7ff8_dead_beef_0001),
        f64::NEG_INFINITY,
        5e-324,
    ];
    let mut cents = 2_000;
    let versions: Vec<Version> = (0..700)
        .map(|i| {
            cents += random() as i64 % 41 - 20;
            let walk = cents as f64 / 100.0;
            let noise = match i % 50 {
                17 => odd[i / 50 % odd.len()],
                _ => 20.0 + random() as f64 / (1u64 << 44) as f64,
            };
            let row = vec![
                Value::Int8(i as i64),
                Value::Float8(walk),
                match i % 31 {
                    0 => Value::Null,
                    _ => Value::Float8(noise),
                },
                Value::Float4(walk as f32),
                Value::Array(vec![Value::Float8(noise), Value::Null][..i % 3].to_vec()),
            ];
            put(&schema, 1_700_000_100_000_000 + i as u64, row)
        })
        .collect();
    batch(&schema, &versions)
}

fn chimp_pages() -> SegmentOptions {
    SegmentOptions {
        page_rows: 256,
        float_codec: FloatCodec::Chimp,
        ..SegmentOptions::default()
    }
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
fn the_oldest_files_still_read() {
    let goldens = [
        (GOLDEN, schema(), the_segment()),
        (GOLDEN_CHIMP, float_schema(), the_floats()),
    ];
    for (bytes, schema, expected) in goldens {
        let env = Env::simulated(1);
        let file = env.disk.create(Path::new("s")).unwrap();
        file.write_at(bytes, 0).unwrap();
        assert_same(&open(&env, &schema).unwrap(), &schema, &expected);
    }
}

/// With `CHRONOS_WRITE_GOLDEN_SEGMENT=<file>` keeps what it writes, with the version it
/// has behind the name: for a new version of the format, under a new name.
#[test]
fn todays_writer_takes_no_more_bytes() {
    let plain = SegmentOptions {
        page_rows: 512,
        ..SegmentOptions::default()
    };
    let goldens = [
        (GOLDEN, schema(), plain, the_segment()),
        (GOLDEN_CHIMP, float_schema(), chimp_pages(), the_floats()),
    ];
    for (golden, schema, options, versions) in goldens {
        let env = Env::simulated(1);
        write(&env, &schema, &options, &[versions]).unwrap();
        let bytes = env.disk.read(Path::new("s")).unwrap();
        if let Some(mut path) = std::env::var_os("CHRONOS_WRITE_GOLDEN_SEGMENT") {
            path.push(format!(".{}", bytes[8]));
            let file = Env::real().disk.create(Path::new(&path)).unwrap();
            file.write_at(&bytes, 0).unwrap();
        }
        let allowed = golden.len() + golden.len() / 50;
        assert!(bytes.len() <= allowed, "{} bytes", bytes.len());
    }
}
