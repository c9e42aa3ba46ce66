//! A row's columns as bytes, for the log and the memtable.
//!
//! `[format: 1 byte = 1] [null bitmap: ceil(n/8) bytes, bit set = NULL] [values]`
//! where `n`, the number of columns the row was written with, is a varint
//! between format and bitmap. Fixed-size values are little-endian, text and bytes
//! have a varint length, arrays a varint count and then each element with a
//! leading presence byte. A row written before a column was added is shorter:
//! the missing columns read as NULL.

use crate::codec::put_varint;
use crate::{DataError, DataType, Decimal, Decoder, Interval, TableSchema, Value};

const FORMAT: u8 = 1;

/// Appends the encoding of `values`, which are of the columns' types.
pub fn encode_row(values: &[Value], out: &mut Vec<u8>) {
    out.push(FORMAT);
    put_varint(out, values.len() as u64);
    let bitmap = out.len();
    out.resize(bitmap + values.len().div_ceil(8), 0);
    for (i, value) in values.iter().enumerate() {
        if value.is_null() {
            out[bitmap + i / 8] |= 1 << (i % 8);
        } else {
            put(out, value);
        }
    }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Int2(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Int4(v) | Value::Date(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Int8(v) | Value::Time(v) | Value::Timestamp(v) | Value::TimestampTz(v) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::Float4(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Float8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Numeric(d) => {
            out.extend_from_slice(&d.unscaled.to_le_bytes());
            out.push(d.scale as u8);
        }
        Value::Text(v) | Value::Json(v) | Value::Jsonb(v) => put_slice(out, v.as_bytes()),
        Value::Bytea(v) => put_slice(out, v),
        Value::Uuid(v) => out.extend_from_slice(v),
        Value::Interval(v) => {
            out.extend_from_slice(&v.months.to_le_bytes());
            out.extend_from_slice(&v.days.to_le_bytes());
            out.extend_from_slice(&v.nanos.to_le_bytes());
        }
        Value::Array(items) => {
            put_varint(out, items.len() as u64);
            for item in items {
                out.push(u8::from(!item.is_null()));
                put(out, item);
            }
        }
        Value::Vector(floats) => {
            put_varint(out, floats.len() as u64);
            for float in floats {
                out.extend_from_slice(&float.to_le_bytes());
            }
        }
    }
}

fn put_slice(out: &mut Vec<u8>, v: &[u8]) {
    put_varint(out, v.len() as u64);
    out.extend_from_slice(v);
}

/// Decodes all columns of a row.
pub fn decode_row(schema: &TableSchema, bytes: &[u8]) -> Result<Vec<Value>, DataError> {
    let mut row = RowDecoder::new(bytes)?;
    schema
        .columns
        .iter()
        .map(|c| row.next(&c.data_type))
        .collect()
}

/// Decodes one column of a row.
pub fn decode_column(
    schema: &TableSchema,
    bytes: &[u8],
    column: usize,
) -> Result<Value, DataError> {
    let mut row = RowDecoder::new(bytes)?;
    for skipped in &schema.columns[..column] {
        row.skip(&skipped.data_type)?;
    }
    row.next(&schema.columns[column].data_type)
}

struct RowDecoder<'a> {
    d: Decoder<'a>,
    bitmap: &'a [u8],
    columns: usize,
    position: usize,
}

impl<'a> RowDecoder<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, DataError> {
        let mut d = Decoder::new("row", bytes);
        if d.u8()? != FORMAT {
            return Err(d.damaged("an unknown format version"));
        }
        let columns = d.varint()?;
        let columns = usize::try_from(columns)
            .ok()
            .filter(|n| *n <= bytes.len() * 8)
            .ok_or_else(|| d.damaged("a count of columns that exceeds the row"))?;
        let bitmap = d.take(columns.div_ceil(8))?;
        Ok(RowDecoder {
            d,
            bitmap,
            columns,
            position: 0,
        })
    }

    fn skip(&mut self, data_type: &DataType) -> Result<(), DataError> {
        match data_type {
            DataType::Text
            | DataType::Varchar(_)
            | DataType::Json
            | DataType::Jsonb
            | DataType::Bytea => {
                if !self.is_null() {
                    self.d.bytes()?;
                }
                self.position += 1;
                Ok(())
            }
            other => self.next(other).map(|_| ()),
        }
    }

    fn is_null(&self) -> bool {
        let i = self.position;
        i >= self.columns || self.bitmap[i / 8] & (1 << (i % 8)) != 0
    }

    fn next(&mut self, data_type: &DataType) -> Result<Value, DataError> {
        let is_null = self.is_null();
        self.position += 1;
        if is_null {
            return Ok(Value::Null);
        }
        take(&mut self.d, data_type)
    }
}

