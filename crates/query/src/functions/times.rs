//! Functions of dates, times and intervals, value by value.

use arrow_array::timezone::Tz;
use chrono::{NaiveDateTime, Offset, TimeZone};
use chronos_model::text::{civil_from_days, days_from_civil, days_in_month, DAY_MICROS};
use chronos_model::{DataType, Interval, SqlState, Value};

use super::definition::{boolean, missing, strict, text, Arguments, Call, Definition};
use super::{number_templates, templates};
use crate::QueryError;

const SECOND: i64 = 1_000_000;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("timezone", (2, 2), zoned_type, at_time_zone),
    strict("age", (2, 2), interval, |call| {
        let (a, b) = (instant(call, 0)?, instant(call, 1)?);
        Ok(Value::Interval(age(a, b)))
    }),
    strict("make_date", (3, 3), date, |call| {
        let (year, month, day) = (call.int(0)?, call.int(1)?, call.int(2)?);
        let days = civil(year, month, day)?;
        i32::try_from(days)
            .map(Value::Date)
            .map_err(|_| bad_date(year, month, day))
    }),
    strict("make_time", (3, 3), time, |call| {
        Ok(Value::Time(time_of_day(call, 0)?))
    }),
    strict("make_timestamp", (6, 6), timestamp, |call| {
        let days = civil(call.int(0)?, call.int(1)?, call.int(2)?)?;
        Ok(Value::Timestamp(days * DAY_MICROS + time_of_day(call, 3)?))
    }),
    strict("make_timestamptz", (6, 6), timestamptz, |call| {
        let days = civil(call.int(0)?, call.int(1)?, call.int(2)?)?;
        Ok(Value::TimestampTz(
            days * DAY_MICROS + time_of_day(call, 3)?,
        ))
    }),
    strict("make_interval", (0, 7), interval, make_interval),
    strict("justify_days", (1, 1), interval, |call| {
        Ok(Value::Interval(justify_days(span(call, 0)?)))
    }),
    strict("justify_hours", (1, 1), interval, |call| {
        Ok(Value::Interval(justify_hours(span(call, 0)?)))
    }),
    strict("justify_interval", (1, 1), interval, |call| {
        let v = span(call, 0)?;
        let day_nanos = DAY_MICROS * 1000;
        let days = i64::from(v.months) * 30 + i64::from(v.days) + v.nanos / day_nanos;
        let (mut days, mut nanos) = (days, v.nanos % day_nanos);
        if days > 0 && nanos < 0 {
            (days, nanos) = (days - 1, nanos + day_nanos);
        } else if days < 0 && nanos > 0 {
            (days, nanos) = (days + 1, nanos - day_nanos);
        }
        Ok(Value::Interval(Interval {
            months: (days / 30) as i32,
            days: (days % 30) as i32,
            nanos,
        }))
    }),
    strict("isfinite", (1, 1), boolean, |_| Ok(Value::Bool(true))),
    strict("to_timestamp", (1, 2), timestamptz, |call| {
        if call.args.len() == 2 {
            let micros = templates::read(&call.text(0)?, &call.text(1)?)?;
            return Ok(Value::TimestampTz(micros));
        }
        let seconds = call.float(0)?;
        let micros = (seconds * 1e6).round_ties_even();
        if micros.is_nan() || micros.abs() >= 9.2e18 {
            return Err(QueryError::new(
                SqlState::DATETIME_OVERFLOW,
                format!("timestamp out of range: \"{seconds}\""),
            ));
        }
        Ok(Value::TimestampTz(micros as i64))
    }),
    strict("to_date", (2, 2), date, |call| {
        let micros = templates::read(&call.text(0)?, &call.text(1)?)?;
        Ok(Value::Date(micros.div_euclid(DAY_MICROS) as i32))
    }),
    strict("to_char", (2, 2), formatted_type, |call| {
        let template = call.text(1)?;
        let written = match &call.args[0] {
            Value::Interval(v) => templates::write_interval(*v, &template)?,
            Value::TimestampTz(t) => templates::write(*t, templates::Zone::Utc, &template)?,
            Value::Date(_) | Value::Timestamp(_) => {
                templates::write(instant(call, 0)?, templates::Zone::None, &template)?
            }
            number => number_templates::write(number, &template)?,
        };
        Ok(Value::Text(written))
    }),
    strict("to_number", (2, 2), numeric, |call| {
        number_templates::read(&call.text(0)?, &call.text(1)?)
    }),
];

