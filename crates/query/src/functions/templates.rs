//! The templates of `to_char`, `to_timestamp` and `to_date` for dates and times.
//!
//! Supported are the patterns below, with FM (no padding) and TH before and behind them,
//! and quoted text. Others are refused rather than copied to the output.

use chronos_model::text::{civil_from_days, days_from_civil, days_in_month, DAY_MICROS};
use chronos_model::{Interval, SqlState};

use super::fields::iso_week;
use crate::QueryError;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Patterns; where one begins another, the longer stands first.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "HH", "MI", "SSSSS", "SSSS", "SS", "MS", "US", "AM", "PM", "am", "pm", "A.M.",
    "P.M.", "a.m.", "p.m.", "Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IW", "BC", "AD", "MONTH",
    "Month", "month", "MON", "Mon", "mon", "MM", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD",
    "DD", "D", "ID", "WW", "W", "CC", "J", "Q", "TZH", "TZM", "TZ", "tz", "OF", "RM", "FF",
];

/// The zone of what is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Zone {
    None,
    Utc,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Literal(String),
    Pattern {
        name: &'static str,
        is_unpadded: bool,
        suffix: Option<&'static str>,
    },
}

fn pieces(template: &str) -> Result<Vec<Piece>, QueryError> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (quoted, behind) = rest[1..].split_once('"').unwrap_or((&rest[1..], ""));
            pieces.push(Piece::Literal(quoted.to_owned()));
            rest = behind;
            continue;
        }
        let (is_unpadded, after_prefix) = match rest.get(..2) {
            Some("FM" | "fm") => (true, &rest[2..]),
            _ => (false, rest),
        };
        if let Some(name) = pattern(after_prefix) {
            rest = &after_prefix[name.len()..];
            let suffix = ["TH", "th"].into_iter().find(|s| rest.starts_with(s));
            if let Some(suffix) = suffix {
                rest = &rest[suffix.len()..];
            }
            pieces.push(Piece::Pattern {
                name,
                is_unpadded,
                suffix,
            });
            continue;
        }
        if first.is_ascii_alphabetic() {
            return Err(QueryError::unsupported(format!(
                "the template pattern at \"{rest}\""
            )));
        }
        pieces.push(Piece::Literal(first.to_string()));
        rest = &rest[first.len_utf8()..];
    }
    Ok(pieces)
}

/// The pattern that a text begins with. Digits do not care for case, words do.
fn pattern(text: &str) -> Option<&'static str> {
    let is_word = |p: &str| p.chars().any(char::is_lowercase) || WORDS.contains(&p);
    PATTERNS
        .iter()
        .copied()
        .find(|p| match text.get(..p.len()) {
            Some(head) if is_word(p) => head == *p,
            Some(head) => head.eq_ignore_ascii_case(p),
            None => false,
        })
}

/// Patterns whose case is that of what they write.
const WORDS: &[&str] = &[
    "AM", "PM", "A.M.", "P.M.", "MONTH", "MON", "DAY", "DY", "TZ", "BC", "AD",
];

/// A time by a template.
pub(super) fn write(micros: i64, zone: Zone, template: &str) -> Result<String, QueryError> {
    let mut out = String::new();
    for piece in pieces(template)? {
        match piece {
            Piece::Literal(text) => out.push_str(&text),
            Piece::Pattern {
                name,
                is_unpadded,
                suffix,
            } => {
                let field = field(micros, zone, name, is_unpadded)?;
                out.push_str(&field);
                if let (Some(suffix), Some(last)) = (suffix, field.parse::<i64>().ok()) {
                    let ending = ordinal(last);
                    if suffix == "TH" {
                        out.push_str(&ending.to_ascii_uppercase());
                    } else {
                        out.push_str(ending);
                    }
                }
            }
        }
    }
    Ok(out)
}

