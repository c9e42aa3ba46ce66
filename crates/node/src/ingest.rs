//! Readings of sensors on their way into the table `readings`.
//!
//! Owns [`Readings`], the columns that every ingest protocol (HTTP, line protocol,
//! MQTT) fills, and the commit of them: all rows of one call become visible together
//! and are durable when the call returns, or none is stored. Refuses to know any
//! wire format.
//!
//! ```text
//!     parser -> Readings::push -> into_batch -> write set -> log -> commit -> Ingested
//! ```

use std::sync::Arc;

use arrow_array::builder::make_view;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use chronos_model::{
    columns_bytes, Change, ColumnSchema, DataType, Encoder, Expect, Fingerprint, Once, SqlState,
    Stamp, TableId, TableOptions, TableSchema, WriteSet,
};
use chronos_query::dml;

use sha2::{Digest, Sha256};

use crate::session::shortened;
use crate::{Error, Node};

/// Bytes after which a column's text goes on in a new buffer; a view's offset has 32 bits.
const TEXT_BUFFER_BYTES: usize = 1 << 28;

/// What became of ingested rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ingested {
    /// Rows that are new.
    pub rows: u64,
    /// Rows whose (device, metric, ts, seq) was there before; they were left alone.
    pub duplicates: u64,
}

/// Rows of `readings(device_id text, metric text, ts timestamptz, seq bigint, value
/// double precision)` as they grow, column by column.
#[derive(Debug, Default)]
pub struct Readings {
    device_id: TextColumn,
    metric: TextColumn,
    ts_micros: Vec<i64>,
    seq: Vec<i64>,
    value: Vec<f64>,
}

impl Readings {
    /// No rows.
    pub fn new() -> Readings {
        Readings::default()
    }

    /// Appends a row. `ts_micros` counts from the Unix epoch.
    #[inline]
    pub fn push(&mut self, device: &str, metric: &str, ts_micros: i64, seq: i64, value: f64) {
        self.device_id.push(device);
        self.metric.push(metric);
        self.ts_micros.push(ts_micros);
        self.seq.push(seq);
        self.value.push(value);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Forgets all rows but keeps the memory.
    pub fn clear(&mut self) {
        self.device_id.clear();
        self.metric.clear();
        self.ts_micros.clear();
        self.seq.clear();
        self.value.clear();
    }

    /// The columns of [`into_batch`](Self::into_batch), in the table's order.
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            DataType::Text.to_field("device_id", false),
            DataType::Text.to_field("metric", false),
            DataType::TimestampTz.to_field("ts", false),
            DataType::Int8.to_field("seq", false),
            DataType::Float8.to_field("value", false),
        ]))
    }

    /// The rows as one batch of [`schema`](Self::schema).
    ///
    /// Errors: never for rows that came through [`push`](Self::push); Arrow checks the
    /// columns again.
    pub fn into_batch(self) -> Result<RecordBatch, Error> {
        let internal = |e| Error::new(SqlState::INTERNAL, format!("readings are damaged: {e}"));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.device_id.finish().map_err(internal)?),
            Arc::new(self.metric.finish().map_err(internal)?),
            Arc::new(TimestampMicrosecondArray::from(self.ts_micros).with_timezone("UTC")),
            Arc::new(Int64Array::from(self.seq)),
            Arc::new(Float64Array::from(self.value)),
        ];
        RecordBatch::try_new(Readings::schema(), columns).map_err(internal)
    }
}

/// A text column under construction. A text equal to the one before it shares its
/// bytes: a device that sends many metrics is written once, and a body with one long
/// name and a million metrics stays small.
#[derive(Debug, Default)]
struct TextColumn {
    views: Vec<u128>,
    full: Vec<arrow_buffer::Buffer>,
    bytes: Vec<u8>,
    /// Where in `bytes` the last long text stands.
    last: std::ops::Range<usize>,
}

impl TextColumn {
    /// Texts up to this length live inside their view.
    const INLINE_BYTES: usize = 12;

    #[inline]
    fn push(&mut self, text: &str) {
        let text = text.as_bytes();
        if text.len() <= Self::INLINE_BYTES {
            self.views.push(make_view(text, 0, 0));
            return;
        }
        if self.bytes[self.last.clone()] != *text {
            if self.bytes.len() + text.len() > TEXT_BUFFER_BYTES {
                self.full.push(std::mem::take(&mut self.bytes).into());
            }
            let start = self.bytes.len();
            self.bytes.extend_from_slice(text);
            self.last = start..self.bytes.len();
        }
        let view = make_view(text, self.full.len() as u32, self.last.start as u32);
        self.views.push(view);
    }

