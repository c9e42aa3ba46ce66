//! Why COPY data could not be read, and where: PostgreSQL tells both apart.

use std::fmt::Write;

use chronos_model::{DataError, SqlState};

/// How many characters of the data an error repeats, as in PostgreSQL.
const SHOWN_CHARS_MAX: usize = 100;

/// COPY data that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CopyError {
    /// SQLSTATE.
    pub code: SqlState,
    /// What was wrong.
    pub message: String,
    /// Where, e.g. `COPY t, line 3, column ts: "abc"`.
    pub context: String,
}

/// What was wrong, before it is known where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: SqlState,
    pub(super) message: String,
}

impl Fault {
    /// Data that is not laid out as COPY's format asks for.
    #[cold]
    pub(super) fn layout(message: impl Into<String>) -> Fault {
        Fault {
            code: SqlState::BAD_COPY_FORMAT,
            message: message.into(),
        }
    }

    /// Text that is not UTF-8, or has a zero byte.
    #[cold]
    pub(super) fn encoding(bytes: &[u8]) -> Fault {
        let start = match std::str::from_utf8(bytes) {
            Err(e) => e.valid_up_to(),
            Ok(_) => bytes.iter().position(|b| *b == 0).unwrap_or(0),
        };
        let mut message = String::from("invalid byte sequence for encoding \"UTF8\":");
        for byte in bytes[start..].iter().take(1) {
            let _ = write!(message, " 0x{byte:02x}");
        }
        Fault {
            code: SqlState::INVALID_ENCODING,
            message,
        }
    }

    pub(super) fn at(self, context: String) -> CopyError {
        CopyError {
            code: self.code,
            message: self.message,
            context,
        }
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Fault {
        Fault {
            code: error.sqlstate(),
            message: error.to_string(),
        }
    }
}

/// Data as an error repeats it.
pub(super) fn shown(bytes: &[u8]) -> String {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN_CHARS_MAX + 4)]);
    match head.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &head[..end]),
        None => head.into_owned(),
    }
}
