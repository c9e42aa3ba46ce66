//! Arithmetic with dates, times and intervals.

use arrow_schema::DataType as Arrow;
use chronos_model::DataType;
use datafusion::logical_expr::{binary_expr, cast, Expr, Operator};

use super::kernels;
use crate::engine::casts;

/// `None`: PostgreSQL has no such operator.
pub(super) fn arithmetic(
    op: Operator,
    left: Expr,
    l: &DataType,
    right: Expr,
    r: &DataType,
) -> Option<Expr> {
    use DataType as T;
    use Operator as O;
    let plain = |left, right| Some(binary_expr(left, op, right));
    match (l, op, r) {
        (T::Interval, O::Plus | O::Minus, T::Interval) => plain(left, right),
        (T::Interval, O::Multiply | O::Divide, r) if r.is_number() => {
            Some(kernels::scale_interval(op, left, as_float(right)))
        }
        (l, O::Multiply, T::Interval) if l.is_number() => {
            Some(kernels::scale_interval(op, right, as_float(left)))
        }
        (T::Date, O::Plus | O::Minus, r) if r.is_integer() => plain(left, right),
        (l, O::Plus, T::Date) if l.is_integer() => plain(left, right),
        (T::Date, O::Minus, T::Date) => plain(left, right),
        (T::Date | T::Timestamp | T::TimestampTz, O::Plus | O::Minus, T::Interval) => {
            plain(instant(left, l), right)
        }
        (T::Interval, O::Plus, T::Date | T::Timestamp | T::TimestampTz) => {
            plain(instant(right, r), left)
        }
        (T::Date | T::Timestamp | T::TimestampTz, O::Plus, T::Time) => {
            plain(instant(left, l), casts::call(right, T::Interval))
        }
        (T::Time, O::Plus, T::Date | T::Timestamp | T::TimestampTz) => {
            plain(instant(right, r), casts::call(left, T::Interval))
        }
        (T::Time, O::Plus | O::Minus, T::Interval) => plain(left, right),
        (T::Interval, O::Plus, T::Time) => plain(right, left),
        (T::Time, O::Minus, T::Time) => plain(left, right),
        (
            T::Date | T::Timestamp | T::TimestampTz,
            O::Minus,
            T::Date | T::Timestamp | T::TimestampTz,
        ) => Some(kernels::elapsed(
            cast(left, T::Timestamp.to_arrow()),
            cast(right, T::Timestamp.to_arrow()),
        )),
        _ => None,
    }
}

/// A date as the midnight at which it begins.
fn instant(expr: Expr, data_type: &DataType) -> Expr {
    match data_type {
        DataType::Date => cast(expr, DataType::Timestamp.to_arrow()),
        _ => expr,
    }
}

fn as_float(expr: Expr) -> Expr {
    cast(expr, Arrow::Float64)
}
