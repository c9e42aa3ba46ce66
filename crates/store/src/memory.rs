//! The memory account: how `--memory-limit` is divided, and who holds how much of it.
//!
//! ```text
//!   limit ---+--- memtables    1/4   bounded by freezing; writers wait when it is full
//!            +--- cache        1/8+  bounded by forgetting pages
//!            +--- background   1/8-  what flushes and compactions work with
//!            `--- statements   1/2   queries, writes under way, bodies and long texts:
//!                                    reserved before it is used; what does not fit is
//!                                    refused (53200) or spilled
//! ```
//!
//! Owns the division and the sums. What holds memory for a statement keeps a [`Reservation`],
//! which gives everything back when it is dropped, however the statement ended. Refuses to
//! wait: whoever gets no memory says so to the client at once, so two statements that both want
//! more never wait for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// The background's part of a limit, at most: what it needs does not grow with memory.
const BACKGROUND_BYTES_MAX: u64 = 64 << 20;
/// Less than this helps nobody.
const SHARE_BYTES_MIN: u64 = 1 << 20;
/// More decoded pages than this are not kept.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// Who holds memory for a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryClass {
    /// Operators of queries.
    Queries,
    /// Rows and changes on their way to the memtables: gathered, encoded, logged.
    Writes,
    /// Bodies of requests, and statements that are being parsed and planned.
    Input,
}

impl MemoryClass {
    /// All of them.
    pub const ALL: [MemoryClass; 3] = [
        MemoryClass::Queries,
        MemoryClass::Writes,
        MemoryClass::Input,
    ];

    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            MemoryClass::Queries => "queries",
            MemoryClass::Writes => "writes",
            MemoryClass::Input => "input",
        }
    }
}

/// How a limit is divided, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryShares {
    /// Everything.
    pub limit: u64,
    /// Versions in memory, those that wait for their flush included.
    pub memtables: u64,
    /// Decoded pages.
    pub cache: u64,
    /// What flushes and compactions work with.
    pub background: u64,
    /// What all statements together may hold.
    pub statements: u64,
}

impl MemoryShares {
    /// The division of a limit.
    pub fn of(limit: u64) -> MemoryShares {
        let background = (limit / 8).clamp(SHARE_BYTES_MIN, BACKGROUND_BYTES_MAX);
        let cache = (limit / 4).saturating_sub(background);
        MemoryShares {
            limit,
            memtables: (limit / 4).max(SHARE_BYTES_MIN),
            cache: cache.clamp(SHARE_BYTES_MIN, CACHE_BYTES_MAX),
            background,
            statements: (limit / 2).max(SHARE_BYTES_MIN),
        }
    }
}

/// What statements hold of their share.
#[derive(Debug)]
pub struct MemoryAccount {
    shares: MemoryShares,
    /// In the order of [`MemoryClass::ALL`], as the next one.
    held: [AtomicU64; MemoryClass::ALL.len()],
    peaks: [AtomicU64; MemoryClass::ALL.len()],
    total: AtomicU64,
    refusals: AtomicU64,
}

/// Memory that is not to be had, and who has it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "out of memory: {what} needs {} more, of the {} that statements may take under the memory limit of {} are in use: {} by queries, {} by writes, {} by requests",
    shown(*.wanted), shown(shares.statements), shown(shares.limit), shown(held[0]), shown(held[1]), shown(held[2])
)]
pub struct OutOfMemory {
    /// For what it was wanted.
    pub what: String,
    /// Bytes.
    pub wanted: u64,
    /// How the limit is divided.
    pub shares: MemoryShares,
    /// What is held, in the order of [`MemoryClass::ALL`].
    pub held: [u64; MemoryClass::ALL.len()],
}

impl MemoryAccount {
    /// An account of a division, of which nothing is in use.
    pub fn new(shares: MemoryShares) -> Arc<MemoryAccount> {
        Arc::new(MemoryAccount {
            shares,
            held: Default::default(),
            peaks: Default::default(),
            total: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        })
    }

    /// How the limit is divided.
    pub fn shares(&self) -> MemoryShares {
        self.shares
    }

    /// Bytes that a class holds.
    pub fn held(&self, class: MemoryClass) -> u64 {
        self.held[class as usize].load(Ordering::Relaxed)
    }

    /// The most bytes that it has held.
    pub fn peak(&self, class: MemoryClass) -> u64 {
        self.peaks[class as usize].load(Ordering::Relaxed)
    }

    /// How often memory was refused.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Bytes that statements may still take.
    pub fn available(&self) -> u64 {
        let total = self.total.load(Ordering::Relaxed);
        self.shares.statements.saturating_sub(total)
    }

