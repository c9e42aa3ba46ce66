//! Types of expressions by PostgreSQL's rules, before the engine coerces them: what must
//! be a condition is one, the branches of a CASE have a type in common, constants without
//! a type take that of their surroundings.
//!
//! [`Typing`] is the analyzer's first rule. The SQL planner's operators come to
//! [`settle`] too, so that an operator sees the types that its operands will have.

use chronos_model::{DataType, SqlState};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, Alias, InList, ScalarFunction, WindowFunction,
};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    binary_expr, BinaryExpr, Case, Distinct, Expr, ExprSchemable, LogicalPlan, Operator,
    Projection, SortExpr,
};
use datafusion::optimizer::AnalyzerRule;

use super::operators::{self, interval_key, jsonb_key, literal, resolve, Op, Operand};
use super::{casts, signatures};
use crate::QueryError;

mod common;

use common::{common_type, unify};

/// The analyzer rule.
#[derive(Debug)]
pub(super) struct Typing;

impl AnalyzerRule for Typing {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let typed = plan.transform_up_with_subqueries(|node| {
            check_node(&node)?;
            let node = unify_union(node)?;
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                schema.merge(&DFSchema::try_from_qualified_schema(
                    scan.table_name.clone(),
                    &scan.source.schema(),
                )?);
            }
            let node = node.map_expressions(|expr| {
                let name = expr.schema_name().to_string();
                let changed = expr.transform_up(|e| everything(e, &schema))?;
                if !changed.transformed {
                    return Ok(changed);
                }
                changed.map_data(|e| {
                    Ok(if e.schema_name().to_string() == name {
                        e
                    } else {
                        e.alias(name.clone())
                    })
                })
            })?;
            let node = node.map_data(|node| sorted_by_keys(node, &schema))?;
            if node.transformed {
                return node.map_data(LogicalPlan::recompute_schema);
            }
            // An input's types may have changed below it.
            node.map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(typed.data)
    }

    fn name(&self) -> &str {
        "typing"
    }
}

/// An expression that the SQL planner has made, with its types settled. Operators were
/// settled when they were planned.
pub(super) fn settle(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    if matches!(
        expr,
        Expr::BinaryExpr(_) | Expr::Column(_) | Expr::Literal(..) | Expr::OuterReferenceColumn(..)
    ) {
        return Ok(expr);
    }
    Ok(expr.transform_up(|e| node(e, schema))?.data)
}

fn everything(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    if let Expr::BinaryExpr(binary) = &expr {
        return Ok(match operators::resolve_binary(binary, schema)? {
            Some(resolved) if resolved != expr => Transformed::yes(resolved),
            _ => Transformed::no(expr),
        });
    }
    node(expr, schema)
}

/// One node of an expression, its children settled.
fn node(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    casts::check(&expr, schema)?;
    let changed = match &expr {
        Expr::Case(case) => branches(case, schema)?,
        Expr::InList(list) => members(list, schema)?,
        Expr::Like(like) => {
            let operands = [&like.expr, &like.pattern].map(|e| Operand::of(e, schema));
            texts(&operands, if like.case_insensitive { "~~*" } else { "~~" })?;
            None
        }
        Expr::Not(inner) => condition(inner, schema, "NOT")?.map(|e| Expr::Not(Box::new(e))),
        Expr::IsTrue(inner) => {
            condition(inner, schema, "IS TRUE")?.map(|e| Expr::IsTrue(Box::new(e)))
        }
        Expr::IsFalse(inner) => {
            condition(inner, schema, "IS FALSE")?.map(|e| Expr::IsFalse(Box::new(e)))
        }
        Expr::IsNotTrue(inner) => {
            condition(inner, schema, "IS NOT TRUE")?.map(|e| Expr::IsNotTrue(Box::new(e)))
        }
        Expr::IsNotFalse(inner) => {
            condition(inner, schema, "IS NOT FALSE")?.map(|e| Expr::IsNotFalse(Box::new(e)))
        }
        Expr::IsUnknown(inner) => {
            condition(inner, schema, "IS UNKNOWN")?.map(|e| Expr::IsUnknown(Box::new(e)))
        }
        Expr::IsNotUnknown(inner) => {
            condition(inner, schema, "IS NOT UNKNOWN")?.map(|e| Expr::IsNotUnknown(Box::new(e)))
        }
        Expr::ScalarFunction(function) => arguments(function, schema)?,
        Expr::AggregateFunction(function) => aggregate(function, schema)?,
        Expr::WindowFunction(function) => window(function, schema)?,
        _ => None,
    };
    Ok(match changed {
        Some(changed) => Transformed::yes(changed),
        None => Transformed::no(expr),
    })
}

