//! `pg_catalog` and `information_schema`: the catalog as tables.

use std::sync::Arc;

use chronos_model::Catalog;
use datafusion::catalog::TableProvider;

use crate::engine::SessionFacts;
use crate::QueryError;

/// The system table of that name; `schema` is `None` when none was written.
pub(crate) fn table(
    _schema: Option<&str>,
    _name: &str,
    _catalog: &Catalog,
    _facts: &SessionFacts,
) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
    Ok(None)
}
