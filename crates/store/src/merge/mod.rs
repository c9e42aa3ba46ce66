//! Merging sorted sources of versions into one sorted stream, and deciding which
//! versions of a key a reader sees.
//!
//! ```text
//!   memtable rows, memtable runs, segments        Source
//!        | blocks of versions, one at a time       Cursor
//!        v
//!   Merger: stretches of the cursor that is first, up to where the next one begins
//!        |
//!        v
//!   Resolver: which of them are seen, and until when each was current
//!        |
//!        v
//!   gather: the seen rows of all blocks as columns
//! ```
//!
//! Memory: one block per source, and one batch of output.

mod block;
mod cursor;
mod gather;
mod merger;
mod pieces;
mod resolve;
mod timeline;

pub(crate) use block::{arrays_bytes, gallop, i64_array, u32_array, u64_array, Block, PerVersion};
pub(crate) use cursor::{decode_columns, is_hidden, Input, Parts, Source};
pub(crate) use merger::{MergeRequest, Merged, Merger, Wants};
pub(crate) use resolve::{cut_is_met, end_of_only_version, ended_by, horizon, Resolution};
pub(crate) use timeline::{Piece, PieceFilter, Timeline};
