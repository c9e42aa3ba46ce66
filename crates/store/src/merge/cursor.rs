//! Reads one source of versions front to back within a range of keys, a block at a
//! time.

use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type, UInt8Type};
use arrow_array::{ArrayRef, BinaryViewArray, UInt8Array};
use arrow_buffer::BooleanBuffer;
use chronos_model::{
    append_value, column_builder, decode_row, Keys, Kind, Stamp, TableSchema, Value,
};

use super::block::{i64_array, u32_array, u64_array, Block, PerVersion};
use crate::error::StoreError;
use crate::first::FirstVersions;
use crate::memtable::{key_of, recorded_of, KeyRanges, Memtable, RowVersion, Run};
use crate::scan::KeyRange;
use crate::segment::{PageColumn, PageMeta, Segment};
use crate::state::SegmentFile;

/// Versions that a block of memtable rows holds at most.
const ROWS_PER_BLOCK: usize = 1024;

/// Where sorted versions come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The single rows of a memtable, not its runs.
    Rows(Arc<Memtable>),
    /// A run of a memtable.
    Run(Arc<Run>),
    /// A segment.
    Segment(Arc<SegmentFile>),
}

impl Source {
    /// What is known of its key columns' values.
    pub(crate) fn ranges(&self) -> Option<&KeyRanges> {
        match self {
            Source::Rows(_) => None,
            Source::Run(run) => Some(&run.ranges),
            Source::Segment(segment) => Some(&segment.ranges),
        }
    }
}

/// What a merge takes of a source.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    source: Source,
    /// Pages of a segment or rows of a run, ascending; `None`: everything.
    parts: Option<Parts>,
}

/// Pages of a segment, or rows of a run: stretches in ascending order.
pub(crate) type Parts = Arc<[Range<usize>]>;

impl Input {
    pub(crate) fn new(source: Source, parts: Option<Parts>) -> Input {
        Input { source, parts }
    }
}

impl From<Source> for Input {
    fn from(source: Source) -> Input {
        Input::new(source, None)
    }
}

/// What of some parts is within a stretch, first to last.
fn within(parts: Option<Parts>, stretch: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.unwrap_or_else(|| Arc::from([stretch.clone()]));
    let first = parts.partition_point(|part| part.end <= stretch.start);
    let end = parts.partition_point(|part| part.start < stretch.end);
    (first..end).map(move |i| parts[i].start.max(stretch.start)..parts[i].end.min(stretch.end))
}

#[derive(Debug)]
enum Reader {
    Rows {
        memtable: Arc<Memtable>,
        /// Position of the last entry taken; `None`: start at the lower bound.
        last: Option<Box<[u8]>>,
    },
    Run {
        run: Arc<Run>,
        /// Stretches of rows, the last one first.
        rows: Vec<Range<usize>>,
    },
    Segment {
        segment: Arc<SegmentFile>,
        /// Stretches of pages, the last one first.
        pages: Vec<Range<usize>>,
    },
}

/// A source, the current block and the position in it.
#[derive(Debug)]
pub(super) struct Cursor {
    reader: Reader,
    range: KeyRange,
    columns: Arc<[PageColumn]>,
    /// Of each key only the newest version at or before this stamp is wanted.
    at: Option<Stamp>,
    /// Whether it matters when versions are true.
    with_valid: bool,
    pub(super) block: Block,
    pub(super) position: usize,
    /// Where the merger keeps this block for the batch it is making.
    pub(super) pinned: Option<usize>,
}

impl Cursor {
    /// Starts at the first version within the range; `None`: there is none. With `at`,
    /// versions that are not the newest of their key at that stamp may be left out.
    pub(super) fn open(
        input: Input,
        range: &KeyRange,
        columns: Arc<[PageColumn]>,
        at: Option<Stamp>,
        with_valid: bool,
        schema: &TableSchema,
    ) -> Result<Option<Cursor>, StoreError> {
        let last_first = |stretch| {
            let mut parts: Vec<_> = within(input.parts, stretch).collect();
            parts.reverse();
            parts
        };
        let reader = match input.source {
            Source::Rows(memtable) => Reader::Rows {
                memtable,
                last: None,
            },
            Source::Run(run) => {
                let rows = range.positions(run.len(), |i| run.keys().get(i));
                let rows = last_first(rows);
                Reader::Run { run, rows }
            }
            Source::Segment(segment) => {
                let pages = segment.pages();
                let first = pages.partition_point(|p| !range.reaches_up_to(&p.max_key));
                let end = pages.partition_point(|p| range.reaches_down_to(&p.min_key));
                let pages = last_first(first..end.max(first));
                Reader::Segment { segment, pages }
            }
        };
        let mut cursor = Cursor {
            reader,
            range: range.clone(),
            columns,
            at,
            with_valid,
            block: Block::empty(),
            position: 0,
            pinned: None,
        };
        Ok(cursor.next_block(schema)?.then_some(cursor))
    }

