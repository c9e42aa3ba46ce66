//! The merge itself: always advances the cursor that is first, by as many rows as
//! come before the next cursor's key, found by galloping. Sources that interleave in
//! stretches (as batches of time series do) merge at the cost of their stretches.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use chronos_model::{Keys, Stamp, TableSchema};

use super::block::{arrays_bytes, Block};
use super::cursor::{Cursor, Input};
use super::gather::{gather_column, gather_first, gather_keys, gather_recorded};
use super::pieces::PieceResolver;
use super::resolve::{Resolution, Resolver, Selection};
use super::timeline::{Piece, PieceFilter};
use crate::error::StoreError;
use crate::scan::{KeyRange, ValidFilter};
use crate::segment::PageColumn;

/// Blocks that a batch may refer to; when there are more, the batch ends early, so
/// that a stretch of versions nobody sees does not fill the memory.
const PINNED_MAX: usize = 64;

/// What is wanted of a merge.
#[derive(Clone, Debug)]
pub(crate) struct MergeRequest {
    pub(crate) schema: Arc<TableSchema>,
    /// Columns of the output.
    pub(crate) columns: Arc<[PageColumn]>,
    pub(crate) resolution: Resolution,
    /// `None`: it does not matter when versions are true.
    pub(crate) valid: Option<ValidFilter>,
    /// Nothing recorded later is seen.
    pub(crate) view: Stamp,
    /// When the table was truncated, ascending.
    pub(crate) truncated: Arc<[Stamp]>,
    /// Nothing recorded earlier is seen: it is expired.
    pub(crate) floor: Stamp,
    /// Whether the keys, stamps and ends are wanted besides the columns.
    pub(crate) wants: Wants,
    /// Rows of an output batch at most.
    pub(crate) batch_rows: usize,
}

/// What is wanted of each version besides its columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) keys: bool,
    pub(crate) recorded: bool,
    pub(crate) system_to: bool,
    pub(crate) first: bool,
}

impl MergeRequest {
    /// When of each key only the newest version at or before a stamp can matter: that stamp.
    fn newest_at(&self) -> Option<Stamp> {
        match self.resolution {
            _ if self.valid.is_some() => None,
            Resolution::Snapshot { at } if !self.wants.system_to => Some(at.min(self.view)),
            _ => None,
        }
    }

    /// Every version, with its key, its stamp, and whether it is the first of its key.
    pub(crate) fn everything(
        schema: Arc<TableSchema>,
        columns: Vec<PageColumn>,
        batch_rows: usize,
    ) -> MergeRequest {
        MergeRequest {
            schema,
            columns: columns.into(),
            resolution: Resolution::Everything,
            valid: None,
            view: Stamp::MAX,
            truncated: Arc::from([]),
            floor: Stamp::MIN,
            wants: Wants {
                keys: true,
                recorded: true,
                system_to: false,
                first: true,
            },
            batch_rows,
        }
    }
}

/// A batch of merged versions.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) rows: usize,
    /// As requested.
    pub(crate) columns: Vec<ArrayRef>,
    /// Empty unless wanted, as are the next three.
    pub(crate) keys: Keys,
    pub(crate) recorded: Vec<u64>,
    pub(crate) first: BooleanBuffer,
    /// `u64::MAX`: still current.
    pub(crate) system_to: Vec<u64>,
    /// Where it matters when versions are true: the pieces that the rows are.
    pub(crate) pieces: Vec<Piece>,
}

impl Merged {
    /// About what it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let stamps = (self.recorded.len() + self.system_to.len()) * size_of::<u64>();
        let pieces = self.pieces.len() * size_of::<Piece>();
        arrays_bytes(&self.columns) + self.keys.memory_bytes() + stamps + pieces
    }
}

#[derive(Debug)]
pub(crate) struct Merger {
    request: Arc<MergeRequest>,
    /// Of each key only the newest version at or before this stamp is wanted.
    at: Option<Stamp>,
    /// Sorted by what they are at; none is at its end.
    cursors: Vec<Cursor>,
    resolver: Resolver,
    /// Decides in its place where it matters when versions are true.
    pieces: Option<PieceResolver>,
    selection: Selection,
    /// Blocks that the selection refers to.
    pinned: Vec<Block>,
    /// Rows of an output batch at most.
    batch_rows: usize,
}

