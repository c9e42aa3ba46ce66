//! A node: opens the store and the log of a data directory, recovers, and gives
//! sessions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{Env, LockError, LockGuard};
use chronos_model::{key_values, Catalog, FloatCodec, SqlState, TableSchema};
use chronos_query::{Engine, EngineOptions, SpillOptions};
use chronos_store::log::{Driver, Durability, Log, LogOptions};
use chronos_store::segment::Damage;
use chronos_store::{with_causes, MemoryAccount, MemoryClass, MemoryShares, Store, StoreOptions};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::archive;
use crate::auth::{Auth, AuthOptions};
use crate::cluster::{
    identity, ClientAddresses, Cluster, ClusterOptions, ConsensusRuntime, Peers, Sabotage,
};
use crate::profile::Profile;
use crate::replica::{block_on, log_error, Place, Replica, Start};
use crate::sequences::Sequences;
use crate::session::{PlanKey, Prepared};
use crate::settled::{KeepKeys, Settings};
use crate::status::{
    CompactionStatus, DamageStatus, DurabilityStatus, LatencyHistogram, LogStatus,
    MemoryClassStatus, MemoryStatus, NodeStatus, ResourceStatus, StoreStatus,
};
use crate::transactions::NoteTransactions;
use crate::{Error, Session};

/// Planned statements that a node remembers for all its sessions, at most.
const PLANS_MAX: usize = 1_024;
/// One for so many bytes of the memory limit, at most.
const PLAN_SHARE_BYTES: u64 = 512 << 10;
/// Files of log that a member of a cluster keeps for others that are behind.
const LOG_KEEP_FILES: u64 = 4;
/// Larger memtables make flushes longer and nothing better.
const MEMTABLE_BYTES_MAX: u64 = 128 << 20;
/// Where queries put what they cannot hold, in the data directory.
const SPILL_DIR: &str = "spill";
/// All queries together put no more than this there, and no more than half of what is free.
const SPILL_BYTES_MAX: u64 = 100 << 30;

/// How a node is opened.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Hardware profile; `None`: by the machine's memory and cores.
    pub profile: Option<Profile>,
    /// What an acknowledged write survives; `None`: as the profile says.
    pub durability: Option<Durability>,
    /// Bytes of memory for memtables, caches and queries; `None`: a quarter of
    /// the machine's.
    pub memory_bytes_max: Option<u64>,
    /// How FLOAT columns are encoded in tables that do not say.
    pub float_codec: FloatCodec,
    /// Bytes per second that compactions may read and write; `None`: as many as they can.
    pub compaction_bytes_per_second: Option<u64>,
    /// Where queries put what they cannot hold in memory.
    pub spill: Spill,
    /// Which transactions are noted; `None`: as before, in a new database those of 30 days.
    pub transactions: Option<NoteTransactions>,
    /// How long idempotency keys are remembered; `None`: as before, in a new database a day.
    pub idempotency_keys: Option<KeepKeys>,
    /// How it finds out who somebody is. Embedded sessions are not asked.
    pub auth: AuthOptions,
    /// How it takes part in a cluster.
    pub cluster: ClusterOptions,
}

/// Where queries put what they cannot hold in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spill {
    /// In a directory of the data directory, which is of the real disk.
    BesideData,
    /// In the system's directory for temporary files.
    SystemTemporary,
}

impl NodeOptions {
    /// The defaults, on a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> NodeOptions {
        NodeOptions {
            data_dir: data_dir.into(),
            profile: None,
            durability: None,
            memory_bytes_max: None,
            float_codec: FloatCodec::Auto,
            compaction_bytes_per_second: None,
            spill: Spill::SystemTemporary,
            transactions: None,
            idempotency_keys: None,
            auth: AuthOptions::default(),
            cluster: ClusterOptions::default(),
        }
    }
}

/// A node: one replica of the database. Clones are handles to the same node.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) engine: Engine,
    pub(crate) replica: Arc<Replica>,
    pub(crate) plans: Cache<PlanKey, Arc<Prepared>>,
    pub(crate) sequences: Sequences,
    pub(crate) auth: Auth,
    data_dir: PathBuf,
    profile: Profile,
    pub(crate) memory: Arc<MemoryAccount>,
    durability: Durability,
    started_nanos: u64,
    lock: Mutex<Option<Box<dyn LockGuard>>>,
}

impl Node {
    /// Opens a data directory, creating it if needed, and replays its log.
    /// Blocks while it does so.
    ///
    /// Errors: another process has it open; its files are damaged; the disk.
    pub fn open(env: Env, options: &NodeOptions) -> Result<Node, Error> {
        Node::open_with_peers(env, options, None)
    }

