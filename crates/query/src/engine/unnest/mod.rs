//! Subqueries as joins: what the engine's own rules do not unnest, unnested in general.
//!
//! A correlated subquery means: for each outer row, evaluate me. The engine turns the
//! common forms of that into joins and refuses the rest. Here is the general way, after
//! Neumann & Kemper, "Unnesting Arbitrary Queries" (BTW 2015):
//!
//! ```text
//! for each row of T: S(row.a)        D = the distinct a of T       (the domain)
//!                                    U = S for all of D at once    (columns: a, what S gives)
//!                                    T join U on T.a is U.a
//! ```
//!
//! U is made by pushing D down through the operators of S ([`push`]) until nothing
//! below refers to the outer row: a filter keeps D's columns, an aggregate groups by them,
//! a LIMIT counts rows within them. The bottom is D x table, which with S's filter is an
//! ordinary join. Where S says `inner = outer.a`, the inner column stands for D, and
//! neither D nor its join is made.
//!
//! What the outer query does with U depends on how the subquery is used ([`attach`]): as a
//! value, as EXISTS, as IN or ANY with SQL's NULLs, or as a LATERAL relation. What the
//! engine does well is left to it ([`gate`]).
//!
//! An analyzer rule: it runs after types were coerced, on each execution, and bottom-up,
//! so that a subquery's own subqueries are joins when it is taken up. A reference that
//! goes out by two levels waits in the plan until the level it belongs to is reached.

mod attach;
mod gate;
mod number;
mod push;
pub(super) mod same;
mod shared;
mod single;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Alias;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    lit, Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, Sort, Subquery,
    SubqueryAlias, Union,
};
use datafusion::optimizer::AnalyzerRule;

use crate::QueryError;

/// Unnests subqueries.
#[derive(Debug)]
pub(super) struct Unnest;

impl AnalyzerRule for Unnest {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        if !holds_subquery(&plan)? {
            return Ok(plan);
        }
        let plan = Unnester::default().plan(plan)?;
        check_references(&plan)?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "unnest"
    }
}

fn holds_subquery(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= matches!(node, LogicalPlan::Subquery(_));
        node.apply_expressions(|expr| {
            found |= has_subquery(expr);
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// No reference to an outer row is left outside of the subqueries that stay.
fn check_references(plan: &LogicalPlan) -> DfResult<()> {
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            if expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))? {
                let what = format!("a reference to the outer query in {}", node.display());
                return Err(QueryError::unsupported(what).into());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
    )
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_subquery(e))).unwrap_or(false)
}

/// The state of one rewrite: how many names it has made up.
#[derive(Default)]
struct Unnester {
    names: usize,
    /// Subqueries that give a row of several values, of the node at work: each is joined
    /// once, however many of the values are asked for.
    rows: Vec<(Arc<LogicalPlan>, Expr)>,
}

/// Where an expression stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// In a WHERE clause or a SELECT list, where the engine's own rules look.
    Common,
    /// Anywhere else.
    Other,
}

