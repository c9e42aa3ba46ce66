//! The store as its users hold it, and the parts it is made of.
//!
//! ```text
//!   log thread -> apply --> memtables --freeze--> frozen --flush--> segments --compact-->
//!                   |                                   \              |
//!                   v                                    manifest edit (index, files)
//!               published state  <--- read_view()
//! ```
//!
//! One thread applies; background threads flush and compact; readers clone the
//! published state. Locks, in the order in which they may be held together: built, apply,
//! flush or compact, manifest, published.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use chronos_env::Env;
use chronos_model::{Author, Catalog, NodeId, Stamp, TableId, WriteSet};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::apply::{self, Applied};
use crate::error::{ApplyError, Reason, StoreError};
use crate::flush::Frozen;
use crate::idempotency;
use crate::index;
use crate::log::LogIndex;
use crate::maintenance::Signals;
use crate::manifest::{self, Manifest};
use crate::migrate::{self, Migrated};
use crate::pace::FlushSpeed;
use crate::prepare::{self, PreparedWriteSet};
use crate::progress::Progress;
use crate::read_view::ReadView;
use crate::segment::{CacheCounts, PageCache, SegmentId, SegmentOptions};
use crate::serial;
use crate::state::{Directory, FileName, StoreState, TableState};
use crate::transactions;

mod opening;

use opening::{create_dirs, initial_state, remove_orphans};

/// How a store behaves. The defaults fit a small server.
#[derive(Clone, PartialEq, Debug)]
pub struct StoreOptions {
    /// Bytes of new versions in memory beyond which they are flushed.
    pub memtable_bytes_max: u64,
    /// Bytes of pages and rows kept in memory.
    pub cache_bytes: u64,
    /// Bytes that flushes and compactions work with, about.
    pub background_bytes: u64,
    /// Full memtables that may wait for their flush; with more, applying waits.
    pub frozen_max: usize,
    /// Bytes per second that a compaction may write; `None`: as many as it can while
    /// nothing more urgent is to be done.
    pub compaction_bytes_per_second: Option<u64>,
    /// Whether threads flush and compact by themselves. Without, that happens only
    /// in [`Store::maintain`] and [`Store::flush_now`].
    pub background: bool,
    /// How segments are laid out.
    pub segment: SegmentOptions,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            memtable_bytes_max: 64 << 20,
            cache_bytes: 128 << 20,
            background_bytes: 64 << 20,
            frozen_max: 3,
            compaction_bytes_per_second: None,
            background: true,
            segment: SegmentOptions::default(),
        }
    }
}

/// What a store has done and holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Bytes of versions in memory, those waiting for their flush included.
    pub memtable_bytes: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Versions in segments.
    pub segment_rows: u64,
    /// Of these, superseded ones in runs of history.
    pub history_rows: u64,
    /// Bytes of pages and rows kept in memory.
    pub cache_bytes: u64,
    /// How often the cache helped.
    pub cache: CacheCounts,
    /// Bytes that flushes and compactions under way work with.
    pub background_bytes: u64,
    /// Flushes since the store was opened, as are the counts below.
    pub flushes: u64,
    /// Bytes written by flushes.
    pub flush_bytes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Bytes written by compactions.
    pub compaction_bytes: u64,
    /// Bytes of the segments in whose place they put those.
    pub compaction_bytes_read: u64,
    /// How long they waited for flushes and for their limit, in microseconds.
    pub compaction_wait_micros: u64,
    /// How often applying had to wait for a flush.
    pub stalls: u64,
    /// How long applying waited, or was slowed down, in microseconds.
    pub stall_micros: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compaction_bytes: AtomicU64,
    pub(crate) compaction_bytes_read: AtomicU64,
    pub(crate) compaction_wait_nanos: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stall_nanos: AtomicU64,
}

/// What readers may see.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) state: StoreState,
    pub(crate) progress: Progress,
    pub(crate) stamp: Stamp,
}