    /// Opens a node that reaches others by `peers`. It may not know a leader yet when this
    /// returns.
    ///
    /// Errors: as [`open`](Self::open).
    pub fn open_with_peers(
        env: Env,
        options: &NodeOptions,
        peers: Option<Arc<dyn Peers>>,
    ) -> Result<Node, Error> {
        let started_nanos = env.clock.monotonic_nanos();
        let dir = options.data_dir.as_path();
        let created = env.disk.create_dir_all(dir);
        created.map_err(|e| dir_error("create the data directory", dir, &e))?;
        let lock = env
            .disk
            .lock_exclusive(&dir.join("LOCK"))
            .map_err(|e| lock_error(dir, &e))?;
        let cluster = identity::settle(&env, dir, &options.cluster)?;
        let profile = options.profile.unwrap_or_else(Profile::of_this_machine);
        let durability = options.durability.unwrap_or(profile.durability());
        let memory = options
            .memory_bytes_max
            .unwrap_or_else(|| profile.memory_bytes());
        let memory = MemoryAccount::new(MemoryShares::of(memory));
        let place = Place::new(&env, options.cluster.runtime)?;
        chronos_store::checkpoint::finish_replacement(&env, dir)?;
        archive::remove_left(&env, dir)?;
        let store = open_store(&env, dir, memory.shares(), options)?;
        let log_options = LogOptions {
            driver: match place.is_stepped() {
                true => Driver::Stepped,
                false => Driver::Thread,
            },
            ..log_options(&options.cluster, profile, durability, memory.shares())
        };
        let log = open_log(&env, dir, log_options)?;
        let replica = Start {
            env: &env,
            data_dir: dir,
            store,
            log,
            memory: Arc::clone(&memory),
            timing: cluster.timing.unwrap_or(profile.timing()),
            options: cluster,
            log_keep_bytes: LOG_KEEP_FILES * profile.log_segment_bytes(),
            peers,
            place,
        }
        .run()?;
        let settings = Settings {
            transactions: options.transactions,
            idempotency_keys: options.idempotency_keys,
        };
        match replica.is_alone() {
            true => block_on(settings.establish(&replica))?,
            // There may be no leader for long. Whoever leads does it.
            false => {
                replica.indexes.builder().want(settings);
                replica.indexes.look_again();
            }
        }
        let engine = Engine::new(&EngineOptions {
            parallelism: profile.query_threads(),
            memory: Arc::clone(&memory),
            spill: spill_options(dir, options.spill)
                .map_err(|e| dir_error("make a directory for queries in", dir, &e))?,
        })?;
        let inner = Inner {
            auth: Auth::new(options.auth.clone(), &env),
            env,
            engine,
            replica,
            plans: Cache::new(plans_max(memory.shares())),
            sequences: Sequences::default(),
            data_dir: dir.to_path_buf(),
            profile,
            memory,
            durability,
            started_nanos,
            lock: Mutex::new(Some(lock)),
        };
        Ok(Node {
            inner: Arc::new(inner),
        })
    }

