//! The physical scan of a table: partitions of the store's scan as streams.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{SchemaRef, SortOptions};
use chronos_model::{shown_name, TableSchema};
use chronos_store::{
    with_causes, KeyRange, PageUse, ReadView, ScanColumn, ScanPartition, ScanRequest, StoreError,
    ValidFilter, VersionFilter,
};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::Statistics;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::sort_pushdown::SortOrderPushdownResult;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};

use super::indexes::Usable;
use super::page_match::{judge_all, PageColumns};
use super::{held_bytes, memory, scan_statistics};
use crate::QueryError;

/// In what order a scan gives its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowOrder {
    /// As they lie: nothing has to be merged.
    Any,
    /// By key, within each partition. Keys hold no NULLs: where those would be is announced as
    /// it is asked for.
    Key(SortOptions),
}

/// Reads versions of one table out of a read view.
pub(super) struct ScanExec {
    pub(super) table: Arc<TableSchema>,
    pub(super) view: ReadView,
    pub(super) request: ScanRequest,
    order: RowOrder,
    /// As planned: each execution begins with a copy.
    partitions: Vec<ScanPartition>,
    /// Conditions that operators above apply: a page in which none can hold is left out.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// The same of conditions that grow while the query runs.
    moving: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
    /// Of all partitions, once they are asked for.
    statistics: OnceLock<Arc<Statistics>>,
    metrics: ExecutionPlanMetricsSet,
    /// Secondary indexes that would serve as well.
    pub(super) usable: Option<Usable>,
}

impl ScanExec {
    /// The same, knowing which indexes it might use instead.
    pub(super) fn with_usable(self, usable: Option<Usable>) -> ScanExec {
        ScanExec { usable, ..self }
    }

    pub(super) fn new(
        table: Arc<TableSchema>,
        view: ReadView,
        request: ScanRequest,
        schema: SchemaRef,
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
            moving: Vec::new(),
            properties,
            statistics: OnceLock::new(),
            metrics: ExecutionPlanMetricsSet::new(),
            usable: None,
        })
    }

    /// The same scan in another order, with so many partitions at most. `few`: how many rows
    /// may be enough.
    pub(super) fn ordered(
        &self,
        order: RowOrder,
        partitions_max: usize,
        few: Option<usize>,
    ) -> DfResult<ScanExec> {
        let request = ScanRequest {
            partitions: self.request.partitions.min(partitions_max),
            first_rows: few,
            ..self.request.clone()
        };
        let planned = partitions(&self.table, &self.view, &request, order)?;
        let planned = without_excluded(planned, &self.filters, self.page_columns());
        Ok(ScanExec {
            order,
            request,
            ..self.reading(planned)
        }
        .with_properties())
    }

    /// Its table.
    pub(super) fn table(&self) -> &TableSchema {
        &self.table
    }

    /// What it asks of the store.
    pub(super) fn request(&self) -> &ScanRequest {
        &self.request
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
            moving: self.moving.clone(),
            properties: Arc::clone(&self.properties),
            statistics: OnceLock::new(),
            metrics: self.metrics.clone(),
            usable: None,
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

    /// A partition, from its beginning, that leaves out what growing conditions exclude.
    fn watched(&self, partition: &ScanPartition) -> ScanPartition {
        let partition = partition.fresh();
        if self.moving.is_empty() {
            return partition;
        }
        let (moving, schema) = (self.moving.clone(), self.schema());
        let columns = self.request.columns.clone();
        partition.leaving_out(move |page| {
            let columns = PageColumns {
                schema: &schema,
                columns: &columns,
            };
            judge_all(&moving, page, columns).are_never_true()
        })
    }

    fn all_statistics(&self) -> Statistics {
        let is_everything = self.request.filter == VersionFilter::Current
            && self.request.valid == ValidFilter::Now
            && self.request.key_range == KeyRange::ALL
            && self.request.column_bounds.is_empty()
            && self.filters.is_empty()
            && !self.is_limited();
        let partitions = &self.partitions;
        if is_everything {
            let estimate = || self.view.table_rows_estimate(&self.table).0;
            return scan_statistics::of(partitions, self.page_columns(), estimate);
        }
        self.statistics_of(partitions)
    }

    fn statistics_of(&self, partitions: &[ScanPartition]) -> Statistics {
        let estimate = || partitions.iter().map(ScanPartition::rows_max).sum();
        scan_statistics::of(partitions, self.page_columns(), estimate)
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
        RowOrder::Key(options) => key_ordering(table, request, &schema, options),
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
        RowOrder::Key(o) if o.descending => view.scan_descending(table, request.clone()),
        RowOrder::Key(_) => view.scan(table, request.clone()),
    };
    planned.map_err(store_error)
}

