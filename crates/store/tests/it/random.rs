//! Random histories on the store and on the naive model: whatever is asked of the one
//! must be what the other answers. Writes, truncations, flushes, compactions, orderly
//! restarts and power cuts; then reads of the present and of the past, by key, by range and whole.
//!
//! Most cases are small, so that there are many; some are large, with runs and many pages; some
//! insert and delete the same keys again and again. Each has a seed, which a failure prints together with the smallest history that fails:
//!
//! | environment | |
//! |---|---|
//! | `CHRONOS_STORE_SEED=n` | runs the case of this seed and no other |
//! | `CHRONOS_STORE_CASES=n` | `n` times as many cases, for a long run |

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use chronos_env::SimEnv;
use chronos_model::{
    CatalogChange, CatalogEdit, Change, ColumnSchema, DataType, Expect, Kind, Migration, NodeId,
    Stamp, TableId, TableSchema, Value, WriteSet,
};
use chronos_store::{ApplyError, KeyRange, LogIndex, ReadView, Store, StoreOptions, VersionFilter};
use proptest::prelude::*;

use crate::cases::run_cases;
use crate::content;
use crate::fixture::*;
use crate::model::{Done, Model, Refused};

#[derive(Clone, Debug)]
enum Op {
    /// Changes of one write set; `begin` counts entries back from now.
    Write(Vec<Part>, Option<u64>),
    /// Changes the columns of a table; how is chosen by a number.
    Alter(usize, u32),
    Flush,
    Maintain,
    CompactAll,
    Reopen,
    /// The power goes after so many writes of a flush or a compaction; the seed tells what is
    /// found afterwards.
    PowerCut(Interrupted, u64, u64),
    /// Keeps a view, to be read at the end.
    Keep,
}

#[derive(Clone, Copy, Debug)]
enum Interrupted {
    Flush,
    CompactAll,
}

/// How large the histories are, and how thoroughly they are looked at.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Size {
    /// Few writes of single rows, rarely a batch; some questions, chosen by the seed.
    Small,
    /// Many writes, every second one a batch; every question.
    Large,
    /// The same keys, inserted where they are absent, deleted, inserted again, and flushed
    /// in between; every question.
    Again,
}

#[derive(Clone, Debug)]
enum Part {
    /// Single rows: which, precondition, put or delete.
    Rows(usize, Vec<(u32, Expect, bool)>),
    /// Rows `start, start + stride, ..` as a batch.
    Batch {
        table: usize,
        expect: Expect,
        start: u32,
        stride: u32,
        count: u32,
        descending: bool,
        repeat: bool,
    },
    Truncate(usize),
    Drop(usize),
    Create(bool),
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        3 => Just(Expect::Any),
        2 => Just(Expect::Absent),
        2 => Just(Expect::AbsentOrSkip),
        2 => Just(Expect::Unchanged),
    ]
}

/// Inserts of few keys that skip those that are present, and deletes.
fn again() -> impl Strategy<Value = Part> {
    let expect = prop_oneof![
        1 => Just(Expect::Any),
        3 => Just(Expect::AbsentOrSkip),
        1 => Just(Expect::Unchanged),
    ];
    let one = (0u32..8, expect, prop::bool::weighted(0.6));
    let one = one.prop_map(|(n, expect, put)| match put {
        true => (n, expect, true),
        false => (n, Expect::Any, false),
    });
    let expect = prop_oneof![4 => Just(Expect::AbsentOrSkip), 1 => Just(Expect::Any)];
    let batch = (expect, 0u32..12, 64u32..80, any::<bool>());
    prop_oneof![
        6 => prop::collection::vec(one, 1..6).prop_map(|rows| Part::Rows(0, rows)),
        1 => batch.prop_map(|(expect, start, count, descending)| {
            let (table, stride, repeat) = (0, 1, false);
            Part::Batch { table, expect, start, stride, count, descending, repeat }
        }),
    ]
}

fn part(size: Size) -> impl Strategy<Value = Part> {
    match size {
        Size::Again => again().boxed(),
        Size::Small | Size::Large => any_part(size).boxed(),
    }
}