/// With as many digits behind the point as a constant template has.
fn numeric(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    let template = match arguments.constants.get(1) {
        Some(Some(template)) => template.try_as_str().flatten(),
        _ => None,
    };
    let scale = template.and_then(number_templates::scale);
    Ok(DataType::Numeric(scale.map(|scale| (38, scale))))
}

fn interval(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Interval)
}

fn date(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Date)
}

fn time(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Time)
}

fn timestamp(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Timestamp)
}

fn timestamptz(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::TimestampTz)
}

/// to_char takes what it can write, and nothing else.
fn formatted_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    use DataType as T;
    match arguments.types {
        [T::Date | T::Timestamp | T::TimestampTz | T::Interval, _] => text(arguments),
        [t, _] if t.is_number() => text(arguments),
        types => Err(missing("to_char", types)),
    }
}

/// A timestamp without a zone gets one, and one with a zone loses it.
fn zoned_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match arguments.types {
        [DataType::Text | DataType::Varchar(_), t] => match t {
            DataType::TimestampTz | DataType::Date => Ok(DataType::Timestamp),
            DataType::Timestamp => Ok(DataType::TimestampTz),
            _ if arguments.is_unknown(1) => Ok(DataType::Timestamp),
            _ => Err(missing("timezone", arguments.types)),
        },
        [DataType::Interval, DataType::TimestampTz | DataType::Date] => Ok(DataType::Timestamp),
        [DataType::Interval, DataType::Timestamp] => Ok(DataType::TimestampTz),
        types => Err(missing("timezone", types)),
    }
}

fn at_time_zone(call: &Call<'_>) -> Result<Value, QueryError> {
    if let Value::Interval(offset) = &call.args[0] {
        let micros = offset.nanos / 1000;
        return Ok(match &call.args[1] {
            Value::Timestamp(local) => Value::TimestampTz(local - micros),
            _ => Value::Timestamp(instant(call, 1)? + micros),
        });
    }
    let zone = zone(&call.text(0)?)?;
    match &call.args[1] {
        Value::Timestamp(local) => Ok(Value::TimestampTz(to_utc(*local, zone)?)),
        _ => Ok(Value::Timestamp(to_local(instant(call, 1)?, zone)?)),
    }
}

/// Abbreviations as PostgreSQL reads them, hours from UTC: of summer, or not, whatever the date.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("EST", "-05:00"),
    ("EDT", "-04:00"),
    ("CST", "-06:00"),
    ("CDT", "-05:00"),
    ("MST", "-07:00"),
    ("MDT", "-06:00"),
    ("PST", "-08:00"),
    ("PDT", "-07:00"),
    ("AKST", "-09:00"),
    ("AKDT", "-08:00"),
    ("HST", "-10:00"),
    ("WET", "+00:00"),
    ("WEST", "+01:00"),
    ("BST", "+01:00"),
    ("CET", "+01:00"),
    ("CEST", "+02:00"),
    ("EET", "+02:00"),
    ("EEST", "+03:00"),
    ("MSK", "+03:00"),
    ("JST", "+09:00"),
    ("KST", "+09:00"),
    ("AEST", "+10:00"),
    ("AEDT", "+11:00"),
];

