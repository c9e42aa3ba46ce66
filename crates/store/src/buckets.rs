//! Windows of time: which rows of a table with a time column are stored together.
//!
//! ```text
//!   flush of 10:58 .. 11:03          segments, by hour
//!   --------+-----------             [10, 11)  [11, 12)
//!           `-- cut at 11:00
//! ```
//!
//! A key has its time in it, so all versions of a key are in one window, and segments of
//! different windows never share a key. Compaction stays within a window: once a window is
//! over it is merged a few times and then left alone, a late row costs a rewrite of its own
//! window only, and what expires goes as whole segments.
//!
//! What spans many windows (a load of old data) is written in wider ones, twice, four times,
//! .. as wide, and divided again when it is compacted, so that neither the files of one write
//! nor the small files in all are many.

use chronos_model::TableSchema;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::memtable::key_of;
use crate::merge::Source;
use crate::retention::{key_time, page_times};
use crate::state::SegmentFile;

/// Windows that one flush or compaction writes at most: each holds a group of pages in
/// memory.
const BUCKETS_MAX: u64 = 8;
/// A load is not divided into windows of less.
const BUCKET_BYTES_MIN: u64 = 8 << 20;

/// A window of time: `[number, number + 1)` times its width since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) micros: i64,
    pub(crate) number: i64,
}

impl Bucket {
    pub(crate) fn of(time: i64, micros: i64) -> Bucket {
        let number = time.div_euclid(micros);
        Bucket { micros, number }
    }

    /// First moment after it.
    pub(crate) fn end(self) -> i64 {
        self.number.saturating_add(1).saturating_mul(self.micros)
    }

    /// Whether a time may be in both.
    pub(crate) fn meets(self, other: Bucket) -> bool {
        let ((a, b), (c, d)) = (self.span(), other.span());
        a <= d && c <= b
    }

    fn span(self) -> (i64, i64) {
        (self.number.saturating_mul(self.micros), self.end() - 1)
    }
}

/// How the rows of one write are divided.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Division {
    /// Position of the time column.
    pub(crate) column: usize,
    /// Width of the windows.
    pub(crate) micros: i64,
}

impl Division {
    /// Of a write of about so many bytes with rows of these times; `None`: all rows stay
    /// together.
    pub(crate) fn new(schema: &TableSchema, times: Times, bytes: u64) -> Option<Division> {
        let (column, bucket) = (schema.options.time_column?, schema.options.bucket_micros?);
        let (low, high) = match times {
            Times::None => return None,
            Times::Span(low, high) => (low, high),
            Times::Unknown => return None,
        };
        let wanted = (bytes / BUCKET_BYTES_MIN).clamp(2, BUCKETS_MAX);
        let mut micros = bucket.max(1);
        let touched = |micros: i64| high.div_euclid(micros) - low.div_euclid(micros);
        while touched(micros) as u64 >= wanted {
            micros = micros.checked_mul(2)?;
        }
        Some(Division { column, micros })
    }
}

/// The times of some rows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Times {
    /// There are no rows.
    None,
    /// From the first to the last, both included.
    Span(i64, i64),
    /// Any.
    Unknown,
}

impl Times {
    fn with(self, other: Times) -> Times {
        match (self, other) {
            (Times::None, times) | (times, Times::None) => times,
            (Times::Span(a, b), Times::Span(c, d)) => Times::Span(a.min(c), b.max(d)),
            _ => Times::Unknown,
        }
    }

    fn of_span(span: Option<(i64, i64)>) -> Times {
        span.map_or(Times::Unknown, |(low, high)| Times::Span(low, high))
    }

    /// Of the rows of some sources.
    pub(crate) fn of_sources(
        schema: &TableSchema,
        sources: &[Source],
    ) -> Result<Times, StoreError> {
        let Some(column) = schema.options.time_column else {
            return Ok(Times::Unknown);
        };
        let mut times = Times::None;
        for source in sources {
            times = times.with(match source {
                Source::Run(run) => {
                    let at = schema.primary_key.iter().position(|c| *c == column);
                    Times::of_span(at.and_then(|at| run.ranges.of_key_column(at)))
                }
                Source::Segment(segment) => of_segment(segment, column),
                Source::Rows(memtable) => {
                    let mut times = Times::None;
                    for entry in memtable.rows.iter() {
                        let time = key_time(schema, column, key_of(entry.key()))?;
                        times = times.with(Times::of_span(time.map(|t| (t, t))));
                    }
                    times
                }
            });
        }
        Ok(times)
    }
}

/// As its pages say, where they do; its window else.
fn of_segment(segment: &SegmentFile, column: usize) -> Times {
    let whole = Times::of_span(segment.bucket.map(Bucket::span));
    let of_page = |page| match page_times(page, column) {
        Some((low, high)) => Times::Span(low, high),
        None => whole,
    };
    segment
        .pages()
        .iter()
        .map(of_page)
        .fold(Times::None, Times::with)
}

#[cfg(test)]
mod tests {
    use chronos_model::{ColumnSchema, DataType, TableId, TableOptions};
    use proptest::prelude::*;

    use super::*;

    fn hourly() -> TableSchema {
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: vec![ColumnSchema {
                name: "ts".into(),
                data_type: DataType::TimestampTz,
                nullable: false,
                default: None,
                attributes: Default::default(),
            }],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![0],
            options: TableOptions {
                time_column: Some(0),
                bucket_micros: Some(3600),
                ..TableOptions::default()
            },
        }
    }

    #[test]
    fn a_short_span_is_cut_at_the_windows() {
        let width = |low, high, bytes| {
            Division::new(&hourly(), Times::Span(low, high), bytes).map(|d| d.micros)
        };
        assert_eq!(width(7000, 7300, 5), Some(3600));
        // A little load of old data is not cut to pieces; a large one is, to eight.
        assert!(width(0, 3600 * 1000, 5) >= Some(3600 * 500));
        assert_eq!(width(0, 3600 * 8 - 1, 1 << 30), Some(3600));
        assert_eq!(width(0, 3600 * 8, 1 << 30), Some(7200));
        assert_eq!(Division::new(&hourly(), Times::Unknown, 5), None);
    }

    proptest! {
        /// Few windows, whatever the span, and every time is in its window.
        #[test]
        fn windows_are_few(low in any::<i32>(), span in any::<u32>(), bytes in any::<u32>(), part in 0.0..1.0) {
            let (low, high) = (i64::from(low), i64::from(low) + i64::from(span));
            let division = Division::new(&hourly(), Times::Span(low, high), bytes.into()).unwrap();
            let of = |time| Bucket::of(time, division.micros);
            prop_assert!(of(high).number - of(low).number < BUCKETS_MAX as i64);
            let time = low + (span as f64 * part) as i64;
            let (first, last) = of(time).span();
            prop_assert!(first <= time && time <= last && last < of(time).end());
        }
    }
}
