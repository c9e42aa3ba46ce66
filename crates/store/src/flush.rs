//! From memtables to segments.
//!
//! Freezing sets the active memtables aside together with the index, the stamp and
//! the catalog they reach up to, so that a flush publishes one moment of the log,
//! whatever is applied meanwhile. Flushing writes one segment per table, and its history
//! apart, then one manifest edit. A crash before the edit leaves orphan files and the log replays; after
//! it, the log before the index is not needed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use chronos_model::{Catalog, Stamp, TableId};

use crate::buckets::{Division, Times};
use crate::error::{Reason, StoreError};
use crate::history::{SplitRules, Splitter};
use crate::log::{LogIndex, Term};
use crate::manifest::{Edit, Flush, Truncated};
use crate::memtable::Memtable;
use crate::merge::Source;
use crate::progress::Membership;
use crate::segment::SegmentId;
use crate::state::{SegmentFile, StoreState};
use crate::store::{segment_path, ApplyState, Shared, SEGMENTS};
use crate::write::Urgency;

/// About how many times the bytes of a memtable are those of its segments.
const MEMTABLE_TO_SEGMENT: u64 = 8;

/// Of a time to live, this part may pass until expired rows leave the disk.
const RETENTION_PARTS: i64 = 10;
/// But not less.
const RETENTION_WAIT_MICROS: i64 = 10 * 60 * 1_000_000;

/// Memtables set aside, and the moment of the log that they complete.
#[derive(Debug)]
pub(crate) struct Frozen {
    memtables: Vec<(TableId, Arc<Memtable>)>,
    /// Bytes that were added to them.
    bytes: u64,
    catalog: Arc<Catalog>,
    truncated: Vec<Truncated>,
    index: LogIndex,
    term: Term,
    membership: Option<Arc<Membership>>,
    floor: Stamp,
}

impl Frozen {
    /// The membership, if it is another than the one known.
    fn changed_membership(&self, known: Option<&Membership>) -> Option<Membership> {
        let own = self.membership.as_deref();
        own.filter(|own| Some(*own) != known).cloned()
    }
}

