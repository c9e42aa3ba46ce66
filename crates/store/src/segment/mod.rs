//! Segments: immutable, sorted, columnar files of versions.
//!
//! Owns the file format (`docs/format/segment.md`), its encodings, and the cache of
//! decoded pages. Refuses: what a version means (which one is current, what a reader
//! may see), when segments are merged or dropped, and their names in a directory.
//!
//! ```text
//!   VersionBatch, sorted by (key asc, origin desc)
//!        | SegmentWriter::append
//!        v
//!   page of ~2,048 versions          page.rs, encoding/: one block per column,
//!        |                           the smallest encoding, decoded and compared
//!        v
//!   group of ~64 pages               writer.rs: column by column, then a key filter
//!        |
//!        v
//!   header | groups | footer | trailer        layout.rs: every byte under a checksum
//!        |
//!        | Segment::open reads the footer: bounds, statistics, places of blocks
//!        v
//!   read_columns (scan: several pages, one array per column, one read per column)
//!   read_keys, read_rows (many keys: decoded pages stay in the PageCache)
//!   find_rows, value     (one key: so do blocks, as they are in the file)
//! ```

mod bloom;
mod cache;
mod damage;
mod encoding;
mod error;
mod fences;
mod frame;
mod layout;
mod meta;
mod page;
mod point;
mod reader;
mod row_cache;
mod shaped;
mod stats;
mod verify;
mod writer;

pub use cache::{CacheCounts, PageCache};
pub use chronos_model::FloatCodec;
pub use damage::Damage;
#[doc(hidden)]
pub use encoding::for_bench as float_encodings;
pub use error::SegmentError;
pub use meta::{PageColumn, SegmentId, SegmentMeta, SegmentOptions};
pub use reader::Segment;
pub(crate) use row_cache::CachedRow;
pub use shaped::reshaped_batch;
pub(crate) use shaped::reshaped_columns;
pub use stats::{ColumnRange, ColumnStats, PageMeta};
pub use writer::SegmentWriter;

pub(crate) use error::BlockError;

/// Lets a fuzzer past the checksums of blocks, to what decodes them.
#[cfg(fuzzing)]
pub static IGNORE_CHECKSUMS: std::sync::atomic::AtomicBool =
    std::sync::atomic::AtomicBool::new(false);

/// Whether a fuzzer is at work that wants to get past them.
fn checksums_are_ignored() -> bool {
    #[cfg(fuzzing)]
    return IGNORE_CHECKSUMS.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(fuzzing))]
    false
}

#[cfg(test)]
mod tests;
