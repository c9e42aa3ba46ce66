//! From merged versions to segment files.
//!
//! ```text
//!   Merger -> batches -> Splitter --newest-----> file of newest versions
//!                                 \--window---> file of that window's history
//! ```
//!
//! Files are written under a temporary name, synced and renamed. Making the names
//! durable and telling the manifest is the caller's part; until then a file is an orphan,
//! which the next open removes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type, UInt8Type};
use arrow_array::UInt64Array;
use chronos_model::TableSchema;

use crate::error::StoreError;
use crate::history::{Splitter, Superseded, Window};
use crate::merge::{MergeRequest, Merged, Merger, Source};
use crate::scan::KeyRange;
use crate::segment::{PageColumn, Segment, SegmentError, SegmentId, SegmentWriter};
use crate::state::SegmentFile;
use crate::store::{segment_path, Shared};
use crate::version::VersionBatch;

/// Versions that are merged and handed to a segment writer at a time.
const BATCH_ROWS: usize = 32 * 1024;

/// Entries of an index on a page: they are looked for one at a time, and a page is decoded as
/// a whole.
const ENTRY_PAGE_ROWS: usize = 512;

/// Columns that every version has, as they are asked of a merge.
const STORED: [PageColumn; 5] = [
    PageColumn::Origin,
    PageColumn::OriginNode,
    PageColumn::Kind,
    PageColumn::ValidFrom,
    PageColumn::ValidTo,
];

impl Shared {
    /// Writes all versions of some sources that may hold current ones, history apart.
    /// Their names are not yet durable, nor does the manifest know them.
    pub(crate) fn write_split(
        &self,
        schema: &Arc<TableSchema>,
        sources: Vec<Source>,
        mut splitter: Splitter,
    ) -> Result<Vec<Arc<SegmentFile>>, StoreError> {
        let mut files = Files::new(self, schema);
        let mut merger = everything(schema, sources)?;
        while let Some(merged) = merger.next_batch()? {
            self.check_usable()?;
            let split = splitter.split(&merged.keys, &merged.recorded);
            let batch = version_batch(merged)?;
            if split.history.is_empty() {
                files.append(None, &batch)?;
                continue;
            }
            if !split.newest.is_empty() {
                files.append(None, &batch.take(&split.newest)?)?;
            }
            if schema.is_entry_table() {
                // An entry that was added twice says no more than one.
                continue;
            }
            for (window, superseded, rows) in split.history {
                files.append(Some((window, superseded)), &batch.take(&rows)?)?;
            }
        }
        files.finish()
    }

    /// Writes all versions of some runs of history, of one window, as one run.
    pub(crate) fn write_history(
        &self,
        schema: &Arc<TableSchema>,
        sources: Vec<Source>,
        superseded: Superseded,
    ) -> Result<Vec<Arc<SegmentFile>>, StoreError> {
        let mut files = Files::new(self, schema);
        let mut merger = everything(schema, sources)?;
        let place = (superseded.window(), superseded);
        while let Some(merged) = merger.next_batch()? {
            self.check_usable()?;
            files.append(Some(place), &version_batch(merged)?)?;
        }
        files.finish()
    }
}

/// A merge of every version of some sources, with all that is stored of it.
fn everything(schema: &Arc<TableSchema>, sources: Vec<Source>) -> Result<Merger, StoreError> {
    let columns = (0..schema.columns.len()).map(PageColumn::Column);
    let columns = STORED.into_iter().chain(columns).collect();
    let request = MergeRequest::everything(schema.clone(), columns, BATCH_ROWS);
    Merger::open(Arc::new(request), sources.into_iter(), &KeyRange::ALL)
}

/// The files that are being written, one for each place that versions went to.
struct Files<'a> {
    shared: &'a Shared,
    schema: &'a Arc<TableSchema>,
    open: Vec<OpenFile>,
}

