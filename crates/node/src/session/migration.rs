//! Changes of the catalog in a transaction: kept like its writes until COMMIT, which makes one
//! write set of both.
//!
//! ```text
//!   CREATE, ALTER, DROP .. -> view with the catalog as it shall be -> statements are planned for it,
//!                                                                     read it, and write over it
//!   COMMIT -> [changes for the catalog's version][rows] -> one entry of the log
//! ```
//!
//! Rows that were written before a change of their table are made rows of the table as it is now.
//! The catalogs that a transaction goes through have versions that no other catalog has, so that
//! no plan made for one is ever used for another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use chronos_model::{
    Catalog, CatalogChange, CatalogEdit, Change, Expect, IndexSchema, Key, Kind, Migration,
    Reshape, RowChange, SequenceSchema, SqlState, TableId, TableSchema, Uniqueness, WriteSet,
};
use chronos_query::dml;
use chronos_store::{reshaped_batch, ApplyError, ReadView};

use super::transaction::{Changes, Transaction, Writes};
use super::Session;
use crate::indexes::{duplicated, shown_key};
use crate::replica::describe;
use crate::Error;

/// Versions of a table up to which a transaction may give it a unique index: the index is made
/// while nobody else writes.
const INDEXED_VERSIONS_MAX: u64 = 200_000;

/// Versions of catalogs that are not committed begin here; those of committed ones stay far below.
static NEXT_VERSION: AtomicU64 = AtomicU64::new(1 << 63);

/// What a transaction has done to the catalog.
#[derive(Clone, Default)]
pub(super) struct TableChanges {
    changes: Vec<Change>,
    /// Tables of which nothing may be recorded by others until COMMIT.
    unchanged: BTreeSet<TableId>,
    /// Whether columns of a table that was there before change.
    reshapes: bool,
    /// Sequences that begin anew when all is committed, and with which number.
    pub(super) restarts: Vec<(TableId, i64)>,
}

impl TableChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether what is in memory is flushed when they are applied.
    pub(super) fn reshapes(&self) -> bool {
        self.reshapes
    }
}

impl Transaction {
    /// Ids from this one on are of what the transaction has created.
    pub(super) fn fresh_from(&self) -> TableId {
        TableId(self.base.catalog().next_table_id.max(1))
    }

    /// Changes the transaction's catalog; its earlier writes follow.
    ///
    /// Errors: the change cannot be made; there is no memory for it (53200). Nothing has changed
    /// then, but for writes that were made before: the block has failed.
    fn change_catalog(&mut self, changes: Vec<Change>) -> Result<(), Failed> {
        let mut kept = Vec::with_capacity(changes.len());
        let mut unchanged = self.tables.unchanged.clone();
        let fresh_from = self.fresh_from();
        for change in changes {
            let of_rows = match &change {
                Change::Truncate(id) | Change::DropTable(id) => vec![*id],
                Change::Catalog(change) => goes_or_was_looked_at(change),
                Change::CreateIndex(index) if index.unique != Uniqueness::No => vec![index.table],
                // That its parents have no periods was looked at. Of table 0 is the new one.
                Change::CreateTable(schema) => {
                    let keys = schema.rules.foreign_keys.iter();
                    keys.map(|key| key.table).collect()
                }
                _ => vec![],
            };
            unchanged.extend(of_rows.into_iter().filter(|id| *id < fresh_from));
            match change {
                Change::ExpectShape(..) => {}
                Change::Catalog(change) => {
                    let change = CatalogChange::unconditional(change.edits);
                    kept.push(Change::Catalog(change));
                }
                other => kept.push(other),
            }
        }
        // Of table 0 is an index of a table that is created with it.
        unchanged.remove(&TableId(0));
        self.reserve_copies(&kept)?;
        let version = NEXT_VERSION.fetch_add(1, Ordering::Relaxed);
        let view = self
            .view
            .with_changes(self.base.stamp(), fresh_from, &kept, version)
            .map_err(Failed::Change)?;
        let truncated = kept.iter().filter_map(|change| match change {
            Change::Truncate(id) => Some(*id),
            _ => None,
        });
        let truncated: Vec<TableId> = truncated.collect();
        self.overlaid = None;
        self.writes
            .follow(self.view.catalog(), view.catalog(), &truncated)?;
        self.held.try_resize(self.bytes()).map_err(Error::from)?;
        self.view = view;
        self.tables.changes.extend(kept);
        self.tables.unchanged = unchanged;
        self.tables.reshapes = self.reshapes();
        Ok(())
    }

