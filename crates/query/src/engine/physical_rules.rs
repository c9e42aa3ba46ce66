//! The rules that make physical plans better: the engine's, with ours between and behind.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::physical_optimizer::aggregate_statistics::AggregateStatistics;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::ExecutionPlan;

use super::interval_joins::JoinIntervals;
use super::scan::ScanExec;
use super::{conjunctions, held_bytes, indexes, key_order, summaries, yielding};

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// All of them, in the order in which they run. `fits_batches`: memory is so small that batches
/// which operators keep have to be no larger than their rows.
pub(super) fn all(fits_batches: bool) -> Vec<Rule> {
    // What an index sorts is settled first.
    let mut rules: Vec<Rule> = vec![Arc::new(indexes::IndexOrder)];
    for rule in PhysicalOptimizer::new().rules {
        match rule.name() {
            "aggregate_statistics" => rules.push(Arc::new(CountScans)),
            "ProjectionPushdown" => {
                rules.extend([Arc::new(JoinIntervals::NestedLoops) as Rule, rule])
            }
            "PushdownSort" => rules.extend([Arc::new(key_order::OrderByKey) as Rule, rule]),
            _ => rules.push(rule),
        }
    }
    rules.push(Arc::new(JoinIntervals::HashJoins));
    rules.push(Arc::new(yielding::YieldInJoins));
    rules.push(Arc::new(conjunctions::BalanceConjunctions));
    rules.push(Arc::new(summaries::SummarizePages));
    if fits_batches {
        rules.push(Arc::new(held_bytes::FitKeptBatches));
    }
    rules
}

/// The engine's rule that answers aggregates by exact statistics, but only right over a scan:
/// what operators in between make of statistics are estimates, whatever they are called.
#[derive(Debug)]
struct CountScans;

impl PhysicalOptimizerRule for CountScans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_down(|node| {
            if !is_over_scan(&node) {
                return Ok(Transformed::no(node));
            }
            let counted = AggregateStatistics::new().optimize(node, config)?;
            Ok(Transformed::new(counted, true, TreeNodeRecursion::Jump))
        })?;
        Ok(counted.data)
    }

    fn name(&self) -> &str {
        "count_scans"
    }

    /// What is never NULL is announced as that, where the aggregate did not know.
    fn schema_check(&self) -> bool {
        false
    }
}

/// Whether a plan is an aggregate of a scan, in one step or in two.
fn is_over_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut below = plan;
    let mut steps = 0;
    while let Some(aggregate) = below.downcast_ref::<AggregateExec>() {
        below = aggregate.input();
        steps += 1;
        let children = below.children();
        let is_exchange = below.name() == "CoalescePartitionsExec";
        if let (true, Some(child)) = (is_exchange, children.first().copied()) {
            below = child;
        }
    }
    steps > 0 && below.downcast_ref::<ScanExec>().is_some()
}
