//! Hashes of content: equal on stores that have applied the same entries, whatever each has flushed
//! and compacted meanwhile; another for every difference that a reader could see.
//!
//! The random histories of `random.rs`, `retention.rs` and `valid_time.rs` end with
//! [`check_replicas`].

use std::path::Path;

use chronos_env::SimEnv;
use chronos_model::{Change, Expect, NodeId, Stamp, TableId, WriteSet};
use chronos_store::{ContentHashes, LogIndex, Store, StoreOptions};

use crate::fixture::*;
use crate::power_cut::build;

/// Numbers that look random.
struct Choice(u64);

impl Choice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Another replica: other pages, other memtables, flushes and compactions at other times.
fn replica(log: &[(LogIndex, Stamp, WriteSet)], node: NodeId, seed: u64) -> Store {
    let mut choice = Choice(seed);
    let mut options = StoreOptions {
        memtable_bytes_max: 1 << (9 + choice.below(8)),
        ..options()
    };
    options.segment.page_rows = 1 + choice.below(30) as usize;
    let env = SimEnv::new(seed).env();
    let open = || Store::open(&env, Path::new("/replica"), options.clone()).unwrap();
    let mut store = open();
    for (index, recorded, set) in log {
        build(&store, set).unwrap();
        // Refused alike by all.
        let _ = store
            .apply_write_set(*index, *recorded, node, set)
            .map_err(|e| assert_ne!(e.sqlstate().0, "XX000", "{e}"));
        let tables: Vec<TableId> = store.catalog().tables.values().map(|t| t.id).collect();
        match choice.below(20) {
            0..4 => store.flush_now().unwrap(),
            4..6 => store.maintain().unwrap(),
            6 => store.compact_now().unwrap(),
            7 => store.compact_tables(&tables, true).unwrap(),
            8 => store.compact_tables(&tables, false).unwrap(),
            9 => {
                store.flush_now().unwrap();
                store = open();
            }
            _ => {}
        }
    }
    store
}

/// Compares a store with another that applies its log, at the end and as of a moment before.
pub(crate) fn check_replicas(
    store: &Store,
    log: &[(LogIndex, Stamp, WriteSet)],
    node: NodeId,
    seed: u64,
) {
    let mut choice = Choice(seed ^ 0x55);
    let last = store.floor();
    let other = replica(log, node, seed);
    for ahead in [0, 7, 45] {
        let retained_at = Stamp::from_micros(last.micros() as u64 + ahead * 10 + 1);
        let entry = choice.below(log.len() as u64) as usize;
        for at in [None, Some(log[entry].1)] {
            let ours = store.content_hashes(at, retained_at).unwrap();
            let theirs = other.content_hashes(at, retained_at).unwrap();
            assert_eq!(ours, theirs, "at {at:?} of {last:?}");
        }
    }
}

/// Compares a store with one that has not applied all of its log, as of its last commit. Nothing
/// may be erased.
pub(crate) fn check_lagging(
    store: &Store,
    log: &[(LogIndex, Stamp, WriteSet)],
    node: NodeId,
    seed: u64,
) {
    let mut choice = Choice(seed ^ 0x77);
    let last = store.floor();
    let some = log.len() - choice.below(log.len() as u64 / 3 + 1) as usize;
    let behind = replica(&log[..some], node, seed.rotate_left(7));
    let retained_at = Stamp::from_micros(last.micros() as u64 + 3);
    let theirs = behind.content_hashes(None, retained_at).unwrap();
    let ours = store.content_hashes(Some(theirs.at), retained_at).unwrap();
    for table in &theirs.tables {
        assert!(table.hash.is_some(), "{table:?}");
        let same = |t: &&chronos_store::TableContent| t.schema == table.schema && t.hash.is_some();
        if let Some(own) = ours.tables.iter().find(same) {
            assert_eq!(own, table, "as of entry {some} of {}", log.len());
        }
    }
}

fn store_with(change: Change) -> (Store, ContentHashes) {
    let store = Store::open(&SimEnv::new(1).env(), Path::new("/s"), options()).unwrap();
    let t = table("t", 1, true);
    let all: Vec<_> = (0..50).map(|n| row(n, n)).collect();
    let changes = [
        Change::CreateTable(table("t", 0, true)),
        batch(&t, Expect::Any, &all),
        change,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let index = i as u64 + 1;
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        };
        store
            .apply_write_set(LogIndex(index), stamp(index), NodeId(1), &set)
            .unwrap();
    }
    let hashes = store.content_hashes(None, stamp(100)).unwrap();
    (store, hashes)
}

/// The table `t`, beside which there may be those of the system.
fn of_t(hashes: &ContentHashes) -> &chronos_store::TableContent {
    let mut tables = hashes.tables.iter();
    tables.find(|table| table.table == TableId(1)).unwrap()
}

#[test]
fn every_difference_gives_another_hash() {
    let t = table("t", 1, true);
    let key = key_of(&t, &row(7, 1));
    let put = |content: u32| change(&key, Expect::Any, Some(&row(7, content)));
    let periods = || {
        let mut change = put(1);
        change.valid = Some(chronos_model::Period { from: 5, to: 9 });
        change
    };
    let changes = [
        rows(t.id, vec![put(1)]),
        rows(t.id, vec![put(2)]),
        rows(t.id, vec![change(&key, Expect::Any, None)]),
        rows(t.id, vec![periods()]),
        rows(t.id, vec![]),
        Change::Truncate(t.id),
    ];
    let all: Vec<ContentHashes> = changes.map(|change| store_with(change).1).into();
    for (i, one) in all.iter().enumerate() {
        for other in &all[..i] {
            assert_ne!(of_t(one).hash, of_t(other).hash);
            assert_eq!(one.catalog, other.catalog);
        }
    }
    let again = store_with(rows(t.id, vec![put(1)])).1;
    assert_eq!(again, all[0]);
    // As of the entry before they are all the same, and another catalog is another.
    let before = |change| {
        store_with(change)
            .0
            .content_hashes(Some(stamp(2)), stamp(100))
    };
    let one = before(rows(t.id, vec![put(1)])).unwrap();
    let other = before(rows(t.id, vec![put(2)])).unwrap();
    assert_eq!(one.tables, other.tables);
    assert_eq!(of_t(&one).versions, 50);
    let created = store_with(Change::CreateTable(table("u", 0, true))).1;
    assert_ne!(created.catalog, one.catalog);
    assert_eq!(created.tables.len(), one.tables.len() + 1);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (store, hashes) = store_with(rows(TableId(1), vec![]));
    let early = store.content_hashes(None, stamp(2)).unwrap_err();
    assert!(
        early.to_string().contains("later than it is asked for"),
        "{early}"
    );
    let late = store.content_hashes(Some(stamp(4)), stamp(9)).unwrap_err();
    assert!(late.to_string().contains("not applied yet"), "{late}");
    assert_eq!(hashes.last, stamp(3));
}
