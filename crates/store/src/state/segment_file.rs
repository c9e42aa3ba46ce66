//! A segment in use: its file lives until the manifest no longer names it and no
//! reader uses it.

use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type, UInt8Type};
use chronos_env::Env;
use chronos_model::{Keys, Kind, Period, Stamp, TableSchema};

use crate::buckets::Bucket;
use crate::error::StoreError;
use crate::history::{Place, Superseded};
use crate::manifest::SegmentEntry;
use crate::memtable::KeyRanges;
use crate::merge::gallop;
use crate::segment::{PageColumn, PageMeta, Segment};
use crate::state::Directory;

/// With so many wanted keys in a page, its keys are read without asking the filter.
const KEYS_WITHOUT_FILTER: usize = 16;

/// What is wanted of keys that two sets have in common.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Wanted {
    /// That they are there. Kinds are `Put` and stamps are made up; for tables in which
    /// nothing was ever deleted.
    Presence,
    /// Stamp and kind of the newest version.
    Stamps,
}

/// A segment as one shape of its table reads it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    segment: Arc<Segment>,
    pub(crate) ranges: KeyRanges,
    /// Whether versions are true for periods of their own.
    pub(crate) has_periods: bool,
    /// When its versions were superseded, if it is a run of history.
    pub(crate) superseded: Option<Superseded>,
    /// The window of time that all its rows are in.
    pub(crate) bucket: Option<Bucket>,
    /// Of all bytes of the file; `None`: it was written before that was noted.
    pub(crate) crc32: Option<u32>,
    name: Arc<FileName>,
}

/// The file of a segment, which goes with the last who uses it once it is obsolete.
#[derive(Debug)]
pub(crate) struct FileName {
    env: Env,
    path: PathBuf,
    obsolete: AtomicBool,
    directory: Arc<Directory>,
}

impl Deref for SegmentFile {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.segment
    }
}

impl SegmentFile {
    pub(crate) fn new(
        directory: &Arc<Directory>,
        env: Env,
        path: PathBuf,
        segment: Arc<Segment>,
        schema: &TableSchema,
        place: Place,
    ) -> SegmentFile {
        SegmentFile {
            superseded: place.superseded,
            bucket: place.bucket,
            ranges: KeyRanges::of_pages(schema, segment.pages()),
            // Of one that is lost nothing is known; what there was of it is refused.
            has_periods: !segment.is_lost() && segment.pages().iter().any(|page| !page.open_valid),
            segment,
            crc32: None,
            name: Arc::new(FileName {
                env,
                path,
                obsolete: AtomicBool::new(false),
                directory: directory.clone(),
            }),
        }
    }

    /// The same file, of which a checksum is known.
    pub(crate) fn with_crc32(self, crc32: Option<u32>) -> SegmentFile {
        SegmentFile { crc32, ..self }
    }

    /// The same file, read as `schema` has the table now.
    pub(crate) fn shaped_as(
        self: &Arc<SegmentFile>,
        schema: &TableSchema,
    ) -> Result<Arc<SegmentFile>, StoreError> {
        if self.segment.is_shaped_as(schema) {
            return Ok(self.clone());
        }
        let segment = self.segment.shaped_as(schema)?;
        Ok(Arc::new(SegmentFile {
            ranges: KeyRanges::of_pages(schema, segment.pages()),
            superseded: self.superseded,
            bucket: self.bucket,
            has_periods: self.has_periods,
            crc32: self.crc32,
            segment: Arc::new(segment),
            name: self.name.clone(),
        }))
    }

    /// What keeps its file.
    pub(crate) fn name(&self) -> &Arc<FileName> {
        &self.name
    }

    /// What the manifest says of it.
    pub(crate) fn entry(&self) -> SegmentEntry {
        SegmentEntry {
            meta: self.meta().clone(),
            superseded: self.superseded,
            bucket: self.bucket,
            crc32: self.crc32,
        }
    }

    /// The newest version that a page has of a key: row, stamp and kind.
    pub(crate) fn newest(
        &self,
        page: usize,
        key: &[u8],
    ) -> Result<Option<(u32, Stamp, Kind)>, StoreError> {
        let rows = self.find_rows(page, key)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let (recorded, kind) = self.stamp(page, rows.start)?;
        Ok(Some((rows.start, recorded, kind_of(kind))))
    }

