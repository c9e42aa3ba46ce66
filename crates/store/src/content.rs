//! Hashes of content: the same on every replica that has applied the same entries, however each
//! has flushed, compacted, grouped and encoded what it has.
//!
//! Hashed is, of each table in the order of keys and from new to old, every version that each
//! replica still must have: key, origin, stamp, valid time, kind, values. Replicas let go of what
//! retention allows, each when it comes by, so what *may* be gone does not count:
//!
//! - rows that are expired;
//! - versions superseded at or before the table's history horizon, or ended by a truncation then;
//! - deletes recorded at or before it, which hide nothing that is left;
//! - what is erased, and the erasures;
//! - of a table that keeps so many old versions of a row, those beyond, and the cuts; of one
//!   that once kept fewer, all superseded by then.
//!
//! Retention goes by the last commit. For a hash as of a stamp it is reckoned as of a moment
//! `retained_at` that no replica has passed, so that none has let go of more than the hash leaves
//! out. Where the later commits of some replica may have taken more than that (a table that keeps
//! so many old versions, or a horizon after the stamp), a table can be compared only between views
//! that end with the stamp; and an erasure that one replica has applied and another has not makes a
//! difference that goes away.
//!
//! Secondary indexes are not hashed: their entries outlive the versions they are of, differently on
//! each replica. Whether one has all that its table asks for, each replica can say for itself
//! ([`ReadView::check_index`]); that it is there is in the catalog, which is hashed as of the view's end.

use std::sync::Arc;

use chronos_model::{encode_row, value_at, Kind, Stamp, TableId, TableSchema};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::erase::ERASE;
use crate::error::StoreError;
use crate::history::hides_older;
use crate::log::{LogIndex, Term};
use crate::merge::{ended_by, Resolution, Wants};
use crate::read_view::ReadView;
use crate::retention::{Retained, CUT};
use crate::state::TableState;
use crate::store::Store;
use crate::version::VersionBatch;
use crate::write::{everything, expired, version_batch};

/// The hash of some content: SHA-256.
pub type ContentHash = [u8; 32];

/// What a store holds, by table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentHashes {
    /// The last log entry that was applied.
    pub applied: (Term, LogIndex),
    /// The stamp of the last commit that was applied.
    pub last: Stamp,
    /// As of when tables were hashed.
    pub at: Stamp,
    /// Of tables, sequences, views and users as of `applied`: to be compared only with one of the
    /// same entry.
    pub catalog: ContentHash,
    /// By name.
    pub tables: Vec<TableContent>,
}

/// What a table holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableContent {
    /// Its id.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// Of its definition, as of the last entry: with another one other versions may be gone, so
    /// that there is nothing to compare.
    pub schema: ContentHash,
    /// Versions that were hashed.
    pub versions: u64,
    /// Their hash; `None`: the table can be compared only between stores whose last commit is
    /// the one it was asked for.
    pub hash: Option<ContentHash>,
}

impl Store {
    /// Hashes all tables as of a stamp, by default the last commit's, reading everything. Retention
    /// is reckoned as of `retained_at`, which must be the same for all stores that are compared.
    ///
    /// Errors: a later commit was applied than that, or the stamp is later than the last commit;
    /// something is damaged.
    pub fn content_hashes(
        &self,
        at: Option<Stamp>,
        retained_at: Stamp,
    ) -> Result<ContentHashes, StoreError> {
        let (view, applied) = {
            let shared = self.shared();
            let published = shared.published.read();
            let applied = (published.progress.term(), published.progress.index());
            let view = ReadView::new(published.state.clone(), published.stamp, 0);
            (view, applied)
        };
        let at = at.unwrap_or(view.stamp());
        if at > view.stamp() || retained_at < view.stamp() {
            return Err(StoreError::Content {
                reason: match at > view.stamp() {
                    true => "it is asked for as of a stamp that is not applied yet",
                    false => "commits were applied that are later than it is asked for",
                },
            });
        }
        let mut tables: Vec<Arc<TableSchema>> = view.catalog().stored().collect();
        tables.retain(|schema| !schema.is_entry_table());
        tables.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let hashed = |schema: &Arc<TableSchema>| view.table_content(schema, at, retained_at);
        Ok(ContentHashes {
            applied,
            last: view.stamp(),
            at,
            catalog: hash_of(&**view.catalog())?,
            tables: tables.iter().map(hashed).collect::<Result<_, _>>()?,
        })
    }
}

/// The hash of a part of the catalog.
fn hash_of(part: &impl Serialize) -> Result<ContentHash, StoreError> {
    let bytes = serde_json::to_vec(part)
        .map_err(|e| StoreError::Columns(format!("the catalog cannot be hashed: {e}")))?;
    Ok(Sha256::digest(&bytes).into())
}

