//! The domain of a correlated subquery, pushed down through the subquery's operators.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    lit, when, Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Filter, Join, JoinConstraint,
    JoinType, Limit, LogicalPlan, LogicalPlanBuilder, Operator, Union, Unnest, Window,
};

use super::attach::joined;
use super::{has_subquery, named, named_as, project, rows_as_union, same, Unnester};
use crate::QueryError;

/// The distinct values of the outer columns that a subquery refers to.
pub(super) struct Domain {
    /// The outer columns.
    pub(super) outer: Vec<Column>,
    source: LogicalPlan,
    names: Vec<String>,
    is_used: Cell<bool>,
}

/// A plan, and its columns that hold the domain's values, in the order of [`Domain::outer`].
pub(super) type Pushed = (LogicalPlan, Vec<Column>);

impl Domain {
    /// The domain of `subquery` over the rows of `input`; `None` if it refers to none of
    /// their columns.
    pub(super) fn new(
        unnester: &mut Unnester,
        subquery: &LogicalPlan,
        input: &LogicalPlan,
    ) -> DfResult<Option<Domain>> {
        let mut outer: Vec<Column> = Vec::new();
        for reference in subquery.all_out_ref_exprs() {
            if let Expr::OuterReferenceColumn(_, column) = reference {
                if input.schema().has_column(&column) && !outer.contains(&column) {
                    outer.push(column);
                }
            }
        }
        if outer.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = outer.iter().map(|_| unnester.fresh()).collect();
        let columns = outer
            .iter()
            .zip(&names)
            .map(|(c, name)| named(Expr::Column(c.clone()), None, name))
            .collect();
        let source = project(input.clone(), columns)?;
        Ok(Some(Domain {
            outer,
            source: LogicalPlan::Distinct(Distinct::All(Arc::new(source))),
            names,
            is_used: Cell::new(false),
        }))
    }

    /// Whether the plan reads the outer rows to know the domain.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.get()
    }

    fn position(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::OuterReferenceColumn(_, column) => self.outer.iter().position(|o| o == column),
            _ => None,
        }
    }

    fn is_in(&self, expr: &Expr) -> bool {
        expr.exists(|e| Ok(self.position(e).is_some()))
            .unwrap_or(true)
    }

    /// Whether any part of the plan refers to the outer row.
    fn is_below(&self, plan: &LogicalPlan) -> bool {
        plan.all_out_ref_exprs()
            .iter()
            .any(|e| self.position(e).is_some())
    }

    /// The expression with outer references replaced by `values`.
    pub(super) fn substitute(&self, expr: Expr, values: &[Expr]) -> DfResult<Expr> {
        let replaced = expr.transform(|e| {
            Ok(match self.position(&e) {
                Some(i) => Transformed::yes(values[i].clone()),
                None => Transformed::no(e),
            })
        })?;
        Ok(replaced.data)
    }
}

pub(super) fn columns(columns: &[Column]) -> Vec<Expr> {
    columns.iter().cloned().map(Expr::Column).collect()
}

fn same_values(
    (left, left_keys): (&LogicalPlan, &[Column]),
    (right, right_keys): (&LogicalPlan, &[Column]),
) -> DfResult<Vec<(Expr, Expr)>> {
    let mut pairs = Vec::with_capacity(left_keys.len());
    for (l, r) in left_keys.iter().zip(right_keys) {
        pairs.extend(same::keys(
            (Expr::Column(l.clone()), left.schema()),
            (Expr::Column(r.clone()), right.schema()),
        )?);
    }
    Ok(pairs)
}

fn refused(what: &str) -> datafusion::error::DataFusionError {
    QueryError::unsupported(format!("{what} in a subquery that refers to the outer row"))
        .with_hint("Join with the subquery instead.")
        .into()
}

