//! Who may be cancelled: process ids and secrets of the open connections.
//!
//! A client that wants its statement stopped opens a second connection and names the
//! first one's id and secret. Wrong ones are ignored without an answer, so that
//! nothing can be learned by trying.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use chronos_env::Random;
use chronos_node::CancelHandle;
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::Notify;

/// What stops a connection's statement, wherever it is.
pub(super) struct Interrupt {
    session: CancelHandle,
    /// Wakes a COPY that waits for the client, where the session has nothing to stop.
    copy: Notify,
}

impl Interrupt {
    /// An interrupt for the session of `handle`.
    pub(super) fn new(session: CancelHandle) -> Arc<Interrupt> {
        Arc::new(Interrupt {
            session,
            copy: Notify::new(),
        })
    }

    /// The statement that runs now, if any, fails with 57014.
    pub(super) fn cancel(&self) {
        self.session.cancel();
        self.copy.notify_waiters();
    }

    /// Ready once [`cancel`](Self::cancel) was called after this call.
    pub(super) fn cancelled(&self) -> Notified<'_> {
        self.copy.notified()
    }
}

struct Entry {
    secret: u32,
    interrupt: Arc<Interrupt>,
}

/// The open connections.
pub(super) struct Cancellations {
    random: Arc<dyn Random>,
    next_id: AtomicU32,
    open: Mutex<HashMap<u32, Entry>>,
}

/// A connection's place among the open ones; dropping it gives the place up.
pub(super) struct Registration {
    /// What BackendKeyData calls the process id.
    pub(super) process_id: u32,
    /// What the client must know to cancel.
    pub(super) secret: u32,
    cancellations: Arc<Cancellations>,
}

impl Cancellations {
    /// None yet.
    pub(super) fn new(random: Arc<dyn Random>) -> Arc<Cancellations> {
        Arc::new(Cancellations {
            random,
            next_id: AtomicU32::new(1),
            open: Mutex::new(HashMap::new()),
        })
    }

    /// Adds a connection under a free id and a fresh secret.
    pub(super) fn register(self: &Arc<Self>, interrupt: Arc<Interrupt>) -> Registration {
        let secret = self.random.u64() as u32;
        let mut open = self.open.lock();
        // Ids are shown as signed numbers, so they stay positive; after two billion
        // connections the counter comes round, past those still open.
        let process_id = loop {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
            if id != 0 && !open.contains_key(&id) {
                break id;
            }
        };
        open.insert(process_id, Entry { secret, interrupt });
        Registration {
            process_id,
            secret,
            cancellations: self.clone(),
        }
    }

    /// Cancels what the connection does, if the secret is its own.
    pub(super) fn cancel(&self, process_id: u32, secret: u32) -> bool {
        let interrupt = self
            .open
            .lock()
            .get(&process_id)
            .filter(|entry| entry.secret == secret)
            .map(|entry| entry.interrupt.clone());
        if let Some(interrupt) = &interrupt {
            interrupt.cancel();
        }
        interrupt.is_some()
    }

    /// Cancels what every connection does.
    pub(super) fn cancel_all(&self) {
        let all: Vec<_> = self
            .open
            .lock()
            .values()
            .map(|entry| entry.interrupt.clone())
            .collect();
        for interrupt in all {
            interrupt.cancel();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancellations.open.lock().remove(&self.process_id);
    }
}
