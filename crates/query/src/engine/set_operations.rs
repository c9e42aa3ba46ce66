//! INTERSECT ALL and EXCEPT ALL as PostgreSQL counts them.
//!
//! The engine plans both as a semi- or anti-join, which asks whether a row is on the other
//! side. SQL asks how often: of a row that is there m times on the left and n times on the
//! right, INTERSECT ALL gives min(m, n) and EXCEPT ALL m - n. Numbering the equal rows of
//! each side from 1, and joining by that number too, answers this.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, NullEquality};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, Join, JoinType, LogicalPlan, Projection, Window,
};
use datafusion::optimizer::AnalyzerRule;

/// The number of a row among its equals.
const NUMBER: &str = "__nth_equal";

/// Makes set operations with ALL count.
#[derive(Debug)]
pub(super) struct CountDuplicates;

impl AnalyzerRule for CountDuplicates {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let counted = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if is_set_operation(&join) => {
                Ok(Transformed::yes(counted(join)?))
            }
            node => Ok(Transformed::no(node)),
        })?;
        Ok(counted.data)
    }

    fn name(&self) -> &str {
        "count_duplicates"
    }
}

/// Before optimization, no other join of these types takes NULLs as equal. Without ALL the
/// left side is distinct, and counting would change nothing.
fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

fn counted(join: Join) -> DfResult<LogicalPlan> {
    let shown = join
        .schema
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on.into_iter().unzip();
    let left = numbered(join.left, left_keys.clone(), "left")?;
    let right = numbered(join.right, right_keys.clone(), "right")?;
    let number = (number("left"), number("right"));
    let on = left_keys.into_iter().zip(right_keys).chain([number]);
    let joined = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on.collect(),
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    let joined = Arc::new(LogicalPlan::Join(joined));
    Ok(LogicalPlan::Projection(Projection::try_new(shown, joined)?))
}

fn number(side: &str) -> Expr {
    Expr::Column(Column::new_unqualified(format!("{NUMBER}_{side}")))
}

fn numbered(input: Arc<LogicalPlan>, equal: Vec<Expr>, side: &str) -> DfResult<LogicalPlan> {
    let number = row_number().partition_by(equal).build()?;
    let number = number.alias(format!("{NUMBER}_{side}"));
    Ok(LogicalPlan::Window(Window::try_new(vec![number], input)?))
}
