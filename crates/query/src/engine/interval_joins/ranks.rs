//! Bounds of periods as numbers, in whose order they are.
//!
//! Several values may become one number, as texts with the same beginning do. So what is found
//! by numbers may be too much, never too little; [`is_exact`] tells of which types it is just right.

use arrow_array::cast::AsArray;
use arrow_array::types as arrow;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};

/// Lower than all.
pub(super) const LOWEST: i64 = i64::MIN;
/// Higher than all.
pub(super) const HIGHEST: i64 = i64::MAX;

/// Whether numbers of a type compare as its values do, and none is [`LOWEST`] or [`HIGHEST`].
pub(super) fn is_exact(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..)
    )
}

/// Whether [`of`] has numbers for a type.
pub(super) fn are_there(data_type: &DataType) -> bool {
    is_exact(data_type)
        || matches!(
            data_type,
            DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..)
                | DataType::Utf8
                | DataType::Utf8View
        )
}

/// The numbers of a column, with `null` for NULLs; `None`: the type has none.
pub(super) fn of(column: &ArrayRef, null: i64) -> Option<Vec<i64>> {
    Some(match column.data_type() {
        DataType::Int8 => numbers::<arrow::Int8Type>(column, null, i64::from),
        DataType::Int16 => numbers::<arrow::Int16Type>(column, null, i64::from),
        DataType::Int32 => numbers::<arrow::Int32Type>(column, null, i64::from),
        DataType::Int64 => numbers::<arrow::Int64Type>(column, null, |v| v),
        DataType::Date32 => numbers::<arrow::Date32Type>(column, null, i64::from),
        DataType::Time64(TimeUnit::Microsecond) => {
            numbers::<arrow::Time64MicrosecondType>(column, null, |v| v)
        }
        DataType::Time64(_) => numbers::<arrow::Time64NanosecondType>(column, null, |v| v),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => numbers::<arrow::TimestampSecondType>(column, null, |v| v),
            TimeUnit::Millisecond => {
                numbers::<arrow::TimestampMillisecondType>(column, null, |v| v)
            }
            TimeUnit::Microsecond => {
                numbers::<arrow::TimestampMicrosecondType>(column, null, |v| v)
            }
            TimeUnit::Nanosecond => numbers::<arrow::TimestampNanosecondType>(column, null, |v| v),
        },
        DataType::Float32 => {
            numbers::<arrow::Float32Type>(column, null, |v| of_float(f64::from(v)))
        }
        DataType::Float64 => numbers::<arrow::Float64Type>(column, null, of_float),
        DataType::Decimal128(..) => numbers::<arrow::Decimal128Type>(column, null, |v| {
            v.clamp(i128::from(LOWEST), i128::from(HIGHEST)) as i64
        }),
        DataType::Utf8 => {
            let texts = column.as_string::<i32>().iter();
            texts.map(|text| text.map_or(null, of_text)).collect()
        }
        DataType::Utf8View => {
            let texts = column.as_string_view().iter();
            texts.map(|text| text.map_or(null, of_text)).collect()
        }
        _ => return None,
    })
}

fn numbers<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    null: i64,
    number: impl Fn(T::Native) -> i64,
) -> Vec<i64> {
    let column = column.as_primitive::<T>();
    if column.null_count() == 0 {
        return column.values().iter().map(|v| number(*v)).collect();
    }
    let values = column.iter();
    values.map(|v| v.map_or(null, &number)).collect()
}

/// Zeros of both signs are one number, and no number is higher than NaN.
fn of_float(value: f64) -> i64 {
    if value.is_nan() {
        return HIGHEST;
    }
    let bits = (value + 0.0).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The first bytes.
fn of_text(text: &str) -> i64 {
    let mut bytes = [0_u8; 8];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Decimal128Array, Float64Array, StringViewArray};
    use std::sync::Arc;

    #[test]
    fn numbers_are_in_the_order_of_the_values() {
        let floats = [f64::NEG_INFINITY, -2.5, -0.0, 0.0, 1e-9, 3.0, f64::INFINITY];
        let texts = ["", "a", "ab", "abcdefgh", "abcdefghi", "b", "\u{e4}"];
        let decimals = [i128::MIN / 2, -1, 0, 7, i128::MAX / 2];
        let columns: [ArrayRef; 3] = [
            Arc::new(Float64Array::from(floats.to_vec())),
            Arc::new(StringViewArray::from(texts.to_vec())),
            Arc::new(Decimal128Array::from(decimals.to_vec())),
        ];
        for column in columns {
            assert!(are_there(column.data_type()));
            let ranks = of(&column, LOWEST).unwrap();
            assert!(ranks.is_sorted(), "{column:?}: {ranks:?}");
            assert!(ranks.first() < ranks.last());
        }
        assert_eq!(of_float(-0.0), of_float(0.0));
        assert!(of_float(f64::NAN) > of_float(f64::INFINITY));
    }
}
