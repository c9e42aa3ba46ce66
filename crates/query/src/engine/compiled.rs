//! Expressions over the rows of a table that exists for one statement, evaluated without
//! planning and running a query: for what is asked of a few rows at each write.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{create_physical_expr, PhysicalExpr};

use super::QueryPlan;
use crate::depth::Stack;
use crate::QueryError;

/// What a query gives that takes each row of one table as it comes and depends on nothing
/// else.
#[derive(Clone)]
pub(crate) struct Compiled {
    /// Columns of the rows that the expressions are over; `None`: all.
    columns: Option<Vec<usize>>,
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    stack: Stack,
}

impl Compiled {
    /// `None`: the query does more, or may give something else another time.
    pub(super) fn of(plan: &QueryPlan, state: &SessionState) -> Option<Compiled> {
        if !plan.is_immutable() || plan.is_volatile() {
            return None;
        }
        let compiled = plan.stack.run(|| {
            let LogicalPlan::Projection(projection) = state.optimize(&plan.logical).ok()? else {
                return None;
            };
            let mut input = projection.input.as_ref();
            while let LogicalPlan::SubqueryAlias(alias) = input {
                input = alias.input.as_ref();
            }
            let LogicalPlan::TableScan(scan) = input else {
                return None;
            };
            if !scan.filters.is_empty() || scan.fetch.is_some() {
                return None;
            }
            let schema: &DFSchema = projection.input.schema();
            let properties = state.execution_props();
            let context = PhysicalPlanningContext::default();
            let expressions = projection.expr.iter();
            let expressions = expressions
                .map(|expression| create_physical_expr(expression, schema, properties, &context))
                .collect::<Result<Vec<_>, _>>()
                .ok()?;
            Some((scan.projection.clone(), expressions))
        });
        let (columns, expressions) = compiled?;
        Some(Compiled {
            columns,
            expressions,
            stack: plan.stack,
        })
    }

    /// The query's columns for some rows.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, QueryError> {
        let projected = match &self.columns {
            None => rows.clone(),
            Some(columns) => rows.project(columns).map_err(DataFusionError::from)?,
        };
        let count = rows.num_rows();
        self.stack.run(|| {
            let evaluate =
                |e: &Arc<dyn PhysicalExpr>| Ok(e.evaluate(&projected)?.into_array(count)?);
            self.expressions.iter().map(evaluate).collect()
        })
    }
}