/// The order of rows that leave a partition by key.
fn key_ordering(
    table: &TableSchema,
    request: &ScanRequest,
    schema: &SchemaRef,
    options: SortOptions,
) -> Vec<Vec<PhysicalSortExpr>> {
    let mut columns: Vec<PhysicalSortExpr> = Vec::new();
    for &key in &table.primary_key {
        let position = request
            .columns
            .iter()
            .position(|c| *c == ScanColumn::Column(key));
        let Some(position) = position else { break };
        let column = Arc::new(Column::new(schema.field(position).name(), position));
        columns.push(PhysicalSortExpr::new(column, options));
    }
    match columns.is_empty() {
        true => vec![],
        false => vec![columns],
    }
}

/// Whether a condition changes while the query runs.
fn has_moving_part(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_moving =
        |e: &Arc<dyn PhysicalExpr>| Ok(e.downcast_ref::<DynamicFilterPhysicalExpr>().is_some());
    expr.exists(is_moving).unwrap_or(false)
}

pub(super) fn store_error(e: StoreError) -> DataFusionError {
    let mut error = QueryError::new(e.sqlstate(), with_causes(&e));
    error.hint = e.hint().map(str::to_owned);
    error.into()
}

/// The same columns with the plan's schema, which has the table's metadata, and the names of
/// columns that show a period.
pub(super) fn in_plan(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", shown_name(&self.table.name))
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec: table={}", shown_name(&self.table.name))?;
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
        match self.order {
            RowOrder::Any => {}
            RowOrder::Key(options) if options.descending => write!(f, ", by key descending")?,
            RowOrder::Key(_) => write!(f, ", by key")?,
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
        if let Some(rows) = self.request.first_rows {
            write!(f, ", first {rows} row(s)")?;
        }
        if let Some(limit) = self.request.limit {
            write!(f, ", limit={limit}")?;
        }
        for filter in &self.moving {
            write!(f, ", pages by {filter}")?;
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
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        for filter in &self.moving {
            if visit(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    /// For another execution: what conditions have grown to belongs to the one before, and
    /// operators that are reset no longer tell this scan of theirs.
    fn reset_state(self: Arc<Self>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ScanExec {
            moving: Vec::new(),
            ..self.reading(self.planned())
        }))
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
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let bytes_max = memory::batch_bytes_max(&**context.memory_pool());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let counters =
            |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let (read, left_out) = (counters("pages_read"), counters("pages_left_out"));
        let mut batches = self.partitions.get(partition).map(|p| self.watched(p));
        let expected = Arc::clone(&schema);
        let batches = std::iter::from_fn(move || {
            let partition = batches.as_mut()?;
            let before = partition.page_counts();
            let batch = partition.next();
            let counts = partition.page_counts();
            read.add((counts.read - before.read) as usize);
            left_out.add((counts.left_out - before.left_out) as usize);
            let batch = batch?.map_err(store_error);
            Some(batch.and_then(|batch| {
                metrics.record_output(batch.num_rows());
                let batch = held_bytes::within(batch, bytes_max)?;
                Ok(in_plan(&batch, &expected)?)
            }))
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
        if filters.is_empty() || self.is_limited() {
            return Ok(result);
        }
        let scan = match phase {
            FilterPushdownPhase::Pre => {
                let left = without_excluded(self.planned(), &filters, self.page_columns());
                let mut scan = self.reading(left);
                scan.filters.extend(filters);
                scan
            }
            FilterPushdownPhase::Post => {
                let moving = filters.into_iter().filter(has_moving_part);
                let mut scan = self.reading(self.planned());
                scan.moving.extend(moving);
                scan
            }
        };
        Ok(result.with_updated_node(Arc::new(scan)))
    }

    /// Rows by key are to be had, at the price of a merge.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let Some(first) = order.first() else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let by_key = key_ordering(&self.table, &self.request, &self.schema(), first.options);
        let is_prefix = by_key.first().is_some_and(|key| {
            order.len() <= key.len() && order.iter().zip(key).all(|(w, k)| w == k)
        });
        if !is_prefix || self.order != RowOrder::Any || self.is_limited() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let partitions = self.partitions.len();
        let ordered = self.ordered(RowOrder::Key(first.options), partitions, None)?;
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
        Ok(match args.partition() {
            None => Arc::clone(
                self.statistics
                    .get_or_init(|| Arc::new(self.all_statistics())),
            ),
            Some(partition) => {
                let partition = self.partitions.get(partition).map(std::slice::from_ref);
                Arc::new(self.statistics_of(partition.unwrap_or_default()))
            }
        })
    }
}
