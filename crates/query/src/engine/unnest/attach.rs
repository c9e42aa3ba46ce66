//! What the outer query does with an unnested subquery, by how it is used.

use std::sync::Arc;

use datafusion::common::{Column, NullEquality, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::expr_fn::{count, first_value, max, min};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    binary_expr, lit, not, when, Aggregate, Distinct, Expr, Filter, Join, JoinConstraint, JoinType,
    LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, SubqueryAlias,
};

use super::push::Domain;
use super::{by_name, named, named_as, project, same, single, Unnester};
use crate::QueryError;

/// A subquery evaluated for all outer rows at once.
struct Unnested {
    plan: LogicalPlan,
    /// Outer columns, and the columns of `plan` that hold their values.
    keys: Vec<(Column, Column)>,
}

impl Unnested {
    fn key_expressions(&self) -> Vec<Expr> {
        self.keys
            .iter()
            .map(|(_, c)| Expr::Column(c.clone()))
            .collect()
    }
}

impl Unnester {
    /// The subquery's value for a row of `input`.
    pub(super) fn scalar(&mut self, subquery: Subquery, input: &mut LogicalPlan) -> DfResult<Expr> {
        let is_single = gives_one_row_at_most(&subquery.subquery);
        let mut unnested = self.unnested(&subquery.subquery, input)?;
        let value = Expr::Column(subquery.subquery.schema().columns().remove(0));
        let value_name = self.fresh();
        if is_single {
            let mut shown = unnested.key_expressions();
            shown.push(named(value, None, &value_name));
            unnested.plan = project(unnested.plan, shown)?;
            join(input, unnested)?;
            return Ok(column(&value_name));
        }
        let count_name = self.fresh();
        let aggregates = vec![
            first_value(value, vec![]).alias(&value_name),
            count(lit(1_i64)).alias(&count_name),
        ];
        unnested.plan = aggregate(unnested.plan, unnested.keys.iter(), aggregates)?;
        join(input, unnested)?;
        Ok(single::single(column(&value_name), column(&count_name)))
    }

    pub(super) fn exists(&mut self, exists: Exists, input: &mut LogicalPlan) -> DfResult<Expr> {
        let mut unnested = self.unnested(&exists.subquery.subquery, input)?;
        let name = self.fresh();
        let found = if unnested.keys.is_empty() {
            let first = LogicalPlanBuilder::from(unnested.plan)
                .limit(0, Some(1))?
                .build()?;
            let rows = count(lit(1_i64)).alias(&name);
            unnested.plan = aggregate(first, [].iter(), vec![rows])?;
            column(&name).gt(lit(0_i64))
        } else {
            let mut shown = unnested.key_expressions();
            shown.push(lit(true).alias(&name));
            let marked = project(unnested.plan, shown)?;
            unnested.plan = LogicalPlan::Distinct(Distinct::All(Arc::new(marked)));
            column(&name).is_not_null()
        };
        join(input, unnested)?;
        Ok(if exists.negated { not(found) } else { found })
    }

    /// `x IN (S)`: true if a value of S equals x; else NULL if one might, for being NULL or
    /// because x is; else false.
    pub(super) fn membership(
        &mut self,
        set: InSubquery,
        input: &mut LogicalPlan,
    ) -> DfResult<Expr> {
        let InSubquery {
            expr: x,
            subquery,
            negated,
        } = set;
        let unnested = self.unnested(&subquery.subquery, input)?;
        let plan = self.shared(unnested.plan)?;
        let value = Expr::Column(subquery.subquery.schema().columns().remove(0));

        // The values, once each: joined by equality.
        let (value_name, mark) = (self.fresh(), self.fresh());
        let renamed: Vec<(Column, String)> = unnested
            .keys
            .iter()
            .map(|(outer, _)| (outer.clone(), self.fresh()))
            .collect();
        let mut shown: Vec<Expr> = unnested
            .keys
            .iter()
            .zip(&renamed)
            .map(|((_, inner), (_, name))| named(Expr::Column(inner.clone()), None, name))
            .collect();
        shown.push(named(value.clone(), None, &value_name));
        shown.push(lit(true).alias(&mark));
        let values = LogicalPlan::Distinct(Distinct::All(Arc::new(project(plan.clone(), shown)?)));
        let renamed: Vec<(Column, Column)> = renamed
            .into_iter()
            .map(|(outer, name)| (outer, Column::new_unqualified(name)))
            .collect();
        let mut keys = on(&renamed, input, &values)?;
        keys.push(((*x).clone(), column(&value_name)));
        *input = joined(input.clone(), values, keys, None, JoinType::Left)?;

        // How many values there are, and how many are not NULL.
        let (rows, known) = (self.fresh(), self.fresh());
        let counts = aggregate(
            plan,
            unnested.keys.iter(),
            vec![count(lit(1_i64)).alias(&rows), count(value).alias(&known)],
        )?;
        let counts = Unnested {
            plan: counts,
            keys: unnested.keys,
        };
        join(input, counts)?;

        let is_member = when(column(&mark).is_not_null(), lit(true))
            .when(is_empty(&rows), lit(false))
            .when(is_undecided(*x, &rows, &known), unknown())
            .otherwise(lit(false))?;
        Ok(if negated { not(is_member) } else { is_member })
    }

