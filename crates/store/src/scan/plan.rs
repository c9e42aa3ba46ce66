//! Cuts a scan into stretches of keys: those that one page or run holds alone, with
//! every version seen as it stands, pass; the others are merged.
//!
//! A chunk is a page of a segment or a slice of a memtable run. Chunks sorted by their
//! first key form clusters of chunks whose key intervals meet; a cluster of one chunk,
//! into whose interval no single row of a memtable falls either, passes. Single rows
//! are not listed for this: a search for the next one after each cluster is enough,
//! and one search serves all clusters up to the row it found.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use chronos_model::{Stamp, TableSchema};

use super::apart::pass_apart;
use super::part::Ends;
use super::prune::{bounds_of_range, excludes, ColumnBounds};
use super::shape::ScanShape;
use super::share::share_out;
use super::{KeyRange, ScanPartition, ScanRequest};
use crate::memtable::{key_of, Memtable, Run};
use crate::merge::{is_hidden, Parts, Resolution, Source};
use crate::retention::page_times;
use crate::segment::{PageMeta, Segment};

/// Rows of a memtable run that are judged together.
const RUN_CHUNK_ROWS: usize = 8192;

/// A stretch of keys, in the order of the scan.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Pages of a segment, or rows of a run, of which nothing elsewhere hides a version.
    Pass {
        source: usize,
        part: Range<usize>,
        rows: usize,
        passing: Passing,
    },
    /// The versions of some sources in a range of keys.
    Merge {
        sources: Vec<Portion>,
        range: KeyRange,
        rows: usize,
        /// First keys of the chunks in it, where it may be split, with the rows
        /// before.
        splits: Vec<(Vec<u8>, usize)>,
    },
}

/// What a merge reads of a source.
#[derive(Clone, Debug)]
pub(super) struct Portion {
    pub(super) source: usize,
    /// `None`: all, of single rows.
    pub(super) parts: Option<Parts>,
}

impl Portion {
    fn single_rows(source: usize) -> Portion {
        Portion {
            source,
            parts: None,
        }
    }
}

impl Item {
    pub(super) fn rows(&self) -> usize {
        match self {
            Item::Pass { rows, .. } | Item::Merge { rows, .. } => *rows,
        }
    }
}

/// How the versions of a chunk may be returned if their keys are nowhere else.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Passing {
    /// Not without a merge: a key may occur twice in it.
    No,
    /// Each that is seen by its own stamp and kind.
    Filtered,
    /// As they stand, those that are in the scan's range of keys: of one page.
    Part,
    /// As they stand.
    Whole,
}

/// Whether a partition's rows come in key order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Yes.
    ByKey,
    /// Yes, from the last key to the first.
    ByKeyDescending,
    /// They may come in any order.
    Any,
}

pub(super) struct Chunk<'a> {
    pub(super) source: usize,
    /// Page numbers or row numbers.
    pub(super) part: Range<usize>,
    rows: usize,
    pub(super) min: &'a [u8],
    pub(super) max: &'a [u8],
    /// Every version was recorded from the first to the second.
    pub(super) recorded: (Stamp, Stamp),
    /// Every version is the first of its key.
    pub(super) are_first: bool,
    pub(super) passing: Passing,
    /// Certainly holds nothing the query wants, unless it hides something elsewhere.
    pub(super) unwanted: bool,
}

/// Cuts a scan into at most `request.partitions` partitions.
pub(crate) fn plan(
    sources: Vec<Source>,
    shape: ScanShape,
    request: &ScanRequest,
    order: Order,
) -> Vec<ScanPartition> {
    let ends = Ends::of(&shape.schema, &request.key_range).map(Arc::new);
    let items = items(&sources, &shape, request, order, ends.is_some());
    let shape = Arc::new(shape);
    let sources: Arc<[Source]> = sources.into();
    share_out(items, request.partitions.max(1))
        .into_iter()
        .map(|items| {
            let partition =
                ScanPartition::new(shape.clone(), sources.clone(), items, request, order);
            partition.between(ends.clone())
        })
        .collect()
}