fn any_part(size: Size) -> impl Strategy<Value = Part> {
    let (keys, batches) = match size {
        Size::Small => (0u32..14, 1),
        Size::Large | Size::Again => (0u32..60, 12),
    };
    let one = (keys, expect(), prop::bool::weighted(0.75));
    let rows = (0usize..3, prop::collection::vec(one, 1..8));
    let batch = (
        (0usize..3, expect(), 0u32..150, 1u32..4),
        (1u32..120, any::<bool>(), prop::bool::weighted(0.2)),
    );
    prop_oneof![
        16 => rows.prop_map(|(table, rows)| Part::Rows(table, rows)),
        batches => batch.prop_map(|((table, expect, start, stride), (count, descending, repeat))| {
            let expect = match expect {
                Expect::Unchanged => Expect::Any,
                other => other,
            };
            Part::Batch { table, expect, start, stride, count, descending, repeat }
        }),
        2 => (0usize..3).prop_map(Part::Truncate),
        2 => (0usize..3).prop_map(Part::Drop),
        2 => any::<bool>().prop_map(Part::Create),
    ]
}

fn op(size: Size) -> impl Strategy<Value = Op> {
    let part = move || part(size);
    let interrupted = prop_oneof![Just(Interrupted::Flush), Just(Interrupted::CompactAll)];
    let cut = (interrupted, 0u64..24, any::<u64>());
    let parts = prop_oneof![
        5 => prop::collection::vec(part(), 1..2),
        1 => prop::collection::vec(part(), 2..4),
    ];
    let flushes = match size {
        Size::Again => 12,
        Size::Small | Size::Large => 3,
    };
    prop_oneof![
        12 => (parts, prop::option::of(0u64..4)).prop_map(|(parts, back)| Op::Write(parts, back)),
        1 => (0usize..3, any::<u32>()).prop_map(|(table, how)| Op::Alter(table, how)),
        flushes => Just(Op::Flush),
        1 => Just(Op::Maintain),
        1 => Just(Op::CompactAll),
        1 => Just(Op::Reopen),
        1 => cut.prop_map(|(during, writes, seed)| Op::PowerCut(during, writes, seed)),
        1 => Just(Op::Keep),
    ]
}

struct Run {
    size: Size,
    sim: SimEnv,
    store: Store,
    model: Model,
    log: Vec<(LogIndex, Stamp, WriteSet)>,
    kept: Vec<ReadView>,
    content: u32,
}

const NODE: NodeId = NodeId(7);

impl Run {
    fn new(size: Size) -> Run {
        let sim = SimEnv::new(1);
        let store = Store::open(&sim.env(), Path::new("/store"), options_of(size)).unwrap();
        let mut run = Run {
            size,
            sim,
            store,
            model: Model::new(),
            log: Vec::new(),
            kept: Vec::new(),
            content: 0,
        };
        for (name, primary_key) in [("t", true), ("h", false)] {
            run.write(WriteSet {
                begin: Stamp::MAX,
                changes: vec![Change::CreateTable(table(name, 0, primary_key))],
            });
        }
        run
    }

    fn write(&mut self, set: WriteSet) {
        let index = LogIndex(self.log.len() as u64 + 1);
        let recorded = stamp(index.0);
        let expected = self.model.apply(recorded, &set);
        let got = self.store.apply_write_set(index, recorded, NODE, &set);
        let got = match got {
            Ok(applied) => {
                assert_eq!(applied.skipped, applied.skipped_rows.len() as u64);
                Ok(Done {
                    rows: applied.rows,
                    skipped: applied.skipped_rows,
                })
            }
            Err(ApplyError::UniqueViolation { key, .. }) => Err(Refused::Unique(key)),
            Err(ApplyError::Conflict { .. }) => Err(Refused::Conflict),
            Err(ApplyError::UnknownTable { .. }) => Err(Refused::UnknownTable),
            Err(ApplyError::DuplicateTable { .. }) => Err(Refused::DuplicateTable),
            Err(other) => panic!("{other}"),
        };
        match (&got, &expected) {
            // Which of several violations is named is not promised.
            (Err(Refused::Unique(_)), Err(Refused::Unique(_))) => {}
            _ => assert_eq!(got, expected),
        }
        assert_eq!(self.store.applied_index(), index);
        self.log.push((index, recorded, set));
    }

