//! Joins that find nothing can be stopped.
//!
//! A task can be stopped where it yields, and a join yields where it gives a batch
//! ([`super::yielding`]). One that compares a million rows with a million and keeps none
//! gives no batch for minutes. So the conditions of joins look, each time they are
//! evaluated, whether anybody still waits for the query, and now and then let the runtime
//! move other tasks off their thread: among these is the one that would say so. The query
//! runs on a task of its own, so that whoever waits for it can stop waiting.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Schema, SchemaRef};
use chronos_model::SqlState;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::ExecutionPlan;
use futures::{Stream, StreamExt};

use crate::QueryError;

/// Batches that may wait for the reader.
const BATCHES_AHEAD: usize = 2;
/// So many evaluations of a condition go by between two chances for other tasks.
const EVALUATIONS_PER_TURN: u64 = 16;

/// A plan, and what stops its joins; `None`: it has none to be stopped.
type Watchable = (Arc<dyn ExecutionPlan>, Option<Arc<AtomicBool>>);

/// The plan with its joins' conditions watched.
pub(super) fn watched(plan: Arc<dyn ExecutionPlan>) -> DfResult<Watchable> {
    let stopped = Arc::new(AtomicBool::new(false));
    let watched = plan.transform_up(|node| {
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            if let Some(filter) = join.filter() {
                let filter = Some(watch(filter, &stopped));
                let join = NestedLoopJoinExecBuilder::from(join)
                    .with_filter(filter)
                    .build()?;
                return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
            }
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            if let Some(filter) = join.filter() {
                let filter = Some(watch(filter, &stopped));
                let join = join.builder().with_filter(filter).build()?;
                return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
            }
        }
        Ok(Transformed::no(node))
    })?;
    let stop = watched.transformed.then_some(stopped);
    Ok((watched.data, stop))
}

fn watch(filter: &JoinFilter, stopped: &Arc<AtomicBool>) -> JoinFilter {
    let condition = Watched {
        condition: Arc::clone(filter.expression()),
        stopped: Arc::clone(stopped),
        evaluations: Arc::default(),
    };
    JoinFilter::new(
        Arc::new(condition),
        filter.column_indices().to_vec(),
        Arc::clone(filter.schema()),
    )
}

/// A join's condition.
#[derive(Debug)]
struct Watched {
    condition: Arc<dyn PhysicalExpr>,
    stopped: Arc<AtomicBool>,
    evaluations: Arc<AtomicU64>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.condition.as_ref() == other.condition.as_ref()
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> DfResult<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> DfResult<bool> {
        self.condition.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> DfResult<FieldRef> {
        self.condition.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        if self.stopped.load(Ordering::Relaxed) {
            let message = "canceling statement due to user request";
            return Err(QueryError::new(SqlState::QUERY_CANCELED, message).into());
        }
        let evaluations = self.evaluations.fetch_add(1, Ordering::Relaxed);
        if evaluations.is_multiple_of(EVALUATIONS_PER_TURN) && runs_on_many_threads() {
            return tokio::task::block_in_place(|| self.condition.evaluate(batch));
        }
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(match children.pop() {
            Some(condition) => Arc::new(Watched {
                condition,
                stopped: Arc::clone(&self.stopped),
                evaluations: Arc::clone(&self.evaluations),
            }),
            None => self,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

fn runs_on_many_threads() -> bool {
    tokio::runtime::Handle::try_current()
        .is_ok_and(|h| h.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
}

/// The stream, run on its own task; when it is dropped, the watched joins stop.
pub(super) fn on_own_task(
    mut stream: SendableRecordBatchStream,
    stopped: Arc<AtomicBool>,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStreamBuilder::new(stream.schema(), BATCHES_AHEAD);
    let sender = builder.tx();
    builder.spawn(async move {
        while let Some(batch) = stream.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    Box::pin(Stoppable {
        stream: builder.build(),
        stopped,
    })
}

struct Stoppable {
    stream: SendableRecordBatchStream,
    stopped: Arc<AtomicBool>,
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Stream for Stoppable {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(context)
    }
}

impl RecordBatchStream for Stoppable {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }
}
