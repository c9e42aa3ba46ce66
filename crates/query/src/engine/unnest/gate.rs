//! Which subqueries the engine's own rules turn into joins, rightly and well. Whatever is
//! not surely among them is unnested here.

use datafusion::common::tree_node::TreeNode;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Subquery,
};

/// `(SELECT max(i.x) FROM i WHERE i.a = outer.a)`.
pub(super) fn scalar(subquery: &Subquery, outer: &DFSchema) -> bool {
    if !is_local(subquery, outer) {
        return false;
    }
    let mut plan = subquery.subquery.as_ref();
    loop {
        plan = match plan {
            LogicalPlan::Projection(p) if !p.expr.iter().any(is_outer) => &p.input,
            LogicalPlan::SubqueryAlias(a) => &a.input,
            LogicalPlan::Aggregate(a) => {
                return a.group_expr.is_empty()
                    && !a.aggr_expr.iter().any(is_outer)
                    && is_filtered(&a.input, is_equality);
            }
            _ => return false,
        }
    }
}

/// `EXISTS (SELECT .. FROM i WHERE i.a = outer.a AND ..)`, as a whole condition.
pub(super) fn exists(subquery: &Subquery, outer: &DFSchema) -> bool {
    subquery.outer_ref_columns.is_empty() || (is_local(subquery, outer) && is_semi_join(subquery))
}

/// `x IN (SELECT i.y FROM i WHERE i.a = outer.a)`, as a whole condition.
pub(super) fn membership(set: &InSubquery, outer: &DFSchema) -> bool {
    if !set.negated {
        return exists(&set.subquery, outer);
    }
    // Without NULLs, NOT IN is an anti-join; with them it is three-valued.
    let inner = set.subquery.subquery.schema();
    set.subquery.outer_ref_columns.is_empty()
        && !inner.field(0).is_nullable()
        && set.expr.nullable(outer).is_ok_and(|nullable| !nullable)
}

/// Whether all outer columns are those of the rows that the subquery is evaluated for.
fn is_local(subquery: &Subquery, outer: &DFSchema) -> bool {
    subquery
        .outer_ref_columns
        .iter()
        .all(|e| matches!(e, Expr::OuterReferenceColumn(_, column) if outer.has_column(column)))
}

fn is_semi_join(subquery: &Subquery) -> bool {
    let mut plan = subquery.subquery.as_ref();
    loop {
        plan = match plan {
            LogicalPlan::Projection(p) if !p.expr.iter().any(is_outer) => &p.input,
            LogicalPlan::SubqueryAlias(a) => &a.input,
            LogicalPlan::Distinct(Distinct::All(input)) => input,
            plan => return is_filtered(plan, |_| true),
        }
    }
}

/// Whether the plan is correlated by conditions of one filter only, each as `is_fit` wants.
fn is_filtered(plan: &LogicalPlan, is_fit: fn(&Expr) -> bool) -> bool {
    let LogicalPlan::Filter(filter) = plan else {
        return false;
    };
    split_conjunction(&filter.predicate)
        .into_iter()
        .filter(|e| is_outer(e))
        .all(|e| is_fit(e) && !super::has_subquery(e))
        && filter.input.all_out_ref_exprs().is_empty()
}

fn is_equality(expr: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = expr
    else {
        return false;
    };
    let (inner, outer) = if is_outer(left) {
        (right, left)
    } else {
        (left, right)
    };
    matches!(inner.as_ref(), Expr::Column(_))
        && matches!(outer.as_ref(), Expr::OuterReferenceColumn(..))
}

fn is_outer(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))
        .unwrap_or(true)
}
