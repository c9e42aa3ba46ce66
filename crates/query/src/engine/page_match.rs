//! What a page's statistics say of a condition: whether it can hold for rows of the page,
//! and whether it holds for all of them.
//!
//! A condition on a row is true, false or unknown (NULL). [`judge`] gives the set of
//! outcomes that rows of a page can have, never too few: when in doubt, all three. AND, OR
//! and NOT combine such sets as they combine truth values. So a set without "true" lets a
//! scan leave the page out, and the set of "true" alone lets its summary stand for it.

use std::cmp::Ordering;

use arrow_schema::{DataType as Arrow, Schema};
use chronos_store::segment::{ColumnRange, ColumnStats, PageMeta};
use chronos_store::ScanColumn;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr,
    IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_expr::PhysicalExpr;

/// A longer IN list is not compared with pages.
const LIST_MAX: usize = 256;

/// The columns of a scan's output, as far as they are columns of its table.
#[derive(Clone, Copy)]
pub(super) struct PageColumns<'a> {
    pub(super) schema: &'a Schema,
    pub(super) columns: &'a [ScanColumn],
}

impl PageColumns<'_> {
    /// What is known of an output column in a page; `None`: nothing.
    pub(super) fn stats<'p>(&self, page: &'p PageMeta, position: usize) -> Option<&'p ColumnStats> {
        match self.columns.get(position)? {
            ScanColumn::Column(column) => page.columns.get(*column),
            ScanColumn::System(_) => None,
        }
    }

    /// The column that an expression is, widened at most: its values are the column's.
    pub(super) fn plain(&self, expr: &dyn PhysicalExpr) -> Option<usize> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return (column.index() < self.columns.len()).then_some(column.index());
        }
        let cast = expr.downcast_ref::<CastExpr>()?;
        let from = cast.expr().data_type(self.schema).ok()?;
        widens(&from, cast.cast_type())
            .then(|| self.plain(cast.expr().as_ref()))
            .flatten()
    }
}

/// Whether a cast keeps every value.
fn widens(from: &Arrow, to: &Arrow) -> bool {
    from == to
        || matches!(
            (from, to),
            (Arrow::Int16, Arrow::Int32 | Arrow::Int64)
                | (Arrow::Int32, Arrow::Int64)
                | (Arrow::Float32, Arrow::Float64)
        )
}

/// A set of outcomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outcomes(u8);

impl Outcomes {
    const NONE: Outcomes = Outcomes(0);
    const TRUE: Outcomes = Outcomes(1);
    const FALSE: Outcomes = Outcomes(2);
    const NULL: Outcomes = Outcomes(4);
    const ANY: Outcomes = Outcomes(7);

    fn or(self, other: Outcomes) -> Outcomes {
        Outcomes(self.0 | other.0)
    }

    fn when(self, condition: bool) -> Outcomes {
        if condition {
            self
        } else {
            Outcomes::NONE
        }
    }

    fn has(self, outcome: Outcomes) -> bool {
        self.0 & outcome.0 != 0
    }

    /// No row fulfils the condition.
    pub(super) fn are_never_true(self) -> bool {
        !self.has(Outcomes::TRUE)
    }

    /// Every row fulfils it.
    pub(super) fn are_always_true(self) -> bool {
        self == Outcomes::TRUE
    }

    /// Of `a AND b`.
    fn and_both(self, other: Outcomes) -> Outcomes {
        let not_false = |o: Outcomes| o.has(Outcomes::TRUE) || o.has(Outcomes::NULL);
        let null = (self.has(Outcomes::NULL) && not_false(other))
            || (other.has(Outcomes::NULL) && not_false(self));
        Outcomes::TRUE
            .when(self.has(Outcomes::TRUE) && other.has(Outcomes::TRUE))
            .or(Outcomes::FALSE.when(self.has(Outcomes::FALSE) || other.has(Outcomes::FALSE)))
            .or(Outcomes::NULL.when(null))
    }

    fn negated(self) -> Outcomes {
        Outcomes::TRUE
            .when(self.has(Outcomes::FALSE))
            .or(Outcomes::FALSE.when(self.has(Outcomes::TRUE)))
            .or(Outcomes::NULL.when(self.has(Outcomes::NULL)))
    }

    /// Of `a OR b`.
    fn or_either(self, other: Outcomes) -> Outcomes {
        self.negated().and_both(other.negated()).negated()
    }
}

