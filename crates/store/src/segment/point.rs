//! Single rows of a page: where a key is, and the values it has.
//!
//! Nothing is decoded that is not asked for: blocks are looked into as they are in the file
//! ([`ColumnAt`]), and that is also how the [`PageCache`](super::PageCache) keeps them. Of the
//! key only the columns are compared that differ within the page.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{value_at, DataType, Kind, Stamp, Value};

use super::cache::{CacheKey, Cached};
use super::encoding::{ColumnAt, WordsAt};
use super::layout::{slot, BlockRef};
use super::{BlockError, PageColumn, Segment, SegmentError};

impl Segment {
    /// The rows of a page that have this key, newest origin first; empty if none has.
    /// For single keys faster than [`Segment::read_keys`], which makes all keys of the
    /// page. Panics if there is no such page.
    pub fn find_rows(&self, page: usize, key: &[u8]) -> Result<Range<u32>, SegmentError> {
        self.readable()?;
        let rows = self.pages()[page].rows as usize;
        let error = |e: BlockError| self.block_error(page, slot::KEY, e);
        if self.footer.all_keys[page] {
            let keys = self.column(page, slot::KEY)?;
            let compare = |row| keys.with_bytes(row, |found| found.cmp(key)).map_err(error);
            return equal_range(rows, compare);
        }
        let deletes = self.deletes(page)?;
        let columns = (self.footer.primary_key.iter())
            .map(|c| self.column(page, slot::FIRST_COLUMN + c))
            .collect::<Result<Vec<_>, _>>()?;
        let same = columns.iter().take_while(|c| c.is_constant()).count();
        let (same, varying) = columns.split_at(same);
        let mut bytes = Vec::with_capacity(key.len());
        for column in same {
            column.put_key(0, &mut bytes).map_err(error)?;
        }
        let Some(rest) = key.strip_prefix(bytes.as_slice()) else {
            return Ok(0..0);
        };
        equal_range(rows, |row| {
            let delete = deletes.as_ref().and_then(|deletes| deletes.number_of(row));
            if let (Some(deletes), Some(number)) = (&deletes, delete) {
                let compare = |found: &[u8]| found.cmp(key);
                return deletes.keys.with_bytes(number, compare).map_err(error);
            }
            bytes.clear();
            for column in varying {
                column.put_key(row, &mut bytes).map_err(error)?;
                if !rest.starts_with(&bytes) {
                    break;
                }
            }
            Ok(bytes.as_slice().cmp(rest))
        })
    }

    /// The value of one of the table's columns in a row of a page. Panics if there is no such
    /// page, row or column.
    pub fn value(&self, page: usize, row: u32, column: usize) -> Result<Value, SegmentError> {
        self.readable()?;
        if self.shaped.is_some() {
            let array = self.read_rows(page, &[row], &[PageColumn::Column(column)])?;
            let data_type = &self.schema.columns[column].data_type;
            let value = array.first().map(|array| value_at(array, 0, data_type));
            let damaged = || self.damaged(Some(page), 0, "a value that does not read");
            return value.and_then(Result::ok).ok_or_else(damaged);
        }
        let slot = slot::FIRST_COLUMN + column;
        let value = self.column(page, slot)?.value(row as usize);
        value.map_err(|e| self.block_error(page, slot, e))
    }

    /// When a row of a page was recorded, and its kind as it is stored: 0 put, 1 delete, 2
    /// [`CUT`](crate::retention::CUT). Panics if there is no such page or row.
    pub(crate) fn stamp(&self, page: usize, row: u32) -> Result<(Stamp, u8), SegmentError> {
        self.readable()?;
        let meta = &self.pages()[page];
        if meta.has_deletes {
            let kind = self.word(page, slot::KIND, row)? as u8;
            return Ok((Stamp(self.word(page, slot::RECORDED, row)?), kind));
        }
        let recorded = match meta.min_recorded == meta.max_recorded {
            true => meta.min_recorded,
            false => Stamp(self.word(page, slot::RECORDED, row)?),
        };
        Ok((recorded, Kind::Put as u8))
    }

    /// A column of a page, of which single values can be asked.
    fn column(&self, page: usize, slot: usize) -> Result<Arc<ColumnAt>, SegmentError> {
        let rows = self.pages()[page].rows as usize;
        let stored = match slot {
            slot::KEY => &DataType::Bytea,
            slot => &self.footer.columns[slot - slot::FIRST_COLUMN].data_type,
        };
        let key = self.single_key(page, slot);
        let is_cached = !matches!(self.footer.block(page, slot), BlockRef::Inline { .. });
        if let (true, Some(Cached::Single(column))) = (is_cached, self.cache.get(&key)) {
            return Ok(column);
        }
        let parsed = ColumnAt::parse(self.block_bytes(page, slot)?, stored, rows);
        let column = Arc::new(parsed.map_err(|e| self.block_error(page, slot, e))?);
        if is_cached {
            self.cache.insert(key, Cached::Single(column.clone()));
        }
        Ok(column)
    }

