//! The part of a page that is in a range of keys, found by its key columns.
//!
//! A page at the end of a range holds keys on both sides of it. Making all its keys to find
//! the place costs more than decoding the columns that are asked for; but a range from one
//! whole key to another has values to look for in the key columns, one after the other, and
//! a column of which the page has one value only need not be read.

use std::cmp::Ordering;
use std::ops::{Bound, Range};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use chronos_model::{TableSchema, Value};

use super::prune::{order_of_constant, whole_key};
use super::shape::ScanShape;
use super::KeyRange;
use crate::error::StoreError;
use crate::segment::{PageColumn, PageMeta, Segment};

/// The ends of a range of keys as values of the key columns.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    key: Vec<usize>,
    lower: End,
    upper: End,
}

#[derive(Clone, Debug)]
struct End {
    /// Of the key columns, in key order.
    values: Vec<Value>,
    place: Place,
}

/// Which side of the rows with its values an end is on.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Before,
    Behind,
}

impl Ends {
    /// `None`: not both ends are keys of which the values can be looked for.
    pub(super) fn of(schema: &TableSchema, range: &KeyRange) -> Option<Ends> {
        let end = |bound: &Bound<Vec<u8>>, included, excluded| {
            let (key, place) = match bound {
                Bound::Unbounded => return None,
                Bound::Included(key) => (key, included),
                Bound::Excluded(key) => (key, excluded),
            };
            let values = whole_key(schema, key)?;
            let known = values.iter().all(can_be_compared);
            known.then_some(End { values, place })
        };
        Some(Ends {
            lower: end(&range.lower, Place::Before, Place::Behind)?,
            upper: end(&range.upper, Place::Behind, Place::Before)?,
            key: schema.primary_key.clone(),
        })
    }

    /// The rows of a page between the ends, as a scan returns them; `None`: there are none.
    pub(super) fn read(
        &self,
        shape: &ScanShape,
        segment: &Segment,
        page: usize,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let (schema, meta) = (&shape.schema, &segment.pages()[page]);
        let mut wanted = shape.stored.to_vec();
        for column in self.columns(schema, meta) {
            if !wanted.contains(&column) {
                wanted.push(column);
            }
        }
        let columns = segment.read_columns(page..page + 1, &wanted)?;
        let read = |column| {
            let at = wanted.iter().position(|c| *c == column);
            at.and_then(|at| columns.get(at))
        };
        let rows = self
            .rows(schema, meta, read)
            .ok_or_else(|| StoreError::Columns("key columns were not read".into()))?;
        if rows.is_empty() {
            return Ok(None);
        }
        let stored: Vec<ArrayRef> = columns[..shape.stored.len()]
            .iter()
            .map(|column| column.slice(rows.start, rows.len()))
            .collect();
        shape.batch(&stored, &[], rows.len()).map(Some)
    }

    /// The key columns that have to be read of a page to find its part.
    fn columns<'a>(
        &'a self,
        schema: &'a TableSchema,
        page: &'a PageMeta,
    ) -> impl Iterator<Item = PageColumn> + 'a {
        let columns = self.key.iter().zip(&self.lower.values);
        let varies = move |(column, value): &(&usize, &Value)| {
            order_of_constant(schema, page, **column, value).is_none()
        };
        columns
            .filter(varies)
            .map(|(column, _)| PageColumn::Column(*column))
    }

    /// The rows of a page between the ends. `read` gives the columns that were asked for;
    /// `None`: one is not there, or not of its type.
    fn rows<'a>(
        &self,
        schema: &TableSchema,
        page: &PageMeta,
        read: impl Fn(PageColumn) -> Option<&'a ArrayRef>,
    ) -> Option<Range<usize>> {
        let position = |end: &End| {
            let (mut low, mut high) = (0, page.rows as usize);
            for (column, value) in self.key.iter().zip(&end.values) {
                let equal = match order_of_constant(schema, page, *column, value) {
                    Some(Ordering::Less) => high..high,
                    Some(Ordering::Equal) => low..high,
                    Some(Ordering::Greater) => low..low,
                    None => equal_rows(read(PageColumn::Column(*column))?, value, low..high)?,
                };
                if equal.is_empty() {
                    return Some(equal.start);
                }
                (low, high) = (equal.start, equal.end);
            }
            Some(match end.place {
                Place::Before => low,
                Place::Behind => high,
            })
        };
        let (start, end) = (position(&self.lower)?, position(&self.upper)?);
        Some(start..end.max(start))
    }
}

fn can_be_compared(value: &Value) -> bool {
    matches!(
        value,
        Value::Int2(_)
            | Value::Int4(_)
            | Value::Int8(_)
            | Value::Date(_)
            | Value::Time(_)
            | Value::Timestamp(_)
            | Value::TimestampTz(_)
            | Value::Text(_)
            | Value::Bytea(_)
    )
}

/// Which of some rows, sorted by a column, have a value; empty where they would be if none
/// has.
fn equal_rows(array: &ArrayRef, value: &Value, rows: Range<usize>) -> Option<Range<usize>> {
    match value {
        Value::Int2(v) => numbers::<Int16Type>(array, *v, rows),
        Value::Int4(v) => numbers::<Int32Type>(array, *v, rows),
        Value::Int8(v) => numbers::<Int64Type>(array, *v, rows),
        Value::Date(v) => numbers::<Date32Type>(array, *v, rows),
        Value::Time(v) => numbers::<Time64MicrosecondType>(array, *v, rows),
        Value::Timestamp(v) | Value::TimestampTz(v) => {
            numbers::<TimestampMicrosecondType>(array, *v, rows)
        }
        Value::Text(v) => {
            let texts = array.as_string_view_opt()?;
            Some(found(rows, |row| {
                texts.value(row).as_bytes().cmp(v.as_bytes())
            }))
        }
        Value::Bytea(v) => {
            let bytes = array.as_binary_view_opt()?;
            Some(found(rows, |row| bytes.value(row).cmp(v)))
        }
        _ => None,
    }
}

fn numbers<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    value: T::Native,
    rows: Range<usize>,
) -> Option<Range<usize>>
where
    T::Native: Ord,
{
    let values = array.as_primitive_opt::<T>()?.values();
    Some(found(rows, |row| values[row].cmp(&value)))
}

fn found(rows: Range<usize>, compare: impl Fn(usize) -> Ordering) -> Range<usize> {
    let partition = |from: usize, is_before: fn(Ordering) -> bool| {
        let (mut low, mut high) = (from, rows.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_before(compare(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    };
    let start = partition(rows.start, Ordering::is_lt);
    start..partition(start, Ordering::is_le)
}