impl Unnester {
    /// `plan` for every value of the domain: its own columns under their names, and the
    /// domain's.
    pub(super) fn push(&mut self, plan: LogicalPlan, domain: &Domain) -> DfResult<Pushed> {
        if !domain.is_below(&plan) {
            let (values, keys) = self.instance(domain)?;
            let product = LogicalPlanBuilder::from(values).cross_join(plan)?.build()?;
            return Ok((product, keys));
        }
        match plan {
            LogicalPlan::Filter(filter) => self.push_filter(filter, domain),
            LogicalPlan::Projection(projection) => {
                let schema = projection.schema;
                let (input, keys) = self.push_shared(projection.input, domain)?;
                let values = columns(&keys);
                let mut shown = values.clone();
                for (i, expr) in projection.expr.into_iter().enumerate() {
                    shown.push(named_as(domain.substitute(expr, &values)?, &schema, i));
                }
                Ok((project(input, shown)?, keys))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let inside = alias.input.schema().columns();
                let (input, keys) = self.push_shared(alias.input, domain)?;
                let mut shown = columns(&keys);
                for (i, column) in inside.into_iter().enumerate() {
                    shown.push(named_as(Expr::Column(column), &alias.schema, i));
                }
                Ok((project(input, shown)?, keys))
            }
            LogicalPlan::Subquery(s) => self.push_shared(s.subquery, domain),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.push_shared(sort.input, domain),
            LogicalPlan::Limit(limit) => {
                let Limit { skip, fetch, input } = limit;
                let limits = (skip.map(|e| *e), fetch.map(|e| *e));
                self.push_limit(&limits, Arc::unwrap_or_clone(input), domain)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let own = input.schema().columns();
                let (input, keys) = self.push_shared(input, domain)?;
                let ordered = project(input, [columns(&keys), columns(&own)].concat())?;
                let distinct = LogicalPlan::Distinct(Distinct::All(Arc::new(ordered)));
                Ok((distinct, keys))
            }
            LogicalPlan::Distinct(Distinct::On(on)) => self.push_distinct_on(on, domain),
            LogicalPlan::Aggregate(aggregate) => self.push_aggregate(aggregate, domain),
            LogicalPlan::Window(window) => self.push_window(window, domain),
            LogicalPlan::Join(join) => self.push_join(join, domain),
            LogicalPlan::Union(union) => self.push_union(union, domain),
            LogicalPlan::Unnest(unnest) => {
                let own = unnest.schema.columns();
                let (input, keys) = self.push_shared(unnest.input, domain)?;
                let lists = Unnest::try_new(Arc::new(input), unnest.exec_columns, unnest.options)?;
                let shown = [columns(&keys), columns(&own)].concat();
                Ok((project(LogicalPlan::Unnest(lists), shown)?, keys))
            }
            LogicalPlan::Values(_) => self.push(rows_as_union(&plan)?, domain),
            LogicalPlan::RecursiveQuery(_) => Err(refused("WITH RECURSIVE")),
            other => Err(refused(&other.display().to_string())),
        }
    }

    pub(super) fn push_shared(
        &mut self,
        plan: Arc<LogicalPlan>,
        domain: &Domain,
    ) -> DfResult<Pushed> {
        self.push(Arc::unwrap_or_clone(plan), domain)
    }

    /// The domain as a relation, under names of its own.
    fn instance(&mut self, domain: &Domain) -> DfResult<Pushed> {
        domain.is_used.set(true);
        let mut keys = Vec::with_capacity(domain.names.len());
        let mut shown = Vec::with_capacity(domain.names.len());
        for name in &domain.names {
            let own = self.fresh();
            shown.push(named(
                Expr::Column(Column::new_unqualified(name)),
                None,
                &own,
            ));
            keys.push(Column::new_unqualified(own));
        }
        Ok((project(domain.source.clone(), shown)?, keys))
    }

