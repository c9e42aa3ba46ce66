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
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{DataType, SqlState};

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
    /// there already is left alone and counted as a duplicate.
    pub async fn ingest(&self, rows: Readings) -> Result<Ingested, Error> {
        rows.into_batch()?;
        Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "not built yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;

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
