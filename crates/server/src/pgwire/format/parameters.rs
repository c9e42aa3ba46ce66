//! Values from clients: parameters of statements and fields of binary COPY.

use bytes::Buf;
use chronos_model::text;
use chronos_model::{DataError, DataType, Interval, Value};

use super::cell_binary::{EPOCH_DAYS, EPOCH_MICROS};
use super::numeric::read_numeric;
use super::FieldFormat;

/// Reads a parameter of `data_type`; `None` is NULL.
///
/// Errors: 22P02, 22007 and the like for text that is no literal of the type,
/// 22P03 for binary of the wrong shape, and whatever does not fit the type.
pub fn decode_parameter(
    bytes: Option<&[u8]>,
    format: FieldFormat,
    data_type: &DataType,
) -> Result<Value, DataError> {
    match (bytes, format) {
        (None, _) => Ok(Value::Null),
        (Some(bytes), FieldFormat::Text) => text::parse(data_type, utf8(bytes, data_type)?),
        (Some(bytes), FieldFormat::Binary) => decode_binary(bytes, data_type),
    }
}

/// Text as PostgreSQL takes it: UTF-8 without the zero character.
pub(super) fn utf8<'a>(bytes: &'a [u8], data_type: &DataType) -> Result<&'a str, DataError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(text),
        _ => Err(invalid(
            data_type,
            "invalid byte sequence for encoding \"UTF8\"",
        )),
    }
}

fn invalid(data_type: &DataType, reason: &str) -> DataError {
    DataError::InvalidBinary {
        type_name: data_type.to_string(),
        reason: reason.to_owned(),
    }
}

/// Reads the binary form of a value; the forms stand in `cell_binary`.
pub(super) fn decode_binary(bytes: &[u8], data_type: &DataType) -> Result<Value, DataError> {
    let wrong_length = || invalid(data_type, &format!("{} bytes", bytes.len()));
    Ok(match data_type {
        DataType::Bool => match bytes {
            [byte] => Value::Bool(*byte != 0),
            _ => return Err(wrong_length()),
        },
        DataType::Int2 | DataType::Int4 | DataType::Int8 => {
            Value::Int8(integer(bytes).ok_or_else(wrong_length)?).coerce(data_type)?
        }
        DataType::Float4 | DataType::Float8 => {
            Value::Float8(float(bytes).ok_or_else(wrong_length)?).coerce(data_type)?
        }
        DataType::Numeric(parameters) => Value::Numeric(read_numeric(bytes, *parameters)?),
        DataType::Text | DataType::Varchar(_) | DataType::Json => {
            text::parse(data_type, utf8(bytes, data_type)?)?
        }
        DataType::Jsonb => match bytes {
            [1, rest @ ..] => text::parse(data_type, utf8(rest, data_type)?)?,
            _ => return Err(invalid(data_type, "unsupported version number")),
        },
        DataType::Bytea => Value::Bytea(bytes.to_vec()),
        DataType::Uuid => Value::Uuid(bytes.try_into().map_err(|_| wrong_length())?),
        DataType::Date => {
            let days = fixed::<4>(bytes).ok_or_else(wrong_length)?;
            Value::Date(match i32::from_be_bytes(days) {
                days @ (i32::MIN | i32::MAX) => days,
                days => days
                    .checked_add(EPOCH_DAYS)
                    .ok_or_else(|| overflow("date"))?,
            })
        }
        DataType::Time => match fixed::<8>(bytes).map(i64::from_be_bytes) {
            Some(micros @ 0..=text::DAY_MICROS) => Value::Time(micros),
            Some(_) => return Err(overflow("time")),
            None => return Err(wrong_length()),
        },
        DataType::Timestamp => Value::Timestamp(timestamp(bytes).ok_or_else(wrong_length)??),
        DataType::TimestampTz => Value::TimestampTz(timestamp(bytes).ok_or_else(wrong_length)??),
        DataType::Interval => Value::Interval(interval(bytes).ok_or_else(wrong_length)??),
        DataType::Array(item) => array(bytes, item, data_type)?,
        DataType::Vector(_) => vector(bytes).ok_or_else(wrong_length)?.coerce(data_type)?,
    })
}

fn overflow(what: &str) -> DataError {
    DataError::DateTimeOverflow {
        text: format!("a binary {what}"),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// An integer of any width: what a client declared need not be the column's.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    Some(match bytes.len() {
        8 => i64::from_be_bytes(fixed(bytes)?),
        4 => i64::from(i32::from_be_bytes(fixed(bytes)?)),
        2 => i64::from(i16::from_be_bytes(fixed(bytes)?)),
        _ => return None,
    })
}

pub(super) fn float(bytes: &[u8]) -> Option<f64> {
    Some(match bytes.len() {
        8 => f64::from_be_bytes(fixed(bytes)?),
        4 => f64::from(f32::from_be_bytes(fixed(bytes)?)),
        _ => return None,
    })
}

pub(super) fn timestamp(bytes: &[u8]) -> Option<Result<i64, DataError>> {
    Some(match i64::from_be_bytes(fixed(bytes)?) {
        micros @ (i64::MIN | i64::MAX) => Ok(micros),
        micros => micros
            .checked_add(EPOCH_MICROS)
            .filter(|micros| *micros != i64::MAX)
            .ok_or_else(|| overflow("timestamp")),
    })
}

fn interval(mut bytes: &[u8]) -> Option<Result<Interval, DataError>> {
    if bytes.len() != 16 {
        return None;
    }
    let nanos = bytes.get_i64().checked_mul(1_000);
    let (days, months) = (bytes.get_i32(), bytes.get_i32());
    Some(
        nanos
            .ok_or_else(|| overflow("interval"))
            .map(|nanos| Interval {
                months,
                days,
                nanos,
            }),
    )
}

fn array(mut bytes: &[u8], item: &DataType, data_type: &DataType) -> Result<Value, DataError> {
    let short = || invalid(data_type, "it ends too early");
    let next = |bytes: &mut &[u8]| bytes.try_get_i32().map_err(|_| short());
    let dimensions = next(&mut bytes)?;
    let (_has_nulls, _item_oid) = (next(&mut bytes)?, next(&mut bytes)?);
    match dimensions {
        0 => return Ok(Value::Array(Vec::new())),
        1 => {}
        _ => {
            return Err(DataError::InvalidType {
                reason: "arrays of more than one dimension are not supported".into(),
            })
        }
    }
    let (count, _lower_bound) = (next(&mut bytes)?, next(&mut bytes)?);
    // Each item has at least a length: a lying count must not reserve memory.
    let mut items = Vec::with_capacity((count.max(0) as usize).min(bytes.len() / 4));
    for _ in 0..count {
        items.push(match next(&mut bytes)? {
            -1 => Value::Null,
            length => {
                let length = usize::try_from(length).map_err(|_| short())?;
                let (head, rest) = bytes.split_at_checked(length).ok_or_else(short)?;
                bytes = rest;
                decode_binary(head, item)?
            }
        });
    }
    match bytes.is_empty() {
        true => Ok(Value::Array(items)),
        false => Err(invalid(data_type, "bytes follow its last item")),
    }
}

fn vector(mut bytes: &[u8]) -> Option<Value> {
    let count = usize::from(bytes.try_get_u16().ok()?);
    let _unused = bytes.try_get_u16().ok()?;
    if count == 0 || bytes.len() != count * 4 {
        return None;
    }
    let items: Vec<f32> = std::iter::from_fn(|| bytes.try_get_f32().ok()).collect();
    items
        .iter()
        .all(|v| v.is_finite())
        .then_some(Value::Vector(items))
}