impl Unnester {
    /// A name that nothing else in the statement has.
    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("__unnest_{}", self.names)
    }

    /// The plan, its subqueries unnested; its schema stays.
    fn plan(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        let plan = plan
            .map_children(|child| Ok(Transformed::yes(self.plan(child)?)))?
            .data;
        match plan {
            LogicalPlan::Join(join) if holds_lateral(&join.right) => self.lateral(join),
            LogicalPlan::Join(join) if join_has_subquery(&join) => self.join(join),
            LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => self.filter(filter),
            LogicalPlan::Sort(sort) if sort.expr.iter().any(|s| has_subquery(&s.expr)) => {
                self.sort(sort)
            }
            LogicalPlan::Aggregate(ref aggregate)
                if aggregate.aggr_expr.iter().any(is_of_outer_query) =>
            {
                let what = "an aggregate of the outer query in a subquery";
                Err(QueryError::unsupported(what).into())
            }
            LogicalPlan::Values(ref values) if values.values.iter().flatten().any(has_subquery) => {
                let rows = rows_as_union(&plan)?;
                self.plan(rows)
            }
            plan if plan.expressions().iter().any(has_subquery) => self.expressions(plan),
            plan => Ok(plan),
        }
    }

    /// A subquery's own subqueries unnested.
    fn inner(&mut self, subquery: Subquery) -> DfResult<Subquery> {
        let plan = self.plan(Arc::unwrap_or_clone(subquery.subquery))?;
        let outer_ref_columns = plan.all_out_ref_exprs();
        Ok(Subquery {
            subquery: Arc::new(plan),
            outer_ref_columns,
            spans: subquery.spans,
        })
    }

    /// The expression with its subqueries replaced by columns that are joined to `input`.
    fn replace(&mut self, expr: Expr, input: &mut LogicalPlan, place: Place) -> DfResult<Expr> {
        let replaced = expr.transform_up(|e| {
            Ok(match e {
                Expr::ScalarSubquery(s) => {
                    let s = self.inner(s)?;
                    let is_done = (s.outer_ref_columns.is_empty() && !is_row(&s))
                        || (place != Place::Other && gate::scalar(&s, input.schema()));
                    Transformed::yes(if is_done {
                        Expr::ScalarSubquery(or_null(s)?)
                    } else if is_row(&s) {
                        self.row(s, input)?
                    } else {
                        self.scalar(s, input)?
                    })
                }
                Expr::Exists(mut exists) => {
                    exists.subquery = self.inner(exists.subquery)?;
                    Transformed::yes(self.exists(exists, input)?)
                }
                Expr::InSubquery(mut set) => {
                    set.subquery = self.inner(set.subquery)?;
                    Transformed::yes(self.membership(set, input)?)
                }
                Expr::SetComparison(mut comparison) => {
                    comparison.subquery = self.inner(comparison.subquery)?;
                    Transformed::yes(self.quantified(comparison, input)?)
                }
                e => Transformed::no(e),
            })
        })?;
        Ok(replaced.data)
    }

    fn row(&mut self, subquery: Subquery, input: &mut LogicalPlan) -> DfResult<Expr> {
        let known = self
            .rows
            .iter()
            .find(|(plan, _)| *plan == subquery.subquery);
        if let Some((_, value)) = known {
            return Ok(value.clone());
        }
        let plan = Arc::clone(&subquery.subquery);
        let value = self.scalar(subquery, input)?;
        self.rows.push((plan, value.clone()));
        Ok(value)
    }

    /// WHERE: conditions without subqueries first, so that those see fewer rows.
    fn filter(&mut self, filter: Filter) -> DfResult<LogicalPlan> {
        let schema = Arc::clone(filter.input.schema());
        let (hard, mut conditions): (Vec<_>, Vec<_>) = split_conjunction_owned(filter.predicate)
            .into_iter()
            .partition(has_subquery);
        let mut values = Vec::new();
        let mut input = Arc::unwrap_or_clone(filter.input);
        for condition in hard {
            match condition {
                // A condition that the engine turns into a semi-join needs no column.
                Expr::Exists(_) | Expr::InSubquery(_) => {
                    match self.replace_condition(condition, &input)? {
                        Ok(condition) => conditions.push(condition),
                        Err(condition) => values.push(condition),
                    }
                }
                condition => values.push(condition),
            }
        }
        if let Some(first) = conjunction(conditions) {
            input = LogicalPlan::Filter(Filter::try_new(first, Arc::new(input))?);
        }
        if values.is_empty() {
            return Ok(input);
        }
        let outside = std::mem::take(&mut self.rows);
        let values = values
            .into_iter()
            .map(|v| self.replace(v, &mut input, Place::Common))
            .collect::<DfResult<Vec<_>>>()?;
        self.rows = outside;
        let width = input.schema().fields().len();
        if let Some(then) = conjunction(values) {
            input = LogicalPlan::Filter(Filter::try_new(then, Arc::new(input))?);
        }
        if width == schema.fields().len() {
            return Ok(input);
        }
        by_name(input, &schema)
    }

    /// `Ok`: the engine does it as a condition. `Err`: it has to become a value.
    fn replace_condition(
        &mut self,
        condition: Expr,
        input: &LogicalPlan,
    ) -> DfResult<Result<Expr, Expr>> {
        let is_done = |condition: &Expr| match condition {
            Expr::Exists(e) => gate::exists(&e.subquery, input.schema()),
            Expr::InSubquery(s) => !has_subquery(&s.expr) && gate::membership(s, input.schema()),
            _ => false,
        };
        let condition = match condition {
            Expr::Exists(mut e) => {
                e.subquery = self.inner(e.subquery)?;
                Expr::Exists(e)
            }
            Expr::InSubquery(mut s) => {
                s.subquery = self.inner(s.subquery)?;
                Expr::InSubquery(s)
            }
            other => other,
        };
        Ok(if is_done(&condition) {
            Ok(condition)
        } else {
            Err(condition)
        })
    }

    /// Any node with one input: its expressions see the joined columns, its parent does not.
    fn expressions(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        let outside = std::mem::take(&mut self.rows);
        let rewritten = self.own_expressions(plan);
        self.rows = outside;
        rewritten
    }

    fn own_expressions(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        let [input] = plan.inputs()[..] else {
            return Err(
                QueryError::unsupported(format!("a subquery in {}", plan.display())).into(),
            );
        };
        let mut input = input.clone();
        let before = input.schema().fields().len();
        let schema = Arc::clone(plan.schema());
        let place = match plan {
            LogicalPlan::Projection(_) => Place::Common,
            _ => Place::Other,
        };
        if let LogicalPlan::Projection(projection) = plan {
            let expressions = projection
                .expr
                .into_iter()
                .enumerate()
                .map(|(i, e)| {
                    let replaced = self.replace(e, &mut input, place)?;
                    Ok(named_as(replaced, &schema, i))
                })
                .collect::<DfResult<Vec<_>>>()?;
            return project(input, expressions);
        }
        let expressions = plan
            .expressions()
            .into_iter()
            .map(|e| self.replace(e, &mut input, place))
            .collect::<DfResult<Vec<_>>>()?;
        let added = input.schema().fields().len() - before;
        let keeps_input = matches!(plan, LogicalPlan::Window(_) | LogicalPlan::Sort(_));
        let rebuilt = plan.with_new_exprs(expressions, vec![input])?;
        let columns = rebuilt.schema().columns();
        let shown = if keeps_input {
            [&columns[..before], &columns[before + added..]].concat()
        } else {
            columns
        };
        let shown = shown
            .into_iter()
            .enumerate()
            .map(|(i, c)| named_as(Expr::Column(c), &schema, i))
            .collect();
        project(rebuilt, shown)
    }

    /// ORDER BY: a subquery sees the columns that the SELECT list was made from, and is
    /// computed beside it.
    fn sort(&mut self, sort: Sort) -> DfResult<LogicalPlan> {
        let LogicalPlan::Projection(list) = sort.input.as_ref() else {
            return self.expressions(LogicalPlan::Sort(sort));
        };
        let schema = Arc::clone(&list.schema);
        let mut shown = list.expr.clone();
        let mut order = Vec::with_capacity(sort.expr.len());
        for mut key in sort.expr {
            if has_subquery(&key.expr) {
                let name = self.fresh();
                let below = replace_columns(key.expr, list)?;
                shown.push(below.alias(&name));
                key.expr = Expr::Column(Column::new_unqualified(name));
            }
            order.push(key);
        }
        let wider = project(Arc::unwrap_or_clone(Arc::clone(&list.input)), shown)?;
        let sorted = LogicalPlan::Sort(Sort {
            expr: order,
            input: Arc::new(self.expressions(wider)?),
            fetch: sort.fetch,
        });
        by_name(sorted, &schema)
    }

    /// Subqueries in a join's ON.
    fn join(&mut self, join: Join) -> DfResult<LogicalPlan> {
        let schema = Arc::clone(&join.schema);
        let conditions: Vec<Expr> = join
            .filter
            .clone()
            .into_iter()
            .flat_map(split_conjunction_owned)
            .collect();
        let (hard, mut easy): (Vec<_>, Vec<_>) = conditions.into_iter().partition(has_subquery);
        if join
            .on
            .iter()
            .any(|(l, r)| has_subquery(l) || has_subquery(r))
        {
            return Err(QueryError::unsupported("a subquery in a join's keys").into());
        }
        let mut left = Arc::unwrap_or_clone(Arc::clone(&join.left));
        let mut right = Arc::unwrap_or_clone(Arc::clone(&join.right));
        let rebuilt = |left, right, filter: Vec<Expr>| {
            Join::try_new(
                Arc::new(left),
                Arc::new(right),
                join.on.clone(),
                conjunction(filter),
                join.join_type,
                join.join_constraint,
                join.null_equality,
                join.null_aware,
            )
        };
        if join.join_type == JoinType::Inner {
            let joined = LogicalPlan::Join(rebuilt(left, right, easy)?);
            let Some(predicate) = conjunction(hard) else {
                return Ok(joined);
            };
            return self.filter(Filter::try_new(predicate, Arc::new(joined))?);
        }
        for condition in hard {
            let columns = used_columns(&condition)?;
            if columns.iter().all(|c| left.schema().has_column(c)) {
                easy.push(self.replace(condition, &mut left, Place::Other)?);
            } else if columns.iter().all(|c| right.schema().has_column(c)) {
                easy.push(self.replace(condition, &mut right, Place::Other)?);
            } else {
                return Err(QueryError::unsupported(
                    "a subquery over both sides of an outer join, in its ON clause",
                )
                .into());
            }
        }
        by_name(LogicalPlan::Join(rebuilt(left, right, easy)?), &schema)
    }
}

