//! Archives: a checkpoint as one stream of bytes, for a backup.
//!
//! ```text
//!   header    id, base, list of all files, which of them are here
//!   pieces    file 0 | file 0 | file 1 | ...        up to 1 MiB each, compressed where that helps
//!   end       bytes, checksum of everything
//! ```
//!
//! A *full* archive has all files. An *incremental* one leaves out those that its *base*, or a base
//! of that, has: segments never change, so a file with the same name, length and checksum is the same.
//! Archives are restored together with their bases.
//!
//! | module | owns |
//! |---|---|
//! | `format` | header and records as bytes |
//! | `write` | from a checkpoint to a stream |
//! | `read` | from a stream to pieces, all of it checked |
//! | `restore` | archives to the directory of a store |
//!
//! Whoever calls opens and names the files; nothing here seeks. Bytes: `docs/format/snapshot.md`.

mod format;
mod read;
mod restore;
mod write;

use std::io;

pub use format::{ArchiveBase, ArchiveHeader};
pub use read::{ArchiveReader, Piece};
pub use restore::{Chain, RestoredFile};
pub use write::write_archive;

use crate::error::StoreError;

/// Bytes of a file in one record at most.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Why an archive cannot be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream failed.
    #[error("the archive cannot be read or written")]
    Io(#[from] io::Error),
    /// It does not hold what was written to it.
    #[error("it is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// It ends before its end: it was not written, or not copied, to the end.
    #[error("it ends at byte {offset}, before its end")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// It was written by a version of Chronos that this one does not know.
    #[error("it has format version {found}, but this program reads up to {known}")]
    Format {
        /// Its format version.
        found: u32,
        /// The highest version this program reads.
        known: u32,
    },
    /// Whoever wrote it could not go on.
    #[error("it was broken off: {reason}")]
    BrokenOff {
        /// Why.
        reason: String,
    },
    /// What it is based on is not there.
    #[error("it needs the archive {base}, on which it is based")]
    BaseMissing {
        /// The id of that.
        base: String,
    },
    /// Archives do not belong together.
    #[error("{reason}")]
    Chain {
        /// Why not.
        reason: String,
    },
    /// The store's side failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
