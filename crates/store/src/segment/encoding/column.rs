//! Column blocks: validity and values of one page's column, by SQL type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type, UInt64Type, UInt8Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer};
use arrow_schema::DataType as Arrow;
use chronos_model::{DataType, Decoder};

use super::bytes::{ViewKind, Views};
use super::{bytes, floats, ints, put_nested, BlockError, Effort, PcoGate};

pub(super) const NO_NULLS: u8 = 0;
pub(super) const ONLY_NULLS: u8 = 1;
pub(super) const BITMAP: u8 = 2;

pub(super) const NARROW: u8 = 0;
pub(super) const WIDE: u8 = 1;

/// Items all arrays (or vectors) of a page's column may have together.
const ITEMS_MAX: usize = 1 << 24;

/// Appends the block of a column of `data_type`.
///
/// Errors: the array is of another type, or has more content than a page may have.
pub(in crate::segment) fn encode_column(
    array: &dyn Array,
    data_type: &DataType,
    effort: Effort,
    gate: &mut PcoGate,
    out: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let rows = array.len();
    let nulls = array.logical_nulls().filter(|n| n.null_count() > 0);
    match &nulls {
        Some(nulls) if nulls.null_count() == rows => {
            out.push(ONLY_NULLS);
            return Ok(());
        }
        Some(nulls) => {
            out.push(BITMAP);
            let start = out.len();
            out.resize(start + rows.div_ceil(8), 0);
            for row in nulls.valid_indices() {
                out[start + row / 8] |= 1 << (row % 8);
            }
        }
        None => out.push(NO_NULLS),
    }
    let nulls = nulls.as_ref();
    match data_type {
        DataType::Bool => encode_bools(array.as_boolean(), nulls, out),
        DataType::Int2 => put_ints(filled::<Int16Type>(array, nulls), effort, gate, out),
        DataType::Int4 => put_ints(filled::<Int32Type>(array, nulls), effort, gate, out),
        DataType::Int8 => put_ints(filled::<Int64Type>(array, nulls), effort, gate, out),
        DataType::Date => put_ints(filled::<Date32Type>(array, nulls), effort, gate, out),
        DataType::Time => {
            let values = filled::<Time64MicrosecondType>(array, nulls);
            put_ints(values, effort, gate, out);
        }
        DataType::Timestamp | DataType::TimestampTz => {
            let values = filled::<TimestampMicrosecondType>(array, nulls);
            put_ints(values, effort, gate, out);
        }
        DataType::Float4 => {
            let values = filled::<Float32Type>(array, nulls);
            floats::encode(&values, effort, Some(gate), out);
        }
        DataType::Float8 => {
            let values = filled::<Float64Type>(array, nulls);
            floats::encode(&values, effort, Some(gate), out);
        }
        DataType::Numeric(_) => {
            encode_decimals(&filled::<Decimal128Type>(array, nulls), effort, gate, out);
        }
        DataType::Text
        | DataType::Varchar(_)
        | DataType::Uuid
        | DataType::Json
        | DataType::Jsonb => {
            let array = array.as_string_view();
            let values = filled_bytes(rows, nulls, |row| array.value(row).as_bytes());
            encode_bytes(&values, effort, out)?;
        }
        DataType::Bytea => {
            let array = array.as_binary_view();
            let values = filled_bytes(rows, nulls, |row| array.value(row));
            encode_bytes(&values, effort, out)?;
        }
        DataType::Interval => {
            let values = filled::<IntervalMonthDayNanoType>(array, nulls);
            encode_intervals(&values, effort, out);
        }
        DataType::Array(item) => encode_lists(array.as_list(), item, nulls, effort, gate, out)?,
        DataType::Vector(_) => {
            let list = array.as_fixed_size_list();
            let width = list.value_length() as usize;
            // A slice of a list array keeps all items of the array it was cut from.
            let items = list.values().as_primitive::<Float32Type>().values();
            let start = list.value_offset(0) as usize;
            check_items(rows * width)?;
            // Neighbouring items of a vector are no series: Chimp128 would not fit.
            let effort = match effort {
                Effort::Chimp => Effort::Smallest,
                other => other,
            };
            floats::encode(&items[start..start + rows * width], effort, Some(gate), out);
        }
    }
    Ok(())
}

