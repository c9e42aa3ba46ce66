//! Indexes on several nodes: each builds by itself, the log says when one moves on, and whoever has
//! not built it by then comes to the same answers all the same.

use std::path::Path;

use chronos_env::{Env, SimEnv};
use chronos_model::{
    Change, Expect, IndexSchema, IndexState, NodeId, Stamp, TableId, Uniqueness, Value, WriteSet,
};
use chronos_store::{ApplyError, LogIndex, Store, VersionFilter};

use crate::fixture::*;
use crate::index::plain;

const NODE: NodeId = NodeId(3);
const TABLE: TableId = TableId(1);
const INDEX: TableId = TableId(2);

/// What the nodes apply, entry by entry.
fn log() -> Vec<Vec<Change>> {
    let t = table("t", 1, true);
    let put = |n: u32, s: &str, expect| {
        let mut values = row(n, 0);
        values[3] = Value::Text(s.into());
        let row = change(&key_of(&t, &values), expect, Some(&values));
        vec![rows(TABLE, vec![row])]
    };
    let unique = IndexSchema {
        unique: Uniqueness::Index,
        ..plain("u", &t, &[3])
    };
    vec![
        vec![Change::CreateTable(table("t", 0, true))],
        put(1, "x", Expect::Any),
        put(2, "y", Expect::Any),
        vec![Change::CreateIndex(unique)],
        put(3, "z", Expect::Any),
        vec![Change::SetIndexState(INDEX, IndexState::Checking)],
        // Values from before and after the index was created are taken.
        put(4, "x", Expect::Absent),
        put(5, "z", Expect::Absent),
        put(6, "new", Expect::Absent),
        vec![Change::SetIndexState(INDEX, IndexState::Valid)],
        put(7, "y", Expect::DistinctOrSkip),
        put(8, "new", Expect::Absent),
        put(9, "newer", Expect::Absent),
        // Another leader's word, that comes late.
        vec![Change::GiveUpIndex(INDEX)],
        vec![Change::SetIndexState(INDEX, IndexState::Checking)],
        put(10, "newer", Expect::Absent),
    ]
}

struct Follower {
    env: Env,
    store: Store,
    answers: Vec<String>,
}

impl Follower {
    fn new() -> Follower {
        let env = SimEnv::new(1).env();
        let store = Store::open(&env, Path::new("/s"), options()).unwrap();
        Follower {
            env,
            store,
            answers: Vec::new(),
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: changes.to_vec(),
        };
        let index = self.store.applied_index().next();
        let applied = self
            .store
            .apply_write_set(index, stamp(index.0), NODE, &set);
        self.answers.push(format!("{applied:?}"));
    }

    fn restart(&mut self) {
        self.store.close();
        self.store = Store::open(&self.env, Path::new("/s"), options()).unwrap();
        for (i, changes) in log().iter().enumerate() {
            let index = LogIndex(i as u64 + 1);
            if index > self.store.applied_index() && i < self.answers.len() {
                let begin = Stamp::MAX;
                let changes = changes.clone();
                let set = WriteSet { begin, changes };
                let applied = self
                    .store
                    .apply_write_set(index, stamp(index.0), NODE, &set);
                assert_eq!(self.answers[i], format!("{applied:?}"), "replayed");
            }
        }
    }

    fn state(&self) -> IndexState {
        self.store.catalog().index_by_id(INDEX).unwrap().state
    }

    /// All rows, and how many entries the index has of them.
    fn rows(&self) -> (Vec<Shown>, u64) {
        let view = self.store.read_view();
        let table = view.catalog().table("t").unwrap().clone();
        let shown = scan(&view, &table, request(VersionFilter::Current));
        let index = view.catalog().index_by_id(INDEX).unwrap().clone();
        let everything = [chronos_store::KeyRange::ALL];
        (shown, view.count_entries(&index, &everything, 100).unwrap())
    }
}

#[test]
fn an_index_that_was_not_built_lacks_the_entries_of_versions_from_before() {
    let log = log();
    let mut follower = Follower::new();
    log[..5].iter().for_each(|changes| follower.apply(changes));
    let found = |store: &Store| {
        let view = store.read_view();
        let index = view.catalog().index_by_id(INDEX).unwrap().clone();
        let found = view.check_index(&index).unwrap();
        (found.entries, found.missing)
    };
    // x and y are from before it was created, z is from after.
    assert_eq!(found(&follower.store), (3, 2));
    follower.store.build_index(INDEX).unwrap();
    assert_eq!(found(&follower.store), (3, 0));
    log[5..].iter().for_each(|changes| follower.apply(changes));
    follower.store.flush_now().unwrap();
    follower.store.compact_now().unwrap();
    let (entries, missing) = found(&follower.store);
    assert!(entries > 3 && missing == 0, "{missing} of {entries}");
}

#[test]
fn who_has_not_built_an_index_by_the_time_it_moves_on_answers_like_who_has() {
    let log = log();
    let mut leader = Follower::new();
    for (i, changes) in log.iter().enumerate() {
        if i == 5 {
            leader.store.build_index(INDEX).unwrap();
        }
        leader.apply(changes);
    }
    let answered = |text: &str| leader.answers.iter().filter(|a| a.contains(text)).count();
    assert_eq!((answered("UniqueViolation"), answered("Err")), (4, 4));
    assert_eq!(leader.state(), IndexState::Valid, "it was not given up");
    let (rows, entries) = leader.rows();
    assert_eq!((rows.len(), entries), (5, 5));
    for restarted_at in 0..=log.len() {
        let mut follower = Follower::new();
        for (i, changes) in log.iter().enumerate() {
            if i == restarted_at {
                follower.store.flush_now().unwrap();
                follower.restart();
            }
            if i + 1 == restarted_at {
                // Without a flush: what was built is built once, or again.
                follower.restart();
            }
            follower.apply(changes);
        }
        assert_eq!(follower.answers, leader.answers);
        assert_eq!(
            (follower.rows(), follower.state()),
            (leader.rows(), IndexState::Valid)
        );
    }
}

#[test]
fn who_builds_while_it_moves_on_is_waited_for() {
    let log = log();
    let mut expected = Follower::new();
    log.iter().for_each(|changes| expected.apply(changes));
    for _ in 0..20 {
        let mut follower = Follower::new();
        log[..5].iter().for_each(|changes| follower.apply(changes));
        let building = follower.store.clone();
        let builder = std::thread::spawn(move || building.build_index(INDEX));
        log[5..].iter().for_each(|changes| follower.apply(changes));
        builder.join().unwrap().unwrap();
        assert_eq!(follower.answers, expected.answers);
        assert_eq!(follower.rows(), expected.rows());
    }
}

#[test]
fn an_index_that_is_not_complete_can_be_given_up() {
    let log = log();
    let mut node = Follower::new();
    log[..6].iter().for_each(|changes| node.apply(changes));
    assert_eq!(node.state(), IndexState::Checking);
    node.apply(&[Change::GiveUpIndex(INDEX)]);
    assert!(node.store.catalog().index_by_id(INDEX).is_none());
    let set = WriteSet {
        begin: Stamp::MAX,
        changes: vec![Change::SetIndexState(INDEX, IndexState::Valid)],
    };
    let index = node.store.applied_index().next();
    let late = node
        .store
        .apply_write_set(index, stamp(index.0), NODE, &set);
    assert!(matches!(late, Err(ApplyError::UnknownIndex { id }) if id == INDEX));
}