    fn clear(&mut self) {
        self.views.clear();
        self.full.clear();
        self.bytes.clear();
        self.last = 0..0;
    }

    fn finish(mut self) -> Result<StringViewArray, arrow_schema::ArrowError> {
        if !self.bytes.is_empty() {
            self.full.push(self.bytes.into());
        }
        StringViewArray::try_new(self.views.into(), self.full, None)
    }
}

impl Node {
    /// Stores readings in the table `readings`, created on first use, and returns
    /// after their commit is as durable as the node promises. All of them become
    /// visible together or none does. A row whose key (device, metric, ts, seq) is
    /// there already is left alone and counted as a duplicate. `user`: whose they are, if that is known.
    pub async fn ingest(&self, rows: Readings, user: Option<&str>) -> Result<Ingested, Error> {
        self.ingest_for(rows, user, None).await
    }

    /// The same once for an idempotency key of 1 to 255 bytes: readings that come again with it
    /// are not looked at, and answered as they were the first time.
    ///
    /// Errors: also, the key was used for something else (22023).
    pub async fn ingest_once(
        &self,
        rows: Readings,
        user: Option<&str>,
        key: &str,
    ) -> Result<Ingested, Error> {
        self.ingest_for(rows, user, Some(key)).await
    }

    async fn ingest_for(
        &self,
        rows: Readings,
        user: Option<&str>,
        key: Option<&str>,
    ) -> Result<Ingested, Error> {
        let given = rows.len() as u64;
        if given == 0 {
            return Ok(Ingested::default());
        }
        let table = self.readings_table(user).await?;
        let batch = rows.into_batch()?;
        let once = key.map(|key| Once {
            key: key.into(),
            fingerprint: fingerprint(&batch, user),
            answer: Bytes::new(),
        });
        check_columns(&table)?;
        if needs_more(&table) {
            let mut held = self.inner.replica.write_memory();
            held.try_grow(columns_bytes(batch.columns()) as u64)?;
            let mut session = self.session();
            if let Some(user) = user {
                session.set_startup("user", user)?;
            }
            let new = match &once {
                None => session.insert_new(&table, &COLUMNS, batch).await?,
                Some(once) => {
                    let inserted = session.insert_new_once(once, &table, &COLUMNS, &batch);
                    inserted.await?
                }
            };
            return Ok(Ingested {
                rows: new,
                duplicates: given - new,
            });
        }
        let batch = coerce_to(&table, batch)?;
        let mut held = self.inner.replica.write_memory();
        held.try_grow(columns_bytes(batch.columns()) as u64)?;
        let periods = dml::given_periods(&table, &batch)?;
        let change = dml::insertions(&table, batch, Expect::AbsentOrSkip, &periods)?;
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: dml::expected_shape(&table)
                .into_iter()
                .chain([change])
                .chain(once.map(Change::Once))
                .collect(),
        };
        let committal = self.inner.replica.propose(set, user).await?;
        let applied = committal.applied;
        let new = match applied.before {
            Some(before) => before.rows.min(given),
            None => given - applied.skipped,
        };
        Ok(Ingested {
            rows: new,
            duplicates: given - new,
        })
    }

    /// The table `readings`, created if there is none.
    async fn readings_table(&self, user: Option<&str>) -> Result<Arc<TableSchema>, Error> {
        let replica = &self.inner.replica;
        loop {
            if let Some(table) = replica.store.catalog().table(READINGS) {
                return Ok(Arc::clone(table));
            }
            let set = WriteSet {
                begin: Stamp::MAX,
                changes: vec![Change::CreateTable(readings_schema())],
            };
            match replica.propose(set, user).await {
                Ok(_) => {}
                Err(e) if e.code == SqlState::DUPLICATE_TABLE => {
                    let catalog = replica.store.catalog();
                    if catalog.table(READINGS).is_none() && catalog.has_relation(READINGS) {
                        let message =
                            "\"readings\" is not a table, but ingest needs one of that name";
                        return Err(Error::new(SqlState("42809"), message));
                    }
                    // Else somebody was first.
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// What tells readings of a user from others.
fn fingerprint(readings: &RecordBatch, user: Option<&str>) -> Fingerprint {
    let mut e = Encoder::default();
    let mut hash = Sha256::new();
    e.bytes(user.unwrap_or_default().as_bytes());
    let columns = readings.columns();
    let (devices, metrics) = (columns[0].as_string_view(), columns[1].as_string_view());
    let times = columns[2].as_primitive::<TimestampMicrosecondType>();
    let numbers = columns[3].as_primitive::<Int64Type>();
    let values = columns[4].as_primitive::<Float64Type>();
    for row in 0..readings.num_rows() {
        e.bytes(devices.value(row).as_bytes());
        e.bytes(metrics.value(row).as_bytes());
        e.u64(times.value(row) as u64);
        e.u64(numbers.value(row) as u64);
        e.u64(values.value(row).to_bits());
        hash.update(&e.buffer);
        e.buffer.clear();
    }
    shortened(hash.finalize().as_slice())
}

/// The name of the table that ingest fills.
pub const READINGS: &str = "readings";

const COLUMNS: [&str; 5] = ["device_id", "metric", "ts", "seq", "value"];
const KEY: [&str; 4] = ["device_id", "metric", "ts", "seq"];

fn readings_schema() -> TableSchema {
    let column = |name: &str, data_type| ColumnSchema {
        name: name.into(),
        data_type,
        nullable: false,
        default: None,
        attributes: Default::default(),
    };
    TableSchema {
        id: TableId(0),
        name: READINGS.into(),
        columns: vec![
            column("device_id", DataType::Text),
            column("metric", DataType::Text),
            column("ts", DataType::TimestampTz),
            column("seq", DataType::Int8),
            column("value", DataType::Float8),
        ],
        shape: Default::default(),
        rules: Default::default(),
        primary_key: vec![0, 1, 2, 3],
        options: TableOptions::default(),
    }
}

/// Of the table that a user may have made or altered himself: has it what readings are?
fn check_columns(table: &TableSchema) -> Result<(), Error> {
    let has_columns = COLUMNS.iter().all(|c| table.column_index(c).is_some());
    let names = |&c: &usize| table.columns[c].name.as_str();
    let has_key = table.primary_key.iter().map(names).eq(KEY);
    match has_columns && has_key {
        true => Ok(()),
        false => Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "the table \"readings\" does not have the columns and key that ingest needs",
        )
        .with_hint("It needs device_id, metric, ts, seq, value and the primary key (device_id, metric, ts, seq).")),
    }
}

/// Whether values of other columns have to be found, or rows to be judged.
fn needs_more(table: &TableSchema) -> bool {
    let others = table.columns.iter();
    let mut others = others.filter(|c| !COLUMNS.contains(&c.name.as_str()));
    table.has_row_rules()
        || table.has_identity()
        || others.any(|c| c.default.is_some() || !c.nullable)
}

/// The batch in the columns of a `readings` that has others that may be NULL, or other types.
fn coerce_to(table: &Arc<TableSchema>, batch: RecordBatch) -> Result<RecordBatch, Error> {
    let own = readings_schema();
    if table.columns == own.columns {
        return Ok(batch);
    }
    let given = batch.schema();
    let mut fields = Vec::with_capacity(table.columns.len());
    let mut columns = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        match own.column_index(&column.name) {
            Some(i) => {
                fields.push(Arc::clone(&given.fields()[i]));
                columns.push(Arc::clone(batch.column(i)));
            }
            None => {
                fields.push(Arc::new(column.arrow_field()));
                columns.push(arrow_array::new_null_array(
                    &column.data_type.to_arrow(),
                    batch.num_rows(),
                ));
            }
        }
    }
    let coerced = chronos_query::coerce_batch(table, &fields, &columns, batch.num_rows())?;
    dml::check_not_null(table, &coerced)?;
    Ok(coerced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let long = "a device whose name does not fit a view";
        let rows = [
            ("d1", "temp"),
            (long, "temp"),
            (long, "a metric with a long name"),
            ("", "x"),
            (long, "a metric with a long name"),
            ("another device with a long name", "temp"),
        ];
        let mut readings = Readings::new();
        for (i, (device, metric)) in rows.iter().enumerate() {
            readings.push(device, metric, i as i64, 7, 0.5);
        }
        assert_eq!(readings.len(), rows.len());
        let batch = readings.into_batch().unwrap();
        assert_eq!(
            fingerprint(&batch, Some("ann")),
            fingerprint(&batch.clone(), Some("ann"))
        );
        assert_ne!(fingerprint(&batch, Some("ann")), fingerprint(&batch, None));
        let fewer = batch.slice(0, 5);
        assert_ne!(fingerprint(&batch, None), fingerprint(&fewer, None));
        let devices: Vec<_> = batch.column(0).as_string_view().iter().flatten().collect();
        let metrics: Vec<_> = batch.column(1).as_string_view().iter().flatten().collect();
        assert_eq!(devices, rows.map(|r| r.0));
        assert_eq!(metrics, rows.map(|r| r.1));
        assert_eq!(batch.schema(), Readings::schema());
    }

    #[test]
    fn a_repeated_text_is_kept_once() {
        let mut column = TextColumn::default();
        for _ in 0..1000 {
            column.push("a device whose name does not fit a view");
        }
        assert!(column.bytes.len() < 100);
    }
}
