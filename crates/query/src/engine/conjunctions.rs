//! Long filters as balanced trees: evaluating one is a recursion without a guard in the
//! engine, whose optimizer joins conditions to chains as deep as they are many.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::ExecutionPlan;

/// Conditions that stay a chain.
const CHAIN_MAX: usize = 64;

/// Balances the conditions of filters.
#[derive(Debug)]
pub(super) struct BalanceConjunctions;

impl PhysicalOptimizerRule for BalanceConjunctions {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let balanced = plan.transform_up(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else {
                return Ok(Transformed::no(node));
            };
            let conditions = conditions(filter.predicate());
            if conditions.len() <= CHAIN_MAX {
                return Ok(Transformed::no(node));
            }
            let filter = FilterExecBuilder::from(filter)
                .with_predicate(balanced(&conditions))
                .build()?;
            Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>))
        })?;
        Ok(balanced.data)
    }

    fn name(&self) -> &str {
        "balance_conjunctions"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The conditions of a chain that leans to the left, in their order.
fn conditions(predicate: &Arc<dyn PhysicalExpr>) -> Vec<Arc<dyn PhysicalExpr>> {
    let mut conditions = Vec::new();
    let mut rest = predicate;
    while let Some(both) = rest.downcast_ref::<BinaryExpr>() {
        if *both.op() != Operator::And {
            break;
        }
        conditions.push(Arc::clone(both.right()));
        rest = both.left();
    }
    conditions.push(Arc::clone(rest));
    conditions.reverse();
    conditions
}

fn balanced(conditions: &[Arc<dyn PhysicalExpr>]) -> Arc<dyn PhysicalExpr> {
    if let [only] = conditions {
        return Arc::clone(only);
    }
    let (left, right) = conditions.split_at(conditions.len() / 2);
    Arc::new(BinaryExpr::new(
        balanced(left),
        Operator::And,
        balanced(right),
    ))
}
