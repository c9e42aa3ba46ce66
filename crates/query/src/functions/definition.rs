//! How a function is described, and what makes a DataFusion function of it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::{append_value, column_builder, value_at, DataType, SqlState, Value};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::{columnar, Scope};
use crate::QueryError;

/// One call: what the function may ask about, and its arguments.
pub(crate) struct Call<'a> {
    pub(super) scope: &'a Scope,
    pub(super) args: &'a [Value],
    /// SQL types of the arguments.
    pub(super) types: &'a [DataType],
}

/// The value of one call.
pub(crate) type Body = fn(&Call<'_>) -> Result<Value, QueryError>;

/// What a call's result type is derived from.
pub(crate) struct Arguments<'a> {
    /// SQL types of the arguments.
    pub(super) types: &'a [DataType],
    /// The arguments that are constants.
    pub(super) constants: &'a [Option<&'a ScalarValue>],
}

impl Arguments<'_> {
    /// Whether an argument is a constant text, or NULL, without a type: one that is read
    /// as whatever is wanted.
    pub(super) fn is_unknown(&self, position: usize) -> bool {
        matches!(
            self.constants.get(position),
            Some(Some(ScalarValue::Utf8(_) | ScalarValue::Null))
        )
    }

    /// An argument that is a constant integer.
    pub(super) fn constant_int(&self, position: usize) -> Option<i64> {
        match self.constants.get(position)? {
            Some(ScalarValue::Int64(Some(v))) => Some(*v),
            Some(ScalarValue::Int32(Some(v))) => Some(i64::from(*v)),
            Some(ScalarValue::Int16(Some(v))) => Some(i64::from(*v)),
            _ => None,
        }
    }
}

/// A call's result type. Errors with 42883 when there is no function of these arguments.
pub(crate) type Returns = fn(&Arguments<'_>) -> Result<DataType, QueryError>;

/// A function's name, its result type and how it is computed.
pub(crate) struct Definition {
    pub(super) name: &'static str,
    pub(super) returns: Returns,
    /// NULL as any argument makes the result NULL.
    pub(super) is_strict: bool,
    /// How many arguments it takes, both ends included.
    pub(super) arity: (usize, usize),
    pub(super) body: Body,
}

impl Definition {
    /// Whether each call gives something else, also of the same arguments.
    fn is_volatile(&self) -> bool {
        super::SEQUENCE_FUNCTIONS.contains(&self.name)
    }
}

/// The greatest number of arguments of a function that takes any number.
pub(super) const VARIADIC: usize = usize::MAX;

pub(super) const fn strict(
    name: &'static str,
    arity: (usize, usize),
    returns: Returns,
    body: Body,
) -> Definition {
    Definition {
        name,
        returns,
        is_strict: true,
        arity,
        body,
    }
}

pub(super) const fn lenient(
    name: &'static str,
    arity: (usize, usize),
    returns: Returns,
    body: Body,
) -> Definition {
    Definition {
        name,
        returns,
        is_strict: false,
        arity,
        body,
    }
}

pub(super) fn boolean(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Bool)
}

pub(super) fn text(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Text)
}

pub(super) fn oid(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Int4)
}

pub(super) fn bigint(_: &Arguments<'_>) -> Result<DataType, QueryError> {
    Ok(DataType::Int8)
}

impl Call<'_> {
    /// An argument as an integer; text is read as one.
    pub(super) fn int(&self, position: usize) -> Result<i64, QueryError> {
        match self
            .args
            .get(position)
            .cloned()
            .unwrap_or(Value::Null)
            .coerce(&DataType::Int8)?
        {
            Value::Int8(value) => Ok(value),
            _ => Ok(0),
        }
    }

    /// An argument as a double; text is read as one.
    pub(super) fn float(&self, position: usize) -> Result<f64, QueryError> {
        match self
            .args
            .get(position)
            .cloned()
            .unwrap_or(Value::Null)
            .coerce(&DataType::Float8)?
        {
            Value::Float8(value) => Ok(value),
            _ => Ok(0.0),
        }
    }

    /// An argument as text.
    pub(super) fn text(&self, position: usize) -> Result<String, QueryError> {
        match self
            .args
            .get(position)
            .cloned()
            .unwrap_or(Value::Null)
            .coerce(&DataType::Text)?
        {
            Value::Text(value) => Ok(value),
            _ => Ok(String::new()),
        }
    }

    /// Whether an argument is given and true.
    pub(super) fn is_true(&self, position: usize) -> bool {
        match self.args.get(position) {
            Some(Value::Bool(value)) => *value,
            Some(Value::Text(value)) => matches!(value.as_str(), "t" | "true" | "on" | "1"),
            _ => false,
        }
    }
}

