//! Write sets that change the catalog and write rows for what comes of it: all of them or nothing,
//! wherever the power goes; and a transaction's view before it commits them.

use std::path::Path;

use chronos_env::{SimDisk, SimEnv};
use chronos_model::{
    CatalogChange, CatalogEdit, Change, DataType, Expect, IndexSchema, Key, Migration, NodeId,
    ReadSet, SqlState, Stamp, TableId, TableSchema, Uniqueness, Value, WriteSet,
};
use chronos_store::{ApplyError, LogIndex, ReadView, Store, VersionFilter};

use crate::fixture::*;
use crate::index::plain;
use crate::power_cut::{live, replay, Reached, Step};

const NODE: NodeId = NodeId(1);

/// Table 1 with a wider column in the place of its third.
fn altered(t: &TableSchema) -> TableSchema {
    let mut schema = t.clone();
    let mut column = schema.columns[2].clone();
    column.name = "n".into();
    column.data_type = DataType::Int8;
    column.set_missing(&Value::Int8(7));
    schema.remove_column(2);
    schema.add_column(column);
    schema
}

fn edit(schema: &TableSchema) -> Change {
    let edits = vec![CatalogEdit::Table(Box::new(schema.clone()))];
    Change::Catalog(CatalogChange::unconditional(edits))
}

fn unique(name: &str, table: &TableSchema, columns: &[usize]) -> IndexSchema {
    IndexSchema {
        unique: Uniqueness::Index,
        ..plain(name, table, columns)
    }
}

/// A log, written by a store as it goes, so that migrations know the catalog's version.
struct Writer {
    store: Store,
    steps: Vec<Step>,
    entries: u64,
}

impl Writer {
    fn new() -> Writer {
        let env = SimEnv::new(1).env();
        Writer {
            store: Store::open(&env, Path::new("/w"), options()).unwrap(),
            steps: Vec::new(),
            entries: 0,
        }
    }

    fn write(&mut self, begin: Stamp, changes: Vec<Change>) -> Result<(), ApplyError> {
        self.entries += 1;
        let set = WriteSet { begin, changes };
        let (index, recorded) = (LogIndex(self.entries), stamp(self.entries));
        let done = self.store.apply_write_set(index, recorded, NODE, &set);
        self.steps.push(Step::Apply(set));
        done.map(drop)
    }

    /// A migration, and rows.
    fn migrate(
        &mut self,
        unchanged: Vec<(TableId, Stamp)>,
        changes: Vec<Change>,
        rows: Vec<Change>,
    ) -> Result<(), ApplyError> {
        let migration = Migration {
            base: self.store.catalog().version,
            unchanged,
            changes,
        };
        let mut set = vec![Change::Migrate(migration)];
        set.extend(rows);
        self.write(stamp(self.entries), set)
    }
}

fn put(table: &TableSchema, expect: Expect, n: u32, content: u32) -> Change {
    let values = row_of(table, n, content);
    rows(
        table.id,
        vec![change(&key_of(table, &values), expect, Some(&values))],
    )
}

fn script() -> Vec<Step> {
    let t = table("t", 1, true);
    let after = altered(&t);
    let u = table("u", 2, true);
    let many: Vec<_> = (0..80).map(|n| row(n, n)).collect();
    let mut w = Writer::new();
    w.write(Stamp::MAX, vec![Change::CreateTable(table("t", 0, true))])
        .unwrap();
    w.write(Stamp::MAX, vec![batch(&t, Expect::Any, &many)])
        .unwrap();
    w.steps.push(Step::Flush);
    w.write(Stamp::MAX, vec![put(&t, Expect::Any, 90, 90)])
        .unwrap();
    // All at once: a table and its rows, another one altered, with rows of both shapes and an
    // index of them.
    w.migrate(
        vec![(t.id, stamp(w.entries))],
        vec![
            Change::CreateTable(table("u", 0, true)),
            edit(&after),
            Change::CreateIndex(unique("t_s", &after, &[2])),
            Change::CreateIndex(plain("u_s", &u, &[3])),
        ],
        vec![
            Change::ExpectShape(t.id, after.shape.version),
            put(&after, Expect::Unchanged, 3, 1003),
            put(&after, Expect::Absent, 91, 1091),
            batch(&u, Expect::Absent, &many),
        ],
    )
    .unwrap();
    w.steps.push(Step::Compact);
    refused(&mut w, &after);
    w.steps.push(Step::Flush);
    w.steps.push(Step::Reopen);
    // Rows go with a truncation, and come again in the same set.
    w.migrate(
        vec![],
        vec![
            Change::Truncate(t.id),
            Change::DropTable(u.id),
            Change::CreateTable(table("u", 0, true)),
        ],
        vec![
            Change::ExpectShape(t.id, after.shape.version),
            put(&after, Expect::Absent, 3, 2003),
            put(&table("u", 5, true), Expect::Absent, 1, 1),
        ],
    )
    .unwrap();
    w.write(
        Stamp::MAX,
        vec![
            Change::ExpectShape(t.id, after.shape.version),
            put(&after, Expect::Any, 92, 92),
        ],
    )
    .unwrap();
    w.steps.push(Step::Flush);
    serial(&mut w, &after);
    w.steps.push(Step::Flush);
    w.steps.push(Step::Compact);
    w.steps
}

