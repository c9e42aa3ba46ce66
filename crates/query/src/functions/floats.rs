//! Mathematical functions of doubles with PostgreSQL's domains and errors, column by
//! column. NUMERIC arguments are taken as doubles.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::{DataType, SqlState};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::columnar;
use crate::engine::{cast_column, checked};
use crate::QueryError;

type Body = fn(f64) -> Result<f64, QueryError>;

/// The function of that name.
pub(super) fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    let (name, body) = *FUNCTIONS.iter().find(|(known, _)| *known == name)?;
    Some(Arc::new(ScalarUDF::new_from_impl(FloatFunction {
        name,
        body: Computed(body),
        signature: Signature::any(1, Volatility::Immutable),
    })))
}

const FUNCTIONS: &[(&str, Body)] = &[
    ("sqrt", |x| {
        if x < 0.0 {
            return Err(QueryError::new(
                SqlState("2201F"),
                "cannot take square root of a negative number",
            ));
        }
        Ok(x.sqrt())
    }),
    ("cbrt", |x| Ok(x.cbrt())),
    ("exp", |x| {
        let result = x.exp();
        if result.is_infinite() && x.is_finite() {
            return Err(out_of_range("value out of range: overflow"));
        }
        if result == 0.0 && x.is_finite() {
            return Err(out_of_range("value out of range: underflow"));
        }
        Ok(result)
    }),
    ("ln", |x| Ok(logarithm_argument(x)?.ln())),
    ("log10", |x| Ok(logarithm_argument(x)?.log10())),
    ("asin", |x| Ok(unit(x)?.asin())),
    ("acos", |x| Ok(unit(x)?.acos())),
    ("atanh", |x| Ok(unit(x)?.atanh())),
    ("acosh", |x| {
        if x < 1.0 {
            return Err(out_of_range("input is out of range"));
        }
        Ok(x.acosh())
    }),
    ("sin", |x| Ok(finite(x)?.sin())),
    ("cos", |x| Ok(finite(x)?.cos())),
    ("tan", |x| Ok(finite(x)?.tan())),
    ("cot", |x| Ok(1.0 / finite(x)?.tan())),
];

fn out_of_range(message: &str) -> QueryError {
    QueryError::new(SqlState::OUT_OF_RANGE, message)
}

/// The argument of a logarithm.
pub(super) fn logarithm_argument(x: f64) -> Result<f64, QueryError> {
    let message = if x == 0.0 {
        "cannot take logarithm of zero"
    } else if x < 0.0 {
        "cannot take logarithm of a negative number"
    } else {
        return Ok(x);
    };
    Err(QueryError::new(SqlState("2201E"), message))
}

fn unit(x: f64) -> Result<f64, QueryError> {
    if x.abs() > 1.0 {
        return Err(out_of_range("input is out of range"));
    }
    Ok(x)
}

fn finite(x: f64) -> Result<f64, QueryError> {
    if x.is_infinite() {
        return Err(out_of_range("input is out of range"));
    }
    Ok(x)
}

/// A body; told apart by its function's name.
#[derive(Debug, Clone, Copy)]
struct Computed(Body);

#[derive(Debug)]
struct FloatFunction {
    name: &'static str,
    body: Computed,
    signature: Signature,
}

impl PartialEq for FloatFunction {
    fn eq(&self, other: &FloatFunction) -> bool {
        self.name == other.name
    }
}

impl Eq for FloatFunction {}

impl std::hash::Hash for FloatFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for FloatFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[Arrow]) -> DfResult<Arrow> {
        Ok(Arrow::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let field = &args.arg_fields[0];
        let data_type = DataType::of_field(field);
        // `Utf8` is a constant without a type, which is read as a number.
        let is_fit =
            data_type.is_number() || matches!(field.data_type(), Arrow::Utf8 | Arrow::Null);
        if !is_fit {
            return Err(super::definition::missing(self.name, &[data_type]).into());
        }
        Ok(Arc::new(DataType::Float8.to_result_field(self.name, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        columnar(arguments, |columns, fields, _| {
            if columns[0].data_type() == &Arrow::Null {
                return Ok(arrow_array::new_null_array(
                    &Arrow::Float64,
                    columns[0].len(),
                ));
            }
            let from = DataType::of_field(&fields[0]);
            let values = cast_column(&columns[0], &from, &DataType::Float8)?;
            checked::<Float64Type, Float64Type>(values.as_primitive(), self.body.0)
        })
    }
}
