//! The operator of interval joins.
//!
//! The left side is held ([`Held`]), once for all partitions of the right or once for each. Each
//! batch of the right streams through: chunks of pairs are found, what is left of the filter is
//! tested on them, and what the kind of join asks for is given out, in the order of the right.
//! Between chunks it gives way to others.

use std::fmt;
use std::sync::Arc;

use arrow_array::ArrayRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{internal_err, JoinSide, JoinType, NullEquality, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::equivalence::ProjectionMapping;
use datafusion::physical_expr::expressions::{BinaryExpr, DynamicFilterPhysicalExpr, Literal};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::{build_join_schema, ColumnIndex, JoinFilter};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::{
    try_embed_projection, EmbeddedProjection, ProjectionExec,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use tokio::sync::OnceCell;

use super::bounds::{Found, Meeting};
use super::held::{Held, KeyColumns, Plan};
use super::stream::{Build, Built, Joining, State};
use super::Parts;

/// The equality of keys that goes with the meeting of stretches.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) on: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
    pub(super) null_equality: NullEquality,
    /// Whether both sides are distributed by it.
    pub(super) is_partitioned: bool,
    /// What scans of the right are told about the keys of the left.
    pub(super) dynamic_filters: Vec<Arc<dyn PhysicalExpr>>,
}

impl Keys {
    pub(super) fn of(&self, side: JoinSide) -> KeyColumns {
        let of_side = |(left, right): &(Arc<dyn PhysicalExpr>, _)| match side {
            JoinSide::Left => Arc::clone(left),
            _ => Arc::clone(right),
        };
        KeyColumns {
            expressions: self.on.iter().map(of_side).collect(),
            null_equality: self.null_equality,
        }
    }

    /// Tells the scans of the right between which keys those of the left are.
    pub(super) fn tell(&self, held: &Held) -> DfResult<()> {
        let filters = self.dynamic_filters.iter();
        for filter in filters.filter_map(|f| f.downcast_ref::<DynamicFilterPhysicalExpr>()) {
            let key = match filter.children().as_slice() {
                [key] if !self.is_partitioned => Some(Arc::clone(key)),
                _ => None,
            };
            if let (Some(key), Some(bounds)) = (key, held.key_bounds(&self.of(JoinSide::Left))?) {
                filter.update(between(&key, bounds)?)?;
            }
            filter.mark_complete();
        }
        Ok(())
    }
}

fn between(
    key: &Arc<dyn PhysicalExpr>,
    [lowest, highest]: [ArrayRef; 2],
) -> DfResult<Arc<dyn PhysicalExpr>> {
    let compared = |operator, bound: &ArrayRef| -> DfResult<Arc<dyn PhysicalExpr>> {
        let bound = Arc::new(Literal::new(ScalarValue::try_from_array(bound, 0)?));
        Ok(Arc::new(BinaryExpr::new(Arc::clone(key), operator, bound)))
    };
    let low = compared(Operator::GtEq, &lowest)?;
    let high = compared(Operator::LtEq, &highest)?;
    Ok(Arc::new(BinaryExpr::new(low, Operator::And, high)))
}

/// Joins rows whose stretches meet.
pub(in crate::engine) struct IntervalJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    join_type: JoinType,
    meeting: Meeting,
    filter: Option<JoinFilter>,
    keys: Option<Keys>,
    /// Which columns of the sides are given out.
    output: Vec<ColumnIndex>,
    is_projected: bool,
    /// Rows of each partition, at most.
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    /// The left side: once, or by partition.
    held: Vec<Arc<OnceCell<Built>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl IntervalJoinExec {
    pub(super) fn try_new(
        parts: Parts<'_>,
        found: Found,
        keys: Option<Keys>,
    ) -> DfResult<IntervalJoinExec> {
        let (left, right) = (parts.left, parts.right);
        let (_, columns) = build_join_schema(&left.schema(), &right.schema(), &parts.join_type);
        let output = match parts.projection {
            None => columns,
            Some(projection) => projection.iter().map(|i| columns[*i].clone()).collect(),
        };
        if output.len() != parts.node.schema().fields().len() {
            return internal_err!("an interval join does not give the columns of its join");
        }
        let mut join = IntervalJoinExec {
            left: Arc::clone(left),
            right: Arc::clone(right),
            join_type: parts.join_type,
            meeting: found.meeting,
            filter: found.filter,
            keys,
            output,
            is_projected: false,
            fetch: parts.node.fetch(),
            properties: Arc::clone(parts.node.properties()),
            held: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        join.held = join.cells();
        Ok(join)
    }

    /// Whether rows have to have equal keys, too.
    pub(in crate::engine) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    fn is_partitioned(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.is_partitioned)
    }

    fn cells(&self) -> Vec<Arc<OnceCell<Built>>> {
        let count = match self.is_partitioned() {
            true => self.left.output_partitioning().partition_count(),
            false => 1,
        };
        (0..count).map(|_| Arc::default()).collect()
    }

    /// The same join of other inputs, or with other columns.
    fn over(
        &self,
        [left, right]: [Arc<dyn ExecutionPlan>; 2],
        output: Vec<ColumnIndex>,
        properties: Arc<PlanProperties>,
    ) -> IntervalJoinExec {
        let mut join = IntervalJoinExec {
            left,
            right,
            join_type: self.join_type,
            meeting: self.meeting.clone(),
            filter: self.filter.clone(),
            keys: self.keys.clone(),
            output,
            is_projected: self.is_projected,
            fetch: self.fetch,
            properties,
            held: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        };
        join.held = join.cells();
        join
    }

    fn building(&self, partition: usize, context: &Arc<TaskContext>) -> Build {
        let plan = Plan {
            stretch: self.meeting.left.clone(),
            keys: self.keys.as_ref().map(|keys| keys.of(JoinSide::Left)),
            notes_met: of_left(self.join_type).is_some(),
            streams: match self.is_partitioned() {
                true => 1,
                false => self.right.output_partitioning().partition_count(),
            },
        };
        let reservation = MemoryConsumer::new("IntervalJoin").register(context.memory_pool());
        let (left, context) = (Arc::clone(&self.left), Arc::clone(context));
        Box::new(move || Ok((left.execute(partition, context)?, plan, reservation)))
    }
}

/// What is given of the left side when all of the right has been seen: rows that were met, or
/// those that were not.
pub(super) fn of_left(join_type: JoinType) -> Option<bool> {
    match join_type {
        JoinType::LeftSemi => Some(true),
        JoinType::Left | JoinType::Full | JoinType::LeftAnti => Some(false),
        _ => None,
    }
}

impl EmbeddedProjection for IntervalJoinExec {
    fn with_projection(&self, projection: Option<Vec<usize>>) -> DfResult<IntervalJoinExec> {
        let inputs = || [Arc::clone(&self.left), Arc::clone(&self.right)];
        let Some(positions) = projection else {
            let properties = Arc::clone(&self.properties);
            return Ok(self.over(inputs(), self.output.clone(), properties));
        };
        let schema = self.schema();
        let mapping = ProjectionMapping::from_indices(&positions, &schema)?;
        let projected = Arc::new(schema.project(&positions)?);
        let before = &self.properties;
        let properties = PlanProperties::new(
            before.eq_properties.project(&mapping, projected),
            before.partitioning.project(&mapping, &before.eq_properties),
            before.emission_type,
            before.boundedness,
        );
        let output = positions.iter().map(|p| self.output[*p].clone()).collect();
        let mut join = self.over(inputs(), output, Arc::new(properties));
        join.is_projected = true;
        Ok(join)
    }
}

impl fmt::Debug for IntervalJoinExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for IntervalJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntervalJoinExec: join_type={:?}", self.join_type)?;
        if let Some(keys) = &self.keys {
            let on = keys.on.iter().map(|(l, r)| format!("({l}, {r})"));
            write!(f, ", on=[{}]", on.collect::<Vec<_>>().join(", "))?;
        }
        write!(f, ", meets={}", self.meeting.shown)?;
        if let Some(filter) = &self.filter {
            write!(f, ", filter={}", filter.expression())?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for IntervalJoinExec {
    fn name(&self) -> &str {
        "IntervalJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        if let Some(filter) = &self.filter {
            return f(filter.expression());
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[_; 2]>::try_from(children) else {
            return internal_err!("a join has two inputs");
        };
        let output = self.output.clone();
        let properties = Arc::clone(&self.properties);
        Ok(Arc::new(self.over([left, right], output, properties)))
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        match self.is_projected {
            true => Ok(None),
            false => try_embed_projection(projection, self),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let of_left = if self.is_partitioned() { partition } else { 0 };
        let schema = self.schema();
        let joining = Joining {
            cell: Arc::clone(&self.held[of_left]),
            build: Some(self.building(of_left, &context)),
            keys: self.keys.clone(),
            held: None,
            right: self.right.execute(partition, Arc::clone(&context))?,
            right_keys: self.keys.as_ref().map(|keys| keys.of(JoinSide::Right)),
            meeting: self.meeting.clone(),
            filter: self.filter.clone(),
            join_type: self.join_type,
            output: self.output.clone(),
            schema: Arc::clone(&schema),
            chunk_rows: context.session_config().batch_size(),
            rows_left: self.fetch,
            state: State::Right(None),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let rows = futures::stream::try_unfold(joining, |mut joining| async move {
            let batch = joining.next().await?;
            Ok(batch.map(|batch| (batch, joining)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