    fn set(&mut self, parts: &[Part], back: Option<u64>) -> WriteSet {
        let tables = self.model.tables();
        let mut changes = Vec::new();
        for table in tables.iter().filter(|t| t.shape.version > 0) {
            changes.push(Change::ExpectShape(table.id, table.shape.version));
        }
        for part in parts {
            changes.extend(self.part(part, &tables));
        }
        let now = self.log.len() as u64;
        WriteSet {
            begin: back.map_or(Stamp::MAX, |back| stamp(now.saturating_sub(back))),
            changes,
        }
    }

    fn part(&mut self, part: &Part, tables: &[Arc<TableSchema>]) -> Option<Change> {
        Some(match part {
            Part::Rows(t, given) => {
                let table = tables.get(*t)?;
                let mut seen = BTreeSet::new();
                let mut changes = Vec::new();
                for (n, expect, put) in given {
                    if !seen.insert(*n) {
                        continue;
                    }
                    self.content += 1;
                    let values = row_of(table, *n, self.content);
                    if table.has_hidden_key() {
                        changes.push(change(&[], Expect::Any, Some(&values)));
                    } else {
                        let key = key_of(table, &values);
                        changes.push(change(&key, *expect, put.then_some(&values)));
                    }
                }
                rows(table.id, changes)
            }
            Part::Batch {
                table,
                expect,
                start,
                stride,
                count,
                descending,
                repeat,
            } => {
                let table = tables.get(*table)?;
                let mut all: Vec<_> = (0..*count)
                    .map(|i| {
                        self.content += 1;
                        row_of(table, start + i * stride, self.content)
                    })
                    .collect();
                if *descending {
                    all.reverse();
                }
                if *repeat {
                    all.push(row_of(table, *start, self.content + 1));
                    self.content += 1;
                }
                batch(table, *expect, &all)
            }
            Part::Truncate(t) => Change::Truncate(tables.get(*t)?.id),
            Part::Drop(t) => Change::DropTable(tables.get(*t)?.id),
            Part::Create(primary_key) => {
                let name = if *primary_key { "t" } else { "h" };
                Change::CreateTable(table(name, 0, *primary_key))
            }
        })
    }

