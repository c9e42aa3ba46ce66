//! Versions of single rows, in a skip list that readers walk while the one writer
//! inserts.
//!
//! An entry's position is the row's key followed by the complement of its recorded
//! stamp, big-endian. Keys of one table never are prefixes of each other (text ends
//! with a terminator, all else has fixed length), so this sorts by key ascending and,
//! within a key, newest first; and "the newest version of k at s" is one search for
//! the first entry not before `k, !s`.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chronos_model::{Kind, NodeId, Period, Stamp};
use crossbeam_skiplist::map::Entry;
use crossbeam_skiplist::SkipMap;

const STAMP_BYTES: usize = 8;
/// So many versions of a key are walked before its others are skipped by a search.
const STEPS_BEFORE_SEARCH: usize = 4;
/// What an entry costs besides key and row: node, tower, handles.
const ENTRY_BYTES: u64 = 120;

/// A version's content.
#[derive(Clone, Debug)]
pub(crate) struct RowVersion {
    pub(crate) node: NodeId,
    pub(crate) kind: Kind,
    /// Known to be the first version of its key.
    pub(crate) is_first: bool,
    /// As [`chronos_model::encode_row`] wrote it; empty for a delete.
    pub(crate) row: Bytes,
    /// When it is true; `None`: from when it was recorded until changed.
    pub(crate) valid: Option<Box<Period>>,
}

impl RowVersion {
    /// When it is true, given when it was recorded.
    pub(crate) fn valid_when_recorded(&self, recorded: Stamp) -> Period {
        let open = Period {
            from: recorded.micros(),
            to: Period::UNTIL_CHANGED,
        };
        self.valid.as_deref().copied().unwrap_or(open)
    }
}

pub(crate) type RowEntry<'a> = Entry<'a, Box<[u8]>, RowVersion>;

#[derive(Debug, Default)]
pub(crate) struct Rows {
    map: SkipMap<Box<[u8]>, RowVersion>,
    bytes: AtomicU64,
    /// Erasures included.
    deletes: AtomicU64,
    erasures: AtomicU64,
    /// Versions that are true for a period of their own.
    periods: AtomicU64,
    /// Versions that are not known to be the first of their keys.
    later: AtomicU64,
    /// Stamp of the first version that was added; 0: there is none.
    first_recorded: AtomicU64,
    /// Stamp of the last one; 0: there is none.
    last_recorded: AtomicU64,
}

/// The key part of a position.
pub(crate) fn key_of(position: &[u8]) -> &[u8] {
    &position[..position.len() - STAMP_BYTES]
}

/// The stamp part of a position.
pub(crate) fn recorded_of(position: &[u8]) -> Stamp {
    let mut stamp = [0; STAMP_BYTES];
    stamp.copy_from_slice(&position[position.len() - STAMP_BYTES..]);
    Stamp(!u64::from_be_bytes(stamp))
}