    /// What is in memory of a table is copied when its columns change.
    fn reserve_copies(&mut self, changes: &[Change]) -> Result<(), Error> {
        let catalog = self.view.catalog();
        let edits = changes.iter().filter_map(|change| match change {
            Change::Catalog(change) => Some(change.edits.iter()),
            _ => None,
        });
        let mut bytes = 0;
        for edit in edits.flatten() {
            if let CatalogEdit::Table(after) = edit {
                let before = catalog.table_by_id(after.id);
                let Some(before) = before.filter(|before| !before.stores_like(after)) else {
                    continue;
                };
                bytes += self.view.bytes_in_memory(after.id);
                if before.has_hidden_key() != after.has_hidden_key() {
                    // Until it is known what they take.
                    self.held.try_grow(self.writes.bytes_with_keys(after.id))?;
                }
            }
        }
        self.held.try_grow(bytes)?;
        self.copied_bytes += bytes;
        Ok(())
    }

    fn reshapes(&self) -> bool {
        let before = self.base.catalog();
        self.view.catalog().tables.values().any(|after| {
            let before = before.table_by_id(after.id);
            before.is_some_and(|before| !before.stores_like(after))
        })
    }

    /// Who only reads has read one moment, whatever has become of it.
    fn writes_anything(&self, set: &WriteSet) -> bool {
        !self.tables.is_empty() || !set.changes.is_empty()
    }

    /// All that the transaction does, as one write set. `numbers`: where sequences stand that it
    /// has created.
    pub(super) fn to_write_set(&self, numbers: Vec<SequenceSchema>) -> WriteSet {
        let mut set = self
            .writes
            .to_write_set(self.base.stamp(), self.view.catalog());
        if let Some(reads) = self.reads.as_ref().filter(|_| self.writes_anything(&set)) {
            let reads = reads.read_set(self.base.catalog().version, self.fresh_from());
            set.changes.insert(0, Change::ExpectReads(reads));
        }
        if self.tables.is_empty() {
            return set;
        }
        let numbers = numbers
            .into_iter()
            .map(|s| Change::SetSequence(s.id, s.last, s.is_called));
        let begin = self.base.stamp();
        let unchanged = self.tables.unchanged.iter();
        let migration = Migration {
            base: self.base.catalog().version,
            unchanged: unchanged.map(|id| (*id, begin)).collect(),
            changes: self.tables.changes.iter().cloned().chain(numbers).collect(),
        };
        set.changes.insert(0, Change::Migrate(migration));
        set
    }
}

/// Why a change of the catalog was not made.
pub(super) enum Failed {
    Change(ApplyError),
    Otherwise(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Otherwise(error)
    }
}

/// The tables that edits take away, and those whose rows were looked at for them.
fn goes_or_was_looked_at(change: &CatalogChange) -> Vec<TableId> {
    let gone = change.edits.iter().filter_map(|edit| match edit {
        CatalogEdit::DropTable(id) => Some(*id),
        _ => None,
    });
    let looked_at = change.unchanged.iter().map(|(id, _)| *id);
    gone.chain(looked_at).collect()
}

impl Session {
    /// Keeps changes of the catalog until COMMIT; from now on the transaction sees them.
    pub(super) fn change_catalog_in_transaction(
        &mut self,
        changes: Vec<Change>,
    ) -> Result<(), Error> {
        let store = &self.node.inner.replica.store;
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        transaction.change_catalog(changes).map_err(|e| match e {
            Failed::Change(e) => describe(e, store),
            Failed::Otherwise(e) => e,
        })?;
        self.sequences_follow();
        Ok(())
    }

