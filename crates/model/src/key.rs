//! Key bytes: primary keys encoded so that comparing bytes compares keys.
//!
//! Per column, without any tag, in key order:
//!
//! | type | bytes |
//! |---|---|
//! | BOOL | 1: 0 or 1 |
//! | INT2/4/8, DATE, TIME, TIMESTAMP, TIMESTAMPTZ | 2/4/8 big-endian, sign bit flipped |
//! | FLOAT4/8 | 4/8 big-endian; sign bit flipped if positive, all bits if negative; -0 as 0, one NaN, above all |
//! | NUMERIC | 16 big-endian: the unscaled integer at the column's scale, sign bit flipped |
//! | UUID | 16 |
//! | TEXT, VARCHAR, BYTEA | bytes with 00 written as 00 FF, ended by 00 01 |
//!
//! A hidden key is 16 bytes: the stamp and the position in the write set, both
//! big-endian. NULL has no encoding, because key columns are NOT NULL.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};

use crate::{text, DataError, DataType, Decimal, Decoder, TableSchema, Value};

/// An encoded key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub Box<[u8]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Why key bytes could not be made of values.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// A key column is NULL.
    #[error("null value in column \"{column}\" violates not-null constraint")]
    Null {
        /// The column.
        column: String,
    },
    /// A value does not have the column's type.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Encodes the key of one row; `values` are the key columns' values in key
/// order, already of the columns' types.
pub fn encode_key(schema: &TableSchema, values: &[Value]) -> Result<Key, KeyError> {
    let mut bytes = Vec::with_capacity(24);
    for (&column, value) in schema.primary_key.iter().zip(values) {
        let column = &schema.columns[column];
        if value.is_null() {
            return Err(KeyError::Null {
                column: column.name.clone(),
            });
        }
        put_value(&mut bytes, value, &column.data_type)?;
    }
    Ok(Key(bytes.into_boxed_slice()))
}

/// Appends the bytes that a whole number, a date or a time has in a key.
///
/// Errors: the type is none of these.
pub fn put_key_int(out: &mut Vec<u8>, v: i64, data_type: &DataType) -> Result<(), DataError> {
    match data_type {
        DataType::Int2 => out.extend_from_slice(&(v as i16 ^ i16::MIN).to_be_bytes()),
        DataType::Int4 | DataType::Date => put_i32(out, v as i32),
        DataType::Int8 | DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
            put_i64(out, v);
        }
        other => {
            return Err(DataError::Mismatch {
                from: "integer".into(),
                to: other.to_string(),
            })
        }
    }
    Ok(())
}

/// Appends the bytes that a text or a byte string has in a key.
pub fn put_key_bytes(out: &mut Vec<u8>, v: &[u8]) {
    put_bytes(out, v);
}

/// Appends the bytes that a value, which is not NULL, has in a key.
///
/// Errors: the value is not of the type.
pub fn put_key_value(
    out: &mut Vec<u8>,
    value: &Value,
    data_type: &DataType,
) -> Result<(), DataError> {
    put_value(out, value, data_type)
}

pub(crate) fn put_value(
    out: &mut Vec<u8>,
    value: &Value,
    data_type: &DataType,
) -> Result<(), DataError> {
    match (data_type, value) {
        (DataType::Bool, Value::Bool(v)) => out.push(u8::from(*v)),
        (DataType::Int2, Value::Int2(v)) => out.extend_from_slice(&(v ^ i16::MIN).to_be_bytes()),
        (DataType::Int4, Value::Int4(v)) | (DataType::Date, Value::Date(v)) => put_i32(out, *v),
        (DataType::Int8, Value::Int8(v))
        | (DataType::Time, Value::Time(v))
        | (DataType::Timestamp, Value::Timestamp(v))
        | (DataType::TimestampTz, Value::TimestampTz(v)) => put_i64(out, *v),
        (DataType::Float4, Value::Float4(v)) => put_f32(out, *v),
        (DataType::Float8, Value::Float8(v)) => put_f64(out, *v),
        (DataType::Numeric(p), Value::Numeric(d)) => {
            let (_, scale) = DataType::numeric_shape(*p);
            let scaled = d.rescale(scale).ok_or_else(|| DataError::OutOfRange {
                type_name: data_type.to_string(),
                text: text::format_decimal(*d),
            })?;
            put_i128(out, scaled.unscaled);
        }
        (DataType::Uuid, Value::Uuid(v)) => out.extend_from_slice(v),
        (DataType::Text | DataType::Varchar(_), Value::Text(v)) => put_bytes(out, v.as_bytes()),
        (DataType::Bytea, Value::Bytea(v)) => put_bytes(out, v),
        (_, v) => {
            return Err(DataError::Mismatch {
                from: v.type_name().to_owned(),
                to: data_type.to_string(),
            })
        }
    }
    Ok(())
}

