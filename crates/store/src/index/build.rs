//! Building an index: entries of all versions from before it was created, history too.
//!
//! From the entry that creates an index on, applying adds what is new; so the builder takes
//! what was recorded up to then, from a state that is at least as new, and no writer waits.
//!
//! ```text
//!   create (building) -> flush -> versions up to the creation -> sorted, segment by segment
//!                                                                   -> one manifest edit
//! ```
//!
//! The flush comes first so that no manifest names segments of an index it does not know. A
//! crash before the edit leaves orphans; one after it, but before the index moves on, leads to
//! a second build, whose entries are the same and collapse with the first ones'.
//!
//! Every node of a cluster builds by itself, and the log says when an index moves on. A node that
//! has not finished by then finishes before it applies that: what is unique, and what a query finds
//! by an index, is decided on entries that are all there.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt8Type;
use chronos_model::{IndexSchema, IndexState, Keys, NodeId, Stamp, TableId, TableSchema, Value};

use super::entries::{entries_run, prefixes};
use super::scan::ENTRY;
use super::unique::{has_values, SeenAt};
use crate::erase::ERASE;
use crate::error::StoreError;
use crate::history::{SplitRules, Splitter};
use crate::manifest::{Compact, Edit};
use crate::merge::{MergeRequest, Merger, Resolution, Source, Wants};
use crate::prepare::{Prepared, PreparedWriteSet};
use crate::read_view::ReadView;
use crate::scan::{KeyRange, ScanRequest};
use crate::segment::{PageColumn, SegmentId};
use crate::state::{SegmentFile, StoreState, TableState};
use crate::store::{Shared, Store};
use crate::write::Urgency;

/// Bytes of entries that are sorted in memory, and become one segment, at most.
const SORTED_BYTES_MAX: u64 = 32 << 20;
/// They take this part of what the background works with: sorting copies them.
const SORTED_PART: u64 = 4;
const BATCH_ROWS: usize = 8192;

/// Two current rows that a unique index does not allow.
#[derive(Clone, PartialEq, Debug)]
pub struct Duplicate {
    /// The values that both have.
    pub values: Vec<Value>,
}

impl Store {
    /// Adds the entries of all versions from before an index was created. Takes as long as
    /// reading the table does; call it off the applying thread. An index that is dropped
    /// meanwhile is left alone, and so is one that was built before.
    pub fn build_index(&self, id: TableId) -> Result<(), StoreError> {
        self.shared().build(id)
    }

    /// Two current rows with the same values in a unique index that is complete and enforced;
    /// `None`: there are none, or the index was dropped.
    pub fn find_duplicate(&self, id: TableId) -> Result<Option<Duplicate>, StoreError> {
        duplicate(&self.read_view(), id, || self.shared().check_usable())
    }
}

impl ReadView {
    /// Two rows that the view shows with the same values in a unique index that is complete in
    /// it; `None`: there are none, or no such index.
    pub fn find_duplicate(&self, id: TableId) -> Result<Option<Duplicate>, StoreError> {
        duplicate(self, id, || Ok(()))
    }
}

/// Looks through a view for a duplicate, as long as `may_go_on`.
fn duplicate(
    view: &ReadView,
    id: TableId,
    may_go_on: impl Fn() -> Result<(), StoreError>,
) -> Result<Option<Duplicate>, StoreError> {
    let Some((index, table)) = indexed(view.state(), id) else {
        return Ok(None);
    };
    let request = ScanRequest {
        columns: ENTRY.to_vec(),
        ..ScanRequest::default()
    };
    let entries = Arc::new(index.entry_table());
    let mut search = Search {
        index: &index,
        table: &table,
        seen_at: SeenAt {
            view: view.stamp(),
            retained: view.retained(&table),
        },
        prefix: Vec::new(),
        seen: Seen::NoRow,
    };
    for partition in view.scan(&entries, request)? {
        for batch in partition {
            may_go_on()?;
            let batch = batch?;
            let entries = batch.column(0).as_binary_view();
            for entry in entries.iter().flatten() {
                if let Some(found) = search.entry(entry)? {
                    return Ok(Some(found));
                }
            }
        }
    }
    Ok(None)
}

