//! One thread's share of a scan: turns planned stretches into record batches.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type, UInt8Type};
use arrow_array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{Stamp, SystemColumn, TableSchema};

use super::plan::{Item, Passing};
use super::{ScanColumn, ScanRequest};
use crate::error::StoreError;
use crate::merge::{
    end_of_only_version, horizon, MergeRequest, Merged, Merger, Resolution, Source, Wants,
};
use crate::segment::PageColumn;
use crate::version::UNTIL_CHANGED;

/// How a scan's output is made of stored columns.
#[derive(Debug)]
pub(crate) struct ScanShape {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) resolution: Resolution,
    pub(crate) view: Stamp,
    pub(crate) truncated: Arc<[Stamp]>,
    pub(crate) wants: Wants,
    output: SchemaRef,
    columns: Vec<ScanColumn>,
    /// Stored columns that the output needs, each once.
    stored: Arc<[PageColumn]>,
}

impl ScanShape {
    pub(crate) fn new(
        schema: Arc<TableSchema>,
        columns: &[ScanColumn],
        resolution: Resolution,
        view: Stamp,
        truncated: Arc<[Stamp]>,
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
            view,
            truncated,
            wants,
            output: Arc::new(Schema::new(fields)),
            columns: columns.to_vec(),
            stored: stored.into(),
        }
    }

    /// A record batch of stored columns, which are as in `self.stored`. `system_to`
    /// empty: all versions are current.
    fn batch(
        &self,
        stored: &[ArrayRef],
        system_to: &[u64],
        rows: usize,
    ) -> Result<RecordBatch, StoreError> {
        let find = |wanted: PageColumn| {
            let found = self.stored.iter().position(|c| *c == wanted);
            found
                .and_then(|i| stored.get(i))
                .cloned()
                .ok_or_else(|| StoreError::Columns(format!("{wanted:?} was not read")))
        };
        let column = |column: &ScanColumn| {
            Ok(match column {
                ScanColumn::Column(i) => find(PageColumn::Column(*i))?,
                ScanColumn::System(SystemColumn::Key) => find(PageColumn::Key)?,
                ScanColumn::System(SystemColumn::SystemFrom) => {
                    let recorded = find(PageColumn::Recorded)?;
                    stamps(recorded.as_primitive::<UInt64Type>().values())
                }
                ScanColumn::System(SystemColumn::SystemTo) => ends(system_to, rows),
                ScanColumn::System(SystemColumn::ValidFrom) => {
                    let from = find(PageColumn::ValidFrom)?;
                    let from = from.as_primitive::<Int64Type>().values().clone();
                    Arc::new(TimestampMicrosecondArray::new(from, None).with_timezone("UTC"))
                }
                ScanColumn::System(SystemColumn::ValidTo) => {
                    let to = find(PageColumn::ValidTo)?;
                    let to = to.as_primitive::<Int64Type>().values().clone();
                    let known: NullBuffer = to.iter().map(|t| *t != UNTIL_CHANGED).collect();
                    let to = TimestampMicrosecondArray::new(to, Some(known));
                    Arc::new(to.with_timezone("UTC"))
                }
            })
        };
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
    /// Of versions that are the only ones of their keys those that are seen; the
    /// columns are stamps, kinds and then what is stored. `None`: none is seen.
    fn filtered(&self, columns: &[ArrayRef]) -> Result<Option<RecordBatch>, StoreError> {
        let [recorded, kinds, stored @ ..] = columns else {
            return Err(StoreError::Columns("stamps and kinds were not read".into()));
        };
        let recorded = recorded.as_primitive::<UInt64Type>().values();
        let kinds = kinds.as_primitive::<UInt8Type>().values();
        let horizon = match self.resolution {
            Resolution::Snapshot { at } => horizon(&self.truncated, at),
            _ => Stamp::MIN,
        };
        let mut system_to = Vec::new();
        let seen = recorded.iter().zip(kinds).map(|(recorded, kind)| {
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
        let stored = stored
            .iter()
            .map(|column| arrow_select::filter::filter(column, &seen))
            .collect::<Result<Vec<_>, _>>()?;
        self.batch(&stored, &system_to, system_to.len()).map(Some)
    }
}

fn stamps(recorded: &[u64]) -> ArrayRef {
    let micros = recorded.iter().map(|r| Stamp(*r).micros());
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
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

/// A share of a scan: an iterator of record batches in key order.
#[derive(Debug)]
pub struct ScanPartition {
    pub(super) shape: Arc<ScanShape>,
    pub(super) sources: Arc<[Source]>,
    pub(super) items: VecDeque<Item>,
    pub(super) merging: Option<Merger>,
    pub(super) batch_rows: usize,
    pub(super) limit: Option<usize>,
    /// Rows still wanted.
    left: usize,
}

impl ScanPartition {
    pub(super) fn new(
        shape: Arc<ScanShape>,
        sources: Arc<[Source]>,
        items: Vec<Item>,
        request: &ScanRequest,
    ) -> ScanPartition {
        ScanPartition {
            shape,
            sources,
            items: items.into(),
            merging: None,
            batch_rows: request.batch_rows.max(1),
            limit: request.limit,
            left: request.limit.unwrap_or(usize::MAX),
        }
    }

    /// The same rows, from the first one on.
    pub fn fresh(&self) -> ScanPartition {
        ScanPartition {
            shape: self.shape.clone(),
            sources: self.sources.clone(),
            items: self.items.clone(),
            merging: None,
            batch_rows: self.batch_rows,
            limit: self.limit,
            left: self.limit.unwrap_or(usize::MAX),
        }
    }

    /// The schema of its batches.
    pub fn schema(&self) -> SchemaRef {
        self.shape.output.clone()
    }

    /// Whether every stretch passes without a merge, and how many rows there are
    /// then; `None`: that is only known by merging.
    pub(crate) fn exact_rows(&self) -> Option<u64> {
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
            if let Some(merger) = &mut self.merging {
                match merger.next_batch()? {
                    Some(merged) => return self.merged(merged).map(Some),
                    None => self.merging = None,
                }
            }
            match self.items.pop_front() {
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
                Some(Item::Merge { sources, range, .. }) => {
                    let request = MergeRequest {
                        schema: self.shape.schema.clone(),
                        columns: self.shape.stored.clone(),
                        resolution: self.shape.resolution,
                        view: self.shape.view,
                        truncated: self.shape.truncated.clone(),
                        wants: self.shape.wants,
                        batch_rows: self.batch_rows.min(self.left),
                    };
                    let sources = sources.iter().map(|i| self.sources[*i].clone());
                    self.merging = Some(Merger::open(Arc::new(request), sources, &range)?);
                }
            }
        }
        Ok(None)
    }

    fn merged(&mut self, merged: Merged) -> Result<RecordBatch, StoreError> {
        let batch = self
            .shape
            .batch(&merged.columns, &merged.system_to, merged.rows)?;
        Ok(self.limited(batch))
    }

    /// The first batch of a stretch that passes; the rest goes back to the front.
    fn pass(
        &mut self,
        source: usize,
        part: std::ops::Range<usize>,
        rows: usize,
        passing: Passing,
    ) -> Result<Option<RecordBatch>, StoreError> {
        let wanted = self.batch_rows.min(self.left);
        let filtered;
        let stored = match passing {
            Passing::Whole => &self.shape.stored,
            Passing::Filtered | Passing::No => {
                let own = [PageColumn::Recorded, PageColumn::Kind];
                filtered = own
                    .into_iter()
                    .chain(self.shape.stored.iter().copied())
                    .collect();
                &filtered
            }
        };
        let (columns, end, taken) = match &self.sources[source] {
            Source::Run(run) => {
                let end = part.start.saturating_add(wanted).min(part.end);
                let taken = end - part.start;
                let columns = run.read(part.start, taken, stored);
                (columns, end, taken)
            }
            Source::Segment(segment) => {
                let pages = &segment.pages()[part.clone()];
                let (mut count, mut taken) = (0, 0);
                for page in pages {
                    let page_rows = page.rows as usize;
                    if count > 0 && taken + page_rows > wanted {
                        break;
                    }
                    count += 1;
                    taken += page_rows;
                }
                let end = part.start + count;
                let columns = if stored.is_empty() {
                    Vec::new()
                } else {
                    segment.read_columns(part.start..end, stored)?
                };
                (columns, end, taken)
            }
            Source::Rows(_) => {
                return Err(StoreError::Columns("single rows cannot pass".into()));
            }
        };
        if end < part.end {
            self.items.push_front(Item::Pass {
                source,
                part: end..part.end,
                rows: rows - taken,
                passing,
            });
        }
        let batch = match passing {
            Passing::Whole => Some(self.shape.batch(&columns, &[], taken)?),
            Passing::Filtered | Passing::No => self.shape.filtered(&columns)?,
        };
        Ok(batch.map(|batch| self.limited(batch)))
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

impl Iterator for ScanPartition {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch().transpose();
        if matches!(next, Some(Err(_))) {
            // Nothing follows an error.
            self.items.clear();
            self.merging = None;
            self.left = 0;
        }
        next
    }
}
