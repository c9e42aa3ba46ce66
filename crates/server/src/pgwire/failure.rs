//! Why handling a message stopped, and what follows from it.

use std::io;

use chronos_model::{DataError, SqlState};
use chronos_node::Error;

use super::format::CopyError;

/// Why handling a message stopped.
#[derive(Debug)]
pub(super) enum Failure {
    /// The statement failed: the client is told, the connection goes on.
    Statement(Box<Error>),
    /// The connection cannot go on: the client is told, then it is closed.
    Fatal(Box<Error>),
    /// The client is gone, or does not wish to be told anything.
    Closed,
}

/// The result of handling a message.
pub(super) type Handled<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failed statement.
    pub(super) fn statement(code: SqlState, message: impl Into<String>) -> Failure {
        Failure::Statement(Box::new(Error::new(code, message)))
    }

    /// A connection that cannot go on.
    pub(super) fn fatal(code: SqlState, message: impl Into<String>) -> Failure {
        Failure::Fatal(Box::new(Error::new(code, message)))
    }

    /// The client broke a rule of the protocol within a well-framed message.
    pub(super) fn violation(message: impl Into<String>) -> Failure {
        Failure::statement(SqlState::PROTOCOL_VIOLATION, message)
    }
}

impl From<Box<Error>> for Failure {
    fn from(error: Box<Error>) -> Failure {
        Failure::Statement(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Statement(Box::new(error))
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Failure {
        Failure::from(Error::from(error))
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Failure {
        Failure::from(Error::new(error.code, error.message).with_detail(error.context))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        tracing::debug!(%error, "PostgreSQL connection lost");
        Failure::Closed
    }
}
