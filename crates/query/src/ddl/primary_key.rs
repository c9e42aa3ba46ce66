//! ALTER TABLE .. ADD PRIMARY KEY.
//!
//! What a row is stored under cannot be changed afterwards. So there are two ways:
//!
//! ```text
//!   nothing was ever stored in the table -> it has the key from now on
//!   otherwise                            -> its columns become NOT NULL and UNIQUE, which is what
//!                                           a primary key demands; rows keep their hidden keys
//! ```

use std::sync::Arc;

use chronos_model::{Catalog, IndexSchema, TableSchema, Uniqueness};
use datafusion::sql::sqlparser::ast::{self, AlterColumnOperation, AlterTableOperation};

use super::{check_primary_key, index, key_column, set_primary_key};
use crate::sql::table_name;
use crate::QueryError;

/// A primary key for a table that was created without.
#[derive(Debug)]
pub struct AddedKey {
    /// The table as it is.
    pub table: Arc<TableSchema>,
    /// The table with the key, for one in which nothing was ever stored.
    pub keyed: TableSchema,
    /// For another: the statement that makes the columns NOT NULL ..
    pub not_null: ast::AlterTable,
    /// .. and the index that keeps their values unique.
    pub index: IndexSchema,
}

/// The key which is all that an ALTER TABLE adds; `None`: it does something else.
pub fn added_primary_key(
    alter: &ast::AlterTable,
    catalog: &Catalog,
) -> Result<Option<AddedKey>, QueryError> {
    let [AlterTableOperation::AddConstraint {
        constraint: ast::TableConstraint::PrimaryKey(key),
        not_valid: false,
    }] = alter.operations.as_slice()
    else {
        return Ok(None);
    };
    let Some(table) = catalog.table(&table_name(&alter.name)?) else {
        return Ok(None);
    };
    refuse_second(table, catalog)?;
    let columns = key.columns.iter().map(|c| key_column(&table.columns, c));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let mut keyed = TableSchema::clone(table);
    check_primary_key(&mut keyed.columns, &columns)?;
    if columns
        .iter()
        .any(|c| table.columns[*c].attributes.generated.is_some())
    {
        return Err(QueryError::unsupported("a generated column as primary key"));
    }
    keyed.primary_key = columns.clone();
    keyed.reshape();
    // Whatever it is called in the statement, as in CREATE TABLE.
    let name = table.primary_key_name();
    let name = ast::Ident::with_quote('"', chronos_model::own_name(&name));
    let unique = ast::UniqueConstraint {
        name: Some(name),
        index_name: None,
        index_type_display: ast::KeyOrIndexDisplay::None,
        index_type: key.index_type.clone(),
        columns: key.columns.clone(),
        index_options: key.index_options.clone(),
        characteristics: key.characteristics,
        nulls_distinct: ast::NullsDistinctOption::None,
    };
    Ok(Some(AddedKey {
        table: table.clone(),
        keyed,
        not_null: not_null(alter, table, &columns),
        index: index::added_constraint(&unique, table, catalog)?,
    }))
}

/// 42P16 for a table that has a primary key, or what ADD PRIMARY KEY made in its place.
fn refuse_second(table: &TableSchema, catalog: &Catalog) -> Result<(), QueryError> {
    let name = table.primary_key_name();
    let is_key = |i: &Arc<IndexSchema>| i.unique == Uniqueness::Constraint && i.name == name;
    let has_key = !table.has_hidden_key() || catalog.indexes_of(table.id).any(is_key);
    set_primary_key(&mut has_key.then(Vec::new), Vec::new(), &table.name)
}

fn not_null(alter: &ast::AlterTable, table: &TableSchema, columns: &[usize]) -> ast::AlterTable {
    let set = |column: &usize| AlterTableOperation::AlterColumn {
        column_name: ast::Ident::with_quote('"', &table.columns[*column].name),
        op: AlterColumnOperation::SetNotNull,
    };
    ast::AlterTable {
        operations: columns.iter().map(set).collect(),
        ..alter.clone()
    }
}
