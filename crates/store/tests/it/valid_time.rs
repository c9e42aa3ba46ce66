//! Random writes for periods of valid time on the store and on a naive model: the rectangles of
//! valid and system time that a replay, row by row, leaves. Whatever is asked of the one must be
//! what the other answers.
//!
//! `CHRONOS_STORE_SEED` and `CHRONOS_STORE_CASES` are as for the random histories.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use chronos_env::SimEnv;
use chronos_model::{
    Change, DataType, Expect, IndexColumn, IndexSchema, IndexState, Kind, NodeId, Period, Stamp,
    SystemColumn, TableId, TableSchema, Uniqueness, Value, WriteSet,
};
use chronos_store::{
    ApplyError, IndexScanRequest, KeyRange, LogIndex, ReadView, ScanColumn, ScanRequest, Store,
    ValidFilter, VersionFilter,
};
use proptest::prelude::*;

use crate::cases::run_cases;
use crate::content;
use crate::fixture::*;

const NODE: NodeId = NodeId(7);
const KEYS: u32 = 4;

#[derive(Clone, Debug)]
struct Part {
    key: u32,
    valid: Option<Period>,
    kind: Kind,
    expect: Expect,
}

#[derive(Clone, Debug)]
enum Op {
    Write(Vec<Part>),
    Batch(u32, Expect),
    Truncate,
    Flush,
    Maintain,
    CompactAll,
    Reopen,
}

fn moment() -> impl Strategy<Value = i64> {
    (0i64..24).prop_map(|step| 1_000_000 + step * 10)
}

fn period() -> impl Strategy<Value = Period> {
    let to = prop_oneof![3 => moment(), 1 => Just(Period::UNTIL_CHANGED)];
    let from = prop_oneof![9 => moment(), 1 => Just(Period::BEGINNING)];
    (from, to).prop_filter_map("empty", |(from, to)| {
        let period = Period { from, to };
        (!period.is_empty()).then_some(period)
    })
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        4 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        2 => Just(Expect::AbsentOrSkip),
        2 => Just(Expect::Unchanged),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let valid = prop::option::weighted(0.6, period());
    let kind = prop_oneof![
        12 => Just(Kind::Put),
        4 => Just(Kind::Delete),
        1 => Just(Kind::Erase),
    ];
    let part = (0..KEYS, valid, kind, expect());
    let part = part.prop_map(|(key, valid, kind, expect)| match kind {
        Kind::Erase => Part {
            key,
            valid: None,
            kind,
            expect: Expect::Any,
        },
        _ => Part {
            key,
            valid,
            kind,
            expect,
        },
    });
    let batched = expect().prop_map(|expect| match expect {
        Expect::Unchanged => Expect::Any,
        other => other,
    });
    prop_oneof![
        14 => prop::collection::vec(part, 1..4).prop_map(Op::Write),
        1 => (0u32..3, batched).prop_map(|(start, expect)| Op::Batch(start, expect)),
        1 => Just(Op::Truncate),
        3 => Just(Op::Flush),
        1 => Just(Op::Maintain),
        1 => Just(Op::CompactAll),
        1 => Just(Op::Reopen),
    ]
}

/// A row for a stretch of valid time and of system time.
#[derive(Clone, Debug, PartialEq)]
struct Rectangle {
    key: Vec<u8>,
    values: Vec<Value>,
    valid: Period,
    from: i64,
    to: Option<i64>,
}

impl Rectangle {
    fn order(&self) -> (Vec<u8>, i64, i64) {
        (self.key.clone(), self.from, self.valid.from)
    }
}

#[derive(Clone, Debug, Default)]
struct Model {
    live: Vec<Rectangle>,
    ended: Vec<Rectangle>,
}

impl Model {
    fn take_away(&mut self, key: &[u8], valid: Period, now: i64) {
        let touched = |r: &mut Rectangle| r.key == key && r.valid.overlaps(valid);
        let touched: Vec<_> = self.live.extract_if(.., touched).collect();
        for rectangle in touched {
            let left = Period {
                to: valid.from,
                ..rectangle.valid
            };
            let right = Period {
                from: valid.to,
                ..rectangle.valid
            };
            for valid in [left, right].into_iter().filter(|p| !p.is_empty()) {
                let (from, rest) = (now, rectangle.clone());
                self.live.push(Rectangle {
                    valid,
                    from,
                    ..rest
                });
            }
            self.end(rectangle, now);
        }
    }

