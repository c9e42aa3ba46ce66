//! Whether a page can be left out because its column statistics say so.

use chronos_model::{DataType, TableSchema, Value};

use crate::segment::{ColumnRange, PageMeta};

/// Whether no row of the page is within the bounds, both inclusive, of a column.
/// When in doubt: no.
pub(super) fn excludes(
    schema: &TableSchema,
    page: &PageMeta,
    (column, low, high): &(usize, Option<Value>, Option<Value>),
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
