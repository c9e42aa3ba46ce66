//! The long way from text to a date and time: PostgreSQL's free spellings.
//!
//! The text is cut into words, numbers, times (`10:11:12.5`), dates of three
//! parts (`2024-01-05`, `5-Jan-2024`, `1/5/2024`: month first) and zones, each of
//! which fills a field that must still be empty. What the fields say is checked
//! once all of them are known, because `BC` and `PM` come last.

use super::calendar::{days_from_civil, days_in_month};
use super::fault::Fault;
use super::DAY_MICROS;

/// What a text said.
pub(super) enum Reading {
    Infinity,
    NegativeInfinity,
    /// 1970-01-01 00:00 UTC
    Epoch,
    Fields {
        /// Days since 1970-01-01.
        days: Option<i64>,
        /// Microseconds since midnight, up to a full day.
        micros: Option<i64>,
        /// Seconds east of UTC.
        zone_secs: Option<i32>,
    },
}

impl Reading {
    pub(super) fn of(text: &[u8]) -> Result<Reading, Fault> {
        let text = text.trim_ascii();
        let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
        if is(b"infinity") || is(b"+infinity") {
            return Ok(Reading::Infinity);
        }
        if is(b"-infinity") {
            return Ok(Reading::NegativeInfinity);
        }
        if is(b"epoch") {
            return Ok(Reading::Epoch);
        }
        let mut reader = Reader {
            rest: text,
            ..Reader::default()
        };
        while !reader.rest.is_empty() {
            reader.step()?;
        }
        reader.finish()
    }
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

/// Zone abbreviations of a fixed offset, in minutes east of UTC.
const ZONES: [(&str, i32); 22] = [
    ("z", 0),
    ("utc", 0),
    ("gmt", 0),
    ("ut", 0),
    ("zulu", 0),
    ("wet", 0),
    ("west", 60),
    ("cet", 60),
    ("met", 60),
    ("cest", 120),
    ("eet", 120),
    ("eest", 180),
    ("msk", 180),
    ("jst", 540),
    ("est", -300),
    ("edt", -240),
    ("cst", -360),
    ("cdt", -300),
    ("mst", -420),
    ("mdt", -360),
    ("pst", -480),
    ("pdt", -420),
];

/// The month or weekday of a full or three-letter name.
fn named(names: &[&str], word: &[u8]) -> Option<u32> {
    let at = names.iter().position(|name| {
        let name = name.as_bytes();
        word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(&name[..3])
    })?;
    Some(at as u32 + 1)
}

fn month_named(word: &[u8]) -> Option<u32> {
    if word.eq_ignore_ascii_case(b"sept") {
        return Some(9);
    }
    named(&MONTHS, word)
}

fn is_weekday(word: &[u8]) -> bool {
    named(&WEEKDAYS, word).is_some()
        || [&b"tues"[..], b"wednes", b"weds", b"thur", b"thurs"]
            .iter()
            .any(|short| word.eq_ignore_ascii_case(short))
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    Am,
    Pm,
}

#[derive(Default)]
struct Reader<'a> {
    rest: &'a [u8],
    /// The year as written, and of how many digits.
    year: Option<(i64, usize)>,
    month: Option<u32>,
    day: Option<u32>,
    micros: Option<i64>,
    half: Option<Half>,
    zone_secs: Option<i32>,
    is_bc: Option<bool>,
    /// After the `T` between date and time.
    after_t: bool,
}

/// Fills a field that must be empty.
fn fill<T>(field: &mut Option<T>, value: T) -> Result<(), Fault> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Syntax),
    }
}

/// A short number; too many digits are no field of a date.
pub(super) fn number(digits: &[u8]) -> Result<i64, Fault> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Syntax);
    }
    if digits.len() > 12 {
        return Err(Fault::Field);
    }
    Ok(digits
        .iter()
        .fold(0, |value, b| value * 10 + i64::from(b - b'0')))
}

/// The fraction of a second given by its digits, in units of 10^-`places`,
/// rounded half to even.
pub(super) fn fraction(digits: &[u8], places: usize) -> Result<i64, Fault> {
    let mut value = 0i64;
    for at in 0..places {
        let digit = digits.get(at).map_or(0, |b| b.wrapping_sub(b'0'));
        if digit > 9 {
            return Err(Fault::Syntax);
        }
        value = value * 10 + i64::from(digit);
    }
    let dropped = digits.get(places..).unwrap_or_default();
    if !dropped.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Syntax);
    }
    let is_up = match dropped {
        [] => false,
        [b'5', tail @ ..] if tail.iter().all(|b| *b == b'0') => value % 2 == 1,
        [first, ..] => *first >= b'5',
    };
    Ok(value + i64::from(is_up))
}

