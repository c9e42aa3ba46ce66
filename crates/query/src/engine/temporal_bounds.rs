//! The bounds of temporal clauses: constant expressions that live inside a
//! table's provider, where DataFusion's own passes do not see them.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, TimeUnit};
use chronos_model::{SqlState, Stamp};
use chronos_store::VersionFilter;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::parameters;
use super::table::{ChronosTable, TemporalClause};
use crate::QueryError;

/// A constant expression, folded as far as it goes.
pub(super) fn simplify(expr: Expr, state: &SessionState) -> Result<Expr, QueryError> {
    fold(
        expr,
        state.config_options(),
        state.execution_props().query_execution_start_time,
    )
}

fn fold(
    expr: Expr,
    options: &Arc<datafusion::config::ConfigOptions>,
    now: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<Expr, QueryError> {
    let context = SimplifyContext::builder()
        .with_config_options(Arc::clone(options))
        .with_query_execution_start_time(now)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let schema = DFSchema::empty();
    let coerced = simplifier.coerce(expr, &schema)?;
    Ok(simplifier.simplify(coerced)?)
}

/// The clause as a filter on versions; all its bounds must be constant by now.
pub(super) fn evaluate(
    clause: &TemporalClause,
    options: &Arc<datafusion::config::ConfigOptions>,
    now: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<VersionFilter, QueryError> {
    let micros = |e: &Expr| micros(e, options, now);
    Ok(match clause {
        TemporalClause::Current => VersionFilter::Current,
        TemporalClause::All => VersionFilter::All,
        TemporalClause::AsOf(at) => VersionFilter::AsOf(Stamp::last_of_micros(micros(at)?)),
        TemporalClause::FromTo(from, to) => between(micros(from)?, micros(to)?, false)?,
        TemporalClause::Between(from, to) => between(micros(from)?, micros(to)?, true)?,
    })
}

fn between(from: i64, to: i64, inclusive_to: bool) -> Result<VersionFilter, QueryError> {
    if from > to {
        let e = QueryError::new(
            SqlState::INVALID_PARAMETER,
            "the period of FOR SYSTEM_TIME ends before it begins",
        );
        return Err(e.with_hint("Give the earlier time first."));
    }
    let stamp = |micros: i64| Stamp::from_micros(u64::try_from(micros).unwrap_or(0));
    // A version recorded within the last microsecond is in; one before it is not.
    let to = if inclusive_to {
        Stamp::last_of_micros(to)
    } else {
        stamp(to)
    };
    Ok(VersionFilter::Between {
        from: stamp(from),
        to,
        inclusive_to,
    })
}

fn micros(
    expr: &Expr,
    options: &Arc<datafusion::config::ConfigOptions>,
    now: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<i64, QueryError> {
    let invalid = |given: &str| {
        let message = format!("a bound of FOR SYSTEM_TIME must be a timestamp that does not depend on rows, not {given}");
        QueryError::new(SqlState::INVALID_PARAMETER, message)
    };
    let literal = match fold(expr.clone(), options, now)? {
        Expr::Literal(value, _) => value,
        other => return Err(invalid(&other.to_string())),
    };
    if let Some(Some(text)) = literal.try_as_str() {
        return match chronos_model::text::parse(&chronos_model::DataType::TimestampTz, text)? {
            chronos_model::Value::TimestampTz(micros) => Ok(micros),
            _ => Err(invalid(text)),
        };
    }
    if !matches!(
        literal.data_type(),
        Arrow::Timestamp(..) | Arrow::Date32 | Arrow::Date64
    ) {
        return Err(invalid(&literal.to_string()));
    }
    let target = Arrow::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    match literal.cast_to(&target)? {
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Ok(micros),
        _ => Err(invalid("NULL")),
    }
}

/// Whether a table is read as it was at an instant or in a period.
pub(super) fn any(plan: &LogicalPlan) -> Result<bool, QueryError> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= chronos_table(node).is_some_and(|table| !table.clause.bounds().is_empty());
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// Numbers of the parameters that stand in temporal bounds.
pub(super) fn parameters(plan: &LogicalPlan) -> Result<Vec<usize>, QueryError> {
    let mut numbers = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let Some(table) = chronos_table(node) {
            for bound in table.clause.bounds() {
                bound.apply(|e| {
                    if let Expr::Placeholder(p) = e {
                        numbers.push(parameters::number_of(&p.id)?);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(numbers)
}

/// Puts values in the place of the parameters of temporal bounds.
pub(super) fn bind(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan, QueryError> {
    let bound = plan.transform_up_with_subqueries(|node| {
        let Some(table) = chronos_table(&node) else {
            return Ok(Transformed::no(node));
        };
        if table.clause.bounds().is_empty() {
            return Ok(Transformed::no(node));
        }
        let clause = table.clause.clone().map_bounds(|bound| {
            let replaced = bound.transform(|e| match e {
                Expr::Placeholder(p) => {
                    let number = parameters::number_of(&p.id)?;
                    let value = values.get(number - 1).cloned().ok_or_else(|| {
                        QueryError::new(
                            SqlState::UNDEFINED_PARAMETER,
                            format!("there is no parameter ${number}"),
                        )
                    })?;
                    Ok(Transformed::yes(Expr::Literal(value, None)))
                }
                e => Ok(Transformed::no(e)),
            })?;
            Ok(replaced.data)
        })?;
        let provider = table.with_clause(clause);
        let LogicalPlan::TableScan(mut scan) = node else {
            return Ok(Transformed::no(node));
        };
        scan.source = provider_as_source(Arc::new(provider));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(bound.data)
}

fn chronos_table(node: &LogicalPlan) -> Option<ChronosTable> {
    let LogicalPlan::TableScan(scan) = node else {
        return None;
    };
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn std::any::Any = provider.as_ref();
    any.downcast_ref::<ChronosTable>().cloned()
}
