//! Segments: immutable, sorted, columnar files of versions.

mod cache;
mod error;
mod meta;
mod reader;
mod stats;
mod writer;

pub use cache::PageCache;
pub use error::SegmentError;
pub use meta::{PageColumn, SegmentId, SegmentMeta, SegmentOptions};
pub use reader::Segment;
pub use stats::{ColumnRange, ColumnStats, PageMeta};
pub use writer::SegmentWriter;

pub(crate) use error::BlockError;
