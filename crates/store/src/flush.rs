//! From memtables to segments.
//!
//! Freezing sets the active memtables aside together with the index, the stamp and
//! the catalog they reach up to, so that a flush publishes one moment of the log,
//! whatever is applied meanwhile. Flushing writes one segment per table, then one
//! manifest edit. A crash before the edit leaves orphan files and the log replays; after
//! it, the log before the index is not needed.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type, UInt8Type};
use arrow_array::UInt64Array;
use chronos_model::{Catalog, Stamp, TableId, TableSchema};

use crate::error::{Reason, StoreError};
use crate::log::LogIndex;
use crate::manifest::{Edit, Flush, Truncated};
use crate::memtable::Memtable;
use crate::merge::{MergeRequest, Merged, Merger, Source};
use crate::scan::KeyRange;
use crate::segment::{PageColumn, Segment, SegmentError, SegmentId, SegmentMeta, SegmentWriter};
use crate::state::{SegmentFile, StoreState};
use crate::store::{segment_path, ApplyState, Shared, SEGMENTS};
use crate::version::VersionBatch;

/// Versions that are merged and handed to a segment writer at a time.
const BATCH_ROWS: usize = 32 * 1024;

/// Memtables set aside, and the moment of the log that they complete.
#[derive(Debug)]
pub(crate) struct Frozen {
    memtables: Vec<(TableId, Arc<Memtable>)>,
    catalog: Arc<Catalog>,
    truncated: Vec<Truncated>,
    index: LogIndex,
    floor: Stamp,
}

impl Shared {
    /// Waits while too many memtables wait for their flush.
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut frozen = self.frozen.lock();
        let full = |len: usize| len >= self.options.frozen_max.max(1);
        if !full(frozen.len()) {
            return Ok(());
        }
        self.counters.stalls.fetch_add(1, Ordering::Relaxed);
        if !self.options.background {
            drop(frozen);
            return self.flush_frozen();
        }
        while full(frozen.len()) {
            self.check_usable()?;
            if let Some(reason) = &self.trouble.lock().flush {
                return Err(StoreError::CannotFlush {
                    reason: reason.clone(),
                });
            }
            self.frozen_changed.wait(&mut frozen);
        }
        Ok(())
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
        if published.applied == apply.frozen_index {
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
            catalog: state.catalog.clone(),
            truncated,
            index: published.applied,
            floor: published.stamp,
        };
        published.state = state;
        drop(published);
        apply.frozen_index = frozen.index;
        apply.active_bytes = 0;
        self.frozen.lock().push_back(Arc::new(frozen));
        self.signals.wake();
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
        let mut written = Vec::new();
        for (id, memtable) in &frozen.memtables {
            match self.write_memtable(memtable) {
                Ok(Some(file)) => written.push((*id, file)),
                Ok(None) => {}
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
        let added: Vec<SegmentMeta> = written.iter().map(|(_, f)| f.meta().clone()).collect();
        let bytes: u64 = added.iter().map(|meta| meta.bytes).sum();
        let mut manifest = self.manifest.lock();
        let known = manifest.state();
        let edit = Edit::Flush(Flush {
            flushed_index: frozen.index.0,
            floor: frozen.floor.0,
            next_segment_id: known.next_segment_id,
            catalog: (known.catalog != *frozen.catalog).then(|| (*frozen.catalog).clone()),
            truncated: (known.truncated != frozen.truncated).then(|| frozen.truncated.clone()),
            added,
        });
        let removed = self.publish_edit(&mut manifest, edit)?;
        self.update(|state| flushed(state, frozen, &written));
        self.flushed.store(frozen.index.0, Ordering::Release);
        self.frozen.lock().pop_front();
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
        memtable: &Arc<Memtable>,
    ) -> Result<Option<Arc<SegmentFile>>, StoreError> {
        let runs = memtable.runs();
        let mut sources: Vec<Source> = runs.iter().cloned().map(Source::Run).collect();
        if !memtable.rows.is_empty() {
            sources.push(Source::Rows(memtable.clone()));
        }
        self.write_segment(&memtable.schema, sources)
    }

    /// Publishes an edit; a failure poisons the store.
    pub(crate) fn publish_edit(
        &self,
        manifest: &mut crate::manifest::Manifest,
        edit: Edit,
    ) -> Result<Vec<SegmentId>, StoreError> {
        manifest
            .publish(edit)
            .inspect_err(|error| self.poison(error))
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

    /// Writes all versions of some sources as one segment; `None`: there are none.
    /// The file has its name, but that is not yet durable, nor does the manifest know.
    pub(crate) fn write_segment(
        &self,
        schema: &Arc<TableSchema>,
        sources: Vec<Source>,
    ) -> Result<Option<Arc<SegmentFile>>, StoreError> {
        let columns = (0..schema.columns.len()).map(PageColumn::Column);
        let columns = STORED.into_iter().chain(columns).collect();
        let request = MergeRequest::everything(schema.clone(), columns, BATCH_ROWS);
        let mut merger = Merger::open(Arc::new(request), sources.into_iter(), &KeyRange::ALL)?;
        let Some(first) = merger.next_batch()? else {
            return Ok(None);
        };
        let id = self.manifest.lock().next_segment_id();
        let path = segment_path(&self.dir, id);
        let temporary = temporary(&path);
        let result = self.fill_segment(id, &temporary, schema, first, &mut merger);
        if let Err(error) = result {
            // What cannot be removed now is an orphan, removed at the next open.
            let _ = self.env.disk.remove_file(&temporary);
            return Err(error);
        }
        self.env
            .disk
            .rename(&temporary, &path)
            .map_err(|e| StoreError::io("rename", &temporary, e))?;
        let segment = Segment::open(&self.env, &path, schema, self.cache.clone())?;
        let file = Arc::new(SegmentFile::new(self.env.clone(), path, segment, schema));
        self.files.lock().insert(id, Arc::downgrade(&file));
        Ok(Some(file))
    }

    fn fill_segment(
        &self,
        id: SegmentId,
        path: &Path,
        schema: &TableSchema,
        first: Merged,
        merger: &mut Merger,
    ) -> Result<(), StoreError> {
        let mut writer = SegmentWriter::create(&self.env, path, id, schema, &self.options.segment)?;
        writer.append(&version_batch(first)?)?;
        while let Some(merged) = merger.next_batch()? {
            self.check_usable()?;
            writer.append(&version_batch(merged)?)?;
        }
        let finished = writer.finish().map_err(|error| {
            let failed_sync = matches!(&error, SegmentError::Io { action: "sync", .. });
            (failed_sync, StoreError::from(error))
        });
        match finished {
            Ok(_) => Ok(()),
            Err((failed_sync, error)) => {
                if failed_sync {
                    self.poison(&error);
                }
                Err(error)
            }
        }
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
                    if let Err(error) = self.env.disk.remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "cannot remove an obsolete segment");
                    }
                }
            }
        }
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Columns that every version has, as they are asked of a merge.
const STORED: [PageColumn; 5] = [
    PageColumn::Origin,
    PageColumn::OriginNode,
    PageColumn::Kind,
    PageColumn::ValidFrom,
    PageColumn::ValidTo,
];

