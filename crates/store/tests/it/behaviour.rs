//! What single operations do, each in a few lines, on a real directory where threads
//! are involved.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronos_env::{Disk, Env, SimEnv};
use chronos_model::{Change, Expect, Kind, NodeId, SqlState, Stamp, TableId, Value, WriteSet};
use chronos_store::{
    ApplyError, LogIndex, ScanColumn, ScanRequest, Store, StoreError, StoreOptions, VersionFilter,
};

use crate::fixture::*;

const NODE: NodeId = NodeId(1);

struct World {
    sim: SimEnv,
    store: Store,
    index: u64,
}

impl World {
    fn new() -> World {
        let sim = SimEnv::new(1);
        let store = Store::open(&sim.env(), Path::new("/s"), options()).unwrap();
        let mut world = World {
            sim,
            store,
            index: 0,
        };
        world
            .apply(vec![Change::CreateTable(table("t", 0, true))])
            .unwrap();
        world
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<chronos_store::Applied, ApplyError> {
        self.apply_since(Stamp::MAX, changes)
    }

    fn apply_since(
        &mut self,
        begin: Stamp,
        changes: Vec<Change>,
    ) -> Result<chronos_store::Applied, ApplyError> {
        self.index += 1;
        let set = WriteSet { begin, changes };
        self.store
            .apply_write_set(LogIndex(self.index), stamp(self.index), NODE, &set)
    }

    fn put(&mut self, n: u32, expect: Expect) -> Result<chronos_store::Applied, ApplyError> {
        let t = table("t", 1, true);
        let values = row(n, 1);
        let change = change(&key_of(&t, &values), expect, Some(&values));
        self.apply(vec![rows(t.id, vec![change])])
    }
}

#[test]
fn a_second_insert_of_a_key_names_constraint_and_values() {
    let mut world = World::new();
    world.put(4, Expect::Absent).unwrap();
    for _ in 0..2 {
        let error = world.put(4, Expect::Absent).unwrap_err();
        assert_eq!(error.sqlstate(), SqlState::UNIQUE_VIOLATION);
        let ApplyError::UniqueViolation {
            table,
            constraint,
            key,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((table.as_str(), constraint.as_str()), ("t", "t_pkey"));
        assert_eq!(key, [Value::Text("x".into()), Value::Int8(1)]);
        // The same when the row is in a segment.
        world.store.flush_now().unwrap();
    }
    assert_eq!(
        world.put(4, Expect::AbsentOrSkip).unwrap().skipped_rows,
        [0]
    );
}

#[test]
fn a_refused_write_set_changes_nothing() {
    let mut world = World::new();
    world.put(1, Expect::Any).unwrap();
    let t = table("t", 1, true);
    let new: Vec<_> = (10..200).map(|n| row(n, n)).collect();
    let again = row(1, 2);
    let error = world.apply(vec![
        Change::CreateTable(table("v", 0, true)),
        batch(&t, Expect::Absent, &new),
        rows(
            t.id,
            vec![change(&key_of(&t, &again), Expect::Absent, Some(&again))],
        ),
    ]);
    assert!(matches!(error, Err(ApplyError::UniqueViolation { .. })));
    let view = world.store.read_view();
    assert!(view.catalog().table("v").is_none());
    assert_eq!(view.stamp(), stamp(world.index), "its stamp is used up");
    let t = view.catalog().table("t").unwrap().clone();
    assert_eq!(scan(&view, &t, request(VersionFilter::All)).len(), 1);
}

#[test]
fn a_change_since_the_begin_is_a_conflict() {
    let mut world = World::new();
    world.put(1, Expect::Any).unwrap();
    let begin = stamp(world.index);
    let t = table("t", 1, true);
    let key = key_of(&t, &row(1, 0));
    let update = || vec![rows(t.id, vec![change(&key, Expect::Unchanged, None)])];
    world.apply_since(begin, update()).unwrap();
    let error = world.apply_since(begin, update()).unwrap_err();
    assert_eq!(error.sqlstate(), SqlState::SERIALIZATION_FAILURE);
    let begin = stamp(world.index);
    world.apply(vec![Change::Truncate(t.id)]).unwrap();
    let error = world.apply_since(begin, update()).unwrap_err();
    assert!(matches!(error, ApplyError::Conflict { .. }));
}

#[test]
fn a_truncated_table_is_empty_now_and_full_before() {
    let mut world = World::new();
    let t = table("t", 1, true);
    let all: Vec<_> = (0..100).map(|n| row(n, n)).collect();
    world.apply(vec![batch(&t, Expect::Any, &all)]).unwrap();
    let before = stamp(world.index);
    world.store.flush_now().unwrap();
    let again = row(5, 5);
    let again = change(&key_of(&t, &again), Expect::Absent, Some(&again));
    world
        .apply(vec![Change::Truncate(t.id), rows(t.id, vec![again])])
        .unwrap();
    for _ in 0..2 {
        let view = world.store.read_view();
        let count = |filter| scan(&view, &Arc::new(t.clone()), request(filter)).len();
        assert_eq!(count(VersionFilter::Current), 1);
        assert_eq!(count(VersionFilter::AsOf(before)), 100);
        assert_eq!(count(VersionFilter::All), 101);
        let gone = key_of(&t, &row(6, 0));
        assert!(view.get(&t, &gone).unwrap().is_none());
        let newest = view.newest(&t, &gone).unwrap();
        assert_eq!(newest, Some((stamp(world.index), Kind::Delete)));
        world.store.flush_now().unwrap();
    }
}

/// The files of history of a table with hot keys are unreadable here, and nobody who
/// reads the present notices; who reads the past does.
#[test]
fn who_reads_the_present_opens_no_history() {
    let mut world = World::new();
    let t = Arc::new(table("t", 1, true));
    let mut before = stamp(0);
    for content in 0..50 {
        let all: Vec<_> = (0..100).map(|n| row(n, content)).collect();
        world.apply(vec![batch(&t, Expect::Any, &all)]).unwrap();
        if content == 20 {
            before = stamp(world.index);
        }
        if content % 10 == 9 {
            world.store.flush_now().unwrap();
        }
    }
    world.store.compact_now().unwrap();
    let stats = world.store.stats();
    assert_eq!((stats.segments, stats.segment_rows), (2, 5000));
    assert_eq!(stats.history_rows, 4900);

    let disk = world.sim.env().disk;
    let dir = Path::new("/s/segments");
    let names = disk.read_dir(dir).unwrap();
    let sizes = names.iter().map(|name| {
        let path = dir.join(name);
        (disk.read(&path).unwrap().len(), path)
    });
    let (bytes, history) = sizes.max().unwrap();
    let file = disk.open_write(&history).unwrap();
    file.write_at(&vec![0xff; bytes / 2], 16).unwrap();

    let view = world.store.read_view();
    assert_eq!(scan(&view, &t, request(VersionFilter::Current)).len(), 100);
    let now = VersionFilter::AsOf(stamp(world.index));
    assert_eq!(scan(&view, &t, request(now)).len(), 100);
    let key = key_of(&t, &row(7, 0));
    assert!(view.get(&t, &key).unwrap().is_some());
    let again = row(7, 7);
    let again = rows(t.id, vec![change(&key, Expect::Absent, Some(&again))]);
    assert!(matches!(
        world.apply(vec![again]),
        Err(ApplyError::UniqueViolation { .. })
    ));
    let past = view.scan(&t, request(VersionFilter::AsOf(before))).unwrap();
    assert!(past.into_iter().flatten().any(|batch| batch.is_err()));
}

#[test]
fn a_view_outlives_compaction_and_drop() {
    let mut world = World::new();
    let t = Arc::new(table("t", 1, true));
    for content in 0..3 {
        let all: Vec<_> = (0..100).map(|n| row(n, content)).collect();
        world.apply(vec![batch(&t, Expect::Any, &all)]).unwrap();
        world.store.flush_now().unwrap();
    }
    let files = |world: &World| {
        let disk = world.sim.env().disk;
        disk.read_dir(Path::new("/s/segments")).unwrap().len()
    };
    let view = world.store.read_view();
    let partitions = view.scan(&t, request(VersionFilter::All)).unwrap();
    drop(view);
    world.store.compact_now().unwrap();
    // One of newest versions and one of history, beside the three.
    assert_eq!(files(&world), 5, "the view still needs three");
    world.apply(vec![Change::DropTable(t.id)]).unwrap();
    world.store.flush_now().unwrap();
    let rows: usize = partitions
        .into_iter()
        .flatten()
        .map(|b| b.unwrap().num_rows())
        .sum();
    assert_eq!(rows, 300);
    assert_eq!(files(&world), 0);
    assert!(matches!(
        world.store.read_view().scan(&t, ScanRequest::default()),
        Err(StoreError::UnknownTable { .. })
    ));
}

#[test]
fn out_of_order_entries_are_refused() {
    let world = World::new();
    let empty = WriteSet::default();
    let apply = |index, recorded| {
        world
            .store
            .apply_write_set(LogIndex(index), recorded, NODE, &empty)
    };
    assert!(matches!(
        apply(1, stamp(9)),
        Err(ApplyError::Storage(StoreError::IndexOrder { .. }))
    ));
    assert!(matches!(
        apply(2, stamp(1)),
        Err(ApplyError::Storage(StoreError::StampOrder { .. }))
    ));
    world.store.skip(LogIndex(2), Stamp::MIN).unwrap();
    apply(3, stamp(3)).unwrap();
}

#[test]
fn what_does_not_fit_the_table_is_refused() {
    let mut world = World::new();
    let t = table("t", 1, true);
    let mut other = table("t", 1, true);
    other.columns.pop();
    let three: Vec<_> = vec![row(1, 1)[..3].to_vec()];
    let error = world.apply(vec![batch(&other, Expect::Any, &three)]);
    assert!(matches!(error, Err(ApplyError::Shape { .. })));
    let mut nullable = t.clone();
    nullable.columns[0].nullable = true;
    let mut null = row(1, 1);
    null[0] = Value::Null;
    let error = world
        .apply(vec![batch(&nullable, Expect::Any, &[null])])
        .unwrap_err();
    assert_eq!(error.sqlstate(), SqlState::NOT_NULL_VIOLATION);
    let unknown = table("z", 9, true);
    let error = world.apply(vec![batch(&unknown, Expect::Any, &[row(1, 1)])]);
    assert!(matches!(
        error,
        Err(ApplyError::UnknownTable { id: TableId(9) })
    ));
    let keyless = change(&[], Expect::Any, Some(&row(1, 1)));
    let error = world.apply(vec![rows(t.id, vec![keyless])]);
    // It was made before the table was given a key.
    assert!(matches!(error, Err(ApplyError::Conflict { .. })));
}

#[test]
fn a_lost_manifest_does_not_take_the_segments_with_it() {
    let mut world = World::new();
    world.put(1, Expect::Any).unwrap();
    world.store.flush_now().unwrap();
    world.store.close();
    let disk = world.sim.env().disk;
    for name in disk.read_dir(Path::new("/s")).unwrap() {
        if name.starts_with("manifest") {
            disk.remove_file(&Path::new("/s").join(name)).unwrap();
        }
    }
    let open = || Store::open(&world.sim.env(), Path::new("/s"), options());
    assert!(matches!(open(), Err(StoreError::Missing { .. })));
    // Nor does a second try.
    assert!(matches!(open(), Err(StoreError::Missing { .. })));
    assert_eq!(disk.read_dir(Path::new("/s/segments")).unwrap().len(), 1);
}

/// A flush writes a segment per table. One that fails between them is tried again, each second
/// on a full disk.
#[test]
fn a_failed_flush_leaves_no_files() {
    let mut failed = 0;
    for writes in 0.. {
        let world = two_tables();
        let disk = &world.sim.disk;
        disk.fill_after_write_points(disk.write_points() + writes);
        let flushed = world.store.flush_now();
        disk.clear_faults();
        let files = disk.read_dir(Path::new("/s/segments")).unwrap();
        let Err(error) = flushed else {
            assert_eq!(files.len(), 2);
            break;
        };
        assert_eq!(error.sqlstate(), SqlState::DISK_FULL, "{error}");
        // Unless the manifest was under way, for then nobody knows what it names.
        if world.store.flush_now().is_ok() {
            assert_eq!(files, [""; 0], "after {writes} writes");
            failed += 1;
        }
    }
    assert!(failed > 2, "{failed}");
}

/// Tables `t` and `u` with a row each, in memory.
fn two_tables() -> World {
    let mut world = World::new();
    let u = table("u", 2, true);
    world
        .apply(vec![Change::CreateTable(table("u", 0, true))])
        .unwrap();
    world.put(1, Expect::Any).unwrap();
    let values = row(1, 1);
    let in_u = change(&key_of(&u, &values), Expect::Any, Some(&values));
    world.apply(vec![rows(u.id, vec![in_u])]).unwrap();
    world
}

#[test]
fn damage_names_the_file() {
    let mut world = World::new();
    world.put(1, Expect::Any).unwrap();
    world.store.flush_now().unwrap();
    world.store.close();
    let disk = world.sim.env().disk;
    let names = disk.read_dir(Path::new("/s")).unwrap();
    let manifest = names.iter().find(|n| n.starts_with("manifest")).unwrap();
    let path = Path::new("/s").join(manifest);
    world.sim.disk.flip_bits(&path, 40, 1).unwrap();
    let error = Store::open(&world.sim.env(), Path::new("/s"), options()).unwrap_err();
    assert!(error.to_string().contains(manifest), "{error}");
    assert_eq!(error.sqlstate(), SqlState::DATA_CORRUPTED);
}

#[test]
fn pages_outside_the_column_bounds_are_not_read() {
    let mut world = World::new();
    let t = Arc::new(table("t", 1, true));
    let all: Vec<_> = (0..300).map(|n| row(n * 3, n)).collect();
    world.apply(vec![batch(&t, Expect::Any, &all)]).unwrap();
    world.store.flush_now().unwrap();
    let view = world.store.read_view();
    let bounds = |column: usize, low: Value, high: Value| {
        let request = ScanRequest {
            columns: vec![ScanColumn::Column(0)],
            column_bounds: vec![(column, Some(low), Some(high))],
            ..ScanRequest::default()
        };
        let partitions = view.scan(&t, request).unwrap().into_iter().flatten();
        partitions.map(|b| b.unwrap().num_rows()).sum::<usize>()
    };
    // Column a is 0, 1, 2 .. in pages of 16; so is column v but for its NULLs.
    assert_eq!(bounds(0, Value::Int8(20), Value::Int8(40)), 32);
    assert_eq!(bounds(0, Value::Int8(1000), Value::Int8(2000)), 0);
    assert_eq!(bounds(2, Value::Float8(20.0), Value::Float8(40.0)), 32);
    // A newer version elsewhere must not be overlooked because its page is outside.
    let newer = row(21 * 3, 1000);
    let newer = change(&key_of(&t, &newer), Expect::Any, Some(&newer));
    world.apply(vec![rows(t.id, vec![newer])]).unwrap();
    world.store.flush_now().unwrap();
    let view = world.store.read_view();
    let request = ScanRequest {
        columns: vec![ScanColumn::Column(2)],
        column_bounds: vec![(2, Some(Value::Float8(21.0)), Some(Value::Float8(21.0)))],
        ..ScanRequest::default()
    };
    for batch in view.scan(&t, request).unwrap().into_iter().flatten() {
        let batch = batch.unwrap();
        for i in 0..batch.num_rows() {
            let value = chronos_model::value_at(batch.column(0), i, &t.columns[2].data_type);
            assert_ne!(value.unwrap(), Value::Float8(21.0), "a superseded value");
        }
    }
}

#[test]
fn threads_flush_and_compact_while_rows_are_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        memtable_bytes_max: 64 << 10,
        background: true,
        ..options()
    };
    let env = Env::real();
    let store = Store::open(&env, &dir.path().join("s"), options.clone()).unwrap();
    let t = Arc::new(table("t", 1, true));
    let create = WriteSet {
        begin: Stamp::MAX,
        changes: vec![Change::CreateTable(table("t", 0, true))],
    };
    store
        .apply_write_set(LogIndex(1), stamp(1), NODE, &create)
        .unwrap();
    let reader = {
        let (store, t) = (store.clone(), t.clone());
        std::thread::spawn(move || loop {
            let view = store.read_view();
            let seen = scan(&view, &t, request(VersionFilter::Current));
            // Each entry adds 100 rows or replaces them.
            let entries = (view.stamp().micros() - stamp(1).micros()) / 10;
            assert_eq!(seen.len() as i64, 100 * entries.min(40));
            if entries == 160 {
                return;
            }
        })
    };
    for index in 0..160u64 {
        let part = (index % 40) as u32;
        let all: Vec<_> = (part * 100..part * 100 + 100)
            .map(|n| row(n, index as u32))
            .collect();
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![batch(&t, Expect::Any, &all)],
        };
        let index = index + 2;
        store
            .apply_write_set(LogIndex(index), stamp(index), NODE, &set)
            .unwrap();
    }
    reader.join().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.stats().compactions == 0 {
        assert!(Instant::now() < deadline, "{:?}", store.stats());
        std::thread::yield_now();
    }
    store.flush_now().unwrap();
    store.close();
    let refused = store.skip(LogIndex(999), Stamp::MIN);
    assert!(matches!(refused, Err(StoreError::Closed)));
    let store = Store::open(&env, &dir.path().join("s"), options).unwrap();
    assert_eq!(store.applied_index(), LogIndex(161));
    let view = store.read_view();
    assert_eq!(scan(&view, &t, request(VersionFilter::Current)).len(), 4000);
    assert_eq!(scan(&view, &t, request(VersionFilter::All)).len(), 16_000);
}

