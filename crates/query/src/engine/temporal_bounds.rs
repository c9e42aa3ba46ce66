//! The bounds of temporal clauses: constant expressions that live inside a
//! table's provider, where DataFusion's own passes do not see them.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, TimeUnit};
use chronos_model::{Period, SqlState, Stamp};
use chronos_store::{ValidFilter, VersionFilter};
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
    let micros = |e: &Expr| {
        let given = micros(e, SYSTEM, options, now)?;
        given.ok_or_else(|| invalid_bound(SYSTEM, "NULL"))
    };
    Ok(match clause {
        TemporalClause::Current => VersionFilter::Current,
        TemporalClause::All | TemporalClause::Written => VersionFilter::All,
        TemporalClause::AsOf(at) => VersionFilter::AsOf(Stamp::last_of_micros(micros(at)?)),
        TemporalClause::FromTo(from, to) => between(micros(from)?, micros(to)?, false)?,
        TemporalClause::Between(from, to) => between(micros(from)?, micros(to)?, true)?,
    })
}

/// The clause of valid time as a filter; a period whose bound is NULL has no such bound.
pub(super) fn evaluate_valid(
    clause: &TemporalClause,
    options: &Arc<datafusion::config::ConfigOptions>,
    now: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<ValidFilter, QueryError> {
    let micros = |e: &Expr| micros(e, VALID, options, now);
    let between = |from: &Expr, to: &Expr, inclusive_to| {
        let from = micros(from)?.unwrap_or(Period::BEGINNING);
        let to = micros(to)?.unwrap_or(Period::UNTIL_CHANGED);
        check_order(VALID, from, to)?;
        Ok::<_, QueryError>(ValidFilter::Between {
            from,
            to,
            inclusive_to,
        })
    };
    Ok(match clause {
        TemporalClause::Current => ValidFilter::Now,
        TemporalClause::All => ValidFilter::All,
        TemporalClause::Written => ValidFilter::Written,
        TemporalClause::AsOf(at) => {
            let moment = micros(at)?.ok_or_else(|| invalid_bound(VALID, "NULL"))?;
            ValidFilter::AsOf(moment)
        }
        TemporalClause::FromTo(from, to) => between(from, to, false)?,
        TemporalClause::Between(from, to) => between(from, to, true)?,
    })
}

const SYSTEM: &str = "FOR SYSTEM_TIME";
const VALID: &str = "FOR VALID_TIME";

fn check_order(clause: &str, from: i64, to: i64) -> Result<(), QueryError> {
    if from <= to {
        return Ok(());
    }
    let message = format!("the period of {clause} ends before it begins");
    let e = QueryError::new(SqlState::INVALID_PARAMETER, message);
    Err(e.with_hint("Give the earlier time first."))
}

fn invalid_bound(clause: &str, given: &str) -> QueryError {
    let message = format!(
        "a bound of {clause} must be a timestamp that does not depend on rows, not {given}"
    );
    QueryError::new(SqlState::INVALID_PARAMETER, message)
}

fn between(from: i64, to: i64, inclusive_to: bool) -> Result<VersionFilter, QueryError> {
    check_order(SYSTEM, from, to)?;
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

/// The moment that a bound names; `None`: NULL.
fn micros(
    expr: &Expr,
    clause: &str,
    options: &Arc<datafusion::config::ConfigOptions>,
    now: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<Option<i64>, QueryError> {
    let invalid = |given: &str| invalid_bound(clause, given);
    let literal = match fold(expr.clone(), options, now)? {
        Expr::Literal(value, _) => value,
        other => return Err(invalid(&other.to_string())),
    };
    if literal.is_null() {
        return Ok(None);
    }
    if let Some(Some(text)) = literal.try_as_str() {
        return match chronos_model::text::parse(&chronos_model::DataType::TimestampTz, text)? {
            chronos_model::Value::TimestampTz(micros) => Ok(Some(micros)),
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
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Ok(Some(micros)),
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
            for bound in table.bounds() {
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
        if table.bounds().is_empty() {
            return Ok(Transformed::no(node));
        }
        let bind = |bound: Expr| {
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
        };
        let clause = table.clause.clone().map_bounds(bind)?;
        let valid = table.valid.clone().map_bounds(bind)?;
        let provider = table.with_clauses(clause, valid);
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