    pub(super) fn key(&self) -> &[u8] {
        self.block.key(self.position)
    }

    /// Whether this cursor's version comes before the other's: by key, then newest
    /// first.
    pub(super) fn precedes(&self, other: &Cursor) -> bool {
        let recorded = |c: &Cursor| c.block.recorded.get(c.position);
        self.key()
            .cmp(other.key())
            .then_with(|| recorded(other).cmp(&recorded(self)))
            .is_lt()
    }

    /// Loads the next block that has versions in the range. False: none is left.
    pub(super) fn next_block(&mut self, schema: &TableSchema) -> Result<bool, StoreError> {
        self.position = 0;
        self.pinned = None;
        loop {
            let block = match &mut self.reader {
                Reader::Rows { memtable, last } => {
                    // An erasure is needed, whenever it was recorded.
                    let at = self.at.filter(|_| !memtable.rows.has_erasures());
                    take_rows(memtable, last, &self.range, at, &self.columns, schema)?
                }
                Reader::Run { run, rows } => match rows.pop() {
                    None => None,
                    Some(rows) => Some(run.block(rows.start, rows.len(), &self.columns)),
                },
                Reader::Segment { segment, pages } => match next_page(pages) {
                    None => None,
                    Some(page)
                        if self
                            .at
                            .is_some_and(|at| is_hidden(segment.pages(), page, at)) =>
                    {
                        continue;
                    }
                    Some(page) => Some(self.range.cut(read_page(
                        segment,
                        page,
                        &self.columns,
                        self.with_valid,
                    )?)),
                },
            };
            match block {
                None => return Ok(false),
                Some(block) if block.len() == 0 => {}
                Some(block) => {
                    self.block = block;
                    return Ok(true);
                }
            }
        }
    }
}

/// Takes the first page of stretches of which the last one comes first.
fn next_page(pages: &mut Vec<Range<usize>>) -> Option<usize> {
    while let Some(stretch) = pages.last_mut() {
        if let Some(page) = stretch.next() {
            return Some(page);
        }
        pages.pop();
    }
    None
}

/// Whether no version of a page can be the newest of its key at or before a stamp: all were
/// recorded later, or they are of one key, a newer version of which is at the end of the page
/// before. So a key with very many versions costs the page that is asked for.
pub(crate) fn is_hidden(pages: &[PageMeta], page: usize, at: Stamp) -> bool {
    let own = &pages[page];
    if own.min_recorded > at {
        return true;
    }
    let Some(before) = page.checked_sub(1).map(|before| &pages[before]) else {
        return false;
    };
    own.min_key == own.max_key
        && before.min_key == own.min_key
        && before.max_key == own.min_key
        && before.min_recorded <= at
}

