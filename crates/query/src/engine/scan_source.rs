//! Finds the scan under filters, projections and operators that pass rows on: what a rule
//! has to know to answer an operator above from what the scan knows.

use std::sync::Arc;

use chronos_store::ScanPartition;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

use super::scan::ScanExec;

/// A scan under nothing but filters and operators that pass rows on.
pub(super) struct Source<'a> {
    pub(super) scan: &'a ScanExec,
    /// Per column of the top's output the scan's, if it is one.
    pub(super) columns: Vec<Option<usize>>,
    /// Conditions on the scan's columns, all of which hold for what leaves the top.
    pub(super) conditions: Vec<Arc<dyn PhysicalExpr>>,
}

impl<'a> Source<'a> {
    pub(super) fn of(plan: &'a dyn ExecutionPlan) -> DfResult<Option<Source<'a>>> {
        if let Some(scan) = plan.downcast_ref::<ScanExec>() {
            let columns = (0..scan.schema().fields().len()).map(Some).collect();
            return Ok((!scan.is_limited()).then_some(Source {
                scan,
                columns,
                conditions: Vec::new(),
            }));
        }
        let children = plan.children();
        let (1, Some(input)) = (children.len(), children.first().copied()) else {
            return Ok(None);
        };
        let Some(mut source) = Source::of(input.as_ref())? else {
            return Ok(None);
        };
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            if filter.fetch().is_some() {
                return Ok(None);
            }
            let Some(condition) = source.on_scan(filter.predicate())? else {
                return Ok(None);
            };
            source.conditions.push(condition);
            if let Some(projection) = filter.projection() {
                source.columns = projection.iter().map(|&c| source.columns[c]).collect();
            }
            return Ok(Some(source));
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let position = |e: &Arc<dyn PhysicalExpr>| {
                let column = e.downcast_ref::<Column>()?;
                source.columns.get(column.index()).copied().flatten()
            };
            source.columns = projection
                .expr()
                .iter()
                .map(|e| position(&e.expr))
                .collect();
            return Ok(Some(source));
        }
        let passes_on = plan.downcast_ref::<CooperativeExec>().is_some()
            || plan
                .downcast_ref::<RepartitionExec>()
                .is_some_and(|r| matches!(r.partitioning(), Partitioning::RoundRobinBatch(_)));
        Ok(passes_on.then_some(source))
    }

    /// An expression on the top's columns as one on the scan's.
    pub(super) fn on_scan(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
    ) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
        let schema = self.scan.schema();
        let mut is_known = true;
        let expr = Arc::clone(expr).transform(|e| {
            let Some(column) = e.downcast_ref::<Column>() else {
                return Ok(Transformed::no(e));
            };
            let Some(position) = self.columns.get(column.index()).copied().flatten() else {
                is_known = false;
                return Ok(Transformed::no(e));
            };
            let column = Column::new(schema.field(position).name(), position);
            Ok(Transformed::yes(Arc::new(column)))
        })?;
        Ok(is_known.then_some(expr.data))
    }

    /// The plan from its top on, with a scan that reads only what is left.
    pub(super) fn reading(
        &self,
        top: &Arc<dyn ExecutionPlan>,
        left: Vec<ScanPartition>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut left = Some(left);
        let replaced = Arc::clone(top).transform_up(|node| {
            match (node.downcast_ref::<ScanExec>(), left.take()) {
                (Some(scan), Some(left)) => Ok(Transformed::yes(Arc::new(scan.reading(left)) as _)),
                (_, untaken) => {
                    left = untaken;
                    Ok(Transformed::no(node))
                }
            }
        })?;
        Ok(replaced.data)
    }
}
