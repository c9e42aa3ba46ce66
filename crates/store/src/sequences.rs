//! What creating a sequence, and handing out its numbers, does to the catalog.

use std::sync::Arc;

use chronos_model::{Catalog, Reserved, SequenceSchema, TableId};

use crate::error::ApplyError;

/// Adds a sequence; one that belongs to table 0 goes with the table that was created in the
/// same write set.
pub(crate) fn create(
    catalog: &mut Catalog,
    schema: &SequenceSchema,
    fresh: Option<TableId>,
) -> Result<(), ApplyError> {
    crate::apply::check_schema(catalog, &schema.name)?;
    if catalog.has_relation(&schema.name) {
        return Err(ApplyError::DuplicateTable {
            name: schema.name.clone(),
        });
    }
    let mut schema = schema.clone();
    schema.id = catalog.next_id();
    if let Some((table @ TableId(0), _)) = &mut schema.owner {
        *table = fresh.ok_or(ApplyError::UnknownTable { id: TableId(0) })?;
    }
    catalog.sequences.insert(schema.name.clone(), schema.into());
    catalog.version += 1;
    Ok(())
}

/// Plans do not depend on where a sequence stands: the catalog's version stays.
fn sequence(catalog: &mut Catalog, id: TableId) -> Result<&mut SequenceSchema, ApplyError> {
    let mut all = catalog.sequences.values_mut();
    let found = all.find(|s| s.id == id).map(Arc::make_mut);
    found.ok_or(ApplyError::UnknownSequence { id })
}

/// Hands out numbers.
pub(crate) fn reserve(
    catalog: &mut Catalog,
    id: TableId,
    count: u32,
) -> Result<Reserved, ApplyError> {
    let sequence = sequence(catalog, id)?;
    sequence.reserve(count).ok_or_else(|| {
        let rises = sequence.increment > 0;
        ApplyError::SequenceExhausted {
            name: sequence.name.clone(),
            end: if rises { "maximum" } else { "minimum" },
            bound: if rises { sequence.max } else { sequence.min },
        }
    })
}

/// Goes on from a number.
pub(crate) fn set(
    catalog: &mut Catalog,
    id: TableId,
    value: i64,
    is_called: bool,
) -> Result<(), ApplyError> {
    sequence(catalog, id)?.set(value, is_called);
    Ok(())
}
