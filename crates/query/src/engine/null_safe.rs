//! `a IS NOT DISTINCT FROM b` between two relations, so that the engine does not turn it
//! into a join of its own: see [`super::unnest::same`] for what is wrong with that one.

use datafusion::common::tree_node::Transformed;
use datafusion::common::DFSchema;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::unnest::same;

/// Spells out NULL-safe comparisons in conditions of joins and filters.
#[derive(Debug)]
pub(super) struct SpellOutNullSafe;

impl AnalyzerRule for SpellOutNullSafe {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let spelled_out = plan.transform_up_with_subqueries(|node| {
            if !matches!(node, LogicalPlan::Join(_) | LogicalPlan::Filter(_)) {
                return Ok(Transformed::no(node));
            }
            let schema = merge_schema(&node.inputs());
            node.map_expressions(|expr| {
                let conditions = split_conjunction_owned(expr.clone());
                if !conditions.iter().any(|c| compared(c).is_some()) {
                    return Ok(Transformed::no(expr));
                }
                let mut all = Vec::with_capacity(conditions.len() + 1);
                for condition in conditions {
                    match compared(&condition) {
                        Some((left, right)) => all.extend(equalities(left, right, &schema)?),
                        None => all.push(condition),
                    }
                }
                Ok(Transformed::yes(conjunction(all).unwrap_or(expr)))
            })
        })?;
        Ok(spelled_out.data)
    }

    fn name(&self) -> &str {
        "spell_out_null_safe"
    }
}

/// Both sides of a NULL-safe comparison that may become a join's key.
fn compared(condition: &Expr) -> Option<(&Expr, &Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::IsNotDistinctFrom,
            right,
        }) if !left.column_refs().is_empty() && !right.column_refs().is_empty() => {
            Some((left, right))
        }
        _ => None,
    }
}

fn equalities(left: &Expr, right: &Expr, schema: &DFSchema) -> DfResult<Vec<Expr>> {
    let pairs = same::keys((left.clone(), schema), (right.clone(), schema))?;
    Ok(pairs.into_iter().map(|(l, r)| l.eq(r)).collect())
}