    fn end(&mut self, rectangle: Rectangle, now: i64) {
        if rectangle.from < now {
            let to = Some(now);
            self.ended.push(Rectangle { to, ..rectangle });
        }
    }

    fn truncate(&mut self, now: i64) {
        for rectangle in std::mem::take(&mut self.live) {
            self.end(rectangle, now);
        }
    }

    fn is_there(&self, key: &[u8], valid: Period) -> bool {
        let mut live = self.live.iter();
        live.any(|r| r.key == key && r.valid.overlaps(valid))
    }

    /// False: refused.
    fn write(&mut self, part: &Part, key: &[u8], values: Vec<Value>, now: i64) -> bool {
        let valid = part.valid.unwrap_or(Period {
            from: now,
            to: Period::UNTIL_CHANGED,
        });
        let there = self.is_there(key, valid);
        match part.expect {
            Expect::Absent if there => return false,
            Expect::AbsentOrSkip if there => return true,
            _ => {}
        }
        if part.kind == Kind::Erase {
            self.live.retain(|r| r.key != key);
            self.ended.retain(|r| r.key != key);
            return true;
        }
        self.take_away(key, valid, now);
        if part.kind == Kind::Put {
            self.live.push(Rectangle {
                key: key.to_vec(),
                values,
                valid,
                from: now,
                to: None,
            });
        }
        true
    }

    fn all(&self) -> impl Iterator<Item = &Rectangle> {
        self.live.iter().chain(&self.ended)
    }

    fn scan(&self, system: VersionFilter, valid: ValidFilter, now: i64) -> Vec<Rectangle> {
        let in_system = |r: &Rectangle| {
            let to = r.to.unwrap_or(i64::MAX);
            match system {
                VersionFilter::Current => r.to.is_none(),
                VersionFilter::AsOf(at) => r.from <= at.micros() && to > at.micros(),
                VersionFilter::Between {
                    from,
                    to: end,
                    inclusive_to,
                } => {
                    let begins = r.from < end.micros() || inclusive_to && r.from == end.micros();
                    begins && to > from.micros()
                }
                VersionFilter::All => true,
            }
        };
        let in_valid = |p: Period| match valid {
            ValidFilter::Now => p.contains(now),
            ValidFilter::AsOf(moment) => p.contains(moment),
            ValidFilter::Between {
                from,
                to,
                inclusive_to,
            } => (p.from < to || inclusive_to && p.from == to) && p.to > from,
            ValidFilter::All => true,
            ValidFilter::Written => unreachable!("asked for by history only"),
        };
        let seen = self.all().filter(|r| in_system(r) && in_valid(r.valid));
        let mut seen: Vec<_> = seen.cloned().collect();
        seen.sort_by_key(Rectangle::order);
        seen
    }
}

struct Run {
    sim: SimEnv,
    store: Store,
    model: Model,
    log: Vec<(LogIndex, Stamp, WriteSet)>,
    content: u32,
}

impl Run {
    fn new() -> Run {
        let sim = SimEnv::new(1);
        sim.clock.set_now_micros(0);
        let store = Store::open(&sim.env(), Path::new("/store"), options()).unwrap();
        let mut run = Run {
            sim,
            store,
            model: Model::default(),
            log: Vec::new(),
            content: 0,
        };
        run.apply(vec![Change::CreateTable(table("t", 0, true))])
            .unwrap();
        let table = run.table();
        run.apply(vec![Change::CreateIndex(index_of(&table))])
            .unwrap();
        let index = run.store.catalog().indexes["by_v"].clone();
        run.store.build_index(index.id).unwrap();
        run.apply(vec![Change::SetIndexState(index.id, IndexState::Valid)])
            .unwrap();
        run
    }

    fn table(&self) -> Arc<TableSchema> {
        self.store.catalog().tables["t"].clone()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), ApplyError> {
        let begin = self.store.floor();
        self.apply_since(begin, changes)
    }

    fn apply_since(&mut self, begin: Stamp, changes: Vec<Change>) -> Result<(), ApplyError> {
        let index = LogIndex(self.log.len() as u64 + 1);
        let set = WriteSet { begin, changes };
        let result = self
            .store
            .apply_write_set(index, stamp(index.0), NODE, &set);
        self.log.push((index, stamp(index.0), set));
        result.map(|_| ())
    }

    fn now(&self) -> i64 {
        stamp(self.log.len() as u64 + 1).micros()
    }

