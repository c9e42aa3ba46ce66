//! `pg_catalog` and `information_schema`: the catalog as tables.
//!
//! PostgreSQL's clients find out what there is by querying these. Which relations
//! exist, with which columns, is data ([`relations`], from `relations.txt`); the
//! rows of the few that are not always empty are made from the catalog when a
//! statement is planned ([`pg_catalog`], [`information_schema`]). What DataFusion
//! cannot plan of the queries that clients send is rewritten first ([`rewrite`]).
//!
//! Nothing is stored here and nothing can be written. Object ids are derived:
//!
//! ```text
//! system relations and types   PostgreSQL's own
//! vector                       16385
//! table                        16384 + 1000 + its id
//! primary key's index          1_000_000 + the table's id
//! primary key's constraint     2_000_000 + the table's id
//! default of a column          3_000_000 + their number
//! row type of a table or view  4_000_000 + its id
//! CHECK constraint             100_000_000 + 256 times the table's id + its position
//! foreign key                  500_000_000 + 256 times the table's id + its position
//! ```

mod dependencies;
mod foreign_keys;
mod indexes;
mod information_schema;
mod names;
mod objects;
mod pg_catalog;
mod relations;
pub(crate) mod rewrite;
mod roles;
mod rows;
mod sequences;
mod settings;
mod types;

use std::sync::Arc;

use chronos_model::Catalog;
use datafusion::catalog::{MemTable, TableProvider};

use crate::engine::SessionFacts;
use crate::QueryError;
pub(crate) use names::{
    namespace_name, namespace_oid, parts as name_parts, relation_full_name, relation_name,
    relation_oid, role_name, role_oid,
};
pub(crate) use objects::{table_oid, Objects};
use relations::Relation;
use rows::Rows;
pub(crate) use settings::setting;
pub(crate) use types::{format_type, function_name, function_oid, quote_ident, type_oid};

/// Makes the rows of a relation.
type Fill = fn(&Objects<'_>) -> Rows;

/// The system table of that name; `schema` is `None` when none was written.
pub(crate) fn table(
    schema: Option<&str>,
    name: &str,
    catalog: &Catalog,
    facts: &SessionFacts,
) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
    let Some(relation) = relations::find(schema, name) else {
        return Ok(None);
    };
    let batch = match fill(relation) {
        Some(fill) => fill(&Objects { catalog, facts }).into_batch(relation)?,
        None => Rows::none().into_batch(relation)?,
    };
    Ok(Some(Arc::new(MemTable::try_new(
        batch.schema(),
        vec![vec![batch]],
    )?)))
}

/// Whether a relation of that name is a system relation.
pub(crate) fn is_system(schema: Option<&str>, name: &str) -> bool {
    relations::find(schema, name).is_some()
}

/// Whether it is a system relation that never has a row, because it lists what
/// Chronos does not have (triggers, policies, collations ..).
#[cfg(test)]
fn is_always_empty(schema: Option<&str>, name: &str) -> bool {
    relations::find(schema, name).is_some_and(|r| fill(r).is_none())
}

fn fill(relation: &Relation) -> Option<Fill> {
    let fills = if relation.schema == "information_schema" {
        information_schema::FILLS
    } else {
        pg_catalog::FILLS
    };
    fills
        .iter()
        .find(|(name, _)| *name == relation.name)
        .map(|(_, fill)| *fill)
}

#[cfg(test)]
pub(crate) mod tests;