/// `+02`, `-5:30`: POSIX counts to the west.
fn posix_offset(text: &str) -> Option<String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ('+', rest),
        None => ('-', text.strip_prefix('+')?),
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then(|| format!("{sign}{hours:02}:{minutes:02}"))
}

/// A zone by its name, an abbreviation or an offset.
fn zone(name: &str) -> Result<Tz, QueryError> {
    let trimmed = name.trim();
    let upper = trimmed.to_ascii_uppercase();
    if matches!(
        upper.as_str(),
        "UTC" | "GMT" | "Z" | "ZULU" | "UCT" | "ETC/UTC"
    ) {
        return "+00:00".parse().map_err(|_| unknown_zone(name));
    }
    if let Some((_, offset)) = ABBREVIATIONS.iter().find(|(name, _)| *name == upper) {
        return offset.parse().map_err(|_| unknown_zone(name));
    }
    if let Some(offset) = posix_offset(trimmed) {
        return offset.parse().map_err(|_| unknown_zone(name));
    }
    if !trimmed.contains('/') {
        return Err(QueryError::unsupported(format!("the time zone \"{name}\""))
            .with_hint("Write UTC or a full name, such as Europe/Berlin."));
    }
    trimmed.parse().map_err(|_| unknown_zone(name))
}

fn unknown_zone(name: &str) -> QueryError {
    QueryError::new(
        SqlState::INVALID_PARAMETER,
        format!("time zone \"{name}\" not recognized"),
    )
}