/// What rows of a page can make of all of some conditions together.
pub(super) fn judge_all<'e>(
    conditions: impl IntoIterator<Item = &'e std::sync::Arc<dyn PhysicalExpr>>,
    page: &PageMeta,
    columns: PageColumns<'_>,
) -> Outcomes {
    let mut all = Outcomes::TRUE;
    for condition in conditions {
        all = all.and_both(judge(condition.as_ref(), page, columns));
        if all.are_never_true() {
            break;
        }
    }
    all
}

/// What rows of a page can make of a condition.
pub(super) fn judge(
    expr: &dyn PhysicalExpr,
    page: &PageMeta,
    columns: PageColumns<'_>,
) -> Outcomes {
    let judge = |e: &dyn PhysicalExpr| judge(e, page, columns);
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left().as_ref(), binary.right().as_ref());
        return match binary.op() {
            Operator::And => judge(left).and_both(judge(right)),
            Operator::Or => judge(left).or_either(judge(right)),
            op => match (
                left.downcast_ref::<Literal>(),
                right.downcast_ref::<Literal>(),
            ) {
                (None, Some(literal)) => compare(left, *op, literal.value(), page, columns),
                (Some(literal), None) => match op.swap() {
                    Some(op) => compare(right, op, literal.value(), page, columns),
                    None => Outcomes::ANY,
                },
                _ => Outcomes::ANY,
            },
        };
    }
    if let Some(dynamic) = expr.downcast_ref::<DynamicFilterPhysicalExpr>() {
        return dynamic
            .current()
            .map_or(Outcomes::ANY, |e| judge(e.as_ref()));
    }
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        return judge(not.arg().as_ref()).negated();
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return judge_list(list, page, columns);
    }
    if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
        return judge_null(is_null.arg().as_ref(), page, columns);
    }
    if let Some(is_not_null) = expr.downcast_ref::<IsNotNullExpr>() {
        return judge_null(is_not_null.arg().as_ref(), page, columns).negated();
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return match literal.value() {
            ScalarValue::Boolean(Some(true)) => Outcomes::TRUE,
            ScalarValue::Boolean(Some(false)) => Outcomes::FALSE,
            ScalarValue::Boolean(None) | ScalarValue::Null => Outcomes::NULL,
            _ => Outcomes::ANY,
        };
    }
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        let branches = case.when_then_expr().iter().map(|(_, then)| then);
        let all = branches.chain(case.else_expr());
        let outcomes = all.fold(Outcomes::NONE, |sum, e| sum.or(judge(e.as_ref())));
        return outcomes.or(Outcomes::NULL.when(case.else_expr().is_none()));
    }
    if expr.downcast_ref::<Column>().is_some() {
        let is = ScalarValue::Boolean(Some(true));
        return compare(expr, Operator::Eq, &is, page, columns);
    }
    Outcomes::ANY
}

fn judge_list(list: &InListExpr, page: &PageMeta, columns: PageColumns<'_>) -> Outcomes {
    if list.len() > LIST_MAX {
        return Outcomes::ANY;
    }
    let mut found = Outcomes::FALSE;
    for item in list.list() {
        let Some(literal) = item.downcast_ref::<Literal>() else {
            return Outcomes::ANY;
        };
        let equal = compare(
            list.expr().as_ref(),
            Operator::Eq,
            literal.value(),
            page,
            columns,
        );
        found = found.or_either(equal);
    }
    if list.negated() {
        found.negated()
    } else {
        found
    }
}

fn judge_null(expr: &dyn PhysicalExpr, page: &PageMeta, columns: PageColumns<'_>) -> Outcomes {
    let stats = columns.plain(expr).and_then(|c| columns.stats(page, c));
    match stats {
        None => Outcomes::TRUE.or(Outcomes::FALSE),
        Some(stats) => Outcomes::TRUE
            .when(stats.null_count > 0)
            .or(Outcomes::FALSE.when(stats.null_count < page.rows)),
    }
}