    /// Another column in the place of one, or a wider one; there are four all the time.
    fn alter(&mut self, table: usize, how: u32) {
        let Some(table) = self.model.tables().get(table).cloned() else {
            return;
        };
        let mut schema = TableSchema::clone(&table);
        let position = 2 + (how % 2) as usize;
        let now = &schema.columns[position];
        let wider = match now.data_type {
            DataType::Int2 => Some(DataType::Int4),
            DataType::Int4 => Some(DataType::Int8),
            DataType::Float4 => Some(DataType::Float8),
            _ => None,
        };
        match wider.filter(|_| !how.is_multiple_of(3)) {
            Some(wider) => schema.widen_column(position, wider).unwrap(),
            None => {
                let (data_type, missing) = match how % 5 {
                    0 => (DataType::Int2, Value::Int2(7)),
                    1 => (DataType::Text, Value::Text("it was \\ missing".into())),
                    2 => (DataType::Float4, Value::Float4(1.1)),
                    _ => (DataType::Int2, Value::Null),
                };
                let mut column = ColumnSchema {
                    name: format!("c{how}"),
                    data_type,
                    ..now.clone()
                };
                column.set_missing(&missing);
                schema.remove_column(position);
                schema.add_column(column);
            }
        }
        let catalog = self.store.catalog();
        let edits = vec![CatalogEdit::Table(Box::new(schema))];
        let edit = Change::Catalog(CatalogChange::unconditional(edits.clone()));
        // As a transaction sees it that has not committed it.
        let view = self.store.read_view();
        let fresh_from = TableId(catalog.next_table_id);
        let seen = view.with_changes(
            view.stamp(),
            fresh_from,
            std::slice::from_ref(&edit),
            1 << 63,
        );
        let change = match how.is_multiple_of(2) {
            true => Change::Migrate(Migration {
                base: catalog.version,
                unchanged: vec![],
                changes: vec![edit],
            }),
            false => Change::Catalog(CatalogChange {
                base: catalog.version,
                unchanged: vec![],
                edits,
            }),
        };
        self.write(WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        });
        self.check(&seen.unwrap(), u64::from(how), 2, 16);
    }

    /// Cuts the power in the middle of something.
    fn cut_power(&mut self, during: Interrupted, writes: u64, seed: u64) {
        let flushed = self.store.flushed_index();
        let disk = &self.sim.disk;
        disk.crash_after_write_points(disk.write_points() + writes);
        // Whether it came to an end or the power went first, is seen afterwards.
        let _ = match during {
            Interrupted::Flush => self.store.flush_now(),
            Interrupted::CompactAll => self.store.compact_now(),
        };
        self.sim = SimEnv::with_disk(self.sim.disk.restart(seed), 1);
        self.reopen();
        assert!(self.store.flushed_index() >= flushed);
    }

    fn reopen(&mut self) {
        self.kept.clear();
        self.store.close();
        let options = options_of(self.size);
        self.store = Store::open(&self.sim.env(), Path::new("/store"), options).unwrap();
        assert_eq!(self.store.damage(), []);
        let from = self.store.applied_index();
        assert_eq!(from, self.store.flushed_index());
        for (index, recorded, set) in &self.log {
            if *index > from {
                let _ = self
                    .store
                    .apply_write_set(*index, *recorded, NODE, set)
                    .is_ok();
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Write(parts, back) => {
                let set = self.set(parts, *back);
                self.write(set);
            }
            Op::Alter(table, how) => self.alter(*table, *how),
            Op::Flush => {
                self.store.flush_now().unwrap();
                assert_eq!(self.store.flushed_index().0, self.log.len() as u64);
            }
            Op::Maintain => self.store.maintain().unwrap(),
            Op::CompactAll => self.store.compact_now().unwrap(),
            Op::Reopen => self.reopen(),
            Op::PowerCut(during, writes, seed) => self.cut_power(*during, *writes, *seed),
            Op::Keep => self.kept.push(self.store.read_view()),
        }
        self.read_some();
    }

    /// Reads the same few keys after every operation: rows of theirs stay in the cache while
    /// what they are from is flushed, compacted, truncated and dropped.
    fn read_some(&self) {
        let view = self.store.read_view();
        for table in self.model.tables() {
            if table.has_hidden_key() {
                continue;
            }
            for n in [1, 3, 4, 8, 9, 11] {
                self.check_get(&view, &table, &key_of(&table, &row(n, 0)));
            }
        }
    }

    /// Asks more than once: a row is cached when it is asked for again.
    fn check_get(&self, view: &ReadView, table: &Arc<TableSchema>, key: &[u8]) {
        let expected = self.model.get(table.id, key, view.stamp());
        for _ in 0..3 {
            let got = view.get(table, key).unwrap();
            let got_all = got.map(|f| (f.row.all_values().unwrap(), f.recorded));
            assert_eq!(got_all, expected);
        }
    }

    fn check(&self, view: &ReadView, seed: u64, partitions: usize, batch_rows: usize) {
        let names = |tables: Vec<Arc<TableSchema>>| -> Vec<_> {
            tables.iter().map(|t| (t.id, t.name.clone())).collect()
        };
        let mut in_view: Vec<_> = view.catalog().tables.values().cloned().collect();
        in_view.sort_by_key(|t| t.id);
        if view.stamp() == stamp(self.log.len() as u64) {
            assert_eq!(names(in_view.clone()), names(self.model.tables()));
        }
        let past = |n: u64| stamp(seed.wrapping_mul(n) % (self.log.len() as u64 + 2));
        let filters = [
            VersionFilter::Current,
            VersionFilter::AsOf(past(3)),
            VersionFilter::AsOf(Stamp(past(5).0 + 1)),
            VersionFilter::All,
            VersionFilter::Between {
                from: past(7).min(past(11)),
                to: past(7).max(past(11)),
                inclusive_to: seed.is_multiple_of(2),
            },
        ];
        let bound = |n: u64| row((seed.wrapping_mul(n) % 180) as u32, 0);
        for table in &in_view {
            // A view that was kept has tables as they were.
            let is_same = |t: &Arc<TableSchema>| t.id == table.id && t.stores_like(table);
            if !self.model.tables().iter().any(is_same) {
                continue;
            }
            let mut ranges = vec![KeyRange::ALL];
            if !table.has_hidden_key() {
                let (a, b) = (key_of(table, &bound(13)), key_of(table, &bound(17)));
                ranges.push(range(Some(&a), Some(&b)));
                ranges.push(KeyRange::only(&a));
                // A prefix: all keys with the same text.
                ranges.push(range(Some(&a[..a.len() - 8]), None));
                ranges.push(KeyRange {
                    lower: Bound::Excluded(a.clone().min(b.clone())),
                    upper: Bound::Included(a.max(b)),
                });
            }
            for (i, filter) in filters.into_iter().enumerate() {
                if self.size == Size::Small && (seed >> 32) as usize % filters.len() != i {
                    continue;
                }
                // All keys, and one of the other ranges.
                let other = 1 + (seed as usize + i) % 4;
                for range in ranges.first().into_iter().chain(ranges.get(other)) {
                    let mut request = request(filter);
                    request.key_range = range.clone();
                    request.partitions = partitions;
                    request.batch_rows = batch_rows;
                    let got = scan(view, table, request.clone());
                    let expected = self.model.scan(table.id, filter, range, view.stamp());
                    assert_same(&got, &expected, &format!("{filter:?} {range:?}"));
                    request.first_rows = (!seed.is_multiple_of(3)).then_some(seed as usize % 40);
                    let got = scan_descending(view, table, request.clone());
                    assert_same(&got, &expected, &format!("descending {filter:?} {range:?}"));
                    let got = scan(view, table, request.clone());
                    assert_same(&got, &expected, &format!("few first {filter:?} {range:?}"));
                    let got = scan_unordered(view, table, request.clone());
                    assert_same(&got, &expected, &format!("unordered {filter:?} {range:?}"));
                    self.check_narrow(view, table, request, &expected);
                }
            }
            if self.size != Size::Small || seed.is_multiple_of(4) {
                self.check_gets(view, table);
            }
        }
    }

    /// Without the system columns other shortcuts are taken.
    fn check_narrow(
        &self,
        view: &ReadView,
        table: &Arc<TableSchema>,
        mut request: chronos_store::ScanRequest,
        expected: &[Shown],
    ) {
        request.columns = vec![chronos_store::ScanColumn::Column(3)];
        let mut texts = Vec::new();
        for partition in view.scan(table, request.clone()).unwrap() {
            for batch in partition {
                let batch = batch.unwrap();
                for i in 0..batch.num_rows() {
                    let text = &table.columns[3].data_type;
                    texts.push(chronos_model::value_at(batch.column(0), i, text).unwrap());
                }
            }
        }
        let wanted: Vec<Value> = expected.iter().map(|s| s.values[3].clone()).collect();
        assert_same(&texts, &wanted, &format!("{:?}", request.filter));
        request.columns = Vec::new();
        request.limit = Some(5);
        request.partitions = 1;
        let mut count = 0;
        for partition in view.scan(table, request).unwrap() {
            count += partition.map(|b| b.unwrap().num_rows()).sum::<usize>();
        }
        assert_eq!(count, expected.len().min(5));
    }

    fn check_gets(&self, view: &ReadView, table: &Arc<TableSchema>) {
        let current = self.model.scan(
            table.id,
            VersionFilter::AsOf(view.stamp()),
            &KeyRange::ALL,
            view.stamp(),
        );
        let (estimate, exact) = view.table_rows_estimate(table);
        assert!(
            !exact || estimate == current.len() as u64,
            "{estimate} is not exact"
        );
        let mut keys: BTreeSet<Vec<u8>> = current.into_iter().map(|s| s.key).collect();
        if !table.has_hidden_key() {
            keys.extend((0..60).map(|n| key_of(table, &row(n, 0))));
        }
        for key in keys {
            self.check_get(view, table, &key);
            let expected = self.model.get(table.id, &key, view.stamp());
            let got = view.get(table, &key).unwrap();
            let newest = view.newest(table, &key).unwrap();
            if let (Some(found), Some((values, recorded))) = (got, expected) {
                assert_eq!(newest, Some((recorded, Kind::Put)));
                let some = found.row.values(&[3, 0]).unwrap();
                assert_eq!(some, [values[3].clone(), values[0].clone()]);
                assert_eq!(found.row.values(&[1]).unwrap(), [values[1].clone()]);
            }
        }
    }
}

