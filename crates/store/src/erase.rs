//! Erasure: all versions of a key, gone for good.
//!
//! An *erasure* is a version that hides whatever is older of its key, at every system time, also
//! from readers of the time before. So it is enough to write it. A page that holds one counts as
//! recorded before everything: no reader passes it over.
//!
//! The bytes leave the disk when a table is compacted whole: first the current versions, where
//! the erasures are, then runs of history and secondary indexes, which are told of them, and then
//! the erasures themselves, which by then hide nothing.

use std::collections::HashMap;
use std::sync::Arc;

use chronos_model::{IndexSchema, Kind, Stamp, TableSchema};

use crate::error::StoreError;
use crate::state::TableState;

/// The kind of an erasure, as it is stored.
pub(crate) const ERASE: u8 = Kind::Erase as u8;

/// How old an erasure is when it may be forgotten: who began before it and writes what it erased
/// must have been refused by then.
const FORGOTTEN_AFTER_MICROS: i64 = 3_600_000_000;

/// Erasures recorded before may be forgotten when `stamp` is that of the last commit.
pub(crate) fn erased_before(stamp: Stamp) -> Stamp {
    let micros = stamp.micros() - FORGOTTEN_AFTER_MICROS;
    u64::try_from(micros).map_or(Stamp::MIN, Stamp::from_micros)
}

/// Which versions are erased, of a table or of the entries of an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Erased {
    /// What is recorded before is erased, by key.
    before: Arc<HashMap<Box<[u8]>, u64>>,
    /// Of entries: the index, and the table whose keys they end with.
    index: Option<(Arc<IndexSchema>, Arc<TableSchema>)>,
}

impl Erased {
    /// What the erasures in a table's segments erase.
    pub(crate) fn of(table: &TableState) -> Result<Erased, StoreError> {
        let mut before: HashMap<Box<[u8]>, u64> = HashMap::new();
        // What is damaged is not rewritten, and its erasures are not forgotten.
        let whole = table.segments.iter().filter(|s| !s.has_lost_versions());
        for segment in whole {
            for (number, page) in segment.pages().iter().enumerate() {
                if !page.has_cuts() {
                    continue;
                }
                let keys = segment.read_keys(number)?;
                let rows: Vec<u32> = (0..page.rows).collect();
                segment.stamps(number, &rows, |row, recorded, kind| {
                    if kind == ERASE {
                        let last = before.entry(keys.get(row).into()).or_default();
                        *last = recorded.0.max(*last);
                    }
                })?;
            }
        }
        Ok(Erased {
            before: before.into(),
            index: None,
        })
    }

    /// The same for the entries of an index of the table.
    pub(crate) fn entries(&self, index: Arc<IndexSchema>, table: Arc<TableSchema>) -> Erased {
        Erased {
            before: self.before.clone(),
            index: Some((index, table)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// Whether a version is erased.
    pub(crate) fn has(&self, key: &[u8], recorded: Stamp) -> bool {
        self.before(key).is_some_and(|before| recorded.0 < before)
    }

    /// The last of the erasures; `MIN`: there is none.
    pub(crate) fn last(&self) -> Stamp {
        Stamp(self.before.values().copied().max().unwrap_or(0))
    }

    /// The first of them; `MAX`: there is none.
    pub(crate) fn first(&self) -> Stamp {
        Stamp(self.before.values().copied().min().unwrap_or(u64::MAX))
    }

    /// Whether it is the last of the erasures that all this is of.
    pub(crate) fn is_of(&self, key: &[u8], recorded: Stamp) -> bool {
        self.before(key) == Some(recorded.0)
    }

    fn before(&self, key: &[u8]) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let key = match &self.index {
            None => key,
            // An entry that does not read is left to whoever reads it.
            Some((index, table)) => match index.key_start(table, key) {
                Ok(start) => &key[start..],
                Err(_) => return None,
            },
        };
        self.before.get(key).copied()
    }
}

impl TableState {
    /// Whether segments hold erasures.
    pub(crate) fn has_erasures(&self) -> bool {
        let pages = self.segments.iter().flat_map(|segment| segment.pages());
        pages.into_iter().any(|page| page.has_cuts())
    }
}
