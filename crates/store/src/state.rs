//! What the store consists of at one moment: tables, and for each its memtables and
//! segments. Immutable but for the active memtables, so a reader clones one `Arc`.

mod directory;
mod newest;
mod segment_file;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_buffer::BooleanBuffer;
use bytes::Bytes;
use chronos_model::{Catalog, IndexSchema, Keys, Kind, Stamp, TableId, TableSchema};

pub(crate) use directory::Directory;
use segment_file::Wanted;
pub(crate) use segment_file::{FileName, SegmentFile};

use crate::error::{Reason, StoreError};
use crate::first::FirstVersions;
use crate::history::Superseded;
use crate::memtable::{KeyRanges, Memtable, Run};
use crate::merge::{horizon, Resolution, Source, Wants};
use crate::retention::Retained;
use crate::scan::ScanShape;
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
    /// The tables with foreign keys to it, in order.
    pub(crate) referenced_by: Arc<[TableId]>,
}

/// The newest version of a key, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) recorded: Stamp,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// What is stored of some keys.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Which have a current row that is not expired.
    pub(crate) present: Vec<bool>,
    /// Of which there is nothing at all: a new version is the first.
    pub(crate) unknown: FirstVersions,
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
            referenced_by: Arc::from([]),
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

    /// Whether versions are true for periods of their own.
    pub(crate) fn has_periods(&self) -> bool {
        self.memtables().any(|m| m.has_periods()) || self.files().any(|file| file.has_periods)
    }

    /// Everything that a scan of a shape must look at.
    pub(crate) fn sources_for(&self, shape: &ScanShape) -> Vec<Source> {
        match shape.asks_for_valid_time {
            false => self.sources(shape.resolution, shape.wants),
            // What was superseded for the present is still true of the past.
            true => self.sources(Resolution::Everything, shape.wants),
        }
    }

    /// Everything to look at for what is true now as a resolution says.
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

    /// As [`newest`](Self::newest), of what is not expired.
    pub(crate) fn newest_unexpired(
        &self,
        key: &[u8],
        view: Stamp,
        retained: &Retained,
    ) -> Result<Option<Newest>, StoreError> {
        self.unexpired(key, self.newest(key, view)?, retained)
    }

    /// The newest version of a key, if it is not expired.
    pub(crate) fn unexpired(
        &self,
        key: &[u8],
        newest: Option<Newest>,
        retained: &Retained,
    ) -> Result<Option<Newest>, StoreError> {
        let Some(newest) = newest else {
            return Ok(None);
        };
        let expired = retained.expired(&self.schema, key, newest.recorded)?;
        Ok((!expired).then_some(newest))
    }

    /// Whether nothing is stored of any key with values in these ranges, as far as that can
    /// be told without looking for it.
    pub(crate) fn is_apart_from(&self, ranges: &KeyRanges) -> bool {
        let apart = |memtable: &Arc<Memtable>| {
            let runs = memtable.runs();
            memtable.rows.is_empty() && runs.iter().all(|run| run.ranges.disjoint(ranges))
        };
        self.memtables().all(apart) && self.segments.iter().all(|s| s.ranges.disjoint(ranges))
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

    /// What is stored of sorted, distinct keys; `None`: nothing of any.
    pub(crate) fn stored(
        &self,
        keys: &Keys,
        ranges: &KeyRanges,
        retained: &Retained,
    ) -> Result<Option<Stored>, StoreError> {
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
        let unknown: BooleanBuffer = newest.found.iter().map(Option::is_none).collect();
        let mut found: Vec<bool> = newest.found.iter().map(present).collect();
        if retained.time.is_some() {
            for (i, found) in found.iter_mut().enumerate() {
                *found = *found && !retained.expired(&self.schema, keys.get(i), Stamp::MAX)?;
            }
        }
        Ok(Some(Stored {
            present: found,
            unknown: unknown.into(),
        }))
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