/// What only the applying thread, and whoever freezes, touches.
#[derive(Debug)]
pub(crate) struct ApplyState {
    /// Bytes added to the active memtables.
    pub(crate) active_bytes: u64,
    /// Delay that is still to be waited.
    pub(crate) delay: Duration,
    /// The index up to which everything is frozen or flushed.
    pub(crate) frozen_index: LogIndex,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    /// Through which names in `dir` are changed.
    pub(crate) directory: Arc<Directory>,
    pub(crate) options: StoreOptions,
    pub(crate) cache: Arc<PageCache>,
    pub(crate) published: RwLock<Published>,
    pub(crate) apply: Mutex<ApplyState>,
    /// Oldest first; the first stays until its flush is published.
    pub(crate) frozen: Mutex<VecDeque<Arc<Frozen>>>,
    pub(crate) frozen_changed: Condvar,
    pub(crate) flush_speed: FlushSpeed,
    pub(crate) manifest: Mutex<Manifest>,
    /// The indexes that were built since the store was opened; held while one is.
    pub(crate) built: Mutex<HashSet<TableId>>,
    /// Held for a whole flush, or a whole compaction.
    pub(crate) flushing: Mutex<()>,
    pub(crate) compacting: Mutex<()>,
    pub(crate) flushed: AtomicU64,
    pub(crate) files: Mutex<HashMap<SegmentId, Weak<FileName>>>,
    pub(crate) signals: Signals,
    pub(crate) counters: Counters,
    /// Up to which erasure each table was compacted.
    pub(crate) purged: Mutex<HashMap<TableId, Stamp>>,
    /// What flushes and compactions hold.
    pub(crate) background_bytes: AtomicU64,
    stopped: AtomicBool,
    /// Why everything stopped, or why the last flush failed.
    pub(crate) trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) poison: Option<Reason>,
    pub(crate) flush: Option<Reason>,
}

/// A store of bitemporal versions in one directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    /// Another one after [`Store::reopen`].
    inner: Arc<RwLock<Arc<Inner>>>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a background thread of the store panicked");
            }
        }
    }
}

pub(crate) const SEGMENTS: &str = "segments";

pub(crate) fn segment_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(SEGMENTS).join(format!("{id}.segment"))
}

impl Store {
    /// Opens the store in a directory, which is created if it is not there. The
    /// caller then applies the log from after [`applied_index`](Self::applied_index).
    ///
    /// Errors: the directory cannot be used, or the manifest is damaged. A segment that is
    /// damaged or missing is none: see [`damage`](Self::damage).
    pub fn open(env: &Env, dir: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        create_dirs(env, dir)?;
        let found = manifest::read(env, dir)?;
        remove_orphans(env, dir, &found)?;
        let manifest = Manifest::open(env, dir, found)?;
        let known = manifest.state();
        let cache = Arc::new(PageCache::new(options.cache_bytes));
        let mut files = HashMap::new();
        let directory = Arc::default();
        let state = initial_state(env, dir, &manifest, &cache, &mut files, &directory)?;
        let applied = LogIndex(known.flushed_index);
        let published = Published {
            state,
            progress: Progress::of(known),
            stamp: Stamp(known.floor),
        };
        let shared = Arc::new(Shared {
            env: env.clone(),
            dir: dir.to_owned(),
            directory,
            cache,
            published: RwLock::new(published),
            apply: Mutex::new(ApplyState {
                active_bytes: 0,
                delay: Duration::ZERO,
                frozen_index: applied,
            }),
            frozen: Mutex::default(),
            frozen_changed: Condvar::new(),
            flush_speed: FlushSpeed::default(),
            manifest: Mutex::new(manifest),
            built: Mutex::default(),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            flushed: AtomicU64::new(applied.0),
            files: Mutex::new(files),
            signals: Signals::default(),
            counters: Counters::default(),
            purged: Mutex::default(),
            background_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            trouble: Mutex::default(),
            options,
        });
        let threads = if shared.options.background {
            crate::maintenance::start(&shared)?
        } else {
            Vec::new()
        };
        Ok(Store {
            inner: Arc::new(RwLock::new(Arc::new(Inner {
                shared,
                threads: Mutex::new(threads),
            }))),
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.inner.read().shared)
    }

    /// Opens what is in the directory by now: a checkpoint has taken the place of a store that was
    /// [retired](Self::retire). All handles are to it from then on; read views stay what they
    /// are.
    ///
    /// Errors: as [`open`](Self::open).
    pub fn reopen(&self) -> Result<(), StoreError> {
        let old = self.shared();
        let new = Store::open(&old.env, &old.dir, old.options.clone())?;
        let new = Arc::clone(&new.inner.read());
        *self.inner.write() = new;
        Ok(())
    }

    /// The last log entry whose effects the store contains.
    pub fn applied_index(&self) -> LogIndex {
        self.shared().published.read().progress.index()
    }

    /// Entries up to this one are durable in segments: the log may be cut after it.
    pub fn flushed_index(&self) -> LogIndex {
        LogIndex(self.shared().flushed.load(Ordering::Acquire))
    }

    /// The highest recorded stamp known: later stamps must follow it.
    pub fn floor(&self) -> Stamp {
        self.shared().published.read().stamp
    }

    /// The tables after the last applied entry.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared().published.read().state.catalog.clone()
    }

