//! One thread's share of a scan: turns planned stretches into record batches.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type, UInt8Type};
use arrow_array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{Period, Stamp, SystemColumn, TableSchema};

use super::part::Ends;
use super::plan::{Item, Order, Passing, Portion};
use super::share::{split, split_last};
use super::{KeyRange, ScanColumn, ScanRequest, ValidFilter};
use crate::error::StoreError;
use crate::merge::{
    cut_is_met, end_of_only_version, ended_by, Input, MergeRequest, Merged, Merger, Piece,
    Resolution, Source, Wants,
};
use crate::retention::{times, Retained, CUT};
use crate::segment::{PageColumn, PageMeta};

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
    merged: Arc<[PageColumn]>,
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
    fn judged(&self) -> Vec<PageColumn> {
        let own = [PageColumn::Recorded, PageColumn::Kind];
        own.into_iter().chain(self.merged.iter().copied()).collect()
    }

    /// Of versions that are the only ones of their keys those that are seen; the
    /// columns are as `judged` says. `None`: none is seen.
    fn filtered(&self, columns: &[ArrayRef]) -> Result<Option<RecordBatch>, StoreError> {
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
    fn merged_batch(&self, mut merged: Merged) -> Result<Option<RecordBatch>, StoreError> {
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

/// Says of pages that pass whether they can be left out after all, right before they are
/// read.
#[derive(Clone)]
pub(super) struct PageFilter(pub(super) Arc<dyn Fn(&PageMeta) -> bool + Send + Sync>);

impl std::fmt::Debug for PageFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageFilter")
    }
}

/// How far a partition has come, in pages that pass; those that are merged do not count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PageCounts {
    /// Read.
    pub read: u64,
    /// Left out at the last moment.
    pub left_out: u64,
}

/// A share of a scan: an iterator of record batches in key order.
#[derive(Debug)]
pub struct ScanPartition {
    pub(super) shape: Arc<ScanShape>,
    pub(super) sources: Arc<[Source]>,
    pub(super) items: VecDeque<Item>,
    pub(super) merging: Option<Merger>,
    /// Of a stretch that was merged and is given backwards: the last batch is next.
    reversed: Vec<RecordBatch>,
    pub(super) limit: Option<usize>,
    pub(super) leave: Option<PageFilter>,
    /// The ends of the scan's range, if pages pass of which only a part is in it.
    ends: Option<Arc<Ends>>,
    is_descending: bool,
    batch_rows: usize,
    first_rows: usize,
    /// Rows of the next batch, about.
    next_rows: usize,
    /// Rows still wanted.
    left: usize,
    counts: PageCounts,
}

impl ScanPartition {
    pub(super) fn new(
        shape: Arc<ScanShape>,
        sources: Arc<[Source]>,
        items: Vec<Item>,
        request: &ScanRequest,
        order: Order,
    ) -> ScanPartition {
        let batch_rows = request.batch_rows.max(1);
        let first_rows = request
            .first_rows
            .unwrap_or(batch_rows)
            .clamp(1, batch_rows);
        ScanPartition {
            shape,
            sources,
            items: items.into(),
            merging: None,
            reversed: Vec::new(),
            limit: request.limit,
            leave: None,
            ends: None,
            is_descending: order == Order::ByKeyDescending,
            batch_rows,
            first_rows,
            next_rows: first_rows,
            left: request.limit.unwrap_or(usize::MAX),
            counts: PageCounts::default(),
        }
    }

    /// The same partition of a scan that ends where these ends are.
    pub(super) fn between(self, ends: Option<Arc<Ends>>) -> ScanPartition {
        ScanPartition { ends, ..self }
    }

    /// The same rows, from the first one on.
    pub fn fresh(&self) -> ScanPartition {
        self.with_items(self.items.clone())
    }

    /// A partition of other stretches, in all else like this one.
    pub(super) fn with_items(&self, items: VecDeque<Item>) -> ScanPartition {
        ScanPartition {
            shape: self.shape.clone(),
            sources: self.sources.clone(),
            items,
            merging: None,
            reversed: Vec::new(),
            limit: self.limit,
            leave: self.leave.clone(),
            ends: self.ends.clone(),
            is_descending: self.is_descending,
            batch_rows: self.batch_rows,
            first_rows: self.first_rows,
            next_rows: self.first_rows,
            left: self.limit.unwrap_or(usize::MAX),
            counts: PageCounts::default(),
        }
    }

    /// The schema of its batches.
    pub fn schema(&self) -> SchemaRef {
        self.shape.output.clone()
    }

