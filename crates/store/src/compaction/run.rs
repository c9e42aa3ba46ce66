//! Merges segments that the policy chose into fewer and publishes the exchange.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use chronos_model::{Catalog, Floors, Stamp, TableId};

use super::policy::{choose, families, Candidate, Decision};
use crate::buckets::{Bucket, Division, Times};
use crate::erase::{erased_before, Erased};
use crate::error::StoreError;
use crate::history::{SplitRules, Splitter, Superseded};
use crate::manifest::{Compact, Edit};
use crate::merge::Source;
use crate::retention::Retained;
use crate::segment::SegmentId;
use crate::state::{SegmentFile, StoreState, TableState};
use crate::store::Shared;
use crate::write::Urgency;

/// The tables as the last flush left them. Entries behind it are replayed after a crash, and
/// must find what options and columns changed since then have let go.
struct FlushedTables {
    catalog: Catalog,
    floor: Stamp,
}

impl FlushedTables {
    /// A table with the columns and options it had, and what is kept of it; `None`: it was not
    /// there yet.
    fn table(
        &self,
        table: &Arc<TableState>,
    ) -> Result<Option<(Arc<TableState>, SplitRules)>, StoreError> {
        let schema = match table.schema.is_entry_table() {
            true => Some(&table.schema),
            false => self.catalog.table_by_id(table.schema.id),
        };
        let Some(schema) = schema else {
            return Ok(None);
        };
        let rules = SplitRules::new(schema, table.truncated.clone(), self.floor);
        let table = match table.schema == *schema {
            true => table.clone(),
            false => Arc::new(table.with_schema(schema.clone())?),
        };
        Ok(Some((table, rules)))
    }
}

/// What a compaction leaves out because it is erased, and whether the erasures go, too.
#[derive(Debug)]
struct Purge {
    erased: Erased,
    /// Erasures recorded before are forgotten.
    forgets: Stamp,
}

