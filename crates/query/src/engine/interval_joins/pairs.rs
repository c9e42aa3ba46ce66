//! A batch of the right side, and the rows of the left that its rows meet.

use std::ops::Range;

use arrow_array::RecordBatch;
use datafusion::error::Result as DfResult;

use super::bounds::Stretch;
use super::held::{stretches, Held, KeyColumns};

/// Places that are looked at for one chunk, for each pair that it may have.
const LOOKS: usize = 8;

/// Which of a row's pairs are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    All,
    /// One tells as much as all.
    First,
    /// Those with rows of the left that were not met yet.
    NotMet,
}

/// Pairs of rows, in the order of the right.
#[derive(Default)]
pub(super) struct Pairs {
    pub(super) left: Vec<u32>,
    pub(super) right: Vec<u32>,
}

/// How far the rows of a batch are looked at.
pub(super) struct Probe {
    pub(super) rows: RecordBatch,
    /// Which rows were met.
    pub(super) met: Vec<bool>,
    lows: Vec<i64>,
    highs: Vec<i64>,
    ranges: Option<Vec<Range<usize>>>,
    row: usize,
    /// Where to go on for the row.
    range: Range<usize>,
}

impl Probe {
    pub(super) fn new(
        rows: RecordBatch,
        stretch: &Stretch,
        keys: Option<&KeyColumns>,
        held: &Held,
    ) -> DfResult<Probe> {
        let (lows, highs) = stretches(stretch, &rows)?;
        let ranges = match (&held.keys, keys) {
            (Some(held), Some(columns)) => Some(held.ranges(columns, &rows)?),
            _ => None,
        };
        let mut probe = Probe {
            met: vec![false; rows.num_rows()],
            rows,
            lows,
            highs,
            ranges,
            row: 0,
            range: 0..0,
        };
        probe.begin(held);
        Ok(probe)
    }

    /// The first row that is not done.
    pub(super) fn row(&self) -> usize {
        self.row
    }

    pub(super) fn is_done(&self) -> bool {
        self.row == self.met.len()
    }

    fn begin(&mut self, held: &Held) {
        if self.is_done() {
            return;
        }
        let all = match &self.ranges {
            None => 0..held.intervals.len(),
            Some(ranges) => ranges[self.row].clone(),
        };
        self.range = held.intervals.beginning_by(all, self.highs[self.row]);
    }

    /// Goes on to the next row.
    fn pass(&mut self, held: &Held) {
        self.row += 1;
        self.begin(held);
    }

    /// Passes the row that is looked at, if it was met.
    pub(super) fn pass_met(&mut self, held: &Held) {
        if self.met.get(self.row) == Some(&true) {
            self.pass(held);
        }
    }

    /// The next pairs, not more than `pairs_max`; fewer do not mean that there are no more.
    pub(super) fn next(&mut self, held: &Held, wanted: Wanted, pairs_max: usize) -> Pairs {
        let mut pairs = Pairs::default();
        let mut looks = LOOKS * pairs_max;
        while !self.is_done() && pairs.left.len() < pairs_max && looks > 0 {
            looks -= 1;
            let Some(place) = held.intervals.next(self.range.clone(), self.lows[self.row]) else {
                self.pass(held);
                continue;
            };
            self.range.start = place + 1;
            let left = held.intervals.row(place);
            let is_met =
                |row: u32| held.met[row as usize].load(std::sync::atomic::Ordering::Relaxed);
            if wanted == Wanted::NotMet && is_met(left) {
                continue;
            }
            pairs.left.push(left);
            pairs.right.push(self.row as u32);
            if wanted == Wanted::First {
                self.pass(held);
            }
        }
        pairs
    }
}