    /// Does the part of applying that needs no stored rows, for the tables as
    /// `catalog` has them. Takes time in proportion to the rows; call it off the
    /// applying thread.
    pub fn prepare(
        &self,
        set: WriteSet,
        catalog: &Catalog,
    ) -> Result<PreparedWriteSet, ApplyError> {
        prepare::prepare(set, catalog)
    }

    /// Applies a committed write set, all of it or nothing. One thread calls this, in
    /// the order of the log, with ascending stamps.
    ///
    /// Errors: [`ApplyError::Storage`] means that this node must stop; every other
    /// one is the client's answer, and the entry counts as applied.
    pub fn apply(
        &self,
        index: LogIndex,
        recorded: Stamp,
        author: impl Into<Author>,
        set: &PreparedWriteSet,
    ) -> Result<Applied, ApplyError> {
        self.shared().apply(index, recorded, &author.into(), set)
    }

    /// Prepares and applies a write set: what replaying the log does.
    pub fn apply_write_set(
        &self,
        index: LogIndex,
        recorded: Stamp,
        author: impl Into<Author>,
        set: &WriteSet,
    ) -> Result<Applied, ApplyError> {
        match self.prepare(set.clone(), &self.catalog()) {
            Ok(prepared) => self.apply(index, recorded, author, &prepared),
            Err(error) => {
                self.skip(index, recorded)?;
                Err(error)
            }
        }
    }

    /// Counts an entry that changes no rows as applied. Its stamp may be
    /// [`Stamp::MIN`] if it has none.
    pub fn skip(&self, index: LogIndex, recorded: Stamp) -> Result<(), StoreError> {
        let shared = self.shared();
        let _apply = shared.apply.lock();
        shared.check_usable()?;
        shared.check_order(index, None)?;
        let mut published = shared.published.write();
        published.progress.advance(index);
        published.stamp = published.stamp.max(recorded);
        Ok(())
    }

    /// A consistent view of everything applied so far.
    pub fn read_view(&self) -> ReadView {
        let shared = self.shared();
        let published = shared.published.read();
        let now = self.shared().env.clock.now_micros();
        ReadView::new(published.state.clone(), published.stamp, now as i64)
    }

    /// Flushes everything applied so far to segments.
    pub fn flush_now(&self) -> Result<(), StoreError> {
        self.shared().freeze()?;
        self.shared().flush_frozen()
    }

    /// Does all work that is due: flushes full memtables, compacts as the policy
    /// says.
    pub fn maintain(&self) -> Result<(), StoreError> {
        self.shared().flush_frozen()?;
        while self.shared().compact_once()? {}
        Ok(())
    }

    /// Makes one segment of all segments of each table, and one of each window of its
    /// history.
    pub fn compact_now(&self) -> Result<(), StoreError> {
        self.shared().compact_all(None, true)
    }

    /// Flushes, then rewrites some tables without what their options let go; with
    /// `everything`, also those of which nothing has to go, into as few segments as they
    /// can be.
    pub fn compact_tables(&self, tables: &[TableId], everything: bool) -> Result<(), StoreError> {
        self.flush_now()?;
        self.shared().compact_all(Some(tables), everything)
    }

    /// Stops the background threads; what they have under way is finished. Nothing
    /// can be applied after. Versions in memory are not flushed: the log has them.
    pub fn close(&self) {
        self.inner.read().stop();
    }

    /// Closes the store and gives its directory up to another one: from now on it changes no name
    /// there, so that the directory can be replaced while read views are still used.
    pub fn retire(&self) {
        self.inner.read().stop();
        self.shared().directory.give_up();
    }

    /// Why nothing can be applied or flushed any more, if a failure stopped the store.
    pub fn stopped(&self) -> Option<Reason> {
        self.shared().trouble.lock().poison.clone()
    }

