//! Changes of the catalog that were worked out on one version of it and hold for no other.

use serde::{Deserialize, Serialize};

use crate::{
    Catalog, ColumnId, DataError, IndexSchema, Secret, Stamp, TableId, TableSchema, TransactionLog,
    UserSchema, ViewSchema,
};

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
    /// The table is gone, with its indexes and sequences.
    DropTable(TableId),
    /// The sequence is gone.
    DropSequence(TableId),
    /// There is this view from now on, under its name; with id 0 it is a new one.
    View(Box<ViewSchema>),
    /// The view is gone.
    DropView(TableId),
    /// A comment on a relation, or on one of its columns; `None`: no longer.
    Comment(TableId, Option<ColumnId>, Option<String>),
    /// Transactions are noted from now on, or no longer; those noted before stay. Says how long
    /// they are kept if none were noted before.
    NoteTransactions(bool, Option<i64>),
    /// There is this user from now on, under its name; with id 0 it is a new one.
    User(Box<UserSchema>),
    /// The user is gone.
    DropUser(TableId),
    /// What answers to unknown names are made from; what was there before stays.
    Decoy(Secret),
    /// There is a schema of this name from now on.
    Schema(String),
    /// The schema, which has nothing in it any more, is gone.
    DropSchema(String),
}

impl CatalogChange {
    /// The tables it is about.
    pub fn tables(&self) -> Vec<TableId> {
        let unchanged = self.unchanged.iter().map(|(id, _)| *id);
        self.edited().chain(unchanged).collect()
    }

    /// The tables that it edits.
    pub fn edited(&self) -> impl Iterator<Item = TableId> + '_ {
        self.edits.iter().filter_map(|edit| match edit {
            CatalogEdit::Table(schema) => Some(schema.id),
            CatalogEdit::DropTable(id) => Some(*id),
            CatalogEdit::Index(_)
            | CatalogEdit::DropIndex(_)
            | CatalogEdit::DropSequence(_)
            | CatalogEdit::View(_)
            | CatalogEdit::DropView(_)
            | CatalogEdit::Comment(..)
            | CatalogEdit::NoteTransactions(..)
            | CatalogEdit::User(_)
            | CatalogEdit::DropUser(_)
            | CatalogEdit::Decoy(_)
            | CatalogEdit::Schema(_)
            | CatalogEdit::DropSchema(_) => None,
        })
    }

    /// The catalog after the edits.
    ///
    /// Errors: an edit is about something that is not there, or gives a name twice.
    pub fn applied(&self, catalog: &Catalog) -> Result<Catalog, DataError> {
        let mut next = catalog.clone();
        for edit in &self.edits {
            edit.apply(&mut next)?;
        }
        let mut names = next.relations();
        if !names.all(|name| next.has_schema_of(name)) {
            return Err(DataError::Damaged {
                what: "a catalog change",
                offset: 0,
                reason: "a relation is in a schema that is not there",
            });
        }
        drop(names);
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
            CatalogEdit::DropTable(id) => {
                let name = catalog.table_by_id(*id).map(|t| t.name.clone());
                let name = name.ok_or_else(|| wrong("the table is not there"))?;
                catalog.tables.remove(&name);
                catalog.forget_owned();
            }
            CatalogEdit::DropSequence(id) => {
                let name = catalog.sequence_by_id(*id).map(|s| s.name.clone());
                let name = name.ok_or_else(|| wrong("the sequence is not there"))?;
                catalog.sequences.remove(&name);
                catalog.forget_owned();
            }
            CatalogEdit::View(view) => {
                let mut view = ViewSchema::clone(view);
                match catalog.view_by_id(view.id).map(|v| v.name.clone()) {
                    Some(before) => drop(catalog.views.remove(&before)),
                    None => view.id = catalog.next_id(),
                }
                if catalog.has_relation(&view.name) {
                    return Err(wrong("the name is taken"));
                }
                catalog.views.insert(view.name.clone(), view.into());
            }
            CatalogEdit::DropView(id) => {
                let name = catalog.view_by_id(*id).map(|v| v.name.clone());
                let name = name.ok_or_else(|| wrong("the view is not there"))?;
                catalog.views.remove(&name);
                catalog.forget_owned();
            }
            CatalogEdit::Comment(id, column, text) => {
                catalog.comments.set(*id, *column, text.as_deref());
            }
            CatalogEdit::NoteTransactions(enabled, ttl_micros) => {
                let log = catalog
                    .transactions
                    .get_or_insert_with(|| TransactionLog::new(*ttl_micros));
                log.enabled = *enabled;
            }
            CatalogEdit::User(user) => {
                let mut user = UserSchema::clone(user);
                match catalog.users.find(user.id, &user.name).cloned() {
                    Some(before) => drop(catalog.users.by_name.remove(&before.name)),
                    None => user.id = catalog.next_id(),
                }
                if catalog.users.get(&user.name).is_some() {
                    return Err(wrong("the name is taken"));
                }
                let by_name = &mut catalog.users.by_name;
                by_name.insert(user.name.clone(), user.into());
            }
            CatalogEdit::DropUser(id) => {
                let name = catalog.users.find(*id, "").map(|u| u.name.clone());
                let name = name.ok_or_else(|| wrong("the user is not there"))?;
                catalog.users.by_name.remove(&name);
            }
            CatalogEdit::Decoy(secret) => {
                let kept = catalog.users.decoy.take();
                catalog.users.decoy = Some(kept.unwrap_or_else(|| secret.clone()));
            }
            CatalogEdit::Schema(name) => {
                if catalog.has_schema(name) {
                    return Err(wrong("the name is taken"));
                }
                let id = catalog.next_id();
                catalog.schemas.insert(name.clone(), id.0);
            }
            CatalogEdit::DropSchema(name) => {
                let id = catalog.schemas.remove(name);
                id.ok_or_else(|| wrong("the schema is not there"))?;
            }
        }
        Ok(())
    }
}
