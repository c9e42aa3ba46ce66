//! Functions of arrays where the engine's differ from PostgreSQL's: subscripts do not
//! count from the end, all occurrences are removed, an empty array has no length.

use chronos_model::{DataType, SqlState, Value};

use super::definition::{
    bigint, boolean, lenient, missing, strict, text, Arguments, Call, Definition,
};
use crate::QueryError;

/// All of them.
pub(super) const FUNCTIONS: &[Definition] = &[
    strict("__subscript", (2, 2), item_of_first, |call| {
        let at = call.int(1)?;
        let items = items(call, 0)?;
        let found = usize::try_from(at)
            .ok()
            .and_then(|at| items.get(at.checked_sub(1)?));
        Ok(found.cloned().unwrap_or(Value::Null))
    }),
    strict("__slice", (3, 3), first, |call| {
        let items = items(call, 0)?;
        let from = call.int(1)?.max(1) as usize - 1;
        let to = usize::try_from(call.int(2)?).unwrap_or(0).min(items.len());
        Ok(Value::Array(
            items.get(from..to).unwrap_or_default().to_vec(),
        ))
    }),
    lenient("__any_equal", (2, 2), boolean, any_equal),
    strict("array_length", (2, 2), bigint, |call| {
        dimension(call, |length| Value::Int8(length as i64))
    }),
    strict("array_upper", (2, 2), bigint, |call| {
        dimension(call, |length| Value::Int8(length as i64))
    }),
    strict("array_lower", (2, 2), bigint, |call| {
        dimension(call, |_| Value::Int8(1))
    }),
    strict("array_ndims", (1, 1), bigint, |call| {
        Ok(match items(call, 0)? {
            [] => Value::Null,
            _ => Value::Int8(1),
        })
    }),
    strict("array_dims", (1, 1), text, |call| {
        Ok(match items(call, 0)?.len() {
            0 => Value::Null,
            length => Value::Text(format!("[1:{length}]")),
        })
    }),
    lenient("array_remove", (2, 2), first, |call| {
        let Value::Array(items) = &call.args[0] else {
            return Ok(Value::Null);
        };
        let removed = sought(call, 1)?;
        let kept = items.iter().filter(|item| **item != removed);
        Ok(Value::Array(kept.cloned().collect()))
    }),
    lenient("array_replace", (3, 3), first, |call| {
        let Value::Array(items) = &call.args[0] else {
            return Ok(Value::Null);
        };
        let (from, to) = (sought(call, 1)?, sought(call, 2)?);
        let replaced = items
            .iter()
            .map(|item| if *item == from { &to } else { item });
        Ok(Value::Array(replaced.cloned().collect()))
    }),
    strict("trim_array", (2, 2), first, |call| {
        let items = items(call, 0)?;
        let cut = usize::try_from(call.int(1)?)
            .ok()
            .filter(|cut| *cut <= items.len())
            .ok_or_else(|| {
                let message = format!(
                    "number of elements to trim must be between 0 and {}",
                    items.len()
                );
                QueryError::new(SqlState("2202E"), message)
            })?;
        Ok(Value::Array(items[..items.len() - cut].to_vec()))
    }),
];

/// The type of the first argument, an array.
fn first(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match &arguments.types[0] {
        array @ DataType::Array(_) => Ok(array.clone()),
        _ => Err(missing("array_remove", arguments.types)),
    }
}

/// The type of the first argument's items.
fn item_of_first(arguments: &Arguments<'_>) -> Result<DataType, QueryError> {
    match &arguments.types[0] {
        DataType::Array(item) => Ok((**item).clone()),
        other => Err(QueryError::new(
            SqlState::DATATYPE_MISMATCH,
            format!("cannot subscript type {other} because it does not support subscripting"),
        )),
    }
}

fn items<'a>(call: &'a Call<'_>, position: usize) -> Result<&'a [Value], QueryError> {
    match &call.args[position] {
        Value::Array(items) => Ok(items),
        _ => Err(missing("array function", call.types)),
    }
}

/// Of the one dimension that arrays have here; NULL of others, and of none.
fn dimension(call: &Call<'_>, of: fn(usize) -> Value) -> Result<Value, QueryError> {
    let length = items(call, 0)?.len();
    Ok(if length == 0 || call.int(1)? != 1 {
        Value::Null
    } else {
        of(length)
    })
}

/// An argument as one of the first one's items.
fn sought(call: &Call<'_>, position: usize) -> Result<Value, QueryError> {
    let DataType::Array(item) = &call.types[0] else {
        return Err(missing("array function", call.types));
    };
    let value = call.args[position].clone();
    let is_exact = matches!((&value, item.as_ref()), (Value::Null | Value::Text(_), _))
        || call.types[position] == **item
        || (call.types[position].is_integer() && item.is_number());
    if !is_exact {
        return Err(missing("array function", call.types));
    }
    Ok(value.coerce(item)?)
}

/// `x = ANY (array)`: NULL when no item is x and one is NULL.
fn any_equal(call: &Call<'_>) -> Result<Value, QueryError> {
    let (Value::Array(items), false) = (&call.args[0], call.args[1].is_null()) else {
        return Ok(Value::Null);
    };
    let value = match &call.types[0] {
        DataType::Array(item) if call.types[1].is_integer() && item.is_integer() => {
            Value::Int8(call.int(1)?)
        }
        _ => call.args[1].clone(),
    };
    let widened = |item: &Value| match item {
        Value::Int2(v) => Value::Int8(i64::from(*v)),
        Value::Int4(v) => Value::Int8(i64::from(*v)),
        other => other.clone(),
    };
    if items.iter().any(|item| widened(item) == value) {
        return Ok(Value::Bool(true));
    }
    Ok(if items.iter().any(Value::is_null) {
        Value::Null
    } else {
        Value::Bool(false)
    })
}
