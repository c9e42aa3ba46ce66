//! A store whose segments are damaged or missing: every answer is the right one or a
//! refusal that names the file, what does not need the damaged part is answered, and
//! the file put back makes everything whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{Disk, SimDisk, SimEnv};
use chronos_model::{Change, Expect, NodeId, SqlState, Stamp, TableId, TableSchema, WriteSet};
use chronos_store::{ApplyError, KeyRange, LogIndex, ReadView, Store, StoreError, VersionFilter};

use crate::fixture::*;
use crate::model::Model;

const NODE: NodeId = NodeId(1);
const DIR: &str = "/d/store";

/// A store of two tables with several segments and history, and what it should hold.
struct World {
    disk: SimDisk,
    store: Store,
    model: Model,
    entries: u64,
}

impl World {
    fn new() -> World {
        let disk = SimDisk::new(5);
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let store = Store::open(&env, Path::new(DIR), options()).unwrap();
        let mut world = World {
            disk,
            store,
            model: Model::new(),
            entries: 0,
        };
        let (t, u) = (table("t", 1, true), table("u", 2, true));
        let many = |start: u32, step: u32, content: u32| -> Vec<_> {
            let numbers = (0..60).map(|n| start + n * step);
            numbers.map(|n| row(n, content + n)).collect()
        };
        for name in ["t", "u"] {
            world.apply(vec![Change::CreateTable(table(name, 0, true))]);
        }
        world.apply(vec![batch(&t, Expect::Any, &many(0, 2, 100))]);
        world.apply(vec![batch(&u, Expect::Any, &many(0, 1, 400))]);
        world.store.flush_now().unwrap();
        // Newer versions of some keys, and keys that nothing else has.
        world.apply(vec![batch(&t, Expect::Any, &many(60, 3, 1_000))]);
        let gone = (0..9).map(|n| change(&key_of(&t, &row(n * 4, 0)), Expect::Any, None));
        world.apply(vec![rows(t.id, gone.collect())]);
        world.store.flush_now().unwrap();
        world.apply(vec![batch(&t, Expect::Any, &many(40, 1, 2_000))]);
        world.apply(vec![batch(&t, Expect::Any, &many(50, 1, 3_000))]);
        world.store.flush_now().unwrap();
        world
    }

    fn apply(&mut self, changes: Vec<Change>) {
        self.entries += 1;
        let set = WriteSet {
            begin: Stamp::MAX,
            changes,
        };
        let (index, recorded) = (LogIndex(self.entries), stamp(self.entries));
        self.model.apply(recorded, &set).unwrap();
        let applied = self.store.apply_write_set(index, recorded, NODE, &set);
        applied.unwrap();
    }

    fn segments(&self) -> Vec<PathBuf> {
        let dir = Path::new(DIR).join("segments");
        let names = self.disk.read_dir(&dir).unwrap();
        names.iter().map(|name| dir.join(name)).collect()
    }

    /// The same store on a disk of its own, after `hurt` had its way with the files.
    fn hurt(&self, hurt: impl FnOnce(&SimDisk)) -> (SimDisk, Store) {
        let disk = self.disk.restart(1);
        hurt(&disk);
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let store = Store::open(&env, Path::new(DIR), options()).unwrap();
        assert_eq!(store.applied_index(), LogIndex(self.entries));
        (disk, store)
    }

    /// Asks for everything in many ways. Every answer must be the model's, or a refusal
    /// that names `file`; gives the numbers of answers and of refusals for table `t`.
    fn ask(&self, store: &Store, file: &Path) -> (usize, usize) {
        let view = store.read_view();
        let (mut answered, mut refused) = (0, 0);
        for table in self.model.tables() {
            let mut count = |result: Result<(), StoreError>| match result {
                Ok(()) => answered += usize::from(table.name == "t"),
                Err(error) => {
                    assert_damage(&error, &table, file);
                    refused += 1;
                }
            };
            for n in 0..130 {
                let key = key_of(&table, &row(n, 0));
                count(self.get(&view, &table, &key));
                count(self.scan(&view, &table, VersionFilter::Current, KeyRange::only(&key)));
            }
            let past = (1..=self.entries + 1).map(|n| VersionFilter::AsOf(stamp(n)));
            let filters = [VersionFilter::Current, VersionFilter::All];
            for filter in filters.into_iter().chain(past) {
                count(self.scan(&view, &table, filter, KeyRange::ALL));
            }
            let (exactly, exact) = view.table_rows_estimate(&table);
            let current = self.model.scan(
                table.id,
                VersionFilter::Current,
                &KeyRange::ALL,
                view.stamp(),
            );
            assert!(!exact || exactly == current.len() as u64);
        }
        (answered, refused)
    }

