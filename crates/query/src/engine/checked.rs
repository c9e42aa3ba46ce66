//! Arithmetic of integers and floats that says so when a result does not fit (22003): the
//! engine's own wraps around, or gives infinity.
//!
//! An analyzer rule, after types were coerced (it takes care of casts too), puts `checked_add(a, b)` and its like in
//! the place of `+`, `-` and `*` between integers, and a like one between floats; constants fold as before.

use std::sync::{Arc, LazyLock};

use arrow_schema::DataType as Arrow;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use super::{casts, operators};

/// Makes arithmetic checked.
#[derive(Debug)]
pub(super) struct CheckArithmetic;

impl AnalyzerRule for CheckArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let checked = plan.transform_up_with_subqueries(|node| {
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                schema.merge(&DFSchema::try_from_qualified_schema(
                    scan.table_name.clone(),
                    &scan.source.schema(),
                )?);
            }
            node.map_expressions(|expr| {
                let name = expr.schema_name().to_string();
                // From the top, while the operands are plain operators whose types are quickly told.
                let changed = expr.transform_down(|e| {
                    check(e, &schema)?.transform_data(|e| casts::rewrite(e, &schema))
                })?;
                if !changed.transformed {
                    return Ok(changed);
                }
                // Whoever refers to the column by its old name must still find it.
                changed.map_data(|e| {
                    Ok(if e.schema_name().to_string() == name {
                        e
                    } else {
                        e.alias(name.clone())
                    })
                })
            })
        })?;
        checked.data.recompute_schema()
    }

    fn name(&self) -> &str {
        "check_arithmetic"
    }
}

fn check(expr: Expr, schema: &dyn ExprSchema) -> DfResult<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let function = match op {
        Operator::Plus => Some(&ADD),
        Operator::Minus => Some(&SUBTRACT),
        Operator::Multiply => Some(&MULTIPLY),
        // The engine's own division of integers says so by itself.
        Operator::Divide => None,
        _ => return Ok(Transformed::no(expr)),
    };
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok(Transformed::no(expr));
    };
    if left_type != right_type {
        return Ok(Transformed::no(expr));
    }
    let (left, right) = (left.as_ref().clone(), right.as_ref().clone());
    Ok(match (left_type, function) {
        (Arrow::Int16 | Arrow::Int32 | Arrow::Int64, Some(function)) => {
            Transformed::yes(function.call(vec![left, right]))
        }
        (Arrow::Float32 | Arrow::Float64, _) => {
            Transformed::yes(operators::float(*op, left, right))
        }
        _ => Transformed::no(expr),
    })
}

static ADD: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Checked::function("checked_add", Operator::Plus));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Checked::function("checked_subtract", Operator::Minus));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Checked::function("checked_multiply", Operator::Multiply));

/// One operation on two integers of the same type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    operator: Operator,
    signature: Signature,
}

impl Checked {
    fn function(name: &'static str, operator: Operator) -> Arc<ScalarUDF> {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Checked {
            name,
            operator,
            signature,
        }))
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = arguments
            .args
            .iter()
            .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let operands = ColumnarValue::values_to_arrays(&arguments.args)?;
        let result = match self.operator {
            Operator::Plus => numeric::add(&operands[0], &operands[1]),
            Operator::Minus => numeric::sub(&operands[0], &operands[1]),
            _ => numeric::mul(&operands[0], &operands[1]),
        };
        let type_name = match operands[0].data_type() {
            Arrow::Int16 => "smallint",
            Arrow::Int32 => "int4",
            _ => "bigint",
        };
        let result = result.map_err(|_| {
            crate::QueryError::new(
                chronos_model::SqlState::OUT_OF_RANGE,
                format!("{type_name} out of range"),
            )
        })?;
        if constant {
            return Ok(ColumnarValue::Scalar(
                datafusion::common::ScalarValue::try_from_array(&result, 0)?,
            ));
        }
        Ok(ColumnarValue::Array(result))
    }
}