fn put_i32(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&(v ^ i32::MIN).to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, v: i64) {
    out.extend_from_slice(&(v ^ i64::MIN).to_be_bytes());
}

fn put_i128(out: &mut Vec<u8>, v: i128) {
    out.extend_from_slice(&(v ^ i128::MIN).to_be_bytes());
}

fn put_f32(out: &mut Vec<u8>, v: f32) {
    let v = if v.is_nan() { f32::NAN } else { v + 0.0 };
    let bits = v.to_bits();
    let mask = if bits >> 31 == 1 { u32::MAX } else { 1 << 31 };
    out.extend_from_slice(&(bits ^ mask).to_be_bytes());
}

fn put_f64(out: &mut Vec<u8>, v: f64) {
    let v = if v.is_nan() { f64::NAN } else { v + 0.0 };
    let bits = v.to_bits();
    let mask = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    out.extend_from_slice(&(bits ^ mask).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, v: &[u8]) {
    let mut rest = v;
    while let Some(zero) = rest.iter().position(|b| *b == 0) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(0xff);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 1]);
}

/// The values of the key columns, in key order, read back from key bytes.
pub fn key_values(schema: &TableSchema, key: &[u8]) -> Result<Vec<Value>, DataError> {
    let mut d = Decoder::new("key", key);
    let values = schema
        .primary_key
        .iter()
        .map(|&c| take_value(&mut d, &schema.columns[c].data_type))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(values)
}

/// The whole numbers, dates and times in key bytes, in key order; `None` for values of other
/// types.
pub fn key_integers(schema: &TableSchema, key: &[u8]) -> Result<Vec<Option<i64>>, DataError> {
    let mut d = Decoder::new("key", key);
    let columns = schema.primary_key.iter();
    let types = columns.map(|c| &schema.columns[*c].data_type);
    types.map(|t| take_integer(&mut d, t)).collect()
}

fn take_integer(d: &mut Decoder<'_>, data_type: &DataType) -> Result<Option<i64>, DataError> {
    Ok(match data_type {
        DataType::Text | DataType::Varchar(_) | DataType::Bytea => {
            while !(d.u8()? == 0 && d.u8()? != 0xff) {}
            None
        }
        other => match take_value(d, other)? {
            Value::Int2(v) => Some(i64::from(v)),
            Value::Int4(v) | Value::Date(v) => Some(i64::from(v)),
            Value::Int8(v) | Value::Time(v) | Value::Timestamp(v) | Value::TimestampTz(v) => {
                Some(v)
            }
            _ => None,
        },
    })
}

pub(crate) fn take_value(d: &mut Decoder<'_>, data_type: &DataType) -> Result<Value, DataError> {
    let i64_of = |b: [u8; 8]| i64::from_be_bytes(b) ^ i64::MIN;
    let i32_of = |b: [u8; 4]| i32::from_be_bytes(b) ^ i32::MIN;
    Ok(match data_type {
        DataType::Bool => Value::Bool(d.u8()? != 0),
        DataType::Int2 => Value::Int2(i16::from_be_bytes(d.array()?) ^ i16::MIN),
        DataType::Int4 => Value::Int4(i32_of(d.array()?)),
        DataType::Date => Value::Date(i32_of(d.array()?)),
        DataType::Int8 => Value::Int8(i64_of(d.array()?)),
        DataType::Time => Value::Time(i64_of(d.array()?)),
        DataType::Timestamp => Value::Timestamp(i64_of(d.array()?)),
        DataType::TimestampTz => Value::TimestampTz(i64_of(d.array()?)),
        DataType::Float4 => {
            let bits = u32::from_be_bytes(d.array()?);
            let mask = if bits >> 31 == 1 { 1 << 31 } else { u32::MAX };
            Value::Float4(f32::from_bits(bits ^ mask))
        }
        DataType::Float8 => {
            let bits = u64::from_be_bytes(d.array()?);
            let mask = if bits >> 63 == 1 { 1 << 63 } else { u64::MAX };
            Value::Float8(f64::from_bits(bits ^ mask))
        }
        DataType::Numeric(p) => Value::Numeric(Decimal {
            unscaled: i128::from_be_bytes(d.array()?) ^ i128::MIN,
            scale: DataType::numeric_shape(*p).1,
        }),
        DataType::Uuid => Value::Uuid(d.array()?),
        DataType::Text | DataType::Varchar(_) => {
            let bytes = take_bytes(d)?;
            Value::Text(String::from_utf8(bytes).map_err(|_| d.damaged("text that is not UTF-8"))?)
        }
        DataType::Bytea => Value::Bytea(take_bytes(d)?),
        _ => return Err(d.damaged("a type that cannot be part of a key")),
    })
}

