//! Text forms of values, as PostgreSQL 15 reads and writes them.
//!
//! ```text
//!   text ── parse(type) ──▶ Value ── format / write ──▶ text
//!   bytes ─ parse_i64, parse_timestamptz .. ─▶ i64 .. ─ write_i64, write_timestamptz .. ─▶ bytes
//! ```
//!
//! The upper way serves literals, parameters and single cells. The lower way
//! serves columns (`COPY`, result encoders): it takes and gives bare numbers and
//! allocates nothing unless it fails.
//!
//! Output is that of `DateStyle = ISO`, `IntervalStyle = postgres`,
//! `bytea_output = hex`, `extra_float_digits = 1` and `TimeZone = UTC`; a
//! TIMESTAMPTZ read without a zone is UTC. Whatever [`write()`] gives, [`parse`]
//! reads back as the same value.
//!
//! Refused: what needs a clock (`now`, `today`), the zone database
//! (`Europe/Berlin`), `NaN` for NUMERIC, and arrays of more than one dimension.

mod array;
mod bytes;
mod calendar;
mod datetime;
mod datetime_reader;
mod datetime_writer;
mod decimal;
mod fault;
mod interval;
mod interval_reader;
mod json;
mod number;
#[cfg(test)]
mod tests;
mod words;

use crate::value::limit_chars;
use crate::{DataError, DataType, Value};

pub use self::array::{is_array_item_quoted, write_array_item, write_vector};
pub use self::bytes::{format_uuid, parse_bytea, parse_uuid, write_bytea};
pub use self::calendar::{civil_from_days, days_from_civil, days_in_month};
pub use self::datetime::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
pub use self::datetime_writer::{write_date, write_time, write_timestamp, write_timestamptz};
pub use self::decimal::{format_decimal, parse_decimal, write_decimal, write_decimal_trimmed};
pub use self::interval::write_interval;
pub use self::interval_reader::parse_interval;
pub use self::json::write_json_string;
pub use self::number::{
    parse_bool, parse_f32, parse_f64, parse_i64, write_f32, write_f64, write_i64,
};
pub use self::words::is_reserved;

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// Reads a literal of `data_type`. NULL has no literal: the caller knows it.
///
/// Errors: the text is no literal of the type (22P02, 22007), or one that does
/// not fit it (22003, 22008, 22001, 22000).
pub fn parse(data_type: &DataType, text: &str) -> Result<Value, DataError> {
    let raw = text.as_bytes();
    let integer = || number::integer(raw).map_err(|fault| fault.named(&data_type.to_string(), raw));
    let out_of_range = || fault::Fault::Range.named(&data_type.to_string(), raw);
    Ok(match data_type {
        DataType::Bool => Value::Bool(parse_bool(raw)?),
        DataType::Int2 => Value::Int2(integer()?.try_into().map_err(|_| out_of_range())?),
        DataType::Int4 => Value::Int4(integer()?.try_into().map_err(|_| out_of_range())?),
        DataType::Int8 => Value::Int8(integer()?),
        DataType::Float4 => Value::Float4(parse_f32(raw)?),
        DataType::Float8 => Value::Float8(parse_f64(raw)?),
        DataType::Numeric(parameters) => Value::Numeric(parse_decimal(raw, *parameters)?),
        DataType::Text => Value::Text(text.to_owned()),
        DataType::Varchar(max_chars) => limit_chars(text.to_owned(), *max_chars)?,
        DataType::Bytea => Value::Bytea(parse_bytea(raw)?),
        DataType::Uuid => Value::Uuid(parse_uuid(text)?),
        DataType::Date => Value::Date(parse_date(raw)?),
        DataType::Time => Value::Time(parse_time(raw)?),
        DataType::Timestamp => Value::Timestamp(parse_timestamp(raw)?),
        DataType::TimestampTz => Value::TimestampTz(parse_timestamptz(raw)?),
        DataType::Interval => Value::Interval(parse_interval(raw)?),
        DataType::Json => {
            json::validate(text)?;
            Value::Json(text.to_owned())
        }
        DataType::Jsonb => Value::Jsonb(json::normalise(text)?),
        DataType::Array(item) => array::parse_array(item, text)?,
        DataType::Vector(dimensions) => array::parse_vector(text, *dimensions)?,
    })
}

/// The text form of a value; NULL gives the empty string.
pub fn format(value: &Value) -> String {
    if let Value::Text(text) | Value::Json(text) | Value::Jsonb(text) = value {
        return text.clone();
    }
    let mut out = Vec::with_capacity(32);
    write(value, &mut out);
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Appends the text form of a value; NULL appends nothing.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(v) => out.push(if *v { b't' } else { b'f' }),
        Value::Int2(v) => write_i64(i64::from(*v), out),
        Value::Int4(v) => write_i64(i64::from(*v), out),
        Value::Int8(v) => write_i64(*v, out),
        Value::Float4(v) => write_f32(*v, out),
        Value::Float8(v) => write_f64(*v, out),
        Value::Numeric(v) => write_decimal(v.unscaled, v.scale, out),
        Value::Text(v) | Value::Json(v) | Value::Jsonb(v) => out.extend_from_slice(v.as_bytes()),
        Value::Bytea(v) => write_bytea(v, out),
        Value::Uuid(v) => out.extend_from_slice(&bytes::uuid_text(v)),
        Value::Date(v) => write_date(*v, out),
        Value::Time(v) => write_time(*v, out),
        Value::Timestamp(v) => write_timestamp(*v, out),
        Value::TimestampTz(v) => write_timestamptz(*v, out),
        Value::Interval(v) => write_interval(*v, out),
        Value::Array(items) => array::write_array(items, out),
        Value::Vector(items) => write_vector(items, out),
    }
}
