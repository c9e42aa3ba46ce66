//! Finding in a join's filter that two stretches meet.
//!
//! The filter is taken apart at AND, and so is what a CASE gives that else gives NULL, as the
//! predicates of periods have it: a filter asks for TRUE only. A part that compares an expression
//! of one side with one of the other bounds the pairs; what else is asked of a NULL there says
//! whether it is an open bound (`x IS NULL OR x <= y`, `(x <= y) IS NOT FALSE`) or none at all.
//! Two opposed comparisons make an interval join. What they do not say exactly stays in the filter.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    lit, BinaryExpr, CaseExpr, Column, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};

use super::ranks;

type Expression = Arc<dyn PhysicalExpr>;

/// One end of a stretch: an expression over one side's rows.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) expression: Expression,
    /// What NULL counts as.
    pub(super) null: i64,
}

/// When a row of the left and one of the right meet: `left.low <= right.high` and
/// `right.low <= left.high`, or `<`.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    pub(super) left: Stretch,
    pub(super) right: Stretch,
    /// As EXPLAIN shows it.
    pub(super) shown: String,
}

#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) low: Bound,
    pub(super) high: Bound,
    /// How much lower the high has to be taken, so that `<` becomes `<=`.
    pub(super) high_less: i64,
}

/// What is found in a filter.
pub(super) struct Found {
    pub(super) meeting: Meeting,
    /// What else has to be so of a pair.
    pub(super) filter: Option<JoinFilter>,
}

/// `lower <= upper`, or `<`; each of one side.
struct Comparison {
    lower: Bound,
    upper: Bound,
    lower_side: JoinSide,
    /// Whether the lower has to be below the upper, and that can be said in numbers.
    is_below: bool,
    /// Which part of the filter it is, if it says all that this says.
    instead_of: Option<usize>,
    shown: String,
}

/// The condition of an interval join, if a filter has one.
pub(super) fn find(filter: &JoinFilter) -> Option<Found> {
    let mut parts = Vec::new();
    take_apart(filter.expression(), &mut parts);
    let mut comparisons = Vec::new();
    for (position, part) in parts.iter().enumerate() {
        Finder { filter }.comparisons(part, position, &mut comparisons);
    }
    let (of_left, of_right) = opposed(&comparisons)?;
    let stretch = |low: &Comparison, high: &Comparison| Stretch {
        low: low.lower.clone(),
        high: high.upper.clone(),
        high_less: i64::from(high.is_below),
    };
    let meeting = Meeting {
        left: stretch(of_left, of_right),
        right: stretch(of_right, of_left),
        shown: format!("{} AND {}", of_left.shown, of_right.shown),
    };
    let said = [of_left.instead_of, of_right.instead_of];
    let rest = parts.iter().enumerate();
    let rest = rest.filter(|(position, _)| !said.contains(&Some(*position)));
    let rest = rest.map(|(_, part)| Arc::clone(part)).reduce(and);
    let filter = rest.map(|rest| {
        let indices = filter.column_indices().to_vec();
        JoinFilter::new(rest, indices, Arc::clone(filter.schema()))
    });
    Some(Found { meeting, filter })
}

fn and(left: Expression, right: Expression) -> Expression {
    Arc::new(BinaryExpr::new(left, Operator::And, right))
}

/// A comparison whose lower is of the left and one whose lower is of the right, the best of
/// which there are: with a common bound, or of one type.
fn opposed(all: &[Comparison]) -> Option<(&Comparison, &Comparison)> {
    let of = |side: JoinSide| all.iter().filter(move |c| c.lower_side == side);
    let shares = |l: &Comparison, r: &Comparison| {
        let same = |a: &Bound, b: &Bound| a.expression.eq(&b.expression);
        same(&l.lower, &r.upper) || same(&l.upper, &r.lower)
    };
    let pairs = of(JoinSide::Left).flat_map(|l| of(JoinSide::Right).map(move |r| (l, r)));
    let pairs: Vec<_> = pairs.collect();
    let best = pairs.iter().find(|(l, r)| shares(l, r));
    best.or(pairs.first()).copied()
}

