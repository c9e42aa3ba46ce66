//! How a scan's output is made of stored columns: the record batches of versions and pieces
//! that are seen.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type, UInt8Type};
use arrow_array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{Period, Stamp, SystemColumn, TableSchema};

use super::{ScanColumn, ValidFilter};
use crate::error::StoreError;
use crate::merge::{cut_is_met, end_of_only_version, ended_by, Merged, Piece, Resolution, Wants};
use crate::retention::{times, Retained, CUT};
use crate::segment::PageColumn;

/// How a scan's output is made of stored columns.
#[derive(Debug)]
pub(crate) struct ScanShape {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) resolution: Resolution,
    /// `None`: it does not matter when versions are true.
    pub(crate) valid: Option<ValidFilter>,
    /// Whether the reader asks for another valid time than the present.
    pub(crate) asks_for_valid_time: bool,
    pub(crate) view: Stamp,
    pub(crate) truncated: Arc<[Stamp]>,
    pub(crate) retained: Retained,
    pub(crate) wants: Wants,
    pub(crate) output: SchemaRef,
    columns: Vec<ScanColumn>,
    /// Stored columns that the output needs, each once.
    pub(crate) stored: Arc<[PageColumn]>,
    /// The same, and the time column where rows may be expired.
    pub(super) merged: Arc<[PageColumn]>,
}

impl ScanShape {
    pub(crate) fn new(
        schema: Arc<TableSchema>,
        columns: &[ScanColumn],
        resolution: Resolution,
        view: Stamp,
        truncated: Arc<[Stamp]>,
        retained: Retained,
    ) -> ScanShape {
        let mut stored = Vec::new();
        let mut wants = Wants::default();
        for column in columns {
            let needed = match column {
                ScanColumn::Column(i) => PageColumn::Column(*i),
                ScanColumn::System(SystemColumn::ValidFrom) => PageColumn::ValidFrom,
                ScanColumn::System(SystemColumn::ValidTo) => PageColumn::ValidTo,
                ScanColumn::System(SystemColumn::Key) => PageColumn::Key,
                ScanColumn::System(SystemColumn::SystemFrom) => PageColumn::Recorded,
                ScanColumn::System(SystemColumn::SystemTo) => {
                    wants.system_to = true;
                    continue;
                }
            };
            if !stored.contains(&needed) {
                stored.push(needed);
            }
        }
        let fields: Vec<_> = columns
            .iter()
            .map(|column| match column {
                ScanColumn::Column(i) => schema.columns[*i].arrow_field(),
                ScanColumn::System(column) => column.arrow_field(),
            })
            .collect();
        ScanShape {
            schema,
            resolution,
            valid: None,
            asks_for_valid_time: false,
            view,
            truncated,
            retained,
            wants,
            output: Arc::new(Schema::new(fields)),
            columns: columns.to_vec(),
            merged: with_time(&stored, retained).into(),
            stored: stored.into(),
        }
    }

    /// The same, of pieces that are true when a reader asks, if it matters: if versions have
    /// periods of their own, or for another time than the present.
    pub(crate) fn with_valid(
        mut self,
        asked: ValidFilter,
        has_periods: bool,
        now_micros: i64,
    ) -> ScanShape {
        self.asks_for_valid_time = match asked {
            ValidFilter::Now => false,
            // Versions that are true until changed are written one over the other.
            ValidFilter::Written => has_periods,
            _ => true,
        };
        if has_periods || self.asks_for_valid_time {
            self.valid = Some(asked.at(now_micros));
        }
        self
    }

    /// A record batch of stored columns, which are as in `self.stored`. `system_to`
    /// empty: all versions are current.
    pub(crate) fn batch(
        &self,
        stored: &[ArrayRef],
        system_to: &[u64],
        rows: usize,
    ) -> Result<RecordBatch, StoreError> {
        let column = |column: &ScanColumn| match column {
            ScanColumn::System(SystemColumn::SystemTo) => Ok(ends(system_to, rows)),
            other => self.stored_column(*other, stored),
        };
        self.assemble(column, rows)
    }

