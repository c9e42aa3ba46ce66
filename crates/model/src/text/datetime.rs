//! DATE, TIME, TIMESTAMP and TIMESTAMPTZ from text.
//!
//! `YYYY-MM-DD HH:MM:SS[.f][zone]`, which is nearly all that ever comes, is read
//! in place; everything else goes to [`Reading::of`].

use super::calendar::{days_from_civil, days_in_month, FIRST_DAY, LAST_DAY};
use super::datetime_reader::Reading;
use super::fault::Fault;
use super::DAY_MICROS;
use crate::DataError;

/// Reads a DATE as days since 1970-01-01; a time of day is read and dropped.
/// `infinity` and `-infinity` are `i32::MAX` and `i32::MIN`.
pub fn parse_date(text: &[u8]) -> Result<i32, DataError> {
    if let Some(days) = iso_date(text).filter(|_| text.len() == 10) {
        return Ok(days as i32);
    }
    date(text).map_err(|fault| fault.named("date", text))
}

/// Reads a TIME as microseconds since midnight, at most a full day (`24:00`); a
/// zone is read and dropped.
pub fn parse_time(text: &[u8]) -> Result<i64, DataError> {
    time(text).map_err(|fault| fault.named("time without time zone", text))
}

/// Reads a TIMESTAMP as microseconds since 1970-01-01; a zone is read and
/// dropped. `infinity` and `-infinity` are `i64::MAX` and `i64::MIN`.
pub fn parse_timestamp(text: &[u8]) -> Result<i64, DataError> {
    if let Some((local, _)) = iso_timestamp(text) {
        return Ok(local);
    }
    moment(text)
        .and_then(|(local, _)| local)
        .map_err(|fault| fault.named("timestamp without time zone", text))
}

/// Reads a TIMESTAMPTZ as microseconds since the Unix epoch; without a zone it
/// is UTC. `infinity` and `-infinity` are `i64::MAX` and `i64::MIN`.
pub fn parse_timestamptz(text: &[u8]) -> Result<i64, DataError> {
    if let Some((local, zone_secs)) = iso_timestamp(text) {
        return Ok(local - i64::from(zone_secs) * 1_000_000);
    }
    moment(text)
        .and_then(|(_, utc)| utc)
        .map_err(|fault| fault.named("timestamp with time zone", text))
}

fn date(text: &[u8]) -> Result<i32, Fault> {
    match Reading::of(text)? {
        Reading::Infinity => Ok(i32::MAX),
        Reading::NegativeInfinity => Ok(i32::MIN),
        Reading::Epoch => Ok(0),
        Reading::Fields { days, .. } => {
            let days = days.ok_or(Fault::Syntax)?;
            if !(FIRST_DAY..=LAST_DAY).contains(&days) {
                return Err(Fault::Field);
            }
            i32::try_from(days).map_err(|_| Fault::Field)
        }
    }
}

fn time(text: &[u8]) -> Result<i64, Fault> {
    match Reading::of(text)? {
        Reading::Fields {
            micros: Some(micros),
            ..
        } => Ok(micros),
        _ => Err(Fault::Syntax),
    }
}

type Bounded = Result<i64, Fault>;

/// The moment without and with regard to its zone.
fn moment(text: &[u8]) -> Result<(Bounded, Bounded), Fault> {
    let (local, zone_secs) = match Reading::of(text)? {
        Reading::Infinity => return Ok((Ok(i64::MAX), Ok(i64::MAX))),
        Reading::NegativeInfinity => return Ok((Ok(i64::MIN), Ok(i64::MIN))),
        Reading::Epoch => (0, 0),
        Reading::Fields {
            days,
            micros,
            zone_secs,
        } => {
            let days = i128::from(days.ok_or(Fault::Syntax)?);
            let micros = i128::from(micros.unwrap_or(0));
            (
                days * i128::from(DAY_MICROS) + micros,
                zone_secs.unwrap_or(0),
            )
        }
    };
    let utc = local - i128::from(zone_secs) * 1_000_000;
    Ok((bounded(local), bounded(utc)))
}

/// The ends of the range stand for the infinities.
fn bounded(micros: i128) -> Bounded {
    let first = i128::from(FIRST_DAY) * i128::from(DAY_MICROS);
    if micros < first || micros >= i128::from(i64::MAX) {
        return Err(Fault::Field);
    }
    Ok(micros as i64)
}

fn two_digits(text: &[u8], at: usize) -> Option<u32> {
    let high = text[at].wrapping_sub(b'0');
    let low = text[at + 1].wrapping_sub(b'0');
    (high <= 9 && low <= 9).then(|| u32::from(high) * 10 + u32::from(low))
}

/// Days of a leading `YYYY-MM-DD` that exists.
fn iso_date(text: &[u8]) -> Option<i64> {
    if text.len() < 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two_digits(text, 0)? * 100 + two_digits(text, 2)?;
    let month = two_digits(text, 5)?;
    let day = two_digits(text, 8)?;
    let exists = year >= 1
        && (1..=12).contains(&month)
        && day >= 1
        && (day <= 28 || day <= days_in_month(i64::from(year), month));
    exists.then(|| days_from_civil(i64::from(year), month, day))
}

/// Local microseconds and zone of a `YYYY-MM-DD[ T]HH:MM:SS[.f][zone]`; `None`
/// for every other text, good or bad.
fn iso_timestamp(text: &[u8]) -> Option<(i64, i32)> {
    if text.len() < 19 || !matches!(text[10], b' ' | b'T') || text[13] != b':' || text[16] != b':' {
        return None;
    }
    let days = iso_date(text)?;
    let hour = two_digits(text, 11)?;
    let minute = two_digits(text, 14)?;
    let second = two_digits(text, 17)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, zone) = match &text[19..] {
        [b'.', rest @ ..] => iso_fraction(rest)?,
        rest => (0, rest),
    };
    let seconds = i64::from((hour * 60 + minute) * 60 + second);
    let local = days * DAY_MICROS + seconds * 1_000_000 + micros;
    Some((local, iso_zone(zone)?))
}

/// Microseconds of up to six digits, and what follows them.
fn iso_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    const SCALE: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=6).contains(&digits) {
        return None;
    }
    let value = text[..digits]
        .iter()
        .fold(0, |value, b| value * 10 + i64::from(b - b'0'));
    Some((value * SCALE[digits], &text[digits..]))
}

/// Seconds east of UTC of nothing, `Z`, `±HH`, `±HH:MM` or `±HHMM`.
fn iso_zone(text: &[u8]) -> Option<i32> {
    let (hours, minutes) = match text {
        [] | [b'Z'] => return Some(0),
        [_, _, _] => (two_digits(text, 1)?, 0),
        [_, _, _, b':', _, _] => (two_digits(text, 1)?, two_digits(text, 4)?),
        [_, _, _, _, _] => (two_digits(text, 1)?, two_digits(text, 3)?),
        _ => return None,
    };
    if hours > 15 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 3_600 + minutes * 60) as i32;
    match text[0] {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}
