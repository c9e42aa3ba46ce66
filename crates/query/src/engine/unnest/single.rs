//! The value of a subquery that may give one row at most: 21000 when it is asked for and
//! there are more.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::SqlState;
use datafusion::common::exec_err;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::QueryError;

/// `value`, if the subquery has given one row or none.
pub(super) fn single(value: Expr, count: Expr) -> Expr {
    SINGLE.call(vec![value, count])
}

static SINGLE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::new_from_impl(Single {
        signature: Signature::any(2, Volatility::Immutable),
    }))
});

/// Takes a value and the number of rows it was chosen from. It stands where the subquery
/// stood, so a CASE that does not come to the subquery does not fail.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Single {
    signature: Signature,
}

impl ScalarUDFImpl for Single {
    fn name(&self) -> &str {
        "__single"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[Arrow]) -> DfResult<Arrow> {
        exec_err!("the type is that of the field")
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> DfResult<FieldRef> {
        let value = arguments.arg_fields[0].as_ref().clone();
        Ok(Arc::new(value.with_nullable(true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let counts = arguments.args[1].to_array(arguments.number_rows)?;
        let counts = counts.as_primitive::<Int64Type>();
        if counts.iter().flatten().any(|n| n > 1) {
            return Err(QueryError::new(
                SqlState::CARDINALITY_VIOLATION,
                "more than one row returned by a subquery used as an expression",
            )
            .into());
        }
        Ok(arguments.args[0].clone())
    }
}
