//! One SQL value outside a column: a parameter, a literal, a cell of a row.

use crate::{DataError, DataType};

/// A decimal number: `unscaled / 10^scale`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Decimal {
    /// The digits as an integer.
    pub unscaled: i128,
    /// How many of them stand behind the point.
    pub scale: i8,
}

impl Decimal {
    /// The same number with another scale, rounded half away from zero as
    /// PostgreSQL does; `None` when it leaves 38 digits.
    pub fn rescale(self, scale: i8) -> Option<Decimal> {
        let unscaled = match i32::from(scale) - i32::from(self.scale) {
            0 => self.unscaled,
            up @ 1.. => self.unscaled.checked_mul(10i128.checked_pow(up as u32)?)?,
            down => {
                let Some(divisor) = 10i128.checked_pow(down.unsigned_abs()) else {
                    return Some(Decimal { unscaled: 0, scale });
                };
                let quotient = self.unscaled / divisor;
                let rest = (self.unscaled % divisor).unsigned_abs();
                let round_up = rest >= (divisor.unsigned_abs() - rest);
                quotient + if round_up { self.unscaled.signum() } else { 0 }
            }
        };
        Some(Decimal { unscaled, scale })
    }

    /// Whether the number has at most `precision` digits.
    pub fn fits(self, precision: u8) -> bool {
        10u128
            .checked_pow(u32::from(precision))
            .is_none_or(|limit| self.unscaled.unsigned_abs() < limit)
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        crate::text::format_decimal(self)
            .parse()
            .unwrap_or(f64::NAN)
    }
}

/// An interval: its three parts do not convert into each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Interval {
    /// Calendar months.
    pub months: i32,
    /// Calendar days.
    pub days: i32,
    /// Nanoseconds within a day and beyond.
    pub nanos: i64,
}

/// A SQL value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// NULL of any type.
    Null,
    /// `BOOL`
    Bool(bool),
    /// `INT2`
    Int2(i16),
    /// `INT4`
    Int4(i32),
    /// `INT8`
    Int8(i64),
    /// `FLOAT4`
    Float4(f32),
    /// `FLOAT8`
    Float8(f64),
    /// `NUMERIC`
    Numeric(Decimal),
    /// `TEXT` and `VARCHAR`
    Text(String),
    /// `BYTEA`
    Bytea(Vec<u8>),
    /// `UUID`
    Uuid([u8; 16]),
    /// `DATE`: days since 1970-01-01.
    Date(i32),
    /// `TIME`: microseconds since midnight.
    Time(i64),
    /// `TIMESTAMP`: microseconds since 1970-01-01 00:00.
    Timestamp(i64),
    /// `TIMESTAMPTZ`: microseconds since the Unix epoch.
    TimestampTz(i64),
    /// `INTERVAL`
    Interval(Interval),
    /// `JSON`
    Json(String),
    /// `JSONB`
    Jsonb(String),
    /// `t[]`
    Array(Vec<Value>),
    /// `VECTOR(n)`
    Vector(Vec<f32>),
}

