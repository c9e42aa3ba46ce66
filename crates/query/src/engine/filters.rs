//! WHERE clauses as bounds that let a scan skip work. Bounds only narrow: the
//! engine still applies the whole filter, so leaving one out is never wrong.

use std::ops::Bound;

use chronos_model::{encode_key, DataType, TableSchema, Value};
use chronos_store::KeyRange;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// What a conjunction of filters says of keys and columns.
pub(super) struct ScanBounds {
    pub(super) key_range: KeyRange,
    /// Column, lowest and highest value, both inclusive.
    pub(super) columns: Vec<(usize, Option<Value>, Option<Value>)>,
}

/// One comparison: column, operator, constant.
struct Comparison {
    column: usize,
    operator: Operator,
    value: Value,
}

/// Whether a filter can narrow a scan.
pub(super) fn is_usable(filter: &Expr, table: &TableSchema) -> bool {
    let mut found = Vec::new();
    collect(filter, table, &mut found);
    // Before parameters are bound, a comparison with one already counts.
    !found.is_empty() || compares_parameter(filter, table)
}

fn compares_parameter(filter: &Expr, table: &TableSchema) -> bool {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
            let is_parameter = |e: &Expr| matches!(e, Expr::Placeholder(_));
            (column_of(left, table).is_some() && is_parameter(right))
                || (column_of(right, table).is_some() && is_parameter(left))
        }
        _ => false,
    }
}

/// The bounds of `filters`, all of which must hold.
pub(super) fn bounds(filters: &[Expr], table: &TableSchema) -> ScanBounds {
    let mut comparisons = Vec::new();
    for filter in filters {
        collect(filter, table, &mut comparisons);
    }
    let mut columns: Vec<(usize, Option<Value>, Option<Value>)> = Vec::new();
    for comparison in &comparisons {
        let entry = match columns.iter().position(|(c, ..)| *c == comparison.column) {
            Some(i) => &mut columns[i],
            None => {
                columns.push((comparison.column, None, None));
                columns.last_mut().expect("just pushed")
            }
        };
        // Any one of several bounds is right; the first is kept.
        match comparison.operator {
            Operator::Eq => {
                entry.1 = Some(comparison.value.clone());
                entry.2 = Some(comparison.value.clone());
            }
            Operator::Gt | Operator::GtEq => drop(entry.1.get_or_insert(comparison.value.clone())),
            _ => drop(entry.2.get_or_insert(comparison.value.clone())),
        }
    }
    ScanBounds {
        key_range: key_range(&columns, table),
        columns,
    }
}

/// Equalities on the leading key columns, then a range on the next one.
fn key_range(columns: &[(usize, Option<Value>, Option<Value>)], table: &TableSchema) -> KeyRange {
    let mut prefix: Vec<Value> = Vec::new();
    let (mut low, mut high) = (None, None);
    for key in &table.primary_key {
        match columns.iter().find(|(c, ..)| c == key) {
            Some((_, Some(a), Some(b))) if a == b => prefix.push(a.clone()),
            Some((_, a, b)) => {
                (low, high) = (a.clone(), b.clone());
                break;
            }
            None => break,
        }
    }
    let encode = |last: Option<Value>| -> Option<Vec<u8>> {
        let values: Vec<Value> = prefix.iter().cloned().chain(last).collect();
        if values.is_empty() {
            return None;
        }
        encode_key(table, &values).ok().map(|key| key.0.into_vec())
    };
    let lower = encode(low).map_or(Bound::Unbounded, Bound::Included);
    let upper = match encode(high).and_then(successor) {
        Some(end) => Bound::Excluded(end),
        None => Bound::Unbounded,
    };
    KeyRange { lower, upper }
}

/// The smallest byte string above everything that begins with `prefix`.
pub(super) fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(prefix);
        }
        prefix.pop();
    }
    None
}

fn collect(filter: &Expr, table: &TableSchema, out: &mut Vec<Comparison>) {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => {
            collect(left, table, out);
            collect(right, table, out);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let sides = match (column_of(left, table), column_of(right, table)) {
                (Some(column), None) => Some((column, *op, right)),
                (None, Some(column)) => op.swap().map(|op| (column, op, left)),
                _ => None,
            };
            if let Some((column, operator, Some(value))) =
                sides.map(|(c, o, e)| (c, o, constant(e, &table.columns[c].data_type)))
            {
                if matches!(
                    operator,
                    Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
                ) {
                    out.push(Comparison {
                        column,
                        operator,
                        value,
                    });
                }
            }
        }
        Expr::Between(between) if !between.negated => {
            if let Some(column) = column_of(&between.expr, table) {
                let data_type = &table.columns[column].data_type;
                for (operator, bound) in [
                    (Operator::GtEq, &between.low),
                    (Operator::LtEq, &between.high),
                ] {
                    if let Some(value) = constant(bound, data_type) {
                        out.push(Comparison {
                            column,
                            operator,
                            value,
                        });
                    }
                }
            }
        }
        _ => {}
    }
}

pub(super) fn column_of(expr: &Expr, table: &TableSchema) -> Option<usize> {
    match expr {
        // What is stored of a column that shows a period is not what it shows.
        Expr::Column(column) => table
            .column_index(&column.name)
            .filter(|position| table.columns[*position].attributes.bound.is_none()),
        _ => None,
    }
}

/// The constant as a value of the column's type, if nothing is lost by that.
pub(super) fn constant(expr: &Expr, data_type: &DataType) -> Option<Value> {
    let Expr::Literal(scalar, _) = expr else {
        return None;
    };
    if scalar.is_null() || !data_type.is_key_type() {
        return None;
    }
    let scalar = match scalar {
        ScalarValue::Dictionary(_, inner) => inner.as_ref(),
        other => other,
    };
    // UUIDs compare as text in the engine: only the canonical spelling is the same.
    if *data_type == DataType::Uuid {
        let text = scalar.try_as_str().flatten()?;
        let uuid = chronos_model::text::parse_uuid(text).ok()?;
        return (chronos_model::text::format_uuid(&uuid) == text).then_some(Value::Uuid(uuid));
    }
    let cast = scalar.cast_to(&data_type.to_arrow()).ok()?;
    let back = cast.cast_to(&scalar.data_type()).ok()?;
    if back != *scalar {
        return None;
    }
    chronos_model::value_at(&cast.to_array().ok()?, 0, data_type)
        .ok()
        .filter(|v| !v.is_null())
}