    /// `x > ALL (S)` and its like, from the least and the greatest value of S.
    pub(super) fn quantified(
        &mut self,
        comparison: SetComparison,
        input: &mut LogicalPlan,
    ) -> DfResult<Expr> {
        let SetComparison {
            expr,
            subquery,
            op,
            quantifier,
        } = comparison;
        let is_all = quantifier == SetQuantifier::All;
        if (op, is_all) == (Operator::Eq, false) || (op, is_all) == (Operator::NotEq, true) {
            let set = InSubquery::new(expr, subquery, is_all);
            return self.membership(set, input);
        }
        let mut unnested = self.unnested(&subquery.subquery, input)?;
        let value = Expr::Column(subquery.subquery.schema().columns().remove(0));
        let (least, greatest) = (self.fresh(), self.fresh());
        let (rows, known) = (self.fresh(), self.fresh());
        let aggregates = vec![
            min(value.clone()).alias(&least),
            max(value.clone()).alias(&greatest),
            count(lit(1_i64)).alias(&rows),
            count(value).alias(&known),
        ];
        unnested.plan = aggregate(unnested.plan, unnested.keys.iter(), aggregates)?;
        join(input, unnested)?;
        let x = *expr;
        let compare = |bound: &str| binary_expr(x.clone(), op, column(bound));
        let holds = match (op, is_all) {
            (Operator::Lt | Operator::LtEq, true) | (Operator::Gt | Operator::GtEq, false) => {
                compare(&least)
            }
            (Operator::Lt | Operator::LtEq, false) | (Operator::Gt | Operator::GtEq, true) => {
                compare(&greatest)
            }
            (Operator::Eq, _) => compare(&least).and(compare(&greatest)),
            (Operator::NotEq, _) => compare(&least).or(compare(&greatest)),
            _ => {
                let word = if is_all { "ALL" } else { "ANY" };
                return Err(QueryError::unsupported(format!("{op} {word} (subquery)")).into());
            }
        };
        // One value decides against ALL, and for ANY.
        let (decided, outcome) = if is_all {
            (not(holds), lit(false))
        } else {
            (holds, lit(true))
        };
        when(is_empty(&rows), lit(is_all))
            .when(decided, outcome)
            .when(is_undecided(x.clone(), &rows, &known), unknown())
            .otherwise(lit(is_all))
    }

    /// A join with a relation that depends on the row it is joined to.
    pub(super) fn lateral(&mut self, lateral: Join) -> DfResult<LogicalPlan> {
        let schema = Arc::clone(&lateral.schema);
        if !matches!(lateral.join_type, JoinType::Inner | JoinType::Left) {
            let what = format!("LATERAL in a {} JOIN", lateral.join_type);
            return Err(QueryError::unsupported(what).into());
        }
        let mut left = Arc::unwrap_or_clone(lateral.left);
        let right = without_mark(Arc::unwrap_or_clone(lateral.right))?;
        let unnested = self.unnested(&right, &mut left)?;
        let equal = lateral.on.into_iter().map(|(l, r)| l.eq(r));
        let condition = conjunction(equal.chain(lateral.filter));
        let is_inner = lateral.join_type == JoinType::Inner;
        if !is_inner && condition.as_ref().is_some_and(super::has_subquery) {
            let what = "a subquery in the ON clause of LEFT JOIN LATERAL";
            return Err(QueryError::unsupported(what).into());
        }
        let (above, within) = if is_inner {
            (condition, None)
        } else {
            (None, condition)
        };
        let keys = on(&unnested.keys, &left, &unnested.plan)?;
        let mut rows = joined(left, unnested.plan, keys, within, lateral.join_type)?;
        if let Some(condition) = above {
            rows = self.filter(Filter::try_new(condition, Arc::new(rows))?)?;
        }
        by_name(rows, &schema)
    }