impl Value {
    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// SQL name of the value's type; `unknown` for NULL.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "unknown",
            Value::Bool(_) => "boolean",
            Value::Int2(_) => "smallint",
            Value::Int4(_) => "int4",
            Value::Int8(_) => "bigint",
            Value::Float4(_) => "real",
            Value::Float8(_) => "double precision",
            Value::Numeric(_) => "numeric",
            Value::Text(_) => "text",
            Value::Bytea(_) => "bytea",
            Value::Uuid(_) => "uuid",
            Value::Date(_) => "date",
            Value::Time(_) => "time without time zone",
            Value::Timestamp(_) => "timestamp without time zone",
            Value::TimestampTz(_) => "timestamp with time zone",
            Value::Interval(_) => "interval",
            Value::Json(_) => "json",
            Value::Jsonb(_) => "jsonb",
            Value::Array(_) => "array",
            Value::Vector(_) => "vector",
        }
    }

    /// This value as one of `data_type`, by PostgreSQL's assignment casts; text
    /// is read as a literal of the type. NULL stays NULL.
    ///
    /// Errors: the value does not fit (22003, 22001, 22P02) or the types have no
    /// assignment cast (42804).
    pub fn coerce(self, data_type: &DataType) -> Result<Value, DataError> {
        let mismatch = |from: &Value| DataError::Mismatch {
            from: from.type_name().to_owned(),
            to: data_type.to_string(),
        };
        match (data_type, self) {
            (_, Value::Null) => Ok(Value::Null),
            (DataType::Text, Value::Text(s)) => Ok(Value::Text(s)),
            (DataType::Varchar(max), Value::Text(s)) => limit_chars(s, *max),
            (t, Value::Text(s)) => crate::text::parse(t, &s),
            (DataType::Text, v) => Ok(Value::Text(crate::text::format(&v))),
            (DataType::Varchar(max), v) => limit_chars(crate::text::format(&v), *max),
            (DataType::Int2 | DataType::Int4 | DataType::Int8, v) => to_integer(v, data_type),
            (DataType::Float8, v) => match v.as_f64() {
                Some(f) => Ok(Value::Float8(f)),
                None => Err(mismatch(&v)),
            },
            (DataType::Float4, v) => match v.as_f64() {
                Some(f) if f.is_finite() && (f as f32).is_infinite() => {
                    Err(out_of_range(&v, data_type))
                }
                Some(f) => Ok(Value::Float4(f as f32)),
                None => Err(mismatch(&v)),
            },
            (DataType::Numeric(p), v) => to_numeric(v, *p, data_type),
            (DataType::Timestamp, Value::Date(d)) => {
                Ok(Value::Timestamp(i64::from(d) * crate::text::DAY_MICROS))
            }
            (DataType::TimestampTz, Value::Date(d)) => {
                Ok(Value::TimestampTz(i64::from(d) * crate::text::DAY_MICROS))
            }
            (DataType::Timestamp, Value::Timestamp(t) | Value::TimestampTz(t)) => {
                Ok(Value::Timestamp(t))
            }
            (DataType::TimestampTz, Value::Timestamp(t) | Value::TimestampTz(t)) => {
                Ok(Value::TimestampTz(t))
            }
            (DataType::Date, Value::Timestamp(t) | Value::TimestampTz(t)) => {
                Ok(Value::Date(t.div_euclid(crate::text::DAY_MICROS) as i32))
            }
            (DataType::Time, Value::Timestamp(t) | Value::TimestampTz(t)) => {
                Ok(Value::Time(t.rem_euclid(crate::text::DAY_MICROS)))
            }
            (DataType::Jsonb, Value::Json(s)) => crate::text::parse(data_type, &s),
            (DataType::Json, Value::Jsonb(s)) => Ok(Value::Json(s)),
            (DataType::Array(item), Value::Array(values)) => values
                .into_iter()
                .map(|v| v.coerce(item))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            (DataType::Vector(n), Value::Array(values)) => {
                let floats = values
                    .iter()
                    .map(|v| v.as_f64().map(|f| f as f32).ok_or_else(|| mismatch(v)))
                    .collect::<Result<Vec<_>, _>>()?;
                check_dimensions(floats, *n)
            }
            (DataType::Vector(n), Value::Vector(floats)) => check_dimensions(floats, *n),
            (DataType::Bool, v @ Value::Bool(_))
            | (DataType::Bytea, v @ Value::Bytea(_))
            | (DataType::Uuid, v @ Value::Uuid(_))
            | (DataType::Date, v @ Value::Date(_))
            | (DataType::Time, v @ Value::Time(_))
            | (DataType::Interval, v @ Value::Interval(_))
            | (DataType::Json, v @ Value::Json(_))
            | (DataType::Jsonb, v @ Value::Jsonb(_)) => Ok(v),
            (_, v) => Err(mismatch(&v)),
        }
    }

    /// The value as a double, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        Some(match self {
            Value::Int2(v) => f64::from(*v),
            Value::Int4(v) => f64::from(*v),
            Value::Int8(v) => *v as f64,
            Value::Float4(v) => f64::from(*v),
            Value::Float8(v) => *v,
            Value::Numeric(d) => d.to_f64(),
            _ => return None,
        })
    }
}

macro_rules! from {
    ($($given:ty => $variant:ident($convert:expr);)*) => {
        $(impl From<$given> for Value {
            fn from(v: $given) -> Value {
                Value::$variant($convert(v))
            }
        })*
    };
}

from! {
    bool => Bool(std::convert::identity);
    i16 => Int2(std::convert::identity);
    i32 => Int4(std::convert::identity);
    i64 => Int8(std::convert::identity);
    f32 => Float4(std::convert::identity);
    f64 => Float8(std::convert::identity);
    String => Text(std::convert::identity);
    &str => Text(str::to_owned);
    Vec<u8> => Bytea(std::convert::identity);
    Vec<f32> => Vector(std::convert::identity);
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Value {
        v.map_or(Value::Null, Into::into)
    }
}

fn out_of_range(value: &Value, data_type: &DataType) -> DataError {
    DataError::OutOfRange {
        type_name: data_type.to_string(),
        text: crate::text::format(value),
    }
}