/// The expression over a projection's input: its columns replaced by what they stand for.
fn replace_columns(expr: Expr, list: &Projection) -> DfResult<Expr> {
    let replaced = expr.transform(|e| {
        let Expr::Column(column) = &e else {
            return Ok(Transformed::no(e));
        };
        Ok(match list.schema.maybe_index_of_column(column) {
            Some(i) => Transformed::yes(list.expr[i].clone().unalias()),
            None => Transformed::no(e),
        })
    })?;
    Ok(replaced.data)
}

/// An aggregate over outer columns alone belongs to the query they are of (SQL:2016 10.9).
fn is_of_outer_query(expr: &Expr) -> bool {
    expr.column_refs().is_empty()
        && expr
            .exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))
            .unwrap_or(true)
}

/// A subquery may give no row, so its value may be NULL; the engine asks only the column.
fn or_null(mut subquery: Subquery) -> DfResult<Subquery> {
    let schema = Arc::clone(subquery.subquery.schema());
    if !schema.field(0).is_nullable() {
        let value = Expr::Column(schema.columns().remove(0));
        let value = named_as(single::single(value, lit(1_i64)), &schema, 0);
        let plan = project(Arc::unwrap_or_clone(subquery.subquery), vec![value])?;
        subquery.subquery = Arc::new(plan);
    }
    Ok(subquery)
}

