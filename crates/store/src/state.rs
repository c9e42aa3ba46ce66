//! What the store consists of at one moment: tables, and for each its memtables and
//! segments. Immutable but for the active memtables, so a reader clones one `Arc`.

mod segment_file;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{Catalog, IndexSchema, Keys, Kind, Stamp, TableId, TableSchema};

use segment_file::Wanted;
pub(crate) use segment_file::{FileName, SegmentFile};

use crate::error::{Reason, StoreError};
use crate::history::Superseded;
use crate::memtable::{KeyRanges, Memtable, Run};
use crate::merge::{horizon, Resolution, Source, Wants};
use crate::retention::Retained;
use crate::segment::SegmentId;

/// All tables at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreState {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tables: Arc<HashMap<TableId, Arc<TableState>>>,
}

impl StoreState {
    /// The same state but for the files of a table, if that is still there.
    pub(crate) fn with_files(
        &self,
        table: TableId,
        change: impl FnOnce(&mut TableState) -> Result<(), StoreError>,
    ) -> Result<StoreState, StoreError> {
        let mut tables = HashMap::clone(&self.tables);
        if let Some(table) = tables.get_mut(&table) {
            let mut next = TableState::clone(table);
            change(&mut next)?;
            *table = Arc::new(next);
        }
        Ok(StoreState {
            catalog: self.catalog.clone(),
            tables: Arc::new(tables),
        })
    }

    /// The same state but for its tables.
    pub(crate) fn with_tables(
        &self,
        change: impl FnOnce(&mut HashMap<TableId, Arc<TableState>>),
    ) -> StoreState {
        let mut tables = (*self.tables).clone();
        change(&mut tables);
        StoreState {
            catalog: self.catalog.clone(),
            tables: Arc::new(tables),
        }
    }
}

/// One table at one moment.
#[derive(Clone, Debug)]
pub(crate) struct TableState {
    pub(crate) schema: Arc<TableSchema>,
    /// When it was truncated, ascending.
    pub(crate) truncated: Arc<[Stamp]>,
    pub(crate) active: Arc<Memtable>,
    /// Waiting to be flushed, oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    /// Segments that may hold current versions.
    pub(crate) segments: Vec<Arc<SegmentFile>>,
    /// Runs of superseded versions.
    pub(crate) history: Vec<Arc<SegmentFile>>,
    /// Why it cannot be read at all, if so.
    pub(crate) held_back: Option<Reason>,
    /// Its secondary indexes.
    pub(crate) indexes: Arc<[Arc<IndexSchema>]>,
}

/// The newest version of a key, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) recorded: Stamp,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// Where a version is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Row(Bytes),
    Run(Arc<Run>, usize),
    Segment(Arc<SegmentFile>, usize, u32),
}

impl TableState {
    pub(crate) fn new(schema: Arc<TableSchema>) -> TableState {
        TableState {
            active: Arc::new(Memtable::new(schema.clone())),
            schema,
            truncated: Arc::from([]),
            frozen: Vec::new(),
            segments: Vec::new(),
            history: Vec::new(),
            held_back: None,
            indexes: Arc::from([]),
        }
    }