impl Shared {
    /// Compacts one table, if one needs it. False: none did.
    pub(crate) fn compact_once(&self) -> Result<bool, StoreError> {
        let _compacting = self.compacting.lock();
        self.check_usable()?;
        let state = self.published.read().state.clone();
        let flushed = self.flushed_tables();
        for table in state.tables.values() {
            let Some((table, rules)) = flushed.table(table)? else {
                continue;
            };
            let table = &table;
            let candidates = candidates(table, &rules.retained);
            match choose(&candidates) {
                None => {}
                Some(Decision::Merge(chosen)) => {
                    self.compact_undamaged(table, &chosen, &rules)?;
                    return Ok(true);
                }
                Some(Decision::Drop(chosen)) => {
                    self.exchange(table, &chosen, &[])?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Makes one segment of all segments of each table, or one of each bucket, and one of
    /// each window of its history; `None`: of all tables. What is no longer kept is left
    /// out. With `everything` false, only of tables of which something may have to go.
    pub(crate) fn compact_all(
        &self,
        tables: Option<&[TableId]>,
        everything: bool,
    ) -> Result<(), StoreError> {
        let _compacting = self.compacting.lock();
        let mut ids: Vec<_> = self.published.read().state.tables.keys().copied().collect();
        ids.retain(|id| tables.is_none_or(|tables| tables.contains(id)));
        ids.sort_unstable();
        for id in ids {
            let erased = self.erased_in(id)?;
            let purge = Purge {
                erased: erased.clone(),
                forgets: Stamp::MIN,
            };
            // History is merged once all of it is apart.
            for history in [false, true] {
                // Again, when damage is found on the way.
                while !self.compact_families(id, history, everything, &purge)? {}
            }
            if !erased.is_empty() {
                self.finish_erasing(id, erased)?;
            }
        }
        Ok(())
    }

    /// What is erased of a table and still has to be purged, or can be forgotten.
    fn erased_in(&self, id: TableId) -> Result<Erased, StoreError> {
        let table = self.published.read().state.tables.get(&id).cloned();
        let Some(table) = table.filter(|table| table.has_erasures()) else {
            return Ok(Erased::default());
        };
        let erased = match Erased::of(&table) {
            Err(error) if error.is_damage() => return Ok(Erased::default()),
            erased => erased?,
        };
        let purged = self.purged.lock().get(&id).copied();
        let is_purged = purged.is_some_and(|purged| erased.last() <= purged);
        let is_young = erased.first() >= erased_before(self.flushed_tables().floor);
        match is_purged && is_young {
            true => Ok(Erased::default()),
            false => Ok(erased),
        }
    }

    /// Takes what is erased out of the secondary indexes, and then the erasures, which nothing
    /// is left for to hide.
    fn finish_erasing(&self, id: TableId, erased: Erased) -> Result<(), StoreError> {
        let Some(table) = self.published.read().state.tables.get(&id).cloned() else {
            return Ok(());
        };
        for index in table.indexes.iter() {
            let purge = Purge {
                erased: erased.entries(index.clone(), table.schema.clone()),
                forgets: Stamp::MIN,
            };
            while !self.compact_families(index.id, false, true, &purge)? {}
        }
        self.purged.lock().insert(id, erased.last());
        let state = self.published.read().state.clone();
        let own = table.indexes.iter().map(|index| index.id).chain([id]);
        let mut tables = own.filter_map(|id| state.tables.get(&id));
        // What is damaged was not rewritten.
        if tables.any(|table| table.files().any(|file| file.has_lost_versions())) {
            return Ok(());
        }
        let forgets = erased_before(self.flushed_tables().floor);
        if erased.first() < forgets {
            let purge = Purge { erased, forgets };
            while !self.compact_families(id, false, true, &purge)? {}
        }
        Ok(())
    }

    /// False: one of the segments turned out to be damaged, and the others are still to be
    /// merged.
    fn compact_families(
        &self,
        id: TableId,
        history: bool,
        everything: bool,
        purge: &Purge,
    ) -> Result<bool, StoreError> {
        let table = || {
            // In this order: no file may have columns that the flushed tables do not.
            let table = self.published.read().state.tables.get(&id).cloned();
            let flushed = self.flushed_tables();
            let table = table.map(|table| flushed.table(&table)).transpose()?;
            Ok::<_, StoreError>(table.flatten())
        };
        let Some((first, rules)) = table()? else {
            return Ok(true);
        };
        let expires = expires(&first) || !purge.erased.is_empty();
        if !everything && !expires {
            return Ok(true);
        }
        let mut candidates = candidates(&first, &rules.retained);
        candidates.retain(|c| c.window.is_some() == history);
        for chosen in families(&candidates, expires) {
            self.check_usable()?;
            // What was merged before has changed what else there is.
            let Some((table, mut rules)) = table()? else {
                return Ok(true);
            };
            rules.erased = purge.erased.clone();
            rules.forget_erasures = purge.forgets;
            if !self.compact_undamaged(&table, &chosen, &rules)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn flushed_tables(&self) -> FlushedTables {
        let manifest = self.manifest.lock();
        let known = manifest.state();
        FlushedTables {
            catalog: known.catalog.clone(),
            floor: Stamp(known.floor),
        }
    }

    /// Compacts segments; false: one of them turned out to be damaged. It stays as it is,
    /// with all that can be read of it, and is not chosen again.
    fn compact_undamaged(
        &self,
        table: &TableState,
        chosen: &[SegmentId],
        rules: &SplitRules,
    ) -> Result<bool, StoreError> {
        match self.compact(table, chosen, rules.clone()) {
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
    fn compact(
        &self,
        table: &TableState,
        chosen: &[SegmentId],
        mut rules: SplitRules,
    ) -> Result<(), StoreError> {
        let is_chosen = |file: &&Arc<SegmentFile>| chosen.contains(&file.meta().id);
        let inputs: Vec<_> = table.files().filter(is_chosen).cloned().collect();
        let superseded = inputs.iter().filter_map(|file| file.superseded);
        let superseded = superseded.reduce(Superseded::with);
        let bytes = inputs.iter().map(|file| file.meta().bytes).sum();
        let splitter = match superseded {
            Some(superseded) => Splitter::of_history(superseded, rules),
            None => {
                rules.forget_deletes = forgettable(table, chosen, rules.retained.history);
                splitter(&inputs, rules)
            }
        };
        let sources: Vec<_> = inputs.into_iter().map(Source::Segment).collect();
        let division = match superseded {
            Some(_) => None,
            None => {
                let times = Times::of_sources(&table.schema, &sources)?;
                Division::new(&table.schema, times, bytes)
            }
        };
        let outputs = self.write_split(
            &table.schema,
            sources,
            splitter,
            division,
            Urgency::Background,
        )?;
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
        let inputs = table.files().filter(|f| chosen.contains(&f.meta().id));
        let read: u64 = inputs.map(|file| file.meta().bytes).sum();
        let removed = self.publish_edit(&mut manifest, edit)?;
        self.update_files(|state| compacted(state, table, chosen, outputs))?;
        drop(manifest);
        self.release(&removed);
        let bytes = outputs.iter().map(|file| file.meta().bytes).sum();
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters
            .compaction_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        if !outputs.is_empty() {
            self.counters
                .compaction_bytes_read
                .fetch_add(read, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Whether versions of the table may be dropped.
fn expires(table: &TableState) -> bool {
    let options = &table.schema.options;
    let cut = options.floors.cut;
    let floors = options.floors
        != Floors {
            cut,
            ..Floors::default()
        };
    floors
        || options.ttl_micros.is_some()
        || options.history_ttl_micros.is_some()
        || options.history_keep.is_some()
}

/// The segments that a compaction may read to their ends.
fn candidates(table: &TableState, retained: &Retained) -> Vec<Candidate> {
    let candidate = |file: &Arc<SegmentFile>| Candidate {
        id: file.meta().id,
        bytes: file.meta().bytes,
        window: file.superseded.map(Superseded::window),
        bucket: file.bucket,
        expired: expired_share(file, retained),
    };
    let undamaged = table.files().filter(|file| !file.has_lost_versions());
    undamaged.map(candidate).collect()
}

/// The share of a segment's versions that are no longer kept, as far as its pages tell.
fn expired_share(file: &SegmentFile, retained: &Retained) -> f64 {
    let is_history = |s: Superseded| Stamp(s.last) <= retained.history;
    if file.superseded.is_some_and(is_history) {
        return 1.0;
    }
    let expired = file
        .pages()
        .iter()
        .filter(|page| retained.page_expired(page));
    let rows: u64 = expired.map(|page| u64::from(page.rows)).sum();
    rows as f64 / file.meta().rows.max(1) as f64
}

/// Deletes recorded at or before this stamp hide nothing once chosen segments are merged:
/// no other file can hold an older version of a key of theirs, and no reader asks for a
/// time at which they mattered.
fn forgettable(table: &TableState, chosen: &[SegmentId], horizon: Stamp) -> Stamp {
    let is_chosen = |file: &SegmentFile| chosen.contains(&file.meta().id);
    let chosen_bucket = |bucket: Bucket| {
        let mut chosen = table.segments.iter().filter(|file| is_chosen(file));
        chosen.all(|file| file.bucket.is_some_and(|own| !own.meets(bucket)))
    };
    let mut others = table.segments.iter().filter(|file| !is_chosen(file));
    if !others.all(|file| file.bucket.is_some_and(chosen_bucket)) {
        return Stamp::MIN;
    }
    let history = table.history.iter().map(|run| run.meta().min_recorded);
    let first = history
        .min()
        .map_or(Stamp::MAX, |s| Stamp(s.0.saturating_sub(1)));
    horizon.min(first)
}

/// For the versions of some segments.
fn splitter(inputs: &[Arc<SegmentFile>], rules: SplitRules) -> Splitter {
    let metas = || inputs.iter().map(|file| file.meta());
    // A page with an erasure counts as recorded before all others.
    let pages = inputs.iter().flat_map(|file| file.pages());
    let first = pages.filter(|page| !page.has_cuts());
    let first = first.map(|page| page.min_recorded).min();
    let last = metas().map(|m| m.max_recorded).max();
    Splitter::new(
        first.unwrap_or(Stamp::MIN),
        last.unwrap_or(Stamp::MIN),
        rules,
    )
}

/// The state in which chosen segments of a table have been replaced by others.
fn compacted(
    state: &StoreState,
    table: &TableState,
    chosen: &[SegmentId],
    outputs: &[Arc<SegmentFile>],
) -> Result<StoreState, StoreError> {
    state.with_files(table.schema.id, |table| {
        table.remove_files(chosen);
        outputs.iter().try_for_each(|file| table.add_file(file))
    })
}