/// A row of several values: it must not be evaluated once for each of them.
fn is_row(subquery: &Subquery) -> bool {
    let schema = subquery.subquery.schema();
    matches!(
        schema.field(0).data_type(),
        arrow_schema::DataType::Struct(_)
    )
}

/// The columns an expression needs of the rows it is evaluated for, its subqueries' included.
fn used_columns(expr: &Expr) -> DfResult<Vec<Column>> {
    let mut columns: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    expr.apply(|e| {
        let subquery = match e {
            Expr::ScalarSubquery(s) => s,
            Expr::Exists(e) => &e.subquery,
            Expr::InSubquery(s) => &s.subquery,
            Expr::SetComparison(s) => &s.subquery,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        for reference in &subquery.outer_ref_columns {
            if let Expr::OuterReferenceColumn(_, column) = reference {
                columns.push(column.clone());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

fn join_has_subquery(join: &Join) -> bool {
    join.filter.as_ref().is_some_and(has_subquery)
        || join
            .on
            .iter()
            .any(|(l, r)| has_subquery(l) || has_subquery(r))
}

/// Whether the right side of a join is a LATERAL relation, under whatever names.
fn holds_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Projection(Projection { input, .. }) => holds_lateral(input),
        _ => false,
    }
}

/// `VALUES` as one SELECT per row: a VALUES list has no input that could be joined to.
fn rows_as_union(plan: &LogicalPlan) -> DfResult<LogicalPlan> {
    let LogicalPlan::Values(values) = plan else {
        return Ok(plan.clone());
    };
    let mut rows = values
        .values
        .iter()
        .map(|row| {
            let one = LogicalPlanBuilder::empty(true).build()?;
            let row = row
                .iter()
                .enumerate()
                .map(|(i, e)| named_as(e.clone(), &values.schema, i))
                .collect();
            Ok(Arc::new(project(one, row)?))
        })
        .collect::<DfResult<Vec<_>>>()?;
    match rows.len() {
        1 => Ok(Arc::unwrap_or_clone(rows.remove(0))),
        _ => Ok(LogicalPlan::Union(Union::try_new_with_loose_types(rows)?)),
    }
}

fn project(input: LogicalPlan, expressions: Vec<Expr>) -> DfResult<LogicalPlan> {
    Ok(LogicalPlan::Projection(Projection::try_new(
        expressions,
        Arc::new(input),
    )?))
}

/// The expression under a name.
fn named(expr: Expr, qualifier: Option<&TableReference>, name: &str) -> Expr {
    match &expr {
        Expr::Column(c) if c.relation.as_ref() == qualifier && c.name == name => expr,
        _ => Expr::Alias(Alias::new(expr.unalias(), qualifier.cloned(), name)),
    }
}

/// The expression under the name that column `i` of `schema` has.
fn named_as(expr: Expr, schema: &DFSchema, i: usize) -> Expr {
    let (qualifier, field) = schema.qualified_field(i);
    named(expr, qualifier, field.name())
}

/// Of `plan`, only the columns of `schema`.
fn by_name(plan: LogicalPlan, schema: &DFSchema) -> DfResult<LogicalPlan> {
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    project(plan, columns)
}
