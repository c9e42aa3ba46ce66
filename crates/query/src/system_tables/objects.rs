//! The catalog's objects under PostgreSQL's names: their ids and their definitions.

use std::sync::Arc;

use chronos_model::{Catalog, TableId, TableSchema};

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

const FIRST_TABLE: i64 = 16_384 + 1_000;
const FIRST_INDEX: i64 = 1_000_000;
const FIRST_CONSTRAINT: i64 = 2_000_000;

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

impl<'a> Objects<'a> {
    /// The tables by name.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &'a Arc<TableSchema>> {
        self.catalog.tables.values()
    }

    /// The tables that have a primary key.
    pub(crate) fn keyed_tables(&self) -> impl Iterator<Item = &'a Arc<TableSchema>> {
        self.tables().filter(|t| !t.has_hidden_key())
    }

    /// The table of an object id.
    pub(crate) fn table(&self, oid: i64) -> Option<&'a Arc<TableSchema>> {
        self.tables().find(|t| table_oid(t.id) == oid)
    }

    /// The table whose primary key's index has that object id.
    pub(crate) fn index(&self, oid: i64) -> Option<&'a Arc<TableSchema>> {
        self.keyed_tables().find(|t| index_oid(t.id) == oid)
    }

    /// The statement that would create an index; with a column, that column.
    pub(crate) fn index_definition(&self, oid: i64, column: i64) -> Option<String> {
        let table = self.index(oid)?;
        if column == 0 {
            return Some(index_definition(table));
        }
        let position = usize::try_from(column).ok()?.checked_sub(1)?;
        let column = &table.columns[*table.primary_key.get(position)?];
        Some(quote_ident(&column.name))
    }

    /// A constraint as CREATE TABLE would write it.
    pub(crate) fn constraint_definition(&self, oid: i64) -> Option<String> {
        let table = self.keyed_tables().find(|t| constraint_oid(t.id) == oid)?;
        Some(format!("PRIMARY KEY ({})", key_columns(table)))
    }
}

/// The statement that would create the index of a table's primary key.
pub(crate) fn index_definition(table: &TableSchema) -> String {
    format!(
        "CREATE UNIQUE INDEX {} ON public.{} USING btree ({})",
        quote_ident(&table.primary_key_name()),
        quote_ident(&table.name),
        key_columns(table)
    )
}

fn key_columns(table: &TableSchema) -> String {
    let names: Vec<String> = table
        .primary_key
        .iter()
        .map(|&i| quote_ident(&table.columns[i].name))
        .collect();
    names.join(", ")
}
