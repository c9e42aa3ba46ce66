//! Changes of the catalog that need no look at what is stored.

use std::sync::Arc;

use chronos_model::{Catalog, OptionChange, Stamp, TableId, TableSchema};

use super::check_schema;
use crate::error::ApplyError;
use crate::foreign_keys;

/// Adds a table; returns its id.
pub(crate) fn create_table(
    catalog: &mut Catalog,
    schema: &TableSchema,
) -> Result<TableId, ApplyError> {
    check_schema(catalog, &schema.name)?;
    if catalog.has_relation(&schema.name) {
        return Err(ApplyError::DuplicateTable {
            name: schema.name.clone(),
        });
    }
    let id = catalog.next_id();
    let mut schema = TableSchema {
        id,
        ..schema.clone()
    };
    foreign_keys::made_own(&mut schema);
    catalog.tables.insert(schema.name.clone(), Arc::new(schema));
    catalog.version += 1;
    Ok(id)
}

/// Takes a table away, with what belongs to it.
pub(crate) fn drop_table(catalog: &mut Catalog, id: TableId) -> Result<(), ApplyError> {
    let name = match catalog.table_by_id(id) {
        Some(table) => table.name.clone(),
        None => return Err(ApplyError::UnknownTable { id }),
    };
    catalog.tables.remove(&name);
    catalog.forget_owned();
    catalog.version += 1;
    Ok(())
}

/// Changes options of a table at a moment.
pub(crate) fn alter_options(
    catalog: &mut Catalog,
    id: TableId,
    changes: &[OptionChange],
    recorded: Stamp,
) -> Result<(), ApplyError> {
    let Some(table) = catalog.table_by_id(id) else {
        return Err(ApplyError::UnknownTable { id });
    };
    let mut schema = TableSchema::clone(table);
    schema.options = schema.options.changed(changes, recorded.micros());
    catalog.replace_table(Arc::new(schema));
    catalog.version += 1;
    Ok(())
}