    fn write(&mut self, parts: &[Part]) {
        let table = self.table();
        let (now, mut after) = (self.now(), self.model.clone());
        let mut changes = Vec::new();
        let mut accepted = true;
        for part in parts {
            self.content += 1;
            let values = row(part.key, self.content);
            let key = key_of(&table, &values);
            let is_put = part.kind == Kind::Put;
            let mut change = change(&key, part.expect, is_put.then_some(&values[..]));
            (change.kind, change.valid) = (part.kind, part.valid);
            changes.push(change);
            accepted = accepted && after.write(part, &key, values, now);
        }
        self.finish(vec![rows(table.id, changes)], accepted, after);
    }

    fn batch(&mut self, start: u32, expect: Expect) {
        let table = self.table();
        let (now, mut after) = (self.now(), self.model.clone());
        let mut accepted = true;
        let mut all = Vec::new();
        // As many as make a run; those beyond the keys that are looked at are not kept.
        for key in start..start + 70 {
            self.content += 1;
            let values = row(key, self.content);
            let part = Part {
                key,
                valid: None,
                kind: Kind::Put,
                expect,
            };
            accepted =
                accepted && after.write(&part, &key_of(&table, &values), values.clone(), now);
            all.push(values);
        }
        self.finish(vec![batch(&table, expect, &all)], accepted, after);
    }

    fn finish(&mut self, changes: Vec<Change>, accepted: bool, after: Model) {
        match self.apply(changes) {
            Ok(()) => assert!(accepted, "written although a row is there"),
            Err(ApplyError::UniqueViolation { .. }) => assert!(!accepted, "refused"),
            Err(other) => panic!("{other}"),
        }
        if accepted {
            self.model = after;
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Write(parts) => self.write(parts),
            Op::Batch(start, expect) => self.batch(*start, *expect),
            Op::Truncate => {
                let now = self.now();
                self.model.truncate(now);
                let id = self.table().id;
                self.apply(vec![Change::Truncate(id)]).unwrap();
            }
            Op::Flush => self.store.flush_now().unwrap(),
            Op::Maintain => self.store.maintain().unwrap(),
            Op::CompactAll => {
                self.store.flush_now().unwrap();
                self.store.compact_now().unwrap();
            }
            Op::Reopen => self.reopen(),
        }
    }

    fn reopen(&mut self) {
        self.store.close();
        self.store = Store::open(&self.sim.env(), Path::new("/store"), options()).unwrap();
        let from = self.store.applied_index();
        for (index, recorded, set) in self.log.iter().filter(|(index, ..)| *index > from) {
            let _ = self
                .store
                .apply_write_set(*index, *recorded, NODE, set)
                .is_ok();
        }
    }

    fn check(&self, seed: u64) {
        let table = self.table();
        let past = |n: u64| stamp(seed.wrapping_mul(n) % (self.log.len() as u64 + 2));
        let moment = |n: u64| 1_000_000 + (seed.wrapping_mul(n) % 24) as i64 * 10;
        let last = Stamp(self.store.floor().0).micros();
        self.sim
            .clock
            .set_now_micros((last + (seed % 8) as i64 * 10) as u64);
        let view = self.store.read_view();
        let now = last + (seed % 8) as i64 * 10;
        let end_of = |s: Stamp| Stamp::last_of_micros(s.micros());
        let systems = [
            VersionFilter::Current,
            VersionFilter::AsOf(end_of(past(3))),
            VersionFilter::All,
            VersionFilter::Between {
                from: end_of(past(7).min(past(11))),
                to: end_of(past(7).max(past(11))),
                inclusive_to: true,
            },
        ];
        let valids = [
            ValidFilter::Now,
            ValidFilter::AsOf(moment(13)),
            ValidFilter::All,
            ValidFilter::Between {
                from: moment(17).min(moment(19)),
                to: moment(17).max(moment(19)),
                inclusive_to: seed.is_multiple_of(2),
            },
        ];
        // Some of the sixteen combinations, each once in four cases.
        for (i, system) in systems.into_iter().enumerate() {
            let valid = valids[(seed >> (2 * i + 32)) as usize % 4];
            let expected = self.model.scan(system, valid, now);
            self.check_scan(&view, &table, system, valid, &expected);
        }
        let current = self
            .model
            .scan(VersionFilter::Current, ValidFilter::Now, now);
        for n in 0..KEYS {
            let key = key_of(&table, &row(n, 0));
            let found = view.get(&table, &key).unwrap();
            let values = found.map(|found| found.row.all_values().unwrap());
            let expected = current.iter().find(|r| r.key == key);
            assert_eq!(values, expected.map(|r| r.values.clone()), "get {n}");
        }
    }