fn naive(micros: i64) -> Result<NaiveDateTime, QueryError> {
    chrono::DateTime::from_timestamp_micros(micros)
        .map(|t| t.naive_utc())
        .ok_or_else(|| QueryError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range"))
}

fn offset_micros(offset: &impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * SECOND
}

fn to_local(utc: i64, zone: Tz) -> Result<i64, QueryError> {
    let offset = zone.offset_from_utc_datetime(&naive(utc)?);
    Ok(utc + offset_micros(&offset))
}

/// What a clock showed twice is the later time; what it skipped is counted with the offset
/// before.
fn to_utc(local: i64, zone: Tz) -> Result<i64, QueryError> {
    let offset = match zone.offset_from_local_datetime(&naive(local)?).latest() {
        Some(offset) => offset,
        None => zone.offset_from_utc_datetime(&naive(local - DAY_MICROS)?),
    };
    Ok(local - offset_micros(&offset))
}

/// An argument as microseconds since 1970.
fn instant(call: &Call<'_>, position: usize) -> Result<i64, QueryError> {
    match call.args[position].clone().coerce(&DataType::Timestamp)? {
        Value::Timestamp(t) => Ok(t),
        _ => Ok(0),
    }
}

fn span(call: &Call<'_>, position: usize) -> Result<Interval, QueryError> {
    match call.args[position].clone().coerce(&DataType::Interval)? {
        Value::Interval(v) => Ok(v),
        _ => Ok(Interval::default()),
    }
}

fn bad_date(year: i64, month: i64, day: i64) -> QueryError {
    QueryError::new(
        SqlState::DATETIME_OVERFLOW,
        format!("date field value out of range: {year}-{month:02}-{day:02}"),
    )
}

/// The day of a date; a negative year is one before Christ.
fn civil(year: i64, month: i64, day: i64) -> Result<i64, QueryError> {
    let failed = || bad_date(year, month, day);
    if year == 0 || !(-4713..=294_276).contains(&year) || !(1..=12).contains(&month) {
        return Err(failed());
    }
    let astronomical = year + i64::from(year < 0);
    let month = month as u32;
    if day < 1 || day > i64::from(days_in_month(astronomical, month)) {
        return Err(failed());
    }
    Ok(days_from_civil(astronomical, month, day as u32))
}

/// Hours, minutes and seconds, from that argument on.
fn time_of_day(call: &Call<'_>, first: usize) -> Result<i64, QueryError> {
    let (hour, minute) = (call.int(first)?, call.int(first + 1)?);
    let seconds = call.float(first + 2)?;
    let micros = (seconds * 1e6).round_ties_even();
    let fits = (0..=24).contains(&hour) && (0..60).contains(&minute);
    let total = (hour * 60 + minute) * 60 * SECOND + micros as i64;
    if !fits || !(0.0..=60_000_000.0).contains(&micros) || total > DAY_MICROS {
        return Err(QueryError::new(
            SqlState::DATETIME_OVERFLOW,
            format!("time field value out of range: {hour}:{minute:02}:{seconds:02}"),
        ));
    }
    Ok(total)
}

/// Years, months, weeks, days, hours, minutes, seconds.
fn make_interval(call: &Call<'_>) -> Result<Value, QueryError> {
    let part = |position: usize| match position < call.args.len() {
        true => call.int(position),
        false => Ok(0),
    };
    let failed = || QueryError::new(SqlState::DATETIME_OVERFLOW, "interval out of range");
    let seconds = if call.args.len() == 7 {
        call.float(6)?
    } else {
        0.0
    };
    let months = part(0)?
        .checked_mul(12)
        .and_then(|m| m.checked_add(part(1).ok()?));
    let days = part(2)?
        .checked_mul(7)
        .and_then(|d| d.checked_add(part(3).ok()?));
    let minutes = part(4)?
        .checked_mul(60)
        .and_then(|m| m.checked_add(part(5).ok()?));
    let micros = (seconds * 1e6).round_ties_even();
    let nanos = minutes
        .and_then(|m| m.checked_mul(60 * SECOND * 1000))
        .filter(|_| micros.abs() < 9.2e15)
        .and_then(|n| n.checked_add(micros as i64 * 1000));
    Ok(Value::Interval(Interval {
        months: months
            .and_then(|m| i32::try_from(m).ok())
            .ok_or_else(failed)?,
        days: days
            .and_then(|d| i32::try_from(d).ok())
            .ok_or_else(failed)?,
        nanos: nanos.ok_or_else(failed)?,
    }))
}

fn justify_days(v: Interval) -> Interval {
    let (mut months, mut days) = (v.months + v.days / 30, v.days % 30);
    if months > 0 && days < 0 {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && days > 0 {
        (months, days) = (months + 1, days - 30);
    }
    Interval { months, days, ..v }
}

fn justify_hours(v: Interval) -> Interval {
    let day_nanos = DAY_MICROS * 1000;
    let (mut days, mut nanos) = (v.days + (v.nanos / day_nanos) as i32, v.nanos % day_nanos);
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + day_nanos);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - day_nanos);
    }
    Interval { days, nanos, ..v }
}

/// The time from `b` to `a` in years, months and days of the calendar
/// (`timestamp_age` in PostgreSQL's timestamp.c).
fn age(a: i64, b: i64) -> Interval {
    if a < b {
        let positive = age(b, a);
        // Days are borrowed from the earlier date's month either way.
        return Interval {
            months: -positive.months,
            days: -positive.days,
            nanos: -positive.nanos,
        };
    }
    let (a_days, b_days) = (a.div_euclid(DAY_MICROS), b.div_euclid(DAY_MICROS));
    let mut micros = a.rem_euclid(DAY_MICROS) - b.rem_euclid(DAY_MICROS);
    let (a_year, a_month, a_day) = civil_from_days(a_days);
    let (b_year, b_month, b_day) = civil_from_days(b_days);
    let mut days = i64::from(a_day) - i64::from(b_day);
    let mut months = (a_year - b_year) * 12 + i64::from(a_month) - i64::from(b_month);
    if micros < 0 {
        micros += DAY_MICROS;
        days -= 1;
    }
    while days < 0 {
        days += i64::from(days_in_month(b_year, b_month));
        months -= 1;
    }
    Interval {
        months: months as i32,
        days: days as i32,
        nanos: micros * 1000,
    }
}
