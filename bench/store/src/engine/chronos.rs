//! Chronos as its own library crates have it: a log with a sync per commit, and the store. No SQL,
//! no session, no wire.
//!
//! A commit encodes the write set, appends it to the log, prepares it while the log syncs, waits
//! for the sync and applies it, as a node does. Memtables are flushed and segments compacted in
//! the background; settling flushes what is in memory and does the compactions that are due.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{
    ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use chronos_env::Env;
use chronos_model::{
    encode_key, BatchChange, Change, ColumnSchema, DataType, Expect, NodeId, Stamp, TableId,
    TableOptions, TableSchema, Value, WriteSet,
};
use chronos_store::log::{GroupId, Log, LogEntry, LogIndex, LogOptions, Term};
use chronos_store::{
    KeyRange, ReadView, ScanColumn, ScanPartition, ScanRequest, Store, StoreOptions, StoreStats,
};

use super::{Engine, Range, Slice, CACHE_BYTES};
use crate::data::{device_name, Aggregate, Rows, Sums, METRIC};
use crate::error::{failure, Result};
use crate::scratch::disk_bytes;

const NODE: NodeId = NodeId(1);
/// The first commit's stamp; each later one is a microsecond more.
const START_MICROS: u64 = 1_700_000_000_000_000;

/// A log and a store, and the way of a write set through both.
pub(crate) struct Database {
    log: Log,
    store: Store,
    next: LogIndex,
    cut_before: LogIndex,
}

impl Database {
    /// On an empty directory, with one table.
    pub(crate) fn create(dir: &Path, schema: &TableSchema) -> Result<Database> {
        let env = Env::real();
        let (log, _) = Log::open(&env, &dir.join("log"), LogOptions::default())?;
        let options = StoreOptions {
            cache_bytes: CACHE_BYTES as u64,
            ..StoreOptions::default()
        };
        let mut database = Database {
            log,
            store: Store::open(&env, &dir.join("store"), options)?,
            next: LogIndex(1),
            cut_before: LogIndex(1),
        };
        database.commit(&[write_set(Change::CreateTable(schema.clone()))])?;
        Ok(database)
    }

    /// Commits write sets, each for itself; one sync covers them all.
    pub(crate) fn commit(&mut self, sets: &[WriteSet]) -> Result<()> {
        let first = self.next;
        let mut entries = Vec::with_capacity(sets.len());
        for set in sets {
            entries.push(LogEntry {
                group: GroupId(0),
                term: Term(1),
                index: self.next,
                payload: Bytes::from(set.encode()?),
            });
            self.next = self.next.next();
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.log.append(entries, move |result| {
            // The receiver waits below.
            let _ = sender.send(result);
        });
        let catalog = self.store.catalog();
        let prepared = sets
            .iter()
            .map(|set| self.store.prepare(set.clone(), &catalog))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        receiver.recv()??;
        for (index, set) in (first.0..).zip(&prepared) {
            self.store
                .apply(LogIndex(index), stamp_of(index), NODE, set)?;
        }
        let flushed = self.store.flushed_index().next();
        if flushed > self.cut_before {
            self.cut_before = flushed;
            self.log.cut_before(flushed)?;
        }
        Ok(())
    }

    /// Flushes, and compacts what the policy chooses.
    pub(crate) fn settle(&self) -> Result<()> {
        self.store.flush_now()?;
        Ok(self.store.maintain()?)
    }

    /// Compacts what the policy chooses, without a flush.
    pub(crate) fn maintain(&self) -> Result<()> {
        Ok(self.store.maintain()?)
    }

    /// What a reader sees now.
    pub(crate) fn view(&self) -> ReadView {
        self.store.read_view()
    }

    /// What the store says of itself.
    pub(crate) fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// The table as it is stored.
    pub(crate) fn table(&self, name: &str) -> Result<Arc<TableSchema>> {
        let catalog = self.store.catalog();
        let found = catalog.tables.values().find(|table| table.name == name);
        match found {
            Some(table) => Ok(table.clone()),
            None => failure(format!("there is no table {name}")),
        }
    }

    /// The stamp of the last commit.
    pub(crate) fn last_stamp(&self) -> Stamp {
        stamp_of(self.next.0 - 1)
    }
}

/// A write set of one change that read nothing.
pub(crate) fn write_set(change: Change) -> WriteSet {
    WriteSet {
        begin: Stamp::MAX,
        changes: vec![change],
    }
}

fn stamp_of(index: u64) -> Stamp {
    Stamp::from_micros(START_MICROS + index)
}

/// A column that is never NULL.
pub(crate) fn column(name: &str, data_type: DataType) -> ColumnSchema {
    ColumnSchema {
        name: name.into(),
        data_type,
        nullable: false,
        default: None,
        attributes: Default::default(),
    }
}

/// A table of these columns.
pub(crate) fn table(name: &str, columns: Vec<ColumnSchema>, primary_key: &[usize]) -> TableSchema {
    TableSchema {
        id: TableId(1),
        name: name.into(),
        columns,
        primary_key: primary_key.to_vec(),
        options: TableOptions::default(),
        rules: Default::default(),
        shape: Default::default(),
    }
}

/// The table of the comparison.
pub(crate) struct Readings {
    database: Database,
    schema: Arc<TableSchema>,
}

const TS: usize = 2;
const VALUE: usize = 3;
const NOISE: usize = 4;

impl Readings {
    pub(crate) fn open(dir: &Path) -> Result<Readings> {
        let columns = vec![
            column("device", DataType::Text),
            column("metric", DataType::Text),
            column("ts", DataType::TimestampTz),
            column("value", DataType::Float8),
            column("noise", DataType::Float8),
        ];
        let database = Database::create(dir, &table("readings", columns, &[0, 1, 2]))?;
        let schema = database.table("readings")?;
        Ok(Readings { database, schema })
    }

