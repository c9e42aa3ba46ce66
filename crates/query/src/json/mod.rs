//! JSON as PostgreSQL's operators and functions see it.
//!
//! ```text
//!   `->`, elements, each   scan.rs   slices of the text: nothing is parsed that is not asked for
//!   `@>`, `||`, set ..     tree.rs   a tree of the whole value, written again in normal form
//!   comparisons            order.rs  bytes that compare as the values do
//! ```
//!
//! A `json` column keeps its text, a `jsonb` column has the model's normal form, whose parts
//! are in normal form too. Values were checked when they were written; a text that turns
//! out not to be JSON is an error here, never a panic.

mod edit;
mod order;
mod scan;
mod tree;

pub(crate) use edit::{
    concat, delete_key, delete_path, delete_position, insert_at, set_at, Creates, Side,
};
pub(crate) use order::key;
pub(crate) use scan::{
    get, get_path, get_position, items, kind, members, scalar_text, unquoted, Kind,
};
pub(crate) use tree::{has_key, Node};

/// Writes a text as a JSON string.
pub(crate) use chronos_model::text::write_json_string as quoted;
use chronos_model::SqlState;

use crate::QueryError;

/// 22P02 for what is not JSON.
fn malformed() -> QueryError {
    QueryError::new(SqlState("22P02"), "invalid input syntax for type json")
}

/// 22023 for a value of the wrong kind.
pub(crate) fn wrong_kind(message: impl Into<String>) -> QueryError {
    QueryError::new(SqlState("22023"), message.into())
}
