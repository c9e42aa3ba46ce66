//! Results for programs: CSV and one JSON object per line.

use std::io::{self, Write};

use serde_json::value::RawValue;

use crate::cli::reply::{Column, Kind};

/// One CSV record: RFC 4180 quoting, ended by a line feed. NULL is an empty field, the
/// empty string is `""`, so that both survive the way into another database.
pub(crate) fn write_csv_record<'a>(
    out: &mut dyn Write,
    cells: impl Iterator<Item = Option<&'a str>>,
) -> io::Result<()> {
    for (nth, cell) in cells.enumerate() {
        if nth > 0 {
            out.write_all(b",")?;
        }
        let Some(cell) = cell else { continue };
        let special = |b: u8| matches!(b, b'"' | b',' | b'\n' | b'\r');
        if !cell.is_empty() && !cell.bytes().any(special) && cell != "\\." {
            out.write_all(cell.as_bytes())?;
            continue;
        }
        out.write_all(b"\"")?;
        for (nth, part) in cell.split('"').enumerate() {
            if nth > 0 {
                out.write_all(b"\"\"")?;
            }
            out.write_all(part.as_bytes())?;
        }
        out.write_all(b"\"")?;
    }
    out.write_all(b"\n")
}

/// The member names of a result's JSON objects, escaped. A name that occurs twice gets
/// a number, as objects with equal members lose one in most readers.
pub(crate) fn json_names(columns: &[Column]) -> Vec<String> {
    let mut taken: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let mut name = column.name.clone();
        let mut copy = 1;
        while taken.contains(&name) {
            copy += 1;
            name = format!("{}_{copy}", column.name);
        }
        taken.push(name);
    }
    taken.iter().map(|name| json_string(name)).collect()
}

fn json_string(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// One row as a JSON object on a line of its own.
pub(crate) fn write_json_row(
    out: &mut dyn Write,
    names: &[String],
    columns: &[Column],
    cells: &[Option<&str>],
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (nth, cell) in cells.iter().enumerate() {
        if nth > 0 {
            out.write_all(b",")?;
        }
        write!(out, "{}:", names[nth])?;
        match cell {
            None => out.write_all(b"null")?,
            Some(cell) => write_json_value(out, columns[nth].kind, cell)?,
        }
    }
    out.write_all(b"}\n")
}

fn write_json_value(out: &mut dyn Write, kind: Kind, cell: &str) -> io::Result<()> {
    match kind {
        Kind::Number if is_json_number(cell) => out.write_all(cell.as_bytes()),
        Kind::Boolean if matches!(cell, "t" | "true") => out.write_all(b"true"),
        Kind::Boolean if matches!(cell, "f" | "false") => out.write_all(b"false"),
        Kind::Json if serde_json::from_str::<&RawValue>(cell).is_ok() => {
            // A line feed can only stand between tokens, where a blank does as well.
            for (nth, line) in cell.split(['\n', '\r']).enumerate() {
                if nth > 0 {
                    out.write_all(b" ")?;
                }
                out.write_all(line.as_bytes())?;
            }
            Ok(())
        }
        _ => serde_json::to_writer(out, cell).map_err(io::Error::from),
    }
}

/// Whether `text` is a number by JSON's grammar (RFC 8259, section 6).
fn is_json_number(text: &str) -> bool {
    fn digits(bytes: &[u8]) -> usize {
        bytes.iter().take_while(|b| b.is_ascii_digit()).count()
    }
    let bytes = text.as_bytes();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(&bytes[at..]);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return false;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(&bytes[at + 1..]);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(bytes.get(at..).unwrap_or_default());
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_keeps_types() {
        let kinds = [
            Kind::Number,
            Kind::Number,
            Kind::Boolean,
            Kind::Json,
            Kind::Text,
        ];
        let columns: Vec<Column> = kinds
            .iter()
            .map(|kind| Column {
                name: "c\"".into(),
                kind: *kind,
            })
            .collect();
        let names = json_names(&columns);
        let cells = [
            Some("1e-7"),
            Some("NaN"),
            Some("t"),
            Some("{\"a\":\n1}"),
            Some("42"),
        ];
        let mut out = Vec::new();
        write_json_row(&mut out, &names, &columns, &cells).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = r#"{"c\"":1e-7,"c\"_2":"NaN","c\"_3":true,"c\"_4":{"a": 1},"c\"_5":"42"}"#;
        assert_eq!(text.trim_end(), expected);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn numbers_follow_the_json_grammar() {
        for good in ["0", "-0", "12", "-1.50", "1e5", "1.5E-12"] {
            assert!(is_json_number(good), "{good}");
        }
        for bad in [
            "", "-", "01", "1.", ".5", "1e", "1e+", "Infinity", "0x1", "1 ", "+1",
        ] {
            assert!(!is_json_number(bad), "{bad}");
        }
    }

    #[test]
    fn csv_tells_null_from_empty() {
        let mut out = Vec::new();
        let cells = [
            None,
            Some(""),
            Some("a,b"),
            Some("say \"hi\""),
            Some("plain"),
        ];
        write_csv_record(&mut out, cells.into_iter()).unwrap();
        assert_eq!(out, b",\"\",\"a,b\",\"say \"\"hi\"\"\",plain\n");
    }

    proptest! {
        #[test]
        fn csv_round_trips(cells in proptest::collection::vec(any::<String>(), 1..6)) {
            let mut out = Vec::new();
            write_csv_record(&mut out, cells.iter().map(|cell| Some(cell.as_str()))).unwrap();
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&out[..]);
            let record = reader.records().next().unwrap().unwrap();
            let back: Vec<&str> = record.iter().collect();
            prop_assert_eq!(back, cells.iter().map(String::as_str).collect::<Vec<_>>());
        }

        #[test]
        fn what_is_called_a_number_parses_as_json(text in "[-+0-9.eE]{0,8}") {
            let parsed = serde_json::from_str::<serde_json::Number>(&text).is_ok();
            prop_assert_eq!(is_json_number(&text), parsed || is_huge(&text));
        }
    }

    /// serde_json refuses numbers beyond f64 that JSON's grammar allows.
    fn is_huge(text: &str) -> bool {
        is_json_number(text) && text.parse::<f64>().is_ok_and(f64::is_infinite)
    }
}
