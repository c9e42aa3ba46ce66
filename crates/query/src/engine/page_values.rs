//! Values out of pages' statistics: lowest, highest, sum, and the one value of a column
//! that is constant in a page.

use std::cmp::Ordering;

use arrow_schema::{DataType as Arrow, TimeUnit};
use chronos_store::segment::{ColumnRange, ColumnStats, PageMeta};
use datafusion::common::ScalarValue;

/// One end of a column's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Lowest,
    Highest,
}

impl End {
    /// The value at this end of a range, if the type has such a scalar.
    pub(super) fn of(self, range: &ColumnRange, data_type: &Arrow) -> Option<ScalarValue> {
        let pick = |low, high| match self {
            End::Lowest => low,
            End::Highest => high,
        };
        match range {
            ColumnRange::Int { min, max, .. } => of_integer(pick(*min, *max), data_type),
            ColumnRange::Float { min, max, .. } => {
                let value = match self {
                    End::Lowest => *min,
                    End::Highest => *max,
                };
                match data_type {
                    // Statistics widen: nothing is lost on the way back.
                    Arrow::Float32 => Some(ScalarValue::Float32(Some(value as f32))),
                    Arrow::Float64 => Some(ScalarValue::Float64(Some(value))),
                    _ => None,
                }
            }
            ColumnRange::Decimal(bounds) => match data_type {
                Arrow::Decimal128(precision, scale) => {
                    let value = match self {
                        End::Lowest => bounds.0,
                        End::Highest => bounds.1,
                    };
                    Some(ScalarValue::Decimal128(Some(value), *precision, *scale))
                }
                _ => None,
            },
            ColumnRange::Bytes { min, max } => {
                let value = match self {
                    End::Lowest => min,
                    End::Highest => max,
                };
                of_bytes(value, data_type)
            }
        }
    }

    /// Whether `candidate` lies further out than `known`.
    pub(super) fn is_beyond(self, candidate: &ScalarValue, known: &ScalarValue) -> bool {
        let further = match self {
            End::Lowest => Ordering::Less,
            End::Highest => Ordering::Greater,
        };
        candidate.partial_cmp(known) == Some(further)
    }
}

fn of_integer(value: i64, data_type: &Arrow) -> Option<ScalarValue> {
    Some(match data_type {
        Arrow::Boolean => ScalarValue::Boolean(Some(value != 0)),
        Arrow::Int16 => ScalarValue::Int16(Some(i16::try_from(value).ok()?)),
        Arrow::Int32 => ScalarValue::Int32(Some(i32::try_from(value).ok()?)),
        Arrow::Int64 => ScalarValue::Int64(Some(value)),
        Arrow::Date32 => ScalarValue::Date32(Some(i32::try_from(value).ok()?)),
        Arrow::Time64(TimeUnit::Microsecond) => ScalarValue::Time64Microsecond(Some(value)),
        Arrow::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(value), zone.clone())
        }
        _ => return None,
    })
}

fn of_bytes(value: &[u8], data_type: &Arrow) -> Option<ScalarValue> {
    let text = || std::str::from_utf8(value).ok().map(str::to_owned);
    Some(match data_type {
        Arrow::Utf8View => ScalarValue::Utf8View(Some(text()?)),
        Arrow::Utf8 => ScalarValue::Utf8(Some(text()?)),
        Arrow::BinaryView => ScalarValue::BinaryView(Some(value.to_vec())),
        Arrow::Binary => ScalarValue::Binary(Some(value.to_vec())),
        _ => return None,
    })
}

/// The value that a column has in every row of a page, NULL included.
pub(super) fn constant(
    page: &PageMeta,
    stats: &ColumnStats,
    data_type: &Arrow,
) -> Option<ScalarValue> {
    if stats.null_count == page.rows {
        return ScalarValue::try_from(data_type).ok();
    }
    let range = stats.range.as_ref()?;
    let is_constant = match range {
        ColumnRange::Int { min, max, .. } => min == max,
        // Two zeros are equal and yet two values.
        ColumnRange::Float { min, max, .. } => min == max && *min != 0.0,
        ColumnRange::Decimal(bounds) => bounds.0 == bounds.1,
        ColumnRange::Bytes { min, max } => min == max,
    };
    (is_constant && stats.null_count == 0)
        .then(|| End::Lowest.of(range, data_type))
        .flatten()
}
