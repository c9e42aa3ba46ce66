//! Single values out of an encoded block, without decoding the others.
//!
//! A point read wants one row of a page. Most encodings say where a value is: the bits of a
//! packed integer, the bytes behind a constant length, the code of a dictionary's entry. So a
//! block is looked through once ([`ColumnAt::parse`]: lengths, exceptions, sums) and then kept as
//! it is in the file, which takes a fraction of the memory of a decoded column. What has no
//! such places (pco, Chimp128, lz4) is decoded whole and kept decoded.
//!
//! Gives the same values as [`ColumnDecoder`], and the same refusals: bytes are damage, never a panic.

mod floats;
mod ints;
mod packed;
mod strings;

use arrow_array::ArrayRef;
use bytes::Bytes;
use chronos_model::{
    put_key_bytes, put_key_int, put_key_value, value_at, DataType, Decimal, Decoder, Interval,
    Value,
};

use self::floats::FloatsAt;
use self::ints::{nested, IntsAt};
use self::strings::StringsAt;
use super::column::{BITMAP, NARROW, NO_NULLS, ONLY_NULLS, WIDE};
use super::{BlockError, ColumnDecoder};

/// A column's block, of which single values are asked.
#[derive(Debug)]
pub(in crate::segment) struct ColumnAt {
    data_type: DataType,
    rows: usize,
    validity: Validity,
    values: Values,
}

#[derive(Debug)]
enum Validity {
    AllValid,
    AllNull,
    /// Bit set: not NULL.
    Bitmap(Bytes),
}

#[derive(Debug)]
enum Values {
    None,
    Bools(Bytes),
    Ints(IntsAt),
    Floats(FloatsAt<f32>),
    Doubles(FloatsAt<f64>),
    /// High words, if the numbers need them, and low words.
    Decimals(Option<IntsAt>, IntsAt),
    Strings(StringsAt),
    /// Months, days, nanoseconds.
    Intervals(Box<[IntsAt; 3]>),
    /// Arrays and vectors.
    Decoded(ArrayRef),
}

impl ColumnAt {
    /// Of a block written for `rows` rows of a column.
    pub(in crate::segment) fn parse(
        block: Bytes,
        data_type: &DataType,
        rows: usize,
    ) -> Result<ColumnAt, BlockError> {
        let column = |validity, values| ColumnAt {
            data_type: data_type.clone(),
            rows,
            validity,
            values,
        };
        let mut d = Decoder::new("column block", &block);
        let validity = match d.u8()? {
            NO_NULLS => Validity::AllValid,
            ONLY_NULLS if block.len() == 1 => return Ok(column(Validity::AllNull, Values::None)),
            ONLY_NULLS => return Err(BlockError::new("bytes follow a block of NULLs")),
            BITMAP => {
                let bytes = d.take(rows.div_ceil(8))?.len();
                Validity::Bitmap(block.slice(1..1 + bytes))
            }
            other => return Err(BlockError::new(format!("unknown validity {other}"))),
        };
        let values = values_of(&block, d.offset(), data_type, rows)?;
        Ok(column(validity, values))
    }

    fn is_null(&self, row: usize) -> bool {
        match &self.validity {
            Validity::AllValid => false,
            Validity::AllNull => true,
            Validity::Bitmap(bits) => bits[row / 8] & 1 << (row % 8) == 0,
        }
    }

    /// Whether the encoding says that all rows have the same value, and none is NULL.
    pub(in crate::segment) fn is_constant(&self) -> bool {
        matches!(self.validity, Validity::AllValid)
            && match &self.values {
                Values::Ints(ints) => ints.constant().is_some(),
                Values::Strings(strings) => strings.is_constant(),
                _ => false,
            }
    }

