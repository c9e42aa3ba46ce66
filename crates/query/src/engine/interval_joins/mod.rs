//! Joins by periods: `a.from < b.to AND b.from < a.to`, with equal keys or without.
//!
//! The engine has a nested loop for it, which compares each row with each, or a hash join that
//! does so within a key. Both are replaced, as soon as they are planned, if their filter says
//! that two stretches meet:
//!
//! ```text
//! left low <= right high  AND  right low <= left high
//!
//!   left, held      sorted by (key, low); maxima of the highs over it, in steps of 16
//!   right, streams  of each row: the held rows of its key with low <= its high (a prefix),
//!                   and of these, by the maxima, those with high >= its low
//! ```
//!
//! Every pair of opposed comparisons is such a condition: overlaps, a moment in a period, one
//! period within another, equal periods. [`bounds`] finds it in a filter, [`ranks`] makes numbers
//! of its bounds, [`intervals`] finds the pairs, [`exec`] is the operator and [`stream`] one
//! of its partitions, which tests what is left of the filter on them.

mod bounds;
mod exec;
mod held;
mod intervals;
mod pairs;
mod ranks;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::JoinType;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::ExecutionPlan;

pub(super) use exec::IntervalJoinExec;

/// Puts [`IntervalJoinExec`] in the place of joins by periods.
#[derive(Debug)]
pub(super) enum JoinIntervals {
    /// Before the engine takes filters of nested loops apart.
    NestedLoops,
    /// When hash joins have told the scans what they will find out.
    HashJoins,
}

impl PhysicalOptimizerRule for JoinIntervals {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|node| {
            let by_interval = match self {
                JoinIntervals::NestedLoops => node.downcast_ref().map(of_nested_loops),
                JoinIntervals::HashJoins => node.downcast_ref().map(of_hash_join),
            };
            let by_interval = by_interval.transpose()?.flatten();
            Ok(match by_interval {
                Some(join) => Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })?;
        Ok(replaced.data)
    }

    fn name(&self) -> &str {
        match self {
            JoinIntervals::NestedLoops => "join_intervals",
            JoinIntervals::HashJoins => "join_intervals_by_key",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What an interval join is made of.
struct Parts<'a> {
    node: &'a dyn ExecutionPlan,
    left: &'a Arc<dyn ExecutionPlan>,
    right: &'a Arc<dyn ExecutionPlan>,
    join_type: JoinType,
    projection: Option<Vec<usize>>,
}

fn of_nested_loops(join: &NestedLoopJoinExec) -> DfResult<Option<IntervalJoinExec>> {
    let Some(found) = join.filter().and_then(bounds::find) else {
        return Ok(None);
    };
    if is_mark(*join.join_type()) {
        return Ok(None);
    }
    let parts = Parts {
        node: join,
        left: join.left(),
        right: join.right(),
        join_type: *join.join_type(),
        projection: join.projection().as_ref().map(|p| p.to_vec()),
    };
    IntervalJoinExec::try_new(parts, found, None).map(Some)
}

fn of_hash_join(join: &HashJoinExec) -> DfResult<Option<IntervalJoinExec>> {
    let Some(found) = join.filter().and_then(bounds::find) else {
        return Ok(None);
    };
    let (left, right) = (join.left().schema(), join.right().schema());
    for (of_left, of_right) in join.on() {
        let types = (of_left.data_type(&left)?, of_right.data_type(&right)?);
        if types.0 != types.1 || !is_key(&types.0) {
            return Ok(None);
        }
    }
    if is_mark(*join.join_type()) || join.null_aware || join.mode == PartitionMode::Auto {
        return Ok(None);
    }
    let parts = Parts {
        node: join,
        left: join.left(),
        right: join.right(),
        join_type: *join.join_type(),
        projection: join.projection.as_ref().map(|p| p.to_vec()),
    };
    let keys = exec::Keys {
        on: join.on().to_vec(),
        null_equality: join.null_equality(),
        is_partitioned: join.mode == PartitionMode::Partitioned,
        dynamic_filters: join.dynamic_expressions_produced(),
    };
    IntervalJoinExec::try_new(parts, found, Some(keys)).map(Some)
}

fn is_mark(join_type: JoinType) -> bool {
    matches!(join_type, JoinType::LeftMark | JoinType::RightMark)
}

/// Types whose values are equal if, and only if, their bytes are.
fn is_key(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_temporal()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Decimal128(..)
                | DataType::Utf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
}
