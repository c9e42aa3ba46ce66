//! One thread's share of a scan: turns planned stretches into record batches.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;

use super::part::Ends;
use super::plan::{Item, Order, Passing, Portion};
use super::shape::ScanShape;
use super::share::{split, split_last};
use super::{KeyRange, ScanRequest};
use crate::error::StoreError;
use crate::merge::{Input, MergeRequest, Merger, Source};
use crate::segment::PageMeta;

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