/// Compares long lists and shows only where they first differ.
fn assert_same<T: PartialEq + Debug>(got: &[T], expected: &[T], what: &str) {
    if got != expected {
        let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
        panic!(
            "{what}: {} rows instead of {}; row {at} is {:?} instead of {:?}",
            got.len(),
            expected.len(),
            got.get(at),
            expected.get(at)
        );
    }
}

fn options_of(size: Size) -> StoreOptions {
    let mut options = options();
    if size != Size::Large {
        options.segment.page_rows = 4;
        options.memtable_bytes_max = 2 << 10;
    }
    // A few rows and blocks: they are evicted all the time.
    options.cache_bytes = match size {
        Size::Small | Size::Again => 4 << 10,
        Size::Large => 64 << 10,
    };
    options
}

/// A history, and how it is asked about.
#[derive(Clone, Debug)]
struct Case {
    ops: Vec<Op>,
    seed: u64,
    partitions: usize,
    batch_rows: usize,
}

fn case(size: Size) -> impl Strategy<Value = Case> {
    let length = match size {
        Size::Small => 1..9,
        Size::Again => 3..12,
        Size::Large => 1..25,
    };
    let ops = prop::collection::vec(op(size), length);
    (ops, any::<u64>(), 1usize..4, 1usize..60).prop_map(|(ops, seed, partitions, batch_rows)| {
        Case {
            ops,
            seed,
            partitions,
            batch_rows,
        }
    })
}

