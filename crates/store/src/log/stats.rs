//! Counters of the log, for metrics. Written by the log thread, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the histogram's buckets are `2^i` microseconds, `i` from 0; the last
/// bucket takes everything above.
pub const SYNC_BUCKETS: usize = 24;

/// The log's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Syncs of log files since the log was opened.
    pub fsyncs: u64,
    /// Entries written since the log was opened.
    pub entries: u64,
    /// Bytes of records written since the log was opened, headers and padding included.
    pub bytes: u64,
    /// Time spent in these syncs.
    pub fsync_nanos_sum: u64,
    /// How many syncs took at most `2^i` microseconds and more than half of that; the
    /// last bucket has no upper bound.
    pub fsync_buckets: [u64; SYNC_BUCKETS],
    /// Payload bytes accepted and not yet acknowledged.
    pub queue_bytes: u64,
    /// Files of the log, spare ones not counted.
    pub files: u64,
    /// Bytes from the start of each of these files to its last record.
    pub file_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    fsyncs: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    fsync_nanos_sum: AtomicU64,
    fsync_buckets: [AtomicU64; SYNC_BUCKETS],
}

impl Counters {
    pub(super) fn synced(&self, nanos: u64) {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.fsync_nanos_sum.fetch_add(nanos, Ordering::Relaxed);
        self.fsync_buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn written(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self, queue_bytes: u64, (files, file_bytes): (u64, u64)) -> LogStats {
        LogStats {
            fsyncs: self.fsyncs.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            fsync_nanos_sum: self.fsync_nanos_sum.load(Ordering::Relaxed),
            fsync_buckets: std::array::from_fn(|i| self.fsync_buckets[i].load(Ordering::Relaxed)),
            queue_bytes,
            files,
            file_bytes,
        }
    }
}

fn bucket(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1000).max(1);
    (micros.next_power_of_two().trailing_zeros() as usize).min(SYNC_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two_of_microseconds() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(1_000), 0);
        assert_eq!(bucket(1_001), 1);
        assert_eq!(bucket(115_000), 7);
        assert_eq!(bucket(128_000), 7);
        assert_eq!(bucket(128_001), 8);
        assert_eq!(bucket(u64::MAX / 2), SYNC_BUCKETS - 1);
    }
}
