//! Measures segments on sensor readings: 1,000 devices, 10,000 ticks of 10 s with
//! 50 ms of jitter, values a random walk of two decimals.
//!
//! `cargo run --release -p chronos-store --example segment_bench [rows in thousands]`
//!
//! Prints bytes per row, rows written per second, rows decoded per second and the
//! time of a point read, all in CPU time of the one thread that does it, once for readings loaded in bulk (a device after the other)
//! and once for readings recorded live (all devices, tick after tick).
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, StringViewArray, TimestampMicrosecondArray,
    UInt32Array, UInt64Array, UInt8Array,
};
use arrow_buffer::BooleanBuffer;
use chronos_env::Env;
use chronos_model::{
    encode_keys, ColumnSchema, DataType, Stamp, TableId, TableOptions, TableSchema,
};
use chronos_store::segment::{
    PageCache, PageColumn, Segment, SegmentId, SegmentOptions, SegmentWriter,
};
use chronos_store::version::{VersionBatch, UNTIL_CHANGED};

const TICKS: i64 = 10_000;
const START_MICROS: i64 = 1_700_000_000_000_000;

type Fallible<T> = Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, Debug)]
enum Recording {
    Bulk,
    Live,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn schema() -> TableSchema {
    let column = |name: &str, data_type| ColumnSchema {
        name: name.into(),
        data_type,
        nullable: false,
        default: None,
        attributes: Default::default(),
    };
    TableSchema {
        id: TableId(1),
        name: "readings".into(),
        columns: vec![
            column("device", DataType::Text),
            column("ts", DataType::TimestampTz),
            column("value", DataType::Float8),
        ],
        shape: Default::default(),
        rules: Default::default(),
        primary_key: vec![0, 1],
        options: TableOptions::default(),
    }
}

/// All readings of one device.
fn device(
    schema: &TableSchema,
    device: i64,
    random: &mut Random,
    recording: Recording,
) -> Fallible<VersionBatch> {
    let rows = TICKS as usize;
    let name = format!("sensor-{device:05}");
    let (mut ts, mut values, mut recorded) = (vec![], vec![], vec![]);
    let mut cents = 2_000i64;
    for tick in 0..TICKS {
        let jitter = (random.next() % 50_000) as i64;
        ts.push(START_MICROS + tick * 10_000_000 + jitter);
        cents += (random.next() % 41) as i64 - 20;
        values.push(cents as f64 / 100.0);
        recorded.push(match recording {
            Recording::Bulk => START_MICROS + 200_000_000_000 + device * 40_000,
            Recording::Live => START_MICROS + tick * 10_000_000 + 60_000 + (tick * 7919) % 3_000,
        });
    }
    let stamps: Vec<u64> = recorded
        .iter()
        .map(|m| Stamp::from_micros(*m as u64).0)
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(
            &name, rows,
        ))),
        Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC")),
        Arc::new(Float64Array::from(values)),
    ];
    Ok(VersionBatch {
        keys: Arc::new(encode_keys(schema, &columns[..2])?),
        recorded: UInt64Array::from(stamps.clone()),
        origin: UInt64Array::from(stamps),
        origin_node: UInt32Array::from(vec![1; rows]),
        kind: UInt8Array::from(vec![0; rows]),
        valid_from: Int64Array::from(recorded),
        valid_to: Int64Array::from(vec![UNTIL_CHANGED; rows]),
        first: BooleanBuffer::new_set(rows),
        columns,
    })
}

/// Nanoseconds this thread has run, where the system tells (so that other work on the
/// machine does not count); else wall clock.
fn now(env: &Env) -> u64 {
    let running = || {
        let file = env
            .disk
            .open_read("/proc/thread-self/schedstat".as_ref())
            .ok()?;
        let mut text = [0; 64];
        let length = file.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..length]).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    running().unwrap_or_else(|| env.clock.monotonic_nanos())
}

fn seconds(env: &Env, since: u64) -> f64 {
    (now(env) - since) as f64 / 1e9
}

fn main() -> Fallible<()> {
    let thousands: i64 = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 10_000,
    };
    for recording in [Recording::Bulk, Recording::Live] {
        for bloom_bits_per_key in [10, 0] {
            measure(thousands * 1_000 / TICKS, recording, bloom_bits_per_key)?;
        }
    }
    Ok(())
}