    /// A new session.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            replica: Arc::clone(&self.inner.replica),
        }
    }

    /// The environment that the node runs in.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// The directory of its files.
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    /// The hardware profile in force.
    pub fn profile(&self) -> Profile {
        self.inner.profile
    }

    /// Finishes what is under way, flushes, and gives the data directory free.
    /// Blocks. Later statements fail with 57P01.
    pub fn close(&self) -> Result<(), Error> {
        let closed = self.inner.replica.close();
        drop(self.inner.lock.lock().take());
        closed
    }

    /// Brings everything that is applied from memory to segments. Blocks. The node does so
    /// by itself when memory is full, and at its end.
    pub fn flush(&self) -> Result<(), Error> {
        Ok(self.inner.replica.store.flush_now()?)
    }

    /// Where work is done in steps: writes and syncs what is queued for the log, and calls
    /// back. Whether there was something.
    #[doc(hidden)]
    pub fn step_log(&self) -> bool {
        self.inner.replica.log.step()
    }

    /// Where work is done in steps: flushes what is full, and compacts as the policy says.
    #[doc(hidden)]
    pub fn maintain(&self) -> Result<(), Error> {
        Ok(self.inner.replica.store.maintain()?)
    }

    /// Lets [`status`](Self::status), and the other members, tell where clients connect.
    pub fn announce(&self, addresses: ClientAddresses) {
        self.inner.replica.announce(addresses);
    }

    /// The node at this moment.
    pub fn status(&self) -> NodeStatus {
        let inner = &self.inner;
        let nanos = inner.env.clock.monotonic_nanos() - inner.started_nanos;
        let fault = inner.replica.fault().map(|fault| fault.reason);
        let cluster = inner.replica.cluster_status();
        let ready = fault.is_none() && cluster.leader.is_some();
        NodeStatus {
            node_id: cluster.node_id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            profile: inner.profile.to_string(),
            resources: ResourceStatus {
                worker_threads: inner.profile.worker_threads(),
                query_threads: inner.profile.query_threads(),
                heartbeat_ms: inner.profile.heartbeat_ms(),
                memory_bytes_max: inner.memory.shares().limit,
            },
            durability: DurabilityStatus {
                mode: inner.durability.to_string(),
                warning: durability_warning(&inner.durability),
            },
            role: cluster.role.clone(),
            term: cluster.term,
            applied_index: inner.replica.store.applied_index().0,
            uptime_secs: nanos as f64 / 1e9,
            ready,
            fault,
            data_dir: inner.data_dir.display().to_string(),
            clients: inner.replica.own_addresses(),
            cluster,
            memory: self.memory_status(),
            log: self.log_status(),
            store: self.store_status(),
        }
    }

    /// The account of the memory limit, from which whoever holds memory for a client reserves.
    pub fn memory(&self) -> &Arc<MemoryAccount> {
        &self.inner.memory
    }

    fn memory_status(&self) -> MemoryStatus {
        let memory = &self.inner.memory;
        let (shares, stats) = (memory.shares(), self.inner.replica.store.stats());
        let statement = |class: MemoryClass| MemoryClassStatus {
            class: class.name(),
            bytes: memory.held(class),
            bytes_max: shares.statements,
            peak_bytes: Some(memory.peak(class)),
        };
        let store = |class, bytes, bytes_max| MemoryClassStatus {
            class,
            bytes,
            bytes_max,
            peak_bytes: None,
        };
        let mut classes = vec![
            store("memtables", stats.memtable_bytes, shares.memtables),
            store("cache", stats.cache_bytes, shares.cache),
            store("background", stats.background_bytes, shares.background),
        ];
        classes.extend(MemoryClass::ALL.map(statement));
        MemoryStatus {
            limit_bytes: shares.limit,
            resident_bytes: chronos_env::resident_memory_bytes(),
            refusals: memory.refusals(),
            classes,
        }
    }

    fn log_status(&self) -> LogStatus {
        let stats = self.inner.replica.log.stats();
        LogStatus {
            fsyncs: stats.fsyncs,
            entries: stats.entries,
            bytes: stats.bytes,
            size_bytes: stats.file_bytes,
            fsync_latency: LatencyHistogram {
                bounds_micros: (0..stats.fsync_buckets.len() as u32 - 1)
                    .map(|i| 1u64 << i)
                    .collect(),
                counts: stats.fsync_buckets.to_vec(),
                sum_micros: stats.fsync_nanos_sum / 1_000,
            },
        }
    }

    fn store_status(&self) -> StoreStatus {
        let store = &self.inner.replica.store;
        let stats = store.stats();
        StoreStatus {
            tables: store.catalog().tables.len() as u64,
            memtable_bytes: stats.memtable_bytes,
            segment_bytes: stats.segment_bytes,
            segments: stats.segments,
            flushes: stats.flushes,
            compactions: stats.compactions,
            compaction: CompactionStatus {
                bytes_read: stats.compaction_bytes_read,
                bytes_written: stats.compaction_bytes,
                waited_micros: stats.compaction_wait_micros,
                bytes_per_second_max: store.compaction_bytes_per_second(),
            },
            stall_micros: stats.stall_micros,
            cache_bytes: stats.cache_bytes,
            cache_page_hits: stats.cache.page_hits,
            cache_page_misses: stats.cache.page_misses,
            cache_row_hits: stats.cache.row_hits,
            cache_row_misses: stats.cache.row_misses,
            damaged: store
                .damage()
                .iter()
                .map(|d| damage_status(&store.catalog(), d))
                .collect(),
        }
    }
}

fn dir_error(what: &str, dir: &Path, e: &std::io::Error) -> Error {
    let message = format!("cannot {what} {}: {e}", dir.display());
    Error::new(SqlState::IO_ERROR, message)
}

fn log_options(
    cluster: &ClusterOptions,
    profile: Profile,
    durability: Durability,
    shares: MemoryShares,
) -> LogOptions {
    LogOptions {
        durability: match cluster.simulated.sabotage {
            Some(Sabotage::SkipLogSync) => Durability::None,
            _ => durability,
        },
        segment_bytes: (cluster.simulated.log_file_bytes)
            .unwrap_or_else(|| profile.log_segment_bytes()),
        // What is under way is limited where it is proposed.
        queue_bytes_max: u64::MAX,
        cache_bytes: (shares.limit / 32).min(LogOptions::CACHE_BYTES_DEFAULT),
        on_work: cluster.on_log_work.clone(),
        ..LogOptions::default()
    }
}