    fn push_filter(&mut self, filter: Filter, domain: &Domain) -> DfResult<Pushed> {
        let conditions = split_conjunction_owned(filter.predicate);
        if let Some(values) = equated(&conditions, &filter.input, domain)? {
            return self.filter_for_values(conditions, &values, filter.input, domain);
        }
        let (input, keys) = self.push_shared(filter.input, domain)?;
        let values = columns(&keys);
        let conditions = conditions
            .into_iter()
            .map(|c| domain.substitute(c, &values))
            .collect::<DfResult<Vec<_>>>()?;
        let Some(predicate) = conjunction(conditions) else {
            return Ok((input, keys));
        };
        let filter = Filter::try_new(predicate, Arc::new(input))?;
        Ok((LogicalPlan::Filter(filter), keys))
    }

    /// A filter that says of each outer column what it equals: the domain's values are
    /// those expressions. There may be more of them than in the domain; no outer row asks
    /// for those.
    fn filter_for_values(
        &mut self,
        conditions: Vec<Expr>,
        values: &[Expr],
        input: Arc<LogicalPlan>,
        domain: &Domain,
    ) -> DfResult<Pushed> {
        let own = input.schema().columns();
        let mut kept: Vec<Expr> = Vec::with_capacity(conditions.len());
        for condition in conditions {
            if equality(&condition, domain).is_none() || !kept_as_value(&condition, values) {
                kept.push(domain.substitute(condition, values)?);
            }
        }
        // `=` holds for no NULL; the join with the outer row takes NULLs as the same.
        for value in values {
            if value.nullable(input.schema())? {
                kept.push(value.clone().is_not_null());
            }
        }
        let mut plan = Arc::unwrap_or_clone(input);
        if let Some(predicate) = conjunction(kept) {
            plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?);
        }
        let mut keys = Vec::with_capacity(values.len());
        let mut shown = Vec::with_capacity(values.len() + own.len());
        for value in values {
            let name = self.fresh();
            shown.push(named(value.clone(), None, &name));
            keys.push(Column::new_unqualified(name));
        }
        shown.extend(columns(&own));
        Ok((project(plan, shown)?, keys))
    }

    fn push_aggregate(&mut self, aggregate: Aggregate, domain: &Domain) -> DfResult<Pushed> {
        let schema = Arc::clone(&aggregate.schema);
        let (mut input, mut keys) = self.push_shared(aggregate.input, domain)?;
        let inner = columns(&keys);
        let mut aggregates = Vec::with_capacity(aggregate.aggr_expr.len());
        let mut groups = Vec::with_capacity(aggregate.group_expr.len() + keys.len());
        if aggregate.group_expr.is_empty() {
            // One row for each value of the domain, also where nothing goes into it.
            let mark = self.fresh();
            let shown = input.schema().columns();
            let marked = [columns(&shown), vec![lit(true).alias(&mark)]].concat();
            let (values, own) = self.instance(domain)?;
            let marked = project(input, marked)?;
            let on = same_values((&values, &own), (&marked, &keys))?;
            input = joined(values, marked, on, None, JoinType::Left)?;
            keys = own;
            groups.extend(columns(&keys));
            let is_row = Expr::Column(Column::new_unqualified(mark)).is_not_null();
            for expr in aggregate.aggr_expr {
                let expr = domain.substitute(expr, &inner)?;
                aggregates.push(only_where(expr, &is_row)?);
            }
        } else {
            let grouping = aggregate
                .group_expr
                .into_iter()
                .map(|e| domain.substitute(e, &inner))
                .collect::<DfResult<Vec<_>>>()?;
            groups = grouped_within(&inner, grouping)?;
            for expr in aggregate.aggr_expr {
                aggregates.push(domain.substitute(expr, &inner)?);
            }
        }
        let pushed = Aggregate::try_new(Arc::new(input), groups, aggregates)?;
        let pushed = LogicalPlan::Aggregate(pushed);
        let given = pushed.schema().columns();
        let mut shown = columns(&keys);
        for (i, column) in given.into_iter().skip(keys.len()).enumerate() {
            shown.push(named_as(Expr::Column(column), &schema, i));
        }
        Ok((project(pushed, shown)?, keys))
    }

    fn push_window(&mut self, window: Window, domain: &Domain) -> DfResult<Pushed> {
        let schema = window.schema;
        let own = window.input.schema().columns();
        let (input, keys) = self.push_shared(window.input, domain)?;
        let values = columns(&keys);
        let before = input.schema().fields().len();
        let functions = window
            .window_expr
            .into_iter()
            .map(|e| {
                let e = domain.substitute(e, &values)?;
                let within = e.transform(|e| {
                    Ok(match e {
                        Expr::WindowFunction(mut f) => {
                            f.params.partition_by.splice(0..0, values.clone());
                            Transformed::yes(Expr::WindowFunction(f))
                        }
                        e => Transformed::no(e),
                    })
                })?;
                Ok(within.data)
            })
            .collect::<DfResult<Vec<_>>>()?;
        let pushed = LogicalPlan::Window(Window::try_new(functions, Arc::new(input))?);
        let mut shown = [values, columns(&own)].concat();
        for (i, column) in pushed
            .schema()
            .columns()
            .into_iter()
            .skip(before)
            .enumerate()
        {
            shown.push(named_as(Expr::Column(column), &schema, own.len() + i));
        }
        Ok((project(pushed, shown)?, keys))
    }

    fn push_join(&mut self, join: Join, domain: &Domain) -> DfResult<Pushed> {
        use JoinType as T;
        let (on_left, on_right) = (domain.is_below(&join.left), domain.is_below(&join.right));
        // The domain goes to both sides where both refer to it, and to the side whose
        // unmatched rows are kept.
        let (to_left, to_right) = match join.join_type {
            T::Inner => (on_left || !on_right, on_right),
            T::Left | T::LeftSemi | T::LeftAnti | T::LeftMark => (true, on_right),
            T::Right | T::RightSemi | T::RightAnti | T::RightMark => (on_left, true),
            T::Full => (true, true),
        };
        let (left, left_keys) = match to_left {
            true => self.push_shared(join.left, domain)?,
            false => (Arc::unwrap_or_clone(join.left), vec![]),
        };
        let (right, right_keys) = match to_right {
            true => self.push_shared(join.right, domain)?,
            false => (Arc::unwrap_or_clone(join.right), vec![]),
        };
        let shows_right = matches!(
            join.join_type,
            T::Right | T::RightSemi | T::RightAnti | T::RightMark
        );
        let keys = if shows_right || !to_left {
            right_keys.clone()
        } else {
            left_keys.clone()
        };
        let within = columns(if to_left { &left_keys } else { &right_keys });
        let mut on = join
            .on
            .into_iter()
            .map(|(l, r)| {
                Ok((
                    domain.substitute(l, &within)?,
                    domain.substitute(r, &within)?,
                ))
            })
            .collect::<DfResult<Vec<_>>>()?;
        let filter = join
            .filter
            .map(|filter| domain.substitute(filter, &within))
            .transpose()?;
        if to_left && to_right {
            on.extend(same_values((&left, &left_keys), (&right, &right_keys))?);
        }
        let joined = LogicalPlan::Join(Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on,
            filter,
            join.join_type,
            JoinConstraint::On,
            join.null_equality,
            join.null_aware,
        )?);
        if join.join_type != T::Full {
            return Ok((joined, keys));
        }
        self.full_keys(joined, &join.schema, &left_keys, &right_keys)
    }

    /// In a full join either side may be missing, and its domain columns with it.
    fn full_keys(
        &mut self,
        joined: LogicalPlan,
        schema: &DFSchema,
        left: &[Column],
        right: &[Column],
    ) -> DfResult<Pushed> {
        let mut keys = Vec::with_capacity(left.len());
        let mut shown = Vec::with_capacity(left.len());
        for (l, r) in left.iter().zip(right) {
            let name = self.fresh();
            let l = Expr::Column(l.clone());
            let value = when(l.clone().is_not_null(), l).otherwise(Expr::Column(r.clone()))?;
            shown.push(value.alias(&name));
            keys.push(Column::new_unqualified(name));
        }
        shown.extend(columns(&schema.columns()));
        Ok((project(joined, shown)?, keys))
    }

    fn push_union(&mut self, union: Union, domain: &Domain) -> DfResult<Pushed> {
        let names: Vec<String> = domain.names.iter().map(|_| self.fresh()).collect();
        let inputs = union
            .inputs
            .into_iter()
            .map(|input| {
                let own = input.schema().columns();
                let (input, keys) = self.push_shared(input, domain)?;
                let keys = columns(&keys)
                    .into_iter()
                    .zip(&names)
                    .map(|(key, name)| named(key, None, name));
                let own = own
                    .into_iter()
                    .enumerate()
                    .map(|(i, c)| named_as(Expr::Column(c), &union.schema, i));
                Ok(Arc::new(project(input, keys.chain(own).collect())?))
            })
            .collect::<DfResult<Vec<_>>>()?;
        let pushed = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let keys = names.iter().map(Column::new_unqualified).collect();
        let mut shown = Vec::new();
        let width = names.len();
        for (i, column) in pushed.schema().columns().into_iter().enumerate() {
            let expr = Expr::Column(column);
            shown.push(match i.checked_sub(width) {
                Some(own) => named_as(expr, &union.schema, own),
                None => named(expr, None, &names[i]),
            });
        }
        Ok((project(pushed, shown)?, keys))
    }
}