/// The values with the one before it under each NULL.
fn filled<T: ArrowPrimitiveType>(array: &dyn Array, nulls: Option<&NullBuffer>) -> Vec<T::Native> {
    let values = array.as_primitive::<T>().values();
    let Some(nulls) = nulls else {
        return values.to_vec();
    };
    let first = nulls.valid_indices().next().unwrap_or(0);
    let mut last = values[first];
    values
        .iter()
        .enumerate()
        .map(|(row, value)| {
            if nulls.is_valid(row) {
                last = *value;
            }
            last
        })
        .collect()
}

fn filled_bytes<'a>(
    rows: usize,
    nulls: Option<&NullBuffer>,
    value: impl Fn(usize) -> &'a [u8],
) -> Vec<&'a [u8]> {
    let Some(nulls) = nulls else {
        return (0..rows).map(value).collect();
    };
    let mut last = nulls.valid_indices().next().map_or(&[] as &[u8], &value);
    (0..rows)
        .map(|row| {
            if nulls.is_valid(row) {
                last = value(row);
            }
            last
        })
        .collect()
}

fn put_ints<T: ints::Lane>(values: Vec<T>, effort: Effort, gate: &mut PcoGate, out: &mut Vec<u8>) {
    let words: Vec<u64> = values.into_iter().map(T::widen).collect();
    ints::encode(&words, effort, Some(gate), out);
}

fn put_nested_ints(words: &[u64], effort: Effort, out: &mut Vec<u8>) {
    put_nested(out, |out| ints::encode(words, effort, None, out));
}

fn encode_bools(array: &BooleanArray, nulls: Option<&NullBuffer>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + array.len().div_ceil(8), 0);
    for row in array.values().set_indices() {
        if nulls.is_none_or(|n| n.is_valid(row)) {
            out[start + row / 8] |= 1 << (row % 8);
        }
    }
}

fn encode_decimals(values: &[i128], effort: Effort, gate: &mut PcoGate, out: &mut Vec<u8>) {
    if values.iter().all(|v| i64::try_from(*v).is_ok()) {
        out.push(NARROW);
        let words: Vec<u64> = values.iter().map(|v| *v as u64).collect();
        ints::encode(&words, effort, Some(gate), out);
        return;
    }
    out.push(WIDE);
    let high: Vec<u64> = values.iter().map(|v| (*v >> 64) as u64).collect();
    let low: Vec<u64> = values.iter().map(|v| *v as u64).collect();
    put_nested_ints(&high, effort, out);
    ints::encode(&low, effort, None, out);
}

fn encode_bytes(values: &[&[u8]], effort: Effort, out: &mut Vec<u8>) -> Result<(), BlockError> {
    let total: usize = values.iter().map(|v| v.len()).sum();
    if total > bytes::PAGE_BYTES_MAX {
        return Err(BlockError::new(format!(
            "{total} bytes in one page of a column, at most {} can be stored",
            bytes::PAGE_BYTES_MAX
        )));
    }
    bytes::encode(values, effort, out);
    Ok(())
}

fn encode_intervals(values: &[IntervalMonthDayNano], effort: Effort, out: &mut Vec<u8>) {
    let part = |f: fn(&IntervalMonthDayNano) -> u64| values.iter().map(f).collect::<Vec<u64>>();
    put_nested_ints(&part(|v| i64::from(v.months) as u64), effort, out);
    put_nested_ints(&part(|v| i64::from(v.days) as u64), effort, out);
    ints::encode(&part(|v| v.nanoseconds as u64), effort, None, out);
}

fn encode_lists(
    list: &ListArray,
    item: &DataType,
    nulls: Option<&NullBuffer>,
    effort: Effort,
    gate: &mut PcoGate,
    out: &mut Vec<u8>,
) -> Result<(), BlockError> {
    let offsets = list.value_offsets();
    let is_valid = |row: usize| nulls.is_none_or(|n| n.is_valid(row));
    let lengths: Vec<u64> = (0..list.len())
        .map(|row| match is_valid(row) {
            true => (offsets[row + 1] - offsets[row]) as u64,
            false => 0,
        })
        .collect();
    put_nested_ints(&lengths, effort, out);
    let total: u64 = lengths.iter().sum();
    check_items(total as usize)?;
    let (start, end) = (offsets[0] as usize, offsets[list.len()] as usize);
    let items = if end - start == total as usize {
        list.values().slice(start, end - start)
    } else {
        // Items under NULL lists: an Arrow array may have some.
        let kept: Vec<u32> = (0..list.len())
            .filter(|row| is_valid(*row))
            .flat_map(|row| offsets[row] as u32..offsets[row + 1] as u32)
            .collect();
        arrow_select::take::take(list.values(), &arrow_array::UInt32Array::from(kept), None)?
    };
    encode_column(&items, item, effort, gate, out)
}

