//! A byte-budgeted cache of decoded pages, shared by all segments of a store.
//!
//! Holds decoded columns, encoded keys and key filters under (segment, page,
//! column). Segments are immutable and their ids are never reused, so nothing is
//! ever invalidated; what is not asked for any more falls out (quick_cache's
//! S3-FIFO variant).

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use chronos_model::Keys;
use quick_cache::sync::Cache;
use quick_cache::Weighter;

use super::encoding::{ColumnAt, WordsAt};
use super::SegmentId;

/// Shared cache of decoded pages.
#[derive(Debug)]
pub struct PageCache {
    cache: Cache<CacheKey, Cached, ByBytes>,
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
        };
        bytes as u64 + ENTRY_BYTES
    }
}

impl PageCache {
    /// A cache that holds at most about `budget_bytes`.
    pub fn new(budget_bytes: u64) -> PageCache {
        /// About what a page's column of 2,048 values of 8 bytes takes.
        const TYPICAL_BYTES: u64 = 16 * 1024;
        let items = (budget_bytes / TYPICAL_BYTES).max(16) as usize;
        PageCache {
            cache: Cache::with_weighter(items, budget_bytes, ByBytes),
        }
    }

    /// Bytes held now.
    pub fn memory_bytes(&self) -> u64 {
        self.cache.weight()
    }

    pub(super) fn get(&self, key: &CacheKey) -> Option<Cached> {
        self.cache.get(key)
    }

    pub(super) fn insert(&self, key: CacheKey, value: Cached) {
        self.cache.insert(key, value);
    }
}