fn version_batch(mut merged: Merged) -> Result<VersionBatch, StoreError> {
    let columns = merged.columns.split_off(STORED.len());
    let [origin, origin_node, kind, valid_from, valid_to] = merged.columns.as_slice() else {
        return Err(StoreError::Columns("a merge lost columns".into()));
    };
    Ok(VersionBatch {
        keys: Arc::new(merged.keys),
        recorded: UInt64Array::from(merged.recorded),
        origin: origin.as_primitive::<UInt64Type>().clone(),
        origin_node: origin_node.as_primitive::<UInt32Type>().clone(),
        kind: kind.as_primitive::<UInt8Type>().clone(),
        valid_from: valid_from.as_primitive::<Int64Type>().clone(),
        valid_to: valid_to.as_primitive::<Int64Type>().clone(),
        columns,
    })
}

/// The state in which memtables have been replaced by their segments.
fn flushed(
    state: &StoreState,
    frozen: &Frozen,
    written: &[(TableId, Arc<SegmentFile>)],
) -> StoreState {
    state.with_tables(|tables| {
        for (id, memtable) in &frozen.memtables {
            // A table dropped meanwhile is not there any more.
            let Some(table) = tables.get_mut(id) else {
                continue;
            };
            let mut next = (**table).clone();
            next.frozen.retain(|m| !Arc::ptr_eq(m, memtable));
            let files = written.iter().filter(|(of, _)| of == id);
            next.segments.extend(files.map(|(_, file)| file.clone()));
            *table = Arc::new(next);
        }
    })
}
