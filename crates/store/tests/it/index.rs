//! Secondary indexes against the naive model: what a scan by an index gives is what a filtered
//! and sorted full scan gives, of every moment, whatever was flushed and compacted; and a
//! unique index refuses what would leave two rows with the same values.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use chronos_env::SimEnv;
use chronos_model::{
    value_at, Change, CompareWith, Condition, DataType, Expect, IndexColumn, IndexSchema,
    IndexState, NodeId, Stamp, SystemColumn, TableId, TableSchema, Test, Uniqueness, Value,
    WriteSet,
};
use chronos_store::{
    Applied, ApplyError, IndexScanRequest, KeyRange, LogIndex, ReadView, ScanColumn, Store,
    VersionFilter,
};
use proptest::prelude::*;

use crate::fixture::*;
use crate::model::Model;

const NODE: NodeId = NodeId(7);
const TABLE: TableId = TableId(1);

#[derive(Clone, Debug)]
struct Spec {
    columns: Vec<(usize, bool, bool)>,
    condition: u32,
    unique: bool,
}

#[derive(Clone, Debug)]
enum Op {
    /// Row, content (`None`: delete), precondition.
    Rows(Vec<(u32, Option<u32>, Expect)>),
    /// Rows `start, start + stride, ..` with contents from one on.
    Batch(u32, u32, u32, u32),
    Truncate,
    Flush,
    Maintain,
    CompactAll,
    Reopen,
    Keep,
    Create(Spec),
    /// Builds what is to be built.
    Build,
    Drop(usize),
}

