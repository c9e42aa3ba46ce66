//! `generate_series` as an array, with the types that PostgreSQL gives it: a series between
//! dates is one of instants, and one of numbers with digits behind the point is exact.

use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType as Arrow, Field, FieldRef, IntervalUnit, TimeUnit};
use chronos_model::SqlState;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::QueryError;

/// Digits of the numbers of a series.
const DIGITS: u8 = 38;
/// Numbers that a series may have.
const LENGTH_MAX: usize = 10_000_000;

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
        match arguments.first() {
            Some(number @ Arrow::Decimal128(..)) => Ok(Arrow::List(Arc::new(Field::new(
                "item",
                number.clone(),
                true,
            )))),
            _ => self.engines.return_type(arguments),
        }
    }

    fn coerce_types(&self, arguments: &[Arrow]) -> DfResult<Vec<Arrow>> {
        if let Some(number) = number_of(arguments) {
            return Ok(vec![number; arguments.len()]);
        }
        let instant = |given: &Arrow| match given {
            Arrow::Date32 | Arrow::Date64 => {
                Arrow::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
            }
            other => other.clone(),
        };
        let first = arguments.first().map(instant);
        let is_of_instants = matches!(first, Some(Arrow::Timestamp(..)));
        let fields = arguments.iter().enumerate().map(|(i, given)| {
            // A constant text is read as what stands there.
            let is_text = matches!(given, Arrow::Utf8);
            let taken = match (is_of_instants && is_text, i, &first) {
                (true, 2, _) => Arrow::Interval(IntervalUnit::MonthDayNano),
                (true, _, Some(first)) => first.clone(),
                _ => instant(given),
            };
            Arc::new(Field::new("", taken, true)) as FieldRef
        });
        let coerced = fields_with_udf(&fields.collect::<Vec<_>>(), self.engines.as_ref())?;
        Ok(coerced.iter().map(|f| f.data_type().clone()).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if !matches!(
            args.arg_fields.first().map(|f| f.data_type()),
            Some(Arrow::Decimal128(..))
        ) {
            return self.engines.invoke_with_args(args);
        }
        let rows = args.number_rows;
        let columns = args.args.into_iter().map(|a| a.into_array(rows));
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        Ok(ColumnarValue::Array(numbers(&columns, rows)?))
    }
}

/// The type of a series of numbers, if one of them has digits behind the point.
fn number_of(arguments: &[Arrow]) -> Option<Arrow> {
    let mut scale = None;
    for argument in arguments {
        scale = match argument {
            Arrow::Decimal128(_, s) => scale.max(Some(*s)),
            Arrow::Int16 | Arrow::Int32 | Arrow::Int64 | Arrow::Null => scale,
            _ => return None,
        };
    }
    Some(Arrow::Decimal128(DIGITS, scale?))
}

fn numbers(columns: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
    let columns: Vec<_> = columns
        .iter()
        .map(|c| c.as_primitive::<Decimal128Type>())
        .collect();
    let [from, to, ..] = columns.as_slice() else {
        return Err(QueryError::unsupported("generate_series of one number").into());
    };
    let scale = from.scale();
    let one = 10_i128.pow(u32::from(scale.unsigned_abs()));
    let number = from.data_type().clone();
    let items = Decimal128Builder::new().with_data_type(number.clone());
    let mut lists = ListBuilder::new(items).with_field(Field::new("item", number, true));
    for row in 0..rows {
        if columns.iter().any(|c| c.is_null(row)) {
            lists.append_null();
            continue;
        }
        let (mut at, to) = (from.value(row), to.value(row));
        let step = columns.get(2).map_or(one, |c| c.value(row));
        if step == 0 {
            let message = "step size cannot equal zero";
            return Err(QueryError::new(SqlState::INVALID_PARAMETER, message).into());
        }
        let mut length = 0;
        while (step > 0 && at <= to) || (step < 0 && at >= to) {
            length += 1;
            if length > LENGTH_MAX {
                let message = format!("a series of more than {LENGTH_MAX} numbers");
                return Err(QueryError::new(SqlState::PROGRAM_LIMIT, message).into());
            }
            lists.values().append_value(at);
            at = at.saturating_add(step);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
