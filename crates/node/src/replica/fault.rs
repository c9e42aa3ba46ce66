//! Why a node writes no more.

use chronos_model::SqlState;
use chronos_store::log::LogError;
use chronos_store::{with_causes, Reason};
use parking_lot::Mutex;

use crate::Error;

/// Why a node writes no more.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: SqlState,
    pub(crate) reason: String,
}

impl Fault {
    /// The store stopped by itself.
    pub(crate) fn of_store(reason: Reason) -> Fault {
        let code = match reason.disk_full {
            true => SqlState::DISK_FULL,
            false => SqlState::IO_ERROR,
        };
        Fault {
            code,
            reason: reason.text,
        }
    }

    /// What a client is told.
    pub(crate) fn error(&self) -> Error {
        let code = match self.code {
            known @ (SqlState::DISK_FULL | SqlState::DATA_CORRUPTED) => known,
            _ => SqlState::IO_ERROR,
        };
        let reason = &self.reason;
        Error::new(
            code,
            format!("the node has stopped writing after a failure: {reason}"),
        )
        .with_hint("Mend the cause and restart the node; nothing that was acknowledged is lost.")
    }
}

/// The first fault of a node.
#[derive(Debug, Default)]
pub(crate) struct FaultCell(Mutex<Option<Fault>>);

impl FaultCell {
    pub(crate) fn get(&self) -> Option<Fault> {
        self.0.lock().clone()
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.0.lock().get_or_insert(fault);
    }

    /// Notes that nothing more is written, and logs it.
    pub(crate) fn stop(&self, error: &Error, what: &str) {
        tracing::error!(error = error.message, "{what}");
        self.set(Fault {
            code: error.code,
            reason: error.message.clone(),
        });
    }

    pub(crate) fn log_failed(&self, error: &LogError) {
        if !matches!(error, LogError::Closed) && self.get().is_none() {
            self.stop(
                &log_error(error.clone()),
                "the log failed; nothing more is written",
            );
        }
    }
}

pub(crate) fn log_error(e: LogError) -> Error {
    let code = match &e {
        e if e.is_disk_full() => SqlState::DISK_FULL,
        LogError::EntryTooLarge { .. } => SqlState::PROGRAM_LIMIT,
        LogError::Damaged { .. }
        | LogError::UnsupportedVersion { .. }
        | LogError::BelowStart { .. } => SqlState::DATA_CORRUPTED,
        LogError::Closed => SqlState::ADMIN_SHUTDOWN,
        _ => SqlState::IO_ERROR,
    };
    Error::new(code, with_causes(&e))
}
