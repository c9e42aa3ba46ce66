//! A byte-budgeted cache of pages and rows, shared by all segments of a store.
//!
//! Holds decoded columns, encoded keys and key filters, and blocks as they are in the file, under
//! (segment, page, column). Segments are immutable and their ids are never reused, so nothing is
//! ever invalidated; what is not asked for any more falls out (quick_cache's S3-FIFO variant).
//!
//! [Rows](super::row_cache) have a cache of their own, because a page is as large as hundreds of
//! them and would push them out. They may take up to half of the budget; pages have what rows do
//! not take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use chronos_model::{Keys, TableId, TableSchema};
use quick_cache::sync::Cache;
use quick_cache::Weighter;

use super::encoding::{ColumnAt, WordsAt};
use super::point::DeletesAt;
use super::row_cache::{CachedRow, RowCache};
use super::SegmentId;

/// In so many steps rows take from pages what they grow by.
const STEPS: u64 = 32;

/// Shared cache of pages and rows.
#[derive(Debug)]
pub struct PageCache {
    budget_bytes: u64,
    cache: Cache<CacheKey, Cached, ByBytes>,
    rows: RowCache,
    /// Of the [`STEPS`] that the budget has, those that pages left to rows.
    steps_of_rows: AtomicU64,
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
    /// Position of the block in the page; [`CacheKey::FILTER`] for filters.
    pub(super) column: u32,
}

impl CacheKey {
    pub(super) const FILTER: u32 = u32::MAX;
    /// Set in the position of a block that is kept as it is in the file.
    pub(super) const SINGLE: u32 = 1 << 31;
}

#[derive(Clone, Debug)]
pub(super) enum Cached {
    Keys(Arc<Keys>),
    Column(ArrayRef),
    Filter(Arc<[u8]>),
    Single(Arc<ColumnAt>),
    Words(Arc<WordsAt>),
    Deletes(Arc<DeletesAt>),
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
            Cached::Deletes(deletes) => deletes.memory_bytes(),
        };
        bytes as u64 + ENTRY_BYTES
    }
}

impl PageCache {
    /// A cache that holds at most about `budget_bytes`.
    pub fn new(budget_bytes: u64) -> PageCache {
        /// About what a block or a page's column takes.
        const TYPICAL_BYTES: u64 = 8 * 1024;
        let items = (budget_bytes / TYPICAL_BYTES).max(16) as usize;
        PageCache {
            budget_bytes,
            cache: Cache::with_weighter(items, budget_bytes, ByBytes),
            rows: RowCache::new(budget_bytes / 2),
            steps_of_rows: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    /// Bytes held now.
    pub fn memory_bytes(&self) -> u64 {
        self.cache.weight() + self.rows.memory_bytes()
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
        self.rows.get(schema, key)
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
        self.rows.asked_again(table, key)
    }

    /// Takes in a row, in the place of an older one of its key.
    pub(crate) fn insert_row(&self, row: CachedRow) {
        self.rows.insert(row);
        let step = (self.budget_bytes / STEPS).max(1);
        let steps = self.rows.memory_bytes().div_ceil(step);
        if self.steps_of_rows.fetch_max(steps, Ordering::Relaxed) < steps {
            let left = self.budget_bytes.saturating_sub(steps * step);
            self.cache.set_capacity(left.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chronos_model::{Stamp, TableOptions};

    use super::*;

    #[test]
    fn rows_and_pages_share_one_budget() {
        const BUDGET: u64 = 1 << 20;
        let cache = PageCache::new(BUDGET);
        let schema = Arc::new(TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: Vec::new(),
            primary_key: Vec::new(),
            options: TableOptions::default(),
            rules: Default::default(),
            shape: Default::default(),
        });
        let filter = |page: u32| {
            let key = CacheKey {
                segment: SegmentId(1),
                page,
                column: CacheKey::FILTER,
            };
            cache.insert(key, Cached::Filter(vec![0; 4000].into()));
        };
        (0..1000).for_each(filter);
        assert!(cache.memory_bytes() > BUDGET * 9 / 10);
        for i in 0..10_000u32 {
            cache.insert_row(CachedRow {
                schema: schema.clone(),
                key: i.to_be_bytes().into(),
                segment: SegmentId(1),
                recorded: Stamp(1),
                row: Bytes::from_static(&[0; 100]),
            });
            assert!(cache.memory_bytes() <= BUDGET + BUDGET / STEPS);
        }
        (1000..2000).for_each(filter);
        assert!(cache.memory_bytes() <= BUDGET);
        assert!(cache.rows.memory_bytes() > BUDGET * 4 / 10);
        assert!(cache.cache.weight() > BUDGET * 4 / 10);
    }
}