    /// Bytes per second that compactions may write, if they are limited.
    pub fn compaction_bytes_per_second(&self) -> Option<u64> {
        self.shared().options.compaction_bytes_per_second
    }

    /// What the store has done and holds.
    pub fn stats(&self) -> StoreStats {
        self.shared().stats()
    }
}

impl Shared {
    fn apply(
        &self,
        index: LogIndex,
        recorded: Stamp,
        author: &Author,
        set: &PreparedWriteSet,
    ) -> Result<Applied, ApplyError> {
        self.build_moved(set)?;
        let mut apply = self.apply.lock();
        self.check_usable()?;
        self.check_order(index, Some(recorded))?;
        self.wait_for_room()?;
        let (state, previous) = {
            let published = self.published.read();
            (published.state.clone(), published.stamp)
        };
        let before = state.catalog.clone();
        let refused = |e| match e {
            ApplyError::Storage(error) => ApplyError::Storage(error),
            refused => {
                self.publish(index, recorded);
                refused
            }
        };
        if let Some(once) = set.once() {
            let before = idempotency::before(&state, once, recorded).map_err(refused)?;
            if before.is_some() {
                self.publish(index, recorded);
                return Ok(Applied::again(before));
            }
        }
        for reads in set.reads() {
            serial::check(&state, reads, set.begin, previous).map_err(refused)?;
        }
        let migration = set.migration();
        let migrated = migration.map(|m| migrate::check(&state, m, recorded));
        let migrated = migrated.transpose().map_err(refused)?;
        let (mut state, indexed) = match &migrated {
            None => (state, 0),
            Some(migrated) => self.migrate(&mut apply, migrated, recorded, author.node)?,
        };
        let mut checked = apply::check(&state, set, recorded, previous).map_err(refused)?;
        if checked.reshapes {
            // What is in memory has the columns from before. Segments say which they have.
            self.freeze_locked(&mut apply);
            self.flush_frozen()?;
            state = self.published.read().state.clone();
        }
        let written = apply::write(&state, recorded, author.node, set, &checked);
        let written = indexed + written.inspect_err(|error| self.poison(error))?;
        let changed = migrated.as_ref().map(|migrated| &migrated.catalog);
        let after = changed.or(checked.catalog.as_ref()).unwrap_or(&before);
        let names = transactions::changed(set, &before, after);
        let rows = checked.applied.rows;
        let noted = transactions::note(&state, index, recorded, author, names, rows);
        let once = set.once();
        let kept = once.map_or(0, |once| {
            idempotency::note(&state, once, index, recorded, author.node, rows)
        });
        let written = written + noted + kept;
        apply.active_bytes += written;
        let mut published = self.published.write();
        if let Some(migrated) = migrated {
            published.state = migrated.published(&published.state, &state, recorded)?;
            checked.applied.created_indexes = migrated.building;
        }
        if let Some(catalog) = checked.catalog {
            published.state = with_catalog(&published.state, catalog)?;
        }
        for id in checked.truncated {
            published.state = truncated(&published.state, id, recorded);
        }
        published.progress.advance(index);
        published.stamp = checked.last_stamp;
        drop(published);
        if apply.active_bytes > self.options.memtable_bytes_max {
            self.freeze_locked(&mut apply);
        }
        self.slow_down(&mut apply, written);
        Ok(checked.applied)
    }

    /// The state that a transaction's changes of the catalog make of the published one, which
    /// stays as it is; and the bytes that indexes take in it.
    fn migrate(
        &self,
        apply: &mut ApplyState,
        migrated: &Migrated,
        recorded: Stamp,
        node: NodeId,
    ) -> Result<(StoreState, u64), StoreError> {
        if !migrated.reshaped.is_empty() {
            self.freeze_locked(apply);
            self.flush_frozen()?;
        }
        let state = self.published.read().state.clone();
        let next = migrated.next_state(&state, recorded)?;
        let bytes = migrated.complete_indexes(&next, recorded, node)?;
        Ok((next, bytes))
    }

    fn publish(&self, index: LogIndex, recorded: Stamp) {
        let mut published = self.published.write();
        published.progress.advance(index);
        published.stamp = recorded;
    }

    pub(crate) fn check_usable(&self) -> Result<(), StoreError> {
        if !self.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let trouble = self.trouble.lock();
        Err(match &trouble.poison {
            Some(reason) => StoreError::Poisoned {
                reason: reason.clone(),
            },
            None => StoreError::Closed,
        })
    }

