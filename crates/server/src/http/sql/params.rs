//! JSON parameters become SQL values of the types that the statement wants.
//!
//! A number keeps its digits on the way: `12345678901234567.89` for a NUMERIC does not
//! pass through a double. A parameter of type `json` or `jsonb` takes any JSON value as
//! it is; a string for any other type is read as a literal of that type.

use chronos_model::{text, DataError, DataType, SqlState, Value};
use chronos_node::Error;
use serde_json::value::RawValue;

use super::request::NUL_MESSAGE;

/// The values of `$1`, `$2` .. by the types of the prepared statement.
///
/// Errors: a wrong number of parameters (08P01), or one that is no value of its type.
pub(crate) fn bind(params: &[Box<RawValue>], types: &[DataType]) -> Result<Vec<Value>, Error> {
    if params.len() != types.len() {
        let message = format!(
            "{} parameters were given, but the statement has {}",
            params.len(),
            types.len()
        );
        return Err(Error::new(SqlState::PROTOCOL_VIOLATION, message));
    }
    let values = params.iter().zip(types).enumerate();
    values
        .map(|(i, (param, data_type))| {
            if holds_nul(param.get()) {
                return Err(Error::new(SqlState::INVALID_ENCODING, NUL_MESSAGE));
            }
            value_of(param, data_type)
                .map_err(|e| Error::from(e).with_detail(format!("parameter ${}", i + 1)))
        })
        .collect()
}

/// Whether a string in it has the escape of a NUL, and not an escaped backslash before the
/// same letters.
fn holds_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let backslashes = json[..at].bytes().rev().take_while(|b| *b == b'\\');
        backslashes.count() % 2 == 0
    })
}

fn value_of(json: &RawValue, data_type: &DataType) -> Result<Value, DataError> {
    let raw = json.get().trim();
    if raw == "null" {
        return Ok(Value::Null);
    }
    if let DataType::Json | DataType::Jsonb = data_type {
        return text::parse(data_type, raw);
    }
    match raw.as_bytes().first() {
        Some(b'"') => {
            let string: String = serde_json::from_str(raw).map_err(|_| mismatch(raw, data_type))?;
            text::parse(data_type, &string)
        }
        Some(b't' | b'f') => match data_type {
            DataType::Bool => Ok(Value::Bool(raw == "true")),
            DataType::Text | DataType::Varchar(_) => text::parse(data_type, raw),
            _ => Err(mismatch("boolean", data_type)),
        },
        Some(b'[') => array_of(raw, data_type),
        Some(b'{') => match data_type {
            DataType::Text | DataType::Varchar(_) => text::parse(data_type, raw),
            _ => Err(mismatch("object", data_type)),
        },
        _ => number_of(raw, data_type),
    }
}

fn number_of(raw: &str, data_type: &DataType) -> Result<Value, DataError> {
    match data_type {
        DataType::Int2 | DataType::Int4 | DataType::Int8 => {
            let is_integer = !raw.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'));
            match raw.parse::<f64>() {
                // 3.0 and 1e3 are integers to clients that know only doubles.
                Ok(f) if !is_integer && f.fract() == 0.0 && f.abs() <= 9e15 => {
                    Value::Int8(f as i64).coerce(data_type)
                }
                _ => text::parse(data_type, raw),
            }
        }
        DataType::Float4
        | DataType::Float8
        | DataType::Numeric(_)
        | DataType::Text
        | DataType::Varchar(_) => text::parse(data_type, raw),
        _ => Err(mismatch("number", data_type)),
    }
}

fn array_of(raw: &str, data_type: &DataType) -> Result<Value, DataError> {
    let item = match data_type {
        DataType::Array(item) => item,
        DataType::Vector(_) => &DataType::Float4,
        DataType::Text | DataType::Varchar(_) => return text::parse(data_type, raw),
        _ => return Err(mismatch("array", data_type)),
    };
    let items: Vec<&RawValue> =
        serde_json::from_str(raw).map_err(|_| mismatch("array", data_type))?;
    let values = items.into_iter().map(|json| value_of(json, item));
    Value::Array(values.collect::<Result<_, _>>()?).coerce(data_type)
}

fn mismatch(from: &str, data_type: &DataType) -> DataError {
    DataError::Mismatch {
        from: from.to_owned(),
        to: data_type.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_model::Decimal;

    fn value(json: &str, type_name: &str) -> Result<Value, Error> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        let data_type = DataType::parse(type_name).unwrap();
        bind(&[raw], &[data_type]).map(|mut values| values.remove(0))
    }

    #[test]
    fn json_values_become_values_of_the_wanted_type() {
        let text = |s: &str| Value::Text(s.into());
        for (json, type_name, expected) in [
            ("null", "bigint", Value::Null),
            (
                "9007199254740993",
                "bigint",
                Value::Int8(9_007_199_254_740_993),
            ),
            ("3.0", "smallint", Value::Int2(3)),
            ("1e3", "int4", Value::Int4(1000)),
            ("\"42\"", "bigint", Value::Int8(42)),
            ("1.5", "double precision", Value::Float8(1.5)),
            ("\"NaN\"", "real", Value::Float4(f32::NAN)),
            (
                "12345678901234567.89",
                "numeric(20,2)",
                Value::Numeric(Decimal {
                    unscaled: 1_234_567_890_123_456_789,
                    scale: 2,
                }),
            ),
            ("true", "boolean", Value::Bool(true)),
            ("true", "text", text("true")),
            ("1.50", "text", text("1.50")),
            ("\"a\\n\\u00fc\"", "text", text("a\nü")),
            ("\"\\\\x00ff\"", "bytea", Value::Bytea(vec![0, 255])),
            (
                "\"2024-01-01T00:00:00Z\"",
                "timestamptz",
                Value::TimestampTz(1_704_067_200_000_000),
            ),
            ("{\"a\": [1]}", "json", Value::Json("{\"a\": [1]}".into())),
            ("\"x\"", "json", Value::Json("\"x\"".into())),
            (
                "[1,null]",
                "bigint[]",
                Value::Array(vec![Value::Int8(1), Value::Null]),
            ),
            (
                "\"{1,2}\"",
                "bigint[]",
                Value::Array(vec![Value::Int8(1), Value::Int8(2)]),
            ),
            ("[1,2.5]", "vector(2)", Value::Vector(vec![1.0, 2.5])),
        ] {
            let got = value(json, type_name).unwrap();
            assert_eq!(
                format!("{got:?}"),
                format!("{expected:?}"),
                "{json} as {type_name}"
            );
        }
    }

    #[test]
    fn wrong_parameters_are_errors() {
        for (json, type_name, code) in [
            ("1.5", "bigint", "22P02"),
            ("40000", "smallint", "22003"),
            ("true", "bigint", "42804"),
            ("1", "boolean", "42804"),
            ("{}", "bigint", "42804"),
            ("[1]", "bigint", "42804"),
            ("1704067200", "timestamptz", "42804"),
            ("\"noon\"", "timestamptz", "22007"),
            ("[1]", "vector(2)", "22000"),
        ] {
            let e = value(json, type_name).unwrap_err();
            assert_eq!(e.code.0, code, "{json} as {type_name}: {e}");
            assert_eq!(e.detail.as_deref(), Some("parameter $1"));
        }
        let e = bind(&[], &[DataType::Int8]).unwrap_err();
        assert_eq!(e.code, SqlState::PROTOCOL_VIOLATION);
    }
}