impl<'a> Reader<'a> {
    fn step(&mut self) -> Result<(), Fault> {
        match self.rest[0] {
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b',' => {
                self.rest = &self.rest[1..];
                Ok(())
            }
            b'0'..=b'9' => self.digits(),
            b'a'..=b'z' | b'A'..=b'Z' => self.word(),
            b'+' | b'-' => self.zone(),
            _ => Err(Fault::Syntax),
        }
    }

    /// Takes the bytes from here for which `is_part` holds.
    fn take(&mut self, is_part: impl Fn(&u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|b| is_part(b)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn is_date_complete(&self) -> bool {
        self.year.is_some() && self.month.is_some() && self.day.is_some()
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let digits = self.take(u8::is_ascii_digit);
        match self.rest {
            [b':', ..] => self.clock(digits),
            [b'-' | b'/' | b'.', next, ..]
                if self.day.is_none() && next.is_ascii_alphanumeric() =>
            {
                self.date(digits)
            }
            _ => self.loose(digits),
        }
    }

    /// A number without punctuation: a whole date, a whole time, or a part of a
    /// date whose month is spelled out.
    fn loose(&mut self, digits: &'a [u8]) -> Result<(), Fault> {
        let has_date = self.year.is_some() || self.month.is_some() || self.day.is_some();
        match digits.len() {
            8 if !has_date => self.compact_date(digits, 4),
            6 if !has_date => self.compact_date(digits, 2),
            6 if self.is_date_complete() => self.compact_time(digits),
            4 if self.after_t => self.compact_time(digits),
            2 if self.after_t => self.compact_time(digits),
            1 | 2 if self.day.is_none() => {
                self.day = Some(number(digits)? as u32);
                Ok(())
            }
            length => fill(&mut self.year, (number(digits)?, length)),
        }
    }

    fn compact_date(&mut self, digits: &[u8], year_digits: usize) -> Result<(), Fault> {
        let (year, rest) = digits.split_at(year_digits);
        self.year = Some((number(year)?, year_digits));
        self.month = Some(number(&rest[..2])? as u32);
        self.day = Some(number(&rest[2..])? as u32);
        Ok(())
    }

    fn compact_time(&mut self, digits: &[u8]) -> Result<(), Fault> {
        let part = |at: usize| digits.get(at..at + 2).map_or(Ok(0), number);
        let parts = [part(0)?, part(2)?, part(4)?];
        let micros = self.fraction_micros(digits.len() == 6)?;
        self.set_clock(parts, micros)
    }

    fn fraction_micros(&mut self, is_allowed: bool) -> Result<i64, Fault> {
        match self.rest {
            [b'.', rest @ ..] if is_allowed => {
                self.rest = rest;
                let digits = self.take(u8::is_ascii_digit);
                fraction(digits, 6)
            }
            _ => Ok(0),
        }
    }

    /// `HH:MM[:SS[.f]]`; `hour` is taken already.
    fn clock(&mut self, hour: &[u8]) -> Result<(), Fault> {
        let mut parts = [number(hour)?, 0, 0];
        self.rest = &self.rest[1..];
        parts[1] = number(self.take(u8::is_ascii_digit))?;
        let mut micros = 0;
        if let [b':', rest @ ..] = self.rest {
            self.rest = rest;
            parts[2] = number(self.take(u8::is_ascii_digit))?;
            micros = self.fraction_micros(true)?;
        }
        self.set_clock(parts, micros)
    }

    fn set_clock(&mut self, [hour, minute, second]: [i64; 3], micros: i64) -> Result<(), Fault> {
        if hour > 24 || minute > 59 || second > 60 {
            return Err(Fault::Field);
        }
        let total = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
        if total > DAY_MICROS {
            return Err(Fault::Field);
        }
        fill(&mut self.micros, total)
    }

    /// Three parts with the same separator; the first is taken already.
    fn date(&mut self, first: &'a [u8]) -> Result<(), Fault> {
        let separator = self.rest[0];
        let mut part = || {
            if self.rest.first() != Some(&separator) {
                return Err(Fault::Syntax);
            }
            self.rest = &self.rest[1..];
            Ok(match self.rest.first() {
                Some(b'0'..=b'9') => self.take(u8::is_ascii_digit),
                _ => self.take(u8::is_ascii_alphabetic),
            })
        };
        let (second, third) = (part()?, part()?);
        let (year, month, day) = if let Some(month) = month_named(first) {
            (third, month, second)
        } else if let Some(month) = month_named(second) {
            match first.len() {
                0..=2 => (third, month, first),
                _ => (first, month, third),
            }
        } else if first.len() >= 3 {
            (first, number(second)? as u32, third)
        } else {
            (third, number(first)? as u32, second)
        };
        fill(&mut self.year, (number(year)?, year.len()))?;
        fill(&mut self.month, month)?;
        fill(&mut self.day, number(day)? as u32)
    }

    fn word(&mut self) -> Result<(), Fault> {
        let word = self.take(u8::is_ascii_alphabetic);
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if let Some(month) = month_named(word) {
            return match self.rest {
                [b'-' | b'/' | b'.', b'0'..=b'9', ..] if self.day.is_none() => self.date(word),
                _ => fill(&mut self.month, month),
            };
        }
        if is("t") && self.is_date_complete() && !self.after_t {
            self.after_t = true;
            return Ok(());
        }
        if is("am") {
            return fill(&mut self.half, Half::Am);
        }
        if is("pm") {
            return fill(&mut self.half, Half::Pm);
        }
        if is("bc") || is("ad") {
            return fill(&mut self.is_bc, is("bc"));
        }
        if is("allballs") {
            fill(&mut self.zone_secs, 0)?;
            return fill(&mut self.micros, 0);
        }
        if let Some((_, minutes)) = ZONES.iter().find(|(name, _)| is(name)) {
            return fill(&mut self.zone_secs, minutes * 60);
        }
        if is_weekday(word) || is("on") || is("at") {
            return Ok(());
        }
        Err(Fault::Syntax)
    }

    /// `±H`, `±HH`, `±HHMM`, `±HH:MM`, `±HH:MM:SS`.
    fn zone(&mut self) -> Result<(), Fault> {
        if self.micros.is_none() && !self.is_date_complete() {
            return Err(Fault::Syntax);
        }
        let is_west = self.rest[0] == b'-';
        self.rest = &self.rest[1..];
        let first = self.take(u8::is_ascii_digit);
        let mut parts = match first.len() {
            1 | 2 => [number(first)?, 0, 0],
            3 | 4 => {
                let (hours, minutes) = first.split_at(first.len() - 2);
                [number(hours)?, number(minutes)?, 0]
            }
            6 => [
                number(&first[..2])?,
                number(&first[2..4])?,
                number(&first[4..])?,
            ],
            _ => return Err(Fault::Syntax),
        };
        let mut at = 1;
        while let ([b':', rest @ ..], true, 1..=2) = (self.rest, first.len() <= 2, at) {
            self.rest = rest;
            parts[at] = number(self.take(u8::is_ascii_digit))?;
            at += 1;
        }
        let [hours, minutes, seconds] = parts;
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Fault::Field);
        }
        let total = ((hours * 60 + minutes) * 60 + seconds) as i32;
        fill(&mut self.zone_secs, if is_west { -total } else { total })
    }

