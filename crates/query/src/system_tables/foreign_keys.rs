//! Foreign keys as PostgreSQL shows them.

use std::sync::Arc;

use chronos_model::{Deferral, ForeignKey, TableSchema, Target};

use super::indexes::Index;
use super::objects::Objects;
use super::types::quote_ident;

const FIRST_FOREIGN_KEY: i64 = 500_000_000;
/// Object ids are kept for so many foreign keys of a table.
const KEYS_MAX: i64 = 256;

/// A foreign key, with both of its tables.
#[derive(Clone, Copy)]
pub(crate) struct Foreign<'a> {
    pub(crate) table: &'a Arc<TableSchema>,
    pub(crate) parent: &'a Arc<TableSchema>,
    pub(crate) key: &'a ForeignKey,
    position: usize,
}

impl<'a> Objects<'a> {
    /// The foreign keys by table.
    pub(crate) fn foreign_keys(&self) -> impl Iterator<Item = Foreign<'a>> {
        let catalog = self.catalog;
        self.tables().flat_map(move |table| {
            let keys = table.rules.foreign_keys.iter().enumerate();
            keys.filter_map(move |(position, key)| {
                Some(Foreign {
                    table,
                    parent: catalog.table_by_id(key.table)?,
                    key,
                    position,
                })
            })
        })
    }

    /// Whether a table refers to another or is referred to: PostgreSQL keeps that by triggers.
    pub(crate) fn has_triggers(&self, table: &TableSchema) -> bool {
        self.catalog.has_foreign_keys(table)
    }

    /// The index of the key that a foreign key refers to.
    pub(crate) fn index_referred_to(&self, foreign: Foreign<'a>) -> Option<Index<'a>> {
        let parent = foreign.parent;
        let indexes = self.catalog.indexes_of(parent.id);
        match foreign.key.target(parent, indexes.map(|i| &**i))? {
            Target::PrimaryKey => Some(Index::Primary(parent)),
            Target::Index(index) => {
                let index = self.catalog.indexes.get(&index.name)?;
                Some(Index::Secondary(parent, index))
            }
        }
    }
}

impl Foreign<'_> {
    pub(crate) fn oid(self) -> i64 {
        FIRST_FOREIGN_KEY + i64::from(self.table.id.0) * KEYS_MAX + self.position as i64
    }

    /// Positions of the columns that refer.
    pub(crate) fn columns(self) -> Vec<usize> {
        self.key.positions(self.table).unwrap_or_default()
    }

    /// Positions of those referred to.
    pub(crate) fn referenced(self) -> Vec<usize> {
        let positions = self.key.referenced_positions(self.parent);
        positions.unwrap_or_default()
    }

    pub(crate) fn is_deferrable(self) -> bool {
        self.key.deferral != Deferral::Never
    }

    pub(crate) fn is_deferred(self) -> bool {
        self.key.deferral == Deferral::InitiallyDeferred
    }

    /// As CREATE TABLE would write it.
    pub(crate) fn definition(self, objects: &Objects<'_>) -> String {
        let names = |table: &TableSchema, columns: Vec<usize>| {
            let names = columns.iter().map(|c| quote_ident(&table.columns[*c].name));
            names.collect::<Vec<_>>().join(", ")
        };
        let mut text = format!(
            "FOREIGN KEY ({}) REFERENCES {}({})",
            names(self.table, self.columns()),
            objects.shown(&self.parent.name),
            names(self.parent, self.referenced()),
        );
        let none = chronos_model::ReferentialAction::NoAction;
        if self.key.on_update != none {
            text += &format!(" ON UPDATE {}", self.key.on_update.sql());
        }
        if self.key.on_delete != none {
            text += &format!(" ON DELETE {}", self.key.on_delete.sql());
        }
        if self.is_deferrable() {
            text += " DEFERRABLE";
        }
        if self.is_deferred() {
            text += " INITIALLY DEFERRED";
        }
        text
    }
}
