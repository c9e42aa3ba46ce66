//! Changes of the catalog that were worked out on one version of it and hold for no other.

use serde::{Deserialize, Serialize};

use crate::{Catalog, DataError, IndexSchema, Stamp, TableId, TableSchema};

/// Edits of the catalog, all of them or none.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CatalogChange {
    /// The version of the catalog that the edits were made for. With another one in force they
    /// are refused, and whoever made them tries again.
    pub base: u64,
    /// Tables of which nothing may have been recorded after a stamp: what is stored of them
    /// was looked at as of then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchanged: Vec<(TableId, Stamp)>,
    /// What changes, in order.
    pub edits: Vec<CatalogEdit>,
}

/// One edit of the catalog.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogEdit {
    /// The table with this schema's id has it from now on, under its name.
    Table(Box<TableSchema>),
    /// The same for an index.
    Index(Box<IndexSchema>),
    /// The index is gone.
    DropIndex(TableId),
}

impl CatalogChange {
    /// The tables it is about.
    pub fn tables(&self) -> Vec<TableId> {
        let edited = self.edits.iter().filter_map(|edit| match edit {
            CatalogEdit::Table(schema) => Some(schema.id),
            CatalogEdit::Index(_) | CatalogEdit::DropIndex(_) => None,
        });
        edited
            .chain(self.unchanged.iter().map(|(id, _)| *id))
            .collect()
    }

    /// The catalog after the edits.
    ///
    /// Errors: an edit is about something that is not there, or gives a name twice.
    pub fn applied(&self, catalog: &Catalog) -> Result<Catalog, DataError> {
        let mut next = catalog.clone();
        for edit in &self.edits {
            edit.apply(&mut next)?;
        }
        next.version += 1;
        Ok(next)
    }
}

impl CatalogEdit {
    fn apply(&self, catalog: &mut Catalog) -> Result<(), DataError> {
        let wrong = |reason| DataError::Damaged {
            what: "a catalog change",
            offset: 0,
            reason,
        };
        match self {
            CatalogEdit::Table(schema) => {
                let before = catalog.table_by_id(schema.id).map(|t| t.name.clone());
                let before = before.ok_or_else(|| wrong("the table is not there"))?;
                catalog.tables.remove(&before);
                if catalog.has_relation(&schema.name) {
                    return Err(wrong("the name is taken"));
                }
                let schema = TableSchema::clone(schema);
                catalog.tables.insert(schema.name.clone(), schema.into());
            }
            CatalogEdit::Index(schema) => {
                let before = catalog.index_by_id(schema.id).map(|i| i.name.clone());
                let before = before.ok_or_else(|| wrong("the index is not there"))?;
                catalog.indexes.remove(&before);
                if catalog.has_relation(&schema.name) {
                    return Err(wrong("the name is taken"));
                }
                let schema = IndexSchema::clone(schema);
                catalog.indexes.insert(schema.name.clone(), schema.into());
            }
            CatalogEdit::DropIndex(id) => {
                let name = catalog.index_by_id(*id).map(|i| i.name.clone());
                let name = name.ok_or_else(|| wrong("the index is not there"))?;
                catalog.indexes.remove(&name);
            }
        }
        Ok(())
    }
}
