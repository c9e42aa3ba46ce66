//! From merged versions to segment files.
//!
//! ```text
//!   Merger -> batches -> Splitter --newest----> file of newest versions, or of a bucket
//!                            |    \--window---> file of that window's history
//!                            `--> nowhere: what is no longer kept
//! ```
//!
//! Files are written under a temporary name, synced and renamed. Making the names
//! durable and telling the manifest is the caller's part; until then a file is an orphan,
//! which the next open removes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type, UInt8Type};
use arrow_array::UInt64Array;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use chronos_model::{Kind, Stamp, TableSchema};

use crate::buckets::{Bucket, Division};
use crate::error::StoreError;
use crate::history::{Place, Splitter, ToSplit, Window};
use crate::merge::{MergeRequest, Merged, Merger, Source};
use crate::page_size::segment_options;
use crate::retention::{key_time, times, Retained, CUT};
use crate::scan::KeyRange;
use crate::segment::{PageColumn, Segment, SegmentError, SegmentId, SegmentWriter};
use crate::state::SegmentFile;
use crate::store::{segment_path, Shared};
use crate::version::VersionBatch;

/// Versions that are merged and handed to a segment writer at a time: at most, and before it is
/// known how large they are.
const BATCH_ROWS_MAX: usize = 32 * 1024;
const BATCH_ROWS_FIRST: usize = 2 * 1024;
/// However large they are.
const BATCH_ROWS_MIN: usize = 64;
/// Of what flushes and compactions may work with, a batch takes this part: it is there merged,
/// split and cut into pages, beside pages of each source.
const BATCH_PART: u64 = 16;

/// Columns that every version has, as they are asked of a merge.
const STORED: [PageColumn; 5] = [
    PageColumn::Origin,
    PageColumn::OriginNode,
    PageColumn::Kind,
    PageColumn::ValidFrom,
    PageColumn::ValidTo,
];

/// Whether somebody waits for what is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// Yes: memory is needed.
    Flush,
    /// No.
    Background,
}

impl Shared {
    /// Writes all versions of some sources that may hold current ones, history apart, but
    /// for those that are no longer kept. Names are not yet durable, nor does the manifest
    /// know them.
    pub(crate) fn write_split(
        &self,
        schema: &Arc<TableSchema>,
        sources: Vec<Source>,
        mut splitter: Splitter,
        division: Option<Division>,
        urgency: Urgency,
    ) -> Result<Vec<Arc<SegmentFile>>, StoreError> {
        let mut files = Files::new(self, schema);
        let mut merger = everything(schema, sources)?;
        let mut written = 0;
        let mut held = BackgroundBytes::new(&self.background_bytes);
        while let Some(merged) = merger.next_batch()? {
            self.check_usable()?;
            let bytes = merged.memory_bytes() as u64;
            held.set(bytes * 2 + files.group_bytes());
            let bytes_max = self.options.background_bytes / BATCH_PART;
            merger.set_batch_rows(batch_rows(merged.rows, bytes, bytes_max));
            if urgency == Urgency::Background {
                let before = std::mem::replace(&mut written, files.written_bytes());
                self.give_way(written - before)?;
            }
            let mut batch = version_batch(merged)?;
            debug_assert!(
                first_versions_are_first(&batch),
                "a version of {} is older than the first of its key",
                schema.name
            );
            let expired = expired(schema, splitter.retained(), &batch)?;
            let split = splitter.split(ToSplit {
                keys: &batch.keys,
                recorded: batch.recorded.values(),
                kinds: batch.kind.values(),
                valid: (batch.valid_from.values(), batch.valid_to.values()),
                expired: expired.as_ref(),
            });
            cut(&mut batch, &split.cuts);
            let newest = match split.all_newest {
                true => batch.clone(),
                false => batch.take(&split.newest)?,
            };
            files.append_newest(&newest, division)?;
            if schema.is_entry_table() {
                // An entry that was added twice says no more than one.
                continue;
            }
            for (window, superseded, rows) in split.history {
                let place = Place {
                    superseded: Some(superseded),
                    bucket: None,
                };
                files.append(Some(window), place, &batch.take(&rows)?)?;
            }
        }
        files.finish()
    }
}

/// How many versions to merge at a time, when so many have taken so many bytes.
fn batch_rows(rows: usize, bytes: u64, bytes_max: u64) -> usize {
    let fitting = rows as u64 * bytes_max / bytes.max(1);
    (fitting as usize).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX)
}