    /// How far it has come.
    pub fn page_counts(&self) -> PageCounts {
        self.counts
    }

    /// How many rows it returns; `None`: that is only known by merging, or there is a
    /// limit.
    pub fn exact_rows(&self) -> Option<u64> {
        if self.limit.is_some() {
            return None;
        }
        let mut sum = 0;
        for item in &self.items {
            match item {
                Item::Pass {
                    rows,
                    passing: Passing::Whole,
                    ..
                } => sum += *rows as u64,
                Item::Pass { .. } | Item::Merge { .. } => return None,
            }
        }
        Some(sum)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        while self.left > 0 {
            if let Some(batch) = self.reversed.pop() {
                return Ok(Some(self.limited(backwards(&batch)?)));
            }
            if let Some(merger) = &mut self.merging {
                match merger.next_batch()? {
                    Some(merged) => match self.shape.merged_batch(merged)? {
                        Some(batch) => return Ok(Some(self.limited(batch))),
                        None => continue,
                    },
                    None => self.merging = None,
                }
            }
            match self.next_item() {
                None => return Ok(None),
                Some(Item::Pass {
                    source,
                    part,
                    rows,
                    passing,
                }) => {
                    if let Some(batch) = self.pass(source, part, rows, passing)? {
                        return Ok(Some(batch));
                    }
                }
                Some(Item::Merge { sources, range, .. }) => self.merge(&sources, &range)?,
            }
        }
        Ok(None)
    }

    /// The next stretch. Of a long merge only a part, as long as few rows may be enough:
    /// opening it reads a page of every source in its range.
    fn next_item(&mut self) -> Option<Item> {
        if self.is_descending {
            let (before, last) = split_last(self.items.pop_back()?, self.next_rows);
            self.items.extend(before);
            return Some(last);
        }
        let item = self.items.pop_front()?;
        if self.next_rows == self.batch_rows || matches!(item, Item::Pass { .. }) {
            return Some(item);
        }
        let (first, after) = split(item, self.next_rows);
        if let Some(after) = after {
            self.items.push_front(after);
        }
        Some(first)
    }

    /// Opens a merge; one that is given backwards is made at once.
    fn merge(&mut self, portions: &[Portion], range: &KeyRange) -> Result<(), StoreError> {
        // A merge keeps the size of its batches, so it does not begin with few rows.
        let rows = self.next_rows.max(MERGED_ROWS_MIN).min(self.batch_rows);
        let request = MergeRequest {
            schema: self.shape.schema.clone(),
            columns: self.shape.merged.clone(),
            resolution: self.shape.resolution,
            valid: self.shape.valid,
            view: self.shape.view,
            truncated: self.shape.truncated.clone(),
            floor: self.shape.retained.floor,
            wants: self.shape.wants,
            batch_rows: match self.is_descending {
                true => self.batch_rows,
                false => rows.min(self.left),
            },
        };
        self.next_rows = self.next_rows.saturating_mul(2).min(self.batch_rows);
        let inputs = portions.iter().map(|portion| {
            let source = self.sources[portion.source].clone();
            Input::new(source, portion.parts.clone())
        });
        let mut merger = Merger::open(Arc::new(request), inputs, range)?;
        if !self.is_descending {
            self.merging = Some(merger);
            return Ok(());
        }
        while let Some(merged) = merger.next_batch()? {
            self.reversed.extend(self.shape.merged_batch(merged)?);
        }
        Ok(())
    }

    /// The first batch of a stretch that passes; the rest goes back to where it was.
    fn pass(
        &mut self,
        source: usize,
        part: Range<usize>,
        rows: usize,
        passing: Passing,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let taken = self.next_of(&self.sources[source], part)?;
        self.counts.left_out += taken.left_out;
        if !taken.rest.is_empty() {
            let item = Item::Pass {
                source,
                part: taken.rest,
                rows: rows.saturating_sub(taken.passed_rows),
                passing,
            };
            match self.is_descending {
                true => self.items.push_back(item),
                false => self.items.push_front(item),
            }
        }
        if taken.part.is_empty() {
            return Ok(None);
        }
        self.next_rows = self.next_rows.saturating_mul(2).min(self.batch_rows);
        if let Source::Segment(_) = &self.sources[source] {
            self.counts.read += taken.part.len() as u64;
        }
        let batch = match (passing, &self.sources[source], &self.ends) {
            (Passing::Part, Source::Segment(segment), Some(ends)) => {
                ends.read(&self.shape, segment, taken.part.start)?
            }
            _ => self.read_whole(source, taken.part, taken.rows, passing)?,
        };
        let Some(batch) = batch else { return Ok(None) };
        let batch = match self.is_descending {
            true => backwards(&batch)?,
            false => batch,
        };
        Ok(Some(self.limited(batch)))
    }