/// The grouping within each value of the domain.
fn grouped_within(keys: &[Expr], mut grouping: Vec<Expr>) -> DfResult<Vec<Expr>> {
    if let [Expr::GroupingSet(sets)] = grouping.as_mut_slice() {
        let GroupingSet::GroupingSets(sets) = sets else {
            return Err(refused("ROLLUP or CUBE"));
        };
        // The empty set has a row also where there is nothing to group.
        if sets.iter().any(Vec::is_empty) {
            return Err(refused("GROUPING SETS with ()"));
        }
        for set in sets {
            set.splice(0..0, keys.iter().cloned());
        }
        return Ok(grouping);
    }
    Ok([keys, &grouping].concat())
}

/// The aggregate of those rows for which `condition` holds.
fn only_where(expr: Expr, condition: &Expr) -> DfResult<Expr> {
    let filtered = expr.transform_down(|e| {
        Ok(match e {
            Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
                let filter = match params.filter.take() {
                    Some(filter) => condition.clone().and(*filter),
                    None => condition.clone(),
                };
                params.filter = Some(Box::new(filter));
                let call = Expr::AggregateFunction(AggregateFunction { func, params });
                Transformed::new(call, true, TreeNodeRecursion::Jump)
            }
            e => Transformed::no(e),
        })
    })?;
    Ok(filtered.data)
}

