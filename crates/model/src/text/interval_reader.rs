//! INTERVAL from text: PostgreSQL's verbose form (`1 year -2 days 03:04`, `3 h
//! ago`), `years-months` of the SQL standard, and ISO 8601 (`P1Y2DT3.5H`).
//!
//! A fraction of a unit spills into the next smaller part as PostgreSQL lets it:
//! years into months, months (of 30 days) into days, days into time.

use super::datetime_reader::{fraction, number};
use super::fault::Fault;
use crate::{DataError, Interval};

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;

/// Reads an INTERVAL.
///
/// Errors: 22007 for what is no interval, 22008 for parts that do not fit.
pub fn parse_interval(text: &[u8]) -> Result<Interval, DataError> {
    let trimmed = text.trim_ascii();
    let read = match trimmed {
        [b'P', rest @ ..] => read_iso(rest),
        _ => read_verbose(trimmed),
    };
    read.and_then(Sum::finish)
        .map_err(|fault| fault.named("interval", text))
}

#[derive(Clone, Copy)]
enum Unit {
    /// So many months.
    Months(i128),
    /// So many days.
    Days(i128),
    /// So many nanoseconds.
    Nanos(i128),
}

/// Unit names with the bit under which a unit may be given only once.
const UNITS: [(&[&str], Unit, u16); 13] = [
    (
        &[
            "microsecond",
            "microsecon",
            "us",
            "usec",
            "usecs",
            "usecond",
            "useconds",
        ],
        Unit::Nanos(1_000),
        1,
    ),
    (
        &[
            "millisecond",
            "millisecon",
            "ms",
            "msec",
            "msecs",
            "msecond",
            "mseconds",
        ],
        Unit::Nanos(1_000_000),
        2,
    ),
    (&["second", "s", "sec", "secs"], Unit::Nanos(SECOND), 4),
    (&["minute", "m", "min", "mins"], Unit::Nanos(MINUTE), 8),
    (&["hour", "h", "hr", "hrs"], Unit::Nanos(HOUR), 16),
    (&["day", "d"], Unit::Days(1), 32),
    (&["week", "w"], Unit::Days(7), 64),
    (&["month", "mon", "mons"], Unit::Months(1), 128),
    (&["year", "y", "yr", "yrs"], Unit::Months(12), 256),
    (&["decade", "dec", "decs"], Unit::Months(120), 512),
    (
        &["century", "c", "cent", "centuries"],
        Unit::Months(1_200),
        1_024,
    ),
    (
        &["millennium", "mil", "mils", "millennia"],
        Unit::Months(12_000),
        2_048,
    ),
    // Finer than PostgreSQL: we keep nanoseconds.
    (
        &["nanosecond", "ns", "nsec", "nsecs"],
        Unit::Nanos(1),
        4_096,
    ),
];
const CLOCK_UNITS: u16 = 4 + 8 + 16;

fn unit_named(word: &[u8]) -> Option<(Unit, u16)> {
    let matches = |name: &str| {
        let name = name.as_bytes();
        // The full names also have a plural.
        word.eq_ignore_ascii_case(name)
            || (name.len() >= 3
                && word.len() == name.len() + 1
                && word[..name.len()].eq_ignore_ascii_case(name)
                && word[name.len()].eq_ignore_ascii_case(&b's'))
    };
    UNITS
        .iter()
        .find(|(names, _, _)| names.iter().any(|name| matches(name)))
        .map(|(_, unit, bit)| (*unit, *bit))
}

/// A signed number of units: whole ones and billionths.
#[derive(Clone, Copy)]
struct Amount {
    is_negative: bool,
    whole: i128,
    billionths: i128,
}

impl Amount {
    fn signed(self, magnitude: i128) -> i128 {
        if self.is_negative {
            -magnitude
        } else {
            magnitude
        }
    }
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
    /// Bits of the units given so far.
    seen: u16,
}

impl Sum {
    fn claim(&mut self, bits: u16) -> Result<(), Fault> {
        if self.seen & bits != 0 {
            return Err(Fault::Syntax);
        }
        self.seen |= bits;
        Ok(())
    }

    fn add(&mut self, amount: Amount, unit: Unit) {
        let Amount {
            whole, billionths, ..
        } = amount;
        match unit {
            Unit::Months(1) => {
                self.months += amount.signed(whole);
                self.add_days(amount, 0, billionths * 30);
            }
            Unit::Months(size) => {
                let spilled = (billionths * size + SECOND / 2) / SECOND;
                self.months += amount.signed(whole * size + spilled);
            }
            Unit::Days(size) => self.add_days(amount, whole * size, billionths * size),
            Unit::Nanos(size) => {
                self.nanos += amount.signed(whole * size + billionths * size / SECOND);
            }
        }
    }

    /// Whole days and billionths of a day.
    fn add_days(&mut self, sign: Amount, days: i128, billionths: i128) {
        self.days += sign.signed(days + billionths / SECOND);
        // Rounded to a microsecond, PostgreSQL's resolution.
        let nanos = billionths % SECOND * (DAY / SECOND);
        self.nanos += sign.signed((nanos + 500) / 1_000 * 1_000);
    }

