//! What queries may hold in memory, and what they do when that is not enough.
//!
//! The engine's operators reserve from [`StatementPool`], which draws from the node's memory
//! account: each operator that can spill may have an even part of half of it, the
//! others take what is left, and what is refused comes back as 53200 with the account's own
//! words. [`Limits`] makes batches, partitions and set-aside memory fit a small account, because
//! the engine's defaults are made for gigabytes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use chronos_store::{MemoryAccount, MemoryClass};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;

/// Where operators put what they cannot hold.
#[derive(Clone, Debug, Default)]
pub struct SpillOptions {
    /// A directory that is there; `None`: the system's directory for temporary files.
    pub dir: Option<PathBuf>,
    /// Bytes that all queries together may put there; `None`: what the engine allows.
    pub bytes_max: Option<u64>,
}

/// Each sort sets this part of the memory aside for merging what it spilled; with less memory
/// than the engine expects it would otherwise have none left to sort with.
const SORT_RESERVATION_PART: usize = 32;
/// A thread of a query is worth so much memory: what one sorts others have to merge.
const PARTITION_BYTES: usize = 64 << 20;
/// A row of a batch likewise: batches are pieces that have to fit several times.
const BATCH_ROW_BYTES: usize = 16 << 10;
const BATCH_ROWS_MIN: usize = 512;
/// Bytes that each partition of a scan by key may be ahead of what merges them, at most.
const ORDERED_BYTES_AHEAD: usize = 4 << 20;
/// A batch that keeps more than this part of the memory from being freed is copied.
const BATCH_PART: usize = 128;
/// Operators that can spill take this part of the memory together: sorting what they hold takes
/// as much again, for sorted keys, and cannot spill; nor can what stands above them.
const SPILLABLE_PART: usize = 2;
/// Where that part is larger than this, operators do well without.
const FITTED_BYTES_MAX: usize = 2 << 20;

/// The engine's figures for so much memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    pub(super) partitions: usize,
    pub(super) batch_rows: usize,
    pub(super) sort_reservation_bytes: usize,
    /// Below this size a sort puts batches together before it sorts them.
    pub(super) sort_in_place_bytes: usize,
    pub(super) ordered_bytes_ahead: usize,
    /// Whether operators that keep batches are to have them copied if need be.
    pub(super) fits_batches: bool,
}

impl Limits {
    pub(super) fn of(memory: usize, parallelism: usize) -> Limits {
        let defaults = SessionConfig::new();
        let execution = &defaults.options().execution;
        let batch_rows = execution.batch_size.get();
        let part = memory / SORT_RESERVATION_PART;
        let fits_batches = memory / BATCH_PART < FITTED_BYTES_MAX;
        Limits {
            partitions: parallelism.min(memory / PARTITION_BYTES).max(1),
            batch_rows: (memory / BATCH_ROW_BYTES).clamp(BATCH_ROWS_MIN, batch_rows),
            sort_reservation_bytes: execution.sort_spill_reservation_bytes.min(part),
            // What is put together may take a little more than its parts, which a sort that
            // has taken all there is does not get, and then it fails instead of spilling.
            sort_in_place_bytes: match fits_batches {
                true => 1,
                false => execution.sort_in_place_threshold_bytes,
            },
            ordered_bytes_ahead: ORDERED_BYTES_AHEAD.min(part),
            fits_batches,
        }
    }
}

/// A runtime whose operators draw from an account.
pub(super) fn runtime(
    account: &Arc<MemoryAccount>,
    spill: &SpillOptions,
) -> DfResult<Arc<RuntimeEnv>> {
    let mode = match &spill.dir {
        Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let mut disk = DiskManagerBuilder::default().with_mode(mode);
    if let Some(bytes) = spill.bytes_max {
        disk = disk.with_max_temp_directory_size(bytes);
    }
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(StatementPool::new(Arc::clone(account))))
        .with_disk_manager_builder(disk)
        .build_arc()
}

/// Bytes that a batch may keep from being freed under a pool, before it is better copied: rows
/// of a memtable are slices of columns that are far longer.
pub(super) fn batch_bytes_max(pool: &dyn MemoryPool) -> usize {
    match pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes / BATCH_PART,
        MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
    }
}

/// The memory of all running queries.
#[derive(Debug)]
pub(super) struct StatementPool {
    account: Arc<MemoryAccount>,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// Operators that can spill.
    spilling: usize,
    /// Bytes that these hold.
    spillable: usize,
    /// Bytes that the others hold.
    unspillable: usize,
}

impl StatementPool {
    fn new(account: Arc<MemoryAccount>) -> StatementPool {
        StatementPool {
            account,
            state: Mutex::default(),
        }
    }

    fn refuse(&self, reservation: &MemoryReservation, wanted: usize) -> DataFusionError {
        let consumer = reservation.consumer().name();
        let (held, what) = (reservation.size(), operator(consumer));
        tracing::debug!(consumer, held, wanted, "an operator gets no more memory");
        let refused = self.account.refused(what, wanted as u64);
        DataFusionError::ResourcesExhausted(refused.to_string())
    }
}

