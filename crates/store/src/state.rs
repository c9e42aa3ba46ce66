//! What the store consists of at one moment: tables, and for each its memtables and
//! segments. Immutable but for the active memtables, so a reader clones one `Arc`.

mod segment_file;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use chronos_model::{Catalog, IndexSchema, Keys, Kind, Stamp, TableId, TableSchema};

pub(crate) use segment_file::SegmentFile;
use segment_file::Wanted;

use crate::error::StoreError;
use crate::history::Superseded;
use crate::memtable::{KeyRanges, Memtable, Run};
use crate::merge::{horizon, Resolution, Source, Wants};
use crate::segment::SegmentId;

/// All tables at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreState {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tables: Arc<HashMap<TableId, Arc<TableState>>>,
}

impl StoreState {
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

    /// Takes a segment up.
    pub(crate) fn add_file(&mut self, file: Arc<SegmentFile>) {
        match file.superseded {
            None => self.segments.push(file),
            Some(_) => self.history.push(file),
        }
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
        for segment in &self.segments {
            if newest
                .as_ref()
                .is_some_and(|n| n.recorded >= segment.meta().max_recorded)
            {
                continue;
            }
            if let Some((page, row, recorded, kind)) = segment.newest(key)? {
                if newest.as_ref().is_none_or(|n| n.recorded < recorded) {
                    newest = Some(Newest {
                        recorded,
                        kind,
                        place: Place::Segment(segment.clone(), page, row),
                    });
                }
            }
        }
        Ok(newest)
    }

    fn has_deletes(&self) -> bool {
        self.memtables().any(|m| m.rows.deletes() > 0)
            || self.segments.iter().any(|s| s.meta().has_deletes)
    }

    /// When what was recorded before is gone at `at`.
    pub(crate) fn horizon(&self, at: Stamp) -> Stamp {
        horizon(&self.truncated, at)
    }

    /// Which of sorted, distinct keys have a current row; `None`: none has.
    pub(crate) fn present(
        &self,
        keys: &Keys,
        ranges: &KeyRanges,
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
        let horizon = self.horizon(Stamp::MAX);
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
        Ok(Some(newest.found.iter().map(present).collect()))
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