fn measure(devices: i64, recording: Recording, bloom_bits_per_key: u32) -> Fallible<()> {
    let env = &Env::real();
    let dir = std::env::temp_dir().join(format!("chronos-segment-bench-{}", std::process::id()));
    env.disk.create_dir_all(&dir)?;
    let path = dir.join("bench.segment");
    let schema = schema();
    let mut random = Random(88_172_645_463_325_252);
    let options = SegmentOptions {
        bloom_bits_per_key,
        ..SegmentOptions::default()
    };
    let mut writer = SegmentWriter::create(env, &path, SegmentId(1), &schema, &options)?;
    let mut write_seconds = 0.0;
    for d in 0..devices {
        let batch = device(&schema, d, &mut random, recording)?;
        let start = now(env);
        writer.append(&batch)?;
        write_seconds += seconds(env, start);
    }
    let start = now(env);
    let meta = writer.finish()?;
    write_seconds += seconds(env, start);
    let rows = meta.rows as f64;
    println!(
        "{recording:?}, {bloom_bits_per_key} filter bits per key: {} rows",
        meta.rows
    );
    println!(
        "  {:.2} bytes/row, {:.2} M rows/s written",
        meta.bytes as f64 / rows,
        rows / write_seconds / 1e6
    );
    let cache = Arc::new(PageCache::new(64 << 20));
    let start = now(env);
    let segment = Segment::open(env, &path, &schema, cache)?;
    println!(
        "  {:.2} ms to open, {} pages",
        seconds(env, start) * 1e3,
        segment.pages().len()
    );
    let columns = [
        PageColumn::Column(0),
        PageColumn::Column(1),
        PageColumn::Column(2),
    ];
    let system = [
        PageColumn::Recorded,
        PageColumn::Origin,
        PageColumn::Kind,
        PageColumn::ValidFrom,
        PageColumn::ValidTo,
    ];
    for (name, columns) in [
        ("device, ts, value", &columns[..]),
        ("device", &columns[..1]),
        ("ts", &columns[1..2]),
        ("value", &columns[2..]),
        ("version columns", &system[..]),
    ] {
        for pages in [4, 8] {
            scan(env, &segment, columns, pages)?;
            let best = (0..3)
                .map(|_| scan(env, &segment, columns, pages))
                .collect::<Fallible<Vec<_>>>()?
                .into_iter()
                .fold(f64::MAX, f64::min);
            println!(
                "  {name}, {pages} pages at a time: {:.1} M rows/s, {:.1} M values/s decoded",
                rows / best / 1e6,
                rows * columns.len() as f64 / best / 1e6
            );
        }
    }
    points(env, &segment, &schema, devices, &path)?;
    env.disk.remove_file(&path)?;
    env.disk.remove_dir(&dir)?;
    Ok(())
}

fn scan(env: &Env, segment: &Segment, columns: &[PageColumn], step: usize) -> Fallible<f64> {
    let start = now(env);
    let pages = segment.pages().len();
    let mut rows = 0;
    for first in (0..pages).step_by(step) {
        let arrays = segment.read_columns(first..(first + step).min(pages), columns)?;
        rows += arrays[0].len();
    }
    assert_eq!(rows as u64, segment.meta().rows);
    Ok(seconds(env, start))
}

fn points(
    env: &Env,
    segment: &Arc<Segment>,
    schema: &TableSchema,
    devices: i64,
    path: &std::path::Path,
) -> Fallible<()> {
    let mut random = Random(42);
    for (name, cache_bytes) in [("cold", 0), ("warm", 1 << 30)] {
        let segment = Segment::open(env, path, schema, Arc::new(PageCache::new(cache_bytes)))?;
        let lookups = 2_000;
        let mut wanted = Vec::new();
        for _ in 0..lookups {
            let page = (random.next() % segment.pages().len() as u64) as usize;
            let row = random.next() % u64::from(segment.pages()[page].rows);
            wanted.push(segment.read_keys(page)?.get(row as usize).to_vec());
        }
        if cache_bytes > 0 {
            wanted
                .iter()
                .try_for_each(|key| point(&segment, key).map(|_| ()))?;
        }
        let start = now(env);
        let mut sum = 0.0;
        for key in &wanted {
            sum += point(&segment, key)?;
        }
        let took = seconds(env, start) / f64::from(lookups) * 1e6;
        println!("  {name} point read: {took:.2} us (sum {sum:.2})");
    }
    let absent = (0..10_000).filter(|i| {
        let mut key = format!("sensor-{:05}", i % devices).into_bytes();
        key.extend_from_slice(&[0, 1]);
        key.extend_from_slice(&((START_MICROS + i * 9_999_991) ^ i64::MIN).to_be_bytes());
        segment.may_contain(&key)
    });
    println!("  {} of 10000 absent keys pass the filter", absent.count());
    Ok(())
}

fn point(segment: &Segment, key: &[u8]) -> Fallible<f64> {
    if !segment.may_contain(key) {
        return Err("a key is missing".into());
    }
    let page = segment.pages_of(key).start;
    let row = segment.find_rows(page, key)?.start;
    let columns = [
        PageColumn::Recorded,
        PageColumn::Kind,
        PageColumn::Column(2),
    ];
    let arrays = segment.read_rows(page, &[row], &columns)?;
    Ok(arrays[2].as_primitive::<Float64Type>().value(0))
}
