//! The types of a statement's parameters.
//!
//! Owns what is known of `$1`, `$2` ..: what the client declared; else what the planner
//! inferred from where one stands; else the type that it is cast to; else text, as in
//! PostgreSQL. Refuses numbers out of range.

use std::collections::HashMap;

use chronos_model::{DataType, SqlState};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use super::temporal_bounds;
use crate::QueryError;

/// The parameters' types, `$1` first, as far as they are known.
pub(super) fn types_of(
    plan: &LogicalPlan,
    declared: &[Option<DataType>],
) -> Result<Vec<Option<DataType>>, QueryError> {
    let mut inferred: HashMap<usize, Option<DataType>> = HashMap::new();
    // Which also refuses two types for one parameter. Of several uses it tells the last one's.
    for name in plan.get_parameter_fields()?.keys() {
        inferred.insert(number_of(name)?, None);
    }
    for number in temporal_bounds::parameters(plan)? {
        inferred.insert(number, Some(DataType::TimestampTz));
    }
    for (number, of_use) in types_by_use(plan)? {
        let slot = inferred.entry(number).or_insert(None);
        slot.get_or_insert(of_use);
    }
    let count = inferred
        .keys()
        .copied()
        .max()
        .unwrap_or(0)
        .max(declared.len());
    Ok((1..=count)
        .map(|number| {
            let declared = declared.get(number - 1).cloned().flatten();
            declared.or_else(|| inferred.get(&number).cloned().flatten())
        })
        .collect())
}

/// What the uses of parameters tell of their types, the strongest first: a comparison with
/// something that has a type; `x = ANY ($n)`; LIMIT and OFFSET; a cast.
fn types_by_use(plan: &LogicalPlan) -> Result<Vec<(usize, DataType)>, QueryError> {
    let mut found = Uses::default();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for bound in [&limit.fetch, &limit.skip].into_iter().flatten() {
                if let Expr::Placeholder(p) = bound.as_ref() {
                    found.counted.push((number_of(&p.id)?, DataType::Int8));
                }
            }
        }
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                found.note(e, &schema)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let Uses {
        mut typed,
        searched,
        counted,
        cast,
    } = found;
    typed.extend(searched.into_iter().chain(counted).chain(cast));
    Ok(typed)
}

/// Parameters by what they stand in, with the type that follows.
#[derive(Default)]
struct Uses {
    typed: Vec<(usize, DataType)>,
    searched: Vec<(usize, DataType)>,
    counted: Vec<(usize, DataType)>,
    cast: Vec<(usize, DataType)>,
}

impl Uses {
    fn note(&mut self, expr: &Expr, schema: &DFSchema) -> Result<(), QueryError> {
        match expr {
            Expr::Placeholder(p) => {
                if let Some(field) = &p.field {
                    let known = (number_of(&p.id)?, DataType::of_field(field));
                    self.typed.push(known);
                }
            }
            Expr::ScalarFunction(call) if call.name() == "array_has" => {
                if let [Expr::Placeholder(p), item] = call.args.as_slice() {
                    if let (None, Ok(item)) = (&p.field, item.get_type(schema)) {
                        let array = DataType::Array(Box::new(DataType::of_arrow(&item)));
                        self.searched.push((number_of(&p.id)?, array));
                    }
                }
            }
            Expr::Cast(to) => {
                if let Expr::Placeholder(p) = to.expr.as_ref() {
                    let target = (number_of(&p.id)?, DataType::of_field(&to.field));
                    self.cast.push(target);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The number in `$number`.
pub(crate) fn number_of(name: &str) -> Result<usize, QueryError> {
    name.trim_start_matches('$')
        .parse::<usize>()
        .ok()
        .filter(|n| (1..=65_535).contains(n))
        .ok_or_else(|| {
            QueryError::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter {name}"),
            )
        })
}