fn position(key: &[u8], recorded: Stamp) -> Vec<u8> {
    let mut position = Vec::with_capacity(key.len() + STAMP_BYTES);
    position.extend_from_slice(key);
    position.extend_from_slice(&(!recorded.0).to_be_bytes());
    position
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn deletes(&self) -> u64 {
        self.deletes.load(Ordering::Relaxed)
    }

    pub(crate) fn has_erasures(&self) -> bool {
        self.erasures.load(Ordering::Relaxed) > 0
    }

    /// Whether versions are true for periods of their own.
    pub(crate) fn has_periods(&self) -> bool {
        self.periods.load(Ordering::Relaxed) > 0
    }

    /// Whether every version is known to be the first of its key.
    pub(crate) fn are_first(&self) -> bool {
        self.later.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Stamp of the earliest version; `MAX`: there is none.
    pub(crate) fn first_recorded(&self) -> Stamp {
        match self.first_recorded.load(Ordering::Relaxed) {
            0 => Stamp::MAX,
            first => Stamp(first),
        }
    }

    /// Stamp of the latest version; `MIN`: there is none.
    pub(crate) fn last_recorded(&self) -> Stamp {
        Stamp(self.last_recorded.load(Ordering::Relaxed))
    }

    /// Adds a version, recorded no earlier than those before; returns the bytes it takes.
    pub(crate) fn insert(&self, key: &[u8], recorded: Stamp, version: RowVersion) -> u64 {
        let position = position(key, recorded).into_boxed_slice();
        let bytes = position.len() as u64 + version.row.len() as u64 + ENTRY_BYTES;
        if self.first_recorded.load(Ordering::Relaxed) == 0 {
            self.first_recorded.store(recorded.0, Ordering::Relaxed);
        }
        self.last_recorded.store(recorded.0, Ordering::Relaxed);
        if version.kind == Kind::Erase {
            self.erasures.fetch_add(1, Ordering::Relaxed);
        }
        if version.kind != Kind::Put {
            self.deletes.fetch_add(1, Ordering::Relaxed);
        }
        if version.valid.is_some() {
            self.periods.fetch_add(1, Ordering::Relaxed);
        }
        if !version.is_first {
            self.later.fetch_add(1, Ordering::Relaxed);
        }
        self.map.insert(position, version);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    /// All versions, by key, newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RowEntry<'_>> {
        self.map.iter()
    }

    /// The newest version of a key that was recorded at or before `view`.
    pub(crate) fn newest(&self, key: &[u8], view: Stamp) -> Option<(Stamp, RowVersion)> {
        let from = position(key, view);
        let entry = self.map.lower_bound(Bound::Included(from.as_slice()))?;
        (key_of(entry.key()) == key).then(|| (recorded_of(entry.key()), entry.value().clone()))
    }

    /// The first entry whose position is at or after `position`.
    pub(crate) fn at_or_after(&self, position: &[u8]) -> Option<RowEntry<'_>> {
        self.map.lower_bound(Bound::Included(position))
    }

    /// The first entry after a position.
    pub(crate) fn after(&self, position: &[u8]) -> Option<RowEntry<'_>> {
        self.map.lower_bound(Bound::Excluded(position))
    }

    /// The newest version that `entry`'s key has at or before a stamp, given that the entry was
    /// recorded later; if there is none, the first entry of the next key.
    pub(crate) fn newest_entry<'a>(
        &'a self,
        entry: RowEntry<'a>,
        at: Stamp,
    ) -> Option<RowEntry<'a>> {
        let first = entry.clone();
        let key = key_of(first.key());
        let mut next = entry;
        for _ in 0..STEPS_BEFORE_SEARCH {
            next = next.next()?;
            if recorded_of(next.key()) <= at || key_of(next.key()) != key {
                return Some(next);
            }
        }
        self.at_or_after(&position(key, at))
    }

    /// The first entry of the key after an entry's.
    pub(crate) fn next_key<'a>(&'a self, entry: RowEntry<'a>) -> Option<RowEntry<'a>> {
        let first = entry.clone();
        let key = key_of(first.key());
        let mut next = entry;
        for _ in 0..STEPS_BEFORE_SEARCH {
            next = next.next()?;
            if key_of(next.key()) != key {
                return Some(next);
            }
        }
        self.after(&position(key, Stamp::MIN))
    }

    /// The first entry within a lower bound of keys.
    pub(crate) fn first(&self, lower: &Bound<Vec<u8>>) -> Option<RowEntry<'_>> {
        match lower {
            Bound::Unbounded => self.map.front(),
            Bound::Included(key) => self.at_or_after(key),
            Bound::Excluded(key) => {
                let mut entry = self.at_or_after(key)?;
                while key_of(entry.key()) == key.as_slice() {
                    entry = entry.next()?;
                }
                Some(entry)
            }
        }
    }

    /// Calls `hit(index, recorded, kind)` for each of the sorted, distinct keys that
    /// is here, with its newest version.
    pub(crate) fn for_each_common(
        &self,
        keys: &chronos_model::Keys,
        mut hit: impl FnMut(usize, Stamp, Kind),
    ) {
        let mut wanted = 0;
        while wanted < keys.len() {
            let Some(entry) = self.at_or_after(keys.get(wanted)) else {
                return;
            };
            let found = key_of(entry.key());
            if found == keys.get(wanted) {
                hit(wanted, recorded_of(entry.key()), entry.value().kind);
                wanted += 1;
            } else {
                wanted = crate::merge::gallop(wanted, keys.len(), |i| keys.get(i) < found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_a_view_may_see_is_found() {
        let rows = Rows::default();
        let version = |text: &'static str| RowVersion {
            node: NodeId(1),
            kind: Kind::Put,
            is_first: false,
            row: Bytes::from_static(text.as_bytes()),
            valid: None,
        };
        rows.insert(b"a", Stamp(5), version("a5"));
        rows.insert(b"a", Stamp(9), version("a9"));
        rows.insert(b"b", Stamp(7), version("b7"));
        let at = |key: &[u8], view| rows.newest(key, Stamp(view)).map(|(s, v)| (s.0, v.row));
        assert_eq!(at(b"a", u64::MAX), Some((9, Bytes::from_static(b"a9"))));
        assert_eq!(at(b"a", 8), Some((5, Bytes::from_static(b"a5"))));
        assert_eq!(at(b"a", 4), None);
        assert_eq!(at(b"b", 7), Some((7, Bytes::from_static(b"b7"))));
        assert_eq!(at(b"c", 7), None);
    }
}
