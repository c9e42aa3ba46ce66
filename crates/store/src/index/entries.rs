//! Adding entries to an index, finding those that begin with some values, counting them.

use std::sync::Arc;

use chronos_model::{
    decode_row, Catalog, EntryPrefixes, IndexSchema, Keys, Kind, NodeId, RowChange, Stamp, TableId,
};
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use crate::error::StoreError;
use crate::first::FirstVersions;
use crate::foreign_keys::Search;
use crate::memtable::{key_of, recorded_of, KeyRanges, Memtable, RowVersion, Run};
use crate::scan::KeyRange;
use crate::state::{SegmentFile, StoreState, TableState};

/// Adds the entries of a row; returns the bytes they take.
pub(crate) fn add_row(
    state: &StoreState,
    table: &TableState,
    key: &[u8],
    change: &RowChange,
    recorded: Stamp,
    node: NodeId,
) -> Result<u64, StoreError> {
    if table.indexes.is_empty() || change.kind != Kind::Put {
        return Ok(0);
    }
    let row = decode_row(&table.schema, &change.row)?;
    let mut bytes = 0;
    for index in table.indexes.iter() {
        let Some(prefix) = index.prefix_of_row(&table.schema, &row)? else {
            continue;
        };
        let Some(entries) = state.tables.get(&index.id) else {
            continue;
        };
        let mut entry = prefix.bytes;
        entry.extend_from_slice(key);
        let version = RowVersion {
            valid: None,
            node,
            kind: Kind::Put,
            is_first: false,
            row: Bytes::new(),
        };
        bytes += entries.active.rows.insert(&entry, recorded, version);
    }
    Ok(bytes)
}

/// Adds the entries of a batch; returns the bytes they take.
pub(crate) fn add_run(
    state: &StoreState,
    table: &TableState,
    run: &Run,
    recorded: Stamp,
    node: NodeId,
) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for index in table.indexes.iter() {
        let Some(entries) = state.tables.get(&index.id) else {
            continue;
        };
        let columns = index.inputs();
        let columns: Vec<_> = columns.iter().map(|c| run.columns()[*c].clone()).collect();
        let prefixes = prefixes(index, table, &columns)?;
        let keys = sorted_entries(&prefixes, run.keys());
        if keys.is_empty() {
            continue;
        }
        let run = entries_run(keys, recorded, node);
        bytes += run.bytes;
        entries.active.push(run)?;
    }
    Ok(bytes)
}

/// A run of sorted, distinct entries.
pub(crate) fn entries_run(entries: Keys, recorded: Stamp, node: NodeId) -> Run {
    let ranges = KeyRanges::default();
    let first = FirstVersions::None;
    Run::of_batch(Arc::new(entries), Vec::new(), ranges, recorded, node, first)
}

/// The prefixes of rows whose columns are the index's inputs.
pub(super) fn prefixes(
    index: &IndexSchema,
    table: &TableState,
    inputs: &[arrow_array::ArrayRef],
) -> Result<EntryPrefixes, StoreError> {
    index
        .prefixes_of_columns(&table.schema, inputs)
        .map_err(|error| match error {
            chronos_model::KeyError::Data(error) => StoreError::Data(error),
            null => StoreError::Columns(null.to_string()),
        })
}

/// The entries of rows, those without one left out.
fn sorted_entries(prefixes: &EntryPrefixes, keys: &Keys) -> Keys {
    let mut entries: Vec<Vec<u8>> = (0..keys.len())
        .filter_map(|row| Some([prefixes.get(row)?, keys.get(row)].concat()))
        .collect();
    entries.sort_unstable();
    let mut sorted = Keys::default();
    entries.iter().for_each(|entry| sorted.push(entry));
    sorted
}

/// Tells every table which indexes it has, and which tables refer to it, as the catalog says.
pub(crate) fn attach(tables: &mut HashMap<TableId, Arc<TableState>>, catalog: &Catalog) {
    let mut referring: HashMap<TableId, BTreeSet<TableId>> = HashMap::new();
    for child in catalog.tables.values() {
        for key in &child.rules.foreign_keys {
            referring.entry(key.table).or_default().insert(child.id);
        }
    }
    for (id, table) in tables.iter_mut() {
        let referenced_by: Vec<TableId> =
            referring.get(id).into_iter().flatten().copied().collect();
        let mut indexes: Vec<_> = catalog.indexes_of(*id).collect();
        // The oldest first: of several that a row violates it is the one named.
        indexes.sort_by_key(|index| index.id);
        let has_same = table.indexes.iter().eq(indexes.iter().copied());
        if has_same && *table.referenced_by == *referenced_by {
            continue;
        }
        let mut next = TableState::clone(table);
        next.indexes = indexes.into_iter().cloned().collect();
        next.referenced_by = referenced_by.into();
        *table = Arc::new(next);
    }
}

