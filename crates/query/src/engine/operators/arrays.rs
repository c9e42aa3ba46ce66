//! Operators on arrays.

use chronos_model::DataType;
use datafusion::functions_nested::expr_fn;
use datafusion::logical_expr::{cast, Expr};

/// The item type that two arrays have in common.
fn common_item(l: &DataType, r: &DataType) -> Option<DataType> {
    let (DataType::Array(l), DataType::Array(r)) = (l, r) else {
        return None;
    };
    if l == r || (l.is_text() && r.is_text()) {
        return Some((**l).clone());
    }
    (l.is_number() && r.is_number()).then(|| wider(l, r))
}

/// Of two types of numbers the one that both convert to.
fn wider(l: &DataType, r: &DataType) -> DataType {
    let rank = |t: &DataType| match t {
        DataType::Int2 => 0,
        DataType::Int4 => 1,
        DataType::Int8 => 2,
        DataType::Numeric(_) => 3,
        DataType::Float4 => 4,
        _ => 5,
    };
    if rank(l) >= rank(r) {
        l.clone()
    } else {
        r.clone()
    }
}

fn as_array(expr: Expr, from: &DataType, item: &DataType) -> Expr {
    let to = DataType::Array(Box::new(item.clone()));
    if *from == to {
        expr
    } else {
        cast(expr, to.to_arrow())
    }
}

/// `a && b`
pub(super) fn overlap(left: Expr, l: &DataType, right: Expr, r: &DataType) -> Option<Expr> {
    let item = common_item(l, r)?;
    Some(expr_fn::array_has_any(
        as_array(left, l, &item),
        as_array(right, r, &item),
    ))
}

/// `whole @> part`
pub(super) fn contains(whole: Expr, w: &DataType, part: Expr, p: &DataType) -> Option<Expr> {
    let item = common_item(w, p)?;
    Some(expr_fn::array_has_all(
        as_array(whole, w, &item),
        as_array(part, p, &item),
    ))
}

/// Two arrays of one type.
pub(super) fn comparable(
    left: Expr,
    l: &DataType,
    right: Expr,
    r: &DataType,
) -> Option<(Expr, Expr)> {
    let (DataType::Array(a), DataType::Array(b)) = (l, r) else {
        return None;
    };
    let item = common_item(l, r)?;
    // PostgreSQL has no operator between arrays of different numbers.
    (a == b || (a.is_text() && b.is_text()) || (a.is_integer() && b.is_integer()))
        .then(|| (as_array(left, l, &item), as_array(right, r, &item)))
}

/// `a || b` where at least one is an array.
pub(super) fn concatenation(left: Expr, l: &DataType, right: Expr, r: &DataType) -> Option<Expr> {
    match (l, r) {
        (DataType::Array(_), DataType::Array(_)) => {
            let item = common_item(l, r)?;
            Some(expr_fn::array_concat(vec![
                as_array(left, l, &item),
                as_array(right, r, &item),
            ]))
        }
        (DataType::Array(item), other) => {
            let item = joined(item, other)?;
            Some(expr_fn::array_append(
                as_array(left, l, &item),
                as_item(right, r, &item),
            ))
        }
        (other, DataType::Array(item)) => {
            let item = joined(item, other)?;
            Some(expr_fn::array_prepend(
                as_item(left, l, &item),
                as_array(right, r, &item),
            ))
        }
        _ => None,
    }
}

fn joined(item: &DataType, other: &DataType) -> Option<DataType> {
    if item == other || (item.is_text() && other.is_text()) {
        return Some(item.clone());
    }
    (item.is_number() && other.is_number()).then(|| wider(item, other))
}

fn as_item(expr: Expr, from: &DataType, item: &DataType) -> Expr {
    if from == item {
        expr
    } else {
        cast(expr, item.to_arrow())
    }
}