/// An interval by a template: its own parts, of which hours may be more than a day has.
pub(super) fn write_interval(interval: Interval, template: &str) -> Result<String, QueryError> {
    let micros = interval.nanos / 1000;
    let (months, days) = (i64::from(interval.months), i64::from(interval.days));
    let (hours, rest) = (micros / 3_600_000_000, micros % 3_600_000_000);
    let mut out = String::new();
    for piece in pieces(template)? {
        let (name, is_unpadded) = match piece {
            Piece::Literal(text) => {
                out.push_str(&text);
                continue;
            }
            Piece::Pattern {
                name, is_unpadded, ..
            } => (name, is_unpadded),
        };
        let (number, width) = match name {
            "YYYY" => (months / 12, 4),
            "YY" => (months / 12 % 100, 2),
            "MM" => (months % 12, 2),
            "DD" => (days, 2),
            "HH24" => (hours, 2),
            "HH" | "HH12" => (
                match hours % 12 {
                    0 => 12,
                    hour => hour,
                },
                2,
            ),
            "MI" => (rest / 60_000_000, 2),
            "SS" => (rest / 1_000_000 % 60, 2),
            "MS" => (rest % 1_000_000 / 1000, 3),
            "US" => (rest % 1_000_000, 6),
            other => {
                let message = format!("\"{other}\" in to_char of an interval");
                return Err(QueryError::unsupported(message));
            }
        };
        let sign = if number < 0 { "-" } else { "" };
        let number = number.unsigned_abs();
        out.push_str(&match is_unpadded {
            true => format!("{sign}{number}"),
            false => format!("{sign}{number:0width$}"),
        });
    }
    Ok(out)
}

fn ordinal(number: i64) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

fn field(micros: i64, zone: Zone, name: &str, is_unpadded: bool) -> Result<String, QueryError> {
    let (days, time) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (year, month, day) = civil_from_days(days);
    let shown_year = if year <= 0 { 1 - year } else { year };
    let hour = time / 3_600_000_000;
    let weekday = (days + 4).rem_euclid(7);
    let day_of_year = days - days_from_civil(year, 1, 1) + 1;
    let number = |value: i64, width: usize| {
        if is_unpadded {
            value.to_string()
        } else {
            format!("{value:0width$}")
        }
    };
    let word = |word: String, width: usize| {
        if is_unpadded {
            word
        } else {
            format!("{word:<width$}")
        }
    };
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[weekday as usize];
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let half = |am: &str, pm: &str| if hour < 12 { am } else { pm }.to_owned();
    let era = |ad: &str, bc: &str| if year > 0 { ad } else { bc }.to_owned();
    Ok(match name {
        "HH24" => number(hour, 2),
        "HH12" | "HH" => number(twelve, 2),
        "MI" => number(time / 60_000_000 % 60, 2),
        "SS" => number(time / 1_000_000 % 60, 2),
        "SSSS" | "SSSSS" => (time / 1_000_000).to_string(),
        "MS" => format!("{:03}", time / 1000 % 1000),
        "US" => format!("{:06}", time % 1_000_000),
        "AM" | "PM" => half("AM", "PM"),
        "am" | "pm" => half("am", "pm"),
        "A.M." | "P.M." => half("A.M.", "P.M."),
        "a.m." | "p.m." => half("a.m.", "p.m."),
        "Y,YYY" => format!("{},{:03}", shown_year / 1000, shown_year % 1000),
        "YYYY" => number(shown_year, 4),
        "YYY" => number(shown_year % 1000, 3),
        "YY" => number(shown_year % 100, 2),
        "Y" => number(shown_year % 10, 1),
        "IYYY" => number(iso_week(days).0, 4),
        "IW" => number(iso_week(days).1, 2),
        "BC" | "AD" => era("AD", "BC"),
        "MONTH" => word(month_name.to_ascii_uppercase(), 9),
        "Month" => word(month_name.to_owned(), 9),
        "month" => word(month_name.to_ascii_lowercase(), 9),
        "MON" => month_name[..3].to_ascii_uppercase(),
        "Mon" => month_name[..3].to_owned(),
        "mon" => month_name[..3].to_ascii_lowercase(),
        "MM" => number(i64::from(month), 2),
        "DAY" => word(day_name.to_ascii_uppercase(), 9),
        "Day" => word(day_name.to_owned(), 9),
        "day" => word(day_name.to_ascii_lowercase(), 9),
        "DY" => day_name[..3].to_ascii_uppercase(),
        "Dy" => day_name[..3].to_owned(),
        "dy" => day_name[..3].to_ascii_lowercase(),
        "DDD" => number(day_of_year, 3),
        "DD" => number(i64::from(day), 2),
        "D" => (weekday + 1).to_string(),
        "ID" => ((days + 3).rem_euclid(7) + 1).to_string(),
        "WW" => number((day_of_year - 1) / 7 + 1, 2),
        "W" => ((i64::from(day) - 1) / 7 + 1).to_string(),
        "CC" => number((shown_year + 99) / 100, 2),
        "J" => (days + 2_440_588).to_string(),
        "Q" => ((month - 1) / 3 + 1).to_string(),
        "TZ" if zone == Zone::Utc => "UTC".to_owned(),
        "tz" if zone == Zone::Utc => "utc".to_owned(),
        "TZ" | "tz" => String::new(),
        "OF" => "+00".to_owned(),
        "TZH" => "+00".to_owned(),
        "TZM" => "00".to_owned(),
        other => {
            return Err(QueryError::unsupported(format!(
                "the template pattern {other}"
            )))
        }
    })
}