    fn finish(self) -> Result<Reading, Fault> {
        let days = match (self.year, self.month, self.day) {
            (None, None, None) if self.is_bc.is_none() => None,
            (Some(year), Some(month), Some(day)) => Some(self.days(year, month, day)?),
            _ => return Err(Fault::Syntax),
        };
        if days.is_none() && self.micros.is_none() {
            return Err(Fault::Syntax);
        }
        Ok(Reading::Fields {
            days,
            micros: self.time_of_day()?,
            zone_secs: self.zone_secs,
        })
    }

    fn days(&self, (year, digits): (i64, usize), month: u32, day: u32) -> Result<i64, Fault> {
        let is_bc = self.is_bc == Some(true);
        let year = match year {
            0 if digits > 2 || is_bc => return Err(Fault::Field),
            year if is_bc => 1 - year,
            0..=69 if digits <= 2 => year + 2000,
            70..=99 if digits <= 2 => year + 1900,
            year => year,
        };
        // Beyond every type's range; keeps the arithmetic from overflowing.
        if year.abs() > 10_000_000 || !(1..=12).contains(&month) {
            return Err(Fault::Field);
        }
        if day < 1 || day > days_in_month(year, month) {
            return Err(Fault::Field);
        }
        Ok(days_from_civil(year, month, day))
    }

    fn time_of_day(&self) -> Result<Option<i64>, Fault> {
        const HOUR: i64 = 3_600_000_000;
        let (Some(micros), Some(half)) = (self.micros, self.half) else {
            return match (self.micros, self.half) {
                (None, Some(_)) => Err(Fault::Syntax),
                (micros, _) => Ok(micros),
            };
        };
        let is_twelve = micros / HOUR == 12;
        match half {
            _ if micros >= 13 * HOUR => Err(Fault::Field),
            Half::Am if is_twelve => Ok(Some(micros - 12 * HOUR)),
            Half::Pm if !is_twelve => Ok(Some(micros + 12 * HOUR)),
            _ => Ok(Some(micros)),
        }
    }
}