    /// Creates an index in a transaction. One that keeps values unique is in force at once, for
    /// the rows that the transaction sees.
    pub(super) fn add_index_in_transaction(&mut self, schema: IndexSchema) -> Result<(), Error> {
        let name = schema.name.clone();
        let is_unique = schema.unique != Uniqueness::No;
        let is_complete = is_unique || schema.for_foreign_key;
        if let Some(transaction) = self.transaction.as_ref().filter(|_| is_complete) {
            let catalog = transaction.view.catalog();
            let table = catalog.table_by_id(schema.table);
            let table = table.filter(|table| table.id < transaction.fresh_from());
            if let Some(table) = table {
                check_is_small(&transaction.view, table)?;
            }
        }
        self.change_catalog_in_transaction(vec![Change::CreateIndex(schema)])?;
        if !is_unique {
            return Ok(());
        }
        let view = self.read_context()?.view;
        let catalog = view.catalog();
        let Some(index) = catalog.indexes.get(&name) else {
            return Ok(());
        };
        match view.find_duplicate(index.id)? {
            None => Ok(()),
            Some(found) => {
                let table = catalog.table_by_id(index.table).map(|t| &**t);
                Err(duplicated(index, table, &found.values))
            }
        }
    }

    /// Tells the functions of sequences which ones the transaction, if there is one, has created.
    pub(super) fn sequences_follow(&self) {
        let Some(transaction) = &self.transaction else {
            self.known_sequences.forget();
            return;
        };
        let fresh_from = transaction.fresh_from();
        let all = transaction.view.catalog().sequences.values();
        self.known_sequences
            .follow(all.filter(|s| s.id >= fresh_from));
    }

    /// Waits until the indexes that a transaction has created can be used. It is committed,
    /// whatever becomes of them.
    pub(super) async fn wait_for_indexes(&self, created: &[TableId]) {
        let replica = Arc::clone(&self.node.inner.replica);
        for id in created {
            let name = match replica.store.catalog().index_by_id(*id) {
                Some(index) => index.name.clone(),
                None => continue,
            };
            if let Err(e) = replica.indexes.wait(&replica.store, *id, &name).await {
                tracing::warn!(index = name, error = e.message, "an index is not complete");
            }
        }
    }
}

/// 0A000 for a table of which too much would have to be indexed while nobody writes.
fn check_is_small(view: &ReadView, table: &TableSchema) -> Result<(), Error> {
    if view.table_versions(table) <= INDEXED_VERSIONS_MAX {
        return Ok(());
    }
    let message = format!(
        "a unique index or a foreign key on \"{}\", which has more than {INDEXED_VERSIONS_MAX} versions of rows, is not supported in a transaction block",
        table.name
    );
    Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
        .with_hint("Create it outside of a block: it is built beside running writers."))
}

impl Writes {
    /// Makes writes fit for a later catalog of their transaction. Those of tables that are gone
    /// or were truncated since are given up.
    fn follow(
        &mut self,
        before: &Catalog,
        after: &Catalog,
        truncated: &[TableId],
    ) -> Result<(), Error> {
        let stays = |id: TableId| after.table_by_id(id).is_some() && !truncated.contains(&id);
        self.rows.retain(|id, _| stays(*id));
        self.batches.retain(|batch| stays(batch.table));
        let of_batches = self.batches.iter().map(|batch| batch.table);
        let written: BTreeSet<TableId> = self.rows.keys().copied().chain(of_batches).collect();
        for id in written {
            let (Some(from), Some(to)) = (before.table_by_id(id), after.table_by_id(id)) else {
                continue;
            };
            if !from.stores_like(to) {
                self.reshape(from, to)?;
            }
        }
        Ok(())
    }

    /// About what the batches of a table take beside their keys.
    fn bytes_with_keys(&self, table: TableId) -> u64 {
        /// Of a key, twice.
        const ROW_BYTES: u64 = 128;
        let batches = self.batches.iter().filter(|batch| batch.table == table);
        let bytes =
            batches.map(|b| b.memory_bytes() as u64 + b.batch.num_rows() as u64 * ROW_BYTES);
        bytes.sum()
    }

    fn reshape(&mut self, from: &TableSchema, to: &Arc<TableSchema>) -> Result<(), Error> {
        let reshape = Reshape::new(from, to)?;
        for change in self
            .rows
            .get_mut(&to.id)
            .into_iter()
            .flat_map(|t| t.values_mut())
        {
            for row in change {
                row.row = reshape.row(&row.row)?;
            }
        }
        for batch in self.batches.iter_mut().filter(|b| b.table == to.id) {
            check_key_columns(from, to, &batch.batch)?;
            batch.batch = reshaped_batch(&batch.batch, from, to)?;
        }
        match from.has_hidden_key() == to.has_hidden_key() {
            true => Ok(()),
            false => self.rekey(to),
        }
    }