fn items(
    sources: &[Source],
    shape: &ScanShape,
    request: &ScanRequest,
    order: Order,
    parts_pass: bool,
) -> Vec<Item> {
    let range = &request.key_range;
    if range.is_empty() {
        return Vec::new();
    }
    let mut chunks = chunks(sources, shape, request, parts_pass);
    chunks.sort_by(|a, b| a.min.cmp(b.min));
    let mut singles = Singles::new(sources);
    let mut items = Vec::new();
    let mut lower = range.lower.clone();
    let mut chunks = chunks.into_iter().peekable();
    while let Some(first) = chunks.next() {
        let (min, mut max) = (first.min, first.max);
        let mut cluster = vec![first];
        while let Some(next) = chunks.next_if(|next| next.min <= max) {
            max = max.max(next.max);
            cluster.push(next);
        }
        let gap = KeyRange {
            lower: std::mem::replace(&mut lower, Bound::Excluded(max.to_vec())),
            upper: Bound::Excluded(min.to_vec()),
        };
        singles.add_gap(gap, &mut items);
        let within = KeyRange {
            lower: tighter_lower(&range.lower, min),
            upper: tighter_upper(&range.upper, max),
        };
        let single_rows = singles.within(&within);
        match cluster.as_slice() {
            [only] if single_rows.is_empty() && only.unwanted => {}
            [only] if single_rows.is_empty() && only.passing != Passing::No => {
                pass(only, &mut items);
            }
            _ => {
                if order == Order::Any {
                    cluster = pass_apart(cluster, sources, &single_rows, &mut items);
                }
                if !cluster.is_empty() || !single_rows.is_empty() {
                    items.push(merge(cluster, single_rows, within));
                }
            }
        }
    }
    let gap = KeyRange {
        lower,
        upper: range.upper.clone(),
    };
    singles.add_gap(gap, &mut items);
    items
}

fn tighter_lower(bound: &Bound<Vec<u8>>, min: &[u8]) -> Bound<Vec<u8>> {
    match bound {
        Bound::Included(b) | Bound::Excluded(b) if b.as_slice() >= min => bound.clone(),
        _ => Bound::Included(min.to_vec()),
    }
}

fn tighter_upper(bound: &Bound<Vec<u8>>, max: &[u8]) -> Bound<Vec<u8>> {
    match bound {
        Bound::Included(b) | Bound::Excluded(b) if b.as_slice() <= max => bound.clone(),
        _ => Bound::Included(max.to_vec()),
    }
}

pub(super) fn pass(chunk: &Chunk<'_>, items: &mut Vec<Item>) {
    if let Some(Item::Pass {
        source,
        part,
        rows,
        passing,
    }) = items.last_mut()
    {
        let follows = *source == chunk.source && part.end == chunk.part.start;
        if follows && *passing == chunk.passing && *passing != Passing::Part {
            part.end = chunk.part.end;
            *rows += chunk.rows;
            return;
        }
    }
    items.push(Item::Pass {
        source: chunk.source,
        part: chunk.part.clone(),
        rows: chunk.rows,
        passing: chunk.passing,
    });
}

fn merge(cluster: Vec<Chunk<'_>>, single_rows: Vec<usize>, range: KeyRange) -> Item {
    let mut parts: BTreeMap<usize, Vec<Range<usize>>> = BTreeMap::new();
    let mut splits = Vec::new();
    let mut rows = 0;
    for chunk in cluster {
        if rows > 0 && range.contains(chunk.min) {
            splits.push((chunk.min.to_vec(), rows));
        }
        rows += chunk.rows;
        let parts = parts.entry(chunk.source).or_default();
        match parts.last_mut() {
            Some(last) if last.end == chunk.part.start => last.end = chunk.part.end,
            _ => parts.push(chunk.part),
        }
    }
    let parts = parts.into_iter().map(|(source, parts)| Portion {
        source,
        parts: Some(parts.into()),
    });
    let single_rows = single_rows.into_iter().map(Portion::single_rows);
    let sources = single_rows.chain(parts).collect();
    Item::Merge {
        sources,
        range,
        rows,
        splits,
    }
}

