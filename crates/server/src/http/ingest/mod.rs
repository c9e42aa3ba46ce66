//! x
mod number;
mod parse;
mod time;
pub use parse::{parse_body, IngestError, NAME_MAX_BYTES};
