//! How long statements, transactions and silences may last.
//!
//! | setting | ends | code |
//! |---|---|---|
//! | `statement_timeout` | the statement | 57014 |
//! | `transaction_timeout` | the connection | 25P04 |
//! | `idle_in_transaction_session_timeout` | the connection | 25P03 |
//! | `idle_session_timeout` | the connection | 57P05 |
//!
//! The session tells what may pass; who waits for the client waits no longer than that.

use std::time::Duration;

use chronos_model::SqlState;

use super::Session;
use crate::Error;

/// How long something may go on, and what is said when it went on for longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) after: Duration,
    code: SqlState,
    message: &'static str,
}

impl Limit {
    pub(super) fn error(self) -> Error {
        Error::new(self.code, self.message)
    }
}

const STATEMENT: (SqlState, &str) = (
    SqlState::QUERY_CANCELED,
    "canceling statement due to statement timeout",
);
const TRANSACTION: (SqlState, &str) = (
    SqlState::TRANSACTION_TIMEOUT,
    "terminating connection due to transaction timeout",
);
const IDLE_IN_TRANSACTION: (SqlState, &str) = (
    SqlState("25P03"),
    "terminating connection due to idle-in-transaction timeout",
);
const IDLE: (SqlState, &str) = (
    SqlState("57P05"),
    "terminating connection due to idle-session timeout",
);

/// Whether an error takes the connection with it.
pub(crate) fn ends_session(code: SqlState) -> bool {
    matches!(
        code,
        SqlState::TRANSACTION_TIMEOUT | SqlState::INVALID_AUTHORIZATION
    )
}

impl Session {
    /// Remembers that a transaction begins, unless one is open.
    pub(super) fn note_begin(&mut self) {
        if self.transaction.is_none() {
            self.began_nanos = self.node.inner.env.clock.monotonic_nanos();
        }
    }

    /// How long the statement that begins now may go on.
    pub(super) fn statement_limit(&self) -> Option<Limit> {
        let statement = self.limit("statement_timeout", STATEMENT);
        earliest(statement, self.transaction_limit())
    }

    /// How long the client may be silent from now on, and the error that then ends the
    /// connection. `is_ready`: it was told that its next command is awaited.
    pub fn silence_limit(&self, is_ready: bool) -> Option<(Duration, Error)> {
        let is_open = self.transaction.is_some();
        let idle = match is_open {
            _ if !is_ready => None,
            true => self.limit("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
            false => self.limit("idle_session_timeout", IDLE),
        };
        let transaction = self.transaction_limit().filter(|_| is_open);
        let limit = earliest(idle, transaction)?;
        Some((limit.after, limit.error()))
    }

    /// Whether an error takes the connection with it.
    pub fn is_ended_by(&self, error: &Error) -> bool {
        ends_session(error.code)
    }

    /// What is left of the time that the transaction may take.
    fn transaction_limit(&self) -> Option<Limit> {
        let limit = self.limit("transaction_timeout", TRANSACTION)?;
        let now_nanos = self.node.inner.env.clock.monotonic_nanos();
        let passed = Duration::from_nanos(now_nanos.saturating_sub(self.began_nanos));
        Some(Limit {
            after: limit.after.saturating_sub(passed),
            ..limit
        })
    }

    fn limit(&self, setting: &str, (code, message): (SqlState, &'static str)) -> Option<Limit> {
        let ms = self.settings.milliseconds_of(setting)?;
        Some(Limit {
            after: Duration::from_millis(ms),
            code,
            message,
        })
    }
}

fn earliest(a: Option<Limit>, b: Option<Limit>) -> Option<Limit> {
    a.into_iter().chain(b).min_by_key(|limit| limit.after)
}