/// What one flush or compaction holds, as part of what all of them do.
struct BackgroundBytes<'a> {
    sum: &'a AtomicU64,
    own: u64,
}

impl BackgroundBytes<'_> {
    fn new(sum: &AtomicU64) -> BackgroundBytes<'_> {
        BackgroundBytes { sum, own: 0 }
    }

    fn set(&mut self, bytes: u64) {
        self.sum.fetch_add(bytes, Ordering::Relaxed);
        self.sum.fetch_sub(self.own, Ordering::Relaxed);
        self.own = bytes;
    }
}

impl Drop for BackgroundBytes<'_> {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// Whether no version in key order, newest first, follows a first one of its key.
fn first_versions_are_first(batch: &VersionBatch) -> bool {
    let same_key = |row: usize| batch.keys.get(row) == batch.keys.get(row - 1);
    (1..batch.num_rows()).all(|row| !batch.first.value(row - 1) || !same_key(row))
}

/// Which versions are expired; `None`: none is.
pub(crate) fn expired(
    schema: &TableSchema,
    retained: &Retained,
    batch: &VersionBatch,
) -> Result<Option<BooleanBuffer>, StoreError> {
    if retained.floor == Stamp::MIN && retained.time.is_none() {
        return Ok(None);
    }
    let mut expired = BooleanBufferBuilder::new(batch.num_rows());
    let times = retained
        .time
        .map(|floor| row_times(schema, floor.column, batch));
    let times = times.transpose()?;
    for row in 0..batch.num_rows() {
        let by_time = match (&times, retained.time) {
            (Some(times), Some(floor)) => times[row] < floor.micros,
            _ => false,
        };
        expired.append(by_time || Stamp(batch.recorded.value(row)) < retained.floor);
    }
    Ok(Some(expired.finish()))
}

/// The time of each version, which for a delete is in its key only.
fn row_times(
    schema: &TableSchema,
    column: usize,
    batch: &VersionBatch,
) -> Result<Vec<i64>, StoreError> {
    let mut found = times(&batch.columns[column])?.values().to_vec();
    for (row, time) in found.iter_mut().enumerate() {
        if batch.kind.value(row) != Kind::Put as u8 {
            let own = key_time(schema, column, batch.keys.get(row))?;
            *time = own.unwrap_or(i64::MAX);
        }
    }
    Ok(found)
}

/// Makes cuts of some versions.
fn cut(batch: &mut VersionBatch, rows: &[u32]) {
    if rows.is_empty() {
        return;
    }
    let mut kinds = batch.kind.values().to_vec();
    rows.iter().for_each(|row| kinds[*row as usize] = CUT);
    batch.kind = kinds.into();
}

