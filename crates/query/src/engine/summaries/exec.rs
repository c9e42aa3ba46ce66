//! The operator that gives what summaries of pages come to, and then what a partial
//! aggregate makes of the pages that have to be read.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::StreamExt;

use super::totals::Summary;

/// Partial results out of statistics, in front of those of the rest, if there is a rest.
#[derive(Debug)]
pub(super) struct SummaryExec {
    summary: Summary,
    rest: Option<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SummaryExec {
    /// `partial` would make all of it.
    pub(super) fn new(
        summary: Summary,
        rest: Option<Arc<dyn ExecutionPlan>>,
        partial: &AggregateExec,
    ) -> SummaryExec {
        let partitions = match &rest {
            Some(rest) => rest.properties().partitioning.partition_count(),
            None => 1,
        };
        let like = partial.properties();
        let properties = PlanProperties::new(
            like.eq_properties.clone(),
            Partitioning::UnknownPartitioning(partitions),
            like.emission_type,
            like.boundedness,
        );
        SummaryExec {
            summary,
            rest,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for SummaryExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Summary { pages, rows, .. } = &self.summary;
        write!(f, "SummaryExec: pages={pages}, rows={rows}")
    }
}

impl ExecutionPlan for SummaryExec {
    fn name(&self) -> &str {
        "SummaryExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.rest.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let rest = children.pop();
        let partitions = rest
            .as_ref()
            .map_or(1, |rest| rest.properties().partitioning.partition_count());
        let properties = PlanProperties::clone(&self.properties)
            .with_partitioning(Partitioning::UnknownPartitioning(partitions));
        Ok(Arc::new(SummaryExec {
            summary: self.summary.clone(),
            rest,
            properties: Arc::new(properties),
            metrics: self.metrics.clone(),
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let rest = match &self.rest {
            Some(rest) => rest.execute(partition, context)?.left_stream(),
            None => futures::stream::empty().right_stream(),
        };
        if partition > 0 {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rest)));
        }
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        metrics.record_output(self.summary.batch.num_rows());
        let summary = futures::stream::iter([Ok(self.summary.batch.clone())]);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            summary.chain(rest),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
