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
        .with_hint(match self.code {
            SqlState::DATA_CORRUPTED => "In a cluster of several the node takes over another member's store by itself. Alone, put the file back and restart it; nothing that was acknowledged is lost.",
            _ => "Mend the cause and restart the node; nothing that was acknowledged is lost.",
        })
    }
}

/// The first faults of a node.
#[derive(Debug, Default)]
pub(crate) struct FaultCell {
    /// One that only a restart ends.
    lasting: Mutex<Option<Fault>>,
    /// Damaged files, which can be mended.
    damage: Mutex<Option<Fault>>,
}

impl FaultCell {
    pub(crate) fn get(&self) -> Option<Fault> {
        let lasting = self.lasting.lock().clone();
        lasting.or_else(|| self.damage.lock().clone())
    }

    /// That damaged files keep entries from being applied, if that is all.
    pub(crate) fn damage(&self) -> Option<Fault> {
        match self.is_mendable() {
            true => self.damage.lock().clone(),
            false => None,
        }
    }

    /// Whether nothing is wrong that only a restart ends.
    pub(crate) fn is_mendable(&self) -> bool {
        self.lasting.lock().is_none()
    }

    pub(crate) fn set_damage(&self, fault: Fault) {
        self.damage.lock().get_or_insert(fault);
    }

    /// The damaged files are not there any more.
    pub(crate) fn end_damage(&self) {
        *self.damage.lock() = None;
    }

    /// Notes that nothing more is written, and logs it.
    pub(crate) fn stop(&self, error: &Error, what: &str) {
        tracing::error!(error = error.message, "{what}");
        self.lasting.lock().get_or_insert(Fault {
            code: error.code,
            reason: error.message.clone(),
        });
    }

    pub(crate) fn log_failed(&self, error: &LogError) {
        if !matches!(error, LogError::Closed) && self.lasting.lock().is_none() {
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
