//! Casts to text in PostgreSQL's words: `2024-01-01 00:00:00`, not ISO's `T`.

use std::sync::{Arc, LazyLock};

use arrow_schema::DataType as Arrow;
use chronos_model::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::coerce_array;

/// Puts our own writer in the place of the engine's cast, where the two differ.
pub(super) fn rewrite(expr: Expr, schema: &dyn ExprSchema) -> DfResult<Transformed<Expr>> {
    let Expr::Cast(cast) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let to_text = matches!(cast.field.data_type(), Arrow::Utf8 | Arrow::Utf8View);
    let differs = |t: &Arrow| {
        matches!(
            t,
            Arrow::Timestamp(..)
                | Arrow::Time64(_)
                | Arrow::Interval(_)
                | Arrow::Float32
                | Arrow::Float64
                | Arrow::BinaryView
        )
    };
    if !to_text || !cast.expr.get_type(schema).is_ok_and(|t| differs(&t)) {
        return Ok(Transformed::no(expr));
    }
    Ok(Transformed::yes(
        TEXT.call(vec![cast.expr.as_ref().clone()]),
    ))
}

static TEXT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::new_from_impl(TextOf {
        signature: Signature::any(1, Volatility::Immutable),
    }))
});

/// A value's text form.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextOf {
    signature: Signature,
}

impl ScalarUDFImpl for TextOf {
    fn name(&self) -> &str {
        "text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[Arrow]) -> DfResult<Arrow> {
        Ok(Arrow::Utf8View)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = matches!(arguments.args[0], ColumnarValue::Scalar(_));
        let values = ColumnarValue::values_to_arrays(&arguments.args)?;
        let text = coerce_array(&values[0], &arguments.arg_fields[0], &DataType::Text)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &text, 0,
            )?));
        }
        Ok(ColumnarValue::Array(text))
    }
}