/// A function within a plan.
pub(super) struct Function {
    definition: &'static Definition,
    scope: Arc<Scope>,
    signature: Signature,
}

impl Function {
    pub(super) fn new(definition: &'static Definition, scope: Arc<Scope>) -> Function {
        let (least, most) = definition.arity;
        let volatility = match definition.is_volatile() {
            true => Volatility::Volatile,
            false => Volatility::Stable,
        };
        let counts = (least..=most.min(least + 16)).map(|n| {
            if n == 0 {
                TypeSignature::Nullary
            } else {
                TypeSignature::Any(n)
            }
        });
        let signature = if most == VARIADIC && least == 0 {
            let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
            Signature::one_of(any, volatility)
        } else if most == VARIADIC {
            Signature::variadic_any(volatility)
        } else {
            Signature::one_of(counts.collect(), volatility)
        };
        Function {
            definition,
            scope,
            signature,
        }
    }

    fn evaluate(
        &self,
        args: &[ArrayRef],
        types: &[DataType],
        rows: usize,
        returns: &DataType,
    ) -> Result<ArrayRef, QueryError> {
        let mut builder = column_builder(returns, rows);
        let mut values = Vec::with_capacity(args.len());
        for row in 0..rows {
            values.clear();
            for (array, data_type) in args.iter().zip(types) {
                values.push(value_at(array, row, data_type)?);
            }
            let value = if self.definition.is_strict && values.iter().any(Value::is_null) {
                Value::Null
            } else {
                (self.definition.body)(&Call {
                    scope: &self.scope,
                    args: &values,
                    types,
                })?
                .coerce(returns)?
            };
            append_value(&mut builder, &value)?;
        }
        Ok(builder.finish())
    }
}

/// An argument's values in the layout of its SQL type; what has none is NULL.
fn in_layout(array: &ArrayRef, data_type: &DataType) -> DfResult<ArrayRef> {
    let wanted = data_type.to_arrow();
    if array.data_type() == &wanted {
        return Ok(Arc::clone(array));
    }
    if array.data_type() == &Arrow::Null
        || matches!(array.data_type(), Arrow::Struct(_) | Arrow::Map(..))
    {
        return Ok(arrow_array::new_null_array(&wanted, array.len()));
    }
    arrow_cast::cast(array, &wanted).map_err(DataFusionError::from)
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        let types: Vec<DataType> = arguments.iter().map(DataType::of_arrow).collect();
        let constants = vec![None; types.len()];
        let returns = (self.definition.returns)(&Arguments {
            types: &types,
            constants: &constants,
        })?;
        Ok(returns.to_arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|f| DataType::of_field(f))
            .collect();
        let is_row =
            |field: &FieldRef| matches!(field.data_type(), Arrow::Struct(_) | Arrow::Map(..));
        if self.name().contains("json") && args.arg_fields.iter().any(is_row) {
            return Err(QueryError::unsupported("JSON of rows").into());
        }
        let returns = (self.definition.returns)(&Arguments {
            types: &types,
            constants: args.scalar_arguments,
        })?;
        Ok(Arc::new(
            returns.to_result_field(self.definition.name, true),
        ))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let returns = DataType::of_field(&args.return_field);
        let mut args = args;
        if self.definition.is_volatile() {
            // Columns, so that it is called for each row.
            let rows = args.number_rows;
            let columns = std::mem::take(&mut args.args).into_iter();
            let columns = columns.map(|a| Ok(ColumnarValue::Array(a.into_array(rows)?)));
            args.args = columns.collect::<DfResult<_>>()?;
            if args.args.is_empty() {
                let value = self.evaluate(&[], &[], rows, &returns)?;
                return Ok(ColumnarValue::Array(value));
            }
        }
        columnar(args, |columns, fields, rows| {
            let types: Vec<DataType> = fields.iter().map(|f| DataType::of_field(f)).collect();
            let columns = columns
                .iter()
                .zip(&types)
                .map(|(column, data_type)| in_layout(column, data_type))
                .collect::<DfResult<Vec<_>>>()?;
            self.evaluate(&columns, &types, rows, &returns)
        })
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({})", self.definition.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.definition.name == other.definition.name && Arc::ptr_eq(&self.scope, &other.scope)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

/// 42704 for an object that was named and does not exist.
pub(super) fn undefined(what: &str, name: &str) -> QueryError {
    QueryError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("{what} \"{name}\" does not exist"),
    )
}

/// 42883 for a function that exists, but not of these arguments.
pub(super) fn missing(name: &str, types: &[DataType]) -> QueryError {
    let types: Vec<String> = types
        .iter()
        .map(|t| match t {
            DataType::Numeric(_) => "numeric".to_owned(),
            other => other.to_string(),
        })
        .collect();
    QueryError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", types.join(", ")),
    )
    .with_hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}