/// `inner = outer`: which outer column, and what it equals.
fn equality<'a>(condition: &'a Expr, domain: &Domain) -> Option<(usize, &'a Expr)> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return None;
    };
    match (domain.position(left), domain.position(right)) {
        (Some(i), None) => Some((i, right)),
        (None, Some(i)) => Some((i, left)),
        _ => None,
    }
}

fn kept_as_value(condition: &Expr, values: &[Expr]) -> bool {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
            values.contains(left) || values.contains(right)
        }
        _ => false,
    }
}

/// What each outer column equals, if the conditions say so of all of them and nothing below
/// refers to the outer row.
fn equated(
    conditions: &[Expr],
    input: &LogicalPlan,
    domain: &Domain,
) -> DfResult<Option<Vec<Expr>>> {
    if domain.is_below(input) {
        return Ok(None);
    }
    let mut values: Vec<Option<Expr>> = vec![None; domain.outer.len()];
    for condition in conditions {
        let Some((i, value)) = equality(condition, domain) else {
            continue;
        };
        let is_plain = !has_subquery(value)
            && !value.is_volatile()
            && !domain.is_in(value)
            && !value.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?;
        let outer_type = domain.source.schema().field(i).data_type().clone();
        if is_plain && values[i].is_none() && value.get_type(input.schema())? == outer_type {
            values[i] = Some(value.clone());
        }
    }
    Ok(values.into_iter().collect())
}