    /// A row's word of one of the columns that every version has.
    fn word(&self, page: usize, slot: usize, row: u32) -> Result<u64, SegmentError> {
        let word = self.words(page, slot)?.get(row as usize);
        word.map_err(|e| self.block_error(page, slot, e))
    }

    /// One of the columns that every version has.
    fn words(&self, page: usize, slot: usize) -> Result<Arc<WordsAt>, SegmentError> {
        let rows = self.pages()[page].rows as usize;
        let key = self.single_key(page, slot);
        let is_cached = !matches!(self.footer.block(page, slot), BlockRef::Inline { .. });
        if let (true, Some(Cached::Words(words))) = (is_cached, self.cache.get(&key)) {
            return Ok(words);
        }
        let parsed = WordsAt::parse(self.block_bytes(page, slot)?, rows);
        let words = Arc::new(parsed.map_err(|e| self.block_error(page, slot, e))?);
        if is_cached {
            self.cache.insert(key, Cached::Words(words.clone()));
        }
        Ok(words)
    }

    /// The deletes of a page whose other keys come from columns; `None`: it has none.
    fn deletes(&self, page: usize) -> Result<Option<Arc<DeletesAt>>, SegmentError> {
        if !self.pages()[page].has_deletes {
            return Ok(None);
        }
        let key = self.single_key(page, slot::KEY);
        if let Some(Cached::Deletes(deletes)) = self.cache.get(&key) {
            return Ok(Some(deletes));
        }
        let error = |e: BlockError| self.block_error(page, slot::KEY, e);
        let kinds = self.words(page, slot::KIND)?;
        let mut rows = Vec::new();
        for row in 0..self.pages()[page].rows {
            if kinds.get(row as usize).map_err(error)? as u8 != Kind::Put as u8 {
                rows.push(row);
            }
        }
        let block = self.block_bytes(page, slot::KEY)?;
        let keys = ColumnAt::parse(block, &DataType::Bytea, rows.len()).map_err(error)?;
        let deletes = Arc::new(DeletesAt {
            rows: rows.into(),
            keys,
        });
        self.cache.insert(key, Cached::Deletes(deletes.clone()));
        Ok(Some(deletes))
    }

    fn single_key(&self, page: usize, slot: usize) -> CacheKey {
        CacheKey {
            segment: self.meta.id,
            page: page as u32,
            column: slot as u32 | CacheKey::SINGLE,
        }
    }

    /// The bytes of a block; those that stand in the footer are not copied.
    fn block_bytes(&self, page: usize, slot: usize) -> Result<Bytes, SegmentError> {
        match self.footer.block(page, slot) {
            BlockRef::Inline { start, bytes } => {
                let start = start as usize;
                Ok(self.footer.bytes.slice(start..start + bytes as usize))
            }
            block => Ok(self.fetch(block, Some(page))?.into()),
        }
    }
}

/// The rows of a page that are no puts, whose keys stand apart from those that columns give.
#[derive(Debug)]
pub(super) struct DeletesAt {
    rows: Box<[u32]>,
    keys: ColumnAt,
}

impl DeletesAt {
    /// Which of them a row is; `None`: it is a put.
    fn number_of(&self, row: usize) -> Option<usize> {
        self.rows.binary_search(&(row as u32)).ok()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.rows) + self.keys.memory_bytes()
    }
}

/// The sorted rows that compare as equal.
fn equal_range(
    rows: usize,
    mut compare: impl FnMut(usize) -> Result<Ordering, SegmentError>,
) -> Result<Range<u32>, SegmentError> {
    let start = first_not(0..rows, |row| Ok(compare(row)?.is_lt()))?;
    // Most keys have one version.
    let end = match start + 1 < rows && compare(start + 1)?.is_eq() {
        true => first_not(start + 1..rows, |row| Ok(compare(row)?.is_eq()))?,
        false => start + usize::from(start < rows && compare(start)?.is_eq()),
    };
    Ok(start as u32..end as u32)
}

/// The first of some rows of which `is_before`, true for the first ones, is false.
fn first_not(
    rows: Range<usize>,
    mut is_before: impl FnMut(usize) -> Result<bool, SegmentError>,
) -> Result<usize, SegmentError> {
    let (mut low, mut high) = (rows.start, rows.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