fn spec() -> impl Strategy<Value = Spec> {
    let column = (0usize..4, any::<bool>(), any::<bool>());
    let columns = prop::collection::vec(column, 1..3);
    let unique = prop::bool::weighted(0.4);
    (columns, 0u32..4, unique).prop_map(|(columns, condition, unique)| Spec {
        columns,
        condition,
        unique,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let expect = prop_oneof![
        3 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        1 => Just(Expect::AbsentOrSkip),
        1 => Just(Expect::Unchanged),
    ];
    let one = (0u32..40, prop::option::weighted(0.8, 0u32..40), expect);
    prop_oneof![
        10 => prop::collection::vec(one, 1..6).prop_map(Op::Rows),
        2 => (0u32..60, 1u32..3, 1u32..90, 0u32..40).prop_map(|(a, b, c, d)| Op::Batch(a, b, c, d)),
        1 => Just(Op::Truncate),
        3 => Just(Op::Flush),
        1 => Just(Op::Maintain),
        1 => Just(Op::CompactAll),
        1 => Just(Op::Reopen),
        1 => Just(Op::Keep),
        3 => spec().prop_map(Op::Create),
        3 => Just(Op::Build),
        1 => (0usize..4).prop_map(Op::Drop),
    ]
}

/// Row `n`, with few different values besides its key.
fn values(n: u32, content: u32) -> Vec<Value> {
    let mut row = row(n, 0);
    row[2] = match content % 5 {
        0 => Value::Null,
        v => Value::Float8(f64::from(v) - 2.5),
    };
    row[3] = match content / 5 % 4 {
        0 => Value::Null,
        1 => Value::Text(String::new()),
        s => Value::Text(format!("s\0{s}")),
    };
    row
}

fn schema(spec: &Spec, name: String, table: &TableSchema) -> IndexSchema {
    let conditions = match spec.condition {
        0 | 1 => vec![],
        2 => vec![Condition {
            column: 3,
            test: Test::IsNotNull,
        }],
        _ => vec![
            Condition::compare(table, 2, CompareWith::GtEq, &Value::Float8(-0.5)).unwrap(),
            Condition::compare(table, 0, CompareWith::NotEq, &Value::Int8(3)).unwrap(),
        ],
    };
    let columns = spec
        .columns
        .iter()
        .map(|(column, descending, nulls_first)| IndexColumn {
            column: *column,
            descending: *descending,
            nulls_first: *nulls_first,
        });
    IndexSchema {
        id: TableId(0),
        name,
        table: table.id,
        columns: columns.collect(),
        included: vec![],
        unique: match spec.unique {
            true => Uniqueness::Index,
            false => Uniqueness::No,
        },
        conditions,
        state: IndexState::Building,
        created: 0,
        for_foreign_key: false,
    }
}

/// Whether scans by the valid indexes of a view are what full scans are.
pub(crate) fn check_valid(model: &Model, view: &ReadView, filter: VersionFilter) {
    let indexes = view.catalog().indexes.values();
    for index in indexes.filter(|i| i.state == IndexState::Valid) {
        let table = view.catalog().table_by_id(index.table).unwrap();
        let ranges = [KeyRange::ALL];
        let request = IndexScanRequest {
            valid: Default::default(),
            columns: all_columns(),
            filter,
            ranges: ranges.to_vec(),
            batch_rows: 50,
            limit: None,
        };
        let got = index_scan(view, index, &request);
        let expected = expected(model, table, index, filter, &ranges, view.stamp());
        assert_eq!(got, expected, "{filter:?} by {}", index.name);
    }
}

/// What a full scan gives, filtered and sorted as the index is.
fn expected(
    model: &Model,
    table: &TableSchema,
    index: &IndexSchema,
    filter: VersionFilter,
    ranges: &[KeyRange],
    view: Stamp,
) -> Vec<Shown> {
    use std::ops::RangeBounds;
    let all = model.scan(table.id, filter, &KeyRange::ALL, view);
    let mut entries: Vec<(Vec<u8>, Shown)> = Vec::new();
    for shown in all {
        let Some(prefix) = index.prefix_of_row(table, &shown.values).unwrap() else {
            continue;
        };
        let entry = [prefix.bytes.as_slice(), &shown.key].concat();
        let within = |r: &KeyRange| (r.lower.clone(), r.upper.clone()).contains(&entry);
        if ranges.iter().any(within) {
            entries.push((entry, shown));
        }
    }
    entries.sort_by(|(a, x), (b, y)| a.cmp(b).then(y.from.cmp(&x.from)));
    entries.into_iter().map(|(_, shown)| shown).collect()
}

/// An ascending index of some columns, not unique, without conditions.
pub(crate) fn plain(name: &str, table: &TableSchema, columns: &[usize]) -> IndexSchema {
    let spec = Spec {
        columns: columns.iter().map(|c| (*c, false, false)).collect(),
        condition: 0,
        unique: false,
    };
    schema(&spec, name.into(), table)
}

/// The rows of a scan as [`Shown`], in the order in which they came.
fn index_scan(view: &ReadView, index: &Arc<IndexSchema>, request: &IndexScanRequest) -> Vec<Shown> {
    let table = view.catalog().table_by_id(index.table).unwrap().clone();
    let mut shown = Vec::new();
    for batch in view.index_scan(index, request).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.num_rows() > 0);
        let micros = |column: usize, row: usize| match value_at(
            batch.column(column),
            row,
            &DataType::TimestampTz,
        )
        .unwrap()
        {
            Value::TimestampTz(t) => Some(t),
            _ => None,
        };
        for row in 0..batch.num_rows() {
            let Value::Bytea(key) = value_at(batch.column(8), row, &DataType::Bytea).unwrap()
            else {
                panic!("a key is NULL");
            };
            let value =
                |c: usize| value_at(batch.column(c), row, &table.columns[c].data_type).unwrap();
            shown.push(Shown {
                key,
                from: micros(4, row).unwrap(),
                to: micros(5, row),
                values: (0..4).map(value).collect(),
            });
        }
    }
    shown
}

fn all_columns() -> Vec<ScanColumn> {
    let mut columns: Vec<ScanColumn> = (0..4).map(ScanColumn::Column).collect();
    columns.extend(SystemColumn::ALL.map(ScanColumn::System));
    columns
}

struct Run {
    sim: SimEnv,
    store: Store,
    model: Model,
    log: Vec<(LogIndex, Stamp, WriteSet)>,
    kept: Vec<ReadView>,
    created: u32,
}

impl Run {
    fn new() -> Run {
        let sim = SimEnv::new(1);
        let store = Store::open(&sim.env(), Path::new("/store"), options()).unwrap();
        let mut run = Run {
            sim,
            store,
            model: Model::new(),
            log: Vec::new(),
            kept: Vec::new(),
            created: 0,
        };
        run.apply(vec![Change::CreateTable(table("t", 0, true))])
            .unwrap();
        run
    }