/// A key with many versions, between others, at every stamp: in memory, in segments, and
/// half of it in each.
#[test]
fn a_hot_key_is_read_at_every_stamp() {
    let mut world = World::new();
    let t = world.store.catalog().table("t").unwrap().clone();
    let others: Vec<_> = (0..40).map(|n| row(n, 0)).collect();
    world.apply(vec![batch(&t, Expect::Any, &others)]).unwrap();
    let first = world.index;
    let hot = row(17, 0);
    let key = key_of(&t, &hot);
    for content in 1..=300 {
        let change = change(&key, Expect::Any, Some(&row(17, content)));
        world.apply(vec![rows(t.id, vec![change])]).unwrap();
        if content == 150 {
            world.check_hot_key(&t, first, content);
            world.store.flush_now().unwrap();
        }
    }
    world.check_hot_key(&t, first, 300);
    world.store.flush_now().unwrap();
    world.check_hot_key(&t, first, 300);
    world.store.compact_now().unwrap();
    world.check_hot_key(&t, first, 300);
}

impl World {
    fn check_hot_key(
        &self,
        t: &std::sync::Arc<chronos_model::TableSchema>,
        first: u64,
        contents: u32,
    ) {
        let view = self.store.read_view();
        let key = key_of(t, &row(17, 0));
        for content in 0..=contents {
            let at = VersionFilter::AsOf(stamp(first + u64::from(content)));
            let mut one = request(at);
            one.key_range = chronos_store::KeyRange::only(&key);
            // With the end of the version asked for, and without.
            for columns in [one.columns.clone(), one.columns[..4].to_vec()] {
                let narrow = chronos_store::ScanRequest {
                    columns,
                    ..one.clone()
                };
                let found: Vec<_> = view
                    .scan(t, narrow)
                    .unwrap()
                    .into_iter()
                    .flatten()
                    .collect();
                assert_eq!(found.len(), 1);
                let batch = found[0].as_ref().unwrap();
                let text = chronos_model::value_at(batch.column(3), 0, &t.columns[3].data_type);
                assert_eq!(text.unwrap(), row(17, content)[3]);
            }
        }
        let middle = VersionFilter::AsOf(stamp(first + u64::from(contents) / 2));
        assert_eq!(scan(&view, t, request(middle)).len(), 40);
    }
}
