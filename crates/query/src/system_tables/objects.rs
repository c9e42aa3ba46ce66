//! The catalog's objects under PostgreSQL's names: their ids. Indexes: [`super::indexes`].

use std::sync::Arc;

use chronos_model::{Catalog, CheckSchema, ColumnId, TableId, TableSchema};

use super::types::quote_ident;
use crate::engine::SessionFacts;

/// Object id of the schema `pg_catalog`.
pub(crate) const PG_CATALOG: i64 = 11;
/// Object id of the schema `public`.
pub(crate) const PUBLIC: i64 = 2200;
/// Object id of the schema `information_schema`.
pub(crate) const INFORMATION_SCHEMA: i64 = 13_000;
/// Object id of the only role: the user of the session.
pub(crate) const OWNER: i64 = 10;
/// Object id of the only database.
pub(crate) const DATABASE: i64 = 5;

pub(crate) const FIRST_TABLE: i64 = 16_384 + 1_000;
const FIRST_INDEX: i64 = 1_000_000;
const FIRST_CONSTRAINT: i64 = 2_000_000;
const FIRST_CHECK: i64 = 100_000_000;
/// Object ids are kept for so many CHECK constraints of a table.
const CHECKS_MAX: i64 = 256;

/// What system tables are made from.
#[derive(Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) facts: &'a SessionFacts,
}

pub(crate) fn table_oid(id: TableId) -> i64 {
    FIRST_TABLE + i64::from(id.0)
}

pub(crate) fn index_oid(id: TableId) -> i64 {
    FIRST_INDEX + i64::from(id.0)
}

pub(crate) fn constraint_oid(id: TableId) -> i64 {
    FIRST_CONSTRAINT + i64::from(id.0)
}

/// A CHECK constraint, with its table.
#[derive(Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) table: &'a Arc<TableSchema>,
    pub(crate) check: &'a CheckSchema,
    position: usize,
}

impl Check<'_> {
    pub(crate) fn oid(self) -> i64 {
        FIRST_CHECK + i64::from(self.table.id.0) * CHECKS_MAX + self.position as i64
    }

    /// Positions of the columns that it is about.
    pub(crate) fn columns(self) -> Vec<usize> {
        let columns = crate::ddl::columns_in(&self.check.expression, self.table);
        columns.map_or(vec![], |columns| columns.into_iter().collect())
    }

    /// As CREATE TABLE would write it.
    pub(crate) fn definition(self) -> String {
        format!("CHECK ({})", self.check.expression)
    }
}

impl<'a> Objects<'a> {
    /// The CHECK constraints by table.
    pub(crate) fn checks(&self) -> impl Iterator<Item = Check<'a>> {
        self.tables().flat_map(|table| {
            let checks = table.rules.checks.iter().enumerate();
            checks.map(move |(position, check)| Check {
                table,
                check,
                position,
            })
        })
    }

    /// The object id of a table, index, sequence or view.
    pub(crate) fn relation_oid(&self, id: TableId) -> i64 {
        match self.catalog.index_by_id(id) {
            Some(_) => index_oid(id),
            None => table_oid(id),
        }
    }

    /// `attnum` of a column of a table or view.
    pub(crate) fn attribute_number(&self, id: TableId, column: ColumnId) -> Option<i64> {
        let position = match self.catalog.table_by_id(id) {
            Some(table) => table.position_of(column)?,
            None => column.0 as usize,
        };
        Some(position as i64 + 1)
    }

    /// The comment on a relation, or on one of its columns.
    pub(crate) fn comment(&self, oid: i64, column: i64) -> Option<String> {
        let comments = &self.catalog.comments;
        let text = match column {
            0 => comments
                .relations
                .iter()
                .find(|(id, _)| self.relation_oid(TableId(**id)) == oid)
                .map(|(_, text)| text),
            number => comments
                .columns
                .iter()
                .find(|(id, column, _)| {
                    self.relation_oid(*id) == oid
                        && self.attribute_number(*id, *column) == Some(number)
                })
                .map(|(_, _, text)| text),
        };
        text.cloned()
    }

    /// The object id of a schema of users.
    pub(crate) fn namespace(&self, schema: &str) -> i64 {
        let id = self.catalog.schemas.get(schema);
        id.map_or(PUBLIC, |id| table_oid(TableId(*id)))
    }

    /// The object id of a relation's schema, by the relation's name.
    pub(crate) fn namespace_of(&self, relation: &str) -> i64 {
        self.namespace(chronos_model::name_parts(relation).0)
    }

    /// A relation's name, with its schema where it would not be found without.
    pub(crate) fn shown(&self, relation: &str) -> String {
        let (schema, name) = chronos_model::name_parts(relation);
        match self.is_visible(relation) {
            true => quote_ident(name),
            false => format!("{}.{}", quote_ident(schema), quote_ident(name)),
        }
    }

    /// Whether a relation is found by its own name.
    pub(crate) fn is_visible(&self, relation: &str) -> bool {
        let (schema, name) = chronos_model::name_parts(relation);
        if self.catalog.schemas.is_empty() && self.facts.search_path.is_none() {
            return true;
        }
        let path = self.facts.path(self.catalog);
        let is_taken =
            |s: &&String| crate::ddl::is_taken(self.catalog, &chronos_model::name_in(s, name));
        path.iter()
            .find(is_taken)
            .is_some_and(|first| first == schema)
    }

    /// The catalog's name of a relation that is written without its schema.
    pub(crate) fn found(&self, name: &str) -> String {
        if self.facts.means_public(self.catalog) {
            return name.to_owned();
        }
        let path = self.facts.path(self.catalog);
        let mut full = path.iter().map(|s| chronos_model::name_in(s, name));
        let found = full.find(|full| crate::ddl::is_taken(self.catalog, full));
        // A name that nothing has.
        found.unwrap_or_else(|| chronos_model::name_in("", name))
    }

    /// The tables by name.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &'a Arc<TableSchema>> {
        self.catalog.tables.values()
    }

    /// The table of an object id.
    pub(crate) fn table(&self, oid: i64) -> Option<&'a Arc<TableSchema>> {
        self.tables().find(|t| table_oid(t.id) == oid)
    }
}