    /// Memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev())
    }

    /// All segments, history too.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<SegmentFile>> {
        self.segments.iter().chain(&self.history)
    }

    /// Takes a segment up, which may have been written for an earlier shape of the table.
    pub(crate) fn add_file(&mut self, file: &Arc<SegmentFile>) -> Result<(), StoreError> {
        let file = file.shaped_as(&self.schema)?;
        match file.superseded {
            None => {
                self.segments.push(file);
                // A search for the newest version of a key begins with those at the end.
                self.segments.sort_by_key(|file| file.meta().max_recorded);
            }
            Some(_) => self.history.push(file),
        }
        Ok(())
    }

    /// The table with another schema; of a memtable with other columns nothing may be left.
    pub(crate) fn with_schema(&self, schema: Arc<TableSchema>) -> Result<TableState, StoreError> {
        let mut next = self.clone();
        if !self.schema.stores_like(&schema) {
            next.active = Arc::new(Memtable::new(schema.clone()));
            for files in [&mut next.segments, &mut next.history] {
                for file in files {
                    *file = file.shaped_as(&schema)?;
                }
            }
        }
        next.schema = schema;
        Ok(next)
    }

    /// The stamp of the newest version that is stored; `MIN`: there is none.
    pub(crate) fn last_recorded(&self) -> Stamp {
        let of_memtables = self.memtables().map(|m| m.last_recorded());
        let of_files = self.files().map(|file| file.meta().max_recorded);
        of_memtables.chain(of_files).max().unwrap_or(Stamp::MIN)
    }

    /// Lets go of segments.
    pub(crate) fn remove_files(&mut self, ids: &[SegmentId]) {
        for files in [&mut self.segments, &mut self.history] {
            files.retain(|file| !ids.contains(&file.meta().id));
        }
    }

    /// Everything that a scan must look at which sees what a resolution says.
    pub(crate) fn sources(&self, resolution: Resolution, wants: Wants) -> Vec<Source> {
        let mut sources = Vec::new();
        for memtable in self.memtables() {
            if !memtable.rows.is_empty() {
                sources.push(Source::Rows(memtable.clone()));
            }
            sources.extend(memtable.runs().iter().cloned().map(Source::Run));
        }
        sources.extend(self.segments.iter().cloned().map(Source::Segment));
        let needed = self.history.iter().filter(|run| {
            run.superseded
                .is_some_and(|s| needs_run(s, run.meta().min_recorded, resolution, wants))
        });
        sources.extend(needed.cloned().map(Source::Segment));
        sources
    }

    /// The newest version of a key recorded at or before `view`, deletes included,
    /// truncations not considered.
    pub(crate) fn newest(&self, key: &[u8], view: Stamp) -> Result<Option<Newest>, StoreError> {
        for memtable in self.memtables() {
            // What is in a memtable was recorded after all that is in older ones.
            if let Some(found) = newest_in_memory(memtable, key, view) {
                return Ok(Some(found));
            }
        }
        let mut newest: Option<Newest> = None;
        // Damage matters only if nothing newer is found elsewhere.
        let mut unread: Option<(Stamp, StoreError)> = None;
        for segment in self.segments.iter().rev() {
            if newest
                .as_ref()
                .is_some_and(|n| n.recorded >= segment.meta().max_recorded)
            {
                continue;
            }
            let found = match segment.newest(key) {
                Err(error) if error.is_damage() => {
                    let last = segment.meta().max_recorded;
                    if unread.as_ref().is_none_or(|(before, _)| *before < last) {
                        unread = Some((last, error));
                    }
                    continue;
                }
                found => found?,
            };
            if let Some((page, row, recorded, kind)) = found {
                if newest.as_ref().is_none_or(|n| n.recorded < recorded) {
                    newest = Some(Newest {
                        recorded,
                        kind,
                        place: Place::Segment(segment.clone(), page, row),
                    });
                }
            }
        }
        match unread {
            Some((last, error)) if newest.as_ref().is_none_or(|n| n.recorded < last) => Err(error),
            _ => Ok(newest),
        }
    }

    /// As [`newest`](Self::newest), of what is not expired.
    pub(crate) fn newest_unexpired(
        &self,
        key: &[u8],
        view: Stamp,
        retained: &Retained,
    ) -> Result<Option<Newest>, StoreError> {
        let Some(newest) = self.newest(key, view)? else {
            return Ok(None);
        };
        let expired = retained.expired(&self.schema, key, newest.recorded)?;
        Ok((!expired).then_some(newest))
    }

    /// The same, of what no truncation took away either.
    pub(crate) fn newest_retained(
        &self,
        key: &[u8],
        view: Stamp,
        retained: &Retained,
    ) -> Result<Option<Newest>, StoreError> {
        let horizon = self.horizon(view);
        let newest = self.newest_unexpired(key, view, retained)?;
        Ok(newest.filter(|n| n.recorded >= horizon))
    }

    fn has_deletes(&self) -> bool {
        self.memtables().any(|m| m.rows.deletes() > 0)
            || self.segments.iter().any(|s| s.meta().has_deletes)
    }

    /// When what was recorded before is gone at `at`.
    pub(crate) fn horizon(&self, at: Stamp) -> Stamp {
        horizon(&self.truncated, at)
    }

    /// Which of sorted, distinct keys have a current row that is not expired; `None`: none
    /// has.
    pub(crate) fn present(
        &self,
        keys: &Keys,
        ranges: &KeyRanges,
        retained: &Retained,
    ) -> Result<Option<Vec<bool>>, StoreError> {
        let mut newest = NewestOf {
            count: keys.len(),
            found: Vec::new(),
        };
        for memtable in self.memtables() {
            if !memtable.rows.is_empty() {
                memtable
                    .rows
                    .for_each_common(keys, |i, recorded, kind| newest.saw(i, recorded, kind));
            }
            for run in memtable.runs().iter() {
                if !run.ranges.disjoint(ranges) {
                    run.for_each_common(keys, |i, recorded| newest.saw(i, recorded, Kind::Put));
                }
            }
        }
        let horizon = self.horizon(Stamp::MAX).max(retained.floor);
        let wanted = if horizon == Stamp::MIN && !self.has_deletes() {
            Wanted::Presence
        } else {
            Wanted::Stamps
        };
        for segment in &self.segments {
            if !segment.ranges.disjoint(ranges) {
                segment.for_each_common(keys, wanted, |i, recorded, kind| {
                    newest.saw(i, recorded, kind)
                })?;
            }
        }
        if newest.found.is_empty() {
            return Ok(None);
        }
        let present = |found: &Option<(Stamp, Kind)>| matches!(found, Some((recorded, Kind::Put)) if *recorded >= horizon);
        let mut found: Vec<bool> = newest.found.iter().map(present).collect();
        if retained.time.is_some() {
            for (i, found) in found.iter_mut().enumerate() {
                *found = *found && !retained.expired(&self.schema, keys.get(i), Stamp::MAX)?;
            }
        }
        Ok(Some(found))
    }
}

