//! The engine's functions whose arguments get a common type from us, later than the
//! engine's planner wants it: `coalesce(date, '2024-01-01')`.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::SqlState;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::QueryError;

/// The function, not complaining about types while a statement is planned.
pub(crate) fn lenient(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    if !matches!(function.name(), "coalesce" | "greatest" | "least") {
        return function;
    }
    Arc::new(ScalarUDF::new_from_impl(Lenient {
        engines: function,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lenient {
    engines: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Lenient {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        self.engines.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let known: Vec<&FieldRef> = args
            .arg_fields
            .iter()
            .filter(|f| !matches!(f.data_type(), Arrow::Null | Arrow::Utf8))
            .collect();
        // Where only the layout is common, the first type's name goes with it.
        let first = known.first().copied().or(args.arg_fields.first());
        let nullable = match self.name() {
            "coalesce" => args.arg_fields.iter().all(|f| f.is_nullable()),
            _ => args.arg_fields.iter().any(|f| f.is_nullable()),
        };
        let field = match first {
            Some(first) if known.iter().all(|f| f.data_type() == first.data_type()) => {
                first.as_ref().clone().with_name(self.name())
            }
            Some(first) => match self.engines.return_field_from_args(args) {
                Ok(field) => field.as_ref().clone(),
                Err(_) => first.as_ref().clone().with_name(self.name()),
            },
            None => self.engines.return_field_from_args(args)?.as_ref().clone(),
        };
        Ok(Arc::new(field.with_nullable(nullable)))
    }

    fn coerce_types(&self, arguments: &[Arrow]) -> DfResult<Vec<Arrow>> {
        if arguments.is_empty() {
            let message = format!("syntax error: {}() needs arguments", self.name());
            return Err(QueryError::new(SqlState::SYNTAX_ERROR, message).into());
        }
        Ok(self
            .engines
            .coerce_types(arguments)
            .unwrap_or_else(|_| arguments.to_vec()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.engines.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        self.engines.simplify(args, info)
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.engines.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.engines.short_circuits()
    }
}
