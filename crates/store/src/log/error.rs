//! What can go wrong with the log, with the facts a person needs to act.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogIndex;

/// Why a log operation failed. Cheap to clone: one failed sync fails many appends.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk or the user's quota is full.
    #[error("the disk is full: cannot {action} {}", path.display())]
    DiskFull {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
    },
    /// Bytes that were once durable are not what was written.
    #[error("log file {} is damaged at offset {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the unreadable record or header starts, in bytes.
        offset: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// The file was written by another version of the program.
    #[error("log file {} has format version {found}, this program reads {supported}", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// An append did not continue the log. Nothing of it was written.
    #[error("append of log index {found}, but the next index is {expected}")]
    OutOfOrder {
        /// The index that would continue the log.
        expected: LogIndex,
        /// The index that was offered.
        found: LogIndex,
    },
    /// An entry is larger than the format allows. Nothing of the append was written.
    #[error("a log entry of {bytes} bytes exceeds the limit of {limit} bytes")]
    EntryTooLarge {
        /// Its payload.
        bytes: u64,
        /// The largest payload.
        limit: u64,
    },
    /// The index lies below the first entry that is still stored.
    #[error("log index {index} is no longer stored, the log starts at {first}")]
    BelowStart {
        /// The index that was asked for.
        index: LogIndex,
        /// The first that is stored.
        first: LogIndex,
    },
    /// An earlier write or sync failed, so nothing can be acknowledged any more.
    #[error("the log stopped after a failure and must be reopened: {cause}")]
    Poisoned {
        /// The failure, with its source.
        cause: Arc<str>,
        /// Whether the cause was a full disk.
        disk_full: bool,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// For `map_err`: the operation on `path` that the operating system refused.
    pub(super) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> LogError + 'a {
        move |source| {
            let path = path.to_path_buf();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    LogError::DiskFull { action, path }
                }
                _ => LogError::Io {
                    action,
                    path,
                    source: Arc::new(source),
                },
            }
        }
    }

    pub(super) fn damaged(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        LogError::Damaged {
            path: path.to_path_buf(),
            offset,
            reason: reason.into(),
        }
    }

    /// The error that everyone gets after this one.
    pub(super) fn poison(&self) -> LogError {
        if let LogError::Poisoned { .. } = self {
            return self.clone();
        }
        let cause = match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        };
        LogError::Poisoned {
            cause: cause.into(),
            disk_full: self.is_disk_full(),
        }
    }

    /// Whether the disk was full, at this failure or at the one that stopped the log.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            LogError::DiskFull { .. }
                | LogError::Poisoned {
                    disk_full: true,
                    ..
                }
        )
    }

    /// Whether the request itself was wrong, so that the log goes on unharmed.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            LogError::OutOfOrder { .. }
                | LogError::EntryTooLarge { .. }
                | LogError::BelowStart { .. }
                | LogError::Closed
        )
    }
}
