//! Equality that takes NULL for a value, as keys of an ordinary join.
//!
//! The engine has joins with `NULL = NULL`, but treats that as a trait of the whole join:
//! a further `a = b` that it moves into such a join becomes true for NULLs. So NULL-safe
//! keys are spelled out here: both are NULL or neither, and what stands for NULL is equal.

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{when, Expr, ExprSchemable};

/// Pairs that are all equal if and only if `left IS NOT DISTINCT FROM right`.
pub(in crate::engine) fn keys(
    left: (Expr, &DFSchema),
    right: (Expr, &DFSchema),
) -> DfResult<Vec<(Expr, Expr)>> {
    let ((l, left_schema), (r, right_schema)) = (left, right);
    if !l.nullable(left_schema)? && !r.nullable(right_schema)? {
        return Ok(vec![(l, r)]);
    }
    let (l_type, r_type) = (l.get_type(left_schema)?, r.get_type(right_schema)?);
    let is_null = (l.clone().is_null(), r.clone().is_null());
    let values = (or_default(l, &l_type)?, or_default(r, &r_type)?);
    Ok(vec![values, is_null])
}

fn or_default(expr: Expr, data_type: &arrow_schema::DataType) -> DfResult<Expr> {
    let default = Expr::Literal(ScalarValue::new_default(data_type)?, None);
    when(expr.clone().is_not_null(), expr).otherwise(default)
}