fn take(d: &mut Decoder<'_>, data_type: &DataType) -> Result<Value, DataError> {
    Ok(match data_type {
        DataType::Bool => Value::Bool(d.u8()? != 0),
        DataType::Int2 => Value::Int2(i16::from_le_bytes(d.array()?)),
        DataType::Int4 => Value::Int4(i32::from_le_bytes(d.array()?)),
        DataType::Date => Value::Date(i32::from_le_bytes(d.array()?)),
        DataType::Int8 => Value::Int8(i64::from_le_bytes(d.array()?)),
        DataType::Time => Value::Time(i64::from_le_bytes(d.array()?)),
        DataType::Timestamp => Value::Timestamp(i64::from_le_bytes(d.array()?)),
        DataType::TimestampTz => Value::TimestampTz(i64::from_le_bytes(d.array()?)),
        DataType::Float4 => Value::Float4(f32::from_le_bytes(d.array()?)),
        DataType::Float8 => Value::Float8(f64::from_le_bytes(d.array()?)),
        DataType::Numeric(_) => Value::Numeric(Decimal {
            unscaled: i128::from_le_bytes(d.array()?),
            scale: d.u8()? as i8,
        }),
        DataType::Text | DataType::Varchar(_) => Value::Text(d.text()?.to_owned()),
        DataType::Json => Value::Json(d.text()?.to_owned()),
        DataType::Jsonb => Value::Jsonb(d.text()?.to_owned()),
        DataType::Bytea => Value::Bytea(d.bytes()?.to_vec()),
        DataType::Uuid => Value::Uuid(d.array()?),
        DataType::Interval => Value::Interval(Interval {
            months: i32::from_le_bytes(d.array()?),
            days: i32::from_le_bytes(d.array()?),
            nanos: i64::from_le_bytes(d.array()?),
        }),
        DataType::Array(item) => {
            let n = d.count()?;
            let mut items = Vec::with_capacity(n);
            for _ in 0..n {
                items.push(match d.u8()? {
                    0 => Value::Null,
                    _ => take(d, item)?,
                });
            }
            Value::Array(items)
        }
        DataType::Vector(_) => {
            let n = d.count()?;
            let mut floats = Vec::with_capacity(n);
            for _ in 0..n {
                floats.push(f32::from_le_bytes(d.array()?));
            }
            Value::Vector(floats)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ColumnSchema, TableId, TableOptions};

    #[test]
    fn each_column_alone_is_as_in_the_whole_row() {
        let types = [
            (DataType::Text, Value::Text("a text".into())),
            (DataType::Int4, Value::Int4(-7)),
            (DataType::Bytea, Value::Null),
            (DataType::Jsonb, Value::Jsonb("{}".into())),
            (DataType::Bytea, Value::Bytea(vec![0, 1])),
            (
                DataType::Array(Box::new(DataType::Text)),
                Value::Array(vec![Value::Null, Value::Text("x".into())]),
            ),
            (DataType::Varchar(None), Value::Text(String::new())),
            (DataType::Bool, Value::Bool(true)),
        ];
        let column = |(i, data_type): (usize, &DataType)| ColumnSchema {
            name: format!("c{i}"),
            data_type: data_type.clone(),
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        let schema = TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: types
                .iter()
                .map(|(t, _)| t)
                .enumerate()
                .map(column)
                .collect(),
            primary_key: Vec::new(),
            options: TableOptions::default(),
            rules: Default::default(),
            shape: Default::default(),
        };
        let values: Vec<Value> = types.iter().map(|(_, v)| v.clone()).collect();
        // The last column was added later.
        for stored in [values.len(), values.len() - 1] {
            let mut bytes = Vec::new();
            encode_row(&values[..stored], &mut bytes);
            let whole = decode_row(&schema, &bytes).unwrap();
            assert_eq!(whole[..stored], values[..stored]);
            for (column, value) in whole.iter().enumerate() {
                assert_eq!(decode_column(&schema, &bytes, column).unwrap(), *value);
            }
        }
    }
}