    /// Calls `hit(index, recorded, kind)` for each of the sorted, distinct keys that
    /// is here, with its newest version.
    pub(crate) fn for_each_common(
        &self,
        keys: &Keys,
        wanted_of_each: Wanted,
        mut hit: impl FnMut(usize, Stamp, Kind),
    ) -> Result<(), StoreError> {
        let pages = self.pages();
        let (mut page, mut wanted) = (0, 0);
        while wanted < keys.len() {
            let key = keys.get(wanted);
            page = gallop(page, pages.len(), |p| *pages[p].max_key < *key);
            if page == pages.len() {
                return Ok(());
            }
            let PageMeta {
                min_key, max_key, ..
            } = &pages[page];
            if **min_key > *key {
                wanted = gallop(wanted, keys.len(), |i| keys.get(i) < &**min_key);
                continue;
            }
            let end = gallop(wanted, keys.len(), |i| keys.get(i) <= &**max_key);
            self.common_in_page(page, keys, wanted..end, wanted_of_each, &mut hit)?;
            wanted = end;
        }
        Ok(())
    }

    /// [`for_each_common`](Self::for_each_common) for some keys that are in the
    /// interval of one page.
    fn common_in_page(
        &self,
        page: usize,
        keys: &Keys,
        Range { start, end }: Range<usize>,
        wanted_of_each: Wanted,
        hit: &mut impl FnMut(usize, Stamp, Kind),
    ) -> Result<(), StoreError> {
        if end - start < KEYS_WITHOUT_FILTER && !(start..end).any(|i| self.may_contain(keys.get(i)))
        {
            return Ok(());
        }
        let ours = self.read_keys(page)?;
        let (mut at, mut wanted) = (0, start);
        let (mut indices, mut rows) = (Vec::new(), Vec::new());
        while wanted < end {
            let key = keys.get(wanted);
            at = gallop(at, ours.len(), |i| ours.get(i) < key);
            if at == ours.len() {
                break;
            }
            let found = ours.get(at);
            if found == key {
                indices.push(wanted);
                rows.push(at as u32);
                wanted += 1;
            } else {
                wanted = gallop(wanted, end, |i| keys.get(i) < found);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        if wanted_of_each == Wanted::Presence {
            let recorded = self.pages()[page].max_recorded;
            indices.iter().for_each(|i| hit(*i, recorded, Kind::Put));
            return Ok(());
        }
        self.stamps(page, &rows, |i, recorded, kind| {
            hit(indices[i], recorded, kind_of(kind))
        })
    }

    /// When the versions in some rows of a page are true; `None`: each from when it was
    /// recorded until changed.
    pub(crate) fn periods(
        &self,
        page: usize,
        rows: &[u32],
    ) -> Result<Option<Vec<Period>>, StoreError> {
        if self.pages()[page].open_valid {
            return Ok(None);
        }
        let columns = self.read_rows(page, rows, &[PageColumn::ValidFrom, PageColumn::ValidTo])?;
        let [from, to] = columns.as_slice() else {
            return Err(StoreError::Columns("a segment did not give periods".into()));
        };
        let from = from.as_primitive::<Int64Type>().values().iter();
        let to = to.as_primitive::<Int64Type>().values().iter();
        let both = from.zip(to).map(|(from, to)| Period {
            from: *from,
            to: *to,
        });
        Ok(Some(both.collect()))
    }

    /// Calls `give(i, recorded, kind)` for each of the rows of a page. A kind is as it is
    /// stored: 0 put, 1 delete, 2 [`CUT`](crate::retention::CUT).
    pub(crate) fn stamps(
        &self,
        page: usize,
        rows: &[u32],
        mut give: impl FnMut(usize, Stamp, u8),
    ) -> Result<(), StoreError> {
        let meta = &self.pages()[page];
        if meta.min_recorded == meta.max_recorded && !meta.has_deletes {
            (0..rows.len()).for_each(|i| give(i, meta.min_recorded, Kind::Put as u8));
            return Ok(());
        }
        let columns = self.read_rows(page, rows, &[PageColumn::Recorded, PageColumn::Kind])?;
        let [recorded, kinds] = columns.as_slice() else {
            return Err(StoreError::Columns("a segment did not give stamps".into()));
        };
        let recorded = recorded.as_primitive::<UInt64Type>();
        let kinds = kinds.as_primitive::<UInt8Type>();
        for i in 0..rows.len() {
            give(i, Stamp(recorded.value(i)), kinds.value(i));
        }
        Ok(())
    }
}

/// Of a version in a segment that is no history, and so has no cuts.
fn kind_of(stored: u8) -> Kind {
    match stored {
        0 => Kind::Put,
        _ => Kind::Delete,
    }
}

impl FileName {
    /// The manifest no longer names it: the file goes with the last reader.
    pub(crate) fn set_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for FileName {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            let remove = || self.env.disk.remove_file(&self.path);
            if let Some(Err(error)) = self.directory.change(remove) {
                // Whoever opens the store next removes it: the manifest does not name it.
                tracing::warn!(path = %self.path.display(), %error, "cannot remove an obsolete segment");
            }
        }
    }
}
