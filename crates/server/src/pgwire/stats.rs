//! Counters of the PostgreSQL server, read by whoever serves metrics.
//!
//! Plain relaxed atomics: each is right by itself, a reading of several is not a
//! moment in time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that other threads may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }
}

/// What the PostgreSQL server did since it started.
#[derive(Debug, Default)]
pub struct PgStats {
    /// Connections past start-up, now.
    pub connections_open: Counter,
    /// Connections past start-up, ever.
    pub connections_total: Counter,
    /// Connections turned away: too many, or a start-up that failed.
    pub connections_refused: Counter,
    /// Log-ins that failed.
    pub logins_failed: Counter,
    /// Connections closed because their task panicked.
    pub panics: Counter,
    /// Cancel requests that named a connection and its secret.
    pub cancels: Counter,
    /// `Query` messages.
    pub queries: Counter,
    /// `Parse` messages.
    pub parses: Counter,
    /// `Bind` messages.
    pub binds: Counter,
    /// `Execute` messages.
    pub executes: Counter,
    /// `CopyData` messages received.
    pub copy_data: Counter,
    /// Messages of any other kind.
    pub other_messages: Counter,
    /// ErrorResponse messages sent.
    pub errors: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Writes to sockets; far fewer than messages where clients pipeline.
    pub writes: Counter,
}