fn condition(
    expr: &Expr,
    schema: &dyn ExprSchema,
    whose: &str,
) -> Result<Option<Expr>, QueryError> {
    operators::boolean(&Operand::of(expr, schema), whose)
}

fn texts(operands: &[Operand; 2], op: &str) -> Result<(), QueryError> {
    let fits = |o: &Operand| match o {
        Operand::Of(t) => t.is_text(),
        _ => true,
    };
    if operands.iter().all(fits) {
        return Ok(());
    }
    let [left, right] = operands;
    Err(QueryError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!(
            "operator does not exist: {} {op} {}",
            left.name(),
            right.name()
        ),
    ))
}

/// CASE: conditions are conditions, results are of one type.
fn branches(case: &Case, schema: &dyn ExprSchema) -> Result<Option<Expr>, QueryError> {
    let mut case = case.clone();
    let mut is_changed = match case.expr.take() {
        Some(subject) => compare_branches(&mut case, *subject, schema)?,
        None => {
            let mut is_changed = false;
            for (when, _) in &mut case.when_then_expr {
                if let Some(changed) = condition(when, schema, "CASE/WHEN")? {
                    **when = changed;
                    is_changed = true;
                }
            }
            is_changed
        }
    };
    let mut results: Vec<&mut Expr> = case
        .when_then_expr
        .iter_mut()
        .map(|(_, then)| then.as_mut())
        .chain(case.else_expr.iter_mut().map(|e| e.as_mut()))
        .collect();
    is_changed |= unify(&mut results, schema, "CASE")?;
    let named = named_type(results.iter().map(|e| &**e), schema);
    Ok(match named {
        // The engine gives a CASE the layout of its results and forgets the rest.
        Some(named) => Some(casts::call(Expr::Case(case), named)),
        None => is_changed.then_some(Expr::Case(case)),
    })
}

/// The type of results that are alike, if it is one that its layout does not tell.
fn named_type<'a>(
    results: impl Iterator<Item = &'a Expr>,
    schema: &dyn ExprSchema,
) -> Option<DataType> {
    let mut types = results
        .filter(|e| !matches!(e, Expr::Literal(ScalarValue::Null, _)))
        .map(|e| e.to_field(schema).ok().map(|(_, f)| DataType::of_field(&f)));
    let first = types.next()??;
    let is_named = matches!(first, DataType::Json | DataType::Jsonb | DataType::Uuid);
    (is_named && types.all(|t| t.as_ref() == Some(&first))).then_some(first)
}

/// `CASE x WHEN y`: `x = y` must be an operator. Where it compares x as it stands, the
/// form is kept; else the conditions are written out.
fn compare_branches(
    case: &mut Case,
    subject: Expr,
    schema: &dyn ExprSchema,
) -> Result<bool, QueryError> {
    let mut comparisons = Vec::with_capacity(case.when_then_expr.len());
    for (when, _) in &case.when_then_expr {
        let resolved = resolve(Op::Sql(Operator::Eq), &subject, when, schema)?;
        comparisons.push(
            resolved.unwrap_or_else(|| binary_expr(subject.clone(), Operator::Eq, *when.clone())),
        );
    }
    let as_it_stands: Option<Vec<Expr>> = comparisons
        .iter()
        .map(|c| right_side(c, &subject).cloned())
        .collect();
    let mut is_changed = false;
    let whens = case.when_then_expr.iter_mut().map(|(when, _)| when);
    match as_it_stands {
        Some(values) => {
            for (when, value) in whens.zip(values) {
                is_changed |= **when != value;
                **when = value;
            }
            case.expr = Some(Box::new(subject));
        }
        None => {
            for (when, comparison) in whens.zip(comparisons) {
                **when = comparison;
            }
            is_changed = true;
        }
    }
    Ok(is_changed)
}

/// What a comparison compares `subject` with.
fn right_side<'a>(comparison: &'a Expr, subject: &Expr) -> Option<&'a Expr> {
    match comparison {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) if left.as_ref() == subject => {
            Some(right.as_ref())
        }
        _ => None,
    }
}

