//! What phrases of the grammar become: OVERLAPS, LIKE ANY, times with fewer digits; and the regular
//! expressions that give rows.

use chronos_model::text::{civil_from_days, days_from_civil, days_in_month, DAY_MICROS};
use chronos_model::{text as literals, DataType, Interval, SqlState, Value};
use regex::{Regex, RegexBuilder};

use super::definition::{boolean, lenient, missing, strict, Arguments, Call, Definition};
use crate::QueryError;

/// 2000-01-01, from which PostgreSQL counts, in microseconds since the Unix epoch.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    lenient("__overlaps", (4, 4), boolean, overlaps),
    strict("__rounded", (2, 2), first, rounded),
    lenient("__like_any", (3, 3), boolean, |call| like(call, true)),
    lenient("__like_all", (3, 3), boolean, |call| like(call, false)),
    strict("regexp_split_to_array", (2, 3), texts, |call| {
        let pattern = pattern(call, 1)?;
        let parts = split(&call.text(0)?, &pattern);
        Ok(Value::Array(parts.into_iter().map(Value::Text).collect()))
    }),
    strict("__regexp_matches", (2, 3), texts, matches),
];

fn texts(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Array(Box::new(DataType::Text)))
}

fn first(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(arguments.types[0].clone())
}

/// A time as a number of microseconds, of whatever kind.
fn micros(call: &Call<'_>, position: usize) -> Result<Option<i64>, QueryError> {
    Ok(match &call.args[position] {
        Value::Null => None,
        Value::Date(days) => Some(i64::from(*days) * DAY_MICROS),
        Value::Time(t) | Value::Timestamp(t) | Value::TimestampTz(t) => Some(*t),
        Value::Text(text) => Some(literals::parse_timestamptz(text.as_bytes())?),
        _ => return Err(missing("overlaps", call.types)),
    })
}

/// The end of a period, which may be given as its length.
fn end(call: &Call<'_>, position: usize) -> Result<Option<i64>, QueryError> {
    let Value::Interval(length) = &call.args[position] else {
        return micros(call, position);
    };
    let begin = micros(call, position - 1)?;
    begin.map(|begin| later(begin, *length)).transpose()
}