    /// A column of the output as it is stored, from columns that are as in `self.stored`.
    fn stored_column(
        &self,
        column: ScanColumn,
        stored: &[ArrayRef],
    ) -> Result<ArrayRef, StoreError> {
        let find = |wanted: PageColumn| {
            let found = self.stored.iter().position(|c| *c == wanted);
            found
                .and_then(|i| stored.get(i))
                .cloned()
                .ok_or_else(|| StoreError::Columns(format!("{wanted:?} was not read")))
        };
        Ok(match column {
            ScanColumn::Column(i) => find(PageColumn::Column(i))?,
            ScanColumn::System(SystemColumn::Key) => find(PageColumn::Key)?,
            ScanColumn::System(SystemColumn::SystemFrom) => {
                let recorded = find(PageColumn::Recorded)?;
                stamps(recorded.as_primitive::<UInt64Type>().values())
            }
            ScanColumn::System(SystemColumn::ValidFrom) => {
                let from = find(PageColumn::ValidFrom)?;
                moments(from.as_primitive::<Int64Type>().values().iter().copied())
            }
            ScanColumn::System(SystemColumn::ValidTo) => {
                let to = find(PageColumn::ValidTo)?;
                moments(to.as_primitive::<Int64Type>().values().iter().copied())
            }
            ScanColumn::System(SystemColumn::SystemTo) => {
                return Err(StoreError::Columns("ends are not stored".into()));
            }
        })
    }

    fn assemble(
        &self,
        column: impl Fn(&ScanColumn) -> Result<ArrayRef, StoreError>,
        rows: usize,
    ) -> Result<RecordBatch, StoreError> {
        let columns = self
            .columns
            .iter()
            .map(column)
            .collect::<Result<Vec<ArrayRef>, StoreError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            self.output.clone(),
            columns,
            &options,
        )?)
    }
}

impl ScanShape {
    /// What is read of versions each of which is seen by its own stamp, kind and time.
    pub(super) fn judged(&self) -> Vec<PageColumn> {
        let own = [PageColumn::Recorded, PageColumn::Kind];
        own.into_iter().chain(self.merged.iter().copied()).collect()
    }

    /// Of versions that are the only ones of their keys those that are seen; the
    /// columns are as `judged` says. `None`: none is seen.
    pub(super) fn filtered(&self, columns: &[ArrayRef]) -> Result<Option<RecordBatch>, StoreError> {
        let [recorded, kinds, stored @ ..] = columns else {
            return Err(StoreError::Columns("stamps and kinds were not read".into()));
        };
        let recorded = recorded.as_primitive::<UInt64Type>().values();
        let kinds = kinds.as_primitive::<UInt8Type>().values();
        let horizon = self.resolution.horizon(&self.truncated);
        let horizon = horizon.max(self.retained.floor);
        let unexpired = self.unexpired(stored)?;
        let cut_met = |at: usize| {
            let ended = ended_by(&self.truncated, Stamp(recorded[at]));
            kinds[at] == CUT && cut_is_met(self.resolution, ended)
        };
        if let Some(at) = (0..kinds.len()).find(|at| cut_met(*at)) {
            let ended = ended_by(&self.truncated, Stamp(recorded[at]));
            return Err(self.resolution.before_horizon(&self.schema, ended));
        }
        let mut system_to = Vec::new();
        let seen = recorded
            .iter()
            .zip(kinds)
            .enumerate()
            .map(|(i, (recorded, kind))| {
                if unexpired.as_ref().is_some_and(|there| !there.value(i)) && *kind == 0 {
                    return false;
                }
                let end = end_of_only_version(
                    self.resolution,
                    self.view,
                    &self.truncated,
                    horizon,
                    Stamp(*recorded),
                    *kind != 0,
                );
                system_to.extend(end.map(|end| end.0));
                end.is_some()
            });
        let seen = BooleanArray::new(seen.collect(), None);
        if system_to.is_empty() {
            return Ok(None);
        }
        let stored = stored[..self.stored.len()]
            .iter()
            .map(|column| arrow_select::filter::filter(column, &seen))
            .collect::<Result<Vec<_>, _>>()?;
        self.batch(&stored, &system_to, system_to.len()).map(Some)
    }
}

impl ScanShape {
    /// Which rows are not expired, where that is a matter of each; columns are as in
    /// `self.merged`.
    fn unexpired(&self, columns: &[ArrayRef]) -> Result<Option<BooleanBuffer>, StoreError> {
        let Some(floor) = self.retained.time else {
            return Ok(None);
        };
        let time = PageColumn::Column(floor.column);
        let at = self.merged.iter().position(|c| *c == time);
        let column = at.and_then(|at| columns.get(at));
        let column =
            column.ok_or_else(|| StoreError::Columns("the time column was not read".into()))?;
        let times = times(column)?.values();
        Ok(Some(times.iter().map(|t| *t >= floor.micros).collect()))
    }

