//! Whole columns in, a column out: what functions that meet many rows are made of.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::ArrayRef;
use arrow_schema::FieldRef;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use crate::QueryError;

/// Applies `f` to the arguments as arrays of one length; a call of constants alone is
/// computed once and stays a constant.
pub(crate) fn columnar(
    arguments: ScalarFunctionArgs,
    f: impl FnOnce(&[ArrayRef], &[FieldRef], usize) -> Result<ArrayRef, QueryError>,
) -> DfResult<ColumnarValue> {
    let is_constant = arguments
        .args
        .iter()
        .all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let rows = if is_constant {
        1
    } else {
        arguments.number_rows
    };
    let columns = arguments
        .args
        .into_iter()
        .map(|value| value.into_array(rows))
        .collect::<DfResult<Vec<_>>>()?;
    let result = f(&columns, &arguments.arg_fields, rows)?;
    if is_constant {
        return Ok(ColumnarValue::Scalar(constant(&result)?));
    }
    Ok(ColumnarValue::Array(result))
}

/// The only value of a column. A list keeps its item's field only when it is taken as it is.
fn constant(column: &ArrayRef) -> DfResult<ScalarValue> {
    match column.as_list_opt::<i32>() {
        Some(list) => Ok(ScalarValue::List(Arc::new(list.clone()))),
        None => ScalarValue::try_from_array(column, 0),
    }
}
