//! Reads by key: what the row cache holds, and for whom.

use std::path::Path;
use std::sync::Arc;

use chronos_env::SimEnv;
use chronos_model::{Change, Expect, NodeId, Stamp, TableSchema, Value, WriteSet};
use chronos_store::{LogIndex, ReadView, Store};

use crate::fixture::*;

const NODE: NodeId = NodeId(1);
const ROWS: u32 = 600;

struct World {
    store: Store,
    table: Arc<TableSchema>,
    index: u64,
}

impl World {
    /// A table of which all rows are in one segment.
    fn new() -> World {
        let sim = SimEnv::new(1);
        let store = Store::open(&sim.env(), Path::new("/s"), options()).unwrap();
        let table = Arc::new(table("t", 1, true));
        let mut world = World {
            store,
            table: table.clone(),
            index: 0,
        };
        let all: Vec<_> = (0..ROWS).map(|n| row(n, 1)).collect();
        world.apply(Change::CreateTable((*table).clone()));
        world.apply(batch(&table, Expect::Absent, &all));
        world.store.flush_now().unwrap();
        world
    }

    fn apply(&mut self, change: Change) {
        self.index += 1;
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        };
        let index = LogIndex(self.index);
        let done = self
            .store
            .apply_write_set(index, stamp(self.index), NODE, &set);
        done.unwrap();
    }

    fn update(&mut self, n: u32, content: u32) {
        let values = row(n, content);
        let change = change(&key_of(&self.table, &values), Expect::Any, Some(&values));
        self.apply(rows(self.table.id, vec![change]));
    }

    fn get(&self, view: &ReadView, n: u32) -> Vec<Value> {
        let found = view.get(&self.table, &key_of(&self.table, &row(n, 0)));
        found.unwrap().unwrap().row.all_values().unwrap()
    }

    fn row_hits(&self) -> u64 {
        self.store.stats().cache.row_hits
    }
}

#[test]
fn a_row_that_is_asked_for_again_is_kept() {
    let world = World::new();
    let view = world.store.read_view();
    let mut reads = (0..4).map(|_| {
        assert_eq!(world.get(&view, 7), row(7, 1));
        world.row_hits()
    });
    // Looked for, looked for and kept, there, there.
    assert_eq!(reads.by_ref().collect::<Vec<_>>(), [0, 0, 1, 2]);
}

#[test]
fn one_pass_over_all_rows_keeps_none() {
    let world = World::new();
    let view = world.store.read_view();
    (0..ROWS).for_each(|n| assert_eq!(world.get(&view, n), row(n, 1)));
    assert_eq!(
        (world.row_hits(), world.store.stats().cache.row_misses),
        (0, u64::from(ROWS))
    );
}

#[test]
fn a_kept_row_is_for_those_who_read_its_segment() {
    let mut world = World::new();
    let before = world.store.read_view();
    (0..3).for_each(|_| assert_eq!(world.get(&before, 7), row(7, 1)));
    world.update(7, 2);
    let in_memory = world.store.read_view();
    assert_eq!(world.get(&in_memory, 7), row(7, 2));
    world.store.flush_now().unwrap();
    let flushed = world.store.read_view();
    (0..3).for_each(|_| assert_eq!(world.get(&flushed, 7), row(7, 2)));
    // The row of the new segment has taken the place of the old one's: who does not read that
    // segment looks for its own.
    (0..3).for_each(|_| assert_eq!(world.get(&before, 7), row(7, 1)));
    assert_eq!(world.get(&in_memory, 7), row(7, 2));
    world.store.compact_now().unwrap();
    for view in [&world.store.read_view(), &flushed, &in_memory] {
        (0..3).for_each(|_| assert_eq!(world.get(view, 7), row(7, 2)));
    }
    assert_eq!(world.get(&before, 7), row(7, 1));
    world.apply(Change::Truncate(world.table.id));
    let truncated = world.store.read_view();
    let key = key_of(&world.table, &row(7, 0));
    assert!(truncated.get(&world.table, &key).unwrap().is_none());
}
