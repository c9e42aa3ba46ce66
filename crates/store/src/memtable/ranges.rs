//! Which values the key columns of a set of versions span.
//!
//! Two sets whose values of any one key column do not meet cannot share a key. A
//! batch of new readings under the key (device, time) is later in time than what is
//! stored, so its uniqueness costs one comparison per stored run instead of one
//! search per row.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::ArrayRef;
use chronos_model::{key_integers, DataType, TableSchema};

use crate::segment::{ColumnRange, PageMeta};

/// Lowest and highest value of each key column, in key order; `None`: unknown, or
/// not a whole number, date or time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KeyRanges(Vec<Span>);

type Span = Option<(i64, i64)>;

impl KeyRanges {
    /// Of the rows of a batch; `columns` are all of the table's columns.
    pub(crate) fn of_columns(schema: &TableSchema, columns: &[ArrayRef]) -> KeyRanges {
        let ranges = schema.primary_key.iter().map(|&c| {
            let array = &columns[c];
            match &schema.columns[c].data_type {
                DataType::Int2 => bounds(array.as_primitive_opt::<Int16Type>()?.values()),
                DataType::Int4 => bounds(array.as_primitive_opt::<Int32Type>()?.values()),
                DataType::Date => bounds(array.as_primitive_opt::<Date32Type>()?.values()),
                DataType::Int8 => bounds(array.as_primitive_opt::<Int64Type>()?.values()),
                DataType::Time => {
                    bounds(array.as_primitive_opt::<Time64MicrosecondType>()?.values())
                }
                DataType::Timestamp | DataType::TimestampTz => bounds(
                    array
                        .as_primitive_opt::<TimestampMicrosecondType>()?
                        .values(),
                ),
                _ => None,
            }
        });
        KeyRanges(ranges.collect())
    }

    /// Of all pages of a segment.
    pub(crate) fn of_pages(schema: &TableSchema, pages: &[PageMeta]) -> KeyRanges {
        let of_column = |&c: &usize| {
            let of_page = |page: &PageMeta| {
                // A delete has no column values, only a key.
                if page.has_deletes {
                    return None;
                }
                match page.columns.get(c)?.range.as_ref()? {
                    ColumnRange::Int { min, max, .. } => Some((*min, *max)),
                    _ => None,
                }
            };
            let mut pages = pages.iter().map(of_page);
            let first = pages.next()??;
            pages.try_fold(first, |(low, high), page| {
                page.map(|(min, max)| (low.min(min), high.max(max)))
            })
        };
        KeyRanges(schema.primary_key.iter().map(of_column).collect())
    }

    /// Of one key; unknown of bytes that are none.
    pub(crate) fn of_key(schema: &TableSchema, key: &[u8]) -> KeyRanges {
        let integers = key_integers(schema, key).unwrap_or_default();
        let only = |value: Option<i64>| value.map(|v| (v, v));
        KeyRanges(integers.into_iter().map(only).collect())
    }

    /// Of both sets together.
    pub(crate) fn union(&self, other: &KeyRanges) -> KeyRanges {
        let both = self.0.iter().zip(&other.0);
        let range = |(a, b): (&Span, &Span)| {
            let ((a_low, a_high), (b_low, b_high)) = ((*a)?, (*b)?);
            Some((a_low.min(b_low), a_high.max(b_high)))
        };
        KeyRanges(both.map(range).collect())
    }

    /// Lowest and highest value of the key column at a position of the key.
    pub(crate) fn of_key_column(&self, position: usize) -> Option<(i64, i64)> {
        self.0.get(position).copied().flatten()
    }

    /// Whether the sets certainly share no key.
    pub(crate) fn disjoint(&self, other: &KeyRanges) -> bool {
        self.0.iter().zip(&other.0).any(|pair| match pair {
            (Some((a_low, a_high)), Some((b_low, b_high))) => a_high < b_low || b_high < a_low,
            _ => false,
        })
    }
}

fn bounds<T: Copy + Ord + Into<i64>>(values: &[T]) -> Option<(i64, i64)> {
    let low = values.iter().min()?;
    let high = values.iter().max()?;
    Some(((*low).into(), (*high).into()))
}

#[cfg(test)]
mod tests {
    use super::KeyRanges;

    #[test]
    fn sets_are_disjoint_if_any_key_column_is() {
        let of = |a, b| KeyRanges(vec![a, b]);
        let old = of(None, Some((0, 9)));
        assert!(old.disjoint(&of(None, Some((10, 19)))));
        assert!(!old.disjoint(&of(None, Some((9, 19)))));
        assert!(!old.disjoint(&of(Some((1, 1)), None)));
        assert_eq!(
            old.union(&of(None, Some((20, 30)))),
            of(None, Some((0, 30)))
        );
    }
}
