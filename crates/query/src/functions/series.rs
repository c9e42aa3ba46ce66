//! `generate_series` as an array, with the types that PostgreSQL gives it: a series between
//! dates is one of instants.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, Field, FieldRef, TimeUnit};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The engine's function with dates taken as the instants at which they begin.
pub(crate) fn of_instants(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Series {
        engines: function,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Series {
    engines: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        self.engines.return_type(arguments)
    }

    fn coerce_types(&self, arguments: &[Arrow]) -> DfResult<Vec<Arrow>> {
        let fields = arguments.iter().map(|given| {
            let taken = match given {
                Arrow::Date32 | Arrow::Date64 => {
                    Arrow::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
                }
                other => other.clone(),
            };
            Arc::new(Field::new("", taken, true)) as FieldRef
        });
        let coerced = fields_with_udf(&fields.collect::<Vec<_>>(), self.engines.as_ref())?;
        Ok(coerced.iter().map(|f| f.data_type().clone()).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.engines.invoke_with_args(args)
    }
}
