//! Views: queries with names.

use serde::{Deserialize, Serialize};

use crate::{DataType, TableId};

/// A column of a view.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ViewColumn {
    /// Name, already folded.
    pub name: String,
    /// What the query calls it; `None`: its columns are taken in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SQL type.
    pub data_type: DataType,
}

/// A view. Its query is kept as SQL text, which nothing at this level understands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ViewSchema {
    /// Identity, from the same numbers as those of tables; given when the creation is applied.
    pub id: TableId,
    /// Name, already folded; tables, indexes, views and sequences share their names.
    pub name: String,
    /// Columns in order.
    pub columns: Vec<ViewColumn>,
    /// The query that it stands for.
    pub query: String,
    /// Tables and views that the query reads.
    pub reads: Vec<TableId>,
}