    /// Reads a stretch of which the whole is in the scan's range.
    fn read_whole(
        &self,
        source: usize,
        part: Range<usize>,
        rows: usize,
        passing: Passing,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let filtered;
        let stored = match passing {
            Passing::Whole => &self.shape.stored,
            Passing::Filtered | Passing::Part | Passing::No => {
                filtered = self.shape.judged().into();
                &filtered
            }
        };
        let columns = match &self.sources[source] {
            Source::Run(run) => run.read(part.start, rows, stored),
            Source::Segment(_) if stored.is_empty() => Vec::new(),
            Source::Segment(segment) => segment.read_columns(part, stored)?,
            Source::Rows(_) => {
                return Err(StoreError::Columns("single rows cannot pass".into()));
            }
        };
        match passing {
            Passing::Whole => self.shape.batch(&columns, &[], rows).map(Some),
            Passing::Filtered | Passing::Part | Passing::No => self.shape.filtered(&columns),
        }
    }

    /// Decides what of a stretch is read next.
    fn next_of(&self, source: &Source, part: Range<usize>) -> Result<Taken, StoreError> {
        let wanted = self.next_rows.min(self.left).max(1);
        match source {
            Source::Rows(_) => Err(StoreError::Columns("single rows cannot pass".into())),
            Source::Run(_) => {
                let rows = wanted.min(part.len());
                let (part, rest) = match self.is_descending {
                    true => (part.end - rows..part.end, part.start..part.end - rows),
                    false => (part.start..part.start + rows, part.start + rows..part.end),
                };
                Ok(Taken {
                    part,
                    rest,
                    rows,
                    passed_rows: rows,
                    left_out: 0,
                })
            }
            Source::Segment(segment) => Ok(self.take_pages(segment.pages(), part, wanted)),
        }
    }

    /// Pages to be read next: without those at the near end that can be left out, and not
    /// many more rows than are wanted.
    fn take_pages(&self, pages: &[PageMeta], part: Range<usize>, wanted: usize) -> Taken {
        let nth = |n: usize| match self.is_descending {
            true => part.end - 1 - n,
            false => part.start + n,
        };
        let is_left_out = |n: usize| {
            let leave = self.leave.as_ref();
            let page = &pages[nth(n)];
            !page.has_cuts() && leave.is_some_and(|leave| (leave.0)(page))
        };
        let rows_of = |n: usize| pages[nth(n)].rows as usize;
        let mut begin = 0;
        while begin < part.len() && is_left_out(begin) {
            begin += 1;
        }
        let (mut end, mut rows) = (begin, 0);
        while end < part.len() {
            let is_next = end == begin || (rows + rows_of(end) <= wanted && !is_left_out(end));
            if !is_next {
                break;
            }
            rows += rows_of(end);
            end += 1;
        }
        let (taken, rest) = match self.is_descending {
            true => (part.end - end..part.end - begin, part.start..part.end - end),
            false => (
                part.start + begin..part.start + end,
                part.start + end..part.end,
            ),
        };
        Taken {
            part: taken,
            rest,
            rows,
            passed_rows: (0..end).map(rows_of).sum(),
            left_out: begin as u64,
        }
    }

    fn limited(&mut self, batch: RecordBatch) -> RecordBatch {
        let rows = batch.num_rows().min(self.left);
        self.left -= rows;
        if rows == batch.num_rows() {
            batch
        } else {
            batch.slice(0, rows)
        }
    }
}

/// A merge does not begin with fewer rows.
const MERGED_ROWS_MIN: usize = 1024;

/// What is read next of a stretch that passes.
struct Taken {
    part: Range<usize>,
    rest: Range<usize>,
    /// Rows of `part`.
    rows: usize,
    /// Rows of the stretch that are not in `rest`.
    passed_rows: usize,
    left_out: u64,
}

/// The rows of a batch from the last one to the first.
fn backwards(batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
    if batch.num_columns() == 0 {
        return Ok(batch.clone());
    }
    let rows = UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
    Ok(arrow_select::take::take_record_batch(batch, &rows)?)
}

impl Iterator for ScanPartition {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch().transpose();
        if matches!(next, Some(Err(_))) {
            // Nothing follows an error.
            self.items.clear();
            self.merging = None;
            self.reversed.clear();
            self.left = 0;
        }
        next
    }
}