fn read_page(
    segment: &Segment,
    page: usize,
    columns: &[PageColumn],
    with_valid: bool,
) -> Result<Block, StoreError> {
    let meta = &segment.pages()[page];
    let mut wanted = Vec::with_capacity(columns.len() + 4);
    if meta.min_recorded != meta.max_recorded {
        wanted.push(PageColumn::Recorded);
    }
    if meta.has_deletes {
        wanted.push(PageColumn::Kind);
    }
    let with_valid = with_valid && !meta.open_valid;
    if with_valid {
        wanted.extend([PageColumn::ValidFrom, PageColumn::ValidTo]);
    }
    wanted.extend_from_slice(columns);
    let keys = segment.read_keys(page)?;
    let mut arrays = segment.read_columns(page..page + 1, &wanted)?.into_iter();
    let recorded = if meta.min_recorded == meta.max_recorded {
        PerVersion::Same(meta.min_recorded.0)
    } else {
        let array = arrays.next().ok_or_else(too_few)?;
        PerVersion::Each(array.as_primitive::<UInt64Type>().values().clone())
    };
    let kinds = if meta.has_deletes {
        let array = arrays.next().ok_or_else(too_few)?;
        Some(array.as_primitive::<UInt8Type>().values().clone())
    } else {
        None
    };
    let mut moments = || {
        let array = arrays.next().ok_or_else(too_few)?;
        Ok::<_, StoreError>(array.as_primitive::<Int64Type>().values().clone())
    };
    let valid = match with_valid {
        true => Some((moments()?, moments()?)),
        false => None,
    };
    let columns = arrays.collect();
    let unique = meta.one_version_per_key;
    let span = (meta.min_recorded.0, meta.max_recorded.0);
    let block = Block::new(keys, recorded, span, kinds, unique, columns);
    let block = block.with_first(FirstVersions::all_if(meta.first_versions));
    Ok(match valid {
        Some((from, to)) => block.with_valid(from, to),
        None => block,
    })
}

fn too_few() -> StoreError {
    StoreError::Columns("a segment gave fewer columns than were asked for".into())
}

/// The next block of single rows after the position `last`.
fn take_rows(
    memtable: &Memtable,
    last: &mut Option<Box<[u8]>>,
    range: &KeyRange,
    at: Option<Stamp>,
    columns: &[PageColumn],
    schema: &TableSchema,
) -> Result<Option<Block>, StoreError> {
    let mut entry = match last {
        None => memtable.rows.first(&range.lower),
        Some(position) => memtable.rows.after(position),
    };
    let mut keys = Keys::default();
    let mut recorded = Vec::new();
    let mut versions: Vec<RowVersion> = Vec::new();
    while let Some(found) = entry {
        let key = key_of(found.key());
        if versions.len() == ROWS_PER_BLOCK || !range.reaches_down_to(key) {
            break;
        }
        if let Some(at) = at.filter(|at| recorded_of(found.key()) > *at) {
            entry = memtable.rows.newest_entry(found, at);
            continue;
        }
        keys.push(key);
        recorded.push(recorded_of(found.key()).0);
        versions.push(found.value().clone());
        entry = match at {
            None => found.next(),
            Some(_) => memtable.rows.next_key(found),
        };
    }
    if versions.is_empty() {
        return Ok(None);
    }
    // Should the end have been seen: what is inserted from now on is after every view.
    *last = Some(end_position(&keys, &recorded, at));
    let unique = (1..keys.len()).all(|i| keys.get(i - 1) != keys.get(i));
    let kinds: Vec<u8> = versions.iter().map(|v| v.kind as u8).collect();
    let has_deletes = versions.iter().any(|v| v.kind != Kind::Put);
    let arrays = decode_columns(schema, columns, &keys, &recorded, &versions)?;
    let low = recorded.iter().min().copied().unwrap_or(0);
    let high = recorded.iter().max().copied().unwrap_or(0);
    let valid = valid_of_rows(&recorded, &versions);
    let block = Block::new(
        Arc::new(keys),
        PerVersion::Each(recorded.into()),
        (low, high),
        has_deletes.then(|| kinds.into()),
        unique,
        arrays,
    );
    let first: BooleanBuffer = versions.iter().map(|v| v.is_first).collect();
    let block = block.with_first(first.into());
    Ok(Some(match valid {
        Some((from, to)) => block.with_valid(from.into(), to.into()),
        None => block,
    }))
}

/// When versions are true; `None`: each from when it was recorded until changed.
fn valid_of_rows(recorded: &[u64], versions: &[RowVersion]) -> Option<(Vec<i64>, Vec<i64>)> {
    versions.iter().any(|v| v.valid.is_some()).then(|| {
        let of_row = |(recorded, version): (&u64, &RowVersion)| {
            let valid = version.valid_when_recorded(Stamp(*recorded));
            (valid.from, valid.to)
        };
        recorded.iter().zip(versions).map(of_row).unzip()
    })
}

/// The position of the last version taken, or of the last that its key can have.
fn end_position(keys: &Keys, recorded: &[u64], at: Option<Stamp>) -> Box<[u8]> {
    let i = keys.len() - 1;
    let last = at.map_or(recorded[i], |_| 0);
    let mut position = keys.get(i).to_vec();
    position.extend_from_slice(&(!last).to_be_bytes());
    position.into()
}