fn take_bytes(d: &mut Decoder<'_>) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    loop {
        match d.u8()? {
            0 => match d.u8()? {
                0xff => bytes.push(0),
                1 => return Ok(bytes),
                _ => return Err(d.damaged("an unknown escape")),
            },
            byte => bytes.push(byte),
        }
    }
}

/// The keys of many rows, one after the other in a single buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    bytes: Vec<u8>,
    /// `ends[i]` is where key `i` ends.
    ends: Vec<u32>,
}

impl Keys {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    /// Key `i`. Panics if there is none.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }
    /// Appends a key.
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
    }
    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity()
    }
    /// First position whose key is not less than `key`, in sorted keys.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Encodes the keys of all rows of a batch; `columns` are the key columns in
/// key order, of the schema's Arrow types.
///
/// Errors: a NULL in a key column.
pub fn encode_keys(schema: &TableSchema, columns: &[ArrayRef]) -> Result<Keys, KeyError> {
    let rows = columns.first().map_or(0, |c| c.len());
    let mut keys = Keys {
        bytes: Vec::with_capacity(rows * 24),
        ends: Vec::with_capacity(rows),
    };
    for (&column, array) in schema.primary_key.iter().zip(columns) {
        if array.null_count() > 0 {
            return Err(KeyError::Null {
                column: schema.columns[column].name.clone(),
            });
        }
    }
    let writers = schema
        .primary_key
        .iter()
        .zip(columns)
        .map(|(&c, array)| column_writer(&schema.columns[c].data_type, array))
        .collect::<Result<Vec<_>, _>>()?;
    let repeats = LeadingTexts::of(columns);
    let (leading, others) = writers.split_at(repeats.0.len());
    let (mut start, mut prefix) = (0, 0);
    for row in 0..rows {
        let before = std::mem::replace(&mut start, keys.bytes.len());
        if row > 0 && repeats.are_as_before(row) {
            keys.bytes.extend_from_within(before..before + prefix);
        } else {
            for write in leading {
                write(row, &mut keys.bytes)?;
            }
            prefix = keys.bytes.len() - start;
        }
        for write in others {
            write(row, &mut keys.bytes)?;
        }
        keys.ends.push(keys.bytes.len() as u32);
    }
    Ok(keys)
}

/// The texts that keys begin with. Those of a series are the same for many rows, whose keys
/// then begin with the same bytes.
struct LeadingTexts<'a>(Vec<&'a [u128]>);

impl LeadingTexts<'_> {
    fn of(columns: &[ArrayRef]) -> LeadingTexts<'_> {
        fn views(array: &ArrayRef) -> Option<&[u128]> {
            let texts = array.as_string_view_opt().map(|texts| &**texts.views());
            texts.or_else(|| Some(&**array.as_binary_view_opt()?.views()))
        }
        LeadingTexts(columns.iter().map_while(views).collect())
    }

    /// Whether the texts of a row are certainly those of the row before: a view holds a short
    /// text itself, and says where a long one is.
    fn are_as_before(&self, row: usize) -> bool {
        self.0.iter().all(|views| views[row] == views[row - 1])
    }
}

pub(crate) type ColumnWriter<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), DataError> + 'a>;

