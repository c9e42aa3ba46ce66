//! Whatever versions are written are read back, bit for bit.

use arrow_array::Array;
use chronos_env::Env;
use chronos_model::{DataType, Decimal, Interval, Key, Value};
use proptest::prelude::*;

use super::super::layout::slot;
use super::*;

fn types() -> Vec<DataType> {
    [
        "bigint",
        "boolean",
        "smallint",
        "int4",
        "real",
        "double precision",
        "numeric",
        "numeric(6,2)",
        "text",
        "varchar(9)",
        "bytea",
        "uuid",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "json",
        "jsonb",
        "text[]",
        "double precision[]",
        "numeric[]",
        "boolean[]",
        "vector(3)",
    ]
    .map(|t| DataType::parse(t).unwrap())
    .to_vec()
}

/// Values as they occur: few distinct ones, small steps, decimals, and anything.
fn value(data_type: &DataType) -> BoxedStrategy<Value> {
    let int = prop_oneof![
        Just(0i64),
        -3..3i64,
        any::<i32>().prop_map(i64::from),
        any::<i64>()
    ];
    let float = prop_oneof![
        (-1000..1000i32).prop_map(|v| f64::from(v) / 100.0),
        any::<u64>().prop_map(f64::from_bits),
        Just(-0.0),
        Just(f64::NAN),
    ];
    let text = prop_oneof![Just(String::new()), "[ab]{1,3}", "\\PC{0,30}"];
    match data_type {
        DataType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        DataType::Int2 => int.prop_map(|v| Value::Int2(v as i16)).boxed(),
        DataType::Int4 => int.prop_map(|v| Value::Int4(v as i32)).boxed(),
        DataType::Int8 => int.prop_map(Value::Int8).boxed(),
        DataType::Date => int.prop_map(|v| Value::Date(v as i32)).boxed(),
        DataType::Time => int.prop_map(Value::Time).boxed(),
        DataType::Timestamp => int.prop_map(Value::Timestamp).boxed(),
        DataType::TimestampTz => int.prop_map(Value::TimestampTz).boxed(),
        DataType::Float4 => float.prop_map(|v| Value::Float4(v as f32)).boxed(),
        DataType::Float8 => float.prop_map(Value::Float8).boxed(),
        DataType::Numeric(p) => {
            let scale = DataType::numeric_shape(*p).1;
            let limit = if p.is_some() {
                999_999i128
            } else {
                10i128.pow(37)
            };
            prop_oneof![-99..99i128, -limit..limit]
                .prop_map(move |unscaled| Value::Numeric(Decimal { unscaled, scale }))
                .boxed()
        }
        DataType::Text | DataType::Varchar(_) => text.prop_map(Value::Text).boxed(),
        DataType::Json => text.prop_map(Value::Json).boxed(),
        DataType::Jsonb => text.prop_map(Value::Jsonb).boxed(),
        DataType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        DataType::Bytea => prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(Value::Bytea)
            .boxed(),
        DataType::Interval => (any::<i32>(), any::<i32>(), any::<i64>())
            .prop_map(|(months, days, nanos)| {
                Value::Interval(Interval {
                    months,
                    days,
                    nanos,
                })
            })
            .boxed(),
        DataType::Array(item) => {
            let item = prop_oneof![4 => value(item), 1 => Just(Value::Null)];
            prop::collection::vec(item, 0..5)
                .prop_map(Value::Array)
                .boxed()
        }
        DataType::Vector(n) => prop::collection::vec(any::<f32>(), *n as usize)
            .prop_map(Value::Vector)
            .boxed(),
    }
}

fn row(columns: &[DataType]) -> BoxedStrategy<Vec<Value>> {
    let values: Vec<_> = columns
        .iter()
        .map(|t| prop_oneof![5 => value(t), 1 => Just(Value::Null)])
        .collect();
    values.boxed()
}

/// Rows of all types behind a key column, some of them deletes, sorted.
fn versions() -> impl Strategy<Value = Vec<Version>> {
    let one = (
        0..40i64,
        any::<u32>(),
        0..3u32,
        any::<bool>(),
        0..10u8,
        row(&types()[1..]),
    );
    prop::collection::vec(one, 1..120).prop_map(|rows| {
        let schema = schema();
        let mut versions: Vec<Version> = rows
            .into_iter()
            .map(|(id, stamp, node, is_open, kind, mut row)| {
                row.insert(0, Value::Int8(id));
                let mut version = put(&schema, u64::from(stamp), row);
                version.node = node;
                if !is_open {
                    version.recorded += 4096 * 7;
                    version.valid = (i64::from(stamp) - 5, i64::from(stamp) + 5);
                }
                if kind == 0 {
                    version.row = None;
                }
                version
            })
            .collect();
        versions.sort_by(|a, b| {
            a.key
                .cmp(&b.key)
                .then((b.origin, b.node).cmp(&(a.origin, a.node)))
        });
        versions
    })
}

