//! A scripted life of a store on a disk that loses power at every write in turn. After
//! each cut the store opens, stands at an index the manifest published, holds exactly
//! what was applied up to there, and takes the rest of the log.

use std::path::Path;

use chronos_env::{SimDisk, SimEnv};
use chronos_model::{Change, Expect, IndexState, NodeId, Stamp, TableId, WriteSet};
use chronos_store::{KeyRange, LogIndex, Store, StoreError, VersionFilter};

use crate::fixture::*;
use crate::index::{check_valid, plain};
use crate::model::Model;

const NODE: NodeId = NodeId(1);

pub(crate) enum Step {
    Apply(WriteSet),
    Flush,
    Compact,
    Reopen,
}

fn set(changes: Vec<Change>) -> Step {
    Step::Apply(WriteSet {
        begin: Stamp::MAX,
        changes,
    })
}

pub(crate) fn script() -> Vec<Step> {
    let t = table("t", 1, true);
    let put = |n: u32, content: u32| {
        let values = row(n, content);
        change(&key_of(&t, &values), Expect::Any, Some(&values))
    };
    let delete = |n: u32| change(&key_of(&t, &row(n, 0)), Expect::Any, None);
    let many = |start: u32, content: u32| -> Vec<_> {
        (start..start + 80).map(|n| row(n, content + n)).collect()
    };
    vec![
        set(vec![Change::CreateTable(table("t", 0, true))]),
        set(vec![rows(t.id, vec![put(1, 1), put(2, 2)])]),
        Step::Flush,
        set(vec![batch(&t, Expect::Any, &many(0, 100))]),
        set(vec![Change::CreateTable(table("u", 0, false))]),
        set(vec![batch(&table("u", 2, false), Expect::Any, &many(0, 7))]),
        Step::Flush,
        set(vec![rows(t.id, vec![delete(1), put(3, 3)])]),
        Step::Compact,
        Step::Flush,
        set(vec![Change::Truncate(TableId(2))]),
        Step::Reopen,
        set(vec![batch(&t, Expect::AbsentOrSkip, &many(40, 300))]),
        Step::Flush,
        Step::Compact,
        set(vec![Change::DropTable(TableId(2))]),
        set(vec![rows(t.id, vec![put(200, 9)])]),
        Step::Flush,
        Step::Compact,
        set(vec![Change::CreateIndex(plain("by_content", &t, &[3]))]),
        set(vec![rows(t.id, vec![put(3, 11), put(201, 12)])]),
        // Before this is proposed the index is built.
        set(vec![Change::SetIndexState(TableId(3), IndexState::Valid)]),
        set(vec![batch(&t, Expect::Any, &many(10, 400))]),
        Step::Flush,
        Step::Reopen,
        set(vec![rows(t.id, vec![delete(12), put(3, 13)])]),
        Step::Compact,
        set(vec![Change::DropIndex(TableId(3))]),
        Step::Flush,
    ]
}

/// What a run reached: the models after each entry, and the last published index.
pub(crate) struct Reached {
    pub(crate) log: Vec<(LogIndex, Stamp, WriteSet)>,
    pub(crate) flushed: LogIndex,
}

impl Reached {
    pub(crate) fn nothing() -> Reached {
        Reached {
            log: Vec::new(),
            flushed: LogIndex(0),
        }
    }
}

/// Runs the script until it ends or the power goes.
pub(crate) fn live(
    disk: &SimDisk,
    steps: &[Step],
    reached: &mut Reached,
) -> Result<(), StoreError> {
    let env = SimEnv::with_disk(disk.clone(), 1).env();
    let mut store = Store::open(&env, Path::new("/d/store"), options())?;
    for step in steps {
        match step {
            Step::Apply(set) => {
                let index = LogIndex(reached.log.len() as u64 + 1);
                build(&store, set)?;
                reached.log.push((index, stamp(index.0), set.clone()));
                apply(&store, reached.log.last().unwrap())?;
            }
            Step::Flush => store.flush_now()?,
            Step::Compact => store.compact_now()?,
            Step::Reopen => {
                drop(store);
                store = Store::open(&env, Path::new("/d/store"), options())?;
                replay(&store, &reached.log, reached.log.len())?;
            }
        }
        reached.flushed = store.flushed_index();
    }
    Ok(())
}