fn run_case(size: Size, case: &Case) {
    let Case {
        ops,
        seed,
        partitions,
        batch_rows,
    } = case;
    let mut run = Run::new(size);
    for op in ops {
        run.run(op);
    }
    run.check(&run.store.read_view(), *seed, *partitions, *batch_rows);
    for view in &run.kept {
        run.check(view, *seed, *partitions, *batch_rows);
    }
    if seed.is_multiple_of(8) {
        content::check_replicas(&run.store, &run.log, NODE, *seed);
        content::check_lagging(&run.store, &run.log, NODE, *seed);
    }
    run.reopen();
    let again = seed.rotate_left(9);
    run.check(&run.store.read_view(), again, *partitions, *batch_rows);
    run.store.flush_now().unwrap();
    run.store.compact_now().unwrap();
    let again = seed.rotate_left(21);
    run.check(&run.store.read_view(), again, *partitions, *batch_rows);
}

/// Runs the cases of many seeds on a few threads.
fn run_many(size: Size, count: u64) {
    run_cases(count, move || case(size), move |case| run_case(size, &case));
}

#[test]
fn small_histories_are_answered_as_the_model_answers_them() {
    run_many(Size::Small, 10_000);
}

#[test]
fn large_histories_are_answered_as_the_model_answers_them() {
    run_many(Size::Large, 400);
}

#[test]
fn what_is_inserted_again_is_answered_as_the_model_answers_it() {
    run_many(Size::Again, 1_500);
}
