//! The physical scan of a table: partitions of the store's scan as streams.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{SchemaRef, SortOptions};
use chronos_model::TableSchema;
use chronos_store::{
    with_causes, KeyRange, PageUse, ReadView, ScanColumn, ScanPartition, ScanRequest, StoreError,
    VersionFilter,
};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::Statistics;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};

use super::page_match::{judge_all, PageColumns};
use crate::QueryError;

/// In what order a scan gives its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RowOrder {
    /// As they lie: nothing has to be merged.
    Any,
    /// By key, within each partition.
    Key,
}

/// Reads versions of one table out of a read view.
pub(super) struct ScanExec {
    table: Arc<TableSchema>,
    view: ReadView,
    request: ScanRequest,
    order: RowOrder,
    /// As planned: each execution begins with a copy.
    partitions: Vec<ScanPartition>,
    /// Conditions that operators above apply: a page in which none can hold is left out.
    filters: Vec<Arc<dyn PhysicalExpr>>,
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
        let order = RowOrder::Any;
        let partitions = partitions(&table, &view, &request, order)?;
        let properties = Arc::new(properties(&table, &request, order, schema, &partitions));
        Ok(ScanExec {
            table,
            view,
            request,
            order,
            partitions,
            filters: Vec::new(),
            properties,
            statistics: Arc::new(statistics),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same scan in another order.
    fn ordered(&self, order: RowOrder) -> DfResult<ScanExec> {
        let planned = partitions(&self.table, &self.view, &self.request, order)?;
        let planned = without_excluded(planned, &self.filters, self.page_columns());
        Ok(ScanExec {
            order,
            ..self.reading(planned)
        }
        .with_properties())
    }

    /// The same scan of some of the pages only.
    pub(super) fn reading(&self, partitions: Vec<ScanPartition>) -> ScanExec {
        ScanExec {
            table: Arc::clone(&self.table),
            view: self.view.clone(),
            request: self.request.clone(),
            order: self.order,
            partitions,
            filters: self.filters.clone(),
            properties: Arc::clone(&self.properties),
            statistics: Arc::clone(&self.statistics),
            metrics: self.metrics.clone(),
        }
        .with_properties()
    }

    fn with_properties(mut self) -> ScanExec {
        self.properties = Arc::new(properties(
            &self.table,
            &self.request,
            self.order,
            self.schema(),
            &self.partitions,
        ));
        self
    }

    /// Its partitions as planned.
    pub(super) fn planned(&self) -> Vec<ScanPartition> {
        self.partitions.iter().map(ScanPartition::fresh).collect()
    }

    /// What its columns are in the pages that it reads.
    pub(super) fn page_columns(&self) -> PageColumns<'_> {
        PageColumns {
            schema: self.properties.eq_properties.schema(),
            columns: &self.request.columns,
        }
    }

    /// Whether each partition ends after some rows, whatever they are.
    pub(super) fn is_limited(&self) -> bool {
        self.request.limit.is_some()
    }
}

fn properties(
    table: &TableSchema,
    request: &ScanRequest,
    order: RowOrder,
    schema: SchemaRef,
    partitions: &[ScanPartition],
) -> PlanProperties {
    let ordering = match order {
        RowOrder::Any => vec![],
        RowOrder::Key => key_ordering(table, request, &schema),
    };
    PlanProperties::new(
        EquivalenceProperties::new_with_orderings(schema, ordering),
        Partitioning::UnknownPartitioning(partitions.len().max(1)),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
}

/// Partitions without the pages in which no row fulfils all conditions.
fn without_excluded(
    partitions: Vec<ScanPartition>,
    filters: &[Arc<dyn PhysicalExpr>],
    columns: PageColumns<'_>,
) -> Vec<ScanPartition> {
    if filters.is_empty() {
        return partitions;
    }
    ScanPartition::without_pages(partitions, |page| {
        match judge_all(filters, page.meta, columns).are_never_true() {
            true => PageUse::Leave,
            false => PageUse::Read,
        }
    })
}

fn partitions(
    table: &Arc<TableSchema>,
    view: &ReadView,
    request: &ScanRequest,
    order: RowOrder,
) -> DfResult<Vec<ScanPartition>> {
    let planned = match order {
        RowOrder::Any => view.scan_unordered(table, request.clone()),
        RowOrder::Key => view.scan(table, request.clone()),
    };
    planned.map_err(store_error)
}

/// The order of rows that leave a partition by key, announced with NULLs last, as ORDER BY
/// asks by default: keys hold no NULLs, so that is as true as NULLs first.
fn key_ordering(
    table: &TableSchema,
    request: &ScanRequest,
    schema: &SchemaRef,
) -> Vec<Vec<PhysicalSortExpr>> {
    let mut columns: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for &key in &table.primary_key {
        let position = request
            .columns
            .iter()
            .position(|c| matches!(c, ScanColumn::Column(i) if *i == key));
        let Some(position) = position else { break };
        columns.push(Arc::new(Column::new(
            schema.field(position).name(),
            position,
        )));
    }
    if columns.is_empty() {
        return vec![];
    }
    let options = SortOptions {
        descending: false,
        nulls_first: false,
    };
    vec![columns
        .into_iter()
        .map(|c| PhysicalSortExpr::new(c, options))
        .collect()]
}

pub(super) fn store_error(e: StoreError) -> DataFusionError {
    QueryError::new(e.sqlstate(), with_causes(&e)).into()
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.table.name)
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec: table={}", self.table.name)?;
        let names: Vec<&str> = self
            .properties
            .eq_properties
            .schema()
            .fields()
            .iter()
            .map(|c| c.name().as_str())
            .collect();
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
        if self.order == RowOrder::Key {
            write!(f, ", by key")?;
        }
        if self.request.key_range != KeyRange::ALL {
            write!(f, ", key range")?;
        }
        if !self.request.column_bounds.is_empty() {
            write!(
                f,
                ", pruned by {} column(s)",
                self.request.column_bounds.len()
            )?;
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
        let batches = self.partitions.get(partition).map(ScanPartition::fresh);
        let batches = batches.into_iter().flatten();
        let expected = Arc::clone(&schema);
        let batches = batches.map(move |batch| {
            let batch = batch.map_err(store_error)?;
            metrics.record_output(batch.num_rows());
            // Same columns; the plan's schema carries the table's field metadata.
            Ok(batch.with_schema(Arc::clone(&expected))?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::iter(batches),
        )))
    }

    /// Conditions from above are not applied to rows here, only to pages.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = pushed.parent_filters.iter().map(|f| Arc::clone(&f.filter));
        let filters: Vec<_> = filters.collect();
        let result = FilterPushdownPropagation::all_unsupported(pushed);
        if filters.is_empty() || phase != FilterPushdownPhase::Pre || self.is_limited() {
            return Ok(result);
        }
        let left = without_excluded(self.planned(), &filters, self.page_columns());
        let mut scan = self.reading(left);
        scan.filters.extend(filters);
        Ok(result.with_updated_node(Arc::new(scan)))
    }

    /// Rows by key are to be had, at the price of a merge.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let by_key = key_ordering(&self.table, &self.request, &self.schema());
        let is_prefix = by_key.first().is_some_and(|key| {
            order.len() <= key.len()
                && order.iter().zip(key).all(|(wanted, given)| {
                    wanted.expr.eq(&given.expr) && wanted.options == given.options
                })
        });
        if !is_prefix || self.order == RowOrder::Key {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let ordered = self.ordered(RowOrder::Key)?;
        Ok(SortOrderPushdownResult::Exact {
            inner: Arc::new(ordered),
        })
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
