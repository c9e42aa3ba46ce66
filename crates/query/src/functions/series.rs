//! `generate_series` as an array, with the types that PostgreSQL gives it: a series between
//! dates is one of instants.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, TimeUnit};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::type_coercion::functions::data_types_with_scalar_udf;
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
        let instants = arguments.iter().map(|given| match given {
            Arrow::Date32 | Arrow::Date64 => {
                Arrow::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
            }
            other => other.clone(),
        });
        data_types_with_scalar_udf(&instants.collect::<Vec<_>>(), &self.engines)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.engines.invoke_with_args(args)
    }
}
