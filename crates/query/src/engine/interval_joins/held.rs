//! The left side of an interval join: all its rows, sorted for the search, in reserved memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{internal_datafusion_err, NullEquality};
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use futures::StreamExt;

use super::bounds::{Bound, Stretch};
use super::intervals::Intervals;
use super::ranks;

/// The group of rows whose key nothing equals.
pub(super) const NO_GROUP: u32 = u32::MAX;
/// What a key takes in a map, besides its bytes.
const KEY_BYTES: usize = 64;
/// From so many rows on they are sorted where nobody else waits.
const SORTED_HERE_MAX: usize = 1 << 17;

/// The rows of one side.
pub(super) struct Held {
    pub(super) rows: RecordBatch,
    pub(super) intervals: Intervals,
    pub(super) keys: Option<HeldKeys>,
    /// Which rows were met, if that is asked for.
    pub(super) met: Vec<AtomicBool>,
    /// Streams of the other side that are not done.
    streams: AtomicUsize,
    _reservation: MemoryReservation,
}

/// Which rows have which key.
pub(super) struct HeldKeys {
    groups: Groups,
    ranges: Vec<Range<usize>>,
}

/// How both sides' keys are evaluated and compared.
#[derive(Clone, Debug)]
pub(super) struct KeyColumns {
    pub(super) expressions: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) null_equality: NullEquality,
}

impl KeyColumns {
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> DfResult<Vec<ArrayRef>> {
        let expressions = self.expressions.iter();
        let evaluated = expressions.map(|e| e.evaluate(batch)?.into_array(batch.num_rows()));
        evaluated.collect()
    }

    fn is_null(&self, columns: &[ArrayRef], row: usize) -> bool {
        self.null_equality == NullEquality::NullEqualsNothing
            && columns.iter().any(|c| c.is_null(row))
    }
}

/// Keys, and which group of rows each has.
type Groups = HashMap<Box<[u8]>, u32>;

impl KeyColumns {
    /// The groups of rows with equal keys, and to which one each row belongs. The latter is left
    /// reserved.
    fn groups(
        &self,
        rows: &RecordBatch,
        reservation: &MemoryReservation,
    ) -> DfResult<(Groups, Vec<u32>)> {
        let arrays = self.evaluate(rows)?;
        let bytes = key_rows(&arrays)?;
        reservation.try_grow(bytes.size() + rows.num_rows() * size_of::<u32>())?;
        let mut groups = Groups::new();
        let mut group_of = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            if self.is_null(&arrays, row) {
                group_of.push(NO_GROUP);
                continue;
            }
            let key = bytes.row(row);
            let found = groups.get(key.as_ref()).copied();
            group_of.push(match found {
                Some(group) => group,
                None => {
                    let group = groups.len() as u32;
                    reservation.try_grow(key.as_ref().len() + KEY_BYTES)?;
                    groups.insert(key.as_ref().into(), group);
                    group
                }
            });
        }
        reservation.shrink(bytes.size());
        Ok((groups, group_of))
    }
}

/// The bytes of keys.
fn key_rows(columns: &[ArrayRef]) -> DfResult<Rows> {
    let types = columns.iter().map(|c| c.data_type().clone());
    let converter = RowConverter::new(types.map(SortField::new).collect())?;
    Ok(converter.convert_columns(columns)?)
}

impl HeldKeys {
    /// The places of the rows whose keys each row of a batch has.
    pub(super) fn ranges(
        &self,
        columns: &KeyColumns,
        batch: &RecordBatch,
    ) -> DfResult<Vec<Range<usize>>> {
        let arrays = columns.evaluate(batch)?;
        let rows = key_rows(&arrays)?;
        let range = |row: usize| {
            let group = match columns.is_null(&arrays, row) {
                true => None,
                false => self.groups.get(rows.row(row).as_ref()),
            };
            group.map_or(0..0, |group| self.ranges[*group as usize].clone())
        };
        Ok((0..batch.num_rows()).map(range).collect())
    }
}

/// Lows and highs of the rows of a batch.
pub(super) fn stretches(stretch: &Stretch, batch: &RecordBatch) -> DfResult<(Vec<i64>, Vec<i64>)> {
    let numbers = |bound: &Bound| -> DfResult<Vec<i64>> {
        let column = bound.expression.evaluate(batch)?;
        let column = column.into_array(batch.num_rows())?;
        ranks::of(&column, bound.null)
            .ok_or_else(|| internal_datafusion_err!("no numbers for {}", column.data_type()))
    };
    let mut highs = numbers(&stretch.high)?;
    if stretch.high_less > 0 {
        let bounded = highs.iter_mut().filter(|high| **high != ranks::HIGHEST);
        bounded.for_each(|high| *high = high.saturating_sub(stretch.high_less));
    }
    Ok((numbers(&stretch.low)?, highs))
}

