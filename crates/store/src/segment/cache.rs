//! A byte-budgeted cache of pages and rows, shared by all segments of a store.
//!
//! Holds decoded columns, encoded keys and key filters, and blocks as they are in the file, under
//! (segment, page, column); and rows under (table, key). Segments are immutable and their ids are never
//! reused, so nothing is ever invalidated; what is not asked for any more falls out
//! (quick_cache's S3-FIFO variant).
//!
//! A row says which segment it is from. Whoever finds that segment among those it reads knows
//! that it is the newest version there, however old the entry is; for anyone else there is no
//! row. Rows are taken in when they are asked for a second time, so that one pass over many
//! keys leaves the rows that are read again and again where they are.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use bytes::Bytes;
use chronos_model::{Keys, Stamp, TableId, TableSchema};
use quick_cache::sync::Cache;
use quick_cache::Weighter;

use super::encoding::{ColumnAt, WordsAt};
use super::{bloom, SegmentId};

/// Shared cache of pages and rows.
#[derive(Debug)]
pub struct PageCache {
    cache: Cache<CacheKey, Cached, ByBytes>,
    /// By some bits of a row's hash, others of the row last asked for.
    asked: Box<[AtomicU32]>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    page_hits: AtomicU64,
    page_misses: AtomicU64,
    row_hits: AtomicU64,
    row_misses: AtomicU64,
}

/// How often something was there, and was not, since the cache was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheCounts {
    /// Parts of pages that were there.
    pub page_hits: u64,
    /// Parts of pages that had to be read.
    pub page_misses: u64,
    /// Rows that were there.
    pub row_hits: u64,
    /// Rows that had to be looked for in segments.
    pub row_misses: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct CacheKey {
    pub(super) segment: SegmentId,
    /// Page, or group for filters.
    pub(super) page: u32,
    /// Position of the block in the page, or what else it is.
    pub(super) column: u32,
}

impl CacheKey {
    /// A key filter.
    pub(super) const FILTER: u32 = u32::MAX;
    /// A row: the hash of its key stands for the segment, the table for the page.
    const ROW: u32 = u32::MAX - 1;
    /// Set in the position of a block that is kept as it is in the file.
    pub(super) const SINGLE: u32 = 1 << 31;