    fn get(&self, view: &ReadView, table: &TableSchema, key: &[u8]) -> Result<(), StoreError> {
        let found = match view.get(table, key)? {
            Some(found) => Some((found.row.all_values()?, found.recorded)),
            None => None,
        };
        assert_eq!(found, self.model.get(table.id, key, view.stamp()));
        Ok(())
    }

    fn scan(
        &self,
        view: &ReadView,
        table: &Arc<TableSchema>,
        filter: VersionFilter,
        range: KeyRange,
    ) -> Result<(), StoreError> {
        let mut request = request(filter);
        request.key_range = range.clone();
        let found = try_scan(view, table, request)?;
        let expected = self.model.scan(table.id, filter, &range, view.stamp());
        assert!(found == expected, "{filter:?} {range:?}");
        Ok(())
    }
}

/// A refusal is of `t`, names the file, and says what to do.
fn assert_damage(error: &StoreError, table: &TableSchema, file: &Path) {
    let text = error.to_string();
    assert!(error.is_damage(), "{text}");
    assert_eq!(error.sqlstate(), SqlState::DATA_CORRUPTED);
    assert!(
        text.contains(&format!("table \"{}\"", table.name)),
        "{text}"
    );
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    assert!(text.contains("at offset"), "{text}");
    assert!(error.hint().is_some());
}

#[test]
fn whatever_is_lost_the_rest_is_answered_and_nothing_wrong() {
    let world = World::new();
    let whole = world.ask(&world.store, Path::new(""));
    assert_eq!(whole.1, 0);
    let mut lost_some = 0;
    let contents: Vec<_> = world
        .segments()
        .into_iter()
        .map(|file| (file.clone(), world.disk.read(&file).unwrap()))
        .collect();
    for (file, content) in contents {
        let (disk, store) = world.hurt(|disk| disk.remove_file(&file).unwrap());
        let [damage] = &store.damage()[..] else {
            panic!("one file is missing: {:?}", store.damage());
        };
        assert_eq!(damage.path, file);
        assert!(damage.reason.contains("missing"), "{}", damage.reason);
        let (answered, refused) = world.ask(&store, &file);
        assert!(refused > 0, "{}", file.display());
        lost_some += usize::from(answered > 0 && damage.table == "t");
        // Compaction leaves the file and everything that depends on it as they are.
        store.maintain().unwrap();
        store.compact_now().unwrap();
        assert_eq!(world.ask(&store, &file), (answered, refused));
        assert_eq!(store.damage().len(), 1);
        store.close();
        disk.create(&file).unwrap().write_at(&content, 0).unwrap();
        let env = SimEnv::with_disk(disk, 1).env();
        let store = Store::open(&env, Path::new(DIR), options()).unwrap();
        assert_eq!(store.damage(), []);
        assert_eq!(world.ask(&store, &file), whole);
    }
    assert!(lost_some > 2, "{lost_some}");
}