/// Of a comparison of a column with a constant.
fn compare(
    expr: &dyn PhysicalExpr,
    op: Operator,
    constant: &ScalarValue,
    page: &PageMeta,
    columns: PageColumns<'_>,
) -> Outcomes {
    let is_ordered = matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
    );
    let stats = columns.plain(expr).and_then(|c| columns.stats(page, c));
    let (true, Some(stats)) = (is_ordered, stats) else {
        return Outcomes::ANY;
    };
    if constant.is_null() || stats.null_count == page.rows {
        return Outcomes::NULL;
    }
    let null = Outcomes::NULL.when(stats.null_count > 0);
    let order = match (&stats.range, expr.data_type(columns.schema)) {
        (Some(range), Ok(data_type)) => order(range, &data_type, constant),
        _ => None,
    };
    let Some(Order {
        less,
        equal,
        greater,
    }) = order
    else {
        return Outcomes::TRUE.or(Outcomes::FALSE).or(null);
    };
    let holds = match op {
        Operator::Eq => (equal, less || greater),
        Operator::NotEq => (less || greater, equal),
        Operator::Lt => (less, equal || greater),
        Operator::LtEq => (less || equal, greater),
        Operator::Gt => (greater, less || equal),
        _ => (greater || equal, less),
    };
    Outcomes::TRUE
        .when(holds.0)
        .or(Outcomes::FALSE.when(holds.1))
        .or(null)
}

/// Which values a range can hold, as seen from a constant.
struct Order {
    less: bool,
    equal: bool,
    greater: bool,
}

impl Order {
    fn of(low: Ordering, high: Ordering) -> Order {
        Order {
            less: low.is_lt(),
            equal: low.is_le() && high.is_ge(),
            greater: high.is_gt(),
        }
    }
}

/// `None`: they cannot be compared here.
fn order(range: &ColumnRange, data_type: &Arrow, constant: &ScalarValue) -> Option<Order> {
    match range {
        ColumnRange::Int { min, max, .. } => {
            let constant = integer(constant, data_type)?;
            Some(Order::of(min.cmp(&constant), max.cmp(&constant)))
        }
        ColumnRange::Float { min, max, .. } => {
            let constant = match constant {
                ScalarValue::Float32(Some(v)) => f64::from(*v),
                ScalarValue::Float64(Some(v)) => *v,
                _ => return None,
            };
            let ends = (min.partial_cmp(&constant)?, max.partial_cmp(&constant)?);
            let order = Order::of(ends.0, ends.1);
            // The engine's kernels tell the two zeros apart, in one way or the other.
            let any_zero = constant == 0.0 && order.equal;
            Some(Order {
                less: order.less || any_zero,
                greater: order.greater || any_zero,
                ..order
            })
        }
        ColumnRange::Decimal(bounds) => match (constant, data_type) {
            (ScalarValue::Decimal128(Some(v), _, scale), Arrow::Decimal128(_, own))
                if scale == own =>
            {
                Some(Order::of(bounds.0.cmp(v), bounds.1.cmp(v)))
            }
            _ => None,
        },
        ColumnRange::Bytes { min, max } => {
            let constant = match (constant, data_type) {
                (
                    ScalarValue::Utf8(Some(v))
                    | ScalarValue::Utf8View(Some(v))
                    | ScalarValue::LargeUtf8(Some(v)),
                    Arrow::Utf8 | Arrow::Utf8View | Arrow::LargeUtf8,
                ) => v.as_bytes(),
                (
                    ScalarValue::Binary(Some(v))
                    | ScalarValue::BinaryView(Some(v))
                    | ScalarValue::LargeBinary(Some(v)),
                    Arrow::Binary | Arrow::BinaryView | Arrow::LargeBinary,
                ) => v.as_slice(),
                _ => return None,
            };
            Some(Order::of((**min).cmp(constant), (**max).cmp(constant)))
        }
    }
}

/// The constant as the integers of the statistics of such a column are.
fn integer(constant: &ScalarValue, data_type: &Arrow) -> Option<i64> {
    let is_integer = matches!(data_type, Arrow::Int16 | Arrow::Int32 | Arrow::Int64);
    let is_same = constant.data_type() == *data_type;
    match constant {
        ScalarValue::Int16(Some(v)) if is_integer => Some(i64::from(*v)),
        ScalarValue::Int32(Some(v)) if is_integer => Some(i64::from(*v)),
        ScalarValue::Int64(Some(v)) if is_integer => Some(*v),
        ScalarValue::Boolean(Some(v)) if is_same => Some(i64::from(*v)),
        ScalarValue::Date32(Some(v)) if is_same => Some(i64::from(*v)),
        ScalarValue::Time64Microsecond(Some(v)) if is_same => Some(*v),
        ScalarValue::TimestampMicrosecond(Some(v), _) if is_same => Some(*v),
        _ => None,
    }
}
