//! `current_setting`: a plan is shared by sessions, so what a session has SET comes to the
//! function when the plan is run.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::functions::{self, Scope};

const NAME: &str = "current_setting";

fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if f.func.name() == NAME)
}

/// Whether a plan calls the function.
pub(super) fn are_asked(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(is_call(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// The plan with the session's settings in the place of the defaults.
pub(super) fn bind(plan: LogicalPlan, scope: &Arc<Scope>) -> DfResult<LogicalPlan> {
    let Some(function) = functions::find(NAME, || Arc::clone(scope)) else {
        return Ok(plan);
    };
    let bound = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|e| match e {
                Expr::ScalarFunction(call) if call.func.name() == NAME => {
                    Ok(Transformed::yes(function.call(call.args)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(bound.data)
}
