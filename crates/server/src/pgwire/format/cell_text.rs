//! Cells as text.

use bytes::BufMut;
use chronos_model::text::{
    format_uuid, write_array_item, write_bytea, write_date, write_decimal, write_decimal_trimmed,
    write_f32, write_f64, write_i64, write_interval, write_time, write_timestamp,
    write_timestamptz, write_vector,
};
use chronos_model::{DataError, DataType};

use super::cell::{Cell, Items};

/// Appends a cell's text; NULL appends nothing.
#[inline]
pub(super) fn put_text(
    cell: &Cell<'_>,
    data_type: &DataType,
    out: &mut impl BufMut,
) -> Result<(), DataError> {
    match cell {
        Cell::Null => {}
        Cell::Bool(v) => out.put_u8(if *v { b't' } else { b'f' }),
        Cell::Int(v) => write_i64(*v, out),
        Cell::Float4(v) => write_f32(*v, out),
        Cell::Float8(v) => write_f64(*v, out),
        // A bare NUMERIC has no declared scale: its zeros are padding.
        Cell::Decimal(v) if matches!(data_type, DataType::Numeric(None)) => {
            write_decimal_trimmed(v.unscaled, v.scale, out);
        }
        Cell::Decimal(v) => write_decimal(v.unscaled, v.scale, out),
        Cell::WideDecimal(v, scale) => put_wide_decimal(&v.to_string(), *scale, out),
        Cell::Text(v) => out.put_slice(v.as_bytes()),
        Cell::Uuid(v) => out.put_slice(format_uuid(v).as_bytes()),
        Cell::Bytes(v) => write_bytea(v, out),
        Cell::Date(v) => write_date(*v, out),
        Cell::Time(v) => write_time(*v, out),
        Cell::Timestamp(v) if matches!(data_type, DataType::TimestampTz) => {
            write_timestamptz(*v, out);
        }
        Cell::Timestamp(v) => write_timestamp(*v, out),
        Cell::Interval(v) => write_interval(*v, out),
        Cell::Items(items) => put_items(items, data_type, out)?,
        Cell::Vector(v) => write_vector(v, out),
        Cell::Object(..) => out.put_slice(&json(cell, data_type)?),
    }
    Ok(())
}

/// The item type of an array type.
pub(super) fn item_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Array(item) => item,
        other => other,
    }
}

fn put_items(
    items: &Items<'_>,
    data_type: &DataType,
    out: &mut impl BufMut,
) -> Result<(), DataError> {
    let item_type = item_type(data_type);
    let mut text = Vec::new();
    out.put_u8(b'{');
    for at in 0..items.len() {
        if at > 0 {
            out.put_u8(b',');
        }
        let item = items.get(at)?;
        text.clear();
        put_text(&item, item_type, &mut text)?;
        match item {
            Cell::Null => out.put_slice(b"NULL"),
            // A further dimension.
            Cell::Items(_) => out.put_slice(&text),
            _ => write_array_item(&text, out),
        }
    }
    out.put_u8(b'}');
    Ok(())
}

/// The digits of an integer, with the point put in.
fn put_wide_decimal(digits: &str, scale: i8, out: &mut impl BufMut) {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    out.put_slice(sign.as_bytes());
    if scale <= 0 {
        out.put_slice(digits.as_bytes());
        out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        return;
    }
    let digits = format!("{digits:0>width$}", width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    out.put_slice(whole.as_bytes());
    out.put_u8(b'.');
    out.put_slice(fraction.as_bytes());
}

/// A cell as JSON.
fn json(cell: &Cell<'_>, data_type: &DataType) -> Result<Vec<u8>, DataError> {
    let mut out = Vec::new();
    put_json(cell, data_type, &mut out)?;
    Ok(out)
}

fn put_json(cell: &Cell<'_>, data_type: &DataType, out: &mut Vec<u8>) -> Result<(), DataError> {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Cell::Float4(v) if !v.is_finite() => out.extend_from_slice(b"null"),
        Cell::Float8(v) if !v.is_finite() => out.extend_from_slice(b"null"),
        Cell::Int(_)
        | Cell::Float4(_)
        | Cell::Float8(_)
        | Cell::Decimal(_)
        | Cell::WideDecimal(..)
        | Cell::Vector(_) => put_text(cell, data_type, out)?,
        Cell::Text(v) if matches!(data_type, DataType::Json | DataType::Jsonb) => {
            out.extend_from_slice(v.as_bytes());
        }
        Cell::Items(items) => {
            out.push(b'[');
            for at in 0..items.len() {
                if at > 0 {
                    out.push(b',');
                }
                put_json(&items.get(at)?, item_type(data_type), out)?;
            }
            out.push(b']');
        }
        Cell::Object(column, row) => {
            out.push(b'{');
            let start = out.len();
            column.members(*row, |name, data_type, value| {
                if out.len() > start {
                    out.push(b',');
                }
                put_json_string(&name, data_type, out)?;
                out.push(b':');
                put_json(&value, data_type, out)
            })?;
            out.push(b'}');
        }
        _ => put_json_string(cell, data_type, out)?,
    }
    Ok(())
}

fn put_json_string(
    cell: &Cell<'_>,
    data_type: &DataType,
    out: &mut Vec<u8>,
) -> Result<(), DataError> {
    let mut text = Vec::new();
    put_text(cell, data_type, &mut text)?;
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
    Ok(())
}
