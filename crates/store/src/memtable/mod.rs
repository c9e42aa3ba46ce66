//! New versions of one table, in memory until they are flushed to a segment.
//!
//! Two forms side by side, because writes come in two forms: single rows go to a skip
//! list ([`Rows`]), batches become sorted runs of columns ([`Run`]). One thread
//! writes; any number read without blocking it. Readers pass the stamp of their view
//! and see nothing recorded later.
//!
//! Runs of like size are merged when there are [`RUNS_PER_LEVEL`] of them, as in a
//! small LSM tree, so that a search meets few of them and each row is copied at most
//! twice.

mod ranges;
mod rows;
mod run;

use std::sync::Arc;

use chronos_model::{NodeId, RowChange, Stamp, TableSchema};
use parking_lot::RwLock;

pub(crate) use ranges::KeyRanges;
pub(crate) use rows::{key_of, recorded_of, RowVersion, Rows};
pub(crate) use run::Run;

use crate::error::StoreError;

/// So many runs of like size are merged into one.
const RUNS_PER_LEVEL: usize = 8;
/// A merge that would make a longer run is left to the flush.
const MERGED_ROWS_MAX: usize = 512 * 1024;

#[derive(Debug)]
pub(crate) struct Memtable {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) rows: Rows,
    /// Oldest first.
    runs: RwLock<Arc<Vec<Arc<Run>>>>,
}

impl Memtable {
    pub(crate) fn new(schema: Arc<TableSchema>) -> Memtable {
        Memtable {
            schema,
            rows: Rows::default(),
            runs: RwLock::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.runs.read().is_empty()
    }

    /// The runs as they are now. Runs recorded after a reader's view may be among them.
    pub(crate) fn runs(&self) -> Arc<Vec<Arc<Run>>> {
        self.runs.read().clone()
    }

    /// Whether versions are true for periods of their own.
    pub(crate) fn has_periods(&self) -> bool {
        self.rows.has_periods()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.rows.bytes() + self.runs.read().iter().map(|r| r.bytes).sum::<u64>()
    }

    pub(crate) fn versions(&self) -> u64 {
        let runs: usize = self.runs.read().iter().map(|r| r.len()).sum();
        (self.rows.len() + runs) as u64
    }

    /// Stamp of the earliest version; `MAX`: there is none.
    pub(crate) fn first_recorded(&self) -> Stamp {
        let runs = self.runs();
        let of_runs = runs.iter().map(|run| run.min_recorded);
        of_runs.fold(self.rows.first_recorded(), Stamp::min)
    }

    /// Stamp of the latest version; `MIN`: there is none.
    pub(crate) fn last_recorded(&self) -> Stamp {
        let runs = self.runs();
        let of_runs = runs.iter().map(|run| run.max_recorded);
        of_runs.fold(self.rows.last_recorded(), Stamp::max)
    }

    /// Adds one row's version; returns the bytes it takes.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        change: &RowChange,
        recorded: Stamp,
        node: NodeId,
        is_first: bool,
    ) -> u64 {
        let version = RowVersion {
            node,
            kind: change.kind,
            is_first,
            row: change.row.clone(),
            valid: change.valid.map(Box::new),
        };
        self.rows.insert(key, recorded, version)
    }

    /// Adds a run and merges runs of like size when there are many.
    pub(crate) fn push(&self, run: Run) -> Result<(), StoreError> {
        let mut runs = self.runs().to_vec();
        runs.push(Arc::new(run));
        while let Some(first) = mergeable(&runs.iter().map(|r| r.len()).collect::<Vec<_>>()) {
            let merged = Run::merged(&self.schema, &runs[first..])?;
            runs.truncate(first);
            runs.push(Arc::new(merged));
        }
        *self.runs.write() = Arc::new(runs);
        Ok(())
    }
}

/// From which run on the runs, given by their lengths, should become one: the tail
/// that holds at least [`RUNS_PER_LEVEL`] runs of which none is as long as
/// [`RUNS_PER_LEVEL`] times the last.
fn mergeable(lengths: &[usize]) -> Option<usize> {
    let last = *lengths.last()?;
    let like = |length: usize| length < last.saturating_mul(RUNS_PER_LEVEL);
    let alike = lengths.iter().rev().take_while(|l| like(**l)).count();
    let total: usize = lengths[lengths.len() - alike..].iter().sum();
    (alike >= RUNS_PER_LEVEL && total <= MERGED_ROWS_MAX).then(|| lengths.len() - alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_stay_few_and_rows_are_copied_seldom() {
        let mut lengths = Vec::new();
        let (mut copied, mut added, mut most) = (0, 0, 0);
        for _ in 0..40 {
            lengths.push(10_000);
            added += 10_000;
            while let Some(first) = mergeable(&lengths) {
                let merged: usize = lengths[first..].iter().sum();
                copied += merged;
                lengths.truncate(first);
                lengths.push(merged);
            }
            most = most.max(lengths.len());
        }
        assert!(most <= 2 * RUNS_PER_LEVEL, "{most} runs");
        assert!(copied <= 2 * added, "{copied} of {added} rows copied");
        assert_eq!(mergeable(&[1_000_000, 10, 10]), None);
        assert_eq!(mergeable(&[]), None);
    }
}
