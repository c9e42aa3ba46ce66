//! Measures the store: 10M readings of 1000 devices in batches of 10,000 under the key
//! (device, ts), with a check that none is there yet; then scans and point reads.
//!
//! `cargo run --release -p chronos-store --example store_bench [million rows] [directory]`
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod readings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{
    ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use chronos_env::Env;
use chronos_model::{
    encode_key, BatchChange, Change, Expect, NodeId, Stamp, TableSchema, Value, WriteSet,
};
use chronos_store::{
    LogIndex, ReadView, ScanColumn, ScanRequest, Store, StoreOptions, VersionFilter,
};

use readings::table;

const DEVICES: usize = 1000;
const BATCH: usize = 10_000;
const START: i64 = 1_700_000_000_000_000;
const NODE: NodeId = NodeId(1);

fn device(n: usize) -> String {
    format!("device-{n:04}")
}

/// Ten readings of each device, as they arrive: by time.
fn batch(schema: &TableSchema, number: usize) -> RecordBatch {
    let names: Vec<String> = (0..DEVICES).map(device).collect();
    let rows = 0..BATCH;
    let seconds = |i: usize| (number * (BATCH / DEVICES) + i / DEVICES) as i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(
            rows.clone().map(|i| &names[i % DEVICES]),
        )),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(
                rows.clone().map(|i| START + seconds(i) * 1_000_000),
            )
            .with_timezone("UTC"),
        ),
        Arc::new(Float64Array::from_iter_values(rows.map(|i| {
            let noise = (i.wrapping_mul(2_654_435_761) + number) % 1000;
            20.0 + noise as f64 / 100.0
        }))),
    ];
    RecordBatch::try_new(schema.arrow_schema(), columns).unwrap()
}

#[derive(Clone, Copy)]
enum Order {
    ByKey,
    Any,
}