/// The parts of a filter, all of which have to be TRUE.
fn take_apart(expression: &Expression, parts: &mut Vec<Expression>) {
    if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        if *binary.op() == Operator::And {
            take_apart(binary.left(), parts);
            take_apart(binary.right(), parts);
            return;
        }
        if *binary.op() == Operator::Or {
            let mut cases = Vec::new();
            take_cases(expression, &mut cases);
            // What the engine makes of CASE: `x AND NULL OR NOT x AND ..`.
            cases.retain(|case| !is_never_true(case));
            if let [case] = cases.as_slice() {
                take_apart(case, parts);
                return;
            }
        }
    }
    match else_of(expression) {
        Some((excluded, rest)) => {
            for condition in excluded {
                parts.push(is(condition, Operator::IsDistinctFrom, true));
            }
            take_apart(&rest, parts);
        }
        None => parts.push(Arc::clone(expression)),
    }
}

fn is_missing(expression: &Expression) -> bool {
    let literal = expression.downcast_ref::<Literal>();
    literal.is_some_and(|l| l.value().is_null() || *l.value() == ScalarValue::from(false))
}

fn is_never_true(expression: &Expression) -> bool {
    let both = |binary: &BinaryExpr| match binary.op() {
        Operator::And => is_never_true(binary.left()) || is_never_true(binary.right()),
        _ => false,
    };
    is_missing(expression) || expression.downcast_ref::<BinaryExpr>().is_some_and(both)
}

fn is(expression: Expression, operator: Operator, value: bool) -> Expression {
    Arc::new(BinaryExpr::new(expression, operator, lit(value)))
}

/// Of `CASE WHEN x THEN NULL .. ELSE y END` all x and y, if no part of it can fail: only then does
/// it not matter what is evaluated for which rows.
fn else_of(expression: &Expression) -> Option<(Vec<Expression>, Expression)> {
    let case = expression.downcast_ref::<CaseExpr>()?;
    let rest = case.else_expr()?;
    let branches = case.when_then_expr();
    let is_it = case.expr().is_none() && branches.iter().all(|(_, then)| is_missing(then));
    if !is_it || !cannot_fail(expression) {
        return None;
    }
    let excluded = branches.iter().map(|(when, _)| Arc::clone(when)).collect();
    Some((excluded, Arc::clone(rest)))
}

/// Whether an expression consists of columns, constants and comparisons.
fn cannot_fail(expression: &Expression) -> bool {
    let mut can_fail = false;
    let visited = expression.apply(|e| {
        let is_plain = e.downcast_ref::<Column>().is_some()
            || e.downcast_ref::<Literal>().is_some()
            || e.downcast_ref::<CaseExpr>().is_some()
            || e.downcast_ref::<IsNullExpr>().is_some()
            || e.downcast_ref::<IsNotNullExpr>().is_some()
            || e.downcast_ref::<NotExpr>().is_some();
        let binary = e.downcast_ref::<BinaryExpr>();
        let compares = binary.is_some_and(|b| {
            matches!(
                b.op(),
                Operator::And
                    | Operator::Or
                    | Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            )
        });
        can_fail |= !is_plain && !compares;
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && !can_fail
}

/// What is asked of NULLs around a comparison.
#[derive(Clone, Default)]
struct Nulls {
    /// A NULL on either side is as good as TRUE.
    pass: bool,
    /// Expressions that may be NULL instead.
    or_null: Vec<Expression>,
}

struct Finder<'a> {
    filter: &'a JoinFilter,
}

impl Finder<'_> {
    /// The comparisons that have to be so where a part of the filter is TRUE.
    fn comparisons(&self, part: &Expression, position: usize, found: &mut Vec<Comparison>) {
        if let Some((left, right)) = equal(part) {
            // NULL may equal NULL: here it is a value, lower than all.
            for (lower, upper) in [(&left, &right), (&right, &left)] {
                let bound = |e: &Expression| Bound {
                    expression: Arc::clone(e),
                    null: ranks::LOWEST,
                };
                found.extend(self.comparison(bound(lower), bound(upper), false, None));
            }
            return;
        }
        let Some((binary, nulls)) = within(part, Nulls::default()) else {
            return;
        };
        let (lower, upper, is_below) = match binary.op() {
            Operator::Lt => (binary.left(), binary.right(), true),
            Operator::LtEq => (binary.left(), binary.right(), false),
            Operator::Gt => (binary.right(), binary.left(), true),
            Operator::GtEq => (binary.right(), binary.left(), false),
            _ => return,
        };
        let passes = |e: &Expression| nulls.pass || nulls.or_null.iter().any(|n| n.eq(e));
        // Whoever may be NULL instead has to be a bound, else the comparison need not be so.
        if nulls.or_null.iter().any(|n| !n.eq(lower) && !n.eq(upper)) {
            return;
        }
        let bound = |e: &Expression, open, closed| Bound {
            expression: Arc::clone(e),
            null: if passes(e) { open } else { closed },
        };
        let lower = bound(lower, ranks::LOWEST, ranks::HIGHEST);
        let upper = bound(upper, ranks::HIGHEST, ranks::LOWEST);
        found.extend(self.comparison(lower, upper, is_below, Some(position)));
    }

    fn comparison(
        &self,
        lower: Bound,
        upper: Bound,
        is_below: bool,
        position: Option<usize>,
    ) -> Option<Comparison> {
        let data_type = lower.expression.data_type(self.filter.schema()).ok()?;
        let other = upper.expression.data_type(self.filter.schema()).ok()?;
        if data_type != other || !ranks::are_there(&data_type) {
            return None;
        }
        let shown = format!(
            "{} {} {}",
            lower.expression,
            if is_below { "<" } else { "<=" },
            upper.expression
        );
        let is_exact = ranks::is_exact(&data_type);
        let (lower_side, lower) = self.of_side(lower)?;
        let (upper_side, upper) = self.of_side(upper)?;
        (lower_side != upper_side).then_some(Comparison {
            lower,
            upper,
            lower_side,
            is_below: is_below && is_exact,
            instead_of: position.filter(|_| is_exact),
            shown,
        })
    }

    /// The bound over the rows of the one side whose columns it has.
    fn of_side(&self, bound: Bound) -> Option<(JoinSide, Bound)> {
        let mut side = None;
        let moved = bound.expression.transform(|e| {
            let Some(column) = e.downcast_ref::<Column>() else {
                return Ok(match e.is_volatile_node() {
                    true => {
                        side = Some(JoinSide::None);
                        Transformed::no(e)
                    }
                    false => Transformed::no(e),
                });
            };
            let ColumnIndex { index, side: of } = self.filter.column_indices()[column.index()];
            side = match side {
                None => Some(of),
                Some(before) if before == of => Some(of),
                Some(_) => Some(JoinSide::None),
            };
            Ok(Transformed::yes(
                Arc::new(Column::new(column.name(), index)) as Expression,
            ))
        });
        let expression = moved.ok()?.data;
        let side = side.filter(|side| *side != JoinSide::None)?;
        let null = bound.null;
        Some((side, Bound { expression, null }))
    }
}

