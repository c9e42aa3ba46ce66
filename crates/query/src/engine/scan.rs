//! The physical scan of a table: partitions of the store's scan as streams.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use chronos_model::TableSchema;
use chronos_store::{KeyRange, ReadView, ScanColumn, ScanPartition, ScanRequest, StoreError, VersionFilter};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::Statistics;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use parking_lot::Mutex;

use crate::QueryError;

/// Reads versions of one table out of a read view.
pub(super) struct ScanExec {
    table: Arc<TableSchema>,
    view: ReadView,
    request: ScanRequest,
    /// Planned partitions, each taken by its first execution.
    partitions: Mutex<Vec<Option<ScanPartition>>>,
    properties: Arc<PlanProperties>,
    statistics: Arc<Statistics>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    pub(super) fn new(
        table: Arc<TableSchema>,
        view: ReadView,
        request: ScanRequest,
        schema: SchemaRef,
        statistics: Statistics,
    ) -> DfResult<ScanExec> {
        let partitions = view.scan(&table, request.clone()).map_err(store_error)?;
        let ordering = key_ordering(&table, &request, &schema);
        let equivalence = EquivalenceProperties::new_with_orderings(Arc::clone(&schema), ordering);
        let properties = PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(partitions.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ScanExec {
            table,
            view,
            request,
            partitions: Mutex::new(partitions.into_iter().map(Some).collect()),
            properties: Arc::new(properties),
            statistics: Arc::new(statistics),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn take_partition(&self, partition: usize) -> DfResult<Option<ScanPartition>> {
        let mut planned = self.partitions.lock();
        match planned.get_mut(partition).and_then(Option::take) {
            Some(taken) => Ok(Some(taken)),
            None if planned.is_empty() => Ok(None),
            // Executed a second time (a recursive query, say): plan it anew.
            None => {
                let mut again = self.view.scan(&self.table, self.request.clone()).map_err(store_error)?;
                Ok((partition < again.len()).then(|| again.swap_remove(partition)))
            }
        }
    }
}

/// Rows leave each partition in key order.
fn key_ordering(table: &TableSchema, request: &ScanRequest, schema: &SchemaRef) -> Vec<Vec<PhysicalSortExpr>> {
    let mut ordering = Vec::new();
    for &key in &table.primary_key {
        let position = request.columns.iter().position(|c| matches!(c, ScanColumn::Column(i) if *i == key));
        let Some(position) = position else { break };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(position).name(), position));
        ordering.push(PhysicalSortExpr::new_default(column));
    }
    if ordering.is_empty() { vec![] } else { vec![ordering] }
}

pub(super) fn store_error(e: StoreError) -> DataFusionError {
    QueryError::new(e.sqlstate(), e.to_string()).into()
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.table.name)
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec: table={}", self.table.name)?;
        let names: Vec<&str> = self.properties.eq_properties.schema().fields().iter().map(|c| c.name().as_str()).collect();
        write!(f, ", columns=[{}]", names.join(", "))?;
        match &self.request.filter {
            VersionFilter::Current => {}
            VersionFilter::AsOf(stamp) => {
                let mut at = Vec::new();
                chronos_model::text::write_timestamptz(stamp.micros(), &mut at);
                write!(f, ", system_time=as of {}", String::from_utf8_lossy(&at))?;
            }
            VersionFilter::All => write!(f, ", system_time=all")?,
            VersionFilter::Between { .. } => write!(f, ", system_time=range")?,
        }
        if self.request.key_range != KeyRange::ALL {
            write!(f, ", key range")?;
        }
        if !self.request.column_bounds.is_empty() {
            write!(f, ", pruned by {} column(s)", self.request.column_bounds.len())?;
        }
        if let Some(limit) = self.request.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = self.take_partition(partition)?.into_iter().flatten();
        let expected = Arc::clone(&schema);
        let batches = batches.map(move |batch| {
            let batch = batch.map_err(store_error)?;
            metrics.record_output(batch.num_rows());
            // Same columns; the plan's schema carries the table's field metadata.
            Ok(batch.with_schema(Arc::clone(&expected))?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> DfResult<Arc<Statistics>> {
        match args.partition() {
            None => Ok(Arc::clone(&self.statistics)),
            Some(_) => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }
}
