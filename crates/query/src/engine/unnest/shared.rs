//! Rows that are used twice and might not come out the same twice.
//!
//! Unnesting reads the outer rows once for themselves and once for the domain. Of tables,
//! filters and joins both readings give the same. `random()`, LIMIT and whatever depends on
//! the order of rows may not, so such a plan is run once and its rows are kept, in memory
//! and within the memory limit, for both.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    execute_stream, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::future::{BoxFuture, Shared as SharedFuture};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::{named, project, Unnester};

impl Unnester {
    /// A plan that may be used in several places and gives the same rows in each.
    pub(super) fn shared(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        if is_repeatable(&plan)? || !plan.all_out_ref_exprs().is_empty() {
            return Ok(plan);
        }
        let table = self.fresh();
        let own = plan.schema().columns();
        let names: Vec<String> = own.iter().map(|_| self.fresh()).collect();
        let fields: Vec<Field> = plan
            .schema()
            .fields()
            .iter()
            .zip(&names)
            .map(|(f, name)| f.as_ref().clone().with_name(name).with_nullable(true))
            .collect();
        let provider = KeptRows {
            plan,
            schema: Arc::new(Schema::new(fields)),
            kept: Arc::new(Mutex::new(None)),
        };
        let scan = LogicalPlanBuilder::scan(&table, provider_as_source(Arc::new(provider)), None)?;
        let shown = own
            .iter()
            .zip(&names)
            .map(|(c, name)| {
                let kept = Expr::Column(Column::new(Some(table.as_str()), name));
                named(kept, c.relation.as_ref(), &c.name)
            })
            .collect();
        project(scan.build()?, shown)
    }
}

/// Whether the plan gives the same rows each time it is run on the same data.
fn is_repeatable(plan: &LogicalPlan) -> DfResult<bool> {
    let mut is = true;
    plan.apply_with_subqueries(|node| {
        is &= matches!(
            node,
            LogicalPlan::TableScan(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Projection(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(_))
                | LogicalPlan::Values(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Unnest(_)
        );
        node.apply_expressions(|e| {
            is &= !e.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if is {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    })?;
    Ok(is)
}

/// What running the plan has given; the reservation lasts as long as the batches.
struct Rows {
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

type Kept = SharedFuture<BoxFuture<'static, Result<Arc<Rows>, Arc<DataFusionError>>>>;

/// A plan as a table: the first scan that is read runs it.
struct KeptRows {
    plan: LogicalPlan,
    schema: SchemaRef,
    kept: Arc<Mutex<Option<Kept>>>,
}

impl fmt::Debug for KeptRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptRows({})", self.plan.display())
    }
}

#[async_trait]
impl TableProvider for KeptRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Arc::new(KeptRowsExec {
            source: state.create_physical_plan(&self.plan).await?,
            projection: projection.cloned(),
            kept: Arc::clone(&self.kept),
            schema,
            properties: Arc::new(properties),
        }))
    }
}

/// Reads the kept rows, or makes them. The source is no child: it was optimized already,
/// and only that of the first reader is run.
struct KeptRowsExec {
    source: Arc<dyn ExecutionPlan>,
    projection: Option<Vec<usize>>,
    kept: Arc<Mutex<Option<Kept>>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for KeptRowsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptRowsExec")
    }
}

impl DisplayAs for KeptRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptRowsExec: source={}", self.source.name())
    }
}

async fn run(
    source: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<Arc<Rows>, Arc<DataFusionError>> {
    let memory = MemoryConsumer::new("KeptRows").register(context.memory_pool());
    let mut stream = execute_stream(source, context)?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        memory.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(Arc::new(Rows {
        batches,
        _memory: memory,
    }))
}

impl ExecutionPlan for KeptRowsExec {
    fn name(&self) -> &str {
        "KeptRowsExec"
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

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let rows = self
            .kept
            .lock()
            .get_or_insert_with(|| run(Arc::clone(&self.source), context).boxed().shared())
            .clone();
        let (schema, projection) = (Arc::clone(&self.schema), self.projection.clone());
        let batches = async move {
            let rows = rows.await.map_err(DataFusionError::Shared)?;
            let shown = rows
                .batches
                .iter()
                .map(|batch| {
                    let batch = match &projection {
                        Some(columns) => batch.project(columns)?,
                        None => batch.clone(),
                    };
                    Ok(RecordBatch::try_new_with_options(
                        Arc::clone(&schema),
                        batch.columns().to_vec(),
                        &arrow_array::RecordBatchOptions::new()
                            .with_row_count(Some(batch.num_rows())),
                    )?)
                })
                .collect::<Vec<DfResult<RecordBatch>>>();
            // The rows, and what they take of the memory limit, live as long as a reader.
            Ok::<_, DataFusionError>(futures::stream::iter(shown).map(move |batch| {
                let _ = &rows;
                batch
            }))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            futures::stream::once(batches).try_flatten(),
        )))
    }
}
