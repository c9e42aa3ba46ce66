//! What a planned scan knows of its pages before it reads them, and scans that go
//! without some of them: those whose statistics say all that was asked.
//!
//! ```text
//!   planned partitions --visit pages that pass--> caller: read this one, leave that one
//!         \-- what is to be read, shared out anew --> partitions
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use super::partition::PageFilter;
use super::plan::{Item, Passing};
use super::shape::ScanShape;
use super::share::share_out;
use super::ScanPartition;
use crate::merge::Source;
use crate::segment::PageMeta;

/// A page of a segment that passes through a scan without a merge.
#[derive(Clone, Copy, Debug)]
pub struct PassingPage<'a> {
    /// What is known of it.
    pub meta: &'a PageMeta,
    /// Whether the scan returns exactly the rows that its statistics are about. If not,
    /// it returns some of them and no others.
    pub is_exact: bool,
}

/// What becomes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageUse {
    /// The scan reads it.
    Read,
    /// The scan goes without it.
    Leave,
}

/// Whether the statistics of a page are those of the rows that a scan returns of it.
///
/// The one place for conditions on that: what hides a row of a page from a reader, other
/// than a newer version (which the plan has excluded for pages that pass), belongs here.
fn summary_is_exact(page: &PageMeta, passing: Passing, _shape: &ScanShape) -> bool {
    passing == Passing::Whole && !page.has_deletes
}

impl ScanPartition {
    /// The same scan without the pages that `visit` says to leave, but for those that must be
    /// read to be refused ("cuts" of history); what is to be read is
    /// shared out anew, to at most as many partitions and at least one.
    pub fn without_pages(
        partitions: Vec<ScanPartition>,
        mut visit: impl FnMut(PassingPage<'_>) -> PageUse,
    ) -> Vec<ScanPartition> {
        let Some(like) = partitions.first().map(ScanPartition::fresh) else {
            return partitions;
        };
        let count = partitions.len();
        let mut kept = Vec::new();
        for item in partitions.into_iter().flat_map(|p| p.items) {
            visit_pages(item, &like.shape, &like.sources, &mut visit, &mut kept);
        }
        share_out(kept, count)
            .into_iter()
            .map(|items| like.with_items(items.into()))
            .collect()
    }

    /// The same partition, which asks `leave` of each page that passes right before it is
    /// read whether it can be left out.
    pub fn leaving_out(
        mut self,
        leave: impl Fn(&PageMeta) -> bool + Send + Sync + 'static,
    ) -> ScanPartition {
        self.leave = Some(PageFilter(Arc::new(leave)));
        self
    }

    /// Calls `visit` with every page that passes, in the order of the scan, as long as it
    /// returns true. False: other rows are read as well, or a visit returned false.
    pub fn every_page(&self, mut visit: impl FnMut(PassingPage<'_>) -> bool) -> bool {
        self.items.iter().all(|item| match item {
            Item::Pass {
                source,
                part,
                passing,
                ..
            } => match &self.sources[*source] {
                Source::Segment(segment) => segment.pages()[part.clone()].iter().all(|meta| {
                    let is_exact = summary_is_exact(meta, *passing, &self.shape);
                    visit(PassingPage { meta, is_exact })
                }),
                _ => false,
            },
            Item::Merge { .. } => false,
        })
    }

    /// Whether it certainly returns nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.merging.is_none()
    }

    /// About how many rows it returns, at most.
    pub fn rows_max(&self) -> u64 {
        let rows: u64 = self.items.iter().map(|item| item.rows() as u64).sum();
        self.limit.map_or(rows, |limit| rows.min(limit as u64))
    }
}

/// Adds to `kept` what is to be read of an item.
fn visit_pages(
    item: Item,
    shape: &Arc<ScanShape>,
    sources: &Arc<[Source]>,
    visit: &mut impl FnMut(PassingPage<'_>) -> PageUse,
    kept: &mut Vec<Item>,
) {
    let Item::Pass {
        source,
        part,
        passing,
        ..
    } = &item
    else {
        return kept.push(item);
    };
    let Source::Segment(segment) = &sources[*source] else {
        return kept.push(item);
    };
    let mut stretches: VecDeque<(std::ops::Range<usize>, usize)> = VecDeque::new();
    for number in part.clone() {
        let meta = &segment.pages()[number];
        let is_exact = summary_is_exact(meta, *passing, shape);
        let left = visit(PassingPage { meta, is_exact }) == PageUse::Leave;
        if left && !meta.has_cuts() {
            continue;
        }
        match stretches.back_mut() {
            Some((pages, rows)) if pages.end == number => {
                pages.end += 1;
                *rows += meta.rows as usize;
            }
            _ => stretches.push_back((number..number + 1, meta.rows as usize)),
        }
    }
    kept.extend(stretches.into_iter().map(|(part, rows)| Item::Pass {
        source: *source,
        part,
        rows,
        passing: *passing,
    }));
}