/// Opens the log, and makes durable that the directory has it and the store.
fn open_log(env: &Env, dir: &Path, options: LogOptions) -> Result<Log, Error> {
    let (log, recovery) = Log::open(env, &dir.join("log"), options).map_err(log_error)?;
    // What was just created must outlive a power cut before anything in it counts.
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
    for directory in [dir, parent.unwrap_or(Path::new("."))] {
        let synced = env.disk.sync_dir(directory);
        synced.map_err(|e| dir_error("make durable the data directory", dir, &e))?;
    }
    if recovery.truncated_bytes > 0 {
        tracing::info!(
            bytes = recovery.truncated_bytes,
            "cut off an unfinished write at the end of the log"
        );
    }
    Ok(log)
}

fn open_store(
    env: &Env,
    dir: &Path,
    shares: MemoryShares,
    given: &NodeOptions,
) -> Result<Store, Error> {
    let mut options = StoreOptions::default();
    // The active memtable, and those that wait to be flushed.
    let memtables = options.frozen_max as u64 + 1;
    options.memtable_bytes_max = (shares.memtables / memtables).min(MEMTABLE_BYTES_MAX);
    options.cache_bytes = shares.cache;
    options.background_bytes = shares.background;
    options.segment.float_codec = given.float_codec;
    options.compaction_bytes_per_second = given.compaction_bytes_per_second;
    // In a simulation, [`Node::maintain`] does it.
    options.background = given.cluster.runtime == ConsensusRuntime::OwnThread;
    Store::open(env, &dir.join("store"), options).map_err(Error::from)
}

fn plans_max(shares: MemoryShares) -> usize {
    PLANS_MAX.min((shares.limit / PLAN_SHARE_BYTES) as usize)
}

/// What was spilled before a crash is of no use to anybody.
fn spill_options(dir: &Path, spill: Spill) -> std::io::Result<SpillOptions> {
    if spill == Spill::SystemTemporary {
        return Ok(SpillOptions::default());
    }
    let dir = dir.join(SPILL_DIR);
    chronos_env::fresh_directory(&dir)?;
    let free = chronos_env::free_disk_bytes(&dir);
    Ok(SpillOptions {
        bytes_max: free.map(|free| (free / 2).min(SPILL_BYTES_MAX)),
        dir: Some(dir),
    })
}

/// Damage as people are told of it.
pub(crate) fn damage_status(catalog: &Catalog, damage: &Damage) -> DamageStatus {
    let schema = catalog.table(&damage.table);
    DamageStatus {
        table: damage.table.clone(),
        file: damage.path.display().to_string(),
        offset: damage.offset,
        reason: damage.reason.clone(),
        versions: damage.versions,
        keys: keys_text(schema.map(|schema| &**schema), &damage.keys),
    }
}

/// A closed range of keys as text: the values of the key columns, or bytes.
pub(crate) fn keys_text(schema: Option<&TableSchema>, keys: &(Vec<u8>, Vec<u8>)) -> String {
    let text = |key: &[u8]| {
        let with_key = schema.filter(|schema| !schema.has_hidden_key());
        let values = with_key.and_then(|schema| key_values(schema, key).ok());
        match values {
            Some(values) => {
                let shown: Vec<_> = values.iter().map(chronos_model::text::format).collect();
                format!("({})", shown.join(", "))
            }
            None => key.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    };
    format!("keys {} to {}", text(&keys.0), text(&keys.1))
}

pub(crate) fn lock_error(dir: &Path, e: &LockError) -> Error {
    let dir = dir.display();
    match e {
        LockError::Held { .. } => Error::new(
            SqlState::OBJECT_IN_USE,
            format!("the data directory {dir} is in use: {e}"),
        )
        .with_hint("Another chronos has it open. Stop that one, or give another --data-dir."),
        LockError::Io { .. } => Error::new(
            SqlState::IO_ERROR,
            format!("cannot use the data directory {dir}: {}", with_causes(e)),
        ),
    }
}

/// What a power cut can lose under a durability weaker than strict.
pub fn durability_warning(durability: &Durability) -> Option<String> {
    match durability {
        Durability::Strict => None,
        Durability::Interval(every) => Some(format!(
            "durability is {durability}: a power cut can lose the acknowledged writes of the last {} ms",
            every.as_millis()
        )),
        Durability::None => Some(
            "durability is none: a power cut can lose every acknowledged write that the operating system has not written yet".into(),
        ),
    }
}
