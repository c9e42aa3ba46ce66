//! What a transaction does to the catalog: the catalog and the state that come of it.
//!
//! ```text
//!   in the transaction   its view --change--> its view, of the catalog as it shall be
//!   at COMMIT            state ----changes--> next state --rows are checked and written--> published
//! ```
//!
//! The changes were made for one version of the catalog and refused for every other, so each
//! table, index and sequence that they create gets the id that the transaction knows it by.
//!
//! In memory a table has one shape. When a migration is applied, what is in memory is flushed first
//! if a table's columns change; a transaction's view, which nobody flushes, has it copied.
//! A unique index of a table that is older than the transaction is complete at once, so that it is
//! kept from the first moment on, and so is one by which a foreign key finds the rows that refer;
//! every other one is built afterwards, beside writers.

use std::collections::HashMap;
use std::sync::Arc;

use chronos_model::{
    Catalog, Change, Migration, NodeId, Reshape, Stamp, TableId, TableSchema, Uniqueness,
};

use crate::apply::catalog_changes;
use crate::error::{ApplyError, StoreError};
use crate::index;
use crate::memtable::{key_of, recorded_of, KeyRanges, Memtable, RowVersion};
use crate::segment::reshaped_columns;
use crate::sequences;
use crate::state::{StoreState, TableState};
use crate::store::{truncated, with_catalog};

/// The catalog after some changes, and what has to be done for it.
#[derive(Debug)]
pub(crate) struct Migrated {
    pub(crate) catalog: Catalog,
    /// Tables that were there before, whose rows are gone.
    truncated: Vec<TableId>,
    /// Indexes that have to be complete.
    complete: Vec<TableId>,
    /// Indexes that are built afterwards.
    pub(crate) building: Vec<TableId>,
    /// Tables that were there before, whose columns change.
    pub(crate) reshaped: Vec<TableId>,
}

impl Migrated {
    /// Carries changes out on a catalog. Ids from `fresh_from` on are of what the transaction
    /// itself has created.
    pub(crate) fn of(
        before: &Catalog,
        fresh_from: TableId,
        changes: &[Change],
        recorded: Stamp,
    ) -> Result<Migrated, ApplyError> {
        let mut migrated = Migrated {
            catalog: before.clone(),
            truncated: Vec::new(),
            complete: Vec::new(),
            building: Vec::new(),
            reshaped: Vec::new(),
        };
        let mut created = None;
        for change in changes {
            migrated.change(change, fresh_from, &mut created, recorded)?;
        }
        let Migrated {
            catalog,
            truncated,
            complete,
            building,
            reshaped,
        } = &mut migrated;
        if !catalog.keeps_foreign_keys() {
            return Err(ApplyError::CatalogConflict);
        }
        for lists in [truncated, complete, building] {
            lists.retain(|id| catalog.stores(*id));
        }
        reshaped.extend(catalog.tables.values().filter_map(|after| {
            let before = before.table_by_id(after.id)?;
            (!before.stores_like(after)).then_some(after.id)
        }));
        Ok(migrated)
    }

    fn change(
        &mut self,
        change: &Change,
        fresh_from: TableId,
        created: &mut Option<TableId>,
        recorded: Stamp,
    ) -> Result<(), ApplyError> {
        let catalog = &mut self.catalog;
        match change {
            Change::CreateTable(schema) => {
                *created = Some(catalog_changes::create_table(catalog, schema)?);
            }
            Change::DropTable(id) => catalog_changes::drop_table(catalog, *id)?,
            Change::AlterOptions(id, changes) => {
                catalog_changes::alter_options(catalog, *id, changes, recorded)?;
            }
            Change::Truncate(id) => match catalog.table_by_id(*id) {
                None => return Err(ApplyError::UnknownTable { id: *id }),
                Some(_) if *id >= fresh_from || self.truncated.contains(id) => {}
                Some(_) => self.truncated.push(*id),
            },
            Change::Catalog(change) => {
                let next = change.applied(catalog);
                *catalog = next.map_err(|_| ApplyError::CatalogConflict)?;
            }
            Change::CreateIndex(schema) => {
                let id = index::changes::create(catalog, schema, recorded, *created)?;
                let of = catalog.index_by_id(id).map(|index| index.table);
                if of.is_some_and(|table| table >= fresh_from) {
                    index::changes::set_valid(catalog, id)?;
                } else if schema.unique != Uniqueness::No || schema.for_foreign_key {
                    index::changes::set_valid(catalog, id)?;
                    self.complete.push(id);
                } else {
                    self.building.push(id);
                }
            }
            Change::DropIndex(id) => index::changes::drop(catalog, *id)?,
            Change::CreateSequence(schema) => sequences::create(catalog, schema, *created)?,
            Change::SetSequence(id, value, called) => {
                sequences::set(catalog, *id, *value, *called)?;
            }
            Change::Rows(_)
            | Change::Batch(_)
            | Change::ExpectShape(..)
            | Change::Migrate(_)
            | Change::ExpectReads(_)
            | Change::Once(_)
            | Change::GiveUpIndex(_)
            | Change::SetIndexState(..)
            | Change::ReserveNumbers(..) => return Err(ApplyError::CatalogConflict),
        }
        Ok(())
    }

