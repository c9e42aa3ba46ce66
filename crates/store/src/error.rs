//! What can go wrong in the store, and what can go wrong with a write set.
//!
//! The two are apart on purpose: an [`ApplyError`] other than
//! [`ApplyError::Storage`] is the same on every node that applies the same log and
//! is the client's answer; a [`StoreError`] is this node's own trouble and stops it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::ArrowError;
use chronos_model::{text, DataError, KeyError, SqlState, Stamp, TableId, Value};

use crate::foreign_keys::ForeignKeyViolation;
use crate::log::{LogIndex, Term};
use crate::segment::SegmentError;

/// Trouble with this node's storage.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `sync`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A file does not hold what was written to it.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// A file was written by a version of Chronos that this one does not know.
    #[error("{} has format version {found}, but this program reads up to {known}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The highest version this program reads.
        known: u32,
    },
    /// A file is not there, and must be.
    #[error("{} is missing, although {named_by}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Why it should be there.
        named_by: &'static str,
    },
    /// A segment failed.
    #[error(transparent)]
    Segment(Arc<SegmentError>),
    /// Stored bytes do not decode.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An Arrow kernel refused stored columns.
    #[error("columns of stored versions do not fit together: {0}")]
    Columns(String),
    /// A read names a table that the view does not have.
    #[error("table \"{name}\" does not exist")]
    UnknownTable {
        /// The table's name.
        name: String,
    },
    /// A read was planned for other columns than the view's table has.
    #[error("table \"{table}\" was altered while a statement that reads it was planned")]
    Reshaped {
        /// The table's name.
        table: String,
    },
    /// A serializable transaction reads what may be gone when it commits.
    #[error("table \"{table}\", whose rows or history expire, is not supported in a serializable transaction")]
    NotSerializable {
        /// The table's name.
        table: String,
    },
    /// A read of the past asks for what may be gone.
    #[error("rows of \"{table}\" as of {} are no longer kept: its history begins at {}", instant(*asked), instant(*horizon))]
    BeforeHorizon {
        /// The table's name.
        table: String,
        /// The stamp asked for.
        asked: Stamp,
        /// The earliest that can be asked for; for one key's history, when it begins.
        horizon: Stamp,
    },
    /// A read of a table that committed entries change which could not be applied.
    #[error("table \"{table}\" cannot be read: committed changes of it cannot be applied, because {}", reason.text)]
    HeldBack {
        /// The table's name.
        table: String,
        /// Why they cannot.
        reason: Reason,
    },
    /// Applied entries came out of order.
    #[error("log entry {given} was given to apply after entry {applied}")]
    IndexOrder {
        /// The entry given.
        given: LogIndex,
        /// The last entry applied.
        applied: LogIndex,
    },
    /// A commit's stamp is not after those before it.
    #[error("commit stamp {given:?} does not follow {last:?}")]
    StampOrder {
        /// The commit's stamp.
        given: Stamp,
        /// The highest stamp applied before.
        last: Stamp,
    },
    /// A checkpoint cannot be made, used or received as it was asked for.
    #[error("a checkpoint cannot be used so: {reason}")]
    Checkpoint {
        /// What is wrong.
        reason: String,
    },
    /// The content of a moment cannot be hashed.
    #[error("content cannot be hashed: {reason}")]
    Content {
        /// Why not.
        reason: &'static str,
    },
    /// Terms came out of order.
    #[error("term {} was entered after term {}", given.0, entered.0)]
    TermOrder {
        /// The term given.
        given: Term,
        /// The one that was entered before.
        entered: Term,
    },
    /// An earlier failure of a sync or of the manifest makes every later write unsafe.
    #[error("the store has stopped, because {}", reason.text)]
    Poisoned {
        /// The earlier failure.
        reason: Reason,
    },
    /// The background thread cannot empty the memtables and they are full.
    #[error("memtables are full and cannot be flushed: {}", reason.text)]
    CannotFlush {
        /// Why flushing fails.
        reason: Reason,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// An earlier failure, as later errors tell of it.
#[derive(Debug, Clone)]
pub struct Reason {
    /// The failure with all of its causes.
    pub text: String,
    /// Whether the disk was full.
    pub disk_full: bool,
}

impl Reason {
    /// A failure that is no error of the operating system.
    pub(crate) fn new(text: impl Into<String>) -> Reason {
        Reason {
            text: text.into(),
            disk_full: false,
        }
    }
}

impl From<&StoreError> for Reason {
    fn from(error: &StoreError) -> Reason {
        Reason {
            text: with_causes(error),
            disk_full: error.is_disk_full(),
        }
    }
}

/// A stamp as SQL shows an instant.
fn instant(stamp: Stamp) -> String {
    text::format(&Value::TimestampTz(stamp.micros()))
}

/// An error's sentence, followed by those of its causes.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl StoreError {
    /// Whether a full disk is behind it.
    pub fn is_disk_full(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => is_full(source),
            StoreError::Segment(error) => {
                matches!(&**error, SegmentError::Io { source, .. } if is_full(source))
            }
            StoreError::Poisoned { reason } | StoreError::CannotFlush { reason } => {
                reason.disk_full
            }
            _ => false,
        }
    }

    /// Whether a segment is damaged where it was to be read: everything else goes on.
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Segment(e) if matches!(**e, SegmentError::Damaged { .. }))
    }

    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        let is_damage = self.is_damage() || matches!(self, StoreError::HeldBack { .. });
        is_damage.then_some(
            "Other keys and other tables are not affected. Put the file back from a copy of the data \
             directory and restart; \"chronos admin check\" lists everything that is damaged.",
        )
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    /// The SQLSTATE a client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            error if error.is_disk_full() => SqlState::DISK_FULL,
            StoreError::Io { .. } => SqlState::IO_ERROR,
            StoreError::Segment(error) if matches!(**error, SegmentError::Io { .. }) => {
                SqlState::IO_ERROR
            }
            StoreError::Damaged { .. }
            | StoreError::Format { .. }
            | StoreError::Missing { .. }
            | StoreError::Data(_)
            | StoreError::Columns(_)
            | StoreError::HeldBack { .. }
            | StoreError::Segment(_) => SqlState::DATA_CORRUPTED,
            StoreError::UnknownTable { .. } => SqlState::UNDEFINED_TABLE,
            StoreError::Reshaped { .. } => SqlState::SERIALIZATION_FAILURE,
            StoreError::NotSerializable { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            StoreError::BeforeHorizon { .. } | StoreError::Content { .. } => {
                SqlState::INVALID_PARAMETER
            }
            StoreError::IndexOrder { .. }
            | StoreError::StampOrder { .. }
            | StoreError::TermOrder { .. }
            | StoreError::Checkpoint { .. } => SqlState::INTERNAL,
            StoreError::Poisoned { .. } | StoreError::CannotFlush { .. } | StoreError::Closed => {
                SqlState::CANNOT_CONNECT_NOW
            }
        }
    }
}