/// The chunks of all sources that may matter, in no order.
fn chunks<'a>(
    sources: &'a [Source],
    shape: &ScanShape,
    request: &ScanRequest,
    parts_pass: bool,
) -> Vec<Chunk<'a>> {
    let range = &request.key_range;
    let judge = Judge::new(shape, request);
    let mut chunks = Vec::new();
    for (source, from) in sources.iter().enumerate() {
        match from {
            Source::Rows(_) => {}
            Source::Segment(segment) => {
                let pages = segment.pages();
                let first = pages.partition_point(|p| !range.reaches_up_to(&p.max_key));
                let pages = pages.iter().enumerate().skip(first);
                for (number, page) in pages.take_while(|(_, p)| range.reaches_down_to(&p.min_key)) {
                    if judge.is_irrelevant(page) || judge.is_hidden(segment, number) {
                        continue;
                    }
                    let passing = match judge.page_needs_merge(page) {
                        true => Passing::No,
                        false => judge.page_passing(page),
                    };
                    let is_whole = range.contains(&page.min_key) && range.contains(&page.max_key);
                    chunks.push(Chunk {
                        source,
                        part: number..number + 1,
                        rows: page.rows as usize,
                        min: &page.min_key,
                        max: &page.max_key,
                        recorded: (page.min_recorded, page.max_recorded),
                        are_first: page.first_versions,
                        passing: match passing {
                            _ if is_whole => passing,
                            Passing::Whole if parts_pass && segment.derives_keys(number) => {
                                Passing::Part
                            }
                            _ => Passing::No,
                        },
                        unwanted: passing != Passing::No && judge.is_unwanted(page),
                    });
                }
            }
            Source::Run(run) => {
                let keys = run.keys();
                let rows = range.positions(keys.len(), |i| keys.get(i));
                if run.min_recorded > shape.view || rows.is_empty() {
                    continue;
                }
                let passing = match run.one_version_per_key {
                    false => Passing::No,
                    true if !judge.sees_the_present() => Passing::No,
                    true if judge.run_passes(run) => Passing::Whole,
                    true => Passing::Filtered,
                };
                for start in rows.clone().step_by(RUN_CHUNK_ROWS) {
                    let end = (start + RUN_CHUNK_ROWS).min(rows.end);
                    chunks.push(Chunk {
                        source,
                        part: start..end,
                        rows: end - start,
                        min: keys.get(start),
                        max: keys.get(end - 1),
                        recorded: (run.min_recorded, run.max_recorded),
                        are_first: run.are_first(),
                        passing,
                        unwanted: false,
                    });
                }
            }
        }
    }
    chunks
}

/// What the scan may do with a page, by what is known of it.
struct Judge<'a> {
    schema: &'a TableSchema,
    shape: &'a ScanShape,
    horizon: Stamp,
    /// Those of the query, and those that the range of keys says.
    bounds: Vec<ColumnBounds>,
}