    /// The subquery for all rows of `input` at once. `input` is changed only so far that it
    /// may be evaluated twice.
    fn unnested(&mut self, subquery: &LogicalPlan, input: &mut LogicalPlan) -> DfResult<Unnested> {
        let source = self.shared(input.clone())?;
        let Some(domain) = Domain::new(self, subquery, &source)? else {
            return Ok(Unnested {
                plan: subquery.clone(),
                keys: vec![],
            });
        };
        let (plan, inner) = self.push(subquery.clone(), &domain)?;
        if domain.is_used() {
            *input = source;
        }
        let keys = domain.outer.into_iter().zip(inner).collect();
        Ok(Unnested { plan, keys })
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn unknown() -> Expr {
    Expr::Literal(ScalarValue::Boolean(None), None)
}

/// The subquery has given no row.
fn is_empty(rows: &str) -> Expr {
    column(rows).is_null().or(column(rows).eq(lit(0_i64)))
}

/// A comparison that did not hold might have, if the NULLs were known.
fn is_undecided(x: Expr, rows: &str, known: &str) -> Expr {
    x.is_null().or(column(known).lt(column(rows)))
}

fn aggregate<'a>(
    plan: LogicalPlan,
    keys: impl Iterator<Item = &'a (Column, Column)>,
    aggregates: Vec<Expr>,
) -> DfResult<LogicalPlan> {
    let keys = keys.map(|(_, c)| Expr::Column(c.clone())).collect();
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(
        Arc::new(plan),
        keys,
        aggregates,
    )?))
}

fn on(
    keys: &[(Column, Column)],
    left: &LogicalPlan,
    right: &LogicalPlan,
) -> DfResult<Vec<(Expr, Expr)>> {
    let mut pairs = Vec::with_capacity(keys.len());
    for (outer, inner) in keys {
        let outer = (Expr::Column(outer.clone()), left.schema().as_ref());
        let inner = (Expr::Column(inner.clone()), right.schema().as_ref());
        pairs.extend(same::keys(outer, inner)?);
    }
    Ok(pairs)
}

/// A join by equality.
pub(super) fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    on: Vec<(Expr, Expr)>,
    filter: Option<Expr>,
    join_type: JoinType,
) -> DfResult<LogicalPlan> {
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        filter,
        join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?))
}

/// Each row of `input` with its row of the subquery, or NULLs.
fn join(input: &mut LogicalPlan, unnested: Unnested) -> DfResult<()> {
    let filter = unnested.keys.is_empty().then(|| lit(true));
    let keys = on(&unnested.keys, input, &unnested.plan)?;
    *input = joined(input.clone(), unnested.plan, keys, filter, JoinType::Left)?;
    Ok(())
}

/// The relation without the node that marks it as LATERAL.
fn without_mark(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Subquery(s) => Arc::unwrap_or_clone(s.subquery),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
            let input = without_mark(Arc::unwrap_or_clone(input))?;
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias)?)
        }
        LogicalPlan::Projection(Projection {
            expr,
            input,
            schema,
            ..
        }) => {
            let input = without_mark(Arc::unwrap_or_clone(input))?;
            let named = expr
                .into_iter()
                .enumerate()
                .map(|(i, e)| named_as(e, &schema, i))
                .collect();
            project(input, named)?
        }
        other => other,
    })
}

fn gives_one_row_at_most(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => gives_one_row_at_most(&p.input),
        LogicalPlan::SubqueryAlias(a) => gives_one_row_at_most(&a.input),
        LogicalPlan::Filter(f) => gives_one_row_at_most(&f.input),
        LogicalPlan::Sort(s) => gives_one_row_at_most(&s.input),
        LogicalPlan::Aggregate(a) => a.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Limit(_) => plan.max_rows().is_some_and(|n| n <= 1),
        _ => false,
    }
}
