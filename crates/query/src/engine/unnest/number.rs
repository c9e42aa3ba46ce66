//! LIMIT and DISTINCT ON within each value of the domain: rows are numbered in their order,
//! and those with the wanted numbers kept.

use std::sync::Arc;

use arrow_schema::DataType as Arrow;
use datafusion::common::Column;
use datafusion::error::Result as DfResult;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    cast, lit, when, DistinctOn, Expr, ExprFunctionExt, Filter, LogicalPlan, Window,
};

use super::push::{columns, Domain, Pushed};
use super::{named_as, project, Unnester};

impl Unnester {
    /// LIMIT per value of the domain: rows are numbered in their order.
    pub(super) fn push_limit(
        &mut self,
        limits: &(Option<Expr>, Option<Expr>),
        plan: LogicalPlan,
        domain: &Domain,
    ) -> DfResult<Pushed> {
        let (input, keys, order) = match plan {
            LogicalPlan::Sort(sort) => {
                let (input, keys) = self.push_shared(sort.input, domain)?;
                let values = columns(&keys);
                let order = sort
                    .expr
                    .into_iter()
                    .map(|s| {
                        let expr = domain.substitute(s.expr, &values)?;
                        Ok(SortExpr::new(expr, s.asc, s.nulls_first))
                    })
                    .collect::<DfResult<Vec<_>>>()?;
                (input, keys, order)
            }
            // Sorted by what is not shown: the order is below.
            LogicalPlan::Projection(projection) if holds_sort(&projection.input) => {
                let schema = projection.schema;
                let input = Arc::unwrap_or_clone(projection.input);
                let (input, keys) = self.push_limit(limits, input, domain)?;
                let values = columns(&keys);
                let mut shown = values.clone();
                for (i, expr) in projection.expr.into_iter().enumerate() {
                    shown.push(named_as(domain.substitute(expr, &values)?, &schema, i));
                }
                return Ok((project(input, shown)?, keys));
            }
            other => {
                let (input, keys) = self.push(other, domain)?;
                (input, keys, vec![])
            }
        };
        let values = columns(&keys);
        let (numbered, number) = self.numbered(input, values.clone(), order)?;
        let mut bounds = Vec::new();
        let number = cast(number, Arrow::Int64);
        let skip = match &limits.0 {
            Some(skip) => {
                let skip = cast(domain.substitute(skip.clone(), &values)?, Arrow::Int64);
                let skip = when(skip.clone().is_null(), lit(0_i64)).otherwise(skip)?;
                bounds.push(number.clone().gt(skip.clone()));
                skip
            }
            None => lit(0_i64),
        };
        if let Some(fetch) = &limits.1 {
            let fetch = cast(domain.substitute(fetch.clone(), &values)?, Arrow::Int64);
            // LIMIT NULL is no limit.
            let within = (number - skip).lt_eq(fetch.clone());
            bounds.push(fetch.is_null().or(within));
        }
        let Some(predicate) = conjunction(bounds) else {
            return Ok((numbered, keys));
        };
        let filter = Filter::try_new(predicate, Arc::new(numbered))?;
        Ok((LogicalPlan::Filter(filter), keys))
    }

    /// The rows numbered from 1 within each partition.
    fn numbered(
        &mut self,
        input: LogicalPlan,
        partition_by: Vec<Expr>,
        order_by: Vec<SortExpr>,
    ) -> DfResult<(LogicalPlan, Expr)> {
        let name = self.fresh();
        let mut number = row_number().partition_by(partition_by);
        if !order_by.is_empty() {
            number = number.order_by(order_by);
        }
        let window = Window::try_new(vec![number.build()?.alias(&name)], Arc::new(input))?;
        let number = Expr::Column(Column::new_unqualified(name));
        Ok((LogicalPlan::Window(window), number))
    }

    pub(super) fn push_distinct_on(&mut self, on: DistinctOn, domain: &Domain) -> DfResult<Pushed> {
        let (input, keys) = self.push_shared(on.input, domain)?;
        let values = columns(&keys);
        let substituted = |exprs: Vec<Expr>| {
            exprs
                .into_iter()
                .map(|e| domain.substitute(e, &values))
                .collect::<DfResult<Vec<_>>>()
        };
        let order = on
            .sort_expr
            .unwrap_or_default()
            .into_iter()
            .map(|s| {
                Ok(SortExpr::new(
                    domain.substitute(s.expr, &values)?,
                    s.asc,
                    s.nulls_first,
                ))
            })
            .collect::<DfResult<Vec<_>>>()?;
        let groups = [values.clone(), substituted(on.on_expr)?].concat();
        let (numbered, number) = self.numbered(input, groups, order)?;
        let first = Filter::try_new(
            cast(number, Arrow::Int64).eq(lit(1_i64)),
            Arc::new(numbered),
        )?;
        let mut shown = values.clone();
        for (i, expr) in substituted(on.select_expr)?.into_iter().enumerate() {
            shown.push(named_as(expr, &on.schema, i));
        }
        Ok((project(LogicalPlan::Filter(first), shown)?, keys))
    }
}

fn holds_sort(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(p) => holds_sort(&p.input),
        _ => false,
    }
}
