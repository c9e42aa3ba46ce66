//! Aggregates over sorted values, as functions of the array of them: what `WITHIN GROUP` becomes.

use chronos_model::{DataType, SqlState, Value};

use super::definition::{lenient, missing, strict, Arguments, Call, Definition};
use crate::QueryError;

/// All of them. The arrays are sorted and without NULL.
pub(super) const FUNCTIONS: &[Definition] = &[
    lenient("__mode", (1, 1), item_of_last, |call| {
        let items = items(call);
        let mut best: Option<(usize, &Value)> = None;
        let mut from = 0;
        while from < items.len() {
            let run = items[from..].iter().take_while(|i| **i == items[from]);
            let length = run.count().max(1);
            if best.is_none_or(|(most, _)| length > most) {
                best = Some((length, &items[from]));
            }
            from += length;
        }
        Ok(best.map_or(Value::Null, |(_, item)| item.clone()))
    }),
    lenient("__percentile_disc", (2, 2), disc_type, |call| {
        each_fraction(call, |items, fraction| {
            let rank = (fraction * items.len() as f64).ceil().max(1.0) as usize;
            items[rank.min(items.len()) - 1].clone()
        })
    }),
    lenient("__percentile_cont", (2, 2), cont_type, |call| {
        each_fraction(call, |items, fraction| {
            let place = fraction * (items.len() - 1) as f64;
            let (low, high) = (place.floor() as usize, place.ceil() as usize);
            match (&items[low], &items[high]) {
                (Value::Float8(a), Value::Float8(b)) if low != high => {
                    Value::Float8(a + (place - low as f64) * (b - a))
                }
                (one, _) => one.clone(),
            }
        })
    }),
    strict(
        "width_bucket",
        (2, 4),
        super::definition::bigint,
        |call| match call.args.len() {
            2 => bucket_of_array(call),
            4 => bucket_of_range(call),
            _ => Err(missing("width_bucket", call.types)),
        },
    ),
];

fn items<'a>(call: &'a Call<'_>) -> &'a [Value] {
    match call.args.last() {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}

fn item_of_last(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match arguments.types.last() {
        Some(DataType::Array(item)) => Ok((**item).clone()),
        _ => Err(missing("mode", arguments.types)),
    }
}

fn disc_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    let item = item_of_last(arguments)?;
    Ok(match &arguments.types[0] {
        DataType::Array(_) => DataType::Array(Box::new(item)),
        _ => item,
    })
}

fn cont_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    disc_type(arguments)
}

/// The values at one fraction, or at an array of them.
fn each_fraction(
    call: &Call<'_>,
    at: impl Fn(&[Value], f64) -> Value,
) -> Result<Value, QueryError> {
    let items = items(call);
    let one = |fraction: &Value| -> Result<Value, QueryError> {
        let fraction = match fraction.clone().coerce(&DataType::Float8)? {
            Value::Float8(fraction) => fraction,
            _ => return Ok(Value::Null),
        };
        if !(0.0..=1.0).contains(&fraction) {
            let message = format!("percentile value {fraction} is not between 0 and 1");
            return Err(QueryError::new(SqlState::OUT_OF_RANGE, message));
        }
        Ok(match items.is_empty() {
            true => Value::Null,
            false => at(items, fraction),
        })
    };
    match &call.args[0] {
        Value::Array(_) if items.is_empty() => Ok(Value::Null),
        Value::Array(fractions) => {
            let values = fractions.iter().map(one);
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }
        fraction => one(fraction),
    }
}

fn bad_bucket(message: &str) -> QueryError {
    QueryError::new(SqlState("2201G"), message)
}

/// How many of the thresholds are not above the value.
fn bucket_of_array(call: &Call<'_>) -> Result<Value, QueryError> {
    let Value::Array(thresholds) = &call.args[1] else {
        return Err(missing("width_bucket", call.types));
    };
    let number = |value: &Value| -> Result<f64, QueryError> {
        Ok(match value {
            Value::Date(days) => f64::from(*days) * 86_400e6,
            Value::Timestamp(t) | Value::TimestampTz(t) | Value::Time(t) => *t as f64,
            Value::Null => {
                let message = "thresholds array must not contain NULLs";
                return Err(QueryError::new(SqlState("22004"), message));
            }
            other => match other.clone().coerce(&DataType::Float8)? {
                Value::Float8(v) => v,
                _ => return Err(missing("width_bucket", call.types)),
            },
        })
    };
    let value = number(&call.args[0])?;
    let mut below = 0;
    for threshold in thresholds {
        if number(threshold)? > value {
            break;
        }
        below += 1;
    }
    Ok(Value::Int8(below))
}

/// Which of `count` equal parts of a range the value is in.
fn bucket_of_range(call: &Call<'_>) -> Result<Value, QueryError> {
    let (value, low, high) = (call.float(0)?, call.float(1)?, call.float(2)?);
    let count = call.int(3)?;
    if count <= 0 {
        return Err(bad_bucket("count must be greater than zero"));
    }
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bad_bucket(
            "operand, lower bound, and upper bound cannot be NaN",
        ));
    }
    if !low.is_finite() || !high.is_finite() {
        return Err(bad_bucket("lower and upper bounds must be finite"));
    }
    let (value, low, high) = match low.partial_cmp(&high) {
        Some(std::cmp::Ordering::Less) => (value, low, high),
        Some(std::cmp::Ordering::Greater) => (-value, -low, -high),
        _ => return Err(bad_bucket("lower bound cannot equal upper bound")),
    };
    Ok(Value::Int8(if value < low {
        0
    } else if value >= high {
        count.saturating_add(1)
    } else {
        let part = (value - low) / (high - low) * count as f64;
        (part as i64).min(count - 1) + 1
    }))
}