fn later(begin: i64, by: Interval) -> Result<i64, QueryError> {
    let out_of_range = || QueryError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range");
    let (mut days, time) = (begin.div_euclid(DAY_MICROS), begin.rem_euclid(DAY_MICROS));
    if by.months != 0 {
        let (year, month, day) = civil_from_days(days);
        let months = year * 12 + i64::from(month) - 1 + i64::from(by.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    }
    days.checked_add(i64::from(by.days))
        .and_then(|days| days.checked_mul(DAY_MICROS))
        .and_then(|t| t.checked_add(time))
        .and_then(|t| t.checked_add(by.nanos / 1000))
        .ok_or_else(out_of_range)
}

/// SQL's predicate with its NULLs, as PostgreSQL decides it: ends may be exchanged, and one end may be NULL.
fn overlaps(call: &Call<'_>) -> Result<Value, QueryError> {
    let period = |at: usize| -> Result<Option<(i64, Option<i64>)>, QueryError> {
        Ok(match (micros(call, at)?, end(call, at + 1)?) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some((one, None)),
            (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
        })
    };
    let (Some(a), Some(b)) = (period(0)?, period(2)?) else {
        return Ok(Value::Null);
    };
    let ((_, early_end), (late, late_end)) = if a.0 <= b.0 { (a, b) } else { (b, a) };
    let answer = if a.0 == b.0 {
        early_end.and(late_end).map(|_| true)
    } else {
        match early_end {
            None => None,
            Some(end) if late < end => Some(true),
            Some(_) => late_end.map(|_| false),
        }
    };
    Ok(answer.map_or(Value::Null, Value::Bool))
}

/// A time with so many digits of a second.
fn rounded(call: &Call<'_>) -> Result<Value, QueryError> {
    let digits = call.int(1)?.clamp(0, 6) as u32;
    let step = 10_i64.pow(6 - digits);
    let round = |t: i64, epoch: i64| -> Result<i64, QueryError> {
        let away = i128::from(t) - i128::from(epoch);
        let (step, half) = (i128::from(step), i128::from(step / 2));
        let steps = (away.abs() + half) / step * step * away.signum();
        i64::try_from(steps + i128::from(epoch))
            .map_err(|_| QueryError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range"))
    };
    Ok(match &call.args[0] {
        Value::Timestamp(t) => Value::Timestamp(round(*t, POSTGRES_EPOCH)?),
        Value::TimestampTz(t) => Value::TimestampTz(round(*t, POSTGRES_EPOCH)?),
        Value::Time(t) => Value::Time(round(*t, 0)?),
        other => other.clone(),
    })
}

/// `x LIKE ANY (array)` and ALL, with SQL's NULLs.
fn like(call: &Call<'_>, is_any: bool) -> Result<Value, QueryError> {
    let op = call.text(0)?;
    let Value::Array(patterns) = &call.args[2] else {
        return Ok(Value::Null);
    };
    let mut unknown = false;
    for pattern in patterns {
        let (Value::Text(pattern), Value::Text(text)) = (pattern, &call.args[1]) else {
            unknown = true;
            continue;
        };
        let is_like = like_pattern(pattern, op.ends_with('*'))?.is_match(text);
        if (is_like != op.starts_with('!')) == is_any {
            return Ok(Value::Bool(is_any));
        }
    }
    Ok(match unknown {
        true => Value::Null,
        false => Value::Bool(!is_any),
    })
}

fn like_pattern(pattern: &str, ignores_case: bool) -> Result<Regex, QueryError> {
    let mut written = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => written.push_str(".*"),
            '_' => written.push('.'),
            '\\' => match chars.next() {
                Some(c) => written.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                None => {
                    let message = "LIKE pattern must not end with escape character";
                    return Err(QueryError::new(SqlState("22025"), message));
                }
            },
            c => written.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    written.push('$');
    RegexBuilder::new(&written)
        .dot_matches_new_line(true)
        .case_insensitive(ignores_case)
        .build()
        .map_err(|e| invalid(&e))
}

fn invalid(e: &regex::Error) -> QueryError {
    let reason = e.to_string();
    let reason = reason.lines().last().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ");
    let message = format!("invalid regular expression: {reason}");
    QueryError::new(SqlState("2201B"), message)
}

/// A regular expression, with the flags that follow it. `g` is the caller's.
fn pattern(call: &Call<'_>, position: usize) -> Result<Regex, QueryError> {
    let text = call.text(position)?;
    let flags = match call.args.get(position + 1) {
        Some(_) => call.text(position + 1)?,
        None => String::new(),
    };
    let mut builder = RegexBuilder::new(&text);
    builder.dot_matches_new_line(true);
    for flag in flags.chars() {
        match flag {
            'g' | 's' | 't' => {}
            'i' => drop(builder.case_insensitive(true)),
            'c' => drop(builder.case_insensitive(false)),
            'n' | 'm' => drop(builder.dot_matches_new_line(false).multi_line(true)),
            'p' => drop(builder.dot_matches_new_line(false)),
            'w' => drop(builder.multi_line(true)),
            'x' => drop(builder.ignore_whitespace(true)),
            other => {
                let message = format!("invalid regular expression option: \"{other}\"");
                return Err(QueryError::new(SqlState::INVALID_PARAMETER, message));
            }
        }
    }
    builder.build().map_err(|e| invalid(&e))
}

/// What is between matches. An empty match counts only within the text and behind the last match.
fn split(text: &str, pattern: &Regex) -> Vec<String> {
    let mut parts = Vec::new();
    let mut from = 0;
    for found in pattern.find_iter(text) {
        if found.start() < text.len() && found.end() > from {
            parts.push(text[from..found.start()].to_owned());
            from = found.end();
        }
    }
    parts.push(text[from..].to_owned());
    parts
}

/// The groups of a match, or of all (`g`), each as the text of an array.
fn matches(call: &Call<'_>) -> Result<Value, QueryError> {
    let text = call.text(0)?;
    let pattern = pattern(call, 1)?;
    let wants_all = call.args.len() > 2 && call.text(2)?.contains('g');
    let most = if wants_all { usize::MAX } else { 1 };
    let from = usize::from(pattern.captures_len() > 1);
    let found = pattern.captures_iter(&text).take(most).map(|groups| {
        let groups = groups.iter().skip(from);
        let groups = groups.map(|g| g.map_or(Value::Null, |g| Value::Text(g.as_str().to_owned())));
        Value::Text(literals::format(&Value::Array(groups.collect())))
    });
    Ok(Value::Array(found.collect()))
}