fn scan(
    view: &ReadView,
    order: Order,
    schema: &Arc<TableSchema>,
    columns: &[usize],
    filter: VersionFilter,
) -> (u64, f64) {
    let request = ScanRequest {
        columns: columns.iter().map(|c| ScanColumn::Column(*c)).collect(),
        filter,
        partitions: 2,
        ..ScanRequest::default()
    };
    let position = columns.iter().position(|c| *c == 2);
    let partitions = match order {
        Order::ByKey => view.scan(schema, request),
        Order::Any => view.scan_unordered(schema, request),
    }
    .unwrap();
    let sums: Vec<(u64, f64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = partitions
            .into_iter()
            .map(|partition| {
                scope.spawn(move || {
                    let (mut rows, mut sum) = (0, 0.0);
                    for batch in partition {
                        let batch = batch.unwrap();
                        rows += batch.num_rows() as u64;
                        if let Some(p) = position {
                            let values = batch.column(p).as_primitive::<Float64Type>().values();
                            let mut lanes = [0.0; 8];
                            let chunks = values.chunks_exact(8);
                            sum += chunks.remainder().iter().sum::<f64>();
                            for chunk in chunks {
                                lanes.iter_mut().zip(chunk).for_each(|(l, v)| *l += v);
                            }
                            sum += lanes.iter().sum::<f64>();
                        }
                    }
                    (rows, sum)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    sums.into_iter()
        .fold((0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Seconds of processor time that this process has used, from `/proc` where there is
/// one: on a busy machine they say more than the clock.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

#[derive(Clone, Copy)]
struct Watch(Instant, f64);

impl Watch {
    fn start() -> Watch {
        Watch(Instant::now(), cpu_seconds())
    }
}

fn report(what: &str, rows: u64, watch: Watch) {
    println!(
        "{what:<52} {:>7.1}M rows/s {:>7.1}M rows per CPU second",
        rows as f64 / watch.0.elapsed().as_secs_f64() / 1e6,
        rows as f64 / (cpu_seconds() - watch.1).max(0.005) / 1e6
    );
}

fn scans(store: &Store, schema: &Arc<TableSchema>, state: &str, rows: u64) {
    let view = store.read_view();
    for (name, order, columns) in [
        ("count(*)", Order::ByKey, &[][..]),
        ("sum(value)", Order::ByKey, &[2][..]),
        ("device, ts, value", Order::ByKey, &[0, 1, 2][..]),
        ("device, ts, value unordered", Order::Any, &[0, 1, 2][..]),
    ] {
        for round in ["first", "again"] {
            let start = Watch::start();
            let (seen, _) = scan(&view, order, schema, columns, VersionFilter::Current);
            assert_eq!(seen, rows);
            report(&format!("scan {name}, {state}, {round}"), seen, start);
        }
    }
    let middle = Stamp::from_micros(START as u64 + rows / BATCH as u64 / 2);
    let start = Watch::start();
    let (seen, _) = scan(&view, Order::Any, schema, &[2], VersionFilter::AsOf(middle));
    report(&format!("scan sum(value) AS OF half, {state}"), seen, start);
}

fn gets(store: &Store, schema: &TableSchema, state: &str, seconds: u64) {
    let view = store.read_view();
    let mut micros = Vec::new();
    let mut random = 12345u64;
    for _ in 0..20_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let ts = START + ((random >> 33) % seconds) as i64 * 1_000_000;
        let name = device((random >> 20) as usize % DEVICES);
        let values = [Value::Text(name), Value::TimestampTz(ts)];
        let start = Instant::now();
        let key = encode_key(schema, &values).unwrap();
        let found = view.get(schema, &key.0).unwrap().expect("the row is there");
        let row = found.row.values(&[2]).unwrap();
        micros.push(start.elapsed().as_nanos() as f64 / 1000.0);
        assert_eq!(row.len(), 1);
    }
    micros.sort_by(f64::total_cmp);
    let at = |q: f64| micros[(micros.len() as f64 * q) as usize];
    println!(
        "{:<58} {:>9.1} us p50 {:>9.1} us p99",
        format!("get one row, {state}"),
        at(0.5),
        at(0.99)
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let millions: usize = arguments.next().map_or(10, |a| a.parse().unwrap());
    let directory = arguments.next().map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory.unwrap_or_else(|| temporary.path().to_owned());
    let store = Store::open(
        &Env::real(),
        &directory.join("store"),
        StoreOptions::default(),
    )
    .unwrap();
    let schema = Arc::new(table());
    let create = WriteSet {
        begin: Stamp::MAX,
        changes: vec![Change::CreateTable(table())],
    };
    let stamp = |index: u64| Stamp::from_micros(START as u64 + index);
    store
        .apply_write_set(LogIndex(1), stamp(1), NODE, &create)
        .unwrap();

    let batches = millions * 1_000_000 / BATCH;
    let rows = (batches * BATCH) as u64;
    let (mut preparing, mut applying, mut slowest) = (0.0, 0.0, 0.0f64);
    let begin = Watch::start();
    for number in 0..batches {
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![Change::Batch(BatchChange {
                table: schema.id,
                expect: Expect::Absent,
                batch: batch(&schema, number),
            })],
        };
        let start = Instant::now();
        let prepared = store.prepare(set.clone(), &store.catalog()).unwrap();
        preparing += start.elapsed().as_secs_f64();
        let index = number as u64 + 2;
        let start = Instant::now();
        store
            .apply(LogIndex(index), stamp(index), NODE, &prepared)
            .unwrap();
        let took = start.elapsed().as_secs_f64();
        applying += took;
        slowest = slowest.max(took);
    }
    println!("prepare {:.0} rows/s", rows as f64 / preparing);
    println!(
        "apply   {:.0} rows/s, slowest batch {:.1} ms",
        rows as f64 / applying,
        slowest * 1000.0
    );
    report("all of it, flushes and compactions under way", rows, begin);
    gets(&store, &schema, "as written", rows / DEVICES as u64);
    let start = Instant::now();
    store.flush_now().unwrap();
    store.maintain().unwrap();
    println!(
        "remaining flush and compactions {:.1} s",
        start.elapsed().as_secs_f64()
    );
    println!("{:?}", store.stats());
    scans(&store, &schema, "tiers", rows);
    gets(&store, &schema, "tiers", rows / DEVICES as u64);
    let start = Watch::start();
    store.compact_now().unwrap();
    report("compaction into one segment", rows, start);
    scans(&store, &schema, "one segment", rows);
    gets(&store, &schema, "one segment", rows / DEVICES as u64);
    let stats = store.stats();
    println!(
        "{:.2} bytes per row on disk; {stats:?}",
        stats.segment_bytes as f64 / stats.segment_rows as f64
    );

    // Again and out of time order: every key is looked up.
    let start = Watch::start();
    let again = 20;
    for number in 0..again {
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![Change::Batch(BatchChange {
                table: schema.id,
                expect: Expect::AbsentOrSkip,
                batch: batch(&schema, number * batches / again),
            })],
        };
        let index = batches as u64 + 2 + number as u64;
        let applied = store
            .apply_write_set(LogIndex(index), stamp(index), NODE, &set)
            .unwrap();
        assert_eq!(applied.skipped, BATCH as u64);
    }
    report(
        "resent batches, every row present",
        (again * BATCH) as u64,
        start,
    );
}