fn check_items(items: usize) -> Result<(), BlockError> {
    if items > ITEMS_MAX {
        return Err(BlockError::new(format!(
            "{items} array items in one page of a column, at most {ITEMS_MAX} can be stored"
        )));
    }
    Ok(())
}

/// Decodes blocks of one column, page after page, into one array.
#[derive(Debug)]
pub(in crate::segment) struct ColumnDecoder {
    arrow: Arrow,
    values: Values,
    rows: usize,
    /// Only there once a block had NULLs.
    validity: Option<BooleanBufferBuilder>,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Byte(Vec<u8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    UInt32(Vec<u32>),
    Int64(Vec<i64>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Views(ViewKind, Views),
    Interval(Vec<IntervalMonthDayNano>),
    List(Vec<i32>, Box<ColumnDecoder>),
    Vector(usize, Vec<f32>),
}

impl ColumnDecoder {
    /// A decoder for columns of a SQL type, with room for `rows`.
    pub(in crate::segment) fn new(data_type: &DataType, rows: usize) -> ColumnDecoder {
        let values = match data_type {
            DataType::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            DataType::Int2 => Values::Int16(Vec::with_capacity(rows)),
            DataType::Int4 | DataType::Date => Values::Int32(Vec::with_capacity(rows)),
            DataType::Int8 | DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
                Values::Int64(Vec::with_capacity(rows))
            }
            DataType::Float4 => Values::Float32(Vec::with_capacity(rows)),
            DataType::Float8 => Values::Float64(Vec::with_capacity(rows)),
            DataType::Numeric(_) => Values::Decimal(Vec::with_capacity(rows)),
            DataType::Text
            | DataType::Varchar(_)
            | DataType::Uuid
            | DataType::Json
            | DataType::Jsonb => Values::Views(ViewKind::Text, Views::new(rows)),
            DataType::Bytea => Values::Views(ViewKind::Bytes, Views::new(rows)),
            DataType::Interval => Values::Interval(Vec::with_capacity(rows)),
            DataType::Array(item) => {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                Values::List(offsets, Box::new(ColumnDecoder::new(item, rows)))
            }
            DataType::Vector(n) => {
                let width = *n as usize;
                Values::Vector(width, Vec::with_capacity(rows * width))
            }
        };
        ColumnDecoder {
            arrow: data_type.to_arrow(),
            values,
            rows: 0,
            validity: None,
        }
    }

    /// A decoder for one of the columns that every version has: `UInt8`, `UInt32`,
    /// `UInt64` or `Int64`.
    pub(in crate::segment) fn of_words(arrow: Arrow, rows: usize) -> ColumnDecoder {
        let values = match arrow {
            Arrow::UInt8 => Values::Byte(Vec::with_capacity(rows)),
            Arrow::UInt32 => Values::UInt32(Vec::with_capacity(rows)),
            Arrow::UInt64 => Values::UInt64(Vec::with_capacity(rows)),
            _ => Values::Int64(Vec::with_capacity(rows)),
        };
        ColumnDecoder {
            arrow,
            values,
            rows: 0,
            validity: None,
        }
    }

    /// Decodes a block written by [`encode_column`] for `rows` rows.
    pub(in crate::segment) fn push(&mut self, block: &[u8], rows: usize) -> Result<(), BlockError> {
        let mut d = Decoder::new("column block", block);
        match d.u8()? {
            NO_NULLS => {
                if let Some(validity) = &mut self.validity {
                    validity.append_n(rows, true);
                }
            }
            ONLY_NULLS => {
                if !d.is_empty() {
                    return Err(BlockError::new("bytes follow a block of NULLs"));
                }
                return self.push_nulls(rows);
            }
            BITMAP => {
                let bitmap = d.take(rows.div_ceil(8))?;
                self.validity().append_packed_range(0..rows, bitmap);
            }
            other => return Err(BlockError::new(format!("unknown validity {other}"))),
        }
        self.push_values(&block[d.offset()..], rows)?;
        self.rows += rows;
        Ok(())
    }

    /// Decodes integers without validity, as [`super::encode_words`] wrote them.
    pub(in crate::segment) fn push_words(
        &mut self,
        block: &[u8],
        rows: usize,
    ) -> Result<(), BlockError> {
        self.push_values(block, rows)?;
        self.rows += rows;
        Ok(())
    }

    /// Appends integers that are already decoded.
    pub(in crate::segment) fn push_decoded(&mut self, words: impl ExactSizeIterator<Item = u64>) {
        self.rows += words.len();
        match &mut self.values {
            Values::UInt64(v) => v.extend(words),
            Values::Int64(v) => v.extend(words.map(|w| w as i64)),
            _ => unreachable!("only stamps and valid times are derived"),
        }
    }

    /// Appends `rows` NULLs.
    pub(in crate::segment) fn push_nulls(&mut self, rows: usize) -> Result<(), BlockError> {
        self.validity().append_n(rows, false);
        self.rows += rows;
        match &mut self.values {
            Values::Bool(b) => b.append_n(rows, false),
            Values::Byte(v) => v.resize(v.len() + rows, 0),
            Values::Int16(v) => v.resize(v.len() + rows, 0),
            Values::Int32(v) => v.resize(v.len() + rows, 0),
            Values::UInt32(v) => v.resize(v.len() + rows, 0),
            Values::Int64(v) => v.resize(v.len() + rows, 0),
            Values::UInt64(v) => v.resize(v.len() + rows, 0),
            Values::Float32(v) => v.resize(v.len() + rows, 0.0),
            Values::Float64(v) => v.resize(v.len() + rows, 0.0),
            Values::Decimal(v) => v.resize(v.len() + rows, 0),
            Values::Views(_, v) => v.push_empty(rows),
            Values::Interval(v) => v.resize(v.len() + rows, IntervalMonthDayNano::ZERO),
            Values::List(offsets, _) => {
                let end = offsets[offsets.len() - 1];
                offsets.resize(offsets.len() + rows, end);
            }
            Values::Vector(width, v) => {
                let items = rows * *width;
                v.resize(v.len() + items, 0.0);
            }
        }
        Ok(())
    }

    fn validity(&mut self) -> &mut BooleanBufferBuilder {
        let rows = self.rows;
        self.validity.get_or_insert_with(|| {
            let mut validity = BooleanBufferBuilder::new(rows);
            validity.append_n(rows, true);
            validity
        })
    }

    fn push_values(&mut self, block: &[u8], rows: usize) -> Result<(), BlockError> {
        match &mut self.values {
            Values::Bool(b) => {
                if block.len() != rows.div_ceil(8) {
                    return Err(BlockError::new("a bitmap that does not fit the rows"));
                }
                b.append_packed_range(0..rows, block);
                Ok(())
            }
            Values::Byte(v) => ints::decode(block, grown(v, rows)),
            Values::Int16(v) => ints::decode(block, grown(v, rows)),
            Values::Int32(v) => ints::decode(block, grown(v, rows)),
            Values::UInt32(v) => ints::decode(block, grown(v, rows)),
            Values::Int64(v) => ints::decode(block, grown(v, rows)),
            Values::UInt64(v) => ints::decode(block, grown(v, rows)),
            Values::Float32(v) => floats::decode(block, grown(v, rows)),
            Values::Float64(v) => floats::decode(block, grown(v, rows)),
            Values::Decimal(v) => decode_decimals(block, grown(v, rows)),
            Values::Views(_, views) => views.push_block(block, rows),
            Values::Interval(v) => decode_intervals(block, grown(v, rows)),
            Values::List(offsets, items) => decode_lists(block, rows, offsets, items),
            Values::Vector(width, v) => {
                let items = rows
                    .checked_mul(*width)
                    .filter(|items| *items <= ITEMS_MAX)
                    .ok_or_else(|| BlockError::new("more vector items than a page may have"))?;
                floats::decode(block, grown(v, items))
            }
        }
    }

    /// The array of everything decoded.
    pub(in crate::segment) fn finish(self) -> Result<ArrayRef, BlockError> {
        let arrow = self.arrow;
        let nulls = self
            .validity
            .map(|mut v| NullBuffer::new(v.finish()))
            .filter(|n| n.null_count() > 0);
        Ok(match self.values {
            Values::Bool(mut b) => Arc::new(BooleanArray::new(b.finish(), nulls)),
            Values::Byte(v) => primitive::<UInt8Type>(v, nulls, arrow),
            Values::Int16(v) => primitive::<Int16Type>(v, nulls, arrow),
            Values::Int32(v) => match arrow {
                Arrow::Date32 => primitive::<Date32Type>(v, nulls, arrow),
                _ => primitive::<Int32Type>(v, nulls, arrow),
            },
            Values::UInt32(v) => primitive::<UInt32Type>(v, nulls, arrow),
            Values::Int64(v) => match arrow {
                Arrow::Time64(_) => primitive::<Time64MicrosecondType>(v, nulls, arrow),
                Arrow::Timestamp(..) => primitive::<TimestampMicrosecondType>(v, nulls, arrow),
                _ => primitive::<Int64Type>(v, nulls, arrow),
            },
            Values::UInt64(v) => primitive::<UInt64Type>(v, nulls, arrow),
            Values::Float32(v) => primitive::<Float32Type>(v, nulls, arrow),
            Values::Float64(v) => primitive::<Float64Type>(v, nulls, arrow),
            Values::Decimal(v) => primitive::<Decimal128Type>(v, nulls, arrow),
            Values::Views(kind, views) => views.finish(kind, nulls)?,
            Values::Interval(v) => primitive::<IntervalMonthDayNanoType>(v, nulls, arrow),
            Values::List(offsets, items) => {
                let Arrow::List(field) = arrow else {
                    unreachable!("made for a list");
                };
                let offsets = OffsetBuffer::new(offsets.into());
                let items = items.finish()?;
                Arc::new(ListArray::try_new(field, offsets, items, nulls)?)
            }
            Values::Vector(_, v) => {
                let Arrow::FixedSizeList(field, width) = arrow else {
                    unreachable!("made for a vector");
                };
                let items = primitive::<Float32Type>(v, None, Arrow::Float32);
                Arc::new(FixedSizeListArray::try_new(field, width, items, nulls)?)
            }
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    arrow: Arrow,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(arrow))
}

fn grown<T: Copy + Default>(values: &mut Vec<T>, rows: usize) -> &mut [T] {
    let start = values.len();
    values.resize(start + rows, T::default());
    &mut values[start..]
}

fn decode_decimals(block: &[u8], out: &mut [i128]) -> Result<(), BlockError> {
    let mut d = Decoder::new("decimals", block);
    let mut low = vec![0u64; out.len()];
    match d.u8()? {
        NARROW => {
            ints::decode(&block[1..], &mut low)?;
            for (o, v) in out.iter_mut().zip(&low) {
                *o = i128::from(*v as i64);
            }
        }
        WIDE => {
            let mut high = vec![0i64; out.len()];
            ints::decode(d.bytes()?, &mut high)?;
            ints::decode(&block[d.offset()..], &mut low)?;
            for ((o, h), l) in out.iter_mut().zip(&high).zip(&low) {
                *o = i128::from(*h) << 64 | i128::from(*l);
            }
        }
        other => return Err(BlockError::new(format!("unknown decimal encoding {other}"))),
    }
    Ok(())
}

fn decode_intervals(block: &[u8], out: &mut [IntervalMonthDayNano]) -> Result<(), BlockError> {
    let mut d = Decoder::new("intervals", block);
    let mut months = vec![0i32; out.len()];
    let mut days = vec![0i32; out.len()];
    let mut nanos = vec![0i64; out.len()];
    ints::decode(d.bytes()?, &mut months)?;
    ints::decode(d.bytes()?, &mut days)?;
    ints::decode(&block[d.offset()..], &mut nanos)?;
    for (row, o) in out.iter_mut().enumerate() {
        *o = IntervalMonthDayNano::new(months[row], days[row], nanos[row]);
    }
    Ok(())
}

fn decode_lists(
    block: &[u8],
    rows: usize,
    offsets: &mut Vec<i32>,
    items: &mut ColumnDecoder,
) -> Result<(), BlockError> {
    let mut d = Decoder::new("arrays", block);
    let mut lengths = vec![0u32; rows];
    ints::decode(d.bytes()?, &mut lengths)?;
    let total: u64 = lengths.iter().map(|l| u64::from(*l)).sum();
    let end = offsets[offsets.len() - 1] as u64 + total;
    if total > ITEMS_MAX as u64 || end > i32::MAX as u64 {
        return Err(BlockError::new("more array items than a page may have"));
    }
    let mut offset = offsets[offsets.len() - 1];
    for length in &lengths {
        offset += *length as i32;
        offsets.push(offset);
    }
    items.push(&block[d.offset()..], total as usize)
}
