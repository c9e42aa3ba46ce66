//! Column names and types for a table that does not exist yet.
//!
//! A column gets the narrowest type that every sampled value fits. Only spellings that
//! the node reads without conversion count, so that inferring never changes a value:
//! `007` and `1,5` stay text, and so does a date in a local order.

use crate::cli::reply::quote_identifier;

/// A column type that can be inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    BigInt,
    Double,
    Date,
    Timestamp,
    TimestampTz,
    Text,
}

impl Type {
    /// Its SQL name.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::BigInt => "bigint",
            Self::Double => "double precision",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Text => "text",
        }
    }
}

/// Narrowest first; text is what remains.
const CANDIDATES: [Type; 6] = [
    Type::Boolean,
    Type::BigInt,
    Type::Double,
    Type::Date,
    Type::Timestamp,
    Type::TimestampTz,
];

/// What a column's values so far allow.
#[derive(Debug, Clone)]
pub(super) struct Guess {
    seen: bool,
    possible: [bool; CANDIDATES.len()],
}

impl Guess {
    /// Nothing seen.
    pub(super) fn new() -> Self {
        Self {
            seen: false,
            possible: [true; CANDIDATES.len()],
        }
    }

    /// Takes in a value that is not NULL.
    pub(super) fn add(&mut self, value: &[u8]) {
        self.seen = true;
        let text = std::str::from_utf8(value).unwrap_or("\u{fffd}");
        for (possible, candidate) in self.possible.iter_mut().zip(CANDIDATES) {
            *possible = *possible && fits(text, candidate);
        }
    }

    /// The type for what was seen; text when nothing was.
    pub(super) fn decide(&self) -> Type {
        if !self.seen {
            return Type::Text;
        }
        let mut fitting = CANDIDATES.iter().zip(self.possible);
        fitting
            .find_map(|(candidate, possible)| possible.then_some(*candidate))
            .unwrap_or(Type::Text)
    }
}

fn fits(text: &str, candidate: Type) -> bool {
    match candidate {
        Type::Boolean => matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "t" | "f" | "yes" | "no"
        ),
        Type::BigInt => is_whole(text) && text.parse::<i64>().is_ok(),
        Type::Double => is_double(text),
        Type::Date => time_zone_of(text) == Some(Zone::DateOnly),
        Type::Timestamp => matches!(time_zone_of(text), Some(Zone::DateOnly | Zone::None)),
        Type::TimestampTz => time_zone_of(text) == Some(Zone::Given),
        Type::Text => true,
    }
}

/// Digits with an optional sign, and no leading zero that a number would lose.
fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'))
}

fn is_double(text: &str) -> bool {
    if matches!(
        text.to_ascii_lowercase().as_str(),
        "nan" | "inf" | "-inf" | "infinity" | "-infinity"
    ) {
        return true;
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let whole = &unsigned[..unsigned
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(unsigned.len())];
    // A whole number beyond 64 bits would lose digits.
    if whole.len() == unsigned.len() {
        return is_whole(text) && text.parse::<i64>().is_ok();
    }
    (whole.is_empty() || is_whole(whole))
        && unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether, and how, a timestamp names its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    DateOnly,
    None,
    Given,
}

/// Reads `YYYY-MM-DD[(T| )HH:MM[:SS[.ffffff]][Z|±HH[[:]MM]]]`; `None` if it is not that.
fn time_zone_of(text: &str) -> Option<Zone> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = number(&bytes[..4], 0, 9999)?;
    let month = number(&bytes[5..7], 1, 12)?;
    number(&bytes[8..10], 1, days_in(year, month))?;
    let rest = &bytes[10..];
    if rest.is_empty() {
        return Some(Zone::DateOnly);
    }
    if !matches!(rest[0], b'T' | b' ') || rest.len() < 6 || rest[3] != b':' {
        return None;
    }
    number(&rest[1..3], 0, 23)?;
    number(&rest[4..6], 0, 59)?;
    let mut rest = &rest[6..];
    if rest.first() == Some(&b':') {
        number(rest.get(1..3)?, 0, 59)?;
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return None;
            }
            rest = &rest[1 + digits..];
        }
    }
    match rest {
        [] => Some(Zone::None),
        b"Z" | b" UTC" => Some(Zone::Given),
        [b'+' | b'-', offset @ ..] => {
            let minutes = match offset {
                [_, _] => &b"00"[..],
                [_, _, b':', minutes @ ..] | [_, _, minutes @ ..] => minutes,
                _ => return None,
            };
            number(offset.get(..2)?, 0, 15)?;
            number(minutes, 0, 59)?;
            Some(Zone::Given)
        }
        _ => None,
    }
}

