//! One cell of a row, wherever it comes from: the form in which the writers of
//! text and binary take values, so that each type is written in one place.

use std::ops::Range;

use arrow_buffer::i256;
use chronos_model::{DataError, Decimal, Interval, Value};

use super::column::Column;

/// A cell. Its SQL type is known beside it.
#[derive(Clone)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    Float4(f32),
    Float8(f64),
    Decimal(Decimal),
    /// More digits than a [`Decimal`] holds; with its scale.
    WideDecimal(&'a i256, i8),
    /// TEXT, VARCHAR, JSON, JSONB, and UUID in columns.
    Text(&'a str),
    Uuid(&'a [u8; 16]),
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01.
    Timestamp(i64),
    Interval(Interval),
    Items(Items<'a>),
    Vector(&'a [f32]),
    /// A row of a struct or map column, shown as a JSON object.
    Object(&'a Column<'a>, usize),
}

/// The items of an array.
#[derive(Clone)]
pub(super) enum Items<'a> {
    /// Rows of a column.
    Rows(&'a Column<'a>, Range<usize>),
    Values(&'a [Value]),
}

impl<'a> Items<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Items::Rows(_, rows) => rows.len(),
            Items::Values(values) => values.len(),
        }
    }

    /// The item at `at`, which is below [`len`](Self::len).
    pub(super) fn get(&self, at: usize) -> Result<Cell<'a>, DataError> {
        match self {
            Items::Rows(column, rows) => column.cell(rows.start + at),
            Items::Values(values) => Ok(Cell::from(&values[at])),
        }
    }
}

impl<'a> From<&'a Value> for Cell<'a> {
    fn from(value: &'a Value) -> Cell<'a> {
        match value {
            Value::Null => Cell::Null,
            Value::Bool(v) => Cell::Bool(*v),
            Value::Int2(v) => Cell::Int(i64::from(*v)),
            Value::Int4(v) => Cell::Int(i64::from(*v)),
            Value::Int8(v) => Cell::Int(*v),
            Value::Float4(v) => Cell::Float4(*v),
            Value::Float8(v) => Cell::Float8(*v),
            Value::Numeric(v) => Cell::Decimal(*v),
            Value::Text(v) | Value::Json(v) | Value::Jsonb(v) => Cell::Text(v),
            Value::Bytea(v) => Cell::Bytes(v),
            Value::Uuid(v) => Cell::Uuid(v),
            Value::Date(v) => Cell::Date(*v),
            Value::Time(v) => Cell::Time(*v),
            Value::Timestamp(v) | Value::TimestampTz(v) => Cell::Timestamp(*v),
            Value::Interval(v) => Cell::Interval(*v),
            Value::Array(v) => Cell::Items(Items::Values(v)),
            Value::Vector(v) => Cell::Vector(v),
        }
    }
}