/// `x IN (a, b)`
fn members(list: &InList, schema: &dyn ExprSchema) -> Result<Option<Expr>, QueryError> {
    let mut comparisons = Vec::with_capacity(list.list.len());
    for item in &list.list {
        match resolve(Op::Sql(Operator::Eq), &list.expr, item, schema)? {
            Some(comparison) => comparisons.push(comparison),
            None => comparisons.push(binary_expr(
                list.expr.as_ref().clone(),
                Operator::Eq,
                item.clone(),
            )),
        }
    }
    let Some(Expr::BinaryExpr(first)) = comparisons.first() else {
        return Ok(None);
    };
    let subject = first.left.clone();
    let values: Option<Vec<Expr>> = comparisons
        .iter()
        .map(|c| right_side(c, &subject).cloned())
        .collect();
    if let Some(values) = values {
        let changed = InList::new(subject, values, list.negated);
        return Ok((changed != *list).then_some(Expr::InList(changed)));
    }
    let any = comparisons
        .into_iter()
        .reduce(|a, b| binary_expr(a, Operator::Or, b));
    Ok(any.map(|any| {
        if list.negated {
            Expr::Not(Box::new(any))
        } else {
            any
        }
    }))
}

/// Functions whose arguments are of one type, and those whose types are checked.
fn arguments(
    function: &ScalarFunction,
    schema: &dyn ExprSchema,
) -> Result<Option<Expr>, QueryError> {
    let what = match function.func.name() {
        "coalesce" => "COALESCE",
        "greatest" => "GREATEST",
        "least" => "LEAST",
        "make_array" => "ARRAY",
        "nullif" => return null_if(function, schema),
        "array_has" => return Ok(any_equal(function, schema)),
        "cast" => return Ok(casts::doubled(function)),
        name => {
            let operands: Vec<Operand> = function
                .args
                .iter()
                .map(|e| Operand::of(e, schema))
                .collect();
            signatures::check(name, &operands)?;
            let (Some(Operand::Unknown(written)), Some(wanted)) =
                (operands.first(), crate::functions::first_json_type(name))
            else {
                return Ok(None);
            };
            let mut changed = function.clone();
            changed.args[0] = literal(written, &wanted)?;
            return Ok(Some(Expr::ScalarFunction(changed)));
        }
    };
    let mut changed = function.clone();
    let mut args: Vec<&mut Expr> = changed.args.iter_mut().collect();
    let is_changed = unify(&mut args, schema, what)?;
    Ok(is_changed.then_some(Expr::ScalarFunction(changed)))
}

/// `x = ANY (array)`: the engine's is false where an item is NULL, which NOT would turn into
/// true. It is kept for constants, with which it can use a key.
fn any_equal(function: &ScalarFunction, schema: &dyn ExprSchema) -> Option<Expr> {
    let [array, value] = function.args.as_slice() else {
        return None;
    };
    if !array.any_column_refs() {
        return None;
    }
    let item = match Operand::of(array, schema) {
        Operand::Of(DataType::Array(item)) => item,
        _ => return None,
    };
    let value = match Operand::of(value, schema) {
        Operand::Unknown(written) => literal(&written, &item).ok()?,
        _ => value.clone(),
    };
    crate::functions::pure("__any_equal", vec![array.clone(), value])
}

fn null_if(function: &ScalarFunction, schema: &dyn ExprSchema) -> Result<Option<Expr>, QueryError> {
    let [value, other] = function.args.as_slice() else {
        return Ok(None);
    };
    let Some(comparison) = resolve(Op::Sql(Operator::Eq), value, other, schema)? else {
        return Ok(None);
    };
    match right_side(&comparison, value) {
        Some(right) if right == other => Ok(None),
        _ => {
            let null = ScalarValue::try_from(value.get_type(schema)?)?;
            Ok(Some(Expr::Case(Case::new(
                None,
                vec![(Box::new(comparison), Box::new(Expr::Literal(null, None)))],
                Some(Box::new(value.clone())),
            ))))
        }
    }
}

/// FILTER is a condition; the least interval is that of the least length.
fn aggregate(
    function: &AggregateFunction,
    schema: &dyn ExprSchema,
) -> Result<Option<Expr>, QueryError> {
    let params = &function.params;
    let mut changed = None;
    if let Some(filter) = &params.filter {
        if let Some(filter) = condition(filter, schema, "FILTER")? {
            let mut params = params.clone();
            params.filter = Some(Box::new(filter));
            changed = Some(params);
        }
    }
    let operands: Vec<Operand> = params.args.iter().map(|e| Operand::of(e, schema)).collect();
    signatures::check(function.func.name(), &operands)?;
    let is_extreme = matches!(function.func.name(), "min" | "max");
    if is_extreme {
        if let [json @ Operand::Of(DataType::Json | DataType::Jsonb)] = operands.as_slice() {
            let call = format!("{}({})", function.func.name(), json.name());
            return Err(QueryError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("function {call} does not exist"),
            ));
        }
    }
    if is_extreme && operands == [Operand::Of(DataType::Interval)] {
        let params = changed.unwrap_or_else(|| params.clone());
        let ascending = function.func.name() == "min";
        let value = params.args[0].clone();
        let order = SortExpr::new(interval_key(value), ascending, false);
        return Ok(Some(Expr::AggregateFunction(AggregateFunction {
            func: first_value_udaf(),
            params: AggregateFunctionParams {
                distinct: false,
                order_by: vec![order],
                ..params
            },
        })));
    }
    Ok(changed.map(|params| {
        Expr::AggregateFunction(AggregateFunction {
            func: function.func.clone(),
            params,
        })
    }))
}

