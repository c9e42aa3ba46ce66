//! The physical scan by an index: one stream, in the order of the index.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{SchemaRef, SortOptions};
use chronos_model::{shown_name, IndexSchema, TableSchema};
use chronos_store::{IndexScanRequest, KeyRange, ReadView, ScanColumn, ScanRequest, VersionFilter};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::Statistics;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};

use super::choice::is_float;
use crate::engine::scan::{in_plan, store_error};

/// Reads rows of one table in the order of an index.
pub(in crate::engine) struct IndexScanExec {
    table: Arc<TableSchema>,
    index: Arc<IndexSchema>,
    view: ReadView,
    request: IndexScanRequest,
    properties: Arc<PlanProperties>,
    statistics: Arc<Statistics>,
    metrics: ExecutionPlanMetricsSet,
}

impl IndexScanExec {
    /// What a scan asks for, of some entries of an index.
    pub(in crate::engine) fn new(
        table: Arc<TableSchema>,
        index: Arc<IndexSchema>,
        view: ReadView,
        scan: &ScanRequest,
        ranges: Vec<KeyRange>,
        schema: SchemaRef,
    ) -> IndexScanExec {
        let request = IndexScanRequest {
            columns: scan.columns.clone(),
            filter: scan.filter,
            valid: scan.valid,
            ranges,
            batch_rows: scan.batch_rows,
            limit: scan.limit,
        };
        let ordering = ordering(&index, &table, &request.columns, &schema);
        let statistics = Arc::new(Statistics::new_unknown(&schema));
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, ordering),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        IndexScanExec {
            statistics,
            table,
            index,
            view,
            request,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same, of so many entries. Those that are not current any more count too.
    pub(in crate::engine) fn with_entries(self, entries: u64) -> IndexScanExec {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let rows = usize::try_from(entries).unwrap_or(usize::MAX);
        statistics.num_rows = Precision::Inexact(rows);
        IndexScanExec {
            statistics: Arc::new(statistics),
            ..self
        }
    }
}

/// The order of the index, as far as its columns are read.
fn ordering(
    index: &IndexSchema,
    table: &TableSchema,
    columns: &[ScanColumn],
    schema: &SchemaRef,
) -> Vec<Vec<PhysicalSortExpr>> {
    let mut sorted = Vec::new();
    for key in &index.columns {
        let is_key = |c: &ScanColumn| matches!(c, ScanColumn::Column(i) if *i == key.column);
        let Some(position) = columns.iter().position(is_key) else {
            break;
        };
        if is_float(table, key.column) {
            break;
        }
        let column = Column::new(schema.field(position).name(), position);
        let options = SortOptions {
            descending: key.descending,
            nulls_first: key.nulls_first,
        };
        sorted.push(PhysicalSortExpr::new(Arc::new(column), options));
    }
    match sorted.is_empty() {
        true => vec![],
        false => vec![sorted],
    }
}

impl fmt::Debug for IndexScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexScanExec({})", self.index.name)
    }
}

impl DisplayAs for IndexScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, table) = (shown_name(&self.index.name), shown_name(&self.table.name));
        write!(f, "IndexScanExec: index={index}, table={table}")?;
        let schema = self.properties.eq_properties.schema();
        let names: Vec<&str> = schema.fields().iter().map(|c| c.name().as_str()).collect();
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
        match self.request.ranges.as_slice() {
            [KeyRange::ALL] => {}
            ranges => write!(f, ", ranges={}", ranges.len())?,
        }
        if let Some(limit) = self.request.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for IndexScanExec {
    fn name(&self) -> &str {
        "IndexScanExec"
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

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        _: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let checked = self.view.check_shape(&self.table);
        let batches = checked.and_then(|()| self.view.index_scan(&self.index, &self.request));
        let batches = batches.map_err(store_error)?;
        let expected = Arc::clone(&schema);
        let batches = batches.map(move |batch| {
            let batch = batch.map_err(store_error)?;
            metrics.record_output(batch.num_rows());
            Ok(in_plan(&batch, &expected)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::iter(batches),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> DfResult<Arc<Statistics>> {
        match args.partition() {
            None => Ok(Arc::clone(&self.statistics)),
            Some(_) => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }
}