impl PoolState {
    fn held(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        match consumer.can_spill() {
            true => &mut self.spillable,
            false => &mut self.unspillable,
        }
    }

    /// What an operator that can spill may hold when so much of `whole` is free.
    fn part(&self, free: usize, whole: usize) -> usize {
        let shared = (free + self.spillable).min(whole / SPILLABLE_PART);
        shared / self.spilling.max(1)
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statements"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.state.lock().spilling += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.state.lock().spilling -= usize::from(consumer.can_spill());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.state.lock().held(reservation.consumer()) += additional;
        self.account.take(MemoryClass::Queries, additional as u64);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.state.lock().held(reservation.consumer()) -= shrink;
        self.account.give_back(MemoryClass::Queries, shrink as u64);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        let mut state = self.state.lock();
        if reservation.consumer().can_spill() {
            let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            let free = bytes(self.account.available());
            let whole = bytes(self.account.shares().statements);
            if reservation.size() + additional > state.part(free, whole) {
                return Err(self.refuse(reservation, additional));
            }
        }
        if !self
            .account
            .try_take(MemoryClass::Queries, additional as u64)
        {
            return Err(self.refuse(reservation, additional));
        }
        *state.held(reservation.consumer()) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let state = self.state.lock();
        state.spillable + state.unspillable
    }

    fn memory_limit(&self) -> MemoryLimit {
        let statements = self.account.shares().statements;
        MemoryLimit::Finite(usize::try_from(statements).unwrap_or(usize::MAX))
    }
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.account.shares().statements;
        write!(f, "statements({} MiB)", bytes >> 20)
    }
}

/// An operator's name as people know it.
fn operator(consumer: &str) -> &'static str {
    const NAMES: [(&str, &str); 10] = [
        ("ExternalSorter", "a sort"),
        ("TopK", "a sort"),
        ("SortPreservingMerge", "a merge"),
        ("HashJoin", "a hash join"),
        ("IntervalJoin", "a join of periods"),
        ("NestedLoopJoin", "a join"),
        ("CrossJoin", "a join"),
        ("SMJ", "a join"),
        ("Repartition", "an exchange"),
        ("Aggregate", "an aggregate"),
    ];
    let known = NAMES.iter().find(|(part, _)| consumer.contains(part));
    known.map_or("a query", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_store::MemoryShares;

    fn pool() -> (Arc<MemoryAccount>, Arc<dyn MemoryPool>) {
        let account = MemoryAccount::new(MemoryShares::of(64 << 20));
        let pool = Arc::new(StatementPool::new(Arc::clone(&account)));
        (account, pool)
    }

    #[test]
    fn who_can_spill_has_an_even_part_of_half_and_of_what_others_leave() {
        let (account, pool) = pool();
        let spilling = |name: &str| {
            MemoryConsumer::new(name)
                .with_can_spill(true)
                .register(&pool)
        };
        let (first, second) = (spilling("ExternalSorter[0]"), spilling("ExternalSorter[1]"));
        first.try_grow(8 << 20).unwrap();
        let refused = first.try_grow(1).unwrap_err().to_string();
        assert!(refused.contains("a sort needs 1 bytes more"), "{refused}");
        assert!(refused.contains("8192 KiB by queries"), "{refused}");
        second.try_grow(8 << 20).unwrap();
        first.free();
        second.shrink(4 << 20);
        // A COPY holds memory, too.
        let mut copy = account.reservation(MemoryClass::Writes, "the COPY");
        copy.try_grow(20 << 20).unwrap();
        assert!(first.try_grow(7 << 20).is_err());
        first.try_grow(6 << 20).unwrap();
        drop((first, second, copy));
        assert_eq!(account.available(), 32 << 20);
    }

    #[test]
    fn who_cannot_spill_takes_what_is_left() {
        let (account, pool) = pool();
        let join = MemoryConsumer::new("HashJoinInput[0]").register(&pool);
        join.try_grow(30 << 20).unwrap();
        let refused = join.try_grow(3 << 20).unwrap_err();
        assert!(matches!(refused, DataFusionError::ResourcesExhausted(_)));
        // What an operator says that it holds already is counted, whatever is left.
        join.grow(4 << 20);
        assert_eq!(account.held(MemoryClass::Queries), 34 << 20);
    }

    #[test]
    fn figures_fit_small_memory_and_leave_large_alone() {
        let large = Limits::of(4 << 30, 8);
        assert_eq!((large.partitions, large.batch_rows), (8, 8192));
        assert_eq!(large.sort_reservation_bytes, 10 << 20);
        let small = Limits::of(32 << 20, 8);
        assert_eq!((small.partitions, small.batch_rows), (1, 2048));
        assert_eq!(Limits::of(128 << 20, 8).partitions, 2);
        assert_eq!(small.sort_reservation_bytes, 1 << 20);
        assert!(small.fits_batches && !large.fits_batches);
    }
}
