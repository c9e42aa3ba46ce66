//! Joins that may work for hours without giving a row.
//!
//! A join with a filter looks for rows inside one poll: where the filter refuses all pairs, it
//! neither yields nor sees that nobody waits any more, so two such queries would occupy two
//! workers for good, and with them the servers. Owns what is done about it:
//!
//! ```text
//!   session <--channel of 1-- task on the threads for long joins: joins, each filter asking `stop`
//!      \---- drops the stream: sets `stop` -------------------------------------------^
//! ```
//!
//! Plans without such a join are not touched and run where they are asked for.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_schema::{DataType as Arrow, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::DataFusionError;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
    SortMergeJoinExec,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{execute_stream, ExecutionPlan};
use futures::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Batches that may wait to be taken.
const BATCHES_AHEAD: usize = 1;
/// Stack of a thread, as large as that of the threads that plan.
const STACK_BYTES: usize = 8 << 20;

/// Threads for such joins, started when the first one comes.
#[derive(Debug)]
pub(super) struct LongJoins {
    threads: usize,
    runtime: OnceLock<Result<Runtime, String>>,
}

impl LongJoins {
    pub(super) fn new(threads: usize) -> LongJoins {
        LongJoins {
            threads: threads.max(1),
            runtime: OnceLock::new(),
        }
    }

    /// Runs a plan: here, unless it has such joins.
    pub(super) fn execute(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let stop = Arc::new(AtomicBool::new(false));
        let stoppable = stoppable(plan, &stop)?;
        if !stoppable.transformed {
            return execute_stream(stoppable.data, context);
        }
        let (plan, schema) = (Arc::clone(&stoppable.data), stoppable.data.schema());
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        self.runtime()?.spawn(async move {
            let mut stream = match execute_stream(plan, context) {
                Ok(stream) => stream,
                Err(e) => return drop(sender.send(Err(e)).await),
            };
            loop {
                let batch = tokio::select! {
                    () = sender.closed() => return,
                    batch = stream.next() => batch,
                };
                let Some(batch) = batch else { return };
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        let taken = (receiver, StopOnDrop(stop));
        let batches = futures::stream::unfold(taken, |(mut receiver, stop)| async move {
            receiver.recv().await.map(|batch| (batch, (receiver, stop)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn runtime(&self) -> DfResult<&Runtime> {
        let started = self.runtime.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(self.threads)
                .thread_stack_size(STACK_BYTES)
                .thread_name("long-join")
                .enable_time()
                .build()
                .map_err(|e| format!("cannot start the threads for joins: {e}"))
        });
        started
            .as_ref()
            .map_err(|e| DataFusionError::Execution(e.clone()))
    }
}

impl Drop for LongJoins {
    fn drop(&mut self) {
        // The last handle may go inside of a runtime, where waiting is not allowed.
        if let Some(Ok(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Whoever drops the rows wants no more of them.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The plan with a filter that asks `stop` in every join that has a filter.
fn stoppable(
    plan: Arc<dyn ExecutionPlan>,
    stop: &Arc<AtomicBool>,
) -> DfResult<Transformed<Arc<dyn ExecutionPlan>>> {
    plan.transform_up(|node| {
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            if let Some(filter) = join.filter() {
                let join = NestedLoopJoinExecBuilder::from(join)
                    .with_filter(Some(asking(filter, stop)))
                    .build()?;
                return Ok(Transformed::yes(Arc::new(join) as _));
            }
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            if let Some(filter) = join.filter() {
                let join = HashJoinExecBuilder::from(join)
                    .with_filter(Some(asking(filter, stop)))
                    .build_exec()?;
                return Ok(Transformed::yes(join));
            }
        }
        if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
            if let Some(filter) = join.filter() {
                let join = SortMergeJoinExec::try_new(
                    Arc::clone(join.left()),
                    Arc::clone(join.right()),
                    join.on().to_vec(),
                    Some(asking(filter, stop)),
                    join.join_type(),
                    join.sort_options().to_vec(),
                    join.null_equality(),
                )?;
                return Ok(Transformed::yes(Arc::new(join) as _));
            }
        }
        Ok(Transformed::no(node))
    })
}

fn asking(filter: &JoinFilter, stop: &Arc<AtomicBool>) -> JoinFilter {
    let expression = UnlessStopped {
        inner: Arc::clone(filter.expression()),
        stop: Arc::clone(stop),
    };
    JoinFilter::new(
        Arc::new(expression),
        filter.column_indices().to_vec(),
        Arc::clone(filter.schema()),
    )
}

/// An expression that fails as soon as nobody wants it.
#[derive(Debug)]
struct UnlessStopped {
    inner: Arc<dyn PhysicalExpr>,
    stop: Arc<AtomicBool>,
}

impl PartialEq for UnlessStopped {
    fn eq(&self, other: &UnlessStopped) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for UnlessStopped {}

impl Hash for UnlessStopped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for UnlessStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for UnlessStopped {
    fn data_type(&self, input: &Schema) -> DfResult<Arrow> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> DfResult<bool> {
        self.inner.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> DfResult<FieldRef> {
        self.inner.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DataFusionError::Execution("nobody wants the rows".into()));
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(UnlessStopped {
            inner,
            stop: Arc::clone(&self.stop),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
