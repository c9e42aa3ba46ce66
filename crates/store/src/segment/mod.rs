//! Segments: immutable, sorted, columnar files of versions.

mod bloom;
mod cache;
mod encoding;
mod error;
mod layout;
mod meta;
mod page;
mod reader;
mod statistics;
mod stats;
mod writer;

pub use cache::PageCache;
pub use error::SegmentError;
pub use meta::{PageColumn, SegmentId, SegmentMeta, SegmentOptions};
pub use reader::Segment;
pub use stats::{ColumnRange, ColumnStats, PageMeta};
pub use writer::SegmentWriter;

pub(crate) use error::BlockError;

#[cfg(test)]
mod tests;