/// The comparison inside of what is asked around it.
fn within(part: &Expression, mut nulls: Nulls) -> Option<(&BinaryExpr, Nulls)> {
    let binary = part.downcast_ref::<BinaryExpr>()?;
    let is_boolean = |e: &Expression, value: bool| {
        let literal = e.downcast_ref::<Literal>();
        literal.is_some_and(|l| *l.value() == ScalarValue::from(value))
    };
    match binary.op() {
        Operator::IsDistinctFrom if is_boolean(binary.right(), false) => {
            nulls.pass = true;
            within(binary.left(), nulls)
        }
        Operator::IsNotDistinctFrom if is_boolean(binary.right(), true) => {
            within(binary.left(), nulls).filter(|(_, nulls)| !nulls.pass)
        }
        Operator::Or => {
            let mut cases = Vec::new();
            take_cases(part, &mut cases);
            let mut rest = None;
            for case in cases {
                match case.downcast_ref::<IsNullExpr>() {
                    Some(null) => nulls.or_null.push(Arc::clone(null.arg())),
                    None if rest.is_none() => rest = Some(case),
                    None => return None,
                }
            }
            within(rest?, nulls)
        }
        _ => Some((binary, nulls)),
    }
}

/// The parts of an expression, one of which has to be TRUE.
fn take_cases<'a>(expression: &'a Expression, cases: &mut Vec<&'a Expression>) {
    match expression.downcast_ref::<BinaryExpr>() {
        Some(binary) if *binary.op() == Operator::Or => {
            take_cases(binary.left(), cases);
            take_cases(binary.right(), cases);
        }
        _ => cases.push(expression),
    }
}

/// Both sides of an equality.
fn equal(part: &Expression) -> Option<(Expression, Expression)> {
    let binary = part.downcast_ref::<BinaryExpr>()?;
    match binary.op() {
        Operator::Eq | Operator::IsNotDistinctFrom => {
            let is_constant = |e: &Expression| e.downcast_ref::<Literal>().is_some();
            if is_constant(binary.left()) || is_constant(binary.right()) {
                return None;
            }
            Some((Arc::clone(binary.left()), Arc::clone(binary.right())))
        }
        _ => None,
    }
}