/// Windows are ordered by the length of intervals.
fn window(function: &WindowFunction, schema: &dyn ExprSchema) -> Result<Option<Expr>, QueryError> {
    let key_of = |e: &Expr| match Operand::of(e, schema) {
        Operand::Of(DataType::Interval) if !is_key(e) => Some(interval_key(e.clone())),
        Operand::Of(DataType::Jsonb) => Some(jsonb_key(e.clone())),
        _ => None,
    };
    let mut changed = function.clone();
    let mut is_changed = false;
    let by = &mut changed.params;
    let ordered = by.order_by.iter_mut().map(|sort| &mut sort.expr);
    for expr in ordered.chain(by.partition_by.iter_mut()) {
        if let Some(key) = key_of(expr) {
            *expr = key;
            is_changed = true;
        }
    }
    Ok(is_changed.then(|| Expr::WindowFunction(Box::new(changed))))
}

fn is_key(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if f.func.name() == "interval_key")
}

/// ORDER BY an interval is by its length, by a `jsonb` by what it compares by.
fn sorted_by_keys(plan: LogicalPlan, schema: &DFSchema) -> DfResult<LogicalPlan> {
    let LogicalPlan::Sort(mut sort) = plan else {
        return Ok(plan);
    };
    for key in &mut sort.expr {
        let expr = match &key.expr {
            Expr::Alias(Alias { expr, .. }) => expr.as_ref(),
            other => other,
        };
        let by = match Operand::of(expr, schema) {
            Operand::Of(DataType::Interval) => interval_key(expr.clone()),
            Operand::Of(DataType::Jsonb) => jsonb_key(expr.clone()),
            _ => continue,
        };
        key.expr = by;
    }
    Ok(LogicalPlan::Sort(sort))
}

/// The columns of a UNION have types in common; constants without a type take them.
fn unify_union(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let LogicalPlan::Union(mut union) = plan else {
        return Ok(plan);
    };
    for column in 0..union.schema.fields().len() {
        let operands: Vec<Operand> = union
            .inputs
            .iter()
            .map(|input| column_operand(input, column))
            .collect();
        let Some(common) = common_type(&operands, "UNION")? else {
            continue;
        };
        for (input, operand) in union.inputs.iter_mut().zip(&operands) {
            let Operand::Unknown(written) = operand else {
                continue;
            };
            let LogicalPlan::Projection(projection) = input.as_ref() else {
                continue;
            };
            let mut exprs = projection.expr.clone();
            let name = exprs[column].schema_name().to_string();
            exprs[column] = literal(written, &common)?.alias(name);
            let below = projection.input.clone();
            *input = LogicalPlan::Projection(Projection::try_new(exprs, below)?).into();
        }
    }
    Ok(LogicalPlan::Union(union))
}

fn column_operand(input: &LogicalPlan, column: usize) -> Operand {
    let mut expr = Expr::Column(input.schema().columns()[column].clone());
    let mut schema = input.schema();
    if let LogicalPlan::Projection(projection) = input {
        expr = projection.expr[column].clone();
        schema = projection.input.schema();
    }
    while let Expr::Alias(alias) = expr {
        expr = *alias.expr;
    }
    Operand::of(&expr, schema.as_ref())
}

/// Refuses what would tell equal intervals apart.
fn check_node(plan: &LogicalPlan) -> Result<(), QueryError> {
    let is_interval = |field: &arrow_schema::Field| {
        matches!(field.data_type(), arrow_schema::DataType::Interval(_))
    };
    let (has_interval, what) = match plan {
        LogicalPlan::Aggregate(node) => {
            let schema = node.input.schema();
            let found = node.group_expr.iter().any(|e| {
                e.to_field(schema.as_ref())
                    .is_ok_and(|(_, f)| is_interval(&f))
            });
            (found, "GROUP BY an interval")
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let found = input.schema().fields().iter().any(|f| is_interval(f));
            (found, "DISTINCT with an interval")
        }
        _ => return Ok(()),
    };
    if has_interval {
        return Err(QueryError::unsupported(what).with_hint("Take extract(epoch FROM ..) of it."));
    }
    Ok(())
}
