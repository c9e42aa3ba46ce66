//! Rows that were asked for by key more than once.
//!
//! A row says which segment it is from. Whoever finds that segment among those it reads knows
//! that it is the newest version there, however old the entry is; for anyone else there is no
//! row. So nothing is ever invalidated, and a row read anew takes the old one's place.
//!
//! Rows are taken in when they are asked for a second time, so that one pass over many keys
//! leaves the rows that are read again and again where they are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{Stamp, TableId, TableSchema};
use quick_cache::sync::Cache;
use quick_cache::Weighter;

use super::{bloom, SegmentId};

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

#[derive(Debug)]
pub(super) struct RowCache {
    cache: Cache<Place, Arc<CachedRow>, ByBytes>,
    /// By some bits of a row's hash, others of the row last asked for.
    asked: Box<[AtomicU32]>,
}

/// Where a row is kept: keys with the same hash take turns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Place {
    table: TableId,
    hash: u64,
}

#[derive(Clone, Debug)]
struct ByBytes;

/// What an entry costs besides key and row: handles, links, the cache's own key.
const ENTRY_BYTES: usize = 112 + size_of::<CachedRow>();

impl Weighter<Place, Arc<CachedRow>> for ByBytes {
    fn weight(&self, _: &Place, row: &Arc<CachedRow>) -> u64 {
        (ENTRY_BYTES + row.key.len() + row.row.len()) as u64
    }
}

impl RowCache {
    /// A cache of at most so many bytes.
    pub(super) fn new(bytes_max: u64) -> RowCache {
        const TYPICAL_BYTES: u64 = 320;
        /// Bytes of the cache for each row that is remembered to have been asked for.
        const BYTES_PER_ASKED: u64 = 256;
        let items = (bytes_max / TYPICAL_BYTES).max(16) as usize;
        let asked = (bytes_max / BYTES_PER_ASKED).clamp(16, 1 << 24);
        RowCache {
            cache: Cache::with_weighter(items, bytes_max, ByBytes),
            asked: (0..asked.next_power_of_two())
                .map(|_| AtomicU32::new(0))
                .collect(),
        }
    }

    /// Bytes held now.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// A row of a table that is stored for this very schema.
    pub(super) fn get(&self, schema: &Arc<TableSchema>, key: &[u8]) -> Option<Arc<CachedRow>> {
        let place = Place {
            table: schema.id,
            hash: bloom::hash(key),
        };
        let found = self.cache.get(&place);
        found.filter(|row| *row.key == *key && Arc::ptr_eq(&row.schema, schema))
    }

    /// Whether a row that is not there was asked for not long ago; notes that it is now.
    pub(super) fn asked_again(&self, table: TableId, key: &[u8]) -> bool {
        let hash = bloom::hash(key) ^ u64::from(table.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = hash as usize & (self.asked.len() - 1);
        let others = (hash >> 32) as u32 | 1;
        self.asked[slot].swap(others, Ordering::Relaxed) == others
    }

    /// Takes in a row, in the place of an older one of its key.
    pub(super) fn insert(&self, row: CachedRow) {
        let place = Place {
            table: row.schema.id,
            hash: bloom::hash(&row.key),
        };
        self.cache.insert(place, Arc::new(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_over_many_rows_is_not_asked_again() {
        let cache = RowCache::new(1 << 20);
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
                rules: Default::default(),
                shape: Default::default(),
            })
        };
        let cache = RowCache::new(1 << 20);
        let (one, changed, other) = (schema(1), schema(1), schema(2));
        cache.insert(CachedRow {
            schema: one.clone(),
            key: b"k".as_slice().into(),
            segment: SegmentId(3),
            recorded: Stamp(5),
            row: Bytes::from_static(b"row"),
        });
        assert_eq!(cache.get(&one, b"k").unwrap().row.as_ref(), b"row");
        assert!(cache.get(&one, b"l").is_none());
        assert!(cache.get(&changed, b"k").is_none());
        assert!(cache.get(&other, b"k").is_none());
    }
}
