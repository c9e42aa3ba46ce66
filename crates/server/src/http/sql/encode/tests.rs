//! What bodies look like, to the byte.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::types::{Int32Type, IntervalMonthDayNano};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    DurationMillisecondArray, FixedSizeListArray, Float32Array, Float64Array, Int16Array,
    Int64Array, IntervalMonthDayNanoArray, StringArray, StringViewArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType as Arrow, Field};
use chronos_model::SqlState;

use super::*;

fn batch_of(columns: Vec<(&str, &str, ArrayRef)>) -> RecordBatch {
    let field = |(name, sql, array): &(&str, &str, ArrayRef)| match *sql {
        "" => Field::new(*name, array.data_type().clone(), true),
        sql => {
            let field = DataType::parse(sql).unwrap().to_field(name, true);
            field.with_data_type(array.data_type().clone())
        }
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|c| c.2).collect();
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

fn encode(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(format, batches[0].schema(), &mut out).unwrap();
    for batch in batches {
        encoder.rows(batch, &mut out).unwrap();
    }
    let ending = Ending {
        tag: CommandTag {
            verb: "SELECT",
            rows: None,
        },
        elapsed_nanos: 1_500_000,
        notices: &[],
    };
    encoder.end(&ending, &mut out).unwrap();
    out
}

fn text(format: Format, batch: &RecordBatch) -> String {
    String::from_utf8(encode(format, std::slice::from_ref(batch))).unwrap()
}

/// The JSON and CSV of each cell of a column.
fn cells(sql: &str, array: impl arrow_array::Array + 'static) -> (Vec<String>, Vec<String>) {
    let batch = batch_of(vec![("c", sql, Arc::new(array) as ArrayRef)]);
    let json = text(Format::Ndjson, &batch);
    let cell = |line: &str| line["{\"c\":".len()..line.len() - 1].to_owned();
    let json = json.lines().map(cell).collect();
    let csv = text(Format::Csv, &batch);
    let csv = csv.split_terminator("\r\n").skip(1).map(str::to_owned);
    (json, csv.collect())
}

fn check(sql: &str, array: impl arrow_array::Array + 'static, json: &[&str], csv: &[&str]) {
    let (got_json, got_csv) = cells(sql, array);
    assert_eq!(got_json, json, "{sql} as JSON");
    assert_eq!(got_csv, csv, "{sql} as CSV");
}

#[test]
fn numbers() {
    let max = i64::MAX.to_string();
    let ints = Int64Array::from(vec![Some(i64::MAX), Some(-1), None]);
    check("bigint", ints, &[&max, "-1", "null"], &[&max, "-1", ""]);
    check("smallint", Int16Array::from(vec![7]), &["7"], &["7"]);
    let max = u64::MAX.to_string();
    check("", UInt64Array::from(vec![u64::MAX]), &[&max], &[&max]);
    check(
        "double precision",
        Float64Array::from(vec![21.0, 0.1, 1e300, f64::NAN, f64::NEG_INFINITY]),
        &["21", "0.1", "1e+300", "\"NaN\"", "\"-Infinity\""],
        &["21", "0.1", "1e+300", "NaN", "-Infinity"],
    );
    check("real", Float32Array::from(vec![0.1]), &["0.1"], &["0.1"]);
    let decimals = |p, s, values: Vec<i128>| {
        Decimal128Array::from(values)
            .with_precision_and_scale(p, s)
            .unwrap()
    };
    check(
        "numeric(20,2)",
        decimals(20, 2, vec![150, -5, 99_999_999_999_999_999]),
        &["1.50", "-0.05", "\"999999999999999.99\""],
        &["1.50", "-0.05", "999999999999999.99"],
    );
    check(
        "numeric",
        decimals(
            38,
            10,
            vec![15_000_000_000, 1_234_567_890_123_450_000_000_000],
        ),
        &["1.5", "123456789012345"],
        &["1.5", "123456789012345"],
    );
    check(
        "boolean",
        BooleanArray::from(vec![true, false]),
        &["true", "false"],
        &["true", "false"],
    );
}

#[test]
fn times() {
    const T: i64 = 1_704_067_200;
    let micros = vec![T * 1_000_000, T * 1_000_000 + 120_000, -1, i64::MAX];
    check(
        "timestamptz",
        TimestampMicrosecondArray::from(micros).with_timezone("UTC"),
        &[
            "\"2024-01-01T00:00:00Z\"",
            "\"2024-01-01T00:00:00.12Z\"",
            "\"1969-12-31T23:59:59.999999Z\"",
            "\"infinity\"",
        ],
        &[
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.12Z",
            "1969-12-31T23:59:59.999999Z",
            "infinity",
        ],
    );
    check(
        "timestamp",
        TimestampNanosecondArray::from(vec![T * 1_000_000_000 + 1]),
        &["\"2024-01-01T00:00:00.000000001\""],
        &["2024-01-01T00:00:00.000000001"],
    );
    check(
        "",
        TimestampSecondArray::from(vec![T]),
        &["\"2024-01-01T00:00:00\""],
        &["2024-01-01T00:00:00"],
    );
    check(
        "date",
        Date32Array::from(vec![19_723]),
        &["\"2024-01-01\""],
        &["2024-01-01"],
    );
    check(
        "time",
        Time64MicrosecondArray::from(vec![3_661_500_000]),
        &["\"01:01:01.5\""],
        &["01:01:01.5"],
    );
    check(
        "interval",
        IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, 3, 1_000_000_000)]),
        &["\"1 year 2 mons 3 days 00:00:01\""],
        &["1 year 2 mons 3 days 00:00:01"],
    );
    check(
        "",
        DurationMillisecondArray::from(vec![1500]),
        &["\"00:00:01.5\""],
        &["00:00:01.5"],
    );
}