/// Rows of transactions that have read something: written if that is still so.
fn serial(w: &mut Writer, t: &TableSchema) {
    let base = w.store.catalog().version;
    let before = stamp(w.entries - 1);
    let whole = || ReadSet {
        base,
        tables: vec![t.id],
        keys: vec![],
    };
    let key = |n: u32| ReadSet {
        base,
        tables: vec![],
        keys: vec![(t.id, Key(key_of(t, &row(n, 0)).into()))],
    };
    // Row 92 is the last that was written; it was no part of what was read "before".
    let cases = [
        (before, whole(), false),
        (stamp(w.entries), whole(), true),
        (before, key(92), false),
        (before, key(3), true),
        (before, key(7777), true),
        (Stamp(stamp(w.entries).0 - 1), key(92), false),
        (
            stamp(w.entries),
            ReadSet {
                base: base - 1,
                ..key(3)
            },
            false,
        ),
        // Truncated since: what was not there either might be anything.
        (stamp(w.entries - 2), key(7777), false),
    ];
    for (n, (begin, reads, holds)) in (300..).zip(cases) {
        let set = vec![
            Change::ExpectReads(reads),
            Change::ExpectShape(t.id, t.shape.version),
            put(t, Expect::Absent, n, n),
        ];
        let done = w.write(begin, set);
        match (holds, done) {
            (true, done) => done.unwrap(),
            (false, done) => {
                let error = done.unwrap_err();
                assert_eq!(error.sqlstate(), SqlState::SERIALIZATION_FAILURE, "{n}");
            }
        }
    }
}

/// Migrations that are not carried out.
fn refused(w: &mut Writer, t: &TableSchema) {
    let version = w.store.catalog().version;
    let create = || Change::CreateTable(table("x", 0, true));
    let x = table("x", 5, true);
    let migration = |base, unchanged| {
        Change::Migrate(Migration {
            base,
            unchanged,
            changes: vec![create()],
        })
    };
    let stale = w.write(Stamp::MAX, vec![migration(version - 1, vec![])]);
    assert!(
        matches!(stale, Err(ApplyError::CatalogConflict)),
        "{stale:?}"
    );
    let written = (t.id, stamp(w.entries - 2));
    let written = w.write(Stamp::MAX, vec![migration(version, vec![written])]);
    assert!(
        matches!(written, Err(ApplyError::Conflict { .. })),
        "{written:?}"
    );
    // Another row has its text: the index was complete when it was created.
    let rows = vec![
        migration(version, vec![]),
        put(&x, Expect::Absent, 1, 1),
        Change::ExpectShape(t.id, t.shape.version),
        put(t, Expect::Absent, 93, 1091),
    ];
    let taken = w.write(Stamp::MAX, rows).unwrap_err();
    assert_eq!(taken.sqlstate(), SqlState::UNIQUE_VIOLATION);
    // A migration comes first, and nothing of it counts as long as it stands elsewhere.
    let late = vec![put(&x, Expect::Absent, 1, 1), migration(version, vec![])];
    w.write(Stamp::MAX, late).unwrap_err();
    assert_eq!(w.store.catalog().version, version);
    assert!(w.store.catalog().table("x").is_none());
}

/// All that a store holds.
fn dump(view: &ReadView) -> Vec<String> {
    let catalog = view.catalog();
    let mut dump: Vec<String> = Vec::new();
    for index in catalog.indexes.values() {
        dump.push(format!("{index:?}"));
    }
    for table in catalog.tables.values() {
        dump.push(format!("{table:?}"));
        for filter in [VersionFilter::Current, VersionFilter::All] {
            let shown = scan(view, table, request(filter));
            dump.extend(shown.iter().map(|row| format!("{row:?}")));
        }
    }
    dump
}

