//! What creating, dropping and moving on an index do to the catalog.

use std::sync::Arc;

use chronos_model::{Catalog, IndexSchema, IndexState, Stamp, TableId};

use crate::error::ApplyError;

/// Adds an index, created at `recorded`; returns its id. On a table that was created in the
/// same write set, `fresh`, there is nothing to build.
pub(crate) fn create(
    catalog: &mut Catalog,
    schema: &IndexSchema,
    recorded: Stamp,
    fresh: Option<TableId>,
) -> Result<TableId, ApplyError> {
    let name = &schema.name;
    if catalog.has_relation(name) {
        return Err(ApplyError::DuplicateTable { name: name.clone() });
    }
    let table = match schema.table {
        TableId(0) => fresh.unwrap_or_default(),
        known => known,
    };
    if catalog.table_by_id(table).is_none() {
        return Err(ApplyError::UnknownTable { id: table });
    }
    let id = catalog.next_id();
    let index = IndexSchema {
        id,
        table,
        state: match fresh == Some(table) {
            true => IndexState::Valid,
            false => IndexState::Building,
        },
        created: recorded.0,
        ..schema.clone()
    };
    catalog.indexes.insert(name.clone(), Arc::new(index));
    catalog.version += 1;
    Ok(id)
}

/// Says of an index that was just created that it is complete.
pub(crate) fn set_valid(catalog: &mut Catalog, id: TableId) -> Result<(), ApplyError> {
    set_state(catalog, id, IndexState::Valid)
}

/// Takes an index away.
pub(crate) fn drop(catalog: &mut Catalog, id: TableId) -> Result<(), ApplyError> {
    let name = match catalog.index_by_id(id) {
        Some(index) => index.name.clone(),
        None => return Err(ApplyError::UnknownIndex { id }),
    };
    catalog.indexes.remove(&name);
    catalog.version += 1;
    Ok(())
}

/// Takes an index away that is not complete yet. Whoever completed it first has the last word: it
/// may have been the leader before, that saw no duplicates any more.
pub(crate) fn give_up(catalog: &mut Catalog, id: TableId) -> Result<(), ApplyError> {
    match catalog.index_by_id(id) {
        Some(index) if index.state == IndexState::Valid => Ok(()),
        _ => drop(catalog, id),
    }
}

/// Moves an index on to a state; one that it has passed already changes nothing.
pub(crate) fn set_state(
    catalog: &mut Catalog,
    id: TableId,
    state: IndexState,
) -> Result<(), ApplyError> {
    let mut index = match catalog.index_by_id(id) {
        Some(index) => IndexSchema::clone(index),
        None => return Err(ApplyError::UnknownIndex { id }),
    };
    if state <= index.state {
        return Ok(());
    }
    index.state = state;
    catalog.indexes.insert(index.name.clone(), Arc::new(index));
    catalog.version += 1;
    Ok(())
}