    /// Takes bytes for a class; false: so many are not left.
    pub fn try_take(&self, class: MemoryClass, bytes: u64) -> bool {
        let fits = |total: u64| {
            let next = total.checked_add(bytes)?;
            (next <= self.shares.statements).then_some(next)
        };
        let taken = self
            .total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_ok() {
            self.note(class, bytes);
        }
        taken.is_ok()
    }

    /// Takes bytes that are in use already, whether or not they are left.
    pub fn take(&self, class: MemoryClass, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.note(class, bytes);
    }

    /// Gives back bytes that were taken.
    pub fn give_back(&self, class: MemoryClass, bytes: u64) {
        self.total.fetch_sub(bytes, Ordering::Relaxed);
        self.held[class as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    /// That so many bytes more are not to be had; counts it.
    pub fn refused(&self, what: &str, wanted: u64) -> OutOfMemory {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        OutOfMemory {
            what: what.to_owned(),
            wanted,
            shares: self.shares,
            held: MemoryClass::ALL.map(|class| self.held(class)),
        }
    }

    /// An empty reservation of a class. `what` completes "out of memory: .. needs 5 MiB more".
    pub fn reservation(
        self: &Arc<MemoryAccount>,
        class: MemoryClass,
        what: &'static str,
    ) -> Reservation {
        Reservation {
            account: Arc::clone(self),
            class,
            what,
            bytes: 0,
        }
    }

    fn note(&self, class: MemoryClass, bytes: u64) {
        let before = self.held[class as usize].fetch_add(bytes, Ordering::Relaxed);
        self.peaks[class as usize].fetch_max(before + bytes, Ordering::Relaxed);
    }
}

/// Memory that something holds until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<MemoryAccount>,
    class: MemoryClass,
    what: &'static str,
    bytes: u64,
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reserves more.
    pub fn try_grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        if !self.account.try_take(self.class, bytes) {
            return Err(self.account.refused(self.what, bytes));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Counts more that is in use already, whether or not it is left.
    pub fn grow(&mut self, bytes: u64) {
        self.account.take(self.class, bytes);
        self.bytes += bytes;
    }

    /// Reserves as much as is in use by now.
    pub fn try_resize(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.try_grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.give_back(self.class, bytes);
    }

    /// An empty reservation of the same kind.
    pub fn fresh(&self) -> Reservation {
        self.account.reservation(self.class, self.what)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.give_back(self.class, self.bytes);
    }
}

/// Bytes as people read them.
fn shown(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=10_239_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_within_the_limit() {
        for mib in [8, 32, 64, 100, 1024, 6144, 65_536] {
            let shares = MemoryShares::of(mib << 20);
            let sum = shares.memtables + shares.cache + shares.background + shares.statements;
            assert!(sum <= mib << 20, "{shares:?}");
            assert!(sum >= (mib << 20) / 4 * 3, "{shares:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_says_who_has_it() {
        let account = MemoryAccount::new(MemoryShares::of(64 << 20));
        let mut query = account.reservation(MemoryClass::Queries, "a sort");
        query.try_grow(20 << 20).unwrap();
        let mut write = account.reservation(MemoryClass::Writes, "the COPY");
        write.try_grow(8 << 20).unwrap();
        let refused = write.try_grow(5 << 20).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "out of memory: the COPY needs 5120 KiB more, of the 32 MiB that statements may take under the memory limit of 64 MiB are in use: 20 MiB by queries, 8192 KiB by writes, 0 bytes by requests"
        );
        assert_eq!((write.bytes(), account.refusals()), (8 << 20, 1));
        drop(query);
        write.try_grow(5 << 20).unwrap();
        write.try_resize(1 << 20).unwrap();
        assert_eq!(account.held(MemoryClass::Writes), 1 << 20);
        assert_eq!(account.peak(MemoryClass::Writes), 13 << 20);
        drop(write);
        assert_eq!(account.available(), 32 << 20);
    }

    #[test]
    fn many_threads_never_hold_more_than_there_is() {
        let account = MemoryAccount::new(MemoryShares::of(8 << 20));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = account.reservation(MemoryClass::Input, "a body");
                    for i in 0..10_000u64 {
                        match held.try_grow(i * 17 % 900_001) {
                            Ok(()) => assert!(held.bytes() <= account.shares().statements),
                            Err(_) => held.shrink(held.bytes()),
                        }
                        let total = account.total.load(Ordering::Relaxed);
                        assert!(total <= account.shares().statements);
                    }
                });
            }
        });
        assert_eq!(account.available(), account.shares().statements);
    }
}