/// Two or four digits within bounds.
fn number(digits: &[u8], min: u32, max: u32) -> Option<u32> {
    if !(digits.len() == 2 || digits.len() == 4) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    (min..=max).contains(&value).then_some(value)
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Column names for headings: lower case, words joined by `_`, none empty, none twice.
pub(super) fn column_names(headings: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(headings.len());
    for (nth, heading) in headings.iter().enumerate() {
        let mut base = column_name(heading);
        if base.is_empty() {
            base = format!("column_{}", nth + 1);
        }
        let mut name = base.clone();
        let mut copy = 1;
        while names.contains(&name) {
            copy += 1;
            name = format!("{base}_{copy}");
        }
        names.push(name);
    }
    names
}

/// `Machine Temp (°C)` becomes `machine_temp_c`; empty when nothing remains.
pub(super) fn column_name(heading: &str) -> String {
    let mut name = String::new();
    for c in heading.trim().chars() {
        if c.is_alphanumeric() || c == '_' {
            name.extend(c.to_lowercase());
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    let trimmed = name.trim_matches('_');
    match trimmed.starts_with(|c: char| c.is_numeric()) {
        true => format!("c_{trimmed}"),
        false => trimmed.to_owned(),
    }
}

/// The statement that creates the table. `table` is already quoted where it has to be.
pub(super) fn create_table(table: &str, columns: &[(String, Type)], key: &[String]) -> String {
    let mut lines: Vec<String> = columns
        .iter()
        .map(|(name, column_type)| format!("    {} {}", quote_identifier(name), column_type.sql()))
        .collect();
    if !key.is_empty() {
        let names: Vec<String> = key.iter().map(|name| quote_identifier(name)).collect();
        lines.push(format!("    PRIMARY KEY ({})", names.join(", ")));
    }
    format!("CREATE TABLE {table} (\n{}\n)", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(values: &[&str]) -> Type {
        let mut guess = Guess::new();
        values.iter().for_each(|value| guess.add(value.as_bytes()));
        guess.decide()
    }

    #[test]
    fn the_narrowest_type_wins() {
        assert_eq!(infer(&["1", "-20", "0"]), Type::BigInt);
        assert_eq!(infer(&["1", "2.5", "1e-3", ".5", "NaN"]), Type::Double);
        assert_eq!(infer(&["true", "F", "no"]), Type::Boolean);
        assert_eq!(infer(&["2013-12-02", "2016-02-29"]), Type::Date);
        assert_eq!(
            infer(&["2013-12-02 21:15:00", "2013-12-03"]),
            Type::Timestamp
        );
        assert_eq!(
            infer(&["2013-12-02T21:15", "2013-12-02 21:15:00.123456"]),
            Type::Timestamp
        );
        let zoned = [
            "2013-12-02T21:15:00Z",
            "2013-12-02 21:15:00+0530",
            "2013-12-02 21:15:00-08",
        ];
        assert_eq!(infer(&zoned), Type::TimestampTz);
        assert_eq!(infer(&[]), Type::Text);
    }

    #[test]
    fn what_would_change_by_conversion_stays_text() {
        for text in [
            "007",
            "+1",
            "1,5",
            "1_000",
            "0x10",
            "12345678901234567890",
            "00.5",
            "1.",
            "e5",
            "02/12/2013",
            "2013-13-02",
            "2015-02-29",
            "2013-12-02 25:00",
            "2013-12-02 21:15:00.",
            "2013-12-02 21:15:00+5",
            "2013-12-02T21:15:00 Europe/Berlin",
            "maybe",
            "½",
        ] {
            // `1.` is read as a double everywhere, and kept as one.
            let expected = if text == "1." {
                Type::Double
            } else {
                Type::Text
            };
            assert_eq!(infer(&[text]), expected, "{text}");
        }
        assert_eq!(infer(&["1", "true"]), Type::Text);
        assert_eq!(
            infer(&["2013-12-02 21:15:00", "2013-12-02T21:15:00Z"]),
            Type::Text
        );
    }

    #[test]
    fn headings_become_names() {
        let headings = ["Machine Temp (°C)", "VALUE", "value", "", "1st", "größe"];
        let headings: Vec<String> = headings.iter().map(|h| (*h).to_owned()).collect();
        let expected = [
            "machine_temp_c",
            "value",
            "value_2",
            "column_4",
            "c_1st",
            "größe",
        ];
        assert_eq!(column_names(&headings), expected);
    }

    #[test]
    fn the_statement_quotes_what_it_must() {
        let columns = [
            ("order".to_owned(), Type::BigInt),
            ("v".to_owned(), Type::Double),
        ];
        let sql = create_table("t", &columns, &["order".to_owned()]);
        assert_eq!(
            sql,
            "CREATE TABLE t (\n    \"order\" bigint,\n    v double precision,\n    PRIMARY KEY (\"order\")\n)"
        );
    }
}
