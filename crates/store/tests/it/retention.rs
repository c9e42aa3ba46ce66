//! Retention: what expires is gone for every reader at its time, what is kept is all there,
//! and a read of what may be gone is refused; whatever was flushed, compacted or replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use chronos_env::SimEnv;
use chronos_model::{
    encode_key, Change, ColumnSchema, DataType, Expect, NodeId, OptionChange, Stamp, TableId,
    TableOptions, TableSchema, Value, WriteSet,
};
use chronos_store::{
    Applied, KeyRange, LogIndex, ReadView, ScanColumn, ScanPartition, ScanRequest, Store,
    StoreError, VersionFilter,
};
use proptest::prelude::*;

use crate::content;
use crate::fixture::{batch, change, options, rows, stamp};

const NODE: NodeId = NodeId(3);
/// Microseconds between commits, as [`stamp`] has it.
pub(crate) const TICK: i64 = 10;

/// `(d TEXT, ts TIMESTAMPTZ, v INT8)` with the key `(d, ts)`, or `(d)` and no time column.
pub(crate) fn table(has_time: bool, options: TableOptions) -> TableSchema {
    let column = |name: &str, data_type, nullable| ColumnSchema {
        name: name.into(),
        data_type,
        nullable,
        default: None,
        attributes: Default::default(),
    };
    TableSchema {
        id: TableId(1),
        name: "t".into(),
        columns: vec![
            column("d", DataType::Text, false),
            column("ts", DataType::TimestampTz, false),
            column("v", DataType::Int8, true),
        ],
        shape: Default::default(),
        rules: Default::default(),
        primary_key: if has_time { vec![0, 1] } else { vec![0] },
        options: TableOptions {
            time_column: has_time.then_some(1),
            ..options
        },
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Devices, how many ticks back their time is, precondition, put or delete.
    Rows(Vec<(u8, u8, Expect, bool)>),
    /// A batch of new rows of one device at so many times.
    Batch(u8, u8, u8, Expect),
    Truncate,
    Alter(OptionChange),
    /// Nothing is written for so many ticks.
    Wait(u8),
    Flush,
    Maintain,
    /// Whether everything is rewritten.
    Compact(bool),
    Reopen,
}

fn ttl() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(prop_oneof![
        Just(3 * TICK),
        Just(12 * TICK),
        Just(40 * TICK)
    ])
}

fn keep() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(0u32..4)
}