/// Whether a run of history, whose earliest version was recorded at `min_recorded`, has
/// anything to do with what a resolution sees.
fn needs_run(
    superseded: Superseded,
    min_recorded: Stamp,
    resolution: Resolution,
    wants: Wants,
) -> bool {
    let visible_before = Stamp(superseded.last);
    match resolution {
        // What was recorded later may still be the end of what is seen.
        Resolution::Snapshot { at } => {
            visible_before > at && (min_recorded <= at || wants.system_to)
        }
        Resolution::History { from, to, .. } => {
            visible_before > from && (min_recorded <= to || wants.system_to)
        }
        Resolution::Everything => true,
    }
}

/// Collects the newest version seen of each key; empty until one is seen.
struct NewestOf {
    count: usize,
    found: Vec<Option<(Stamp, Kind)>>,
}

impl NewestOf {
    fn saw(&mut self, i: usize, recorded: Stamp, kind: Kind) {
        if self.found.is_empty() {
            self.found.resize(self.count, None);
        }
        if self.found[i].is_none_or(|(before, _)| before < recorded) {
            self.found[i] = Some((recorded, kind));
        }
    }
}

fn newest_in_memory(memtable: &Memtable, key: &[u8], view: Stamp) -> Option<Newest> {
    let row = memtable.rows.newest(key, view);
    let mut newest = row.map(|(recorded, version)| Newest {
        recorded,
        kind: version.kind,
        place: Place::Row(version.row),
    });
    for run in memtable.runs().iter() {
        if let Some((row, recorded)) = run.newest(key, view) {
            if newest.as_ref().is_none_or(|n| n.recorded < recorded) {
                newest = Some(Newest {
                    recorded,
                    kind: Kind::Put,
                    place: Place::Run(run.clone(), row),
                });
            }
        }
    }
    newest
}