    /// The state with the catalog as it shall be. No table whose columns change may have
    /// anything in memory. The rows of those that were truncated are gone as of `recorded`.
    pub(crate) fn next_state(
        &self,
        state: &StoreState,
        recorded: Stamp,
    ) -> Result<StoreState, StoreError> {
        let mut next = with_catalog(state, self.catalog.clone())?;
        for id in &self.truncated {
            next = truncated(&next, *id, recorded);
        }
        Ok(next)
    }

    /// Completes the indexes that have to be; returns the bytes that their entries take.
    pub(crate) fn complete_indexes(
        &self,
        next: &StoreState,
        created: Stamp,
        node: NodeId,
    ) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for id in &self.complete {
            bytes += index::complete(next, *id, created, node)?;
        }
        Ok(bytes)
    }

    /// What is published by now, with the catalog as it shall be and what was written to the
    /// memtables of `written`, which was made of it. The files of the two may differ.
    pub(crate) fn published(
        &self,
        published: &StoreState,
        written: &StoreState,
        recorded: Stamp,
    ) -> Result<StoreState, StoreError> {
        let next = self.next_state(published, recorded)?;
        Ok(next.with_tables(|tables| {
            for (id, table) in tables.iter_mut() {
                let own = written.tables.get(id).map(|own| &own.active);
                if let Some(own) = own.filter(|own| !Arc::ptr_eq(own, &table.active)) {
                    Arc::make_mut(table).active = own.clone();
                }
            }
        }))
    }
}

/// What a migration makes of the catalog.
///
/// Errors: another change of the catalog came first.
pub(crate) fn catalog_of(
    migration: &Migration,
    catalog: &Catalog,
    recorded: Stamp,
) -> Result<Migrated, ApplyError> {
    if migration.base != catalog.version {
        return Err(ApplyError::CatalogConflict);
    }
    let fresh_from = TableId(catalog.next_table_id.max(1));
    Migrated::of(catalog, fresh_from, &migration.changes, recorded)
}

/// The same for a write set that is about to be applied, whose rows are not looked at.
///
/// Errors: also, something was recorded of a table that must be unchanged.
pub(crate) fn check(
    state: &StoreState,
    migration: &Migration,
    recorded: Stamp,
) -> Result<Migrated, ApplyError> {
    let migrated = catalog_of(migration, &state.catalog, recorded)?;
    for (id, stamp) in &migration.unchanged {
        let table = state.tables.get(id);
        let table = table.ok_or(ApplyError::UnknownTable { id: *id })?;
        if table.last_recorded() > *stamp {
            return Err(ApplyError::Conflict {
                table: table.schema.name.clone(),
            });
        }
    }
    Ok(migrated)
}

/// A transaction's state after changes of the catalog, which is given `version`. It reads as of
/// `begin`; rows of tables that it truncates are gone as of `truncated_at`. Gives also whether
/// there are such.
pub(crate) fn overlaid(
    state: &StoreState,
    begin: Stamp,
    truncated_at: Stamp,
    fresh_from: TableId,
    changes: &[Change],
    version: u64,
) -> Result<(StoreState, bool), ApplyError> {
    let mut migrated = Migrated::of(&state.catalog, fresh_from, changes, begin)?;
    migrated.catalog.version = version;
    let mut copied: HashMap<TableId, Arc<Memtable>> = HashMap::new();
    for id in &migrated.reshaped {
        let (Some(table), Some(schema)) = (state.tables.get(id), migrated.catalog.table_by_id(*id))
        else {
            continue;
        };
        copied.insert(*id, Arc::new(reshaped(table, schema, begin)?));
    }
    let next = migrated.next_state(state, truncated_at)?;
    let next = next.with_tables(|tables| {
        for (id, memtable) in copied {
            if let Some(table) = tables.get_mut(&id) {
                let table = Arc::make_mut(table);
                table.active = memtable;
                table.frozen.clear();
            }
        }
    });
    migrated.complete_indexes(&next, begin, NodeId(0))?;
    Ok((next, !migrated.truncated.is_empty()))
}

/// What is in memory of a table and was recorded up to a stamp, as rows of another shape.
fn reshaped(
    table: &TableState,
    schema: &Arc<TableSchema>,
    upto: Stamp,
) -> Result<Memtable, StoreError> {
    let copy = Memtable::new(schema.clone());
    let reshape = Reshape::new(&table.schema, schema)?;
    let mut versions: Vec<(Stamp, Vec<u8>, RowVersion)> = Vec::new();
    for memtable in table.memtables() {
        for entry in memtable.rows.iter() {
            let recorded = recorded_of(entry.key());
            if recorded <= upto {
                let version = entry.value();
                let row = reshape.row(&version.row)?;
                let version = RowVersion {
                    row,
                    ..version.clone()
                };
                versions.push((recorded, key_of(entry.key()).to_vec(), version));
            }
        }
    }
    versions.sort_by_key(|(recorded, ..)| *recorded);
    for (recorded, key, version) in versions {
        copy.rows.insert(&key, recorded, version);
    }
    // Oldest first, as they came.
    let memtables: Vec<_> = table.memtables().collect();
    for run in memtables.iter().rev().flat_map(|m| m.runs().to_vec()) {
        if run.min_recorded <= upto {
            let columns = reshaped_columns(run.columns(), run.len(), &table.schema, schema)?;
            let ranges = KeyRanges::of_columns(schema, &columns);
            copy.push(run.with_columns(columns, ranges))?;
        }
    }
    Ok(copy)
}
