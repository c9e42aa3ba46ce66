//! Text forms of values, as PostgreSQL writes and reads them.
use crate::{DataError, DataType, Decimal, Value};

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// Reads a literal of `data_type`.
pub fn parse(data_type: &DataType, text: &str) -> Result<Value, DataError> {
    Err(DataError::InvalidText {
        type_name: data_type.to_string(),
        text: text.to_owned(),
    })
}
/// Writes a value's text form; NULL as the empty string.
pub fn format(value: &Value) -> String {
    format!("{value:?}")
}
/// Writes a decimal with all digits of its scale.
pub fn format_decimal(d: Decimal) -> String {
    format!("{d:?}")
}
/// Reads a UUID in any of PostgreSQL's spellings.
pub fn parse_uuid(text: &str) -> Result<[u8; 16], DataError> {
    Err(DataError::InvalidText {
        type_name: "uuid".into(),
        text: text.to_owned(),
    })
}
/// Writes a UUID, lower-case with hyphens.
pub fn format_uuid(v: &[u8; 16]) -> String {
    format!("{v:?}")
}