    /// Gives rows the primary key that their table has now. Nothing is stored of it.
    ///
    /// Errors: a column of the key is NULL (23502), or two rows have the same key (23505).
    fn rekey(&mut self, table: &Arc<TableSchema>) -> Result<(), Error> {
        let hidden = self.rows.remove(&table.id).unwrap_or_default();
        let mut keyed = Changes::new();
        for change in hidden.into_values().flatten() {
            if change.valid.is_some() || change.kind == Kind::Erase {
                let message = "ADD PRIMARY KEY behind rows with periods of valid time, or erased ones, is not supported in the same transaction block";
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
            // Who was removed again has never been there.
            if change.kind != Kind::Put {
                continue;
            }
            let values = chronos_model::decode_row(table, &change.row)?;
            let change = RowChange {
                key: key_of(table, &values)?,
                expect: Expect::Absent,
                ..change
            };
            add_key(table, &mut keyed, change)?;
        }
        let mut of_batches: Vec<Key> = Vec::new();
        for batch in self.batches.iter_mut().filter(|b| b.table == table.id) {
            batch.expect = Expect::Absent;
            let columns = table.primary_key.iter();
            let columns: Vec<_> = columns.map(|c| batch.batch.column(*c).clone()).collect();
            let keys = chronos_model::encode_keys(table, &columns).map_err(key_error)?;
            of_batches.extend((0..keys.len()).map(|row| Key(keys.get(row).into())));
        }
        of_batches.sort_unstable();
        let twice = of_batches.windows(2).find(|pair| pair[0] == pair[1]);
        let twice = twice.map(|pair| &pair[0]);
        let in_both = || of_batches.iter().find(|key| keyed.contains_key(*key));
        if let Some(key) = twice.or_else(in_both) {
            return Err(not_unique(table, key)?);
        }
        self.rows.insert(table.id, keyed);
        Ok(())
    }
}

fn key_of(table: &TableSchema, values: &[chronos_model::Value]) -> Result<Key, Error> {
    match table.primary_key.iter().find(|c| values[**c].is_null()) {
        None => Ok(dml::key_of(table, values)?),
        Some(null) => Err(is_null(table, *null)),
    }
}

/// Columns of a key that `to` has and `from` had not must not be NULL.
fn check_key_columns(
    from: &TableSchema,
    to: &TableSchema,
    batch: &RecordBatch,
) -> Result<(), Error> {
    for column in &to.primary_key {
        let before = from.position_of(to.column_id(*column));
        if before.is_some_and(|before| batch.column(before).null_count() > 0) {
            return Err(is_null(to, *column));
        }
    }
    Ok(())
}

fn is_null(table: &TableSchema, column: usize) -> Error {
    let (column, name) = (&table.columns[column].name, &table.name);
    let message = format!("column \"{column}\" of relation \"{name}\" contains null values");
    let mut error = Error::new(SqlState::NOT_NULL_VIOLATION, message);
    error.table = Some(name.clone());
    error.column = Some(column.clone());
    error
}

fn key_error(e: chronos_model::KeyError) -> Error {
    Error::new(SqlState::INTERNAL, e.to_string())
}

fn add_key(table: &TableSchema, keyed: &mut Changes, change: RowChange) -> Result<(), Error> {
    if keyed.contains_key(&change.key) {
        return Err(not_unique(table, &change.key)?);
    }
    keyed.insert(change.key.clone(), vec![change]);
    Ok(())
}

/// 23505: two rows would have this primary key.
fn not_unique(table: &TableSchema, key: &Key) -> Result<Error, Error> {
    let name = table.primary_key_name();
    let message = format!("could not create unique index \"{name}\"");
    let mut error = Error::new(SqlState::UNIQUE_VIOLATION, message);
    let values = chronos_model::key_values(table, &key.0)?;
    error.detail = Some(format!(
        "{} is duplicated.",
        shown_key(table, &table.primary_key, &values)
    ));
    error.table = Some(table.name.clone());
    error.constraint = Some(name);
    Ok(error)
}
