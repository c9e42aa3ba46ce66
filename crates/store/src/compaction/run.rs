//! Merges segments that the policy chose into fewer and publishes the exchange.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use chronos_model::Stamp;

use super::policy::{choose, Candidate};
use crate::error::StoreError;
use crate::history::{Splitter, Superseded};
use crate::manifest::{Compact, Edit};
use crate::merge::Source;
use crate::segment::SegmentId;
use crate::state::{SegmentFile, StoreState, TableState};
use crate::store::Shared;

impl Shared {
    /// Compacts one table, if one needs it. False: none did.
    pub(crate) fn compact_once(&self) -> Result<bool, StoreError> {
        let _compacting = self.compacting.lock();
        self.check_usable()?;
        let state = self.published.read().state.clone();
        for table in state.tables.values() {
            let candidates: Vec<_> = undamaged(table.files()).map(candidate).collect();
            let chosen = choose(&candidates);
            if !chosen.is_empty() {
                self.compact_undamaged(table, &chosen)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes one segment of all segments of each table, and one of each window of its
    /// history.
    pub(crate) fn compact_all(&self) -> Result<(), StoreError> {
        let _compacting = self.compacting.lock();
        let ids: Vec<_> = self.published.read().state.tables.keys().copied().collect();
        for id in ids {
            let table = || self.published.read().state.tables.get(&id).cloned();
            self.check_usable()?;
            // Again, when damage is found on the way.
            while let Some(table) = table() {
                let all: Vec<_> = undamaged(table.segments.iter())
                    .map(|s| s.meta().id)
                    .collect();
                if all.len() < 2 || self.compact_undamaged(&table, &all)? {
                    break;
                }
            }
            // Only now is all of its history apart.
            let Some(table) = table() else { continue };
            for chosen in windows(&table) {
                self.check_usable()?;
                self.compact_undamaged(&table, &chosen)?;
            }
        }
        Ok(())
    }

    /// Compacts segments; false: one of them turned out to be damaged. It stays as it is,
    /// with all that can be read of it, and is not chosen again.
    fn compact_undamaged(
        &self,
        table: &TableState,
        chosen: &[SegmentId],
    ) -> Result<bool, StoreError> {
        match self.compact(table, chosen) {
            Err(error) if error.is_damage() => {
                let mut inputs = table.files().filter(|f| chosen.contains(&f.meta().id));
                match inputs.any(|file| file.has_lost_versions()) {
                    true => Ok(false),
                    false => Err(error),
                }
            }
            done => done.map(|()| true),
        }
    }

    /// Merges segments that may hold current versions, or runs of one window's history.
    fn compact(&self, table: &TableState, chosen: &[SegmentId]) -> Result<(), StoreError> {
        let is_chosen = |file: &&Arc<SegmentFile>| chosen.contains(&file.meta().id);
        let inputs: Vec<_> = table.files().filter(is_chosen).cloned().collect();
        let superseded = inputs.iter().filter_map(|file| file.superseded);
        let superseded = superseded.reduce(Superseded::with);
        let splitter = splitter(&inputs);
        let sources = inputs.into_iter().map(Source::Segment).collect();
        let outputs = match superseded {
            None => self.write_split(&table.schema, sources, splitter)?,
            Some(superseded) => self.write_history(&table.schema, sources, superseded)?,
        };
        if outputs.is_empty() {
            return Ok(());
        }
        self.sync_segments()?;
        self.exchange(table, chosen, &outputs)
    }

    /// Puts written segments in the place of those that they were made of.
    fn exchange(
        &self,
        table: &TableState,
        chosen: &[SegmentId],
        outputs: &[Arc<SegmentFile>],
    ) -> Result<(), StoreError> {
        let mut manifest = self.manifest.lock();
        let known = &manifest.state().segments;
        let still_there = |id: &SegmentId| known.iter().any(|s| s.meta.id == *id);
        if !chosen.iter().all(still_there) {
            // The table was dropped meanwhile.
            drop(manifest);
            let unwanted: Vec<_> = outputs.iter().map(|file| file.meta().id).collect();
            self.release(&unwanted);
            return Ok(());
        }
        let edit = Edit::Compact(Compact {
            next_segment_id: manifest.state().next_segment_id,
            removed: chosen.to_vec(),
            added: outputs.iter().map(|file| file.entry()).collect(),
        });
        let removed = self.publish_edit(&mut manifest, edit)?;
        self.update(|state| compacted(state, table, chosen, outputs));
        drop(manifest);
        self.release(&removed);
        let bytes = outputs.iter().map(|file| file.meta().bytes).sum();
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters
            .compaction_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// The files that a compaction may read to their ends.
fn undamaged<'a>(
    files: impl Iterator<Item = &'a Arc<SegmentFile>>,
) -> impl Iterator<Item = &'a Arc<SegmentFile>> {
    files.filter(|file| !file.has_lost_versions())
}

fn candidate(file: &Arc<SegmentFile>) -> Candidate {
    Candidate {
        id: file.meta().id,
        bytes: file.meta().bytes,
        window: file.superseded.map(Superseded::window),
    }
}

/// For the versions of some segments.
fn splitter(inputs: &[Arc<SegmentFile>]) -> Splitter {
    let metas = || inputs.iter().map(|file| file.meta());
    let first = metas().map(|m| m.min_recorded).min();
    let last = metas().map(|m| m.max_recorded).max();
    Splitter::new(first.unwrap_or(Stamp::MIN), last.unwrap_or(Stamp::MIN))
}

/// Runs of history that share a window with others.
fn windows(table: &TableState) -> Vec<Vec<SegmentId>> {
    let mut runs: Vec<_> = undamaged(table.history.iter()).map(candidate).collect();
    runs.sort_unstable_by_key(|run| (run.window, run.id));
    runs.chunk_by(|a, b| a.window == b.window)
        .filter(|same| same.len() > 1)
        .map(|same| same.iter().map(|run| run.id).collect())
        .collect()
}

/// The state in which chosen segments of a table have been replaced by others.
fn compacted(
    state: &StoreState,
    table: &TableState,
    chosen: &[SegmentId],
    outputs: &[Arc<SegmentFile>],
) -> StoreState {
    state.with_tables(|tables| {
        if let Some(table) = tables.get_mut(&table.schema.id) {
            let mut next = (**table).clone();
            next.remove_files(chosen);
            outputs.iter().for_each(|file| next.add_file(file.clone()));
            *table = Arc::new(next);
        }
    })
}
