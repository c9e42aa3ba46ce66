//! Whether a page can be left out because its column statistics say so.

use std::cmp::Ordering;
use std::ops::Bound;

use chronos_model::{encode_key, key_values, DataType, TableSchema, Value};

use super::KeyRange;
use crate::segment::{ColumnRange, PageMeta};

/// Bounds of a column, both inclusive.
pub(super) type ColumnBounds = (usize, Option<Value>, Option<Value>);

/// What a range of keys says of key columns, if it goes from one whole key to another: the
/// first columns have one value, the next one has two ends. A page of other times than
/// those asked for may well reach across the range.
pub(super) fn bounds_of_range(schema: &TableSchema, range: &KeyRange) -> Vec<ColumnBounds> {
    let values = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Unbounded => None,
        Bound::Included(key) | Bound::Excluded(key) => whole_key(schema, key),
    };
    let (Some(lower), Some(upper)) = (values(&range.lower), values(&range.upper)) else {
        return Vec::new();
    };
    let mut bounds = Vec::new();
    for (column, (low, high)) in schema.primary_key.iter().zip(lower.into_iter().zip(upper)) {
        let is_end = low != high;
        bounds.push((*column, Some(low), Some(high)));
        if is_end {
            break;
        }
    }
    bounds
}

/// The values of a key, if these bytes are one.
pub(super) fn whole_key(schema: &TableSchema, key: &[u8]) -> Option<Vec<Value>> {
    let values = key_values(schema, key).ok()?;
    let again = encode_key(schema, &values).ok()?;
    (*again.0 == *key).then_some(values)
}

/// Whether no row of the page is within the bounds, both inclusive, of a column.
/// When in doubt: no.
pub(super) fn excludes(
    schema: &TableSchema,
    page: &PageMeta,
    (column, low, high): &ColumnBounds,
) -> bool {
    let (Some(stats), Some(declared)) = (page.columns.get(*column), schema.columns.get(*column))
    else {
        return false;
    };
    if stats.null_count == page.rows && (low.is_some() || high.is_some()) {
        // A comparison with NULL is never true.
        return true;
    }
    let Some(range) = &stats.range else {
        return false;
    };
    let below = |bound: &Value| is_below(range, bound, &declared.data_type);
    let above = |bound: &Value| is_above(range, bound, &declared.data_type);
    low.as_ref().is_some_and(below) || high.as_ref().is_some_and(above)
}

/// How the one value that a column has in a page compares with another; `None`: it has more
/// than one, or that is not known.
pub(super) fn order_of_constant(
    schema: &TableSchema,
    page: &PageMeta,
    column: usize,
    value: &Value,
) -> Option<Ordering> {
    let stats = page.columns.get(column)?;
    let range = stats.range.as_ref().filter(|_| stats.null_count == 0)?;
    let data_type = &schema.columns.get(column)?.data_type;
    match range {
        ColumnRange::Int { min, max, .. } if min == max => Some(min.cmp(&int(value, data_type)?)),
        ColumnRange::Bytes { min, max } if min == max => {
            Some((**min).cmp(bytes(value, data_type)?))
        }
        _ => None,
    }
}

/// Whether all values of the range are less than `bound`.
fn is_below(range: &ColumnRange, bound: &Value, data_type: &DataType) -> bool {
    match (range, bound) {
        (ColumnRange::Int { max, .. }, v) => int(v, data_type).is_some_and(|v| *max < v),
        (ColumnRange::Float { max, .. }, v) => float(v).is_some_and(|v| *max < v),
        (ColumnRange::Bytes { max, .. }, v) => bytes(v, data_type).is_some_and(|v| **max < *v),
        (ColumnRange::Decimal(_), _) => false,
    }
}

/// Whether all values of the range are greater than `bound`.
fn is_above(range: &ColumnRange, bound: &Value, data_type: &DataType) -> bool {
    match (range, bound) {
        (ColumnRange::Int { min, .. }, v) => int(v, data_type).is_some_and(|v| *min > v),
        (ColumnRange::Float { min, .. }, v) => float(v).is_some_and(|v| *min > v),
        (ColumnRange::Bytes { min, .. }, v) => bytes(v, data_type).is_some_and(|v| **min > *v),
        (ColumnRange::Decimal(_), _) => false,
    }
}