impl<'a> Judge<'a> {
    fn new(shape: &'a ScanShape, request: &ScanRequest) -> Judge<'a> {
        let mut bounds = bounds_of_range(&shape.schema, &request.key_range);
        bounds.extend_from_slice(&request.column_bounds);
        let horizon = shape.resolution.horizon(&shape.truncated);
        Judge {
            schema: &shape.schema,
            shape,
            horizon: horizon.max(shape.retained.floor),
            bounds,
        }
    }

    /// Whether all versions recorded in this span are seen if none is superseded.
    fn stamps_pass(&self, min: Stamp, max: Stamp) -> bool {
        if max > self.shape.view || min < self.horizon {
            return false;
        }
        let untouched = self.shape.truncated.last().is_none_or(|t| *t <= min);
        match self.shape.resolution {
            Resolution::Snapshot { at } => max <= at && (untouched || !self.shape.wants.system_to),
            Resolution::History {
                to, inclusive_to, ..
            } => untouched && (max < to || (inclusive_to && max == to)),
            Resolution::Everything => true,
        }
    }

    fn run_passes(&self, run: &Run) -> bool {
        let retained = &self.shape.retained;
        let time = retained.time.map(|floor| floor.column);
        let at = time.and_then(|time| self.schema.primary_key.iter().position(|c| *c == time));
        let times = at.and_then(|at| run.ranges.of_key_column(at));
        self.stamps_pass(run.min_recorded, run.max_recorded) && retained.times_pass(times)
    }

    /// Whether what is true from now on is all that is asked for.
    fn sees_the_present(&self) -> bool {
        !self.shape.asks_for_valid_time
    }

    /// Whether the page cannot pass because of when its versions are true.
    fn page_needs_merge(&self, page: &PageMeta) -> bool {
        !self.sees_the_present() || (self.shape.valid.is_some() && !page.open_valid)
    }

    fn page_passing(&self, page: &PageMeta) -> Passing {
        let retained = &self.shape.retained;
        let times = retained.time.and_then(|f| page_times(page, f.column));
        let stamps_pass =
            self.stamps_pass(page.min_recorded, page.max_recorded) && retained.times_pass(times);
        match page.one_version_per_key {
            false => Passing::No,
            true if stamps_pass && !page.has_deletes => Passing::Whole,
            true => Passing::Filtered,
        }
    }

    /// Whether the page can be left out, whatever else there is: no version of it is
    /// seen, and none of it hides a version that is elsewhere.
    fn is_irrelevant(&self, page: &PageMeta) -> bool {
        let unseen = match self.shape.resolution {
            Resolution::Snapshot { at } => {
                page.max_recorded < self.horizon
                    || (page.min_recorded > at && !self.shape.wants.system_to)
            }
            _ => false,
        };
        // All versions of a key have the same values in the key's columns. A delete
        // has none.
        let other_key = |bound: &ColumnBounds| {
            self.schema.primary_key.contains(&bound.0) && excludes(self.schema, page, bound)
        };
        unseen
            || self.shape.retained.page_expired(page)
            || (!page.has_deletes && self.bounds.iter().any(other_key))
    }

    /// Whether a newer version hides all of the page.
    fn is_hidden(&self, segment: &Segment, page: usize) -> bool {
        match self.shape.resolution {
            // A newer version hides an older one only as far as its period goes.
            _ if self.shape.valid.is_some() => false,
            Resolution::Snapshot { at } if !self.shape.wants.system_to => {
                is_hidden(segment.pages(), page, at.min(self.shape.view))
            }
            _ => false,
        }
    }

    /// Whether no row of the page is within the query's bounds.
    fn is_unwanted(&self, page: &PageMeta) -> bool {
        let mut bounds = self.bounds.iter();
        !page.has_cuts() && bounds.any(|bound| excludes(self.schema, page, bound))
    }
}

/// Finds where single rows of memtables are, as the plan moves up through the keys.
struct Singles<'a> {
    memtables: Vec<(usize, &'a Memtable)>,
    /// Per memtable, the first key at or after where the last search began.
    next: Vec<Next>,
}

#[derive(Clone)]
enum Next {
    Unknown,
    Key(Vec<u8>),
    End,
}

impl<'a> Singles<'a> {
    fn new(sources: &'a [Source]) -> Singles<'a> {
        let memtables: Vec<_> = sources
            .iter()
            .enumerate()
            .filter_map(|(i, source)| match source {
                Source::Rows(memtable) => Some((i, memtable.as_ref())),
                _ => None,
            })
            .collect();
        Singles {
            next: vec![Next::Unknown; memtables.len()],
            memtables,
        }
    }

    /// The sources with single rows in a range that does not begin before any that
    /// was asked for.
    fn within(&mut self, range: &KeyRange) -> Vec<usize> {
        if range.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for ((source, memtable), next) in self.memtables.iter().zip(&mut self.next) {
            let stale = match next {
                Next::Unknown => true,
                Next::Key(key) => !range.reaches_up_to(key),
                Next::End => false,
            };
            if stale {
                *next = match memtable.rows.first(&range.lower) {
                    Some(entry) => Next::Key(key_of(entry.key()).to_vec()),
                    None => Next::End,
                };
            }
            if matches!(next, Next::Key(key) if range.reaches_down_to(key)) {
                found.push(*source);
            }
        }
        found
    }

    /// Adds an item for the single rows of a range in which there is nothing else.
    fn add_gap(&mut self, range: KeyRange, items: &mut Vec<Item>) {
        let sources = self.within(&range);
        if sources.is_empty() {
            return;
        }
        let of_source = |s: &usize| {
            let own = self.memtables.iter().find(|(i, _)| i == s);
            own.map_or(0, |(_, memtable)| memtable.rows.len())
        };
        let rows = sources.iter().map(of_source).sum::<usize>().min(1024);
        items.push(Item::Merge {
            sources: sources.into_iter().map(Portion::single_rows).collect(),
            range,
            rows,
            splits: Vec::new(),
        });
    }
}
