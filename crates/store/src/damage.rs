//! What becomes of a store with files that cannot be read.
//!
//! A damaged segment stays in its place, and the manifest goes on naming it: what it held is
//! not forgotten, and the file can be put back. Every read that needs the damaged part
//! fails on its own; nothing else notices. Compaction leaves the file alone.
//!
//! Applying cannot decide a precondition that needs the damaged part. Write sets that are
//! known to need it are refused before they are logged; of those that are in the log already,
//! the owner of the log decides (docs/decisions/0037).

use std::path::Path;
use std::sync::Arc;

use chronos_env::{is_medium_error, Env};
use chronos_model::{TableId, TableSchema};

use crate::apply;
use crate::error::{ApplyError, Reason, StoreError};
use crate::foreign_keys::neighbours;
use crate::prepare::PreparedWriteSet;
use crate::segment::{Damage, PageCache, Segment, SegmentError, SegmentMeta};
use crate::state::StoreState;
use crate::store::Store;

/// Opens a segment that the manifest names. One that is damaged or missing is opened as
/// lost: what needs it fails, and everything else goes on.
pub(crate) fn open_segment(
    env: &Env,
    path: &Path,
    schema: &TableSchema,
    meta: &SegmentMeta,
    cache: &Arc<PageCache>,
) -> Result<Arc<Segment>, StoreError> {
    let opened = Segment::open(env, path, schema, cache.clone());
    let error = match opened {
        Ok(segment) if is_described_by(segment.meta(), meta) => return Ok(segment),
        Ok(_) => other_than_described(path),
        Err(error) if is_loss(&error) => error,
        Err(error) => return Err(error.into()),
    };
    Ok(Segment::lost(path, schema, meta, cache.clone(), &error))
}

fn is_described_by(found: &SegmentMeta, named: &SegmentMeta) -> bool {
    (found.id, found.table, found.rows, found.bytes)
        == (named.id, named.table, named.rows, named.bytes)
}

fn other_than_described(path: &Path) -> SegmentError {
    SegmentError::Damaged {
        table: None,
        path: path.to_owned(),
        page: None,
        offset: 0,
        reason: "it is not the segment that the manifest describes".into(),
    }
}

/// Whether an error means that the bytes are gone, and not that something else (a right
/// that is missing, a newer format) keeps us from them.
fn is_loss(error: &SegmentError) -> bool {
    match error {
        SegmentError::Damaged { .. } | SegmentError::SchemaMismatch { .. } => true,
        SegmentError::Io { source, .. } => {
            source.kind() == std::io::ErrorKind::NotFound || is_medium_error(source)
        }
        _ => false,
    }
}

impl Store {
    /// The segments that were found to be damaged, by table and path. A file that is read
    /// well at the next open is whole again.
    pub fn damage(&self) -> Vec<Damage> {
        let state = self.shared().published.read().state.clone();
        let files = state.tables.values().flat_map(|table| table.files());
        let mut found: Vec<Damage> = files.filter_map(|file| file.damage().cloned()).collect();
        found.sort_by(|a, b| (&a.table, &a.path).cmp(&(&b.table, &b.path)));
        found
    }

    /// Whether a write set may be logged: errors if the store has stopped, or if a
    /// precondition needs what is known to be damaged here. What becomes of the
    /// other preconditions is found when it is applied.
    pub fn check_writable(&self, set: &PreparedWriteSet) -> Result<(), StoreError> {
        self.shared().check_usable()?;
        let (state, stamp) = {
            let shared = self.shared();
            let published = shared.published.read();
            (published.state.clone(), published.stamp)
        };
        let mut looked_at = set.tables();
        let written = looked_at.iter().filter_map(|id| state.tables.get(id));
        let neighbours: Vec<TableId> = written.flat_map(|t| neighbours(t)).collect();
        looked_at.extend(neighbours);
        if !looked_at.into_iter().any(|id| is_damaged(&state, id)) {
            return Ok(());
        }
        match apply::check(&state, set, stamp, stamp) {
            Err(ApplyError::Storage(error)) if error.is_damage() => Err(error),
            _ => Ok(()),
        }
    }

    /// Refuses all reads of tables from now on: entries of the log that change them
    /// cannot be applied, so that what is stored of them is not what was committed.
    pub fn hold_back(&self, tables: impl Iterator<Item = TableId>, reason: &StoreError) {
        let reason = Reason::from(reason);
        let tables: Vec<TableId> = tables.collect();
        self.shared().update(|state| {
            state.with_tables(|known| {
                for id in &tables {
                    if let Some(table) = known.get_mut(id) {
                        Arc::make_mut(table).held_back = Some(reason.clone());
                    }
                }
            })
        });
    }
}

fn is_damaged(state: &StoreState, id: TableId) -> bool {
    let Some(table) = state.tables.get(&id) else {
        return false;
    };
    let indexes = table.indexes.iter().filter_map(|i| state.tables.get(&i.id));
    let mut files = indexes.chain([table]).flat_map(|table| &table.segments);
    // What is inserted for the past is compared with what was true then.
    let mut history = table.history.iter().filter(|_| table.has_periods());
    files.any(|file| file.has_lost_versions()) || history.any(|file| file.has_lost_versions())
}
