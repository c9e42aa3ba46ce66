//! Tables and the catalog that holds them.
//!
//! A table without a primary key gets a hidden one: the stamp of the write and
//! the row's position in its write set (16 bytes, big-endian), under the column
//! name [`HIDDEN_KEY_COLUMN`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{ColumnAttributes, DataType, IndexSchema, Shape, TableOptions, TableRules};

/// Name under which the key of a row can be asked for, in every table.
pub const HIDDEN_KEY_COLUMN: &str = "_key";

/// A table's identity; never reused, unlike its name.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct TableId(pub u32);

/// A column of a table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// Name, already folded.
    pub name: String,
    /// SQL type.
    pub data_type: DataType,
    /// Whether NULL may be stored.
    pub nullable: bool,
    /// `DEFAULT` expression as SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "ColumnAttributes::is_default")]
    pub attributes: ColumnAttributes,
}

/// A table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableSchema {
    /// Identity, given when the creation is applied.
    pub id: TableId,
    /// Name, already folded.
    pub name: String,
    /// Columns in order.
    pub columns: Vec<ColumnSchema>,
    /// How its columns have changed.
    #[serde(default, skip_serializing_if = "Shape::is_default")]
    pub shape: Shape,
    /// What it demands of its rows.
    #[serde(default, skip_serializing_if = "TableRules::is_default")]
    pub rules: TableRules,
    /// Positions of the primary key's columns in key order; empty: hidden key.
    pub primary_key: Vec<usize>,
    /// Options.
    #[serde(default)]
    pub options: TableOptions,
}

impl TableSchema {
    /// Position of a column by its folded name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// Whether it holds the entries of a secondary index: such a table has no columns.
    pub fn is_entry_table(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether rows are identified by a hidden key.
    pub fn has_hidden_key(&self) -> bool {
        self.primary_key.is_empty()
    }

    /// Name of the primary key's constraint, as PostgreSQL would call it.
    pub fn primary_key_name(&self) -> String {
        format!("{}_pkey", self.name)
    }

    /// The user's columns as Arrow fields.
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(ColumnSchema::arrow_field).collect();
        Arc::new(Schema::new(fields))
    }
}

impl ColumnSchema {
    /// The column as an Arrow field that remembers its SQL type.
    pub fn arrow_field(&self) -> Field {
        let nullable = self.nullable || self.attributes.was_nullable;
        self.data_type.to_field(&self.name, nullable)
    }
}

/// A column that every table has without declaring it; shown only when named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SystemColumn {
    /// `_system_from`: when the version was recorded.
    SystemFrom,
    /// `_system_to`: when it was superseded; NULL: not yet.
    SystemTo,
    /// `_valid_from`: since when it is true.
    ValidFrom,
    /// `_valid_to`: until when it is true; NULL: until changed.
    ValidTo,
    /// `_key`: the encoded key.
    Key,
}

impl SystemColumn {
    /// All of them, in the order in which they follow the user's columns.
    pub const ALL: [SystemColumn; 5] = [
        SystemColumn::SystemFrom,
        SystemColumn::SystemTo,
        SystemColumn::ValidFrom,
        SystemColumn::ValidTo,
        SystemColumn::Key,
    ];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            SystemColumn::SystemFrom => "_system_from",
            SystemColumn::SystemTo => "_system_to",
            SystemColumn::ValidFrom => "_valid_from",
            SystemColumn::ValidTo => "_valid_to",
            SystemColumn::Key => HIDDEN_KEY_COLUMN,
        }
    }

    /// The column of that name.
    pub fn of_name(name: &str) -> Option<SystemColumn> {
        SystemColumn::ALL.into_iter().find(|c| c.name() == name)
    }

    /// As an Arrow field.
    pub fn arrow_field(self) -> Field {
        let data_type = match self {
            SystemColumn::Key => DataType::Bytea,
            _ => DataType::TimestampTz,
        };
        let nullable = matches!(self, SystemColumn::SystemTo | SystemColumn::ValidTo);
        data_type.to_field(self.name(), nullable)
    }
}

/// All tables of a database at one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// Grows with every applied change, so that cached plans can be dropped.
    pub version: u64,
    /// The id the next table gets.
    pub next_table_id: u32,
    /// Tables by folded name.
    pub tables: BTreeMap<String, Arc<TableSchema>>,
    /// Secondary indexes by folded name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<String, Arc<IndexSchema>>,
}

impl Catalog {
    /// A table by its folded name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }

    /// A table by id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<TableSchema>> {
        self.tables.values().find(|t| t.id == id)
    }

    /// A secondary index by id.
    pub fn index_by_id(&self, id: TableId) -> Option<&Arc<IndexSchema>> {
        self.indexes.values().find(|i| i.id == id)
    }

    /// The secondary indexes of a table, by name.
    pub fn indexes_of(&self, table: TableId) -> impl Iterator<Item = &Arc<IndexSchema>> {
        self.indexes.values().filter(move |i| i.table == table)
    }

    /// Whether a table or a secondary index has that name.
    pub fn has_relation(&self, name: &str) -> bool {
        self.tables.contains_key(name) || self.indexes.contains_key(name)
    }

    /// Whether a table or a secondary index has that id.
    pub fn stores(&self, id: TableId) -> bool {
        self.table_by_id(id).is_some() || self.index_by_id(id).is_some()
    }

    /// What is stored: the tables, and the entries of secondary indexes as tables.
    pub fn stored(&self) -> impl Iterator<Item = Arc<TableSchema>> + '_ {
        let entries = self.indexes.values().map(|i| Arc::new(i.entry_table()));
        self.tables.values().cloned().chain(entries)
    }
}
