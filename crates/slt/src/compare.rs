//! What a query is expected to give, and whether an answer is that.
//!
//! Scripts of different origin write the same value differently: SQLite's by the letter of the column
//! (`4.000` in an `R`), sqllogictest-rs' as PostgreSQL shows it, DuckDB's with `true` for `t`; and put
//! a value or a row on a line. An answer is therefore *rendered* in each of the allowed ways, and
//! passes if one of them is what is expected, value by value or row by row.

use md5::{Digest as _, Md5};
use sqllogictest::{ColumnType, ResultMode, SortMode};

use crate::args::Values;

/// A column's letter; every letter is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letter(char);

impl ColumnType for Letter {
    fn from_char(letter: char) -> Option<Letter> {
        (letter.is_ascii_alphabetic() || letter == '?').then_some(Letter(letter))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

/// What a query is expected to give.
pub(crate) struct Expected<'a> {
    pub(crate) letters: &'a [Letter],
    pub(crate) sort: SortMode,
    pub(crate) mode: Option<ResultMode>,
    pub(crate) lines: &'a [String],
    pub(crate) values: Values,
}

/// An answer that is not what is expected.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) why: String,
    pub(crate) actual: Vec<String>,
}

/// Cells of an answer.
pub(crate) type Cells = Vec<Vec<Option<String>>>;

/// Whether an answer of `columns` columns is what is expected.
pub(crate) fn check(expected: &Expected<'_>, columns: usize, rows: &Cells) -> Result<(), Mismatch> {
    if !expected.letters.is_empty() && expected.letters.len() != columns {
        return Err(Mismatch {
            why: format!(
                "{} columns where {} are expected",
                columns,
                expected.letters.len()
            ),
            actual: by_row(&render(rows, expected.letters, Values::Text)),
        });
    }
    let ways: &[Values] = match expected.values {
        Values::Any => &[Values::Text, Values::Sqlite, Values::Words],
        Values::Text => &[Values::Text],
        Values::Sqlite => &[Values::Sqlite],
        Values::Words => &[Values::Words],
    };
    let hash = expected.lines.first().and_then(|line| parse_hash(line));
    let hash = hash.filter(|_| expected.lines.len() == 1);
    let mut actual = Vec::new();
    for way in ways {
        let sorted = sort(render(rows, expected.letters, *way), expected.sort);
        let is_same = match &hash {
            Some((count, digest)) => *count == rows.len() * columns && *digest == hash_of(&sorted),
            None => is_same(expected, &sorted),
        };
        if is_same {
            return Ok(());
        }
        if actual.is_empty() || *way == Values::Sqlite && hash.is_some() {
            actual = by_row(&sorted);
            if hash.is_some() {
                let count = rows.len() * columns;
                actual.insert(0, format!("{count} values hashing to {}", hash_of(&sorted)));
            }
        }
    }
    Err(Mismatch {
        why: "another result is expected".to_owned(),
        actual,
    })
}

/// What tells results apart: queries with the same label must agree in it.
pub(crate) fn fingerprint(letters: &[Letter], sort_mode: SortMode, rows: &Cells) -> String {
    hash_of(&sort(render(rows, letters, Values::Sqlite), sort_mode))
}

/// `30 values hashing to 3c13dee48d9356ae19af2515e05e6b54`
fn parse_hash(line: &str) -> Option<(usize, String)> {
    let (count, digest) = line.trim().split_once(" values hashing to ")?;
    Some((count.parse().ok()?, digest.trim().to_ascii_lowercase()))
}