/// What a template's patterns read.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    is_afternoon: Option<bool>,
    is_bc: bool,
}

/// A text by a template, in microseconds since 1970.
pub(super) fn read(text: &str, template: &str) -> Result<i64, QueryError> {
    let mut parsed = Read::default();
    let mut rest = text.trim_start();
    for piece in pieces(template)? {
        match piece {
            Piece::Literal(literal) => {
                // As in PostgreSQL any separator stands for any other.
                for _ in literal.chars().filter(|c| !c.is_whitespace()) {
                    let mut chars = rest.chars();
                    if chars.next().is_some_and(|c| !c.is_alphanumeric()) {
                        rest = chars.as_str();
                    }
                }
                rest = rest.trim_start();
            }
            Piece::Pattern { name, .. } => {
                rest = rest.trim_start();
                rest = parsed.take(name, rest)?;
            }
        }
    }
    parsed.micros()
}

fn unreadable(text: &str, pattern: &str) -> QueryError {
    QueryError::new(
        SqlState::INVALID_DATETIME,
        format!("invalid value \"{text}\" for \"{pattern}\""),
    )
}

impl Read {
    /// Reads one pattern, gives what is behind it.
    fn take<'a>(&mut self, name: &str, text: &'a str) -> Result<&'a str, QueryError> {
        let number = |max: usize| {
            let digits = text
                .bytes()
                .take(max)
                .take_while(u8::is_ascii_digit)
                .count();
            let value: i64 = text[..digits].parse().map_err(|_| unreadable(text, name))?;
            Ok::<_, QueryError>((value, digits, &text[digits..]))
        };
        let word = |words: &[&str], length: Option<usize>| {
            words.iter().enumerate().find_map(|(i, w)| {
                let w = &w[..length.unwrap_or(w.len())];
                let head = text.get(..w.len())?;
                head.eq_ignore_ascii_case(w)
                    .then(|| (i as i64, &text[w.len()..]))
            })
        };
        match name {
            "YYYY" => {
                let (value, _, rest) = number(4)?;
                self.year = Some(value);
                Ok(rest)
            }
            "YY" => {
                let (value, _, rest) = number(2)?;
                // The year nearest to 2020, as PostgreSQL has it.
                self.year = Some(if value < 70 {
                    2000 + value
                } else {
                    1900 + value
                });
                Ok(rest)
            }
            "MM" => number(2).map(|(value, _, rest)| {
                self.month = Some(value);
                rest
            }),
            "DD" => number(2).map(|(value, _, rest)| {
                self.day = Some(value);
                rest
            }),
            "DDD" => number(3).map(|(value, _, rest)| {
                self.day_of_year = Some(value);
                rest
            }),
            "HH24" | "HH12" | "HH" => {
                let (value, _, rest) = number(2)?;
                if name != "HH24" && !(1..=12).contains(&value) {
                    let message = format!("hour \"{value}\" is invalid for the 12-hour clock");
                    return Err(QueryError::new(SqlState::INVALID_DATETIME, message));
                }
                self.hour = value;
                Ok(rest)
            }
            "MI" => number(2).map(|(value, _, rest)| {
                self.minute = value;
                rest
            }),
            "SS" => number(2).map(|(value, _, rest)| {
                self.second = value;
                rest
            }),
            "MS" | "US" => {
                let most = if name == "MS" { 3 } else { 6 };
                let (value, digits, rest) = number(most)?;
                self.micros = value * 10i64.pow(6 - digits as u32);
                Ok(rest)
            }
            "AM" | "PM" | "am" | "pm" => {
                let (half, rest) =
                    word(&["AM", "PM"], None).ok_or_else(|| unreadable(text, name))?;
                self.is_afternoon = Some(half == 1);
                Ok(rest)
            }
            "BC" | "AD" => {
                let (era, rest) =
                    word(&["AD", "BC"], None).ok_or_else(|| unreadable(text, name))?;
                self.is_bc = era == 1;
                Ok(rest)
            }
            "MONTH" | "Month" | "month" => {
                let (month, rest) = word(&MONTHS, None).ok_or_else(|| unreadable(text, name))?;
                self.month = Some(month + 1);
                Ok(rest)
            }
            "MON" | "Mon" | "mon" => {
                let (month, rest) = word(&MONTHS, Some(3)).ok_or_else(|| unreadable(text, name))?;
                self.month = Some(month + 1);
                Ok(rest)
            }
            "DAY" | "Day" | "day" => Ok(word(&DAYS, None).ok_or_else(|| unreadable(text, name))?.1),
            "DY" | "Dy" | "dy" => Ok(word(&DAYS, Some(3))
                .ok_or_else(|| unreadable(text, name))?
                .1),
            other => Err(QueryError::unsupported(format!(
                "reading the template pattern {other}"
            ))),
        }
    }

    fn micros(&self) -> Result<i64, QueryError> {
        let out_of_range = || {
            QueryError::new(
                SqlState::DATETIME_OVERFLOW,
                "date/time field value out of range",
            )
        };
        let year = self.year.unwrap_or(1);
        // Without a year it is 1 BC.
        let year = match (self.year, self.is_bc) {
            (None, _) => 0,
            (Some(_), true) => 1 - year,
            _ => year,
        };
        let month = self.month.unwrap_or(1);
        let day = self.day.unwrap_or(1);
        let fits = (1..=12).contains(&month)
            && (1..=i64::from(days_in_month(year, month as u32))).contains(&day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second);
        if !fits {
            return Err(out_of_range());
        }
        let days = match self.day_of_year {
            Some(day) if (1..=366).contains(&day) => days_from_civil(year, 1, 1) + day - 1,
            Some(_) => return Err(out_of_range()),
            None => days_from_civil(year, month as u32, day as u32),
        };
        let hour = match self.is_afternoon {
            Some(is_afternoon) => self.hour % 12 + if is_afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let seconds = (hour * 60 + self.minute) * 60 + self.second;
        Ok(days * DAY_MICROS + seconds * 1_000_000 + self.micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 1_714_979_289_123_000;

    #[test]
    fn times_are_written_by_templates() {
        for (template, expected) in [
            ("YYYY-MM-DD HH24:MI:SS.MS", "2024-05-06 07:08:09.123"),
            ("FMMonth FMDD, YYYY", "May 6, 2024"),
            ("\"at\" DDth Day|", "at 06th Monday   |"),
            ("hh12:mi am", "07:08 am"),
        ] {
            assert_eq!(write(TIME, Zone::None, template).unwrap(), expected);
        }
        assert_eq!(write(TIME, Zone::None, "XX").unwrap_err().code.0, "0A000");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let template = "DD Mon YYYY HH12:MI:SS.US PM";
        let written = write(TIME, Zone::None, template).unwrap();
        assert_eq!(read(&written, template).unwrap(), TIME);
        assert_eq!(
            read("2023-02-29", "YYYY-MM-DD").unwrap_err().code.0,
            "22008"
        );
    }
}
