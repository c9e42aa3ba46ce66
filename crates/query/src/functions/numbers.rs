//! Functions of numbers whose result depends on the kind of number: PostgreSQL rounds
//! NUMERIC half away from zero and floats half to even.

use chronos_model::{DataType, Decimal, SqlState, Value};

use super::definition::{bigint, missing, strict, text, Arguments, Call, Definition};
use super::floats::logarithm_argument;
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("round", (1, 2), rounded_type, |call| {
        rounded(call, f64::round_ties_even, Decimal::rescale)
    }),
    strict("trunc", (1, 2), rounded_type, |call| {
        rounded(call, f64::trunc, truncated)
    }),
    strict("sign", (1, 1), integral_type, |call| {
        Ok(match &call.args[0] {
            Value::Numeric(d) => decimal(d.unscaled.signum(), 0),
            other => {
                let x = float(other)?;
                Value::Float8(if x == 0.0 { 0.0 } else { x.signum() })
            }
        })
    }),
    strict("ceil", (1, 1), integral_type, |call| {
        whole(call, f64::ceil, |d| {
            floor(Decimal {
                unscaled: -d.unscaled,
                ..d
            })
            .map(|n| -n)
        })
    }),
    strict("floor", (1, 1), integral_type, |call| {
        whole(call, f64::floor, floor)
    }),
    strict("mod", (2, 2), modulo_type, modulo),
    strict("div", (2, 2), quotient_type, |call| {
        let (a, b, _) = two_decimals(call)?;
        if b == 0 {
            return Err(division_by_zero());
        }
        Ok(decimal(a / b, 0))
    }),
    strict("log", (1, 2), float8, |call| match call.args {
        [base, x] => {
            let base = logarithm_argument(float(base)?)?.ln();
            let x = logarithm_argument(float(x)?)?.ln();
            if base == 0.0 {
                return Err(division_by_zero());
            }
            Ok(Value::Float8(x / base))
        }
        [x] => Ok(Value::Float8(logarithm_argument(float(x)?)?.log10())),
        _ => Ok(Value::Null),
    }),
    strict("__average", (2, 2), average_type, average),
    strict("to_hex", (1, 1), text, |call| {
        Ok(Value::Text(match &call.args[0] {
            Value::Int4(v) => format!("{v:x}"),
            Value::Int2(v) => format!("{:x}", i32::from(*v)),
            _ => format!("{:x}", call.int(0)?),
        }))
    }),
    strict("gcd", (2, 2), bigint, |call| {
        Ok(Value::Int8(common_divisor(call.int(0)?, call.int(1)?)?))
    }),
];

fn float8(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Float8)
}

fn decimal(unscaled: i128, scale: i8) -> Value {
    Value::Numeric(Decimal { unscaled, scale })
}

fn division_by_zero() -> QueryError {
    QueryError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// A number as a double; text is read as one.
fn float(value: &Value) -> Result<f64, QueryError> {
    match value.clone().coerce(&DataType::Float8)? {
        Value::Float8(x) => Ok(x),
        _ => Ok(f64::NAN),
    }
}

/// `round(x)`: doubles stay doubles; `round(x, digits)` is NUMERIC.
fn rounded_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    let scale_of = |t: &DataType| match t {
        DataType::Numeric(p) => Some(DataType::numeric_shape(*p).1),
        t if t.is_integer() => Some(0),
        _ => None,
    };
    match arguments.types {
        [DataType::Numeric(_)] => Ok(DataType::Numeric(Some((38, 0)))),
        [t] if t.is_number() || arguments.is_unknown(0) => Ok(DataType::Float8),
        [t, digits] if digits.is_integer() || arguments.is_unknown(1) => {
            let scale = scale_of(t).ok_or_else(|| missing("round", arguments.types))?;
            // Digits that vary by row leave the scale as it is.
            let wanted = arguments.constant_int(1).map(|d| d.clamp(0, 28) as i8);
            Ok(DataType::Numeric(Some((38, wanted.unwrap_or(scale)))))
        }
        types => Err(missing("round", types)),
    }
}

fn rounded(
    call: &Call<'_>,
    of_float: fn(f64) -> f64,
    of_decimal: fn(Decimal, i8) -> Option<Decimal>,
) -> Result<Value, QueryError> {
    let digits = match call.args.len() {
        2 => call.int(1)?.clamp(-38, 28) as i8,
        _ => 0,
    };
    let value = match &call.args[0] {
        Value::Numeric(d) => *d,
        Value::Int2(_) | Value::Int4(_) | Value::Int8(_) if call.args.len() == 2 => Decimal {
            unscaled: i128::from(call.int(0)?),
            scale: 0,
        },
        other => return Ok(Value::Float8(of_float(float(other)?))),
    };
    let rounded = of_decimal(value, digits).ok_or_else(numeric_overflow)?;
    // Digits before the point were rounded to zeros.
    Ok(Value::Numeric(
        rounded
            .rescale(digits.max(0))
            .ok_or_else(numeric_overflow)?,
    ))
}

fn numeric_overflow() -> QueryError {
    QueryError::new(SqlState::OUT_OF_RANGE, "value overflows numeric format")
}