#[test]
fn texts() {
    check(
        "text",
        StringViewArray::from(vec![
            Some("a\"b\\c\n\u{1}ü"),
            Some(""),
            None,
            Some(" x"),
            Some("a,b"),
        ]),
        &[
            "\"a\\\"b\\\\c\\n\\u0001ü\"",
            "\"\"",
            "null",
            "\" x\"",
            "\"a,b\"",
        ],
        &["\"a\"\"b\\c\n\u{1}ü\"", "\"\"", "", "\" x\"", "\"a,b\""],
    );
    check(
        "jsonb",
        StringArray::from(vec!["{\"a\":\n\n [1, 2]}", "\"x\"", "no json"]),
        &["{\"a\":   [1, 2]}", "\"x\"", "\"no json\""],
        &["\"{\"\"a\"\":\n\n [1, 2]}\"", "\"\"\"x\"\"\"", "no json"],
    );
    check(
        "bytea",
        BinaryArray::from_vec(vec![b"\x00\xff"]),
        &["\"\\\\x00ff\""],
        &["\\x00ff"],
    );
    let dictionary: DictionaryArray<Int32Type> =
        vec![Some("a"), None, Some("a")].into_iter().collect();
    check("", dictionary, &["\"a\"", "null", "\"a\""], &["a", "", "a"]);
}

