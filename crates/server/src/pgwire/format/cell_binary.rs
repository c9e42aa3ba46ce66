//! Cells in PostgreSQL's binary forms (`src/backend/utils/adt/*.c`, the `_send`
//! functions; pgvector's `vector_send`).
//!
//! | type | bytes |
//! |---|---|
//! | bool | 1 |
//! | int2/4/8, float4/8 | big-endian |
//! | numeric | see [`numeric`](super::numeric) |
//! | date, time, timestamp[tz] | i32 days or i64 microseconds, from 2000-01-01 |
//! | interval | i64 microseconds, i32 days, i32 months |
//! | text, json, bytea, uuid | as they are |
//! | jsonb | version 1, then text |
//! | array | i32 dimensions, i32 has-nulls, u32 item type, i32 length, i32 lower bound, items |
//! | vector | i16 dimensions, i16 zero, float4 items |

use bytes::{BufMut, BytesMut};
use chronos_model::text::parse_uuid;
use chronos_model::{DataError, DataType};

use super::cell::{Cell, Items};
use super::cell_text::{item_type, put_text};
use super::numeric::{put_numeric, put_wide_numeric};

/// 2000-01-01 in days since 1970-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// 2000-01-01 in microseconds since 1970-01-01.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Appends a cell's binary form without its length; NULL appends nothing.
///
/// Errors: the value is outside what the type's binary form can hold.
#[inline]
pub(super) fn put_binary(
    cell: &Cell<'_>,
    data_type: &DataType,
    out: &mut BytesMut,
) -> Result<(), DataError> {
    match cell {
        Cell::Null => {}
        Cell::Bool(v) => out.put_u8(u8::from(*v)),
        Cell::Int(v) => put_int(*v, data_type, out),
        Cell::Float4(v) => out.put_f32(*v),
        Cell::Float8(v) => out.put_f64(*v),
        Cell::Decimal(v) => {
            put_numeric(*v, matches!(data_type, DataType::Numeric(None)), out);
        }
        Cell::WideDecimal(v, scale) => put_wide_numeric(&v.to_string(), *scale, out),
        Cell::Text(v) => match data_type {
            DataType::Uuid => out.put_slice(&parse_uuid(v)?),
            DataType::Jsonb => {
                out.put_u8(1);
                out.put_slice(v.as_bytes());
            }
            _ => out.put_slice(v.as_bytes()),
        },
        Cell::Uuid(v) => out.put_slice(*v),
        Cell::Bytes(v) => out.put_slice(v),
        Cell::Date(v) => out.put_i32(match *v {
            i32::MIN | i32::MAX => *v,
            days => days
                .checked_sub(EPOCH_DAYS)
                .ok_or_else(|| out_of_range(i64::from(days), "date"))?,
        }),
        Cell::Time(v) => out.put_i64(*v),
        Cell::Timestamp(v) => out.put_i64(match *v {
            i64::MIN | i64::MAX => *v,
            micros => micros
                .checked_sub(EPOCH_MICROS)
                .ok_or_else(|| out_of_range(micros, "timestamp"))?,
        }),
        Cell::Interval(v) => {
            out.put_i64(v.nanos / 1_000);
            out.put_i32(v.days);
            out.put_i32(v.months);
        }
        Cell::Items(items) => put_items(items, data_type, out)?,
        Cell::Vector(v) => {
            out.put_u16(v.len() as u16);
            out.put_u16(0);
            for item in *v {
                out.put_f32(*item);
            }
        }
        Cell::Object(..) => put_text(cell, data_type, out)?,
    }
    Ok(())
}

/// Appends a cell's length and binary form; NULL is the length -1.
#[inline]
pub(super) fn put_binary_field(
    cell: &Cell<'_>,
    data_type: &DataType,
    out: &mut BytesMut,
) -> Result<(), DataError> {
    if let Cell::Null = cell {
        out.put_i32(-1);
        return Ok(());
    }
    put_sized(out, |out| put_binary(cell, data_type, out))
}

/// Appends what `body` writes, after its length.
#[inline]
pub(super) fn put_sized(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let start = out.len();
    out.put_i32(0);
    body(out)?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| DataError::InvalidType {
        reason: "a value of more than 2 GiB cannot be sent".into(),
    })?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_int(value: i64, data_type: &DataType, out: &mut BytesMut) {
    // The type is that of the column, so the value fits.
    match data_type {
        DataType::Int2 => out.put_i16(value as i16),
        DataType::Int4 => out.put_i32(value as i32),
        _ => out.put_i64(value),
    }
}

fn put_items(items: &Items<'_>, data_type: &DataType, out: &mut BytesMut) -> Result<(), DataError> {
    let item_type = item_type(data_type);
    // What PostgreSQL has no array of travels as text; `DataType::oid` says so too.
    let is_text = matches!(item_type, DataType::Array(_) | DataType::Vector(_));
    let oid = match is_text {
        true => DataType::Text.oid(),
        false => item_type.oid(),
    };
    if items.len() == 0 {
        out.put_i32(0);
        out.put_i32(0);
        out.put_u32(oid);
        return Ok(());
    }
    out.put_i32(1);
    let has_nulls = out.len();
    out.put_i32(0);
    out.put_u32(oid);
    out.put_i32(items.len() as i32);
    out.put_i32(1);
    for at in 0..items.len() {
        let item = items.get(at)?;
        if let Cell::Null = item {
            out[has_nulls + 3] = 1;
        }
        match item {
            Cell::Null => out.put_i32(-1),
            item if is_text => put_sized(out, |out| put_text(&item, item_type, out))?,
            item => put_binary_field(&item, item_type, out)?,
        }
    }
    Ok(())
}

fn out_of_range(value: i64, type_name: &str) -> DataError {
    DataError::OutOfRange {
        type_name: type_name.to_owned(),
        text: value.to_string(),
    }
}