/// The bound as the integers of the column's statistics are; `None`: another type.
fn int(value: &Value, data_type: &DataType) -> Option<i64> {
    match (data_type, value) {
        (DataType::Bool, Value::Bool(v)) => Some(i64::from(*v)),
        (DataType::Int2 | DataType::Int4 | DataType::Int8, Value::Int2(v)) => Some(i64::from(*v)),
        (DataType::Int2 | DataType::Int4 | DataType::Int8, Value::Int4(v)) => Some(i64::from(*v)),
        (DataType::Int2 | DataType::Int4 | DataType::Int8, Value::Int8(v)) => Some(*v),
        (DataType::Date, Value::Date(v)) => Some(i64::from(*v)),
        (DataType::Time, Value::Time(v)) => Some(*v),
        (DataType::Timestamp, Value::Timestamp(v)) => Some(*v),
        (DataType::TimestampTz, Value::TimestampTz(v)) => Some(*v),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float4(v) => Some(f64::from(*v)),
        Value::Float8(v) => Some(*v),
        Value::Int2(v) => Some(f64::from(*v)),
        Value::Int4(v) => Some(f64::from(*v)),
        _ => None,
    }
}

fn bytes<'a>(value: &'a Value, data_type: &DataType) -> Option<&'a [u8]> {
    match (data_type, value) {
        (DataType::Text | DataType::Varchar(_), Value::Text(v)) => Some(v.as_bytes()),
        (DataType::Bytea, Value::Bytea(v)) => Some(v),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chronos_model::{ColumnSchema, Stamp, TableId, TableOptions};

    use super::*;
    use crate::segment::ColumnStats;

    fn table(data_type: DataType) -> TableSchema {
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: vec![ColumnSchema {
                name: "a".into(),
                data_type,
                nullable: true,
                default: None,
                attributes: Default::default(),
            }],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![],
            options: TableOptions::default(),
        }
    }

    fn page(null_count: u32, range: Option<ColumnRange>) -> PageMeta {
        PageMeta {
            rows: 10,
            min_key: Box::from([]),
            max_key: Box::from([]),
            min_recorded: Stamp(1),
            max_recorded: Stamp(1),
            one_version_per_key: true,
            has_deletes: false,
            open_valid: true,
            first_versions: false,
            columns: Box::from([ColumnStats { null_count, range }]),
        }
    }

    #[test]
    fn a_range_from_key_to_key_bounds_its_columns() {
        let mut t = table(DataType::Text);
        t.columns.push(t.columns[0].clone());
        t.columns[1].data_type = DataType::Int8;
        t.columns.push(t.columns[1].clone());
        t.primary_key = vec![0, 1, 2];
        let text = |v: &str| Value::Text(v.into());
        let key = |a: &str, b, c| {
            let values = [text(a), Value::Int8(b), Value::Int8(c)];
            encode_key(&t, &values).unwrap().0.to_vec()
        };
        let of = |lower: &[u8], upper: &[u8]| {
            let (lower, upper) = (
                Bound::Included(lower.to_vec()),
                Bound::Excluded(upper.to_vec()),
            );
            bounds_of_range(&t, &KeyRange { lower, upper })
        };
        let int = |v| Some(Value::Int8(v));
        assert_eq!(
            of(&key("d", 5, 1), &key("d", 7, 0)),
            [(0, Some(text("d")), Some(text("d"))), (1, int(5), int(7))]
        );
        assert_eq!(
            of(&key("d", 5, 1), &key("e", 7, 0)),
            [(0, Some(text("d")), Some(text("e")))]
        );
        // The beginning of a key is none.
        let prefix = &key("d", 5, 1)[..11];
        assert_eq!(of(prefix, &key("d", 7, 0)), []);
        assert_eq!(bounds_of_range(&t, &KeyRange::ALL), []);
    }

    #[test]
    fn pages_outside_the_bounds_are_left_out() {
        let ints = page(
            0,
            Some(ColumnRange::Int {
                min: 10,
                max: 20,
                sum: None,
            }),
        );
        let t = table(DataType::Int8);
        let of = |low: Option<i64>, high: Option<i64>| {
            excludes(&t, &ints, &(0, low.map(Value::Int8), high.map(Value::Int8)))
        };
        assert!(of(Some(21), None) && of(None, Some(9)));
        assert!(!of(Some(20), None) && !of(None, Some(10)) && !of(None, None));
        // A bound of another type says nothing.
        assert!(!excludes(&t, &ints, &(0, Some(Value::Date(99)), None)));
        // Nor does a column that is not there.
        assert!(!excludes(&t, &ints, &(7, Some(Value::Int8(99)), None)));
        assert!(excludes(
            &t,
            &page(10, None),
            &(0, Some(Value::Int8(1)), None)
        ));
        assert!(!excludes(&t, &page(10, None), &(0, None, None)));
    }
}