pub(crate) fn apply(
    store: &Store,
    (index, recorded, set): &(LogIndex, Stamp, WriteSet),
) -> Result<(), StoreError> {
    match store.apply_write_set(*index, *recorded, NODE, set) {
        Err(chronos_store::ApplyError::Storage(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Builds the indexes that a write set declares complete.
pub(crate) fn build(store: &Store, set: &WriteSet) -> Result<(), StoreError> {
    let declared = set.changes.iter().filter_map(|change| match change {
        Change::SetIndexState(id, _) => Some(*id),
        _ => None,
    });
    declared
        .into_iter()
        .try_for_each(|id| store.build_index(id))
}

/// Takes the rest of a log. What its first `proposed` entries declare built was built when they
/// were proposed.
pub(crate) fn replay(
    store: &Store,
    log: &[(LogIndex, Stamp, WriteSet)],
    proposed: usize,
) -> Result<(), StoreError> {
    let from = store.applied_index();
    for entry in log.iter().filter(|(index, _, _)| *index > from) {
        if entry.0 .0 as usize > proposed {
            build(store, &entry.2)?;
        }
        apply(store, entry)?;
    }
    Ok(())
}

/// The store must hold what the first `index` entries make.
pub(crate) fn check(store: &Store, log: &[(LogIndex, Stamp, WriteSet)], index: LogIndex) {
    let mut model = Model::new();
    for (_, recorded, set) in &log[..index.0 as usize] {
        let _ = model.apply(*recorded, set).is_ok();
    }
    let view = store.read_view();
    let tables = model.tables();
    assert_eq!(view.catalog().tables.len(), tables.len());
    for table in tables {
        for filter in [
            VersionFilter::Current,
            VersionFilter::All,
            VersionFilter::AsOf(stamp(index.0 / 2)),
        ] {
            let got = scan(&view, &table, request(filter));
            let expected = model.scan(table.id, filter, &KeyRange::ALL, view.stamp());
            assert!(got == expected, "{filter:?} of {} at {index}", table.name);
            check_valid(&model, &view, filter);
        }
    }
}

#[test]
fn nothing_published_is_lost_wherever_the_power_goes() {
    let steps = script();
    let whole = SimDisk::new(3);
    let mut reached = Reached::nothing();
    live(&whole, &steps, &mut reached).unwrap();
    let points = whole.write_points();
    assert!(points > 60, "only {points} write points");
    let log = reached.log;
    for point in 0..=points {
        let disk = SimDisk::new(3);
        disk.crash_after_write_points(point);
        let mut reached = Reached::nothing();
        // The removal of a file that is not needed may fail unnoticed.
        let _ = live(&disk, &steps, &mut reached).is_err();
        assert_eq!(disk.is_powered_off(), point < points, "point {point}");
        for seed in 0..4 {
            let disk = disk.restart(seed);
            let env = SimEnv::with_disk(disk, seed).env();
            let store = Store::open(&env, Path::new("/d/store"), options())
                .unwrap_or_else(|e| panic!("point {point}, seed {seed}: {e}"));
            let from = store.applied_index();
            assert!(
                from >= reached.flushed,
                "point {point}, seed {seed}: {from} is before {}",
                reached.flushed
            );
            check(&store, &log, from);
            replay(&store, &log, reached.log.len()).unwrap();
            check(&store, &log, LogIndex(log.len() as u64));
            store.flush_now().unwrap();
            store.compact_now().unwrap();
            check(&store, &log, LogIndex(log.len() as u64));
            let files = env.disk.read_dir(Path::new("/d/store/segments")).unwrap();
            assert_eq!(files.len() as u64, store.stats().segments, "{files:?}");
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_applied() {
    let disk = SimDisk::new(3);
    let env = SimEnv::with_disk(disk.clone(), 1).env();
    let store = Store::open(&env, Path::new("/d/store"), options()).unwrap();
    let create = |name: &str| WriteSet {
        begin: Stamp::MAX,
        changes: vec![Change::CreateTable(table(name, 0, true))],
    };
    store
        .apply_write_set(LogIndex(1), stamp(1), NODE, &create("t"))
        .unwrap();
    disk.fail_syncs_after_write_points(0);
    store.flush_now().unwrap_err();
    disk.clear_faults();
    let refused = store.apply_write_set(LogIndex(2), stamp(2), NODE, &create("u"));
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("stopped"), "{text}");
    store.flush_now().unwrap_err();
}

#[test]
fn a_full_disk_is_survived() {
    let disk = SimDisk::new(3);
    let env = SimEnv::with_disk(disk.clone(), 1).env();
    let store = Store::open(&env, Path::new("/d/store"), options()).unwrap();
    let t = table("t", 1, true);
    let entry = |index: u64, change: Change| {
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        };
        (LogIndex(index), stamp(index), set)
    };
    let all: Vec<_> = (0..200).map(|n| row(n, n)).collect();
    let log = [
        entry(1, Change::CreateTable(table("t", 0, true))),
        entry(2, batch(&t, Expect::Any, &all)),
    ];
    log.iter().for_each(|entry| apply(&store, entry).unwrap());
    disk.fill_after_write_points(disk.write_points());
    store.flush_now().unwrap_err();
    check(&store, &log, LogIndex(2));
    disk.clear_faults();
    store.maintain().unwrap();
    assert_eq!(store.flushed_index(), LogIndex(2));
    check(&store, &log, LogIndex(2));
}