    fn of_row(table: TableId, hash: u64) -> CacheKey {
        CacheKey {
            segment: SegmentId(hash),
            page: table.0,
            column: CacheKey::ROW,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Cached {
    Keys(Arc<Keys>),
    Column(ArrayRef),
    Filter(Arc<[u8]>),
    Single(Arc<ColumnAt>),
    Words(Arc<WordsAt>),
    Row(Arc<CachedRow>),
}

/// The newest version of a key in a segment: a put.
#[derive(Debug)]
pub(crate) struct CachedRow {
    /// The table as the row is encoded for.
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) key: Box<[u8]>,
    pub(crate) segment: SegmentId,
    pub(crate) recorded: Stamp,
    /// As [`chronos_model::encode_row`] wrote it.
    pub(crate) row: Bytes,
}

#[derive(Clone, Debug)]
struct ByBytes;

/// What an entry costs besides its content: key, handle, links.
const ENTRY_BYTES: u64 = 128;

impl Weighter<CacheKey, Cached> for ByBytes {
    fn weight(&self, _: &CacheKey, value: &Cached) -> u64 {
        let bytes = match value {
            Cached::Keys(keys) => keys.memory_bytes(),
            Cached::Column(array) => array.get_array_memory_size(),
            Cached::Filter(bytes) => bytes.len(),
            Cached::Single(column) => column.memory_bytes(),
            Cached::Words(words) => words.memory_bytes(),
            Cached::Row(row) => size_of::<CachedRow>() + row.key.len() + row.row.len(),
        };
        bytes as u64 + ENTRY_BYTES
    }
}

impl PageCache {
    /// A cache that holds at most about `budget_bytes`.
    pub fn new(budget_bytes: u64) -> PageCache {
        /// About what a page's column of 2,048 values of 8 bytes takes.
        const TYPICAL_BYTES: u64 = 16 * 1024;
        /// Bytes for each row that is remembered to have been asked for.
        const BYTES_PER_ASKED: u64 = 512;
        let items = (budget_bytes / TYPICAL_BYTES).max(16) as usize;
        let asked = (budget_bytes / BYTES_PER_ASKED).clamp(16, 1 << 24);
        PageCache {
            cache: Cache::with_weighter(items, budget_bytes, ByBytes),
            asked: (0..asked.next_power_of_two())
                .map(|_| AtomicU32::new(0))
                .collect(),
            counts: Counts::default(),
        }
    }

    /// Bytes held now.
    pub fn memory_bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// How often it helped.
    pub fn counts(&self) -> CacheCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheCounts {
            page_hits: get(&self.counts.page_hits),
            page_misses: get(&self.counts.page_misses),
            row_hits: get(&self.counts.row_hits),
            row_misses: get(&self.counts.row_misses),
        }
    }

    pub(super) fn get(&self, key: &CacheKey) -> Option<Cached> {
        let found = self.cache.get(key);
        let count = match found {
            Some(_) => &self.counts.page_hits,
            None => &self.counts.page_misses,
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// The same, of which nobody keeps count.
    pub(super) fn peek(&self, key: &CacheKey) -> Option<Cached> {
        self.cache.get(key)
    }

    pub(super) fn insert(&self, key: CacheKey, value: Cached) {
        self.cache.insert(key, value);
    }

    /// A row of a table that is stored for this very schema.
    pub(crate) fn row(&self, schema: &Arc<TableSchema>, key: &[u8]) -> Option<Arc<CachedRow>> {
        let found = self
            .cache
            .get(&CacheKey::of_row(schema.id, bloom::hash(key)));
        match found {
            Some(Cached::Row(row)) if *row.key == *key && Arc::ptr_eq(&row.schema, schema) => {
                Some(row)
            }
            _ => None,
        }
    }

    /// Keeps count of looks for rows.
    pub(crate) fn note_row(&self, was_there: bool) {
        let count = match was_there {
            true => &self.counts.row_hits,
            false => &self.counts.row_misses,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a row that is not there was asked for not long ago; notes that it is now.
    pub(crate) fn asked_again(&self, table: TableId, key: &[u8]) -> bool {
        let hash = bloom::hash(key) ^ u64::from(table.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = hash as usize & (self.asked.len() - 1);
        let others = (hash >> 32) as u32 | 1;
        self.asked[slot].swap(others, Ordering::Relaxed) == others
    }

    /// Takes in a row, in the place of an older one of its key.
    pub(crate) fn insert_row(&self, row: CachedRow) {
        let key = CacheKey::of_row(row.schema.id, bloom::hash(&row.key));
        self.cache.insert(key, Cached::Row(Arc::new(row)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_over_many_rows_is_not_asked_again() {
        let cache = PageCache::new(1 << 20);
        let key = |i: u32| i.to_be_bytes();
        assert!(!(0..100_000).any(|i| cache.asked_again(TableId(1), &key(i))));
        assert!(!cache.asked_again(TableId(1), &key(7)));
        assert!(cache.asked_again(TableId(1), &key(7)));
        assert!(!cache.asked_again(TableId(2), &key(7)));
    }

    #[test]
    fn a_row_is_there_for_its_key_and_its_schema_only() {
        let schema = |id| {
            Arc::new(TableSchema {
                id: TableId(id),
                name: "t".into(),
                columns: Vec::new(),
                primary_key: Vec::new(),
                options: chronos_model::TableOptions::default(),
            })
        };
        let cache = PageCache::new(1 << 20);
        let (one, changed, other) = (schema(1), schema(1), schema(2));
        cache.insert_row(CachedRow {
            schema: one.clone(),
            key: b"k".as_slice().into(),
            segment: SegmentId(3),
            recorded: Stamp(5),
            row: Bytes::from_static(b"row"),
        });
        assert_eq!(cache.row(&one, b"k").unwrap().row.as_ref(), b"row");
        assert!(cache.row(&one, b"l").is_none());
        assert!(cache.row(&changed, b"k").is_none());
        assert!(cache.row(&other, b"k").is_none());
    }
}
