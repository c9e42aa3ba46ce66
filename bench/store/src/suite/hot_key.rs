//! The suite `hot-key`: one key updated a million times among 100,000 others.
//!
//! Beside it stands a table of the same keys of which none was ever updated. Each update is a
//! commit of its own; a thousand of them share a sync. Everything is measured twice: as it is
//! when the last update is done, and settled. A third table, updated in the same way, keeps ten
//! old versions of each key (`history_keep`): settled, it is compared with the first in size.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use chronos_model::{
    encode_key, encode_row, BatchChange, Change, DataType, Expect, Key, Kind, RowChange,
    RowChanges, Stamp, TableSchema, Value, WriteSet,
};
use chronos_store::{KeyRange, ScanColumn, ScanRequest, VersionFilter};

use super::{p50_micros, repeated};
use crate::args::Options;
use crate::engine::chronos::{column, table, write_set, Database};
use crate::error::{failure, Result};
use crate::machine::peak_memory_mib;
use crate::report::{short, Table};
use crate::scratch::{disk_bytes, Scratch};

const KEYS: i64 = 100_000;
const HOT: i64 = 54_321;
const UPDATES: u64 = 1_000_000;
/// Commits that share a sync.
const GROUP: u64 = 1_000;
/// Reads of the key per measurement.
const READS: usize = 2_000;

/// How much slower than in the table without updates reading may be.
const FLOOR_CURRENT: f64 = 1.5;
const FLOOR_AS_OF: f64 = 5.0;
/// How much larger than it the table may be that keeps some old versions.
const FLOOR_DISK: f64 = 2.0;
/// Old versions of each key that this table keeps.
const KEEP: u32 = 10;

pub(super) fn run(options: &Options) -> Result<()> {
    let updates = options.rows.unwrap_or(UPDATES);
    println!(
        "{KEYS} keys, one of them updated {updates} times, {} repetitions",
        options.reps
    );
    let scratch = Scratch::new(options.dir.as_deref())?;
    let calm_dir = scratch.dir("calm")?;
    let calm = Keyed::create(&calm_dir, None)?;
    calm.database.settle()?;
    let dir = scratch.dir("hot")?;
    let mut hot = Keyed::create(&dir, None)?;
    let start = Instant::now();
    let half = updates / 2;
    hot.update(1, half)?;
    let middle = hot.database.last_stamp();
    hot.update(half + 1, updates)?;
    let rate = updates as f64 / start.elapsed().as_secs_f64();
    println!(
        "{} durable updates per second, {GROUP} a sync\n",
        short(rate)
    );

    // The calm table once, and each state of the hot one in the same order: a scan of keys leaves
    // them decoded in memory, which makes later reads faster.
    let calm = measure(&calm, options.reps, Stamp::MAX, [0.0, 0.0])?;
    let expected = [half as f64, updates as f64];
    let mut report = Table::new(["", "never updated", "hot", "times", "floor", "met"]);
    let written = measure(&hot, options.reps, middle, expected)?;
    compare(&mut report, "as written", &calm, &written);
    hot.database.settle()?;
    let settled = measure(&hot, options.reps, middle, expected)?;
    compare(&mut report, "settled", &calm, &settled);
    let kept_dir = scratch.dir("kept")?;
    let mut kept = Keyed::create(&kept_dir, Some(KEEP))?;
    kept.update(1, updates)?;
    kept.database.settle()?;
    kept.read_micros(1, updates as f64)?;
    let [calm_bytes, kept_bytes] = [calm_dir, kept_dir].map(|dir| disk_bytes(&dir.join("store")));
    report_line(
        &mut report,
        &format!("settled: bytes on disk, history_keep = {KEEP}"),
        [calm_bytes as f64, kept_bytes as f64],
        FLOOR_DISK,
    );
    println!("{report}");
    let bytes = disk_bytes(&dir.join("store"));
    println!(
        "on disk {:.1} MiB, {:.2} bytes per version; peak memory {:.0} MiB",
        bytes as f64 / (1 << 20) as f64,
        bytes as f64 / (updates + KEYS as u64) as f64,
        peak_memory_mib()
    );
    Ok(())
}

/// How long reading takes.
struct Figures {
    read_micros: f64,
    scan_millis: f64,
    find_as_of_micros: f64,
    scan_as_of_millis: f64,
}

/// Measures a table; the hot key's values must be `expected`: in the middle, and now.
fn measure(keyed: &Keyed, reps: usize, middle: Stamp, expected: [f64; 2]) -> Result<Figures> {
    let as_of = VersionFilter::AsOf(middle);
    Ok(Figures {
        read_micros: keyed.read_micros(reps, expected[1])?,
        scan_millis: keyed.scan_millis(reps, VersionFilter::Current, expected[1])?,
        find_as_of_micros: keyed.find_micros(reps, as_of, expected[0])?,
        scan_as_of_millis: keyed.scan_millis(reps, as_of, expected[0])?,
    })
}