    fn table(&self) -> Arc<TableSchema> {
        self.store.catalog().table("t").unwrap().clone()
    }

    /// Rows that two current ones have in common in a unique index that is in force.
    fn duplicate(&self, model: &Model, enforced_only: bool, now: Stamp) -> bool {
        let table = self.table();
        let catalog = self.store.catalog();
        let rows = model.scan(TABLE, VersionFilter::AsOf(now), &KeyRange::ALL, now);
        catalog
            .indexes
            .values()
            .filter(|i| i.unique != Uniqueness::No && (i.is_enforced() || !enforced_only))
            .any(|index| {
                let mut seen = BTreeMap::new();
                rows.iter().any(|row| {
                    let prefix = index.prefix_of_row(&table, &row.values).unwrap();
                    let prefix = prefix.filter(|p| !p.has_null);
                    prefix.is_some_and(|p| seen.insert(p.bytes, ()).is_some())
                })
            })
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<Applied, ApplyError> {
        let index = LogIndex(self.log.len() as u64 + 1);
        let recorded = stamp(index.0);
        let set = WriteSet {
            begin: Stamp::MAX,
            changes,
        };
        let mut next = self.model.clone();
        let in_model = next.apply(recorded, &set);
        let has_rows = |c: &Change| matches!(c, Change::Rows(_) | Change::Batch(_));
        let has_rows = set.changes.iter().any(has_rows);
        let refused = in_model.is_err() || (has_rows && self.duplicate(&next, true, recorded));
        let got = self.store.apply_write_set(index, recorded, NODE, &set);
        self.log.push((index, recorded, set));
        match &got {
            Ok(_) => assert!(!refused, "must be refused"),
            Err(ApplyError::UniqueViolation { .. } | ApplyError::Conflict { .. }) => {
                assert!(refused, "must not be refused");
            }
            Err(other) => panic!("{other}"),
        }
        if got.is_ok() {
            self.model = next;
        }
        got
    }

    fn build(&mut self) {
        let indexes: Vec<_> = self.store.catalog().indexes.values().cloned().collect();
        for index in indexes.iter().filter(|i| i.state == IndexState::Building) {
            self.store.build_index(index.id).unwrap();
            if index.unique != Uniqueness::No {
                // Enforced from here on, whatever is there; the model knows only the rule.
                let index_number = LogIndex(self.log.len() as u64 + 1);
                let recorded = stamp(index_number.0);
                let set = WriteSet {
                    begin: Stamp::MAX,
                    changes: vec![Change::SetIndexState(index.id, IndexState::Checking)],
                };
                self.store
                    .apply_write_set(index_number, recorded, NODE, &set)
                    .unwrap();
                self.log.push((index_number, recorded, set));
                let found = self.store.find_duplicate(index.id).unwrap();
                let others: Vec<_> = self.store.catalog().indexes.values().cloned().collect();
                let alone = others.iter().filter(|i| i.is_enforced()).count() == 1;
                let naive = self.duplicate(&self.model, true, recorded);
                assert!(!alone || naive == found.is_some());
                if found.is_some() {
                    self.apply(vec![Change::DropIndex(index.id)]).unwrap();
                    continue;
                }
            }
            self.apply(vec![Change::SetIndexState(index.id, IndexState::Valid)])
                .unwrap();
        }
    }

    fn reopen(&mut self) {
        self.kept.clear();
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

    fn run(&mut self, op: &Op) {
        match op {
            Op::Rows(given) => {
                let table = self.table();
                let mut changes = BTreeMap::new();
                for (n, content, expect) in given {
                    let row = values(*n, content.unwrap_or(0));
                    let key = key_of(&table, &row);
                    let row = content.is_some().then_some(row.as_slice());
                    changes.insert(*n, change(&key, *expect, row));
                }
                let _ = self
                    .apply(vec![rows(TABLE, changes.into_values().collect())])
                    .is_ok();
            }
            Op::Batch(start, stride, count, content) => {
                let all: Vec<_> = (0..*count)
                    .map(|i| values(start + i * stride, content + i))
                    .collect();
                let table = self.table();
                let _ = self.apply(vec![batch(&table, Expect::Any, &all)]).is_ok();
            }
            Op::Truncate => drop(self.apply(vec![Change::Truncate(TABLE)]).unwrap()),
            Op::Flush => self.store.flush_now().unwrap(),
            Op::Maintain => self.store.maintain().unwrap(),
            Op::CompactAll => self.store.compact_now().unwrap(),
            Op::Reopen => self.reopen(),
            Op::Keep => self.kept.push(self.store.read_view()),
            Op::Create(spec) => {
                if self.store.catalog().indexes.len() < 4 {
                    self.created += 1;
                    let name = format!("i{}", self.created);
                    let index = schema(spec, name, &self.table());
                    self.apply(vec![Change::CreateIndex(index)]).unwrap();
                }
            }
            Op::Build => self.build(),
            Op::Drop(i) => {
                let id = self.store.catalog().indexes.values().nth(*i).map(|i| i.id);
                if let Some(id) = id {
                    self.apply(vec![Change::DropIndex(id)]).unwrap();
                }
            }
        }
    }

    fn check(&self, view: &ReadView, seed: u64, batch_rows: usize) {
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
        let table = view.catalog().table("t").unwrap().clone();
        let indexes = view.catalog().indexes.values();
        for index in indexes.filter(|i| i.state == IndexState::Valid) {
            let some = values((seed % 40) as u32, (seed / 7 % 40) as u32);
            let other = values((seed / 3 % 40) as u32, (seed / 11 % 40) as u32);
            let mut bounds = Vec::new();
            for row in [&some, &other] {
                let mut prefix = Vec::new();
                let first = index.columns[0].column;
                index
                    .put_column(&table, 0, &row[first], &mut prefix)
                    .unwrap();
                bounds.push(prefix);
            }
            bounds.sort();
            let ranges = [
                vec![KeyRange::ALL],
                vec![range(Some(&bounds[0]), Some(&bounds[1]))],
                vec![
                    range(None, Some(&bounds[0])),
                    KeyRange {
                        lower: Bound::Excluded(bounds[1].clone()),
                        upper: Bound::Unbounded,
                    },
                ],
            ];
            for (filter, ranges) in filters.iter().zip(ranges.iter().cycle()) {
                let expected = expected(&self.model, &table, index, *filter, ranges, view.stamp());
                let mut request = IndexScanRequest {
                    valid: Default::default(),
                    columns: all_columns(),
                    filter: *filter,
                    ranges: ranges.clone(),
                    batch_rows,
                    limit: None,
                };
                let got = index_scan(view, index, &request);
                assert_eq!(got, expected, "{filter:?} {ranges:?} {index:?}");
                request.limit = Some(3);
                let got = index_scan(view, index, &request);
                assert_eq!(got, expected[..expected.len().min(3)], "limited {filter:?}");
                // Without the system columns other shortcuts are taken.
                request.columns = vec![ScanColumn::Column(0), ScanColumn::Column(3)];
                request.limit = None;
                let narrow = view.index_scan(index, &request).unwrap();
                let rows = narrow.flat_map(|batch| {
                    let batch = batch.unwrap();
                    let value = |row: usize, at: usize, column: usize| {
                        let data_type = &table.columns[column].data_type;
                        value_at(batch.column(at), row, data_type).unwrap()
                    };
                    let rows = 0..batch.num_rows();
                    rows.map(|row| [value(row, 0, 0), value(row, 1, 3)])
                        .collect::<Vec<_>>()
                });
                let wanted = expected
                    .iter()
                    .map(|shown| [shown.values[0].clone(), shown.values[3].clone()]);
                assert!(rows.eq(wanted), "narrow {filter:?}");
                let count = view.count_entries(index, ranges, u64::MAX).unwrap();
                if matches!(filter, VersionFilter::Current) {
                    assert!(count >= expected.len() as u64);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_scan_by_an_index_is_a_filtered_scan(
        first in spec(),
        ops in prop::collection::vec(op(), 1..30),
        seed in any::<u64>(),
        batch_rows in 1usize..60,
    ) {
        let mut run = Run::new();
        run.run(&Op::Create(first));
        for op in &ops {
            run.run(op);
        }
        run.build();
        run.check(&run.store.read_view(), seed, batch_rows);
        for view in &run.kept {
            run.check(view, seed, batch_rows);
        }
        run.reopen();
        run.check(&run.store.read_view(), seed.rotate_left(9), batch_rows);
        run.store.flush_now().unwrap();
        run.store.compact_now().unwrap();
        run.check(&run.store.read_view(), seed.rotate_left(21), batch_rows);
    }
}

fn unique_run(columns: Vec<(usize, bool, bool)>) -> Run {
    let mut run = Run::new();
    run.run(&Op::Create(Spec {
        columns,
        condition: 0,
        unique: true,
    }));
    run.build();
    run
}

/// `(a, b)` is the key, `s` unique.
fn person(n: i64, s: &str) -> Vec<Value> {
    vec![
        Value::Int8(n),
        Value::Text(String::new()),
        Value::Null,
        Value::Text(s.into()),
    ]
}

#[test]
fn rows_may_exchange_unique_values() {
    let mut run = unique_run(vec![(3, true, false)]);
    let table = run.table();
    let put = |n: i64, s: &str| {
        let row = person(n, s);
        change(&key_of(&table, &row), Expect::Any, Some(&row))
    };
    run.apply(vec![rows(TABLE, vec![put(1, "x"), put(2, "y")])])
        .unwrap();
    run.store.flush_now().unwrap();
    run.apply(vec![rows(TABLE, vec![put(1, "y"), put(2, "x")])])
        .unwrap();
    let refused = run.apply(vec![rows(TABLE, vec![put(3, "x")])]).unwrap_err();
    let ApplyError::UniqueViolation {
        constraint, key, ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(
        (constraint.as_str(), key),
        ("i1", vec![Value::Text("x".into())])
    );
    run.apply(vec![rows(TABLE, vec![put(3, "z"), put(4, "z")])])
        .unwrap_err();
    // What a row has given up is free.
    run.apply(vec![rows(TABLE, vec![put(2, "w")])]).unwrap();
    run.apply(vec![rows(TABLE, vec![put(3, "x")])]).unwrap();
    run.apply(vec![Change::Truncate(TABLE)]).unwrap();
    run.apply(vec![rows(TABLE, vec![put(9, "x")])]).unwrap();
}

#[test]
fn rows_that_are_not_distinct_are_left_out() {
    for size in [4i64, 200] {
        let mut run = unique_run(vec![(3, false, false)]);
        let table = run.table();
        let taken = person(1, "n 2");
        let first = change(&key_of(&table, &taken), Expect::Any, Some(&taken));
        run.apply(vec![rows(TABLE, vec![first])]).unwrap();
        // Backwards, so that batches are put in another order; the last two share a value.
        let mut all: Vec<_> = (10..10 + size)
            .rev()
            .map(|n| person(n, &format!("n {}", n % size)))
            .collect();
        all.push(person(5, &format!("n {}", 11 % size)));
        let index = LogIndex(run.log.len() as u64 + 1);
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![batch(&table, Expect::DistinctOrSkip, &all)],
        };
        let applied = run
            .store
            .apply_write_set(index, stamp(index.0), NODE, &set)
            .unwrap();
        let skipped = all.iter().position(|row| row[3] == taken[3]).unwrap() as u32;
        assert_eq!(applied.skipped_rows, [skipped, size as u32]);
        assert_eq!(applied.rows, size as u64 - 1);
        let view = run.store.read_view();
        let current = scan(&view, &table, request(VersionFilter::Current));
        assert_eq!(current.len() as u64, size as u64);
    }
}

#[test]
fn entries_that_were_added_twice_are_stored_once() {
    let mut run = Run::new();
    run.run(&Op::Create(Spec {
        columns: vec![(3, false, false)],
        condition: 0,
        unique: false,
    }));
    run.build();
    for content in 0..20 {
        // The text stays, the number changes.
        run.run(&Op::Rows(vec![(1, Some(5 + content % 5), Expect::Any)]));
        run.store.flush_now().unwrap();
    }
    run.store.compact_now().unwrap();
    let stats = run.store.stats();
    assert_eq!(stats.segment_rows - stats.history_rows, 2);
    assert_eq!(stats.history_rows, 19);
}