    /// The value of a row. Panics if there is no such row.
    ///
    /// Errors: the bytes are none of the type.
    pub(in crate::segment) fn value(&self, row: usize) -> Result<Value, BlockError> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if self.is_null(row) {
            return Ok(Value::Null);
        }
        Ok(match &self.values {
            Values::None => Value::Null,
            Values::Bools(bits) => Value::Bool(bits[row / 8] & 1 << (row % 8) != 0),
            Values::Ints(ints) => int_value(&self.data_type, ints.get(row)?)?,
            Values::Floats(floats) => Value::Float4(floats.get(row)?),
            Values::Doubles(floats) => Value::Float8(floats.get(row)?),
            Values::Decimals(high, low) => Value::Numeric(self.decimal(high.as_ref(), low, row)?),
            Values::Strings(strings) => self.string_value(strings, row)?,
            Values::Intervals(parts) => {
                let [months, days, nanos] = &**parts;
                Value::Interval(Interval {
                    months: months.get(row)? as i32,
                    days: days.get(row)? as i32,
                    nanos: nanos.get(row)? as i64,
                })
            }
            Values::Decoded(array) => value_at(array, row, &self.data_type)?,
        })
    }

    /// Appends the bytes that the value of a row has in a key. Panics if there is no such row.
    ///
    /// Errors: it is NULL, or the bytes are none of the type.
    pub(in crate::segment) fn put_key(
        &self,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BlockError> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if self.is_null(row) {
            return Err(BlockError::new("a key with a NULL"));
        }
        match (&self.values, &self.data_type) {
            (Values::Ints(ints), data_type) => {
                Ok(put_key_int(out, ints.get(row)? as i64, data_type)?)
            }
            (Values::Strings(strings), DataType::Uuid) => match strings.uuid(row) {
                Some(uuid) => {
                    out.extend_from_slice(&uuid);
                    Ok(())
                }
                None => Ok(put_key_value(out, &self.value(row)?, &self.data_type)?),
            },
            (Values::Strings(strings), _) => strings.with(row, |bytes| put_key_bytes(out, bytes)),
            _ => Ok(put_key_value(out, &self.value(row)?, &self.data_type)?),
        }
    }

    /// Gives the bytes of a row's text or byte string, those of a NULL empty, to `use_bytes`.
    pub(in crate::segment) fn with_bytes<R>(
        &self,
        row: usize,
        use_bytes: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, BlockError> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        match &self.values {
            Values::Strings(strings) if !self.is_null(row) => strings.with(row, use_bytes),
            _ => Ok(use_bytes(&[])),
        }
    }

    fn decimal(
        &self,
        high: Option<&IntsAt>,
        low: &IntsAt,
        row: usize,
    ) -> Result<Decimal, BlockError> {
        let low = low.get(row)?;
        let unscaled = match high {
            None => i128::from(low as i64),
            Some(high) => i128::from(high.get(row)? as i64) << 64 | i128::from(low),
        };
        let scale = match &self.data_type {
            DataType::Numeric(shape) => DataType::numeric_shape(*shape).1,
            _ => 0,
        };
        Ok(Decimal { unscaled, scale })
    }

    fn string_value(&self, strings: &StringsAt, row: usize) -> Result<Value, BlockError> {
        if let (DataType::Uuid, Some(uuid)) = (&self.data_type, strings.uuid(row)) {
            return Ok(Value::Uuid(uuid));
        }
        strings.with(row, |bytes| {
            if self.data_type == DataType::Bytea {
                return Ok(Value::Bytea(bytes.to_vec()));
            }
            let text = std::str::from_utf8(bytes)
                .map_err(|_| BlockError::new("text that is not UTF-8"))?
                .to_owned();
            Ok(match &self.data_type {
                DataType::Json => Value::Json(text),
                DataType::Jsonb => Value::Jsonb(text),
                DataType::Uuid => Value::Uuid(chronos_model::text::parse_uuid(&text)?),
                _ => Value::Text(text),
            })
        })?
    }

    /// Bytes of memory in use, about.
    pub(in crate::segment) fn memory_bytes(&self) -> usize {
        let validity = match &self.validity {
            Validity::Bitmap(bits) => bits.len(),
            _ => 0,
        };
        let values = match &self.values {
            Values::None => 0,
            Values::Bools(bits) => bits.len(),
            Values::Ints(ints) => ints.memory_bytes(),
            Values::Floats(floats) => floats.memory_bytes(),
            Values::Doubles(floats) => floats.memory_bytes(),
            Values::Decimals(high, low) => {
                high.as_ref().map_or(0, IntsAt::memory_bytes) + low.memory_bytes()
            }
            Values::Strings(strings) => strings.memory_bytes(),
            Values::Intervals(parts) => {
                size_of_val(&**parts) + parts.iter().map(IntsAt::memory_bytes).sum::<usize>()
            }
            Values::Decoded(array) => arrow_array::Array::get_array_memory_size(array),
        };
        size_of::<ColumnAt>() + validity + values
    }
}