    /// A record batch of merged pieces that are not expired; `None`: all are.
    fn batch_of_pieces(
        &self,
        merged: Merged,
        unexpired: Option<BooleanBuffer>,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let (mut columns, mut pieces) = (merged.columns, merged.pieces);
        if let Some(unexpired) = unexpired {
            let mut there = unexpired.iter();
            pieces.retain(|_| there.next().unwrap_or(false));
            let unexpired = BooleanArray::new(unexpired, None);
            for column in &mut columns {
                *column = arrow_select::filter::filter(column, &unexpired)?;
            }
        }
        match pieces.is_empty() {
            true => Ok(None),
            false => self.pieces(&columns, &pieces).map(Some),
        }
    }

    /// A record batch of pieces; of each the stored columns are as in `self.stored`.
    pub(crate) fn pieces(
        &self,
        stored: &[ArrayRef],
        pieces: &[Piece],
    ) -> Result<RecordBatch, StoreError> {
        let column = |column: &ScanColumn| {
            let each = pieces.iter();
            Ok(match column {
                ScanColumn::System(SystemColumn::SystemFrom) => {
                    let from: Vec<u64> = each.map(|p| p.system_from.0).collect();
                    stamps(&from)
                }
                ScanColumn::System(SystemColumn::SystemTo) => {
                    let to: Vec<u64> = each.map(|p| p.system_to.0).collect();
                    ends(&to, to.len())
                }
                ScanColumn::System(SystemColumn::ValidFrom) => moments(each.map(|p| p.valid.from)),
                ScanColumn::System(SystemColumn::ValidTo) => moments(each.map(|p| p.valid.to)),
                other => self.stored_column(*other, stored)?,
            })
        };
        self.assemble(column, pieces.len())
    }

    /// A record batch of merged versions that are not expired; `None`: all are.
    pub(super) fn merged_batch(
        &self,
        mut merged: Merged,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let unexpired = self.unexpired(&merged.columns)?;
        merged.columns.truncate(self.stored.len());
        if self.valid.is_some() {
            return self.batch_of_pieces(merged, unexpired);
        }
        let all = |there: &BooleanBuffer| there.count_set_bits() == there.len();
        let Some(unexpired) = unexpired.filter(|there| !all(there)) else {
            let batch = self.batch(&merged.columns, &merged.system_to, merged.rows)?;
            return Ok(Some(batch));
        };
        let rows = unexpired.count_set_bits();
        if rows == 0 {
            return Ok(None);
        }
        let ends = merged.system_to.iter().zip(&unexpired);
        let ends: Vec<u64> = ends.filter(|(_, there)| *there).map(|(e, _)| *e).collect();
        let unexpired = BooleanArray::new(unexpired, None);
        let columns = merged.columns.iter();
        let columns = columns
            .map(|column| arrow_select::filter::filter(column, &unexpired))
            .collect::<Result<Vec<_>, _>>()?;
        self.batch(&columns, &ends, rows).map(Some)
    }
}

fn with_time(stored: &[PageColumn], retained: Retained) -> Vec<PageColumn> {
    let time = retained.time.map(|floor| PageColumn::Column(floor.column));
    let time = time.filter(|time| !stored.contains(time));
    stored.iter().copied().chain(time).collect()
}

fn stamps(recorded: &[u64]) -> ArrayRef {
    let micros = recorded.iter().map(|r| Stamp(*r).micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

/// Ends of periods of valid time; without an end, or a beginning: NULL.
fn moments(micros: impl Iterator<Item = i64>) -> ArrayRef {
    let bounded = |m: &i64| *m != Period::UNTIL_CHANGED && *m != Period::BEGINNING;
    let micros = micros.map(|m| Some(m).filter(bounded));
    Arc::new(
        micros
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC"),
    )
}

fn ends(system_to: &[u64], rows: usize) -> ArrayRef {
    if system_to.is_empty() {
        return Arc::new(TimestampMicrosecondArray::new_null(rows).with_timezone("UTC"));
    }
    let micros = system_to
        .iter()
        .map(|t| (*t != u64::MAX).then(|| Stamp(*t).micros()));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}