impl Shared {
    /// Waits while too many memtables wait for their flush.
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut frozen = self.frozen.lock();
        if !self.is_full(&frozen) {
            return Ok(());
        }
        self.counters.stalls.fetch_add(1, Ordering::Relaxed);
        if !self.options.background {
            drop(frozen);
            return self.flush_frozen();
        }
        let begun = self.env.clock.monotonic_nanos();
        while self.is_full(&frozen) {
            self.check_usable()?;
            if let Some(reason) = &self.trouble.lock().flush {
                return Err(StoreError::CannotFlush {
                    reason: reason.clone(),
                });
            }
            self.frozen_changed.wait(&mut frozen);
        }
        self.note_stall(begun);
        Ok(())
    }

    /// Whether there are too many memtables, or some that a few large write sets have filled far
    /// beyond their size, so that they take as much as too many do.
    fn is_full(&self, frozen: &VecDeque<Arc<Frozen>>) -> bool {
        let frozen_max = self.options.frozen_max.max(1);
        let bytes: u64 = frozen.iter().map(|frozen| frozen.bytes).sum();
        let bytes_max = self.options.memtable_bytes_max * frozen_max as u64;
        frozen.len() >= frozen_max || bytes >= bytes_max
    }

    /// Sets aside what was applied so far.
    pub(crate) fn freeze(&self) -> Result<(), StoreError> {
        let mut apply = self.apply.lock();
        self.check_usable()?;
        self.freeze_locked(&mut apply);
        Ok(())
    }

    pub(crate) fn freeze_locked(&self, apply: &mut ApplyState) {
        let mut published = self.published.write();
        if published.progress.index() == apply.frozen_index {
            return;
        }
        let mut memtables = Vec::new();
        let mut truncated = Vec::new();
        let state = published.state.with_tables(|tables| {
            for (id, table) in tables.iter_mut() {
                if !table.truncated.is_empty() {
                    truncated.push(Truncated {
                        table: *id,
                        at: table.truncated.iter().map(|s| s.0).collect(),
                    });
                }
                if table.active.is_empty() {
                    continue;
                }
                let mut next = (**table).clone();
                let full = std::mem::replace(
                    &mut next.active,
                    Arc::new(Memtable::new(table.schema.clone())),
                );
                next.frozen.push(full.clone());
                memtables.push((*id, full));
                *table = Arc::new(next);
            }
        });
        memtables.sort_by_key(|(id, _)| *id);
        truncated.sort_by_key(|t| t.table);
        let frozen = Frozen {
            memtables,
            bytes: apply.active_bytes,
            catalog: state.catalog.clone(),
            truncated,
            index: published.progress.index(),
            term: published.progress.term(),
            membership: published.progress.membership().cloned(),
            floor: published.stamp,
        };
        published.state = state;
        drop(published);
        apply.frozen_index = frozen.index;
        apply.active_bytes = 0;
        self.frozen.lock().push_back(Arc::new(frozen));
        self.signals.wake();
    }

    /// Sets aside what was applied if that was long ago: what expired by the stamp of the last
    /// commit in segments leaves the disk, so a table with a time to live must not wait for a
    /// full memtable.
    pub(crate) fn flush_for_retention(&self) -> Result<(), StoreError> {
        let due = {
            let flushed = self.manifest.lock().state().floor;
            let published = self.published.read();
            let waited = published.stamp.micros() - Stamp(flushed).micros();
            let mut tables = published.state.tables.values();
            tables.any(|table| match table.schema.options.shortest_micros() {
                _ if table.memtables().any(|m| m.rows.has_erasures()) => true,
                Some(shortest) => waited > (shortest / RETENTION_PARTS).max(RETENTION_WAIT_MICROS),
                None => false,
            })
        };
        if due {
            self.freeze()?;
        }
        Ok(())
    }

    /// Flushes all that was set aside.
    pub(crate) fn flush_frozen(&self) -> Result<(), StoreError> {
        let _flushing = self.flushing.lock();
        loop {
            let Some(frozen) = self.frozen.lock().front().cloned() else {
                return Ok(());
            };
            self.check_usable()?;
            let result = self.flush(&frozen);
            self.trouble.lock().flush = result.as_ref().err().map(Reason::from);
            self.tell_waiting();
            result?;
        }
    }

    fn flush(&self, frozen: &Frozen) -> Result<(), StoreError> {
        let begun = self.env.clock.monotonic_nanos();
        let mut written = Vec::new();
        for (id, memtable) in &frozen.memtables {
            match self.write_memtable(*id, memtable, frozen) {
                Ok(files) => written.extend(files.into_iter().map(|file| (*id, file))),
                Err(error) => {
                    // The flush is tried again from the start. Files left behind would fill
                    // a full disk further with each attempt.
                    let ids: Vec<_> = written.iter().map(|(_, file)| file.meta().id).collect();
                    self.release(&ids);
                    return Err(error);
                }
            }
        }
        self.sync_segments()?;
        let added: Vec<_> = written.iter().map(|(_, f)| f.entry()).collect();
        let bytes: u64 = added.iter().map(|entry| entry.meta.bytes).sum();
        let mut manifest = self.manifest.lock();
        let known = manifest.state();
        let edit = Edit::Flush(Flush {
            flushed_index: frozen.index.0,
            flushed_term: frozen.term.0,
            floor: frozen.floor.0,
            membership: frozen.changed_membership(known.membership.as_ref()),
            next_segment_id: known.next_segment_id,
            catalog: (known.catalog != *frozen.catalog).then(|| (*frozen.catalog).clone()),
            truncated: (known.truncated != frozen.truncated).then(|| frozen.truncated.clone()),
            added,
        });
        let removed = self.publish_edit(&mut manifest, edit)?;
        self.update_files(|state| flushed(state, frozen, &written))?;
        self.flushed.store(frozen.index.0, Ordering::Release);
        self.frozen.lock().pop_front();
        let memory = frozen.memtables.iter().map(|(_, m)| m.bytes()).sum();
        let took = self.env.clock.monotonic_nanos().saturating_sub(begun);
        self.flush_speed.note(memory, Duration::from_nanos(took));
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters
            .flush_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        drop(manifest);
        self.release(&removed);
        Ok(())
    }

    fn write_memtable(
        &self,
        id: TableId,
        memtable: &Arc<Memtable>,
        frozen: &Frozen,
    ) -> Result<Vec<Arc<SegmentFile>>, StoreError> {
        let runs = memtable.runs();
        let mut sources: Vec<Source> = runs.iter().cloned().map(Source::Run).collect();
        if !memtable.rows.is_empty() {
            sources.push(Source::Rows(memtable.clone()));
        }
        let schema = frozen.catalog.table_by_id(id).unwrap_or(&memtable.schema);
        let truncated = frozen.truncated.iter().find(|t| t.table == id);
        let truncated =
            truncated.map_or(Vec::new(), |t| t.at.iter().map(|at| Stamp(*at)).collect());
        let rules = SplitRules::new(schema, truncated.into(), frozen.floor);
        let splitter = Splitter::new(memtable.first_recorded(), frozen.floor, rules);
        let times = Times::of_sources(schema, &sources)?;
        let division = Division::new(schema, times, memtable.bytes() / MEMTABLE_TO_SEGMENT);
        self.write_split(schema, sources, splitter, division, Urgency::Flush)
    }

    /// Publishes an edit; a failure poisons the store.
    pub(crate) fn publish_edit(
        &self,
        manifest: &mut crate::manifest::Manifest,
        edit: Edit,
    ) -> Result<Vec<SegmentId>, StoreError> {
        let published = self.directory.change(|| manifest.publish(edit));
        let published = published.ok_or(StoreError::Closed)?;
        published.inspect_err(|error| self.poison(error))
    }

    /// Makes the names of written segments durable.
    pub(crate) fn sync_segments(&self) -> Result<(), StoreError> {
        let dir = self.dir.join(SEGMENTS);
        self.env
            .disk
            .sync_dir(&dir)
            .map_err(|e| StoreError::io("sync", &dir, e))
            .inspect_err(|error| self.poison(error))
    }

    /// Lets go of segments that the manifest no longer names: their files are removed
    /// when the last reader is done.
    pub(crate) fn release(&self, removed: &[SegmentId]) {
        let mut files = self.files.lock();
        for id in removed {
            match files.remove(id).and_then(|file| file.upgrade()) {
                Some(file) => file.set_obsolete(),
                None => {
                    let path = segment_path(&self.dir, *id);
                    let remove = || self.env.disk.remove_file(&path);
                    if let Some(Err(error)) = self.directory.change(remove) {
                        tracing::warn!(path = %path.display(), %error, "cannot remove an obsolete segment");
                    }
                }
            }
        }
    }
}

/// The state in which memtables have been replaced by their segments.
fn flushed(
    state: &StoreState,
    frozen: &Frozen,
    written: &[(TableId, Arc<SegmentFile>)],
) -> Result<StoreState, StoreError> {
    let mut next = state.clone();
    for (id, memtable) in &frozen.memtables {
        // A table dropped meanwhile is not there any more.
        next = next.with_files(*id, |table| {
            table.frozen.retain(|m| !Arc::ptr_eq(m, memtable));
            let mut files = written.iter().filter(|(of, _)| of == id);
            files.try_for_each(|(_, file)| table.add_file(file))
        })?;
    }
    Ok(next)
}