/// The entries of an index that begin with `prefix` and were added at or before `view`,
/// sorted and each once. Cheap where there are few: no merge is set up.
pub(super) fn with_prefix(
    entries: &TableState,
    prefix: &[u8],
    view: Stamp,
) -> Result<Vec<Box<[u8]>>, StoreError> {
    let mut found: Vec<Box<[u8]>> = Vec::new();
    for_each_with_prefix(entries, prefix, view, |entry| {
        found.push(entry.into());
        Ok(Search::GoesOn)
    })?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Calls `visit` with the keys of a table that begin with `prefix`, until it has enough: those of
/// one source after those of another, so that one may come more than once.
pub(crate) fn for_each_with_prefix(
    entries: &TableState,
    prefix: &[u8],
    view: Stamp,
    mut visit: impl FnMut(&[u8]) -> Result<Search, StoreError>,
) -> Result<(), StoreError> {
    for memtable in entries.memtables() {
        if in_memory(memtable, prefix, view, &mut visit)? == Search::Ends {
            return Ok(());
        }
    }
    for segment in &entries.segments {
        // What is in a segment was applied before the state was published.
        if in_segment(segment, prefix, &mut visit)? == Search::Ends {
            return Ok(());
        }
    }
    Ok(())
}

fn in_memory(
    memtable: &Memtable,
    prefix: &[u8],
    view: Stamp,
    visit: &mut impl FnMut(&[u8]) -> Result<Search, StoreError>,
) -> Result<Search, StoreError> {
    let mut entry = memtable.rows.at_or_after(prefix);
    while let Some(at) = entry.filter(|e| key_of(e.key()).starts_with(prefix)) {
        if recorded_of(at.key()) <= view && visit(key_of(at.key()))? == Search::Ends {
            return Ok(Search::Ends);
        }
        entry = at.next();
    }
    for run in memtable.runs().iter() {
        let keys = run.keys();
        let rows = keys.lower_bound(prefix)..keys.len();
        let rows = rows.take_while(|row| keys.get(*row).starts_with(prefix));
        for row in rows.filter(|row| run.recorded(*row) <= view) {
            if visit(keys.get(row))? == Search::Ends {
                return Ok(Search::Ends);
            }
        }
    }
    Ok(Search::GoesOn)
}

fn in_segment(
    segment: &SegmentFile,
    prefix: &[u8],
    visit: &mut impl FnMut(&[u8]) -> Result<Search, StoreError>,
) -> Result<Search, StoreError> {
    let pages = segment.pages();
    let first = pages.partition_point(|page| *page.max_key < *prefix);
    for (page, meta) in pages.iter().enumerate().skip(first) {
        if *meta.min_key > *prefix && !meta.min_key.starts_with(prefix) {
            break;
        }
        let keys = segment.read_keys(page)?;
        let rows = keys.lower_bound(prefix)..keys.len();
        for row in rows.take_while(|row| keys.get(*row).starts_with(prefix)) {
            if visit(keys.get(row))? == Search::Ends {
                return Ok(Search::Ends);
            }
        }
    }
    Ok(Search::GoesOn)
}

/// How many entries are in a range, counting no further than `enough`. Entries that are
/// stored twice count twice.
pub(crate) fn count(
    entries: &TableState,
    range: &KeyRange,
    enough: u64,
) -> Result<u64, StoreError> {
    if range.is_empty() {
        return Ok(0);
    }
    let mut sum = 0u64;
    for segment in &entries.segments {
        let pages = segment.pages();
        let first = pages.partition_point(|p| !range.reaches_up_to(&p.max_key));
        for (number, page) in pages.iter().enumerate().skip(first) {
            if sum >= enough || !range.reaches_down_to(&page.min_key) {
                break;
            }
            sum += match range.contains(&page.min_key) && range.contains(&page.max_key) {
                true => u64::from(page.rows),
                false => {
                    let keys = segment.read_keys(number)?;
                    range.positions(keys.len(), |i| keys.get(i)).len() as u64
                }
            };
        }
    }
    for run in entries.memtables().flat_map(|m| m.runs().to_vec()) {
        let keys = run.keys();
        sum += range.positions(keys.len(), |i| keys.get(i)).len() as u64;
    }
    // Last, because these are counted one by one.
    for memtable in entries.memtables() {
        let mut entry = memtable.rows.first(&range.lower);
        while let Some(at) = entry.filter(|e| range.reaches_down_to(key_of(e.key()))) {
            if sum >= enough {
                return Ok(sum);
            }
            sum += 1;
            entry = at.next();
        }
    }
    Ok(sum)
}
