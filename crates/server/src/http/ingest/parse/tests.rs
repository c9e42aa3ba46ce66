//! Tables of good and bad bodies, and what must hold for any bytes.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;

const T: i64 = 1_704_067_200_000_000;

type Row = (String, String, i64, i64, f64);

fn parse_as(content_type: Option<&str>, body: &[u8]) -> Result<Vec<Row>, IngestError> {
    let mut readings = Readings::new();
    parse_body(content_type, body, &mut readings)?;
    let batch = readings.into_batch().unwrap();
    let text = |c: usize, r: usize| batch.column(c).as_string_view().value(r).to_owned();
    let ts = batch.column(2).as_primitive::<TimestampMicrosecondType>();
    let seq = batch.column(3).as_primitive::<Int64Type>();
    let value = batch.column(4).as_primitive::<Float64Type>();
    let row = |r| {
        (
            text(0, r),
            text(1, r),
            ts.value(r),
            seq.value(r),
            value.value(r),
        )
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

fn parse(body: &str) -> Result<Vec<Row>, IngestError> {
    parse_as(None, body.as_bytes())
}

fn row(device: &str, metric: &str, ts: i64, seq: i64, value: f64) -> Row {
    (device.into(), metric.into(), ts, seq, value)
}

#[test]
fn good_bodies() {
    for (body, expected) in [
        (
            r#"{"device_id":"d1","ts":1704067200,"seq":7,"metrics":{"temp":21.5,"ok":true}}"#,
            vec![row("d1", "temp", T, 7, 21.5), row("d1", "ok", T, 7, 1.0)],
        ),
        (
            " {\n\"metrics\" : { \"a\" : -1e3 , \"b\":false } ,\r\n\"ts\":\"2024-01-01T00:00:00Z\",\t\"device_id\":\"d\"} \n",
            vec![row("d", "a", T, 0, -1000.0), row("d", "b", T, 0, 0.0)],
        ),
        ("[]", vec![]),
        (" [ ] ", vec![]),
        (
            "\u{feff}{\"device_id\":\"d\",\"ts\":0,\"metrics\":{\"a\":1}}",
            vec![row("d", "a", 0, 0, 1.0)],
        ),
        (
            r#"{"device_\u0069d":"Stall \u00fc\ud83d\ude00\n\"\/","ts":0,"metrics":{"a\tb":1,"\\":2}}"#,
            vec![
                row("Stall ü😀\n\"/", "a\tb", 0, 0, 1.0),
                row("Stall ü😀\n\"/", "\\", 0, 0, 2.0),
            ],
        ),
        (
            r#"{"device_id":"ü","ts":0,"metrics":{"温度":1}}"#,
            vec![row("ü", "温度", 0, 0, 1.0)],
        ),
        (
            "{\"device_id\":\"a\",\"ts\":1,\"metrics\":{\"m\":1}}\n\n{\"device_id\":\"b\",\"ts\":1,\"metrics\":{\"m\":2}}\n",
            vec![row("a", "m", 1_000_000, 0, 1.0), row("b", "m", 1_000_000, 0, 2.0)],
        ),
    ] {
        assert_eq!(parse(body), Ok(expected), "{body}");
    }
}

/// (body, field, index, line, byte, a part of the message)
type Bad = (
    &'static str,
    Option<&'static str>,
    u64,
    u64,
    u64,
    &'static str,
);

fn check_bad(cases: &[Bad]) {
    for (body, field, index, line, byte, message) in cases {
        let e = parse(body).unwrap_err();
        let got = (e.field.as_deref(), e.index, e.line, e.byte);
        assert_eq!(got, (*field, *index, *line, *byte), "{body}: {e}");
        assert!(e.message.contains(message), "{body}: {e}");
    }
}

#[test]
fn bad_fields_are_named() {
    check_bad(&[
        (
            r#"{"ts":0,"metrics":{"a":1}}"#,
            Some("device_id"),
            0,
            1,
            0,
            "missing",
        ),
        (
            r#"{"device_id":"d","metrics":{"a":1}}"#,
            Some("ts"),
            0,
            1,
            0,
            "ts is missing",
        ),
        (
            r#"{"device_id":"d","ts":0}"#,
            Some("metrics"),
            0,
            1,
            0,
            "missing",
        ),
        (
            r#"{"device_id":7,"ts":0,"metrics":{"a":1}}"#,
            Some("device_id"),
            0,
            1,
            13,
            "not a number",
        ),
        (
            r#"{"device_id":"","ts":0,"metrics":{"a":1}}"#,
            Some("device_id"),
            0,
            1,
            13,
            "empty",
        ),
        (
            r#"{"device_id":"d","ts":null}"#,
            Some("ts"),
            0,
            1,
            22,
            "not null",
        ),
        (
            r#"{"device_id":"d","ts":"noon"}"#,
            Some("ts"),
            0,
            1,
            22,
            "ISO 8601",
        ),
        (
            r#"{"device_id":"d","ts":1e30}"#,
            Some("ts"),
            0,
            1,
            22,
            "out of range",
        ),
        (
            r#"{"device_id":"d","ts":0,"seq":1.5}"#,
            Some("seq"),
            0,
            1,
            30,
            "integer",
        ),
        (
            r#"{"device_id":"d","ts":0,"seq":"1"}"#,
            Some("seq"),
            0,
            1,
            30,
            "not a string",
        ),
        (
            r#"{"device_id":"d","ts":0,"metrics":{}}"#,
            Some("metrics"),
            0,
            1,
            34,
            "empty",
        ),
        (
            r#"{"device_id":"d","ts":0,"metrics":[1]}"#,
            Some("metrics"),
            0,
            1,
            34,
            "not an array",
        ),
        (
            r#"{"metrics":{"t":"21"}}"#,
            Some("metrics.t"),
            0,
            1,
            16,
            "not a string",
        ),
        (
            r#"{"metrics":{"t":null}}"#,
            Some("metrics.t"),
            0,
            1,
            16,
            "not null",
        ),
        (
            r#"{"metrics":{"t":{"v":1}}}"#,
            Some("metrics.t"),
            0,
            1,
            16,
            "not an object",
        ),
        (
            r#"{"metrics":{"t":1e999}}"#,
            Some("metrics.t"),
            0,
            1,
            16,
            "out of the range",
        ),
        (
            r#"{"metrics":{"t":NaN}}"#,
            Some("metrics.t"),
            0,
            1,
            16,
            "no JSON",
        ),
        (
            r#"{"metrics":{"t":01}}"#,
            Some("metrics.t"),
            0,
            1,
            16,
            "start with 0",
        ),
        (
            r#"{"metrics":{"t":1,"u":2,"t":3}}"#,
            Some("metrics.t"),
            0,
            1,
            24,
            "twice",
        ),
        (
            r#"{"metrics":{"":1}}"#,
            Some("metrics"),
            0,
            1,
            12,
            "name of a metric",
        ),
        (r#"{"ts":0,"ts":0}"#, Some("ts"), 0, 1, 8, "twice"),
        (r#"{"tags":{}}"#, Some("tags"), 0, 1, 1, "unknown field"),
    ]);
}

#[test]
fn bad_text_is_located() {
    check_bad(&[
        ("", None, 0, 1, 0, "no reading"),
        ("  \n ", None, 0, 2, 4, "no reading"),
        ("7", None, 0, 1, 0, "found '7'"),
        ("{", None, 0, 1, 1, "the end of the body"),
        ("[", None, 0, 1, 1, "the end of the body"),
        (r#"{"a" 1}"#, None, 0, 1, 5, "':'"),
        (r#"{"ts":0 "seq":1}"#, None, 0, 1, 8, "',' or '}'"),
        (r#"{"ts":0,}"#, None, 0, 1, 8, "double quotes"),
        (r#"{,"ts":0}"#, None, 0, 1, 1, "double quotes"),
        (
            "{\"device_id\":\"a\nb\"}",
            None,
            0,
            1,
            15,
            "control character",
        ),
        (r#"{"device_id":"a"#, None, 0, 1, 13, "never ends"),
        (r#"{"device_id":"a\"#, None, 0, 1, 15, "escape"),
        (r#"{"device_id":"a\u00"#, None, 0, 1, 15, "hexadecimal"),
        (r#"{"device_id":"\ud800x"}"#, None, 0, 1, 14, "surrogate"),
        (r#"{"device_id":"\udc00"}"#, None, 0, 1, 14, "surrogate"),
        (r#"{"device_id":"\u0000"}"#, None, 0, 1, 14, "u0000"),
        (
            "[{\"device_id\":\"d\",\"ts\":0,\"metrics\":{\"a\":1}},\n 7]",
            None,
            1,
            2,
            46,
            "a reading",
        ),
        (
            "{\"device_id\":\"d\",\"ts\":0,\"metrics\":{\"a\":1}}\n\n{\"ts\":x}",
            Some("ts"),
            1,
            3,
            50,
            "no JSON",
        ),
        (
            "[{\"device_id\":\"d\",\"ts\":0,\"metrics\":{\"a\":1}}] 1",
            None,
            1,
            1,
            45,
            "nothing after",
        ),
    ]);
    let e = parse_as(None, b"{\"device_id\":\"\xff\"}").unwrap_err();
    assert_eq!((e.byte, e.message.as_str()), (14, "the body is not UTF-8"));
    let e = parse_as(Some("application/x-ndjson; charset=utf-8"), b"[]").unwrap_err();
    assert!(e.message.contains("a reading"), "{e}");
}

#[test]
fn long_names_are_refused() {
    let name = "n".repeat(NAME_MAX_BYTES);
    let body = |device: &str, metric: &str| {
        format!(r#"{{"device_id":"{device}","ts":0,"metrics":{{"{metric}":1}}}}"#)
    };
    assert_eq!(parse(&body(&name, &name)).unwrap().len(), 1);
    let longer = format!("{name}n");
    assert_eq!(
        parse(&body(&longer, "m")).unwrap_err().field.as_deref(),
        Some("device_id")
    );
    assert_eq!(
        parse(&body("d", &longer)).unwrap_err().field.as_deref(),
        Some("metrics")
    );
}

#[test]
fn repeated_names_are_found_among_many() {
    let mut members: Vec<_> = (0..100).map(|i| format!("\"m{i}\":{i}")).collect();
    let body = |members: &[String]| {
        format!(
            r#"{{"device_id":"d","ts":0,"metrics":{{{}}}}}"#,
            members.join(",")
        )
    };
    assert_eq!(parse(&body(&members)).unwrap().len(), 100);
    members.push("\"m42\":0".into());
    assert_eq!(
        parse(&body(&members)).unwrap_err().field.as_deref(),
        Some("metrics.m42")
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_as(None, &bytes);
    }

    #[test]
    fn a_damaged_body_never_panics_and_its_error_is_inside(
        at in 0usize..120, byte in any::<u8>(), cut in 0usize..120,
    ) {
        let good = r#"[{"device_id":"d\u00fc1","ts":1704067200.5,"seq":-7,"metrics":{"temp":21.5,"ok":true}},{"ts":"2024-01-01T00:00:00Z"}]"#;
        let mut body = good.as_bytes().to_vec();
        body.truncate(body.len() - cut.min(body.len()));
        if let Some(b) = body.get_mut(at) {
            *b = byte;
        }
        if let Err(e) = parse_as(None, &body) {
            prop_assert!(e.byte <= body.len() as u64);
        }
    }

    #[test]
    fn the_form_of_the_body_does_not_matter(
        readings in prop::collection::vec(
            ("[a-z\"\\\\ü😀]{1,20}", -99_999_999_999i64..99_999_999_999, any::<i64>(),
             prop::collection::btree_map("[A-Za-z_ /\n]{1,16}", -1e300f64..1e300, 1..20)),
            1..8,
        ),
    ) {
        let mut rows = Vec::new();
        let mut objects = Vec::new();
        for (device, ts, seq, metrics) in &readings {
            let metrics_json = serde_json::to_value(metrics).unwrap();
            objects.push(serde_json::json!({
                "device_id": device, "ts": ts, "seq": seq, "metrics": metrics_json,
            }));
            for (name, value) in metrics {
                rows.push(row(device, name, ts * 1_000_000, *seq, *value));
            }
        }
        let lines: String = objects.iter().map(|o| format!("{o}\n")).collect();
        let array = serde_json::Value::from(objects);
        let pretty = serde_json::to_string_pretty(&array).unwrap();
        let expected = Ok(rows);
        prop_assert_eq!(&parse(&lines), &expected);
        prop_assert_eq!(&parse_as(Some("application/x-ndjson"), lines.as_bytes()), &expected);
        prop_assert_eq!(&parse(&array.to_string()), &expected);
        prop_assert_eq!(&parse(&pretty), &expected);
    }
}