    pub(crate) fn check_order(
        &self,
        index: LogIndex,
        recorded: Option<Stamp>,
    ) -> Result<(), StoreError> {
        let published = self.published.read();
        let applied = published.progress.index();
        if index <= applied {
            return Err(StoreError::IndexOrder {
                given: index,
                applied,
            });
        }
        match recorded {
            Some(given) if given <= published.stamp => Err(StoreError::StampOrder {
                given,
                last: published.stamp,
            }),
            _ => Ok(()),
        }
    }

    /// After a failed sync nothing on disk can be trusted any more.
    pub(crate) fn poison(&self, error: &StoreError) {
        let mut trouble = self.trouble.lock();
        let reason = Reason::from(error);
        tracing::error!(reason = reason.text, "the store stops");
        trouble.poison.get_or_insert(reason);
        self.stopped.store(true, Ordering::Release);
        drop(trouble);
        self.tell_waiting();
        self.signals.stop();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.tell_waiting();
        self.signals.stop();
    }

    /// Wakes an apply that waits for room. With the lock, so that it is not just
    /// between looking and waiting.
    pub(crate) fn tell_waiting(&self) {
        let _frozen = self.frozen.lock();
        self.frozen_changed.notify_all();
    }

    /// Changes the published state, but for what only applying changes.
    pub(crate) fn update(&self, change: impl FnOnce(&StoreState) -> StoreState) {
        let mut published = self.published.write();
        published.state = change(&published.state);
    }

    /// The same for files that the manifest names by now: what is in force must have them, so
    /// a failure poisons the store.
    pub(crate) fn update_files(
        &self,
        change: impl FnOnce(&StoreState) -> Result<StoreState, StoreError>,
    ) -> Result<(), StoreError> {
        let mut published = self.published.write();
        match change(&published.state) {
            Ok(state) => {
                published.state = state;
                Ok(())
            }
            Err(error) => {
                drop(published);
                self.poison(&error);
                Err(error)
            }
        }
    }

    fn stats(&self) -> StoreStats {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = StoreStats {
            cache_bytes: self.cache.memory_bytes(),
            cache: self.cache.counts(),
            flushes: get(&counters.flushes),
            flush_bytes: get(&counters.flush_bytes),
            compactions: get(&counters.compactions),
            compaction_bytes: get(&counters.compaction_bytes),
            compaction_bytes_read: get(&counters.compaction_bytes_read),
            compaction_wait_micros: get(&counters.compaction_wait_nanos) / 1000,
            background_bytes: get(&self.background_bytes),
            stalls: get(&counters.stalls),
            stall_micros: get(&counters.stall_nanos) / 1000,
            ..StoreStats::default()
        };
        let state = self.published.read().state.clone();
        for table in state.tables.values() {
            stats.memtable_bytes += table.memtables().map(|m| m.bytes()).sum::<u64>();
            for segment in table.files() {
                stats.segments += 1;
                stats.segment_bytes += segment.meta().bytes;
                stats.segment_rows += segment.meta().rows;
                if segment.superseded.is_some() {
                    stats.history_rows += segment.meta().rows;
                }
            }
        }
        stats
    }
}

/// The state with another catalog: tables it lacks go, those it adds begin empty.
pub(crate) fn with_catalog(state: &StoreState, catalog: Catalog) -> Result<StoreState, StoreError> {
    let mut tables = HashMap::clone(&state.tables);
    tables.retain(|id, _| catalog.stores(*id));
    for schema in catalog.stored() {
        let table = tables
            .entry(schema.id)
            .or_insert_with(|| Arc::new(TableState::new(schema.clone())));
        if table.schema != schema {
            *table = Arc::new(table.with_schema(schema)?);
        }
    }
    index::attach(&mut tables, &catalog);
    Ok(StoreState {
        catalog: Arc::new(catalog),
        tables: Arc::new(tables),
    })
}

pub(crate) fn truncated(state: &StoreState, id: TableId, at: Stamp) -> StoreState {
    state.with_tables(|tables| {
        if let Some(table) = tables.get_mut(&id) {
            let mut next = (**table).clone();
            next.truncated = next.truncated.iter().copied().chain([at]).collect();
            *table = Arc::new(next);
        }
    })
}
