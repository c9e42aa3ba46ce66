//! Joins for which memory does not suffice.
//!
//! A hash join holds one of its inputs and cannot spill it; a join of sorted inputs can, and
//! takes longer. So hash joins are planned, and when one is refused its memory before a row has
//! left the query, the query begins again with sorted inputs:
//!
//! ```text
//!   hash joins --first batch--> the rest of them
//!        \--out of memory, no row yet--> the same plan, sorted joins --> all of them
//! ```
//!
//! Both read the same view, so nobody sees that there were two.

use std::future::Future;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use super::interval_joins::IntervalJoinExec;

/// The engine plans sorted joins for so many partitions or more only.
const PARTITIONS_MIN: usize = 2;

/// Whether the plan has a join that could be one of sorted inputs.
pub(super) fn has_hash_join(plan: &Arc<dyn ExecutionPlan>) -> DfResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= node
            .downcast_ref::<HashJoinExec>()
            .is_some_and(|join| !join.null_aware);
        // It took the place of one.
        found |= node
            .downcast_ref::<IntervalJoinExec>()
            .is_some_and(IntervalJoinExec::has_keys);
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// The state of a statement that plans joins of sorted inputs.
pub(super) fn without_hash_joins(mut state: SessionState) -> SessionState {
    let options = state.config_mut().options_mut();
    options.optimizer.prefer_hash_join = false;
    let partitions = &mut options.execution.target_partitions;
    *partitions = (*partitions).max(PARTITIONS_MIN);
    state
}

/// The rows of `first`, or, if it is out of memory before its first, of what `again` makes.
pub(super) fn or_again<F>(
    first: SendableRecordBatchStream,
    again: impl FnOnce() -> F + Send + 'static,
) -> SendableRecordBatchStream
where
    F: Future<Output = DfResult<SendableRecordBatchStream>> + Send + 'static,
{
    let schema = first.schema();
    let rows = async move {
        let mut first = first;
        let batch = loop {
            match first.next().await {
                // No row has left the query yet.
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                other => break other,
            }
        };
        match batch {
            Some(Err(e)) if is_out_of_memory(&e) => {
                // What it holds is needed by the next.
                drop(first);
                tracing::debug!(reason = %e, "hash joins give way to joins of sorted inputs");
                let second = again().await?;
                Ok::<_, DataFusionError>(second.boxed())
            }
            other => Ok(futures::stream::iter(other).chain(first).boxed()),
        }
    };
    let rows = futures::stream::once(rows).try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}
