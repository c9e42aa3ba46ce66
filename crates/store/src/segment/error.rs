//! Why a segment could not be written or read.

use std::io;
use std::path::PathBuf;

use arrow_schema::ArrowError;
use chronos_model::DataError;

/// An error of a segment, with the file and the place.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The operating system refused.
    #[error("cannot {action} segment file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: `create`, `write`, `sync`, `open`, `read`.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes that no writer of ours wrote.
    #[error("{}segment file {} is damaged at offset {offset}{}: {reason}", of_table(table.as_deref()), path.display(), in_page(*page))]
    Damaged {
        /// The table that cannot be read there, once the file is in use.
        table: Option<String>,
        /// The file.
        path: PathBuf,
        /// The page the bytes belong to; `None`: header, footer or filter.
        page: Option<usize>,
        /// Offset in the file at which the damaged piece starts.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file is a segment of a newer Chronos.
    #[error("segment file {} has format version {version}, but this program reads up to {supported}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// The segment was written for another table or another shape of it.
    #[error("segment file {} does not fit table \"{table}\": {reason}", path.display())]
    SchemaMismatch {
        /// The file.
        path: PathBuf,
        /// The table's name.
        table: String,
        /// What differs.
        reason: String,
    },
    /// The caller gave versions that cannot be stored.
    #[error("versions cannot be written to segment file {}: {reason}", path.display())]
    InvalidInput {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
}

fn of_table(table: Option<&str>) -> String {
    let refused = |name| format!("table \"{name}\" cannot be read here: ");
    table.map(refused).unwrap_or_default()
}

fn in_page(page: Option<usize>) -> String {
    page.map(|p| format!(" (page {p})")).unwrap_or_default()
}

/// Why an encoded block could not be decoded; becomes [`SegmentError::Damaged`]
/// where the file and the offset are known.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct BlockError {
    /// What is wrong.
    pub(crate) reason: String,
}

impl BlockError {
    pub(crate) fn new(reason: impl Into<String>) -> BlockError {
        BlockError {
            reason: reason.into(),
        }
    }
}

impl From<DataError> for BlockError {
    fn from(error: DataError) -> BlockError {
        BlockError::new(error.to_string())
    }
}

impl From<ArrowError> for BlockError {
    fn from(error: ArrowError) -> BlockError {
        BlockError::new(error.to_string())
    }
}