    fn finish(self) -> Result<Interval, Fault> {
        if self.seen == 0 {
            return Err(Fault::Syntax);
        }
        Ok(Interval {
            months: self.months.try_into().map_err(|_| Fault::Field)?,
            days: self.days.try_into().map_err(|_| Fault::Field)?,
            nanos: self.nanos.try_into().map_err(|_| Fault::Field)?,
        })
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, is_part: impl Fn(&u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|b| is_part(b)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.rest.first() == Some(&byte);
        if is_there {
            self.rest = &self.rest[1..];
        }
        is_there
    }

    /// `[+-]digits[.digits]`
    fn amount(&mut self) -> Result<Amount, Fault> {
        let is_negative = self.skip(b'-');
        if !is_negative {
            self.skip(b'+');
        }
        let whole = self.take(u8::is_ascii_digit);
        let (has_point, digits) = match self.skip(b'.') {
            true => (true, self.take(u8::is_ascii_digit)),
            false => (false, &[][..]),
        };
        if whole.is_empty() && (!has_point || digits.is_empty()) {
            return Err(Fault::Syntax);
        }
        Ok(Amount {
            is_negative,
            whole: match whole {
                [] => 0,
                whole if whole.len() > 19 => return Err(Fault::Field),
                whole => whole.iter().fold(0, |n, b| n * 10 + i128::from(b - b'0')),
            },
            billionths: i128::from(fraction(digits, 9)?),
        })
    }
}

fn read_verbose(text: &[u8]) -> Result<Sum, Fault> {
    let mut cursor = Cursor { rest: text };
    let mut sum = Sum::default();
    cursor.skip(b'@');
    loop {
        cursor.skip_blanks();
        match cursor.rest.first() {
            None => return Ok(sum),
            Some(b'a' | b'A') => {
                // `ago` ends it and turns every part around.
                if !cursor.rest.eq_ignore_ascii_case(b"ago") {
                    return Err(Fault::Syntax);
                }
                return Ok(Sum {
                    months: -sum.months,
                    days: -sum.days,
                    nanos: -sum.nanos,
                    seen: sum.seen,
                });
            }
            Some(_) => read_part(&mut cursor, &mut sum)?,
        }
    }
}

fn read_part(cursor: &mut Cursor<'_>, sum: &mut Sum) -> Result<(), Fault> {
    let amount = cursor.amount()?;
    match cursor.rest {
        [b':', ..] if amount.billionths == 0 => return read_clock(cursor, sum, amount),
        [b'-', b'0'..=b'9', ..] if amount.billionths == 0 => {
            cursor.skip(b'-');
            let months = number(cursor.take(u8::is_ascii_digit))?;
            if months > 11 {
                return Err(Fault::Field);
            }
            // A third part would make it a date.
            if cursor.rest.first() == Some(&b'-') {
                return Err(Fault::Syntax);
            }
            sum.claim(128 + 256)?;
            sum.months += amount.signed(amount.whole * 12 + i128::from(months));
            return Ok(());
        }
        _ => cursor.skip_blanks(),
    }
    let (unit, bit) = match cursor.rest.first() {
        Some(byte) if byte.is_ascii_alphabetic() => {
            unit_named(cursor.take(u8::is_ascii_alphabetic)).ok_or(Fault::Syntax)?
        }
        // A bare number counts days before a time of day, else seconds.
        Some(_) if is_clock_next(cursor.rest) => (Unit::Days(1), 32),
        None => (Unit::Nanos(SECOND), 4),
        Some(_) => return Err(Fault::Syntax),
    };
    sum.claim(bit)?;
    sum.add(amount, unit);
    Ok(())
}

fn is_clock_next(text: &[u8]) -> bool {
    let mut cursor = Cursor { rest: text };
    cursor.amount().is_ok() && cursor.rest.first() == Some(&b':')
}

/// `hours:minutes[:seconds[.f]]`, or `minutes:seconds.f`; the first number is
/// taken already.
fn read_clock(cursor: &mut Cursor<'_>, sum: &mut Sum, first: Amount) -> Result<(), Fault> {
    sum.claim(CLOCK_UNITS)?;
    cursor.skip(b':');
    let second = cursor.amount().and_then(unsigned)?;
    let nanos = if second.billionths != 0 {
        check_sixty(first.whole, second.whole)?;
        first.whole * MINUTE + second.whole * SECOND + second.billionths
    } else {
        let third = match cursor.skip(b':') {
            true => cursor.amount().and_then(unsigned)?,
            false => Amount {
                is_negative: false,
                whole: 0,
                billionths: 0,
            },
        };
        check_sixty(second.whole, third.whole)?;
        first.whole * HOUR + second.whole * MINUTE + third.whole * SECOND + third.billionths
    };
    sum.nanos += first.signed(nanos);
    Ok(())
}

fn unsigned(amount: Amount) -> Result<Amount, Fault> {
    match amount.is_negative {
        true => Err(Fault::Syntax),
        false => Ok(amount),
    }
}

fn check_sixty(minutes: i128, seconds: i128) -> Result<(), Fault> {
    match minutes > 59 || seconds > 60 {
        true => Err(Fault::Field),
        false => Ok(()),
    }
}

/// What follows the `P`.
fn read_iso(text: &[u8]) -> Result<Sum, Fault> {
    let mut cursor = Cursor { rest: text };
    let mut sum = Sum::default();
    let mut in_time = false;
    while !cursor.rest.is_empty() {
        if !in_time && cursor.skip(b'T') {
            in_time = true;
            continue;
        }
        let amount = cursor.amount()?;
        let designator = *cursor.rest.first().ok_or(Fault::Syntax)?;
        cursor.rest = &cursor.rest[1..];
        let (unit, bit) = match (in_time, designator) {
            (false, b'Y') => (Unit::Months(12), 256),
            (false, b'M') => (Unit::Months(1), 128),
            (false, b'W') => (Unit::Days(7), 64),
            (false, b'D') => (Unit::Days(1), 32),
            (true, b'H') => (Unit::Nanos(HOUR), 16),
            (true, b'M') => (Unit::Nanos(MINUTE), 8),
            (true, b'S') => (Unit::Nanos(SECOND), 4),
            _ => return Err(Fault::Syntax),
        };
        sum.claim(bit)?;
        sum.add(amount, unit);
    }
    Ok(sum)
}
