//! Arguments that PostgreSQL's functions do not take and the engine's do.
//!
//! The engine converts numbers and dates to text wherever a function wants text; here such
//! calls are 42883. Functions that are not listed are left to the engine.

use chronos_model::{DataType, SqlState};

use super::operators::Operand;
use crate::QueryError;

/// What an argument may be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    TextOrBytes,
    Number,
    Boolean,
    Any,
}

/// Kinds of the arguments of a function; the last one repeats.
fn kinds(name: &str) -> Option<&'static [Kind]> {
    use Kind::{Any, Boolean, Number, Text, TextOrBytes};
    Some(match name {
        "length" | "character_length" | "octet_length" | "bit_length" | "md5" => &[TextOrBytes],
        "upper" | "lower" | "initcap" | "ascii" | "reverse" => &[Text],
        "btrim" | "ltrim" | "rtrim" => &[TextOrBytes],
        "left" | "right" | "repeat" => &[Text, Number],
        "substr" | "substring" => &[TextOrBytes, Number],
        "lpad" | "rpad" => &[Text, Number, Text],
        "replace" | "translate" | "starts_with" => &[Text],
        "split_part" => &[Text, Text, Number],
        "strpos" => &[TextOrBytes],
        "string_agg" => &[TextOrBytes],
        "sum" | "avg" | "stddev" | "stddev_pop" | "var" | "var_pop" => &[Number],
        "bool_and" | "bool_or" => &[Boolean],
        "concat_ws" => &[Text, Any],
        _ => return None,
    })
}

/// Errors with 42883 when an argument is of a type that the function has not.
pub(super) fn check(name: &str, operands: &[Operand]) -> Result<(), QueryError> {
    let Some(kinds) = kinds(name) else {
        return Ok(());
    };
    let last = kinds[kinds.len() - 1];
    let fits = |(position, operand): (usize, &Operand)| {
        let Operand::Of(data_type) = operand else {
            return true;
        };
        match kinds.get(position).copied().unwrap_or(last) {
            Kind::Any => true,
            Kind::Text => data_type.is_text(),
            Kind::TextOrBytes => data_type.is_text() || *data_type == DataType::Bytea,
            Kind::Number => data_type.is_number(),
            Kind::Boolean => *data_type == DataType::Bool,
        }
    };
    if operands.iter().enumerate().all(fits) {
        return Ok(());
    }
    let types: Vec<String> = operands.iter().map(Operand::name).collect();
    Err(QueryError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", types.join(", ")),
    )
    .with_hint("No function matches the given name and argument types. You might need to add explicit type casts."))
}