fn table_options() -> impl Strategy<Value = TableOptions> {
    let bucket = prop::option::of(prop_oneof![Just(4 * TICK), Just(25 * TICK)]);
    (ttl(), ttl(), keep(), bucket).prop_map(|(ttl, history_ttl, history_keep, bucket)| {
        TableOptions {
            ttl_micros: ttl,
            history_ttl_micros: history_ttl,
            history_keep,
            bucket_micros: bucket,
            ..TableOptions::default()
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let expect = || {
        prop_oneof![
            4 => Just(Expect::Any),
            1 => Just(Expect::Absent),
            1 => Just(Expect::AbsentOrSkip),
            1 => Just(Expect::Unchanged),
        ]
    };
    let one = (0u8..5, 0u8..4, expect(), prop::bool::weighted(0.8));
    let upsert = prop_oneof![Just(Expect::Any), Just(Expect::AbsentOrSkip)];
    prop_oneof![
        12 => prop::collection::vec(one, 1..5).prop_map(Op::Rows),
        3 => (0u8..5, 64u8..90, 0u8..60, upsert).prop_map(|(d, n, back, e)| Op::Batch(d, n, back, e)),
        1 => Just(Op::Truncate),
        1 => prop_oneof![
            ttl().prop_map(OptionChange::Ttl),
            ttl().prop_map(OptionChange::HistoryTtl),
            keep().prop_map(OptionChange::HistoryKeep),
        ].prop_map(Op::Alter),
        2 => (1u8..20).prop_map(Op::Wait),
        4 => Just(Op::Flush),
        2 => Just(Op::Maintain),
        2 => any::<bool>().prop_map(Op::Compact),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Debug)]
struct Version {
    key: Vec<u8>,
    time: Option<i64>,
    recorded: Stamp,
    row: Option<Vec<Value>>,
}

/// What a scan shows of a version.
type Shown = (Vec<u8>, i64, Option<i64>, Vec<Value>);

struct Run {
    sim: SimEnv,
    store: Store,
    log: Vec<(LogIndex, Stamp, WriteSet, Result<Applied, String>)>,
    /// Ticks gone by.
    now: u64,
    content: i64,
    schema: Arc<TableSchema>,
    versions: Vec<Version>,
    truncated: Vec<Stamp>,
}

impl Run {
    fn new(schema: TableSchema) -> Run {
        let sim = SimEnv::new(1);
        let store = Store::open(&sim.env(), Path::new("/store"), options()).unwrap();
        let mut run = Run {
            sim,
            store,
            log: Vec::new(),
            now: 0,
            content: 0,
            schema: Arc::new(schema.clone()),
            versions: Vec::new(),
            truncated: Vec::new(),
        };
        run.write(Change::CreateTable(schema)).unwrap();
        run
    }

    fn write(&mut self, change: Change) -> Result<Applied, String> {
        self.now += 1;
        let (index, recorded) = (LogIndex(self.log.len() as u64 + 1), stamp(self.now));
        self.sim.clock.set_now_micros(recorded.micros() as u64);
        let last = self.log.last().map_or(Stamp::MIN, |(_, stamp, ..)| *stamp);
        let set = WriteSet {
            begin: last,
            changes: vec![change],
        };
        let result = self.store.apply_write_set(index, recorded, NODE, &set);
        let result = result.map_err(|e| e.to_string());
        self.log.push((index, recorded, set, result.clone()));
        result
    }

    fn key(&self, device: u8, time: i64) -> Vec<u8> {
        let mut values = vec![Value::Text(format!("d{device}"))];
        if self.schema.options.time_column.is_some() {
            values.push(Value::TimestampTz(time));
        }
        encode_key(&self.schema, &values).unwrap().0.into()
    }

    fn time_of(&self, version: &Version) -> i64 {
        version.time.unwrap_or(version.recorded.micros())
    }

    /// The newest version of a key at a stamp, of what is there at `now`.
    fn newest(&self, key: &[u8], at: Stamp, now: i64) -> Option<&Version> {
        let of_key = self.versions.iter().filter(|v| v.key == key);
        let newest = of_key
            .filter(|v| v.recorded <= at)
            .max_by_key(|v| v.recorded)?;
        let truncated = self.truncated.iter().filter(|t| **t <= at).max();
        let there = self.time_of(newest) >= self.schema.options.expired_before(now);
        (there && truncated.is_none_or(|t| newest.recorded >= *t)).then_some(newest)
    }

    fn put(&mut self, device: u8, time: i64, row: Option<Vec<Value>>) {
        let (key, recorded) = (self.key(device, time), stamp(self.now));
        self.versions
            .retain(|v| v.key != key || v.recorded != recorded);
        let time = self.schema.options.time_column.map(|_| time);
        self.versions.push(Version {
            key,
            time,
            recorded,
            row,
        });
    }

    fn row(&mut self, device: u8, time: i64) -> Vec<Value> {
        self.content += 1;
        let device = Value::Text(format!("d{device}"));
        vec![device, Value::TimestampTz(time), Value::Int8(self.content)]
    }

    fn write_rows(&mut self, given: &[(u8, u8, Expect, bool)]) {
        let recorded = stamp(self.now + 1);
        let mut seen = BTreeSet::new();
        let (mut changes, mut puts, mut skipped) = (Vec::new(), Vec::new(), 0);
        let mut refused = false;
        for (device, back, expect, put) in given {
            let time = recorded.micros() - i64::from(*back) * TICK / 2;
            let key = self.key(*device, time);
            if !seen.insert(key.clone()) {
                continue;
            }
            let values = put.then(|| self.row(*device, time));
            changes.push(change(&key, *expect, values.as_deref()));
            let newest = self.newest(&key, Stamp::MAX, recorded.micros());
            let present = newest.is_some_and(|v| v.row.is_some());
            match expect {
                Expect::Absent if present => refused = true,
                Expect::AbsentOrSkip if present => skipped += 1,
                _ => puts.push((*device, time, values)),
            }
        }
        let result = self.write(rows(self.schema.id, changes));
        assert_eq!(result.is_err(), refused, "{result:?}");
        if let Ok(applied) = result {
            assert_eq!(
                (applied.rows, applied.skipped),
                (puts.len() as u64, skipped)
            );
            puts.into_iter().for_each(|(d, t, row)| self.put(d, t, row));
        }
    }

    fn write_batch(&mut self, device: u8, count: u8, back: u8, expect: Expect) {
        let recorded = stamp(self.now + 1);
        let mut all = Vec::new();
        let mut puts = Vec::new();
        for i in 0..count {
            // Without a time column every row needs a device of its own.
            let (device, time) = match self.schema.options.time_column {
                Some(_) => (
                    device,
                    recorded.micros() - i64::from(back) * TICK + i64::from(i) * 3,
                ),
                None => (i, recorded.micros()),
            };
            let row = self.row(device, time);
            let key = self.key(device, time);
            let newest = self.newest(&key, Stamp::MAX, recorded.micros());
            let present = newest.is_some_and(|v| v.row.is_some());
            if expect == Expect::Any || !present {
                puts.push((device, time, Some(row.clone())));
            }
            all.push(row);
        }
        let applied = self.write(batch(&self.schema, expect, &all)).unwrap();
        assert_eq!(applied.rows, puts.len() as u64);
        puts.into_iter().for_each(|(d, t, row)| self.put(d, t, row));
    }

    fn reopen(&mut self) {
        self.store.close();
        self.store = Store::open(&self.sim.env(), Path::new("/store"), options()).unwrap();
        let from = self.store.applied_index();
        for (index, recorded, set, before) in &self.log {
            if *index > from {
                let again = self.store.apply_write_set(*index, *recorded, NODE, set);
                let again = again.map_err(|e| e.to_string());
                assert_eq!(&again, before, "a replay came to another result");
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Rows(given) => self.write_rows(given),
            Op::Batch(device, count, back, expect) => {
                self.write_batch(*device, *count, *back, *expect);
            }
            Op::Truncate => {
                self.write(Change::Truncate(self.schema.id)).unwrap();
                self.truncated.push(stamp(self.now));
            }
            Op::Alter(option) => {
                self.write(Change::AlterOptions(self.schema.id, vec![*option]))
                    .unwrap();
                let mut schema = TableSchema::clone(&self.schema);
                schema.options = schema.options.changed(&[*option], stamp(self.now).micros());
                self.schema = Arc::new(schema);
                assert_eq!(self.store.catalog().table("t"), Some(&self.schema));
            }
            Op::Wait(ticks) => self.now += u64::from(*ticks),
            Op::Flush => self.store.flush_now().unwrap(),
            Op::Maintain => self.store.maintain().unwrap(),
            Op::Compact(everything) => {
                let id = self.schema.id;
                self.store.compact_tables(&[id], *everything).unwrap();
            }
            Op::Reopen => self.reopen(),
        }
    }

    /// The fewest old versions of a row that an option has ever asked to keep.
    fn least_kept(&self) -> Option<usize> {
        let asked = |set: &WriteSet| match &set.changes[..] {
            [Change::AlterOptions(_, changes)] => changes.iter().find_map(|c| match c {
                OptionChange::HistoryKeep(keep) => *keep,
                _ => None,
            }),
            [Change::CreateTable(schema)] => schema.options.history_keep,
            _ => None,
        };
        let asked = self.log.iter().filter_map(|(_, _, set, _)| asked(set));
        asked.min().map(|keep| keep as usize)
    }

    /// All versions by key, newest first, with when each ended and whether it may have been
    /// cut.
    fn facts(&self) -> BTreeMap<&[u8], Vec<Fact<'_>>> {
        let least = self.least_kept();
        let mut by_key: BTreeMap<&[u8], Vec<Fact<'_>>> = BTreeMap::new();
        for version in self.versions.iter().rev() {
            let facts = by_key.entry(&version.key).or_default();
            let newer = facts.last().map_or(Stamp::MAX, |f| f.version.recorded);
            let mut truncated = self.truncated.iter().filter(|t| **t > version.recorded);
            facts.push(Fact {
                version,
                ended: newer.min(truncated.next().copied().unwrap_or(Stamp::MAX)),
                may_be_cut: least.is_some_and(|keep| facts.len() > keep),
            });
        }
        by_key
    }

    /// What a scan gives. Without an order or the end of versions other shortcuts are taken,
    /// which must come to the same.
    fn shown(&self, view: &ReadView, filter: VersionFilter) -> Result<Vec<Shown>, StoreError> {
        let wide = self.wide(view.scan(&self.schema, Self::wide_request(filter)));
        let unordered = view.scan_unordered(&self.schema, Self::wide_request(filter));
        let unordered = self.wide(unordered).map(|mut rows| {
            rows.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
            rows
        });
        match (&wide, &unordered) {
            (Ok(wide), Ok(unordered)) => assert_eq!(wide, unordered, "{filter:?}"),
            (Err(_), Err(_)) => {}
            _ => panic!("{filter:?}: {wide:?}, but {unordered:?}"),
        }
        let narrow = self.narrow(view, filter);
        match (&wide, &narrow) {
            (Ok(wide), Ok(narrow)) => {
                let values: Vec<&Value> = wide.iter().map(|row| &row.3[2]).collect();
                assert_eq!(values, narrow.iter().collect::<Vec<_>>(), "{filter:?}");
            }
            (Err(_), Err(_)) => {}
            _ => panic!("{filter:?}: {wide:?}, but {narrow:?}"),
        }
        wide
    }

    fn narrow(&self, view: &ReadView, filter: VersionFilter) -> Result<Vec<Value>, StoreError> {
        let request = ScanRequest {
            columns: vec![ScanColumn::Column(2)],
            filter,
            ..ScanRequest::default()
        };
        let mut values = Vec::new();
        for partition in view.scan(&self.schema, request)? {
            for batch in partition {
                let batch = batch?;
                let value = |row| chronos_model::value_at(batch.column(0), row, &DataType::Int8);
                values.extend((0..batch.num_rows()).map(|row| value(row).unwrap()));
            }
        }
        Ok(values)
    }

    fn wide_request(filter: VersionFilter) -> ScanRequest {
        use chronos_model::SystemColumn::{Key, SystemFrom, SystemTo};
        let system = [Key, SystemFrom, SystemTo].map(ScanColumn::System);
        ScanRequest {
            columns: system
                .into_iter()
                .chain((0..3).map(ScanColumn::Column))
                .collect(),
            filter,
            key_range: KeyRange::ALL,
            ..ScanRequest::default()
        }
    }

    fn wide(
        &self,
        partitions: Result<Vec<ScanPartition>, StoreError>,
    ) -> Result<Vec<Shown>, StoreError> {
        let mut shown = Vec::new();
        let types = [
            DataType::Bytea,
            DataType::TimestampTz,
            DataType::TimestampTz,
            DataType::Text,
            DataType::TimestampTz,
            DataType::Int8,
        ];
        let micros = |value: &Value| match value {
            Value::TimestampTz(t) => Some(*t),
            _ => None,
        };
        for partition in partitions? {
            for batch in partition {
                let batch = batch?;
                for row in 0..batch.num_rows() {
                    let value = |c: usize| {
                        chronos_model::value_at(batch.column(c), row, &types[c]).unwrap()
                    };
                    let Value::Bytea(key) = value(0) else {
                        panic!("a key is NULL")
                    };
                    let from = micros(&value(1)).unwrap();
                    shown.push((key, from, micros(&value(2)), (3..6).map(value).collect()));
                }
            }
        }
        Ok(shown)
    }

    fn check(&self) {
        let now = stamp(self.now).micros();
        self.sim.clock.set_now_micros(now as u64);
        let view = self.store.read_view();
        let facts = self.facts();
        self.check_snapshot(&view, &facts, VersionFilter::Current, Stamp::MAX, now);
        for back in [0, 1, 2, 5, 11, 30, 60] {
            let at = Stamp(stamp(self.now.saturating_sub(back)).0 + 5);
            self.check_snapshot(&view, &facts, VersionFilter::AsOf(at), at, now);
        }
        self.check_all(&view, &facts, now);
        for key in facts.keys() {
            let expected = self.newest(key, Stamp::MAX, now);
            let expected = expected.and_then(|v| v.row.clone().map(|row| (row, v.recorded)));
            let found = view.get(&self.schema, key).unwrap();
            let found = found.map(|f| (f.row.all_values().unwrap(), f.recorded));
            assert_eq!(found, expected);
        }
        let (estimate, exact) = view.table_rows_estimate(&self.schema);
        let current = self.shown(&view, VersionFilter::Current).unwrap().len() as u64;
        assert!(!exact || estimate == current, "{estimate} is not {current}");
    }

    fn expired(&self, version: &Version, now: i64) -> bool {
        self.time_of(version) < self.schema.options.expired_before(now)
    }

    fn check_snapshot(
        &self,
        view: &ReadView,
        facts: &BTreeMap<&[u8], Vec<Fact<'_>>>,
        filter: VersionFilter,
        at: Stamp,
        now: i64,
    ) {
        let horizon = self.schema.options.horizon(now);
        let at = at.min(view.stamp());
        let got = self.shown(view, filter);
        let is_past = matches!(filter, VersionFilter::AsOf(asked) if asked < horizon);
        if matches!(got, Err(StoreError::BeforeHorizon { .. })) {
            // Some key's visible version may be behind a cut, or its beginning is.
            let cut = facts
                .values()
                .flatten()
                .any(|f| f.may_be_cut && f.ended > at);
            let may_be_cut = filter != VersionFilter::Current && cut;
            assert!(is_past || may_be_cut, "{filter:?} was refused");
            return;
        }
        assert!(!is_past, "{filter:?} is before {horizon:?}");
        let newest = |facts: &Vec<Fact<'_>>| {
            let newest = facts.iter().find(|f| f.version.recorded <= at)?;
            let current = newest.ended > at
                || !self
                    .truncated
                    .iter()
                    .any(|t| *t <= at && *t > newest.version.recorded);
            let there = current && !self.expired(newest.version, now);
            (there && newest.version.row.is_some()).then(|| newest.show())
        };
        let expected: Vec<Shown> = facts.values().filter_map(newest).collect();
        assert_eq!(got.unwrap(), expected, "{filter:?}");
    }

    fn check_all(&self, view: &ReadView, facts: &BTreeMap<&[u8], Vec<Fact<'_>>>, now: i64) {
        let horizon = self.schema.options.history_horizon(now);
        let got = self.shown(view, VersionFilter::All).unwrap();
        let mut got_of: BTreeMap<(&[u8], i64), &Shown> = BTreeMap::new();
        for shown in &got {
            assert!(
                got_of.insert((&shown.0, shown.1), shown).is_none(),
                "{shown:?} twice"
            );
        }
        for fact in facts.values().flatten() {
            let version = fact.version;
            let shown = got_of.remove(&(&version.key, version.recorded.micros()));
            if version.row.is_none() || self.expired(version, now) {
                assert_eq!(shown, None, "is deleted or expired");
            } else if fact.ended > horizon && !fact.may_be_cut {
                assert_eq!(shown, Some(&fact.show()));
            } else if let Some(shown) = shown {
                assert_eq!(shown.3, fact.show().3);
            }
        }
        assert_eq!(got_of, BTreeMap::new(), "never written");
    }
}

/// A version, when it ended, and whether the option to keep so many old ones may have cost
/// it.
struct Fact<'a> {
    version: &'a Version,
    ended: Stamp,
    may_be_cut: bool,
}

impl Fact<'_> {
    fn show(&self) -> Shown {
        let row = self.version.row.clone();
        (
            self.version.key.clone(),
            self.version.recorded.micros(),
            (self.ended != Stamp::MAX).then(|| self.ended.micros()),
            row.unwrap_or_default(),
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_there_and_what_expired_is_not(
        has_time in any::<bool>(),
        options in table_options(),
        ops in prop::collection::vec(op(), 1..30),
        seed in any::<u64>(),
    ) {
        let mut run = Run::new(table(has_time, options));
        for op in &ops {
            run.run(op);
        }
        run.check();
        run.reopen();
        run.check();
        run.store.compact_tables(&[TableId(1)], true).unwrap();
        run.check();
        if seed.is_multiple_of(2) {
            let log = run.log.iter();
            let log: Vec<_> = log.map(|(i, stamp, set, _)| (*i, *stamp, set.clone())).collect();
            content::check_replicas(&run.store, &log, NODE, seed);
            content::check_lagging(&run.store, &log, NODE, seed);
        }
        run.now += 5;
        run.check();
    }
}

fn seconds(n: i64) -> i64 {
    n * 1_000_000
}

/// One row a second of one device, by (d, ts), from second `from`.
fn readings(run: &mut Run, from: u64, count: u64) {
    for second in from..from + count {
        run.now = second * 100_000 + 10;
        let time = stamp(run.now + 1).micros();
        let row = run.row(1, time);
        run.write(batch(&run.schema.clone(), Expect::Any, &[row]))
            .unwrap();
    }
}

#[test]
fn whole_buckets_go_without_being_rewritten() {
    let options = TableOptions {
        ttl_micros: Some(seconds(100)),
        bucket_micros: Some(seconds(60)),
        ..TableOptions::default()
    };
    let mut run = Run::new(table(true, options));
    for minute in 0..5 {
        // From a full minute on, as commits are stamped.
        readings(&mut run, minute * 60 + 59, 60);
        run.store.flush_now().unwrap();
        run.store.maintain().unwrap();
    }
    let stats = run.store.stats();
    // 100 seconds are kept, and what else is in their first minute.
    assert!((101..=160).contains(&stats.segment_rows), "{stats:?}");
    assert_eq!(stats.compaction_bytes, 0, "{stats:?}");
    let rows = run.shown(&run.store.read_view(), VersionFilter::Current);
    // Both ends are there.
    assert_eq!(rows.unwrap().len(), 101);
}

#[test]
fn a_row_is_gone_at_its_time_not_at_the_next_sweep() {
    let options = TableOptions {
        ttl_micros: Some(seconds(3)),
        ..TableOptions::default()
    };
    let mut run = Run::new(table(false, options));
    let row = run.row(1, 0);
    run.write(batch(&run.schema.clone(), Expect::Any, &[row]))
        .unwrap();
    let written = stamp(run.now).micros() as u64;
    let count = |run: &Run, now: u64| {
        run.sim.clock.set_now_micros(now);
        run.shown(&run.store.read_view(), VersionFilter::Current)
            .unwrap()
            .len()
    };
    assert_eq!(count(&run, written + 3_000_000), 1);
    assert_eq!(count(&run, written + 3_000_001), 0);
}

#[test]
fn the_horizon_is_named() {
    let options = TableOptions {
        history_ttl_micros: Some(seconds(60)),
        ..TableOptions::default()
    };
    let mut run = Run::new(table(false, options));
    run.now += 100 * 100_000;
    let row = run.row(1, 0);
    run.write(batch(&run.schema.clone(), Expect::Any, &[row]))
        .unwrap();
    let early = VersionFilter::AsOf(stamp(5));
    let error = run.shown(&run.store.read_view(), early).unwrap_err();
    assert_eq!(error.sqlstate().0, "22023");
    let expected = "rows of \"t\" as of 1970-01-01 00:00:01.00005+00 are no longer kept: its history begins at 1970-01-01 00:00:41.00002+00";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_hot_key_keeps_so_many_old_versions() {
    let options = TableOptions {
        history_keep: Some(10),
        ..TableOptions::default()
    };
    let mut run = Run::new(table(false, options));
    for _ in 0..3000 {
        let row = run.row(1, 0);
        run.write(batch(&run.schema.clone(), Expect::Any, &[row]))
            .unwrap();
        run.store.maintain().unwrap();
    }
    run.store.compact_tables(&[TableId(1)], true).unwrap();
    // The current one, ten old ones, the cut.
    assert_eq!(run.store.stats().segment_rows, 12);
    let view = run.store.read_view();
    let at = |back: u64| run.shown(&view, VersionFilter::AsOf(stamp(run.now - back)));
    assert_eq!(at(10).unwrap().len(), 1);
    // From before the oldest that is kept, also from before the cut itself.
    for back in [11, 12, 13, 500, 2999] {
        assert_eq!(at(back).unwrap_err().sqlstate().0, "22023", "{back}");
    }
    assert_eq!(run.shown(&view, VersionFilter::All).unwrap().len(), 11);
}