    fn check_scan(
        &self,
        view: &ReadView,
        table: &Arc<TableSchema>,
        filter: VersionFilter,
        valid: ValidFilter,
        expected: &[Rectangle],
    ) {
        let what = format!("{filter:?} {valid:?}");
        let request = ScanRequest {
            valid,
            ..request(filter)
        };
        let partitions = view.scan(table, request.clone()).unwrap();
        let batches = partitions.into_iter().flatten().map(Result::unwrap);
        assert_eq!(rectangles(table, batches), expected, "{what}");
        let partitions = view.scan_unordered(table, request.clone()).unwrap();
        let batches = partitions.into_iter().flatten().map(Result::unwrap);
        assert_eq!(rectangles(table, batches), expected, "unordered {what}");
        // Without the system columns other shortcuts are taken.
        let narrow = ScanRequest {
            columns: vec![ScanColumn::Column(3)],
            ..request.clone()
        };
        let partitions = view.scan(table, narrow).unwrap();
        let rows = partitions
            .into_iter()
            .flatten()
            .map(|b| b.unwrap().num_rows());
        assert_eq!(rows.sum::<usize>(), expected.len(), "narrow {what}");
        for n in 0..2 {
            let key = key_of(table, &row(n, 0));
            let one = ScanRequest {
                key_range: KeyRange {
                    lower: Bound::Included(key.clone()),
                    upper: Bound::Included(key.clone()),
                },
                ..request.clone()
            };
            let partitions = view.scan(table, one).unwrap();
            let batches = partitions.into_iter().flatten().map(Result::unwrap);
            let of_key: Vec<_> = expected.iter().filter(|r| r.key == key).cloned().collect();
            assert_eq!(rectangles(table, batches), of_key, "key {n} {what}");
        }
        let index = view.catalog().indexes["by_v"].clone();
        let by_index = IndexScanRequest {
            columns: request.columns,
            filter,
            valid,
            ranges: vec![KeyRange::ALL],
            batch_rows: 16,
            limit: None,
        };
        let batches = view
            .index_scan(&index, &by_index)
            .unwrap()
            .map(Result::unwrap);
        assert_eq!(rectangles(table, batches), expected, "by index {what}");
    }
}

fn index_of(table: &TableSchema) -> IndexSchema {
    IndexSchema {
        id: TableId(0),
        name: "by_v".into(),
        table: table.id,
        columns: vec![IndexColumn {
            column: 2,
            descending: false,
            nulls_first: false,
        }],
        included: vec![],
        unique: Uniqueness::No,
        conditions: vec![],
        state: IndexState::Building,
        created: 0,
        for_foreign_key: false,
    }
}

fn rectangles(
    table: &TableSchema,
    batches: impl Iterator<Item = arrow_array::RecordBatch>,
) -> Vec<Rectangle> {
    let mut found = Vec::new();
    let value = |batch: &arrow_array::RecordBatch, c: usize, row: usize, of: &DataType| {
        chronos_model::value_at(batch.column(c), row, of).unwrap()
    };
    for batch in batches {
        for row in 0..batch.num_rows() {
            let micros = |c: usize| match value(&batch, 4 + c, row, &DataType::TimestampTz) {
                Value::TimestampTz(t) => Some(t),
                _ => None,
            };
            let of = |column: SystemColumn| {
                let mut all = SystemColumn::ALL.iter();
                all.position(|c| *c == column).unwrap()
            };
            let Value::Bytea(key) = value(&batch, 4 + of(SystemColumn::Key), row, &DataType::Bytea)
            else {
                panic!("a key is NULL");
            };
            let values = (0..4).map(|c| value(&batch, c, row, &table.columns[c].data_type));
            found.push(Rectangle {
                key,
                values: values.collect(),
                valid: Period {
                    from: micros(of(SystemColumn::ValidFrom)).unwrap_or(Period::BEGINNING),
                    to: micros(of(SystemColumn::ValidTo)).unwrap_or(Period::UNTIL_CHANGED),
                },
                from: micros(of(SystemColumn::SystemFrom)).unwrap(),
                to: micros(of(SystemColumn::SystemTo)),
            });
        }
    }
    found.sort_by_key(Rectangle::order);
    found
}

