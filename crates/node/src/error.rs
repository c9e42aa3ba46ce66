//! What a client is told when a statement fails.

use chronos_model::{own_name, plain_message, DataError, SqlState};
use chronos_query::QueryError;
use chronos_store::{with_causes, OutOfMemory, StoreError};

/// A failed statement: what PostgreSQL calls the error report.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// SQLSTATE.
    pub code: SqlState,
    /// The primary message.
    pub message: String,
    /// More about what was wrong.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    /// The constraint, table and column at fault, where there are such.
    pub constraint: Option<String>,
    /// Table at fault.
    pub table: Option<String>,
    /// Column at fault.
    pub column: Option<String>,
    /// Byte offset in the statement, until it becomes `position`.
    pub(crate) offset: Option<usize>,
}

impl Error {
    /// An error of a code and a message.
    pub fn new(code: SqlState, message: impl Into<String>) -> Error {
        Error {
            code,
            message: plain_message(message.into()),
            detail: None,
            hint: None,
            position: None,
            constraint: None,
            table: None,
            column: None,
            offset: None,
        }
    }

    /// 08007, of a write that may be committed, now or later, or may not: nobody here knows.
    pub fn unknown_outcome(reason: impl std::fmt::Display) -> Error {
        Error::new(
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            format!("it is not known whether the transaction was committed: {reason}"),
        )
        .with_hint("Look whether it was, or give it an idempotency key: then it can be sent again.")
    }

    /// 57P03, of what takes a leader while none is known. Nothing was done.
    pub fn no_leader() -> Error {
        let message = "no leader is known: this node does not reach enough others";
        Error::new(SqlState::CANNOT_CONNECT_NOW, message)
            .with_hint("Retry. Reads of what is here: SET chronos.read_consistency = 'stale'.")
    }

    /// With a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(plain_message(detail.into()));
        self
    }

    /// With a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(plain_message(hint.into()));
        self
    }

    /// With the names of relations as people know them.
    pub(crate) fn with_own_names(mut self) -> Error {
        for name in [&mut self.table, &mut self.constraint]
            .into_iter()
            .flatten()
        {
            *name = own_name(name).to_owned();
        }
        self.detail = self.detail.map(plain_message);
        self.hint = self.hint.map(plain_message);
        self
    }

    /// The HTTP status of the error.
    pub fn http_status(&self) -> u16 {
        match self.code {
            SqlState::QUERY_CANCELED => 499,
            SqlState::SERIALIZATION_FAILURE | SqlState::UNIQUE_VIOLATION => 409,
            SqlState::DISK_FULL | SqlState::ADMIN_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => 503,
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN => 504,
            SqlState::OUT_OF_MEMORY => 507,
            SqlState::INTERNAL | SqlState::IO_ERROR | SqlState::DATA_CORRUPTED => 500,
            SqlState::UNDEFINED_TABLE => 404,
            SqlState::INSUFFICIENT_PRIVILEGE => 403,
            SqlState::INVALID_AUTHORIZATION | SqlState::INVALID_PASSWORD => 401,
            _ => 400,
        }
    }
}

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Error {
        let mut error = Error::new(e.sqlstate(), with_causes(&e));
        error.hint = e.hint().map(str::to_owned);
        error
    }
}

impl From<DataError> for Error {
    fn from(e: DataError) -> Error {
        Error::new(e.sqlstate(), e.to_string())
    }
}

impl From<OutOfMemory> for Error {
    fn from(e: OutOfMemory) -> Error {
        QueryError::from(e).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_may_have_happened() {
        let unknown = Error::unknown_outcome("the leader is gone");
        assert_eq!((unknown.code.0, unknown.http_status()), ("08007", 504));
        let later = Error::no_leader();
        assert_eq!((later.code.0, later.http_status()), ("57P03", 503));
        // Neither takes the session with it.
        for error in [unknown, later] {
            assert!(!crate::session::ends_session(error.code));
        }
    }
}
