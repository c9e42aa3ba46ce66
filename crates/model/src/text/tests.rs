//! Literals of every type, good and bad, and the property that what is written
//! reads back. The expected forms were checked against PostgreSQL 15.

use proptest::prelude::*;

use super::*;
use crate::{Decimal, Interval};

/// Type, literals, and what PostgreSQL prints for each.
const GOOD: &[(&str, &[(&str, &str)])] = &[
    (
        "bool",
        &[
            ("t", "t"),
            (" TRUE ", "t"),
            ("ye", "t"),
            ("on", "t"),
            ("1", "t"),
        ],
    ),
    (
        "bool",
        &[
            ("f", "f"),
            ("fals", "f"),
            ("No", "f"),
            ("of", "f"),
            ("0", "f"),
        ],
    ),
    ("smallint", &[("-32768", "-32768"), (" +7 ", "7")]),
    ("int4", &[("2147483647", "2147483647"), ("-0", "0")]),
    (
        "bigint",
        &[
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1_000_000", "1000000"),
            ("0x1F", "31"),
            ("-0o17", "-15"),
            ("0b_101", "5"),
            ("\t 0000000000000000000042\n", "42"),
        ],
    ),
    (
        "float8",
        &[
            ("3.0", "3"),
            ("1.5", "1.5"),
            ("1e20", "1e+20"),
            ("-1.25e-7", "-1.25e-07"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("123456789012345", "123456789012345"),
            ("1234567890123456", "1.234567890123456e+15"),
            ("0.1", "0.1"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0", "-0"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
            ("+Infinity", "Infinity"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"),
            ("0e-999", "0"),
            ("123456789.123456789", "123456789.12345679"),
        ],
    ),
    (
        "real",
        &[
            ("100000", "100000"),
            ("1000000", "1e+06"),
            ("0.1", "0.1"),
            ("16777217", "1.6777216e+07"),
            ("3.4028235e38", "3.4028235e+38"),
        ],
    ),
    (
        "numeric(10,2)",
        &[
            ("1.005", "1.01"),
            ("-1.005", "-1.01"),
            ("12345678.994", "12345678.99"),
            ("1e3", "1000.00"),
            ("5e-3", "0.01"),
            ("4.9e-3", "0.00"),
            ("0.000e99", "0.00"),
            (" .5 ", "0.50"),
            ("1_0.2_5", "10.25"),
        ],
    ),
    (
        "numeric(38,0)",
        &[(
            "99999999999999999999999999999999999999",
            "99999999999999999999999999999999999999",
        )],
    ),
    (
        "bytea",
        &[
            ("\\x00FFab", "\\x00ffab"),
            ("\\x 01 02", "\\x0102"),
            ("a\\\\b\\001", "\\x615c6201"),
            ("", "\\x"),
        ],
    ),
    (
        "uuid",
        &[
            (
                "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
            (
                "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
            (
                "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
        ],
    ),
    (
        "date",
        &[
            ("2024-02-29", "2024-02-29"),
            ("20240105", "2024-01-05"),
            ("Jan 5 2024", "2024-01-05"),
            ("5 January, 2024", "2024-01-05"),
            ("Fri 5-Jan-2024", "2024-01-05"),
            ("Jan-05-2024", "2024-01-05"),
            ("1/5/2024", "2024-01-05"),
            ("1/5/69", "2069-01-05"),
            ("1/5/70", "1970-01-05"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("2024-01-05 23:59:59", "2024-01-05"),
            ("5874897-12-31", "5874897-12-31"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            ("epoch", "1970-01-01"),
        ],
    ),
    (
        "time",
        &[
            ("12:34", "12:34:00"),
            ("12:34:56.1234567", "12:34:56.123457"),
            ("1:02:03 PM", "13:02:03"),
            ("12:00 am", "00:00:00"),
            ("24:00", "24:00:00"),
            ("23:59:60", "24:00:00"),
            ("12:00:00+02", "12:00:00"),
        ],
    ),
    (
        "timestamp",
        &[
            ("2024-01-05", "2024-01-05 00:00:00"),
            ("2024-01-05T10:11:12", "2024-01-05 10:11:12"),
            ("2024-01-05 10:11", "2024-01-05 10:11:00"),
            ("2024-01-05 10:11:12.5", "2024-01-05 10:11:12.5"),
            (
                "2024-01-05 10:11:12.123456789",
                "2024-01-05 10:11:12.123457",
            ),
            ("2024-12-31 23:59:59.9999999", "2025-01-01 00:00:00"),
            ("2024-01-05 10:11:12+05", "2024-01-05 10:11:12"),
            ("20240105T101112", "2024-01-05 10:11:12"),
            ("2024-01-05 24:00:00", "2024-01-06 00:00:00"),
            ("1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"),
            ("0001-01-01 00:00:00 BC", "0001-01-01 00:00:00 BC"),
            ("12345-06-07 08:09:10", "12345-06-07 08:09:10"),
            ("infinity", "infinity"),
            ("Fri Jan 5 10:11:12 2024", "2024-01-05 10:11:12"),
        ],
    ),
    (
        "timestamptz",
        &[
            ("2024-01-05 10:11:12", "2024-01-05 10:11:12+00"),
            ("2024-01-05T10:11:12Z", "2024-01-05 10:11:12+00"),
            ("2024-01-05T10:11:12.25+02:00", "2024-01-05 08:11:12.25+00"),
            ("2024-01-05 10:11:12-0330", "2024-01-05 13:41:12+00"),
            ("2024-01-05 10:11:12+5", "2024-01-05 05:11:12+00"),
            ("2024-01-05 10:11:12 UTC", "2024-01-05 10:11:12+00"),
            ("2024-01-05 10:11:12 PST", "2024-01-05 18:11:12+00"),
            ("2024-01-05 10:11 PM gmt", "2024-01-05 22:11:00+00"),
            ("0044-03-15 12:00:00+01 BC", "0044-03-15 11:00:00+00 BC"),
            ("-infinity", "-infinity"),
        ],
    ),
    (
        "interval",
        &[
            ("1 day 02:03:04", "1 day 02:03:04"),
            ("1 year 2 mons", "1 year 2 mons"),
            ("1 year 2 mons ago", "-1 years -2 mons"),
            ("@ 1 minute", "00:01:00"),
            ("P1DT2H", "1 day 02:00:00"),
            ("P1Y2M3W4DT5H6M7.5S", "1 year 2 mons 25 days 05:06:07.5"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("2.5 weeks", "17 days 12:00:00"),
            ("0.3 days", "07:12:00"),
            ("-1.5 h", "-01:30:00"),
            ("1-2", "1 year 2 mons"),
            ("1 2:03:04", "1 day 02:03:04"),
            ("90", "00:01:30"),
            ("100:00", "100:00:00"),
            ("10:20.5", "00:10:20.5"),
            ("1 day -01:00", "1 day -01:00:00"),
            ("-1 mons +2 days", "-1 mons +2 days"),
            ("-1 day +01:00", "-1 days +01:00:00"),
            ("3 ms 5 us", "00:00:00.003005"),
            ("1 century 1 decade", "110 years"),
            ("0 s", "00:00:00"),
        ],
    ),
    (
        "json",
        &[(" {\"b\": 1,\"a\":[]} ", " {\"b\": 1,\"a\":[]} ")],
    ),
    (
        "jsonb",
        &[
            ("{\"bb\":1,\"a\":[1,2]}", "{\"a\": [1, 2], \"bb\": 1}"),
            ("{\"a\":1,\"a\":2,\"a\":3}", "{\"a\": 3}"),
            (
                "[1.10, 1e5, -0, 1E-2, 1.50e1]",
                "[1.10, 100000, 0, 0.01, 15.0]",
            ),
            ("12345678901234567890123.5", "12345678901234567890123.5"),
            (
                "\"\\u00e9\\n\\/\\u0001\\ud83d\\ude00\"",
                "\"é\\n/\\u0001😀\"",
            ),
            ("{}", "{}"),
            (" [ ] ", "[]"),
            ("null", "null"),
        ],
    ),
    (
        "bigint[]",
        &[
            ("{1,2,NULL}", "{1,2,NULL}"),
            ("{}", "{}"),
            (" { 1 , 2 } ", "{1,2}"),
        ],
    ),
    (
        "text[]",
        &[
            (
                "{a,\"b c\",\"NULL\",null,\"\"}",
                "{a,\"b c\",\"NULL\",NULL,\"\"}",
            ),
            ("{a b, c }", "{\"a b\",c}"),
            ("{\"q\\\"\\\\\",x\\,y}", "{\"q\\\"\\\\\",\"x,y\"}"),
        ],
    ),
    (
        "timestamptz[]",
        &[("{2024-01-01}", "{\"2024-01-01 00:00:00+00\"}")],
    ),
    ("bytea[]", &[("{\"\\\\x01\"}", "{\"\\\\x01\"}")]),
    ("vector(3)", &[("[1, 2.5,-3e10]", "[1,2.5,-3e+10]")]),
    ("varchar(3)", &[("añb", "añb"), ("abc  ", "abc")]),
];

/// Type, literal, SQLSTATE.
const BAD: &[(&str, &str, &str)] = &[
    ("bool", "", "22P02"),
    ("bool", "o", "22P02"),
    ("bool", "truex", "22P02"),
    ("smallint", "32768", "22003"),
    ("int4", "2147483648", "22003"),
    ("bigint", "9223372036854775808", "22003"),
    ("bigint", "99999999999999999999999999", "22003"),
    ("bigint", "", "22P02"),
    ("bigint", "-", "22P02"),
    ("bigint", "1 2", "22P02"),
    ("bigint", "1.0", "22P02"),
    ("bigint", "1__0", "22P02"),
    ("bigint", "1_", "22P02"),
    ("bigint", "0x", "22P02"),
    ("float8", "1e400", "22003"),
    ("float8", "1e-400", "22003"),
    ("real", "1e39", "22003"),
    ("float8", "1.2.3", "22P02"),
    ("float8", ".", "22P02"),
    ("float8", "", "22P02"),
    ("float8", "infinit", "22P02"),
    ("numeric(4,2)", "100", "22003"),
    ("numeric(4,2)", "99.995", "22003"),
    ("numeric", "NaN", "22003"),
    ("numeric", "1e99999999999999999999", "22003"),
    ("numeric", "1e", "22P02"),
    ("numeric", "1..2", "22P02"),
    ("bytea", "\\x0", "22023"),
    ("bytea", "\\xzz", "22023"),
    ("bytea", "a\\9", "22P02"),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "22P02"),
    ("uuid", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "22P02"),
    ("uuid", "a-0eebc999c0b4ef8bb6d6bb9bd380a11", "22P02"),
    ("date", "2023-02-29", "22008"),
    ("date", "2023-13-01", "22008"),
    ("date", "0000-01-01", "22008"),
    ("date", "5874898-01-01", "22008"),
    ("date", "hello", "22007"),
    ("date", "2024-01", "22007"),
    ("date", "today", "22007"),
    ("time", "25:00", "22008"),
    ("time", "24:00:01", "22008"),
    ("time", "12:60", "22008"),
    ("time", "13:00 PM", "22008"),
    ("timestamp", "2024-01-01 12:00:61", "22008"),
    ("timestamp", "300000-01-01 00:00:00", "22008"),
    ("timestamp", "5000-01-01 00:00:00 BC", "22008"),
    ("timestamp", "2024-01-01 now", "22007"),
    ("timestamptz", "2024-01-01 10:00:00 Nowhere/Else", "22007"),
    ("timestamptz", "2024-01-01 10:00:00+99", "22008"),
    ("timestamptz", "2024-01-01 10:00:00 11:00:00", "22007"),
    ("timestamptz", "", "22007"),
    ("interval", "", "22007"),
    ("interval", "1 potato", "22007"),
    ("interval", "1 day 2 days", "22007"),
    ("interval", "ago", "22007"),
    ("interval", "P", "22007"),
    ("interval", "P1H", "22007"),
    ("interval", "99999999999 years", "22008"),
    ("interval", "01:60", "22008"),
    ("json", "{a:1}", "22P02"),
    ("json", "", "22P02"),
    ("jsonb", "[1,]", "22P02"),
    ("jsonb", "[01]", "22P02"),
    ("jsonb", "\"\\u0000\"", "22P02"),
    ("jsonb", "\"\\ud800x\"", "22P02"),
    ("jsonb", "1 2", "22P02"),
    ("jsonb", "1e999999", "22003"),
    ("bigint[]", "1,2", "22P02"),
    ("bigint[]", "{1,}", "22P02"),
    ("bigint[]", "{1,x}", "22P02"),
    ("bigint[]", "{{1},{2}}", "22023"),
    ("text[]", "{\"a}", "22P02"),
    ("text[]", "{a}b", "22P02"),
    ("vector(3)", "[1,2]", "22000"),
    ("vector(3)", "[1,2,NaN]", "22P02"),
    ("vector(3)", "[]", "22P02"),
    ("varchar(3)", "abcd", "22001"),
];

#[test]
fn literals_are_read_as_postgresql_reads_them() {
    for (type_name, cases) in GOOD {
        let data_type = DataType::parse(type_name).unwrap();
        for (literal, expected) in *cases {
            let value = parse(&data_type, literal)
                .unwrap_or_else(|e| panic!("{type_name} '{literal}': {e}"));
            assert_eq!(format(&value), *expected, "{type_name} '{literal}'");
            assert!(
                same(&parse(&data_type, expected).unwrap(), &value),
                "{expected}"
            );
        }
    }
}

#[test]
fn bad_literals_give_their_sqlstate() {
    for (type_name, literal, sqlstate) in BAD {
        let data_type = DataType::parse(type_name).unwrap();
        match parse(&data_type, literal) {
            Ok(value) => panic!("{type_name} '{literal}' was read as {value:?}"),
            Err(e) => assert_eq!(e.sqlstate().0, *sqlstate, "{type_name} '{literal}': {e}"),
        }
    }
}

#[test]
fn a_bare_numeric_keeps_ten_digits_after_the_point() {
    let read = |text| parse(&DataType::Numeric(None), text).map(|v| format(&v));
    assert_eq!(read("1.00000000005").unwrap(), "1.0000000001");
    assert_eq!(read("-7").unwrap(), "-7.0000000000");
    let mut out = Vec::new();
    write_decimal_trimmed(-75_000_000_000, 10, &mut out);
    assert_eq!(out, b"-7.5");
    assert!(read("12345678901234567890123456789").is_err());
}

#[test]
fn errors_repeat_only_the_beginning_of_long_input() {
    let error = parse(&DataType::Int8, &"é".repeat(100_000)).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn deep_json_is_an_error_and_not_a_crash() {
    let deep = "[".repeat(1_000_000);
    assert!(parse(&DataType::Jsonb, &deep).is_err());
    assert!(parse(&DataType::Json, &deep).is_err());
}

/// Days of every DATE but the infinities.
fn any_date() -> impl Strategy<Value = i32> {
    calendar::FIRST_DAY as i32..=calendar::LAST_DAY as i32
}

/// Microseconds of every timestamp but the infinities.
fn any_moment() -> impl Strategy<Value = i64> {
    calendar::FIRST_DAY * DAY_MICROS..i64::MAX
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".*", "[ ,{}\"\\\\a-cNULnul\t\n]{0,12}"]
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        "[^\0]{0,8}".prop_map(serde_json::Value::from),
    ];
    let tree = leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::vec(("[a-cé\"\\\\]{0,3}", inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    });
    tree.prop_map(|tree| tree.to_string())
}

fn any_scalar() -> impl Strategy<Value = (DataType, Value)> {
    prop_oneof![
        any::<bool>().prop_map(|v| (DataType::Bool, Value::Bool(v))),
        any::<i16>().prop_map(|v| (DataType::Int2, Value::Int2(v))),
        any::<i32>().prop_map(|v| (DataType::Int4, Value::Int4(v))),
        any::<i64>().prop_map(|v| (DataType::Int8, Value::Int8(v))),
        any::<f32>().prop_map(|v| (DataType::Float4, Value::Float4(v))),
        any::<f64>().prop_map(|v| (DataType::Float8, Value::Float8(v))),
        (-1e7..1e7).prop_map(|v: f64| (DataType::Float8, Value::Float8(v))),
        (any::<i128>(), 0i8..=38).prop_map(|(v, scale)| {
            let unscaled = v % 10i128.pow(38);
            let value = Value::Numeric(Decimal { unscaled, scale });
            (DataType::Numeric(Some((38, scale))), value)
        }),
        any_text().prop_map(|v| (DataType::Text, Value::Text(v))),
        any::<Vec<u8>>().prop_map(|v| (DataType::Bytea, Value::Bytea(v))),
        any::<[u8; 16]>().prop_map(|v| (DataType::Uuid, Value::Uuid(v))),
        any_date().prop_map(|v| (DataType::Date, Value::Date(v))),
        (0..=DAY_MICROS).prop_map(|v| (DataType::Time, Value::Time(v))),
        any_moment().prop_map(|v| (DataType::Timestamp, Value::Timestamp(v))),
        any_moment().prop_map(|v| (DataType::TimestampTz, Value::TimestampTz(v))),
        (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(months, days, nanos)| {
            let interval = Interval {
                months,
                days,
                nanos,
            };
            (DataType::Interval, Value::Interval(interval))
        }),
        any_json().prop_map(|v| (DataType::Json, Value::Json(v))),
        any_json().prop_map(|v| (DataType::Jsonb, parse(&DataType::Jsonb, &v).unwrap())),
        prop::collection::vec(-1e30f32..1e30, 1..5)
            .prop_map(|v| (DataType::Vector(v.len() as u32), Value::Vector(v))),
    ]
}

/// Equality in which `NaN` equals itself.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float4(a), Value::Float4(b)) => {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }
        (Value::Float8(a), Value::Float8(b)) => {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_reads_back((data_type, value) in any_scalar()) {
        let text = format(&value);
        let read = parse(&data_type, &text);
        prop_assert!(read.as_ref().is_ok_and(|read| same(read, &value)), "{text:?}: {read:?}");

        let items = vec![value.clone(), Value::Null, value];
        if !matches!(data_type, DataType::Vector(_)) {
            let array = Value::Array(items);
            let text = format(&array);
            let read = parse(&DataType::Array(Box::new(data_type)), &text);
            prop_assert!(read.as_ref().is_ok_and(|read| same(read, &array)), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        (data_type, _) in any_scalar(),
        text in "[-+0-9:./ TZPa-zA-Z{}\\[\\]\"\\\\,_eé]{0,24}",
    ) {
        let _ = parse(&data_type, &text);
        let _ = parse(&DataType::Array(Box::new(data_type)), &text);
    }

    #[test]
    fn near_misses_of_moments_do_not_panic(text in "[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}[ T][0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}(\\.[0-9]{0,9})?)?([+-][0-9:]{1,5}|Z| PM| BC)?") {
        let with_zone = parse_timestamptz(text.as_bytes());
        if let Ok(micros) = with_zone {
            let written = format(&Value::TimestampTz(micros));
            prop_assert_eq!(parse_timestamptz(written.as_bytes()).unwrap(), micros);
        }
    }

    #[test]
    fn fast_and_slow_floats_agree(mantissa in any::<u32>(), places in 0usize..12) {
        let digits = std::format!("{mantissa:012}");
        let text = std::format!("{}.{}", &digits[..12 - places], &digits[12 - places..]);
        prop_assert_eq!(parse_f64(text.as_bytes()).unwrap(), text.parse::<f64>().unwrap());
    }

    #[test]
    fn calendar_is_a_bijection(days in calendar::FIRST_DAY..calendar::LAST_DAY) {
        let (year, month, day) = calendar::civil_from_days(days);
        prop_assert!((1..=12).contains(&month));
        prop_assert!(day >= 1 && day <= calendar::days_in_month(year, month));
        prop_assert_eq!(calendar::days_from_civil(year, month, day), days);
    }
}