#[test]
fn composites() {
    let mut lists = ListBuilder::new(Int64Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    lists.append_value([]);
    check(
        "",
        lists.finish(),
        &["[1,null]", "null", "[]"],
        &["\"[1,null]\"", "", "[]"],
    );
    let items = Arc::new(Float32Array::from(vec![1.0, 2.5, 3.0, 4.0]));
    let item = Arc::new(Field::new("item", Arrow::Float32, false));
    let vectors = FixedSizeListArray::new(item, 2, items, None);
    check(
        "vector(2)",
        vectors.clone(),
        &["[1,2.5]", "[3,4]"],
        &["\"[1,2.5]\"", "\"[3,4]\""],
    );
    check("vector(2)", vectors.slice(1, 1), &["[3,4]"], &["\"[3,4]\""]);
    let row = StructArray::from(vec![
        (
            Arc::new(Field::new("a\"", Arrow::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("b", Arrow::Utf8, true)),
            Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef,
        ),
    ]);
    check(
        "",
        row,
        &["{\"a\\\"\":1,\"b\":\"x\"}", "{\"a\\\"\":null,\"b\":\"y\"}"],
        &[
            "\"{\"\"a\\\"\"\"\":1,\"\"b\"\":\"\"x\"\"}\"",
            "\"{\"\"a\\\"\"\"\":null,\"\"b\"\":\"\"y\"\"}\"",
        ],
    );
}

fn sample() -> RecordBatch {
    batch_of(vec![
        ("id", "bigint", Arc::new(Int64Array::from(vec![1, 2]))),
        (
            "na,me",
            "text",
            Arc::new(StringViewArray::from(vec![Some("ä"), None])),
        ),
    ])
}

#[test]
fn whole_bodies() {
    let batch = sample();
    assert_eq!(
        text(Format::Json, &batch),
        "{\"columns\":[{\"name\":\"id\",\"type\":\"bigint\"},{\"name\":\"na,me\",\"type\":\"text\"}],\
         \"rows\":[[1,\"ä\"],[2,null]],\"command\":\"SELECT\",\"row_count\":2,\"elapsed_ms\":1.500}\n"
    );
    assert_eq!(
        text(Format::Ndjson, &batch),
        "{\"id\":1,\"na,me\":\"ä\"}\n{\"id\":2,\"na,me\":null}\n"
    );
    assert_eq!(text(Format::Csv, &batch), "id,\"na,me\"\r\n1,ä\r\n2,\r\n");
}

#[test]
fn batches_join_into_one_document() {
    let batch = sample();
    let parts = [batch.slice(0, 1), batch.slice(1, 1)];
    for format in [Format::Json, Format::Ndjson, Format::Csv] {
        let whole = encode(format, std::slice::from_ref(&batch));
        assert_eq!(encode(format, &parts), whole, "{format:?}");
    }
    let empty = [batch.slice(0, 0)];
    let json: serde_json::Value = serde_json::from_slice(&encode(Format::Json, &empty)).unwrap();
    assert_eq!(json["rows"], serde_json::json!([]));
    assert_eq!(json["row_count"], 0);
}

#[test]
fn arrow_streams_read_back_without_views() {
    let batch = sample();
    let bytes = encode(Format::Arrow, &[batch.slice(0, 1), batch.slice(1, 1)]);
    let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let schema = reader.schema();
    assert_eq!(schema.field(1).data_type(), &Arrow::Utf8);
    assert_eq!(DataType::of_field(schema.field(1)), DataType::Text);
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(
        batches
            .iter()
            .map(RecordBatch::num_rows)
            .collect::<Vec<_>>(),
        [1, 1]
    );
}

#[test]
fn columns_of_one_name_are_told_apart_in_objects() {
    let one = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let batch = batch_of(vec![("a", "", one()), ("a", "", one()), ("a_2", "", one())]);
    assert_eq!(
        text(Format::Ndjson, &batch),
        "{\"a\":1,\"a_2\":1,\"a_2_2\":1}\n"
    );
}

#[test]
fn notices_and_counts_end_a_document() {
    let mut out = Vec::new();
    let encoder = Encoder::begin(Format::Json, Arc::new(Schema::empty()), &mut out).unwrap();
    let ending = Ending {
        tag: CommandTag {
            verb: "INSERT",
            rows: Some(3),
        },
        elapsed_nanos: 0,
        notices: &[Notice {
            severity: Severity::Warning,
            code: SqlState::WARNING,
            message: "take \"care\"".into(),
        }],
    };
    encoder.end(&ending, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"columns\":[],\"rows\":[],\"command\":\"INSERT\",\"row_count\":3,\"elapsed_ms\":0.000,\
         \"notices\":[{\"severity\":\"WARNING\",\"code\":\"01000\",\"message\":\"take \\\"care\\\"\"}]}\n"
    );
}