impl From<ArrowError> for StoreError {
    fn from(error: ArrowError) -> StoreError {
        StoreError::Columns(error.to_string())
    }
}

impl From<SegmentError> for StoreError {
    fn from(error: SegmentError) -> StoreError {
        StoreError::Segment(Arc::new(error))
    }
}

/// Why a write set was not applied. Nothing of it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApplyError {
    /// A row that had to be absent is there.
    #[error("duplicate key value violates unique constraint \"{constraint}\"")]
    UniqueViolation {
        /// The table's name.
        table: String,
        /// The constraint's name.
        constraint: String,
        /// The key columns' values, in key order.
        key: Vec<Value>,
    },
    /// A row refers to a key that is not there.
    #[error("foreign key constraint \"{}\" of table \"{}\" is violated", .0.constraint, .0.child)]
    ForeignKey(Box<ForeignKeyViolation>),
    /// A table that others refer to cannot be emptied without them.
    #[error("cannot truncate a table referenced in a foreign key constraint")]
    TruncatesReferenced {
        /// The table's name.
        table: String,
        /// One that refers to it.
        child: String,
    },
    /// A row was changed by another transaction since this one read it.
    #[error("could not serialize access to table \"{table}\" due to concurrent update")]
    Conflict {
        /// The table's name.
        table: String,
    },
    /// The catalog was changed by another since a change of it was worked out.
    #[error("tables were changed concurrently")]
    CatalogConflict,
    /// The table was dropped.
    #[error("table with id {} does not exist", id.0)]
    UnknownTable {
        /// Its id.
        id: TableId,
    },
    /// The index was dropped.
    #[error("index with id {} does not exist", id.0)]
    UnknownIndex {
        /// Its id.
        id: TableId,
    },
    /// The sequence was dropped.
    #[error("sequence with id {} does not exist", id.0)]
    UnknownSequence {
        /// Its id.
        id: TableId,
    },
    /// A sequence has no more numbers.
    #[error("nextval: reached {end} value of sequence \"{name}\" ({bound})")]
    SequenceExhausted {
        /// The sequence's name.
        name: String,
        /// `maximum` or `minimum`.
        end: &'static str,
        /// That value.
        bound: i64,
    },
    /// The schema of a relation's name does not exist.
    #[error("schema \"{name}\" does not exist")]
    UnknownSchema {
        /// The schema's name.
        name: String,
    },
    /// A table of this name exists.
    #[error("relation \"{name}\" already exists")]
    DuplicateTable {
        /// The name.
        name: String,
    },
    /// A key column is NULL or a value has the wrong type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A row cannot be written for the period that it was given.
    #[error("a row of \"{table}\" cannot be written for this period: {reason}")]
    Period {
        /// The table's name.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A batch does not have the table's columns.
    #[error("rows do not fit table \"{table}\": {reason}")]
    Shape {
        /// The table's name.
        table: String,
        /// What differs.
        reason: String,
    },
    /// The key of a write set is that of another one.
    #[error("idempotency key \"{key}\" was used for another request")]
    KeyReused {
        /// The key.
        key: Arc<str>,
    },
    /// This node cannot go on.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

impl ApplyError {
    /// The SQLSTATE a client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            ApplyError::UniqueViolation { .. } => SqlState::UNIQUE_VIOLATION,
            ApplyError::ForeignKey(_) => SqlState::FOREIGN_KEY_VIOLATION,
            ApplyError::TruncatesReferenced { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            ApplyError::Conflict { .. } | ApplyError::CatalogConflict => {
                SqlState::SERIALIZATION_FAILURE
            }
            ApplyError::UnknownTable { .. } => SqlState::UNDEFINED_TABLE,
            ApplyError::UnknownIndex { .. } => SqlState::UNDEFINED_OBJECT,
            ApplyError::UnknownSequence { .. } => SqlState::UNDEFINED_TABLE,
            ApplyError::UnknownSchema { .. } => SqlState("3F000"),
            ApplyError::SequenceExhausted { .. } => SqlState("2200H"),
            ApplyError::DuplicateTable { .. } => SqlState::DUPLICATE_TABLE,
            ApplyError::Key(KeyError::Null { .. }) => SqlState::NOT_NULL_VIOLATION,
            ApplyError::Key(KeyError::Data(e)) => e.sqlstate(),
            ApplyError::Shape { .. } => SqlState::DATATYPE_MISMATCH,
            ApplyError::Period { .. } | ApplyError::KeyReused { .. } => SqlState::INVALID_PARAMETER,
            ApplyError::Storage(e) => e.sqlstate(),
        }
    }
}
