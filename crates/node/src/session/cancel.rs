//! Cancelling what a session is doing, from anywhere.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Cancels what a session is doing; usable from anywhere.
#[derive(Clone, Default)]
pub struct CancelHandle {
    running: Arc<Mutex<Option<CancellationToken>>>,
}

impl CancelHandle {
    /// The running statement, if there is one, fails with 57014.
    pub fn cancel(&self) {
        if let Some(token) = self.running.lock().as_ref() {
            token.cancel();
        }
    }

    /// Begins a statement: its token, which replaces that of the one before.
    pub(super) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.running.lock() = Some(token.clone());
        token
    }
}