/// A merge of every version of some sources, with all that is stored of it.
/// Every version that some sources have, in order.
pub(crate) fn everything(
    schema: &Arc<TableSchema>,
    sources: Vec<Source>,
) -> Result<Merger, StoreError> {
    let columns = (0..schema.columns.len()).map(PageColumn::Column);
    let columns = STORED.into_iter().chain(columns).collect();
    let request = MergeRequest::everything(schema.clone(), columns, BATCH_ROWS_FIRST);
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
    place: Place,
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

    fn written_bytes(&self) -> u64 {
        self.open.iter().map(|f| f.writer.written_bytes()).sum()
    }

    /// Encoded bytes that wait for the rest of their groups.
    fn group_bytes(&self) -> u64 {
        let groups = self.open.iter().map(|f| f.writer.group_bytes());
        groups.sum::<usize>() as u64
    }

    /// Appends versions that may be current to the files of their times.
    fn append_newest(
        &mut self,
        batch: &VersionBatch,
        division: Option<Division>,
    ) -> Result<(), StoreError> {
        let place = |bucket| Place {
            superseded: None,
            bucket,
        };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let Some(division) = division else {
            return self.append(None, place(None), batch);
        };
        let times = row_times(self.schema, division.column, batch)?;
        let mut rows_of: BTreeMap<Bucket, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.into_iter().enumerate() {
            let bucket = Bucket::of(time, division.micros);
            rows_of.entry(bucket).or_default().push(row as u32);
        }
        for (bucket, rows) in rows_of {
            if rows.len() == batch.num_rows() {
                return self.append(None, place(Some(bucket)), batch);
            }
            self.append(None, place(Some(bucket)), &batch.take(&rows)?)?;
        }
        Ok(())
    }

    /// Appends versions to the file of a window of history, or of a bucket.
    fn append(
        &mut self,
        window: Option<Window>,
        place: Place,
        batch: &VersionBatch,
    ) -> Result<(), StoreError> {
        let is_theirs = |f: &OpenFile| f.window == window && f.place.bucket == place.bucket;
        let file = match self.open.iter().position(is_theirs) {
            Some(known) => known,
            None => {
                self.create(window, place)?;
                self.open.len() - 1
            }
        };
        let file = &mut self.open[file];
        if let (Some(before), Some(superseded)) = (file.place.superseded, place.superseded) {
            file.place.superseded = Some(before.with(superseded));
        }
        Ok(file.writer.append(batch)?)
    }

    fn create(&mut self, window: Option<Window>, place: Place) -> Result<(), StoreError> {
        let id = self.shared.manifest.lock().next_segment_id();
        let path = segment_path(&self.shared.dir, id);
        let env = &self.shared.env;
        let mut options = segment_options(self.schema, &self.shared.options.segment);
        let group_bytes = self.shared.options.background_bytes / BATCH_PART;
        options.group_bytes = options.group_bytes.min(group_bytes as usize);
        let create = || SegmentWriter::create(env, &temporary(&path), id, self.schema, &options);
        let created = self.shared.directory.change(create);
        let writer = created.ok_or(StoreError::Closed)?;
        let writer = writer.inspect_err(|_| self.discard(&path))?;
        self.open.push(OpenFile {
            window,
            place,
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
                    // It may have its name and not read back: each attempt would leave one.
                    self.remove(&path);
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
            place,
            writer,
            ..
        } = file;
        let crc32 = self.complete(writer, &path)?;
        let shared = self.shared;
        let segment = Segment::open(&shared.env, &path, self.schema, shared.cache.clone())?;
        let env = shared.env.clone();
        let file = SegmentFile::new(&shared.directory, env, path, segment, self.schema, place);
        let file = Arc::new(file.with_crc32(Some(crc32)));
        shared.files.lock().insert(id, Arc::downgrade(file.name()));
        Ok(file)
    }

    /// Returns the checksum of the file.
    fn complete(&self, writer: SegmentWriter, path: &Path) -> Result<u32, StoreError> {
        let (_, crc32) = writer.finish_checked().map_err(|error| {
            let failed_sync = matches!(&error, SegmentError::Io { action: "sync", .. });
            let error = StoreError::from(error);
            if failed_sync {
                self.shared.poison(&error);
            }
            error
        })?;
        let temporary = temporary(path);
        let disk = &self.shared.env.disk;
        let renamed = self
            .shared
            .directory
            .change(|| disk.rename(&temporary, path));
        renamed
            .ok_or(StoreError::Closed)?
            .map_err(|e| StoreError::io("rename", &temporary, e))?;
        Ok(crc32)
    }

    /// What cannot be removed now is an orphan, removed at the next open.
    fn discard(&self, path: &Path) {
        self.remove(&temporary(path));
    }

    fn remove(&self, path: &Path) {
        let remove = || self.shared.env.disk.remove_file(path);
        let _ = self.shared.directory.change(remove);
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

pub(crate) fn version_batch(mut merged: Merged) -> Result<VersionBatch, StoreError> {
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
        first: merged.first,
        columns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_the_rows_that_fit() {
        assert_eq!(batch_rows(2048, 2048 * 100, 1 << 20), 10_485);
        assert_eq!(batch_rows(2048, 2048 * 10, 1 << 20), BATCH_ROWS_MAX);
        assert_eq!(batch_rows(10, 10 << 20, 1 << 20), BATCH_ROWS_MIN);
        assert_eq!(batch_rows(5, 0, 1 << 20), BATCH_ROWS_MAX);
    }

    #[test]
    fn what_the_background_holds_is_summed_and_given_back() {
        let sum = AtomicU64::new(0);
        let mut one = BackgroundBytes::new(&sum);
        one.set(10);
        let mut other = BackgroundBytes::new(&sum);
        other.set(5);
        one.set(3);
        assert_eq!(sum.load(Ordering::Relaxed), 8);
        drop(one);
        drop(other);
        assert_eq!(sum.load(Ordering::Relaxed), 0);
    }
}
