//! Values and rows as PostgreSQL clients see them, in text and binary.
//!
//! ```text
//!   RecordBatch ─▶ Column ─┐
//!                          ├─▶ Cell ─▶ cell_text, cell_binary ─▶ RowEncoder   DataRow messages
//!   Value ─────────────────┘                                 └─▶ CopyEncoder  CopyData messages
//!
//!   parameter ─▶ decode_parameter ─▶ Value
//!   COPY data ─▶ CopyDecoder (copy_lines, copy_fields, copy_binary) ─▶ RecordBatch
//! ```
//!
//! The SQL type of a column is [`chronos_model::DataType::of_field`]; its text
//! forms are those of [`chronos_model::text`]. Nothing here reads a socket or
//! knows a session: bytes in, values out, and back.

mod cell;
mod cell_binary;
mod cell_text;
mod column;
mod column_type;
mod copy_binary;
mod copy_error;
mod copy_fields;
mod copy_in;
mod copy_lines;
mod copy_out;
mod numeric;
mod parameters;
mod rows;

pub use column_type::ColumnType;
pub use copy_error::CopyError;
pub use copy_in::CopyDecoder;
pub use copy_out::CopyEncoder;
pub use parameters::decode_parameter;
pub use rows::{encode_values, RowEncoder};

/// How a value travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldFormat {
    /// Format code 0.
    Text,
    /// Format code 1.
    Binary,
}