#[test]
fn a_migration_is_there_as_a_whole_wherever_the_power_goes() {
    let steps = script();
    let whole = SimDisk::new(3);
    let mut reached = Reached::nothing();
    live(&whole, &steps, &mut reached).unwrap();
    let points = whole.write_points();
    let log = reached.log;
    let mut dumps = Vec::new();
    let env = SimEnv::new(2).env();
    let straight = Store::open(&env, Path::new("/s"), options()).unwrap();
    dumps.push(dump(&straight.read_view()));
    for entry in &log {
        replay(&straight, std::slice::from_ref(entry), log.len()).unwrap();
        dumps.push(dump(&straight.read_view()));
    }
    for point in 0..=points {
        let disk = SimDisk::new(3);
        disk.crash_after_write_points(point);
        let mut reached = Reached::nothing();
        // The removal of a file that is not needed may fail unnoticed.
        let _ = live(&disk, &steps, &mut reached).is_err();
        for seed in 0..3 {
            let env = SimEnv::with_disk(disk.restart(seed), seed).env();
            let store = Store::open(&env, Path::new("/d/store"), options()).unwrap();
            let from = store.applied_index();
            assert!(from >= reached.flushed);
            let is = dump(&store.read_view());
            assert!(is == dumps[from.0 as usize], "point {point}, seed {seed}");
            replay(&store, &log, reached.log.len()).unwrap();
            let is = dump(&store.read_view());
            assert!(is == dumps[log.len()], "point {point}, seed {seed}");
            store.compact_now().unwrap();
            assert!(dump(&store.read_view()) == dumps[log.len()]);
        }
    }
}

#[test]
fn a_transactions_view_is_what_its_commit_makes() {
    let t = table("t", 1, true);
    let after = altered(&t);
    let mut w = Writer::new();
    let many: Vec<_> = (0..80).map(|n| row(n, n)).collect();
    w.write(Stamp::MAX, vec![Change::CreateTable(table("t", 0, true))])
        .unwrap();
    w.write(Stamp::MAX, vec![batch(&t, Expect::Any, &many[..40])])
        .unwrap();
    w.store.flush_now().unwrap();
    w.write(Stamp::MAX, vec![batch(&t, Expect::Any, &many)])
        .unwrap();
    w.write(Stamp::MAX, vec![put(&t, Expect::Any, 5, 555)])
        .unwrap();
    let base = w.store.read_view();
    let fresh_from = TableId(base.catalog().next_table_id);
    let changes = [
        vec![edit(&after), Change::CreateTable(table("u", 0, true))],
        vec![Change::CreateIndex(unique("t_s", &after, &[2]))],
    ];
    let own = vec![
        Change::ExpectShape(t.id, after.shape.version),
        put(&after, Expect::Unchanged, 3, 1003),
        put(&table("u", 2, true), Expect::Absent, 1, 1),
    ];
    let mut view = base.clone();
    for (i, changes) in changes.iter().enumerate() {
        let version = (1 << 63) + i as u64;
        view = view
            .with_changes(base.stamp(), fresh_from, changes, version)
            .unwrap();
    }
    // What others do meanwhile is not seen.
    w.write(Stamp::MAX, vec![put(&t, Expect::Any, 6, 666)])
        .unwrap();
    let set = WriteSet {
        begin: base.stamp(),
        changes: own.clone(),
    };
    let seen = view.with_writes(&set).unwrap();
    assert_eq!(seen.find_duplicate(TableId(3)).unwrap(), None);
    let rows = |view: &ReadView, name: &str| {
        let table = view.catalog().table(name).unwrap().clone();
        let shown = scan(view, &table, request(VersionFilter::Current));
        let values = shown.into_iter().map(|row| (row.key, row.values));
        values.collect::<Vec<_>>()
    };
    w.migrate(vec![], changes.concat(), own).unwrap();
    let committed = w.store.read_view();
    let key = key_of(&t, &row(6, 0));
    let without = |rows: Vec<(Vec<u8>, Vec<Value>)>| -> Vec<_> {
        rows.into_iter().filter(|(of, _)| *of != key).collect()
    };
    assert_eq!(without(rows(&seen, "t")), without(rows(&committed, "t")));
    assert_eq!(rows(&seen, "u"), rows(&committed, "u"));
    let of_view = |view: &ReadView| {
        let t = view.catalog().table("t").unwrap().clone();
        view.get(&t, &key)
            .unwrap()
            .unwrap()
            .row
            .all_values()
            .unwrap()[2]
            .clone()
    };
    assert_eq!(of_view(&seen), Value::Text("content 6".into()));
    assert_eq!(of_view(&committed), Value::Text("content 666".into()));
    assert!(base.catalog().table("u").is_none());
    assert_eq!(rows(&base, "t").len(), 80);
}