fn schema() -> TableSchema {
    let types = types();
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let columns: Vec<(&str, DataType)> = names.iter().map(String::as_str).zip(types).collect();
    table(&columns, &[0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn segments_give_back_what_was_written(
        versions in versions(),
        rows in 1..60usize,
        cut in 0..120usize,
        float_codec in prop_oneof![Just(FloatCodec::Auto), Just(FloatCodec::Chimp)],
    ) {
        let (env, schema) = (Env::simulated(1), schema());
        let all = batch(&schema, &versions);
        let cut = cut.min(all.num_rows());
        let parts = [all.slice(0, cut), all.slice(cut, all.num_rows() - cut)];
        let options = SegmentOptions { float_codec, ..small_pages(rows) };
        let meta = write(&env, &schema, &options, &parts).unwrap();
        let segment = open(&env, &schema).unwrap();
        prop_assert_eq!(segment.meta(), &meta);
        assert_same(&segment, &schema, &all);
    }

    #[test]
    fn damaged_blocks_never_panic(
        versions in versions(),
        slot in 0..40usize,
        chimp in any::<bool>(),
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        use super::super::encoding::{encode_column, ColumnAt, ColumnDecoder, Effort, PcoGate};
        let (schema, types) = (schema(), types());
        let column = slot % types.len();
        let array = batch(&schema, &versions).columns[column].clone();
        let mut block = Vec::new();
        let mut gate = PcoGate::default();
        let effort = if chimp { Effort::Chimp } else { Effort::Smallest };
        encode_column(&array, &types[column], effort, &mut gate, &mut block).unwrap();
        for (at, mask) in flips {
            let at = at % block.len();
            block[at] ^= mask;
        }
        let mut decoder = ColumnDecoder::new(&types[column], array.len());
        let pushed = decoder.push(&block, array.len());
        let decoded = pushed.and_then(|()| decoder.finish()).ok();
        let single = ColumnAt::parse(block.clone().into(), &types[column], array.len());
        if let Some(decoded) = &decoded {
            prop_assert_eq!(decoded.len(), array.len());
            // What can be decoded as a whole gives the same values one at a time.
            let single = single.unwrap();
            for row in 0..array.len() {
                let expected = value_at(decoded, row, &types[column]).ok();
                let value = single.value(row).ok();
                prop_assert_eq!(format!("{value:?}"), format!("{expected:?}"));
            }
        } else if let Ok(single) = single {
            (0..array.len()).for_each(|row| {
                let _ = single.value(row);
                let _ = single.put_key(row, &mut Vec::new());
            });
        }
        for len in 0..block.len() {
            let mut decoder = ColumnDecoder::new(&types[column], array.len());
            let _ = decoder.push(&block[..len], array.len());
            let _ = ColumnAt::parse(block[..len].to_vec().into(), &types[column], array.len());
        }
    }
}

/// Integers in the shapes that series have.
fn integers() -> impl Strategy<Value = Vec<i64>> {
    let len = prop_oneof![
        Just(1usize),
        2..50usize,
        Just(1024usize),
        Just(2048usize),
        2000..2100usize
    ];
    let shape = (
        any::<i64>(),
        0..5u8,
        prop_oneof![Just(1i64), Just(1000), any::<i64>()],
    );
    (len, shape, any::<u64>()).prop_map(|(len, (start, shape, unit), seed)| {
        let mut state = seed | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as i64
        };
        let mut walk = start;
        (0..len as i64)
            .map(|i| match shape {
                0 => start.wrapping_add(unit.wrapping_mul(random() % 100)),
                1 => start
                    .wrapping_add(unit.wrapping_mul(i))
                    .wrapping_add(random() % 50),
                2 => {
                    walk = walk.wrapping_add(unit.wrapping_mul(random() % 20));
                    walk
                }
                3 => start.wrapping_add((i / 37).wrapping_mul(unit)),
                _ if random() % 99 == 0 => random(),
                _ => start.wrapping_add(random() % 9),
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn series_of_integers_and_decimals_come_back(values in integers(), exponent in 0..9i32) {
        let (env, schema) = (Env::simulated(1), table(
            &[("k", DataType::Int8), ("v", DataType::TimestampTz), ("f", DataType::Float8)],
            &[0],
        ));
        let versions: Vec<Version> = values
            .iter()
            .enumerate()
            .map(|(i, v)| {
                let decimal = *v as f64 / 10f64.powi(exponent);
                let row = vec![Value::Int8(i as i64), Value::TimestampTz(*v), Value::Float8(decimal)];
                put(&schema, 77, row)
            })
            .collect();
        let all = batch(&schema, &versions);
        write(&env, &schema, &SegmentOptions::default(), std::slice::from_ref(&all)).unwrap();
        assert_same(&open(&env, &schema).unwrap(), &schema, &all);
    }
}

#[test]
fn hidden_keys_and_deletes_of_them_come_back() {
    let (env, schema) = (Env::simulated(1), table(&[("v", DataType::Text)], &[]));
    let versions: Vec<Version> = (0..500u64)
        .map(|i| {
            let mut version = put(
                &schema,
                1000 + i / 10,
                vec![Value::Text(format!("row {i}"))],
            );
            let mut key = (Stamp::from_micros(i / 10).0).to_be_bytes().to_vec();
            key.extend_from_slice(&(i % 10).to_be_bytes());
            version.key = Key(key.into());
            if i % 50 == 3 {
                version.row = None;
            }
            version
        })
        .collect();
    let all = batch(&schema, &versions);
    write(&env, &schema, &small_pages(64), std::slice::from_ref(&all)).unwrap();
    assert_same(&open(&env, &schema).unwrap(), &schema, &all);
}

#[test]
fn keys_that_columns_do_not_give_are_kept() {
    let (env, schema) = (Env::simulated(1), table(&[("k", DataType::Float8)], &[0]));
    let mut versions: Vec<Version> = [-0.0, 1.0, f64::NAN]
        .iter()
        .map(|v| put(&schema, 5, vec![Value::Float8(*v)]))
        .collect();
    versions.push(Version {
        key: Key(vec![0xff; 20].into()),
        ..versions[2].clone()
    });
    let all = batch(&schema, &versions);
    write(&env, &schema, &small_pages(3), std::slice::from_ref(&all)).unwrap();
    assert_same(&open(&env, &schema).unwrap(), &schema, &all);
}

/// The float encoding and length of a column's block; 255 where there are only NULLs.
fn float_block(values: &[Option<f64>], codec: FloatCodec) -> (u8, usize) {
    let (env, schema) = (
        Env::simulated(1),
        table(&[("k", DataType::Int8), ("f", DataType::Float8)], &[0]),
    );
    let versions: Vec<Version> = (0..)
        .zip(values)
        .map(|(i, v)| {
            let value = v.map_or(Value::Null, Value::Float8);
            put(&schema, 5, vec![Value::Int8(i), value])
        })
        .collect();
    let all = batch(&schema, &versions);
    let options = SegmentOptions {
        float_codec: codec,
        ..SegmentOptions::default()
    };
    write(&env, &schema, &options, std::slice::from_ref(&all)).unwrap();
    let segment = open(&env, &schema).unwrap();
    assert_same(&segment, &schema, &all);
    let mut block = Vec::new();
    let copy = |bytes: &[u8]| {
        block = bytes.to_vec();
        Ok(())
    };
    segment.with_block(0, slot::FIRST_COLUMN + 1, copy).unwrap();
    let values_at = match block[0] {
        0 => 1,
        2 => 1 + values.len().div_ceil(8),
        _ => return (255, block.len()),
    };
    (block[values_at], block.len())
}

#[test]
fn chimp_is_used_where_it_was_asked_for() {
    const CHIMP: u8 = 4;
    let decimals: Vec<Option<f64>> = (0..2000).map(|i| Some(f64::from(i % 700) / 10.0)).collect();
    assert_ne!(float_block(&decimals, FloatCodec::Auto).0, CHIMP);
    assert_eq!(float_block(&decimals, FloatCodec::Chimp).0, CHIMP);
    let with_nulls: Vec<_> = decimals.iter().map(|v| v.filter(|v| *v > 9.0)).collect();
    assert_eq!(float_block(&with_nulls, FloatCodec::Chimp).0, CHIMP);
    // Random bits grow a little, but Chimp128 was asked for.
    let noise: Vec<_> = (1..2000u64)
        .map(|i| Some(f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
        .collect();
    assert_eq!(float_block(&noise, FloatCodec::Chimp).0, CHIMP);
    let (encoding, bytes) = float_block(&[Some(21.5); 2000], FloatCodec::Chimp);
    assert!(encoding != CHIMP && bytes < 32, "{encoding}, {bytes} bytes");
    assert_eq!(float_block(&[None; 2000], FloatCodec::Chimp), (255, 1));
}

#[test]
fn only_files_with_chimp_need_a_new_reader() {
    let (env, schema) = (Env::simulated(1), table(&[("f", DataType::Float8)], &[0]));
    let all = batch(&schema, &[put(&schema, 5, vec![Value::Float8(1.5)])]);
    for (float_codec, version) in [(FloatCodec::Auto, 1u32), (FloatCodec::Chimp, 2)] {
        let options = SegmentOptions {
            float_codec,
            ..SegmentOptions::default()
        };
        write(&env, &schema, &options, std::slice::from_ref(&all)).unwrap();
        let bytes = env.disk.read(Path::new("s")).unwrap();
        assert_eq!(bytes[8..12], version.to_le_bytes());
    }
}