/// MD5 of the values, each with a line's end, as in SQLite's runner.
fn hash_of(rows: &[Vec<String>]) -> String {
    let mut md5 = Md5::new();
    for value in rows.iter().flatten() {
        md5.update(value.as_bytes());
        md5.update(b"\n");
    }
    let digest = md5.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_same(expected: &Expected<'_>, rows: &[Vec<String>]) -> bool {
    let lines: Vec<String> = expected.lines.iter().map(|l| squeezed(l)).collect();
    let is_by_row = || in_order(&lines, by_row(rows), expected.sort);
    let is_by_value = || {
        in_order(
            &lines,
            rows.iter().flatten().map(|v| squeezed(v)).collect(),
            expected.sort,
        )
    };
    match expected.mode {
        Some(ResultMode::RowWise) => is_by_row(),
        Some(ResultMode::ValueWise) => is_by_value(),
        None => is_by_row() || is_by_value(),
    }
}

/// What is sorted is compared as a set: where runners sort, they do it by texts that they render
/// differently.
fn in_order(expected: &[String], mut actual: Vec<String>, mode: SortMode) -> bool {
    if matches!(mode, SortMode::NoSort) {
        return expected == actual.as_slice();
    }
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    actual.sort_unstable();
    expected == actual
}

fn by_row(rows: &[Vec<String>]) -> Vec<String> {
    rows.iter().map(|row| squeezed(&row.join(" "))).collect()
}

/// Runs of white space count as one space.
fn squeezed(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn sort(mut rows: Vec<Vec<String>>, mode: SortMode) -> Vec<Vec<String>> {
    match mode {
        SortMode::NoSort => rows,
        SortMode::RowSort => {
            rows.sort_unstable();
            rows
        }
        SortMode::ValueSort => {
            let mut values: Vec<String> = rows.into_iter().flatten().collect();
            values.sort_unstable();
            values.into_iter().map(|value| vec![value]).collect()
        }
    }
}

fn render(rows: &Cells, letters: &[Letter], way: Values) -> Vec<Vec<String>> {
    let row = |cells: &Vec<Option<String>>| {
        let cells = cells.iter().enumerate();
        cells
            .map(|(i, cell)| match cell {
                None => "NULL".to_owned(),
                Some(text) if text.is_empty() => "(empty)".to_owned(),
                Some(text) => value(text, letters.get(i).map_or('?', |l| l.0), way),
            })
            .collect()
    };
    rows.iter().map(row).collect()
}

fn value(text: &str, letter: char, way: Values) -> String {
    match (way, letter) {
        (Values::Sqlite, 'I') => integer(text),
        (Values::Sqlite, 'R') => match text.parse::<f64>() {
            Ok(number) => format!("{number:.3}"),
            Err(_) => text.to_owned(),
        },
        // SQLite's runner shows what cannot be printed so.
        (Values::Sqlite, _) => text
            .chars()
            .map(|c| if (' '..='~').contains(&c) { c } else { '@' })
            .collect(),
        (Values::Words, _) if text == "t" => "true".to_owned(),
        (Values::Words, _) if text == "f" => "false".to_owned(),
        _ => text.to_owned(),
    }
}

/// The whole part of a number, and 1 and 0 for truth values.
fn integer(text: &str) -> String {
    match text {
        "t" => return "1".to_owned(),
        "f" => return "0".to_owned(),
        _ => {}
    }
    let is_whole = |t: &str| t.parse::<i128>().is_ok();
    if is_whole(text) {
        return text.to_owned();
    }
    match (text.split_once('.'), text.parse::<f64>()) {
        (Some((whole, behind)), _)
            if is_whole(whole) && behind.bytes().all(|b| b.is_ascii_digit()) =>
        {
            match whole {
                "-0" => "0".to_owned(),
                whole => whole.to_owned(),
            }
        }
        (_, Ok(number)) if number.is_finite() => format!("{:.0}", number.trunc()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[&[&str]]) -> Cells {
        let cell = |c: &&str| (*c != "NULL").then(|| (*c).to_owned());
        cells
            .iter()
            .map(|row| row.iter().map(cell).collect())
            .collect()
    }

    fn passes(
        letters: &str,
        sort: SortMode,
        values: Values,
        cells: &[&[&str]],
        lines: &[&str],
    ) -> bool {
        let letters: Vec<Letter> = letters.chars().filter_map(Letter::from_char).collect();
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        let expected = Expected {
            letters: &letters,
            sort,
            mode: None,
            lines: &lines,
            values,
        };
        check(&expected, letters.len(), &rows(cells)).is_ok()
    }

    #[test]
    fn values_are_those_of_sqlites_runner() {
        let cells: &[&[&str]] = &[&["4.7", "1", "a\tb"], &["t", "NULL", ""]];
        let lines = &["4", "1.000", "a@b", "1", "NULL", "(empty)"];
        assert!(passes(
            "IRT",
            SortMode::NoSort,
            Values::Sqlite,
            cells,
            lines
        ));
        assert!(passes("IRT", SortMode::NoSort, Values::Any, cells, lines));
        assert!(!passes("IRT", SortMode::NoSort, Values::Text, cells, lines));
        for (text, shown) in [
            ("-0.5", "0"),
            ("-1.5", "-1"),
            ("1e3", "1000"),
            ("99999999999999999999", "99999999999999999999"),
            ("x", "x"),
        ] {
            assert_eq!(integer(text), shown);
        }
    }

    #[test]
    fn rows_stand_on_a_line_or_values_do() {
        let cells: &[&[&str]] = &[&["1", "a  b"], &["2", "c"]];
        for lines in [&["1 a b", "2\tc"][..], &["1", "a b", "2", "c"]] {
            assert!(passes("IT", SortMode::NoSort, Values::Text, cells, lines));
        }
        for lines in [&["1 a b"][..], &["2 c", "1 a b"], &[]] {
            assert!(!passes("IT", SortMode::NoSort, Values::Text, cells, lines));
        }
        assert!(passes(
            "IT",
            SortMode::RowSort,
            Values::Text,
            cells,
            &["2 c", "1 a b"]
        ));
        assert!(passes(
            "IT",
            SortMode::ValueSort,
            Values::Text,
            cells,
            &["1", "2", "a b", "c"]
        ));
        assert!(!passes("I", SortMode::NoSort, Values::Text, &[], &["1"]));
    }

    #[test]
    fn hashes_are_those_of_sqlites_runner() {
        // `printf '1\n2\n' | md5sum`
        let hash = "2 values hashing to 6ddb4095eb719e2a9f0a3f95677d24e0";
        let two: &[&[&str]] = &[&["2"], &["1"]];
        assert!(passes("I", SortMode::RowSort, Values::Any, two, &[hash]));
        assert!(!passes("I", SortMode::NoSort, Values::Any, two, &[hash]));
        let wrong = "3 values hashing to 6ddb4095eb719e2a9f0a3f95677d24e0";
        assert!(!passes("I", SortMode::RowSort, Values::Any, two, &[wrong]));
    }
}
