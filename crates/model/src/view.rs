//! Views: queries with names.

use serde::{Deserialize, Serialize};

use crate::{DataType, TableId};

/// A view. Its query is kept as SQL text, which nothing at this level understands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ViewSchema {
    /// Identity, from the same numbers as those of tables; given when the creation is applied.
    pub id: TableId,
    /// Name, already folded; tables, indexes, views and sequences share their names.
    pub name: String,
    /// Columns: folded name and type.
    pub columns: Vec<(String, DataType)>,
    /// The query that it stands for.
    pub query: String,
    /// Tables and views that the query reads.
    pub reads: Vec<TableId>,
}