pub(crate) fn column_writer<'a>(
    data_type: &DataType,
    array: &'a ArrayRef,
) -> Result<ColumnWriter<'a>, KeyError> {
    macro_rules! primitive {
        ($arrow:ty, $put:expr) => {{
            let values = array.as_primitive::<$arrow>().values();
            Box::new(move |row: usize, out: &mut Vec<u8>| {
                $put(out, values[row]);
                Ok(())
            })
        }};
    }
    if array.data_type() != &data_type.to_arrow() {
        return Err(KeyError::Data(DataError::Mismatch {
            from: array.data_type().to_string(),
            to: data_type.to_string(),
        }));
    }
    Ok(match data_type {
        DataType::Bool => {
            let values = array.as_boolean();
            Box::new(move |row, out| {
                out.push(u8::from(values.value(row)));
                Ok(())
            })
        }
        DataType::Int2 => primitive!(Int16Type, |out: &mut Vec<u8>, v: i16| out
            .extend_from_slice(&(v ^ i16::MIN).to_be_bytes())),
        DataType::Int4 => primitive!(Int32Type, put_i32),
        DataType::Date => primitive!(Date32Type, put_i32),
        DataType::Int8 => primitive!(Int64Type, put_i64),
        DataType::Time => primitive!(Time64MicrosecondType, put_i64),
        DataType::Timestamp | DataType::TimestampTz => {
            primitive!(TimestampMicrosecondType, put_i64)
        }
        DataType::Float4 => primitive!(Float32Type, put_f32),
        DataType::Float8 => primitive!(Float64Type, put_f64),
        DataType::Numeric(_) => primitive!(Decimal128Type, put_i128),
        DataType::Uuid => {
            let values = array.as_string_view();
            Box::new(move |row, out| {
                out.extend_from_slice(&text::parse_uuid(values.value(row))?);
                Ok(())
            })
        }
        DataType::Text | DataType::Varchar(_) => {
            let values = array.as_string_view();
            Box::new(move |row, out| {
                put_bytes(out, values.value(row).as_bytes());
                Ok(())
            })
        }
        DataType::Bytea => {
            let values = array.as_binary_view();
            Box::new(move |row, out| {
                put_bytes(out, values.value(row));
                Ok(())
            })
        }
        _ => {
            return Err(KeyError::Data(DataError::Mismatch {
                from: data_type.to_string(),
                to: "a key column".into(),
            }))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{rows_to_batch, ColumnSchema, TableId, TableOptions};

    fn table(types: &[DataType]) -> TableSchema {
        let column = |(i, data_type): (usize, &DataType)| ColumnSchema {
            name: format!("c{i}"),
            data_type: data_type.clone(),
            nullable: false,
            default: None,
            attributes: Default::default(),
        };
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: types.iter().enumerate().map(column).collect(),
            shape: Default::default(),
            rules: Default::default(),
            primary_key: (0..types.len()).collect(),
            options: TableOptions::default(),
        }
    }

    fn text() -> impl Strategy<Value = String> {
        // Short ones, long ones that differ late, zero bytes; each likely again.
        prop_oneof!["a{0,2}", "[ab]\u{0}?", "a text longer than twelve [ab]"]
    }

    proptest! {
        /// Rows one by one and rows as columns have the same keys, whatever repeats.
        #[test]
        fn keys_of_columns_are_those_of_rows(
            rows in prop::collection::vec((text(), text(), 0i64..3, text()), 1..60),
        ) {
            let texts = [DataType::Text, DataType::Bytea, DataType::Int8, DataType::Text];
            let table = table(&texts);
            let rows: Vec<Vec<Value>> = rows
                .into_iter()
                .map(|(a, b, n, c)| {
                    vec![Value::Text(a), Value::Bytea(b.into_bytes()), Value::Int8(n), Value::Text(c)]
                })
                .collect();
            let batch = rows_to_batch(&table, &rows).unwrap();
            let keys = encode_keys(&table, batch.columns()).unwrap();
            prop_assert_eq!(keys.len(), rows.len());
            for (i, row) in rows.iter().enumerate() {
                prop_assert_eq!(keys.get(i), &*encode_key(&table, row).unwrap().0);
                let number = match &row[2] {
                    Value::Int8(number) => *number,
                    other => panic!("{other:?}"),
                };
                let integers = key_integers(&table, keys.get(i)).unwrap();
                prop_assert_eq!(integers, [None, None, Some(number), None]);
            }
        }
    }
}