/// With digits cut off.
fn truncated(value: Decimal, scale: i8) -> Option<Decimal> {
    let cut = i32::from(value.scale) - i32::from(scale);
    if cut <= 0 {
        return value.rescale(scale);
    }
    let unscaled = match 10i128.checked_pow(cut as u32) {
        Some(divisor) => value.unscaled / divisor,
        None => 0,
    };
    Some(Decimal { unscaled, scale })
}

/// NUMERIC of NUMERIC, DOUBLE PRECISION of all else.
fn integral_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match arguments.types {
        [DataType::Numeric(_)] => Ok(DataType::Numeric(Some((38, 0)))),
        [t] if t.is_number() || arguments.is_unknown(0) => Ok(DataType::Float8),
        types => Err(missing("sign", types)),
    }
}

fn whole(
    call: &Call<'_>,
    of_float: fn(f64) -> f64,
    of_decimal: fn(Decimal) -> Option<i128>,
) -> Result<Value, QueryError> {
    match &call.args[0] {
        Value::Numeric(d) => Ok(decimal(of_decimal(*d).ok_or_else(numeric_overflow)?, 0)),
        other => Ok(Value::Float8(of_float(float(other)?))),
    }
}

fn floor(value: Decimal) -> Option<i128> {
    let divisor = 10i128.checked_pow(u32::try_from(value.scale).ok()?)?;
    Some(value.unscaled.div_euclid(divisor))
}

fn modulo_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match arguments.types {
        [a, b] if a.is_integer() && b.is_integer() => {
            let widest = [DataType::Int8, DataType::Int4, DataType::Int2]
                .into_iter()
                .find(|t| t == a || t == b);
            Ok(widest.unwrap_or(DataType::Int8))
        }
        [a, b] if !a.is_float() && !b.is_float() && (a.is_number() || b.is_number()) => {
            let scale = |t: &DataType| match t {
                DataType::Numeric(p) => DataType::numeric_shape(*p).1,
                _ => 0,
            };
            Ok(DataType::Numeric(Some((38, scale(a).max(scale(b))))))
        }
        types => Err(missing("mod", types)),
    }
}

fn modulo(call: &Call<'_>) -> Result<Value, QueryError> {
    let (a, b, scale) = two_decimals(call)?;
    if b == 0 {
        return Err(division_by_zero());
    }
    Ok(decimal(a % b, scale))
}

fn quotient_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match arguments.types {
        [a, b] if a.is_number() && b.is_number() && !a.is_float() && !b.is_float() => {
            Ok(DataType::Numeric(Some((38, 0))))
        }
        types => Err(missing("div", types)),
    }
}

/// Both arguments in units of the finer one, and its scale.
fn two_decimals(call: &Call<'_>) -> Result<(i128, i128, i8), QueryError> {
    let decimal = |position: usize| -> Result<Decimal, QueryError> {
        match &call.args[position] {
            Value::Numeric(d) => Ok(*d),
            _ => Ok(Decimal {
                unscaled: i128::from(call.int(position)?),
                scale: 0,
            }),
        }
    };
    let (a, b) = (decimal(0)?, decimal(1)?);
    let scale = a.scale.max(b.scale);
    let scaled = |d: Decimal| d.rescale(scale).ok_or_else(numeric_overflow);
    Ok((scaled(a)?.unscaled, scaled(b)?.unscaled, scale))
}

/// Digits behind the point of an average, at least.
const AVERAGE_SCALE: i8 = 16;

fn average_type(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match &arguments.types[0] {
        t if t.is_float() => Ok(DataType::Float8),
        DataType::Numeric(p) => {
            let scale = DataType::numeric_shape(*p).1.max(AVERAGE_SCALE);
            Ok(DataType::Numeric(Some((38, scale))))
        }
        t if t.is_integer() => Ok(DataType::Numeric(Some((38, AVERAGE_SCALE)))),
        other => Err(missing("avg", std::slice::from_ref(other))),
    }
}

/// A sum by a count.
fn average(call: &Call<'_>) -> Result<Value, QueryError> {
    let count = call.int(1)?;
    if let Value::Float8(sum) = &call.args[0] {
        return Ok(Value::Float8(sum / count as f64));
    }
    let sum = match &call.args[0] {
        Value::Numeric(d) => *d,
        _ => Decimal {
            unscaled: i128::from(call.int(0)?),
            scale: 0,
        },
    };
    let scale = sum.scale.max(AVERAGE_SCALE);
    let count = i128::from(count);
    // The quotient and its rest apart: the sum may have no room for more digits.
    let unit = 10i128
        .checked_pow((scale - sum.scale) as u32)
        .ok_or_else(numeric_overflow)?;
    let (whole, rest) = (sum.unscaled / count, sum.unscaled % count);
    let tail = rest.checked_mul(unit).ok_or_else(numeric_overflow)?;
    let (digits, last) = (tail / count, tail % count);
    let round = if last.unsigned_abs() * 2 >= count.unsigned_abs() {
        tail.signum()
    } else {
        0
    };
    let unscaled = whole
        .checked_mul(unit)
        .and_then(|w| w.checked_add(digits + round))
        .ok_or_else(numeric_overflow)?;
    Ok(decimal(unscaled, scale))
}

fn common_divisor(a: i64, b: i64) -> Result<i64, QueryError> {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).map_err(|_| QueryError::new(SqlState::OUT_OF_RANGE, "bigint out of range"))
}
