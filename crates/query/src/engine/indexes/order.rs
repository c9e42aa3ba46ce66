//! `ORDER BY .. LIMIT n` by an index that has this order: the first rows of the index instead
//! of the first of all rows, sorted.
//!
//! Replaces the scan only. The sort above finds its input sorted, and goes in a later rule.

use std::sync::Arc;

use arrow_schema::SortOptions;
use chronos_model::IndexColumn;
use chronos_store::{KeyRange, ScanColumn};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::ExecutionPlan;

use super::choice::{few, is_float, stretch};
use super::IndexScanExec;
use crate::engine::scan::ScanExec;

/// Scans by an index below a sort that wants few rows.
#[derive(Debug)]
pub(in crate::engine) struct IndexOrder;

/// What a sort asks of the plan below it.
#[derive(Clone, Default)]
struct Wanted {
    /// Positions of columns.
    order: Vec<(usize, SortOptions)>,
    /// Positions of the columns that filters in between look at.
    filtered: Vec<usize>,
    rows: usize,
}

impl PhysicalOptimizerRule for IndexOrder {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_down(|node| {
            let Some(sort) = node.downcast_ref::<SortExec>() else {
                return Ok(Transformed::no(node));
            };
            let Some(rows) = sort.fetch() else {
                return Ok(Transformed::no(node));
            };
            let column = |expr: &datafusion::physical_expr::PhysicalSortExpr| {
                let column = expr.expr.downcast_ref::<Column>()?;
                Some((column.index(), expr.options))
            };
            let Some(order) = sort.expr().iter().map(column).collect::<Option<Vec<_>>>() else {
                return Ok(Transformed::no(node));
            };
            let wanted = Wanted {
                order,
                filtered: vec![],
                rows,
            };
            match sorted(sort.input(), wanted)? {
                None => Ok(Transformed::no(node)),
                Some(input) => replace_input(node, input).map(Transformed::yes),
            }
        })?;
        Ok(replaced.data)
    }

    fn name(&self) -> &str {
        "index_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan with its scan replaced by one that gives the order.
fn sorted(
    plan: &Arc<dyn ExecutionPlan>,
    mut wanted: Wanted,
) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = plan.downcast_ref::<ScanExec>() {
        return by_index(scan, &wanted);
    }
    let input = if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        if filter.projection().is_some() {
            return Ok(None);
        }
        let columns = collect_columns(filter.predicate());
        wanted.filtered.extend(columns.iter().map(Column::index));
        filter.input()
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let below = |position: usize| {
            let expr = &projection.expr().get(position)?.expr;
            expr.downcast_ref::<Column>().map(Column::index)
        };
        let order = wanted.order.iter().map(|(at, o)| Some((below(*at)?, *o)));
        let filtered = wanted.filtered.iter().map(|at| below(*at));
        let (Some(order), Some(filtered)) = (order.collect(), filtered.collect()) else {
            return Ok(None);
        };
        wanted = Wanted {
            order,
            filtered,
            ..wanted
        };
        projection.input()
    } else {
        return Ok(None);
    };
    match sorted(input, wanted)? {
        None => Ok(None),
        Some(input) => replace_input(Arc::clone(plan), input).map(Some),
    }
}

/// Of the usable indexes the first that gives the order and leaves no filter to others.
fn by_index(scan: &ScanExec, wanted: &Wanted) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(usable) = &scan.usable else {
        return Ok(None);
    };
    let table = &scan.table;
    let column_at = |position: &usize| match scan.request.columns.get(*position) {
        Some(ScanColumn::Column(column)) => Some(*column),
        _ => None,
    };
    let order: Option<Vec<(usize, SortOptions)>> = wanted
        .order
        .iter()
        .map(|(at, options)| Some((column_at(at)?, *options)))
        .collect();
    let filtered: Option<Vec<usize>> = wanted.filtered.iter().map(column_at).collect();
    let (Some(order), Some(filtered)) = (order, filtered) else {
        return Ok(None);
    };
    if wanted.rows as u64 > few(&scan.view, table) {
        return Ok(None);
    }
    for index in &usable.indexes {
        let found = stretch(index, table, &usable.facts);
        let (equal, bound) = found.as_ref().map_or((0, 0), |s| (s.equal, s.bound));
        let constant = |column: usize| index.columns[..equal].iter().any(|c| c.column == column);
        let covered = |column: usize| {
            let by_entry = index.columns[..bound].iter().any(|c| c.column == column);
            by_entry || index.conditions.iter().any(|c| c.column == column)
        };
        if !filtered.iter().all(|column| covered(*column)) {
            continue;
        }
        let options_of = |c: &IndexColumn| {
            let options = SortOptions {
                descending: c.descending,
                nulls_first: c.nulls_first,
            };
            (c.column, options)
        };
        let given: Vec<_> = index.columns[equal..].iter().map(options_of).collect();
        let asked: Vec<_> = order
            .iter()
            .filter(|(c, _)| !constant(*c))
            .copied()
            .collect();
        let is_given = asked.len() <= given.len() && asked == given[..asked.len()];
        if !is_given || asked.iter().any(|(column, _)| is_float(table, *column)) {
            continue;
        }
        let ranges = found.map_or(vec![KeyRange::ALL], |s| s.ranges);
        return Ok(Some(Arc::new(IndexScanExec::new(
            Arc::clone(table),
            Arc::clone(index),
            scan.view.clone(),
            &scan.request,
            ranges,
            scan.schema(),
        ))));
    }
    Ok(None)
}

fn replace_input(
    node: Arc<dyn ExecutionPlan>,
    input: Arc<dyn ExecutionPlan>,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    node.replace_children(vec![input], options)
}