    /// Does the compactions that are due; what is in memory stays there.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.database.maintain()
    }

    fn key(&self, device: u32, ts: i64) -> Result<Vec<u8>> {
        let values = [
            Value::Text(device_name(device)),
            Value::Text(METRIC.into()),
            Value::TimestampTz(ts),
        ];
        Ok(encode_key(&self.schema, &values)?.0.to_vec())
    }

    fn batch(&self, rows: &Rows) -> Result<RecordBatch> {
        let devices = rows.device.iter().map(|device| device_name(*device));
        let metrics = std::iter::repeat_n(METRIC, rows.len());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(devices)),
            Arc::new(StringViewArray::from_iter_values(metrics)),
            Arc::new(TimestampMicrosecondArray::from(rows.ts.clone()).with_timezone("UTC")),
            Arc::new(Float64Array::from(rows.value.clone())),
            Arc::new(Float64Array::from(rows.noise.clone())),
        ];
        Ok(RecordBatch::try_new(self.schema.arrow_schema(), columns)?)
    }

    fn scan(&self, request: ScanRequest) -> Result<Vec<ScanPartition>> {
        Ok(self.database.view().scan_unordered(&self.schema, request)?)
    }
}

fn columns(columns: &[usize]) -> Vec<ScanColumn> {
    columns.iter().map(|c| ScanColumn::Column(*c)).collect()
}

impl Engine for Readings {
    fn ingest(&mut self, rows: &Rows) -> Result<()> {
        let change = Change::Batch(BatchChange {
            table: self.schema.id,
            expect: Expect::Absent,
            batch: self.batch(rows)?,
        });
        self.database.commit(&[write_set(change)])
    }

    fn settle(&mut self) -> Result<()> {
        self.database.settle()
    }

    fn data_bytes(&self, dir: &Path) -> u64 {
        disk_bytes(&dir.join("store"))
    }

    fn aggregate(&mut self) -> Result<Vec<Aggregate>> {
        let request = ScanRequest {
            columns: columns(&[0, VALUE]),
            ..ScanRequest::default()
        };
        let mut all = std::collections::BTreeMap::<String, Sums>::new();
        for partition in self.scan(request)? {
            for batch in partition {
                let batch = batch?;
                let devices = batch.column(0).as_string_view();
                let values = batch.column(1).as_primitive::<Float64Type>().values();
                // Rows of a device stand together, and short names are in their views.
                let mut start = 0;
                for run in devices.views().chunk_by(|a, b| a == b) {
                    let end = start + run.len();
                    let device = devices.value(start);
                    match all.get_mut(device) {
                        Some(sums) => sums.add_all(&values[start..end]),
                        None => {
                            let sums = all.entry(device.to_owned()).or_default();
                            sums.add_all(&values[start..end]);
                        }
                    }
                    start = end;
                }
            }
        }
        let all = all.into_iter();
        Ok(all.map(|(device, sums)| sums.aggregate(device)).collect())
    }

    fn range(&mut self, range: Range) -> Result<Slice> {
        let request = ScanRequest {
            columns: columns(&[TS, VALUE, NOISE]),
            key_range: KeyRange {
                lower: std::ops::Bound::Included(self.key(range.device, range.from)?),
                upper: std::ops::Bound::Excluded(self.key(range.device, range.to)?),
            },
            ..ScanRequest::default()
        };
        let mut slice = Slice::default();
        for partition in self.scan(request)? {
            for batch in partition {
                let batch = batch?;
                let column = |c: usize| batch.column(c).as_primitive::<Float64Type>().values();
                for (value, noise) in column(1).iter().zip(column(2)) {
                    slice.add(*value, *noise);
                }
            }
        }
        Ok(slice)
    }

    fn point(&mut self, device: u32, ts: i64) -> Result<Option<f64>> {
        let key = self.key(device, ts)?;
        let Some(found) = self.database.view().get(&self.schema, &key)? else {
            return Ok(None);
        };
        match found.row.values(&[NOISE])?.as_slice() {
            [Value::Float8(noise)] => Ok(Some(*noise)),
            other => failure(format!("noise is {other:?}")),
        }
    }
}
