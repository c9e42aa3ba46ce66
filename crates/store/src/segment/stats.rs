//! What is known of a page, and of each of its columns, without reading it; computed
//! when a page is written.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use chronos_model::{DataType, Stamp};

/// A page: about 2,048 consecutive versions of a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct PageMeta {
    /// Versions in the page, at least one.
    pub rows: u32,
    /// Key of the first version.
    pub min_key: Box<[u8]>,
    /// Key of the last version.
    pub max_key: Box<[u8]>,
    /// Lowest recorded stamp.
    pub min_recorded: Stamp,
    /// Highest recorded stamp.
    pub max_recorded: Stamp,
    /// No key occurs twice in the page, and neither its first nor its last key
    /// occurs in the neighbouring pages of the segment.
    pub one_version_per_key: bool,
    /// At least one version is a delete.
    pub has_deletes: bool,
    /// Every version is valid from the microsecond it was recorded, until changed.
    pub open_valid: bool,
    /// Every version is the first of its key: when it was recorded, nothing was stored of
    /// the key. False: not known.
    pub first_versions: bool,
    /// Per stored column of the table, in schema order.
    pub columns: Box<[ColumnStats]>,
}

impl PageMeta {
    /// Whether a version stands for older ones that are no longer kept. What its statistics
    /// say of columns outside of the key is then not said of those.
    pub(crate) fn has_cuts(&self) -> bool {
        self.min_recorded == Stamp::MIN
    }
}

/// What is known of one column of a page. Deletes count as NULLs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStats {
    /// How many values are NULL.
    pub null_count: u32,
    /// Bounds of the values that are not NULL; `None`: all are NULL, the type has
    /// no order, or the bounds were not worth keeping.
    pub range: Option<ColumnRange>,
}

/// Bounds of a column's values, both inclusive.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnRange {
    /// INT2/4/8, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, and BOOL as 0 and 1.
    Int {
        /// Lowest.
        min: i64,
        /// Highest.
        max: i64,
        /// Sum of the values of INT2/4/8; `None`: another type, or more than 64 bits.
        sum: Option<i64>,
    },
    /// FLOAT4/8. A page with a NaN has no range.
    Float {
        /// Lowest.
        min: f64,
        /// Highest.
        max: f64,
        /// Sum of the values as FLOAT8, added in row order.
        sum: f64,
    },
    /// NUMERIC: unscaled integers at the column's scale, lowest and highest.
    Decimal(Box<(i128, i128)>),
    /// TEXT, VARCHAR, UUID, BYTEA by their bytes. Only kept when both are short.
    Bytes {
        /// Lowest.
        min: Box<[u8]>,
        /// Highest.
        max: Box<[u8]>,
    },
}

/// Longest text or byte string kept as a bound.
const BOUND_BYTES_MAX: usize = 64;

/// Counts NULLs and finds the bounds of a page's column.
pub(super) fn column_stats(array: &ArrayRef, data_type: &DataType) -> ColumnStats {
    ColumnStats {
        null_count: array.logical_null_count() as u32,
        range: range_of(array, data_type),
    }
}

fn range_of(array: &ArrayRef, data_type: &DataType) -> Option<ColumnRange> {
    match data_type {
        DataType::Bool => {
            let values = array.as_boolean();
            let bounds = bool_bounds(values.iter().flatten());
            bounds.map(|(min, max)| ColumnRange::Int {
                min,
                max,
                sum: None,
            })
        }
        DataType::Int2 => ints::<Int16Type>(array, i64::from, Sum::Kept),
        DataType::Int4 => ints::<Int32Type>(array, i64::from, Sum::Kept),
        DataType::Int8 => ints::<Int64Type>(array, |v| v, Sum::Kept),
        DataType::Date => ints::<Date32Type>(array, i64::from, Sum::None),
        DataType::Time => ints::<Time64MicrosecondType>(array, |v| v, Sum::None),
        DataType::Timestamp | DataType::TimestampTz => {
            ints::<TimestampMicrosecondType>(array, |v| v, Sum::None)
        }
        DataType::Float4 => floats::<Float32Type>(array, f64::from),
        DataType::Float8 => floats::<Float64Type>(array, |v| v),
        DataType::Numeric(_) => {
            let values = array.as_primitive::<Decimal128Type>();
            let (mut min, mut max) = (i128::MAX, i128::MIN);
            each(values, |v| {
                min = min.min(v);
                max = max.max(v);
            });
            (min <= max).then(|| ColumnRange::Decimal(Box::new((min, max))))
        }
        DataType::Text | DataType::Varchar(_) | DataType::Uuid => {
            bytes(array.as_string_view().iter().flatten().map(str::as_bytes))
        }
        DataType::Bytea => bytes(array.as_binary_view().iter().flatten()),
        DataType::Interval
        | DataType::Json
        | DataType::Jsonb
        | DataType::Array(_)
        | DataType::Vector(_) => None,
    }
}

fn bool_bounds(values: impl Iterator<Item = bool>) -> Option<(i64, i64)> {
    values.map(i64::from).fold(None, |bounds, v| match bounds {
        None => Some((v, v)),
        Some((min, max)) => Some((v.min(min), v.max(max))),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sum {
    Kept,
    None,
}

fn each<T: ArrowPrimitiveType>(
    array: &arrow_array::PrimitiveArray<T>,
    mut f: impl FnMut(T::Native),
) {
    if array.null_count() == 0 {
        array.values().iter().for_each(|v| f(*v));
    } else {
        array.iter().flatten().for_each(f);
    }
}

fn ints<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    wide: impl Fn(T::Native) -> i64,
    keep: Sum,
) -> Option<ColumnRange> {
    let (mut min, mut max, mut sum) = (i64::MAX, i64::MIN, 0i128);
    each(array.as_primitive::<T>(), |v| {
        let v = wide(v);
        min = min.min(v);
        max = max.max(v);
        sum += i128::from(v);
    });
    let sum = match keep {
        Sum::Kept => i64::try_from(sum).ok(),
        Sum::None => None,
    };
    (min <= max).then_some(ColumnRange::Int { min, max, sum })
}

fn floats<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    wide: impl Fn(T::Native) -> f64,
) -> Option<ColumnRange> {
    let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
    let mut is_number = true;
    each(array.as_primitive::<T>(), |v| {
        let v = wide(v);
        is_number &= !v.is_nan();
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
        sum += v;
    });
    (is_number && array.null_count() < array.len()).then_some(ColumnRange::Float { min, max, sum })
}

fn bytes<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<ColumnRange> {
    let first = values.next()?;
    let (mut min, mut max) = (first, first);
    let mut last = first;
    for value in values {
        if value == last {
            continue;
        }
        last = value;
        if value < min {
            min = value;
        } else if value > max {
            max = value;
        }
    }
    (min.len() <= BOUND_BYTES_MAX && max.len() <= BOUND_BYTES_MAX).then(|| ColumnRange::Bytes {
        min: min.into(),
        max: max.into(),
    })
}