/// Adds the entries of all versions recorded up to `created` to the memtable of an index, which
/// is new, and as of then; returns the bytes they take.
pub(crate) fn complete(
    state: &StoreState,
    id: TableId,
    created: Stamp,
    node: NodeId,
) -> Result<u64, StoreError> {
    let Some((index, table)) = indexed(state, id) else {
        return Ok(0);
    };
    let Some(entry_table) = state.tables.get(&id) else {
        return Ok(0);
    };
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let may_go_on = || Ok(());
    each_entry(&index, &table, created, may_go_on, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    entries.sort_unstable();
    entries.dedup();
    let mut keys = Keys::default();
    entries.iter().for_each(|entry| keys.push(entry));
    if keys.is_empty() {
        return Ok(0);
    }
    let run = entries_run(keys, created, node);
    let bytes = run.bytes;
    entry_table.active.push(run)?;
    Ok(bytes)
}

/// Gives the entries of all versions of a table that were recorded up to `created`; some more
/// than once.
pub(super) fn each_entry(
    index: &IndexSchema,
    table: &TableState,
    created: Stamp,
    may_go_on: impl Fn() -> Result<(), StoreError>,
    mut give: impl FnMut(Vec<u8>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let inputs = index.inputs().into_iter().map(PageColumn::Column);
    let columns = std::iter::once(PageColumn::Kind).chain(inputs).collect();
    let request = MergeRequest::everything(table.schema.clone(), columns, BATCH_ROWS);
    let sources = table.sources(Resolution::Everything, Wants::default());
    let mut merger = Merger::open(Arc::new(request), sources.into_iter(), &KeyRange::ALL)?;
    let mut erased: Option<Vec<u8>> = None;
    while let Some(merged) = merger.next_batch()? {
        may_go_on()?;
        let kinds = merged.columns[0].as_primitive::<UInt8Type>();
        let prefixes = prefixes(index, table, &merged.columns[1..])?;
        for row in 0..merged.rows {
            let is_older = merged.recorded[row] <= created.0;
            if kinds.value(row) == ERASE {
                erased = Some(merged.keys.get(row).to_vec());
            }
            // The newest of a key come first.
            if erased.as_deref() == Some(merged.keys.get(row)) {
                continue;
            }
            match prefixes.get(row) {
                Some(prefix) if is_older && kinds.value(row) == 0 => {
                    give([prefix, merged.keys.get(row)].concat())?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) fn indexed(
    state: &StoreState,
    id: TableId,
) -> Option<(Arc<IndexSchema>, Arc<TableState>)> {
    let index = state.catalog.index_by_id(id)?;
    let table = state.tables.get(&index.table)?;
    Some((index.clone(), table.clone()))
}

/// Looks at entries in order for two rows that have the same values now. Most values are those
/// of one entry, whose row need not be looked at.
struct Search<'a> {
    index: &'a IndexSchema,
    table: &'a TableState,
    seen_at: SeenAt,
    /// The values of the entries before.
    prefix: Vec<u8>,
    seen: Seen,
}

/// What is known of rows with the values at hand.
enum Seen {
    /// One entry has them; the key of its row.
    Entry(Vec<u8>),
    /// No row has them.
    NoRow,
    /// A row has them.
    Row,
    /// There is a NULL among them: they are never the same.
    Null,
}

impl Search<'_> {
    fn entry(&mut self, entry: &[u8]) -> Result<Option<Duplicate>, StoreError> {
        let schema = &self.table.schema;
        let (prefix, key) = entry.split_at(self.index.key_start(schema, entry)?);
        if prefix != self.prefix {
            self.prefix = prefix.to_vec();
            self.seen = Seen::Entry(key.to_vec());
            return Ok(None);
        }
        if let Seen::Entry(first) = &self.seen {
            let values = self.index.values_of_prefix(schema, prefix)?;
            self.seen = if values.iter().any(Value::is_null) {
                Seen::Null
            } else if self.is_row(first)? {
                Seen::Row
            } else {
                Seen::NoRow
            };
        }
        if matches!(self.seen, Seen::Null) || !self.is_row(key)? {
            return Ok(None);
        }
        if matches!(self.seen, Seen::Row) {
            let values = self.index.values_of_prefix(schema, prefix)?;
            return Ok(Some(Duplicate { values }));
        }
        self.seen = Seen::Row;
        Ok(None)
    }

    fn is_row(&self, key: &[u8]) -> Result<bool, StoreError> {
        has_values(self.table, self.index, key, &self.prefix, &self.seen_at)
    }
}

/// Whether an index has the entries of all versions from before it was created. They were
/// published together, and nothing else in it is as old.
fn is_built(state: &StoreState, index: &IndexSchema) -> bool {
    let entries = state.tables.get(&index.id);
    let mut files = entries.iter().flat_map(|entries| entries.files());
    files.any(|file| file.meta().min_recorded <= index.created())
}

impl Shared {
    /// Before a set is applied that moves indexes on: sees to it that they are built here. Holds
    /// no lock that whoever is building one needs.
    pub(crate) fn build_moved(&self, set: &PreparedWriteSet) -> Result<(), StoreError> {
        for change in &set.changes {
            if let Prepared::SetIndexState(id, _) = change {
                self.build(*id)?;
            }
        }
        Ok(())
    }

    fn build(&self, id: TableId) -> Result<(), StoreError> {
        // Until it is done: who comes second waits for the first.
        let mut built = self.built.lock();
        let state = self.published.read().state.clone();
        let Some((index, _)) = indexed(&state, id) else {
            return Ok(());
        };
        let is_on_its_way = index.state == IndexState::Building;
        if !is_on_its_way || built.contains(&id) || is_built(&state, &index) {
            return Ok(());
        }
        self.freeze()?;
        self.flush_frozen()?;
        let state = self.published.read().state.clone();
        let Some((index, table)) = indexed(&state, id) else {
            return Ok(());
        };
        let files = self.write_entries(&index, &table)?;
        self.publish_entries(id, &files)?;
        built.insert(id);
        Ok(())
    }

    /// Writes segments of entries; the manifest does not know them yet.
    fn write_entries(
        &self,
        index: &IndexSchema,
        table: &TableState,
    ) -> Result<Vec<Arc<SegmentFile>>, StoreError> {
        let mut writer = EntryWriter {
            shared: self,
            schema: Arc::new(index.entry_table()),
            created: index.created(),
            entries: Vec::new(),
            bytes: 0,
            files: Vec::new(),
        };
        let result = writer.all(index, table).and_then(|()| writer.flush());
        let files = std::mem::take(&mut writer.files);
        match result {
            Ok(()) => Ok(files),
            Err(error) => {
                self.release(&ids(&files));
                Err(error)
            }
        }
    }

    /// Makes segments of entries part of the store, unless their index was dropped.
    fn publish_entries(&self, id: TableId, files: &[Arc<SegmentFile>]) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        self.sync_segments()?;
        let mut manifest = self.manifest.lock();
        if !manifest.state().catalog.stores(id) {
            drop(manifest);
            self.release(&ids(files));
            return Ok(());
        }
        let edit = Edit::Compact(Compact {
            next_segment_id: manifest.state().next_segment_id,
            removed: Vec::new(),
            added: files.iter().map(|file| file.entry()).collect(),
        });
        self.publish_edit(&mut manifest, edit)?;
        self.update_files(|state| {
            state.with_files(id, |table| {
                files.iter().try_for_each(|file| table.add_file(file))
            })
        })?;
        drop(manifest);
        self.signals.wake();
        Ok(())
    }
}

fn ids(files: &[Arc<SegmentFile>]) -> Vec<SegmentId> {
    files.iter().map(|file| file.meta().id).collect()
}

/// Gathers entries, sorts them and writes them as segments.
struct EntryWriter<'a> {
    shared: &'a Shared,
    schema: Arc<TableSchema>,
    created: Stamp,
    entries: Vec<Box<[u8]>>,
    bytes: usize,
    files: Vec<Arc<SegmentFile>>,
}

impl EntryWriter<'_> {
    fn all(&mut self, index: &IndexSchema, table: &TableState) -> Result<(), StoreError> {
        let shared = self.shared;
        let may_go_on = || shared.check_usable();
        each_entry(index, table, self.created, may_go_on, |entry| {
            self.add(entry)
        })
    }

    fn add(&mut self, entry: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += entry.len() + size_of::<Box<[u8]>>();
        self.entries.push(entry.into());
        let part = self.shared.options.background_bytes / SORTED_PART;
        if (self.bytes as u64) < part.min(SORTED_BYTES_MAX) {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable();
        entries.dedup();
        if entries.is_empty() {
            return Ok(());
        }
        let mut keys = Keys::default();
        entries.iter().for_each(|entry| keys.push(entry));
        let run = entries_run(keys, self.created, NodeId(0));
        let sources = vec![Source::Run(Arc::new(run))];
        let rules = SplitRules::new(&self.schema, Arc::from([]), self.created);
        let splitter = Splitter::new(self.created, self.created, rules);
        let files =
            self.shared
                .write_split(&self.schema, sources, splitter, None, Urgency::Background)?;
        let bytes = files.iter().map(|file| file.meta().bytes).sum();
        self.shared
            .counters
            .flush_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        tracing::info!(
            index = self.schema.name,
            entries = entries.len(),
            "a part of an index is built"
        );
        self.files.extend(files);
        Ok(())
    }
}