/// What is to become of a left side.
pub(super) struct Plan {
    pub(super) stretch: Stretch,
    pub(super) keys: Option<KeyColumns>,
    /// Whether it matters which rows are met.
    pub(super) notes_met: bool,
    /// Streams of the other side.
    pub(super) streams: usize,
}

impl Held {
    /// Takes all rows of a stream.
    ///
    /// Errors: there is no memory for them (53200).
    pub(super) async fn collect(
        mut stream: SendableRecordBatchStream,
        plan: Plan,
        reservation: MemoryReservation,
    ) -> DfResult<Held> {
        let schema = stream.schema();
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            reservation.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        drop(stream);
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows <= SORTED_HERE_MAX {
            return Held::new(&schema, batches, &plan, reservation);
        }
        let sorted = move || Held::new(&schema, batches, &plan, reservation);
        let sorted = tokio::task::spawn_blocking(sorted).await;
        sorted.map_err(|e| internal_datafusion_err!("sorting for a join failed: {e}"))?
    }

    fn new(
        schema: &SchemaRef,
        batches: Vec<RecordBatch>,
        plan: &Plan,
        reservation: MemoryReservation,
    ) -> DfResult<Held> {
        let single = reservation.size();
        // While they are put together they are there twice.
        reservation.try_grow(single)?;
        let rows = datafusion::arrow::compute::concat_batches(schema, &batches)?;
        drop(batches);
        let whole = rows.get_array_memory_size();
        reservation.shrink(2 * single);
        reservation.try_grow(whole)?;
        let count = rows.num_rows();
        // The numbers, and the same in order.
        reservation.try_grow(count * (16 + Intervals::BYTES + usize::from(plan.notes_met)))?;
        let (lows, highs) = stretches(&plan.stretch, &rows)?;
        let (intervals, keys) = match &plan.keys {
            None => (Intervals::new(&lows, &highs, None, 0).0, None),
            Some(columns) => {
                let (groups, group_of) = columns.groups(&rows, &reservation)?;
                let number = groups.len() as u32;
                let (intervals, ranges) = Intervals::new(&lows, &highs, Some(&group_of), number);
                reservation.shrink(count * size_of::<u32>());
                (intervals, Some(HeldKeys { groups, ranges }))
            }
        };
        reservation.shrink(count * 16);
        let met = if plan.notes_met { count } else { 0 };
        Ok(Held {
            rows,
            intervals,
            keys,
            met: (0..met).map(|_| AtomicBool::new(false)).collect(),
            streams: AtomicUsize::new(plan.streams),
            _reservation: reservation,
        })
    }

    /// Whether this is called by the last of the streams.
    pub(super) fn is_last(&self) -> bool {
        self.streams.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The rows that were met, or those that were not.
    pub(super) fn rows_met(&self, were_met: bool) -> Vec<u32> {
        let met = self.met.iter().enumerate();
        met.filter(|(_, met)| met.load(Ordering::Acquire) == were_met)
            .map(|(row, _)| row as u32)
            .collect()
    }

    /// The lowest and the highest value of the only key, if it is one whose order scans know.
    pub(super) fn key_bounds(&self, columns: &KeyColumns) -> DfResult<Option<[ArrayRef; 2]>> {
        let [key] = columns.expressions.as_slice() else {
            return Ok(None);
        };
        let column = key.evaluate(&self.rows)?.into_array(self.rows.num_rows())?;
        let knows = column.data_type().is_integer()
            || column.data_type().is_temporal()
            || matches!(column.data_type(), DataType::Utf8View | DataType::Utf8);
        let nulls_equal = columns.null_equality == NullEquality::NullEqualsNull;
        if !knows || (nulls_equal && column.null_count() > 0) {
            return Ok(None);
        }
        let bytes = key_rows(std::slice::from_ref(&column))?;
        let there = (0..column.len()).filter(|row| column.is_valid(*row));
        let lowest = there.clone().min_by_key(|row| bytes.row(*row));
        let highest = there.max_by_key(|row| bytes.row(*row));
        let (Some(lowest), Some(highest)) = (lowest, highest) else {
            return Ok(None);
        };
        Ok(Some([column.slice(lowest, 1), column.slice(highest, 1)]))
    }
}