fn values_of(
    block: &Bytes,
    start: usize,
    data_type: &DataType,
    rows: usize,
) -> Result<Values, BlockError> {
    let values = block.slice(start..);
    Ok(match data_type {
        DataType::Bool if values.len() == rows.div_ceil(8) => Values::Bools(values),
        DataType::Bool => return Err(BlockError::new("a bitmap that does not fit the rows")),
        DataType::Int2
        | DataType::Int4
        | DataType::Int8
        | DataType::Date
        | DataType::Time
        | DataType::Timestamp
        | DataType::TimestampTz => Values::Ints(IntsAt::parse(values, rows)?),
        DataType::Float4 => Values::Floats(FloatsAt::parse(values, rows)?),
        DataType::Float8 => Values::Doubles(FloatsAt::parse(values, rows)?),
        DataType::Numeric(_) => decimals(&values, rows)?,
        DataType::Text
        | DataType::Varchar(_)
        | DataType::Uuid
        | DataType::Json
        | DataType::Jsonb
        | DataType::Bytea => Values::Strings(StringsAt::parse(values, rows)?),
        DataType::Interval => {
            let mut d = Decoder::new("intervals", &values);
            let months = IntsAt::parse(nested(&values, &mut d)?, rows)?;
            let days = IntsAt::parse(nested(&values, &mut d)?, rows)?;
            let nanos = IntsAt::parse(values.slice(d.offset()..), rows)?;
            Values::Intervals(Box::new([months, days, nanos]))
        }
        DataType::Array(_) | DataType::Vector(_) => {
            let mut decoder = ColumnDecoder::new(data_type, rows);
            decoder.push(block, rows)?;
            Values::Decoded(decoder.finish()?)
        }
    })
}

fn decimals(values: &Bytes, rows: usize) -> Result<Values, BlockError> {
    let mut d = Decoder::new("decimals", values);
    match d.u8()? {
        NARROW => {
            let low = IntsAt::parse(values.slice(1..), rows)?;
            Ok(Values::Decimals(None, low))
        }
        WIDE => {
            let high = IntsAt::parse(nested(values, &mut d)?, rows)?;
            let low = IntsAt::parse(values.slice(d.offset()..), rows)?;
            Ok(Values::Decimals(Some(high), low))
        }
        other => Err(BlockError::new(format!("unknown decimal encoding {other}"))),
    }
}

fn int_value(data_type: &DataType, word: u64) -> Result<Value, BlockError> {
    Ok(match data_type {
        DataType::Int2 => Value::Int2(word as i16),
        DataType::Int4 => Value::Int4(word as i32),
        DataType::Int8 => Value::Int8(word as i64),
        DataType::Date => Value::Date(word as i32),
        DataType::Time => Value::Time(word as i64),
        DataType::Timestamp => Value::Timestamp(word as i64),
        DataType::TimestampTz => Value::TimestampTz(word as i64),
        other => return Err(BlockError::new(format!("integers of type {other}"))),
    })
}

/// Integers that every version has, of which single ones are asked.
#[derive(Debug)]
pub(in crate::segment) struct WordsAt(IntsAt, usize);

impl WordsAt {
    /// Of a block that [`encode_words`](super::encode_words) wrote for `rows` rows.
    pub(in crate::segment) fn parse(block: Bytes, rows: usize) -> Result<WordsAt, BlockError> {
        Ok(WordsAt(IntsAt::parse(block, rows)?, rows))
    }

    /// The word of a row. Panics if there is no such row.
    pub(in crate::segment) fn get(&self, row: usize) -> Result<u64, BlockError> {
        assert!(row < self.1, "row {row} of {}", self.1);
        self.0.get(row)
    }

    /// Bytes of memory in use, about.
    pub(in crate::segment) fn memory_bytes(&self) -> usize {
        size_of::<WordsAt>() + self.0.memory_bytes()
    }
}