pub(crate) fn limit_chars(text: String, max_chars: Option<u32>) -> Result<Value, DataError> {
    match max_chars {
        Some(max) if text.len() > max as usize && text.chars().count() > max as usize => {
            // As in SQL, blanks beyond the limit are dropped silently.
            let cut: String = text.chars().take(max as usize).collect();
            if text[cut.len()..].chars().all(|c| c == ' ') {
                Ok(Value::Text(cut))
            } else {
                Err(DataError::TooLong { max_chars: max })
            }
        }
        _ => Ok(Value::Text(text)),
    }
}

pub(crate) fn check_dimensions(floats: Vec<f32>, expected: u32) -> Result<Value, DataError> {
    // Zero stands for "of any length": a parameter whose column is not known yet.
    if expected != 0 && floats.len() != expected as usize {
        return Err(DataError::Dimensions {
            expected,
            actual: floats.len(),
        });
    }
    Ok(Value::Vector(floats))
}

fn to_integer(value: Value, data_type: &DataType) -> Result<Value, DataError> {
    let wide: i128 = match &value {
        Value::Int2(v) => i128::from(*v),
        Value::Int4(v) => i128::from(*v),
        Value::Int8(v) => i128::from(*v),
        Value::Float4(v) if v.is_finite() => f64::from(*v).round_ties_even() as i128,
        Value::Float8(v) if v.is_finite() => v.round_ties_even() as i128,
        Value::Numeric(d) => match d.rescale(0) {
            Some(d) => d.unscaled,
            None => return Err(out_of_range(&value, data_type)),
        },
        Value::Float4(_) | Value::Float8(_) => return Err(out_of_range(&value, data_type)),
        _ => {
            return Err(DataError::Mismatch {
                from: value.type_name().to_owned(),
                to: data_type.to_string(),
            })
        }
    };
    let fitted = match data_type {
        DataType::Int2 => i16::try_from(wide).ok().map(Value::Int2),
        DataType::Int4 => i32::try_from(wide).ok().map(Value::Int4),
        _ => i64::try_from(wide).ok().map(Value::Int8),
    };
    fitted.ok_or_else(|| out_of_range(&value, data_type))
}

fn to_numeric(
    value: Value,
    parameters: Option<(u8, i8)>,
    data_type: &DataType,
) -> Result<Value, DataError> {
    let decimal = match &value {
        Value::Int2(v) => Decimal {
            unscaled: i128::from(*v),
            scale: 0,
        },
        Value::Int4(v) => Decimal {
            unscaled: i128::from(*v),
            scale: 0,
        },
        Value::Int8(v) => Decimal {
            unscaled: i128::from(*v),
            scale: 0,
        },
        Value::Numeric(d) => *d,
        // The shortest decimal that reads back as the same float.
        Value::Float4(_) | Value::Float8(_) => {
            return crate::text::parse(data_type, &crate::text::format(&value))
        }
        _ => {
            return Err(DataError::Mismatch {
                from: value.type_name().to_owned(),
                to: data_type.to_string(),
            })
        }
    };
    let (precision, scale) = DataType::numeric_shape(parameters);
    decimal
        .rescale(scale)
        .filter(|d| d.fits(precision))
        .map(Value::Numeric)
        .ok_or_else(|| out_of_range(&value, data_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignment_casts() {
        let cases = [
            (Value::Int8(7), DataType::Int2, Ok(Value::Int2(7))),
            (Value::Float8(2.5), DataType::Int8, Ok(Value::Int8(2))),
            (
                Value::Text("12".into()),
                DataType::Int8,
                Ok(Value::Int8(12)),
            ),
            (Value::Int8(5), DataType::Text, Ok(Value::Text("5".into()))),
            (
                Value::Date(1),
                DataType::TimestampTz,
                Ok(Value::TimestampTz(86_400_000_000)),
            ),
        ];
        for (value, to, expected) in cases {
            assert_eq!(value.coerce(&to), expected);
        }
        assert!(Value::Int8(70_000).coerce(&DataType::Int2).is_err());
        assert!(Value::Bool(true).coerce(&DataType::Int8).is_err());
        assert!(Value::Text("abc".into())
            .coerce(&DataType::Varchar(Some(2)))
            .is_err());
    }

    #[test]
    fn decimals_round_half_away_from_zero() {
        let d = |unscaled, scale| Decimal { unscaled, scale };
        assert_eq!(d(125, 2).rescale(1), Some(d(13, 1)));
        assert_eq!(d(-125, 2).rescale(1), Some(d(-13, 1)));
        assert_eq!(d(124, 2).rescale(1), Some(d(12, 1)));
        assert_eq!(d(1, 0).rescale(3), Some(d(1000, 3)));
        assert_eq!(d(i128::MAX, 0).rescale(1), None);
    }
}