#[test]
fn a_damaged_page_is_refused_and_its_neighbours_are_not() {
    let world = World::new();
    let files: Vec<_> = world
        .segments()
        .into_iter()
        .map(|file| (file.clone(), world.disk.file_len(&file).unwrap()))
        .collect();
    let (mut found, mut harmless) = (0, 0);
    for (file, bytes) in files {
        for offset in (0..bytes).step_by(331) {
            let (_, store) = world.hurt(|disk| disk.flip_bits(&file, offset, 0x10).unwrap());
            let (answered, refused) = world.ask(&store, &file);
            // A key filter is damaged to nobody's loss.
            assert!(refused == 0 || !store.damage().is_empty(), "at {offset}");
            found += usize::from(refused > 0 && answered > 0);
            store.compact_now().unwrap();
            store.maintain().unwrap();
            let (_, refused_later) = world.ask(&store, &file);
            // Where fewer segments are left, less may have to be read; but not nothing.
            let is_there = refused_later > 0 && !store.damage().is_empty();
            assert!(refused == 0 || is_there, "damage went away at {offset}");
            for damage in store.damage() {
                assert_eq!(damage.path, file);
            }
            if refused_later == 0 {
                harmless += 1;
            }
        }
    }
    assert!(found > 15 && harmless < found / 4, "{found} {harmless}");
}

#[test]
fn another_segment_in_the_place_of_one_is_damage() {
    let world = World::new();
    let files = world.segments();
    let (_, store) = world.hurt(|disk| {
        let other = disk.read(&files[2]).unwrap();
        disk.create(&files[0]).unwrap().write_at(&other, 0).unwrap();
    });
    assert_eq!(store.damage()[0].path, files[0]);
    world.ask(&store, &files[0]);
}

/// Preconditions are answered as the whole store answers them, or not at all.
#[test]
fn preconditions_that_need_the_damaged_part_are_not_guessed() {
    let world = World::new();
    let t = table("t", 1, true);
    let file = &world.segments()[0];
    let mut unknown = 0;
    for n in 0..130u32 {
        for expect in [
            Expect::Absent,
            Expect::AbsentOrSkip,
            Expect::Unchanged,
            Expect::Any,
        ] {
            let (_, store) = world.hurt(|disk| disk.remove_file(file).unwrap());
            let values = row(n, 9_000);
            let one = change(&key_of(&t, &values), expect, Some(&values));
            let set = WriteSet {
                begin: stamp(world.entries - 1),
                changes: vec![rows(t.id, vec![one])],
            };
            let prepared = store.prepare(set.clone(), &store.catalog()).unwrap();
            let writable = store.check_writable(&prepared);
            let (index, recorded) = (LogIndex(world.entries + 1), stamp(world.entries + 1));
            let got = store.apply(index, recorded, NODE, &prepared);
            if let Err(ApplyError::Storage(error)) = &got {
                assert_damage(error, &t, file);
                assert!(writable.is_err() && expect != Expect::Any);
                // Nothing of it was applied, and the next entry still can be.
                assert_eq!(store.applied_index(), LogIndex(world.entries));
                unknown += 1;
                continue;
            }
            writable.unwrap();
            let expected = world.model.clone().apply(recorded, &set);
            assert_eq!(got.is_ok(), expected.is_ok(), "{n} {expect:?}");
            assert_eq!(
                got.ok().map(|a| (a.rows, a.skipped_rows)),
                expected.ok().map(|d| (d.rows, d.skipped))
            );
        }
    }
    assert!(unknown > 20, "{unknown}");
}

#[test]
fn a_table_is_rid_of_damage_by_truncate_and_drop() {
    let world = World::new();
    let file = world.segments()[0].clone();
    let (disk, store) = world.hurt(|disk| disk.flip_bits(&file, 3, 1).unwrap());
    let mut index = world.entries;
    let mut apply = |change: Change| {
        index += 1;
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        };
        store
            .apply_write_set(LogIndex(index), stamp(index), NODE, &set)
            .unwrap();
    };
    let t = Arc::new(table("t", 1, true));
    apply(Change::Truncate(TableId(1)));
    let view = store.read_view();
    let current = try_scan(&view, &t, request(VersionFilter::Current)).unwrap();
    assert_eq!(current, []);
    let before = request(VersionFilter::AsOf(stamp(world.entries)));
    assert_damage(&try_scan(&view, &t, before).unwrap_err(), &t, &file);
    drop(view);
    apply(Change::DropTable(TableId(1)));
    store.flush_now().unwrap();
    assert_eq!(store.damage(), []);
    assert!(!disk.exists(&file).unwrap());
}