/// Columns of single rows of a memtable; all slices have one element per row.
pub(crate) fn decode_columns(
    schema: &TableSchema,
    columns: &[PageColumn],
    keys: &Keys,
    recorded: &[u64],
    versions: &[RowVersion],
) -> Result<Vec<ArrayRef>, StoreError> {
    let wants_values = columns.iter().any(|c| matches!(c, PageColumn::Column(_)));
    let rows: Vec<Option<Vec<Value>>> = if wants_values {
        let decode = |v: &RowVersion| match v.kind {
            Kind::Put => decode_row(schema, &v.row).map(Some),
            Kind::Delete | Kind::Erase => Ok(None),
        };
        versions.iter().map(decode).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let n = versions.len();
    let periods = || {
        let both = recorded.iter().zip(versions);
        both.map(|(recorded, version)| version.valid_when_recorded(Stamp(*recorded)))
    };
    let column = |column: &PageColumn| -> Result<ArrayRef, StoreError> {
        Ok(match column {
            PageColumn::Column(i) => {
                let mut builder = column_builder(&schema.columns[*i].data_type, n);
                for row in &rows {
                    match row {
                        Some(values) => append_value(&mut builder, &values[*i])?,
                        None => builder.append_null(),
                    }
                }
                builder.finish()
            }
            PageColumn::Recorded | PageColumn::Origin => u64_array(recorded.to_vec().into()),
            PageColumn::OriginNode => {
                u32_array(versions.iter().map(|v| v.node.0).collect::<Vec<_>>().into())
            }
            PageColumn::Kind => Arc::new(UInt8Array::from_iter_values(
                versions.iter().map(|v| v.kind as u8),
            )),
            PageColumn::ValidFrom => {
                i64_array(periods().map(|p| p.from).collect::<Vec<_>>().into())
            }
            PageColumn::ValidTo => i64_array(periods().map(|p| p.to).collect::<Vec<_>>().into()),
            PageColumn::Key => Arc::new(BinaryViewArray::from_iter_values(
                (0..n).map(|i| keys.get(i)),
            )),
        })
    };
    columns.iter().map(column).collect()
}

/// Whether a key is within a lower bound.
pub(crate) fn above(lower: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match lower {
        Bound::Unbounded => true,
        Bound::Included(bound) => key >= bound.as_slice(),
        Bound::Excluded(bound) => key > bound.as_slice(),
    }
}

/// Whether a key is within an upper bound.
pub(crate) fn below(upper: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match upper {
        Bound::Unbounded => true,
        Bound::Included(bound) => key <= bound.as_slice(),
        Bound::Excluded(bound) => key < bound.as_slice(),
    }
}

impl KeyRange {
    /// Whether keys up to `max` may be in the range as far as its lower bound goes.
    pub(crate) fn reaches_up_to(&self, max: &[u8]) -> bool {
        above(&self.lower, max)
    }

    /// Whether keys from `min` on may be in the range as far as its upper bound goes.
    pub(crate) fn reaches_down_to(&self, min: &[u8]) -> bool {
        below(&self.upper, min)
    }

    /// Whether a key is in the range.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        above(&self.lower, key) && below(&self.upper, key)
    }

    /// Positions of the keys in the range among `n` sorted ones.
    pub(crate) fn positions<'a>(&self, n: usize, key: impl Fn(usize) -> &'a [u8]) -> Range<usize> {
        let partition = |holds: &dyn Fn(usize) -> bool| {
            let (mut low, mut high) = (0, n);
            while low < high {
                let middle = low + (high - low) / 2;
                if holds(middle) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        let start = partition(&|i| !above(&self.lower, key(i)));
        let end = partition(&|i| below(&self.upper, key(i)));
        start..end.max(start)
    }

    /// The part of a block that is in the range.
    fn cut(&self, block: Block) -> Block {
        let n = block.len();
        if n > 0 && self.contains(block.key(0)) && self.contains(block.key(n - 1)) {
            return block;
        }
        let rows = self.positions(n, |i| block.key(i));
        block.slice(rows.start, rows.len())
    }
}