impl ReadView {
    /// Hashes a table as of a stamp that the view contains; see [`Store::content_hashes`].
    fn table_content(
        &self,
        schema: &Arc<TableSchema>,
        at: Stamp,
        retained_at: Stamp,
    ) -> Result<TableContent, StoreError> {
        let mut content = TableContent {
            table: schema.id,
            name: schema.name.clone(),
            schema: hash_of(&**schema)?,
            versions: 0,
            hash: None,
        };
        let Some(table) = self.state().tables.get(&schema.id) else {
            return Ok(content);
        };
        if let Some(reason) = &table.held_back {
            return Err(StoreError::HeldBack {
                table: schema.name.clone(),
                reason: reason.clone(),
            });
        }
        let retained = Retained::of(&table.schema, retained_at.micros());
        let moves_on = retained.keep.is_some() || retained.history > at;
        if moves_on && at != self.stamp() {
            return Ok(content);
        }
        let mut hasher = TableHasher::new(table, retained, at, self.stamp());
        let sources = table.sources(Resolution::Everything, Wants::default());
        let mut merger = everything(&table.schema, sources)?;
        while let Some(merged) = merger.next_batch()? {
            hasher.add(&version_batch(merged)?)?;
        }
        (content.versions, content.hash) = hasher.finish();
        Ok(content)
    }
}

/// Takes the versions of a table in by key, newest first.
struct TableHasher<'a> {
    table: &'a TableState,
    retained: Retained,
    at: Stamp,
    view: Stamp,
    /// Key of the version before.
    last: Option<Box<[u8]>>,
    /// Of that key: when the last of its versions was recorded that hides older ones from then on.
    superseding: Option<Stamp>,
    /// Of that key: whether what is older is erased.
    erasing: bool,
    /// Of that key: superseded versions so far.
    superseded: u32,
    versions: u64,
    hash: Sha256,
    /// A version on its way to the hash.
    bytes: Vec<u8>,
}

impl<'a> TableHasher<'a> {
    fn new(table: &'a TableState, retained: Retained, at: Stamp, view: Stamp) -> TableHasher<'a> {
        let mut hash = Sha256::new();
        hash.update(table.schema.id.0.to_le_bytes());
        let truncated = table.truncated.iter();
        for stamp in truncated.filter(|stamp| **stamp <= at && **stamp > retained.history) {
            hash.update(stamp.0.to_le_bytes());
        }
        TableHasher {
            table,
            retained,
            at,
            view,
            last: None,
            superseding: None,
            erasing: false,
            superseded: 0,
            versions: 0,
            hash,
            bytes: Vec::new(),
        }
    }

    fn add(&mut self, batch: &VersionBatch) -> Result<(), StoreError> {
        let expired = expired(&self.table.schema, &self.retained, batch)?;
        for row in 0..batch.num_rows() {
            let recorded = Stamp(batch.recorded.value(row));
            // Memtables grow under a view.
            if recorded > self.view {
                continue;
            }
            let expired = expired.as_ref().is_some_and(|expired| expired.value(row));
            if self.counts(batch, row, expired) && recorded <= self.at {
                self.hash_version(batch, row)?;
            }
        }
        Ok(())
    }

    /// Whether every replica must have a version.
    fn counts(&mut self, batch: &VersionBatch, row: usize, expired: bool) -> bool {
        let key = batch.keys.get(row);
        if self.last.as_deref() != Some(key) {
            self.last = Some(key.into());
            (self.superseding, self.superseded, self.erasing) = (None, 0, false);
        }
        let (recorded, kind) = (Stamp(batch.recorded.value(row)), batch.kind.value(row));
        self.erasing |= kind == ERASE;
        if self.erasing || kind == CUT {
            return false;
        }
        let valid = (batch.valid_from.value(row), batch.valid_to.value(row));
        let hides = hides_older(recorded, valid);
        let superseding = match hides {
            true => self.superseding.replace(recorded),
            false => self.superseding,
        };
        let horizon = self.retained.history;
        let ended = ended_by(&self.table.truncated, recorded);
        let cut = self.table.schema.options.floors.cut;
        let is_history = ended <= horizon || superseding.is_some_and(|at| at <= horizon.max(cut));
        let is_forgettable = kind != Kind::Put as u8 && hides && recorded <= horizon;
        if expired || is_history || is_forgettable {
            return false;
        }
        if superseding.is_some() {
            self.superseded += 1;
        }
        let keep = self.retained.keep;
        superseding.is_none() || keep.is_none_or(|keep| self.superseded <= keep)
    }

    fn hash_version(&mut self, batch: &VersionBatch, row: usize) -> Result<(), StoreError> {
        let bytes = &mut self.bytes;
        bytes.clear();
        let key = batch.keys.get(row);
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend(key);
        bytes.extend(batch.origin.value(row).to_le_bytes());
        bytes.extend(batch.origin_node.value(row).to_le_bytes());
        bytes.extend(batch.recorded.value(row).to_le_bytes());
        bytes.extend(batch.valid_from.value(row).to_le_bytes());
        bytes.extend(batch.valid_to.value(row).to_le_bytes());
        bytes.push(batch.kind.value(row));
        if batch.kind.value(row) == Kind::Put as u8 {
            let columns = batch.columns.iter().zip(&self.table.schema.columns);
            let values = columns.map(|(array, column)| value_at(array, row, &column.data_type));
            let values: Vec<_> = values.collect::<Result<_, _>>()?;
            encode_row(&values, bytes);
        }
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(&bytes);
        self.versions += 1;
        Ok(())
    }

    fn finish(self) -> (u64, Option<ContentHash>) {
        (self.versions, Some(self.hash.finalize().into()))
    }
}