fn compare(report: &mut Table, state: &str, calm: &Figures, hot: &Figures) {
    type Figure = fn(&Figures) -> f64;
    let lines: [(&str, Figure, f64); 4] = [
        ("read the key, p50 us", |f| f.read_micros, FLOOR_CURRENT),
        ("scan all, ms", |f| f.scan_millis, FLOOR_CURRENT),
        (
            "the key AS OF the middle, p50 us",
            |f| f.find_as_of_micros,
            FLOOR_AS_OF,
        ),
        (
            "scan all AS OF the middle, ms",
            |f| f.scan_as_of_millis,
            FLOOR_AS_OF,
        ),
    ];
    for (name, figure, floor) in lines {
        let figures = [figure(calm), figure(hot)];
        report_line(report, &format!("{state}: {name}"), figures, floor);
    }
}

/// A line of the report: the figures of the table without updates and of the other one.
fn report_line(report: &mut Table, name: &str, [calm, hot]: [f64; 2], floor: f64) {
    let times = hot / calm;
    let met = if times <= floor { "yes" } else { "NO" };
    report.row(
        name,
        vec![
            short(calm),
            short(hot),
            format!("{times:.2}x"),
            format!("<= {floor}x"),
            met.into(),
        ],
    );
}

/// A table of (id, value), every value 0.
struct Keyed {
    database: Database,
    schema: Arc<TableSchema>,
}

impl Keyed {
    /// The table, which keeps so many old versions of each key; `None`: all.
    fn create(dir: &Path, history_keep: Option<u32>) -> Result<Keyed> {
        let columns = vec![
            column("id", DataType::Int8),
            column("value", DataType::Float8),
        ];
        let mut schema = table("keyed", columns, &[0]);
        schema.options.history_keep = history_keep;
        let mut database = Database::create(dir, &schema)?;
        let schema = database.table("keyed")?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..KEYS)),
            Arc::new(Float64Array::from(vec![0.0; KEYS as usize])),
        ];
        let batch = Change::Batch(BatchChange {
            table: schema.id,
            expect: Expect::Absent,
            batch: RecordBatch::try_new(schema.arrow_schema(), columns)?,
        });
        database.commit(&[write_set(batch)])?;
        Ok(Keyed { database, schema })
    }

    fn hot_key(&self) -> Result<Key> {
        Ok(encode_key(&self.schema, &[Value::Int8(HOT)])?)
    }

    /// Sets the hot key's value to each of these numbers in turn.
    fn update(&mut self, first: u64, last: u64) -> Result<()> {
        let key = self.hot_key()?;
        let table = self.schema.id;
        let set = |value: u64| -> WriteSet {
            let mut row = Vec::new();
            encode_row(&[Value::Int8(HOT), Value::Float8(value as f64)], &mut row);
            write_set(Change::Rows(RowChanges {
                table,
                rows: vec![RowChange {
                    key: key.clone(),
                    expect: Expect::Any,
                    kind: Kind::Put,
                    row: row.into(), valid: None }],
            }))
        };
        let mut next = first;
        while next <= last {
            let end = (next + GROUP - 1).min(last);
            let sets: Vec<WriteSet> = (next..=end).map(set).collect();
            self.database.commit(&sets)?;
            next = end + 1;
        }
        Ok(())
    }

    /// The current value by key, p50.
    fn read_micros(&self, reps: usize, expected: f64) -> Result<f64> {
        let key = self.hot_key()?;
        repeated(reps, || {
            p50_micros(&[(); READS], |()| {
                let found = self.database.view().get(&self.schema, &key.0)?;
                let value = found.map(|found| found.row.values(&[1])).transpose()?;
                match value.as_deref() {
                    Some([Value::Float8(value)]) if *value == expected => Ok(()),
                    other => failure(format!("the key's value is {other:?}")),
                }
            })
        })
    }

    /// The key's value by a scan of the one key, p50.
    fn find_micros(&self, reps: usize, filter: VersionFilter, expected: f64) -> Result<f64> {
        let range = KeyRange::only(&self.hot_key()?.0);
        repeated(reps, || {
            p50_micros(&[(); READS], |()| {
                match self.scan(filter, range.clone())? {
                    (1, value) if value == expected => Ok(()),
                    other => failure(format!("rows and value of the key are {other:?}")),
                }
            })
        })
    }

    fn scan_millis(&self, reps: usize, filter: VersionFilter, expected: f64) -> Result<f64> {
        repeated(reps, || {
            let start = Instant::now();
            let (rows, sum) = self.scan(filter, KeyRange::ALL)?;
            if rows != KEYS as u64 || sum != expected {
                return failure(format!("a scan gave {rows} rows with a sum of {sum}"));
            }
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
    }

    /// Rows, and the sum of their values.
    fn scan(&self, filter: VersionFilter, key_range: KeyRange) -> Result<(u64, f64)> {
        let request = ScanRequest {
            columns: vec![ScanColumn::Column(1)],
            filter,
            key_range,
            ..ScanRequest::default()
        };
        let (mut rows, mut sum) = (0, 0.0);
        for partition in self.database.view().scan(&self.schema, request)? {
            for batch in partition {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                let values = batch.column(0).as_primitive::<Float64Type>().values();
                sum += values.iter().sum::<f64>();
            }
        }
        Ok((rows, sum))
    }
}
