//! Expiry on a disk that loses power at every write in turn: whatever was dropped, merged or
//! replayed, readers get the same answers as where everything is still in memory.

use std::path::Path;

use chronos_env::{SimDisk, SimEnv};
use chronos_model::{
    Change, ColumnSchema, Expect, Stamp, TableId, TableOptions, TableSchema, Value, WriteSet,
};
use chronos_store::{LogIndex, ScanColumn, ScanRequest, Store, StoreOptions, VersionFilter};

use crate::fixture::{batch, options, stamp};
use crate::power_cut::{live, replay, Reached, Step};
use crate::retention::{table, TICK};

/// Rows that expire, in buckets and by when they were written, and history that ends: flushed,
/// merged and dropped.
fn expiring() -> Vec<Step> {
    let options = TableOptions {
        ttl_micros: Some(9 * TICK),
        history_ttl_micros: Some(6 * TICK),
        bucket_micros: Some(4 * TICK),
        ..TableOptions::default()
    };
    let by_key = table(true, options.clone());
    let by_write = TableSchema {
        id: TableId(2),
        name: "u".into(),
        options: TableOptions {
            bucket_micros: None,
            ..options
        },
        ..table(false, TableOptions::default())
    };
    let set = |changes| WriteSet {
        begin: Stamp::MAX,
        changes,
    };
    let row = |device: usize, time: i64, content: i64| {
        let device = Value::Text(format!("d{device}"));
        vec![device, Value::TimestampTz(time), Value::Int8(content)]
    };
    let tables = [by_key.clone(), by_write.clone()];
    let mut steps = vec![Step::Apply(set(tables.map(Change::CreateTable).into()))];
    for round in 1..28i64 {
        let now = stamp(round as u64 + 1).micros();
        let times = (0..70).map(|i| row(i, now - round % 3 * TICK, round));
        let devices = (0..70).map(|i| row(i, now, round));
        let readings = batch(&by_key, Expect::Any, &times.collect::<Vec<_>>());
        let states = batch(
            &by_write,
            Expect::AbsentOrSkip,
            &devices.collect::<Vec<_>>(),
        );
        steps.push(Step::Apply(set(vec![readings, states])));
        match round % 6 {
            2 | 4 => steps.push(Step::Flush),
            5 => steps.push(Step::Compact),
            _ if round == 15 => steps.push(Step::Reopen),
            _ => {}
        }
    }
    // The last drop is as of the last commit: what is one tick too much is missed.
    steps.extend([Step::Flush, Step::Compact]);
    steps
}

/// All that can be asked of the tables of [`expiring`], as of now and of before.
fn answers(disk: &SimDisk, store: &Store) -> Vec<Vec<Vec<Value>>> {
    let view = store.read_view();
    let last = store.applied_index().0;
    let mut answers = Vec::new();
    for schema in view.catalog().tables.values() {
        for back in 0..6 {
            let request = ScanRequest {
                columns: (0..3).map(ScanColumn::Column).collect(),
                filter: VersionFilter::AsOf(stamp(last - back)),
                ..ScanRequest::default()
            };
            let mut rows = Vec::new();
            for batch in view.scan(schema, request).unwrap().into_iter().flatten() {
                let batch = batch.unwrap();
                for row in 0..batch.num_rows() {
                    let columns = batch.columns().iter().zip(&schema.columns);
                    let value = |(array, column): (&arrow_array::ArrayRef, &ColumnSchema)| {
                        chronos_model::value_at(array, row, &column.data_type).unwrap()
                    };
                    rows.push(columns.map(value).collect());
                }
            }
            answers.push(rows);
        }
    }
    assert!(!disk.is_powered_off());
    answers
}

/// Opens what a disk holds at the moment of the last commit, and applies the rest of a log.
fn after(
    disk: &SimDisk,
    log: &[(LogIndex, Stamp, WriteSet)],
    options: StoreOptions,
) -> (Store, Vec<Vec<Vec<Value>>>) {
    let sim = SimEnv::with_disk(disk.clone(), 1);
    let last = stamp(log.len() as u64).micros();
    sim.clock.set_now_micros(last as u64);
    let store = Store::open(&sim.env(), Path::new("/d/store"), options).unwrap();
    replay(&store, log, log.len()).unwrap();
    let answers = answers(disk, &store);
    (store, answers)
}

#[test]
fn what_expires_is_dropped_wherever_the_power_goes() {
    let steps = expiring();
    let whole = SimDisk::new(3);
    let mut reached = Reached::nothing();
    live(&whole, &steps, &mut reached).unwrap();
    let log = reached.log;
    // What a store answers that has everything in memory, where nothing is ever dropped.
    let in_memory = StoreOptions {
        memtable_bytes_max: 64 << 20,
        ..options()
    };
    let (store, expected) = after(&SimDisk::new(3), &log, in_memory);
    assert_eq!(store.stats().flushes, 0);
    store.close();
    let (store, got) = after(&whole, &log, options());
    assert!(got == expected, "without a cut");
    assert!(expected.iter().any(|rows| !rows.is_empty()));
    // Something was dropped: more versions were written than are left.
    store.flush_now().unwrap();
    store.compact_now().unwrap();
    assert!(store.stats().segment_rows < 70 * 27, "{:?}", store.stats());
    store.close();
    for point in 0..=whole.write_points() {
        let disk = SimDisk::new(3);
        disk.crash_after_write_points(point);
        let mut reached = Reached::nothing();
        let _ = live(&disk, &steps, &mut reached).is_err();
        for seed in 0..2 {
            let (store, got) = after(&disk.restart(seed), &log, options());
            assert!(store.flushed_index() >= reached.flushed, "point {point}");
            assert!(got == expected, "point {point}, seed {seed}");
            store.flush_now().unwrap();
            store.compact_now().unwrap();
            let files = store.stats().segments;
            assert!(files < 20, "point {point}: {files} segments");
            store.close();
        }
    }
}