#[test]
fn rows_are_the_rectangles_of_a_replay() {
    let case = || (prop::collection::vec(op(), 1..22), any::<u64>());
    run_cases(1500, case, |(ops, seed)| {
        let mut run = Run::new();
        for op in &ops {
            run.run(op);
        }
        run.check(seed);
        run.reopen();
        run.check(seed.rotate_left(11));
        run.store.flush_now().unwrap();
        run.store.compact_now().unwrap();
        run.check(seed.rotate_left(23));
        if seed.is_multiple_of(2) {
            content::check_replicas(&run.store, &run.log, NODE, seed);
        }
    });
}

/// A text that is stored as it is, in which no other is found.
fn secret(n: u64) -> String {
    let mut state = n + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    (0..200).map(|_| next()).collect()
}

impl Run {
    /// Whether a text stands in some segment.
    fn is_on_disk(&self, text: &str) -> bool {
        let disk = self.sim.env().disk;
        let directory = Path::new("/store/segments");
        disk.read_dir(directory).unwrap().iter().any(|name| {
            let bytes = disk.read(&directory.join(name)).unwrap();
            bytes.windows(text.len()).any(|w| w == text.as_bytes())
        })
    }

    fn put_secret(&mut self, key: u32, text: &str) {
        let table = self.table();
        let mut values = row(key, 1);
        values[3] = Value::Text(text.to_owned());
        let change = change(&key_of(&table, &values), Expect::Any, Some(&values));
        self.apply(vec![rows(table.id, vec![change])]).unwrap();
    }
}

#[test]
fn what_is_erased_leaves_the_disk_with_its_history_and_its_entries() {
    let mut run = Run::new();
    let table = run.table();
    let mut index = index_of(&table);
    index.name = "by_s".into();
    index.columns[0].column = 3;
    run.apply(vec![Change::CreateIndex(index)]).unwrap();
    let id = run.store.catalog().indexes["by_s"].id;
    run.store.build_index(id).unwrap();
    // Two versions each: one of them becomes history.
    for n in 0..4 {
        for version in 0..2 {
            run.put_secret(n, &secret(u64::from(n * 2 + version)));
            run.store.flush_now().unwrap();
        }
    }
    run.store.compact_now().unwrap();
    assert!((0..8).all(|n| run.is_on_disk(&secret(n))));

    let key = key_of(&table, &row(1, 1));
    let mut erase = change(&key, Expect::Any, None);
    erase.kind = Kind::Erase;
    let before = run.store.floor();
    run.apply(vec![rows(table.id, vec![erase])]).unwrap();
    let filters = [
        VersionFilter::Current,
        VersionFilter::AsOf(before),
        VersionFilter::All,
    ];
    let left = |run: &Run| -> Vec<usize> {
        let view = run.store.read_view();
        let shown = |filter| scan(&view, &table, request(filter)).len();
        filters.into_iter().map(shown).collect()
    };
    assert_eq!(left(&run), [3, 3, 6], "at once");
    run.store.compact_tables(&[table.id], false).unwrap();
    let found: Vec<u64> = (0..8).filter(|n| run.is_on_disk(&secret(*n))).collect();
    assert_eq!(found, [0, 1, 4, 5, 6, 7]);
    assert_eq!(left(&run), [3, 3, 6], "compacted");
    // Who read it before does not bring it back.
    let mut update = change(&key, Expect::Unchanged, Some(&row(1, 1)));
    update.key.0 = key.clone().into();
    let refused = run.apply_since(before, vec![rows(table.id, vec![update])]);
    assert!(
        matches!(refused, Err(ApplyError::Conflict { .. })),
        "{refused:?}"
    );
    // Nor does an index that is built later.
    let mut index = index_of(&table);
    index.name = "later".into();
    index.columns[0].column = 3;
    run.apply(vec![Change::CreateIndex(index)]).unwrap();
    let id = run.store.catalog().indexes["later"].id;
    run.store.build_index(id).unwrap();
    run.store.compact_now().unwrap();
    assert!(!run.is_on_disk(&secret(2)) && !run.is_on_disk(&secret(3)));
    run.reopen();
    assert_eq!(left(&run), [3, 3, 6], "opened again");
    run.put_secret(1, &secret(9));
    assert_eq!(left(&run), [4, 3, 7], "written again");
}
