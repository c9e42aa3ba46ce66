//! Merges segments that the policy chose into one and publishes the exchange.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::policy::{choose, Candidate};
use crate::error::StoreError;
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
            let candidate = |segment: &Arc<SegmentFile>| Candidate {
                id: segment.meta().id,
                bytes: segment.meta().bytes,
            };
            let candidates: Vec<_> = table.segments.iter().map(candidate).collect();
            let chosen = choose(&candidates);
            if !chosen.is_empty() {
                self.compact(table, &chosen)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes one segment of all segments of each table.
    pub(crate) fn compact_all(&self) -> Result<(), StoreError> {
        let _compacting = self.compacting.lock();
        let state = self.published.read().state.clone();
        for table in state.tables.values() {
            self.check_usable()?;
            if table.segments.len() > 1 {
                let all: Vec<_> = table.segments.iter().map(|s| s.meta().id).collect();
                self.compact(table, &all)?;
            }
        }
        Ok(())
    }

    fn compact(&self, table: &TableState, chosen: &[SegmentId]) -> Result<(), StoreError> {
        let inputs = table
            .segments
            .iter()
            .filter(|s| chosen.contains(&s.meta().id));
        let sources = inputs.cloned().map(Source::Segment).collect();
        let Some(output) = self.write_segment(&table.schema, sources)? else {
            return Ok(());
        };
        self.sync_segments()?;
        let bytes = output.meta().bytes;
        let mut manifest = self.manifest.lock();
        let still_there = |id: &SegmentId| manifest.state().segments.iter().any(|s| s.id == *id);
        if !chosen.iter().all(still_there) {
            // The table was dropped meanwhile.
            drop(manifest);
            self.release(&[output.meta().id]);
            return Ok(());
        }
        let edit = Edit::Compact(Compact {
            next_segment_id: manifest.state().next_segment_id,
            removed: chosen.to_vec(),
            added: vec![output.meta().clone()],
        });
        let removed = self.publish_edit(&mut manifest, edit)?;
        self.update(|state| compacted(state, table, chosen, &output));
        drop(manifest);
        self.release(&removed);
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters
            .compaction_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// The state in which chosen segments of a table have been replaced by one.
fn compacted(
    state: &StoreState,
    table: &TableState,
    chosen: &[SegmentId],
    output: &Arc<SegmentFile>,
) -> StoreState {
    state.with_tables(|tables| {
        if let Some(table) = tables.get_mut(&table.schema.id) {
            let mut next = (**table).clone();
            next.segments.retain(|s| !chosen.contains(&s.meta().id));
            next.segments.push(output.clone());
            *table = Arc::new(next);
        }
    })
}
