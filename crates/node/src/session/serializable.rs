//! BEGIN ISOLATION LEVEL SERIALIZABLE, and SET TRANSACTION: what such a transaction reads is noted, and looked at again when
//! its writes are applied (`chronos_store`'s `serial`).

use std::sync::Arc;

use chronos_model::SqlState;
use chronos_store::ReadLog;

use super::command::done;
use super::Session;
use crate::{Error, Outcome, Severity};

impl Session {
    /// Lets the transaction that was just begun be serializable.
    ///
    /// Errors: it has begun before, and not as one (25001).
    pub(super) fn make_serializable(&mut self) -> Result<(), Error> {
        let Some(transaction) = self.transaction.as_mut().filter(|t| t.reads.is_none()) else {
            return Ok(());
        };
        let is_fresh =
            !transaction.has_read && transaction.writes.is_empty() && transaction.tables.is_empty();
        if !is_fresh {
            let message = "SET TRANSACTION ISOLATION LEVEL must be called before any query";
            return Err(Error::new(SqlState::ACTIVE_TRANSACTION, message));
        }
        let log = Arc::new(ReadLog::default());
        transaction.base = transaction.base.noting_reads(Arc::clone(&log));
        transaction.view = transaction.base.clone();
        transaction.reads = Some(log);
        Ok(())
    }

    /// SET TRANSACTION ISOLATION LEVEL SERIALIZABLE.
    pub(super) fn set_serializable(&mut self) -> Result<Outcome, Error> {
        match self.in_transaction() {
            true => self.make_serializable()?,
            false => self.notice(
                Severity::Warning,
                SqlState::NO_ACTIVE_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            ),
        }
        done("SET")
    }

    /// What SHOW says of a setting that is the transaction's.
    pub(super) fn shown_of_transaction(&self, name: &str) -> Option<String> {
        let is_serializable = self.transaction.as_ref().is_some_and(|t| t.reads.is_some());
        (name == "transaction_isolation" && is_serializable).then(|| "serializable".to_owned())
    }
}