impl Merger {
    /// A merge of the versions of all inputs whose keys are in a range.
    pub(crate) fn open(
        request: Arc<MergeRequest>,
        inputs: impl Iterator<Item = impl Into<Input>>,
        range: &KeyRange,
    ) -> Result<Merger, StoreError> {
        let at = request.newest_at();
        let mut cursors = Vec::new();
        for input in inputs {
            let columns = request.columns.clone();
            let with_valid = request.valid.is_some();
            let input = input.into();
            let cursor = Cursor::open(input, range, columns, at, with_valid, &request.schema)?;
            cursors.extend(cursor);
        }
        cursors.sort_by(|a, b| {
            if a.precedes(b) {
                std::cmp::Ordering::Less
            } else if b.precedes(a) {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        });
        let resolver = Resolver::new(
            request.resolution,
            request.view,
            request.truncated.clone(),
            request.floor,
            request.wants.system_to,
        );
        let pieces = request.valid.map(|valid| {
            let filter = PieceFilter {
                system: request.resolution,
                valid,
            };
            PieceResolver::new(
                filter,
                request.view,
                request.truncated.clone(),
                request.floor,
                request.wants.system_to,
            )
        });
        Ok(Merger {
            batch_rows: request.batch_rows,
            request,
            at,
            cursors,
            resolver,
            pieces,
            selection: Selection::default(),
            pinned: Vec::new(),
        })
    }

    /// Batches have so many rows from now on, at most.
    pub(crate) fn set_batch_rows(&mut self, rows: usize) {
        self.batch_rows = rows.max(1);
    }

    /// The next versions; `None`: all were given.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Merged>, StoreError> {
        while self.selection.rows < self.batch_rows && !self.cursors.is_empty() {
            if self.pinned.len() >= PINNED_MAX && self.batch_rows != usize::MAX {
                if self.selection.rows > 0 {
                    break;
                }
                self.unpin();
            }
            self.step()?;
        }
        if self.selection.rows == 0 {
            return Ok(None);
        }
        self.take_batch().map(Some)
    }

    /// Decides the versions of the first cursor up to the next cursor's key.
    fn step(&mut self) -> Result<(), StoreError> {
        if self.pass_over()? {
            return Ok(());
        }
        let room = self.batch_rows - self.selection.rows;
        let (first, others) = match self.cursors.split_first_mut() {
            Some(parts) => parts,
            None => return Ok(()),
        };
        let start = first.position;
        let end = match others.first() {
            None => first.block.len(),
            // Of equal keys the first cursor has the newest version.
            Some(next) => first.block.gallop(start, next.key()).max(start + 1),
        };
        let end = end.min(start.saturating_add(room));
        let pinned = *first.pinned.get_or_insert_with(|| {
            self.pinned.push(first.block.clone());
            self.pinned.len() - 1
        });
        let selection = &mut self.selection;
        let cut_met = match &mut self.pieces {
            Some(pieces) => {
                pieces.push(&first.block, pinned, start, end, selection);
                pieces.cut_met.take()
            }
            None => {
                let resolver = &mut self.resolver;
                resolver.push(&first.block, pinned, start, end, selection);
                resolver.cut_met.take()
            }
        };
        first.position = end;
        if let Some(horizon) = cut_met {
            return Err(self
                .request
                .resolution
                .before_horizon(&self.request.schema, horizon));
        }
        self.go_on_after_first()
    }

    /// Takes the first cursor to its next block if it is at the end of one, and to its place.
    fn go_on_after_first(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.cursors.first_mut() else {
            return Ok(());
        };
        if first.position == first.block.len() && !first.next_block(&self.request.schema)? {
            self.cursors.remove(0);
            return Ok(());
        }
        self.sink_first();
        Ok(())
    }

    /// Passes over the versions of the first cursor's key that certainly are not chosen, where
    /// sources share the key: merged one by one, those of a hot key would take long.
    fn pass_over(&mut self) -> Result<bool, StoreError> {
        let Some(at) = self.at else {
            return Ok(false);
        };
        let [first, second, ..] = self.cursors.as_mut_slice() else {
            return Ok(false);
        };
        if first.key() != second.key() {
            return Ok(false);
        }
        let passed = self.resolver.passed(&first.block, first.position, at);
        if passed == first.position {
            return Ok(false);
        }
        self.resolver.pass(&first.block, passed - 1);
        first.position = passed;
        self.go_on_after_first()?;
        Ok(true)
    }

    /// Moves the first cursor to its place among the others, which are sorted.
    fn sink_first(&mut self) {
        let (first, others) = match self.cursors.split_first() {
            Some(parts) => parts,
            None => return,
        };
        let place = others.partition_point(|other| other.precedes(first));
        self.cursors[..=place].rotate_left(1);
    }

    fn unpin(&mut self) -> Vec<Block> {
        for cursor in &mut self.cursors {
            cursor.pinned = None;
        }
        std::mem::take(&mut self.pinned)
    }

    fn take_batch(&mut self) -> Result<Merged, StoreError> {
        let blocks = self.unpin();
        let selection = std::mem::take(&mut self.selection);
        let (ranges, rows) = (&selection.ranges, selection.rows);
        let columns = (0..self.request.columns.len())
            .map(|column| gather_column(&blocks, ranges, rows, column))
            .collect::<Result<_, _>>()?;
        let wants = self.request.wants;
        Ok(Merged {
            rows,
            columns,
            keys: if wants.keys {
                gather_keys(&blocks, ranges)
            } else {
                Keys::default()
            },
            recorded: if wants.recorded {
                gather_recorded(&blocks, ranges, rows)
            } else {
                Vec::new()
            },
            first: match wants.first {
                true => gather_first(&blocks, ranges, rows),
                false => BooleanBuffer::new_unset(0),
            },
            system_to: selection.system_to,
            pieces: selection.pieces,
        })
    }
}
