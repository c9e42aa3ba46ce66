//! What a node tells about itself: to `/health`, `/ready`, `/metrics` and the REPL.
//!
//! Owns the shape only. Every figure is read when asked for; nothing here counts.

use serde::Serialize;

use crate::cluster::{ClientAddresses, ClusterStatus};

/// A node at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeStatus {
    /// Name of the node in its cluster.
    pub node_id: String,
    /// Version of the program.
    pub version: String,
    /// Hardware profile: `potato`, `standard` or `server`.
    pub profile: String,
    /// How much of the machine the node takes.
    pub resources: ResourceStatus,
    /// What an acknowledged write survives.
    pub durability: DurabilityStatus,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// Current term.
    pub term: u64,
    /// Index of the last log entry that was applied.
    pub applied_index: u64,
    /// Seconds since the node was opened.
    pub uptime_secs: f64,
    /// Whether it answers statements: recovery is over and it knows a leader.
    pub ready: bool,
    /// Why it takes no more writes (a failed fsync, a damaged log), if so.
    pub fault: Option<String>,
    /// Where its files are.
    pub data_dir: String,
    /// Where clients connect, if servers for them run.
    #[serde(flatten)]
    pub clients: ClientAddresses,
    /// The cluster as the node sees it.
    pub cluster: ClusterStatus,
    /// Who holds how much of the memory limit.
    pub memory: MemoryStatus,
    /// The log.
    pub log: LogStatus,
    /// The store.
    pub store: StoreStatus,
}

/// Who holds how much of the memory limit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryStatus {
    /// The limit.
    pub limit_bytes: u64,
    /// What the process holds, its program and what nobody counts included.
    pub resident_bytes: Option<u64>,
    /// How often memory was asked for and not to be had: queries spill then, statements fail.
    pub refusals: u64,
    /// Classes of what is counted.
    pub classes: Vec<MemoryClassStatus>,
}

/// One class of what is counted as memory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryClassStatus {
    /// `memtables`, `cache`, `background`, `queries`, `writes` or `input`.
    pub class: &'static str,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes that may be held; `queries`, `writes` and `input` share theirs.
    pub bytes_max: u64,
    /// The most that was held since the node was opened, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// What compactions cost since the node was opened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompactionStatus {
    /// Bytes of the segments that they replaced.
    pub bytes_read: u64,
    /// Bytes of the segments that they wrote.
    pub bytes_written: u64,
    /// How long they waited for flushes and for their limit, in microseconds.
    pub waited_micros: u64,
    /// The limit, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second_max: Option<u64>,
}

/// How much of the machine a node takes: its profile's figures, and what limits them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResourceStatus {
    /// Threads that serve connections.
    pub worker_threads: usize,
    /// Threads that one query may use.
    pub query_threads: usize,
    /// Time between a leader's heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// Bytes for memtables, caches and queries.
    pub memory_bytes_max: u64,
}

/// What an acknowledged write survives.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DurabilityStatus {
    /// `strict`, `interval=100ms` or `none`.
    pub mode: String,
    /// Set when it is weaker than `strict`: what a power cut can lose, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The log since the node was opened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogStatus {
    /// Syncs of the log to disk.
    pub fsyncs: u64,
    /// Entries appended.
    pub entries: u64,
    /// Bytes appended.
    pub bytes: u64,
    /// Bytes of the log files on disk.
    pub size_bytes: u64,
    /// How long the syncs took.
    pub fsync_latency: LatencyHistogram,
}

/// The store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreStatus {
    /// Tables that exist.
    pub tables: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Bytes in segments on disk.
    pub segment_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Memtables written to segments since the node was opened.
    pub flushes: u64,
    /// Compactions finished since the node was opened.
    pub compactions: u64,
    /// What they cost.
    pub compaction: CompactionStatus,
    /// How long writes waited for flushes, or were slowed down by them, since the node was
    /// opened, in microseconds.
    pub stall_micros: u64,
    /// Bytes of pages and rows kept in memory.
    pub cache_bytes: u64,
    /// Parts of pages that were found in the cache, since the node was opened.
    pub cache_page_hits: u64,
    /// Parts of pages that had to be read.
    pub cache_page_misses: u64,
    /// Rows that were found in the cache by their key.
    pub cache_row_hits: u64,
    /// Rows that had to be looked for in segments.
    pub cache_row_misses: u64,
    /// Segments that were found to be damaged. What needs the damaged part is refused;
    /// everything else works.
    pub damaged: Vec<DamageStatus>,
}

/// A damaged segment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DamageStatus {
    /// Its table.
    pub table: String,
    /// The file.
    pub file: String,
    /// Where in the file the damage was found first.
    pub offset: u64,
    /// What was found.
    pub reason: String,
    /// Versions that cannot be read because of it; there may be more in other pages.
    pub versions: u64,
    /// The keys of these, as text.
    pub keys: String,
}

impl std::fmt::Display for DamageStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DamageStatus {
            table,
            file,
            offset,
            reason,
            versions,
            keys,
        } = self;
        write!(f, "{file}, offset {offset}: {reason}; table \"{table}\" has lost {versions} versions, {keys}")
    }
}

/// Durations counted in buckets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LatencyHistogram {
    /// Upper bounds of the buckets in microseconds, closed, ascending.
    pub bounds_micros: Vec<u64>,
    /// How many durations fell into each bucket (not cumulated); one more than bounds,
    /// the last for what is above all of them.
    pub counts: Vec<u64>,
    /// Sum of all durations in microseconds.
    pub sum_micros: u64,
}