struct OpenFile {
    window: Option<Window>,
    superseded: Option<Superseded>,
    id: SegmentId,
    path: PathBuf,
    writer: SegmentWriter,
}

impl<'a> Files<'a> {
    fn new(shared: &'a Shared, schema: &'a Arc<TableSchema>) -> Files<'a> {
        Files {
            shared,
            schema,
            open: Vec::new(),
        }
    }

    /// Appends versions to the newest ones, or to a window's history.
    fn append(
        &mut self,
        place: Option<(Window, Superseded)>,
        batch: &VersionBatch,
    ) -> Result<(), StoreError> {
        let window = place.map(|(window, _)| window);
        let file = match self.open.iter().position(|f| f.window == window) {
            Some(known) => known,
            None => {
                self.create(window)?;
                self.open.len() - 1
            }
        };
        let file = &mut self.open[file];
        if let Some((_, superseded)) = place {
            let before = file.superseded.unwrap_or(superseded);
            file.superseded = Some(before.with(superseded));
        }
        Ok(file.writer.append(batch)?)
    }

    fn create(&mut self, window: Option<Window>) -> Result<(), StoreError> {
        let id = self.shared.manifest.lock().next_segment_id();
        let path = segment_path(&self.shared.dir, id);
        let env = &self.shared.env;
        let mut options = self.shared.options.segment.clone();
        if self.schema.is_entry_table() {
            options.page_rows = options.page_rows.min(ENTRY_PAGE_ROWS);
        }
        let writer = SegmentWriter::create(env, &temporary(&path), id, self.schema, &options);
        let writer = writer.inspect_err(|_| self.discard(&path))?;
        self.open.push(OpenFile {
            window,
            superseded: None,
            id,
            path,
            writer,
        });
        Ok(())
    }

    /// Completes all files and gives them their names: all, or none.
    fn finish(mut self) -> Result<Vec<Arc<SegmentFile>>, StoreError> {
        let mut finished = Vec::with_capacity(self.open.len());
        while let Some(file) = self.open.pop() {
            let path = file.path.clone();
            match self.finish_one(file) {
                Ok(file) => finished.push(file),
                Err(error) => {
                    self.discard(&path);
                    let ids: Vec<_> = finished.iter().map(|file| file.meta().id).collect();
                    self.shared.release(&ids);
                    return Err(error);
                }
            }
        }
        Ok(finished)
    }

    fn finish_one(&self, file: OpenFile) -> Result<Arc<SegmentFile>, StoreError> {
        let OpenFile {
            id,
            path,
            superseded,
            writer,
            ..
        } = file;
        self.complete(writer, &path)?;
        let shared = self.shared;
        let segment = Segment::open(&shared.env, &path, self.schema, shared.cache.clone())?;
        let env = shared.env.clone();
        let file = Arc::new(SegmentFile::new(
            env,
            path,
            segment,
            self.schema,
            superseded,
        ));
        shared.files.lock().insert(id, Arc::downgrade(&file));
        Ok(file)
    }

    fn complete(&self, writer: SegmentWriter, path: &Path) -> Result<(), StoreError> {
        writer.finish().map_err(|error| {
            let failed_sync = matches!(&error, SegmentError::Io { action: "sync", .. });
            let error = StoreError::from(error);
            if failed_sync {
                self.shared.poison(&error);
            }
            error
        })?;
        let temporary = temporary(path);
        let disk = &self.shared.env.disk;
        disk.rename(&temporary, path)
            .map_err(|e| StoreError::io("rename", &temporary, e))
    }

    /// What cannot be removed now is an orphan, removed at the next open.
    fn discard(&self, path: &Path) {
        let _ = self.shared.env.disk.remove_file(&temporary(path));
    }
}

impl Drop for Files<'_> {
    /// Files that were not finished are of no use.
    fn drop(&mut self) {
        for file in std::mem::take(&mut self.open) {
            self.discard(&file.path);
        }
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

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
