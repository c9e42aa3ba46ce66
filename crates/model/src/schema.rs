//! Tables and the catalog that holds them.
//!
//! A table without a primary key gets a hidden one: the stamp of the write and
//! the row's position in its write set (16 bytes, big-endian), under the column
//! name [`HIDDEN_KEY_COLUMN`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{
    ColumnAttributes, ColumnId, DataType, IndexSchema, PeriodBound, RememberedKeys, SequenceSchema,
    Shape, TableOptions, TableRules, TransactionLog, Users, ViewSchema,
};

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

    /// Whether rows must be judged by more than types and NOT NULL before they are written.
    pub fn has_row_rules(&self) -> bool {
        let is_generated = |c: &ColumnSchema| c.attributes.generated.is_some();
        !self.rules.checks.is_empty() || self.columns.iter().any(is_generated)
    }

    /// Whether values of a column may not be given like others.
    pub fn has_identity(&self) -> bool {
        self.columns.iter().any(|c| c.attributes.identity.is_some())
    }

    /// Positions of the columns that show since when and until when a row is true, if there are
    /// such.
    pub fn period_columns(&self) -> Option<[usize; 2]> {
        let shows = |bound| {
            let mut columns = self.columns.iter();
            columns.position(|c| c.attributes.bound == Some(bound))
        };
        Some([shows(PeriodBound::From)?, shows(PeriodBound::To)?])
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
    /// `_valid_from`: since when it is true; NULL: always.
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
        let nullable = !matches!(self, SystemColumn::SystemFrom | SystemColumn::Key);
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
    /// Sequences by folded name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequences: BTreeMap<String, Arc<SequenceSchema>>,
    /// Views by folded name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<String, Arc<ViewSchema>>,
    /// Ids of the schemas beside `public`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, u32>,
    /// What COMMENT ON says of tables, views, indexes and sequences by id, and of the columns
    /// of tables and views.
    #[serde(default, skip_serializing_if = "Comments::is_empty")]
    pub comments: Comments,
    /// Where transactions are noted; `None`: never were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<TransactionLog>,
    /// Where idempotency keys are remembered.
    #[serde(default, skip_serializing_if = "RememberedKeys::is_default")]
    pub idempotency: RememberedKeys,
    /// Who may log in.
    #[serde(default, skip_serializing_if = "Users::is_empty")]
    pub users: Users,
}

/// Comments on what the catalog has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Comments {
    /// On relations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<u32, String>,
    /// On columns: the relation, the column's id (of a view: its position), the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<(TableId, ColumnId, String)>,
}

impl Comments {
    fn is_empty(&self) -> bool {
        *self == Comments::default()
    }

    /// The comment on a relation.
    pub fn on_relation(&self, id: TableId) -> Option<&str> {
        self.relations.get(&id.0).map(String::as_str)
    }

    /// The comment on a column.
    pub fn on_column(&self, id: TableId, column: ColumnId) -> Option<&str> {
        let mut all = self.columns.iter();
        let found = all.find(|(of, c, _)| (*of, *c) == (id, column));
        found.map(|(_, _, text)| text.as_str())
    }

    /// Says something of a relation or one of its columns, or no longer.
    pub fn set(&mut self, id: TableId, column: Option<ColumnId>, text: Option<&str>) {
        match column {
            None => {
                self.relations.remove(&id.0);
                let new = text.map(|text| (id.0, text.to_owned()));
                self.relations.extend(new);
            }
            Some(column) => {
                self.columns.retain(|(of, c, _)| (*of, *c) != (id, column));
                let new = text.map(|text| (id, column, text.to_owned()));
                self.columns.extend(new);
            }
        }
    }

    fn forget(&mut self, is_there: impl Fn(TableId) -> bool) {
        self.relations.retain(|id, _| is_there(TableId(*id)));
        self.columns.retain(|(id, _, _)| is_there(*id));
    }
}

impl Catalog {
    /// A table by its folded name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }

    /// A table by id, those of transactions and of idempotency keys included.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<TableSchema>> {
        let transactions = self.transactions.iter().map(|log| &log.table);
        self.tables
            .values()
            .chain(transactions)
            .chain([&self.idempotency.table])
            .find(|t| t.id == id)
    }

    /// Puts a table in the place of the one that has its id and its name.
    pub fn replace_table(&mut self, schema: Arc<TableSchema>) {
        match &mut self.transactions {
            Some(log) if log.table.id == schema.id => log.table = schema,
            _ if self.idempotency.table.id == schema.id => self.idempotency.table = schema,
            _ => drop(self.tables.insert(schema.name.clone(), schema)),
        }
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
        self.tables.contains_key(name)
            || self.indexes.contains_key(name)
            || self.sequences.contains_key(name)
            || self.views.contains_key(name)
    }

    /// The names of all tables, indexes, sequences and views.
    pub fn relations(&self) -> impl Iterator<Item = &String> {
        let stored = self.tables.keys().chain(self.indexes.keys());
        stored.chain(self.sequences.keys()).chain(self.views.keys())
    }

    /// A sequence by id.
    pub fn sequence_by_id(&self, id: TableId) -> Option<&Arc<SequenceSchema>> {
        self.sequences.values().find(|s| s.id == id)
    }

    /// A view by id.
    pub fn view_by_id(&self, id: TableId) -> Option<&Arc<ViewSchema>> {
        self.views.values().find(|v| v.id == id)
    }

    /// The sequences that go with a table.
    pub fn sequences_of(&self, table: TableId) -> impl Iterator<Item = &Arc<SequenceSchema>> {
        let of_table = move |s: &&Arc<SequenceSchema>| s.owner.is_some_and(|(t, _)| t == table);
        self.sequences.values().filter(of_table)
    }

    /// The id of the next table, index, sequence or view.
    pub fn next_id(&mut self) -> TableId {
        let id = TableId(self.next_table_id.max(1));
        self.next_table_id = id.0 + 1;
        id
    }

    /// Lets go of what belonged to relations that are gone.
    pub fn forget_owned(&mut self) {
        let tables: Vec<TableId> = self.tables.values().map(|t| t.id).collect();
        self.indexes
            .retain(|_, index| tables.contains(&index.table));
        self.sequences.retain(|_, sequence| {
            sequence
                .owner
                .is_none_or(|(table, _)| tables.contains(&table))
        });
        let mut known = tables;
        known.extend(self.indexes.values().map(|i| i.id));
        known.extend(self.sequences.values().map(|s| s.id));
        known.extend(self.views.values().map(|v| v.id));
        self.comments.forget(|id| known.contains(&id));
    }

    /// Whether a table or a secondary index has that id.
    pub fn stores(&self, id: TableId) -> bool {
        self.table_by_id(id).is_some() || self.index_by_id(id).is_some()
    }

    /// What is stored: the tables, and the entries of secondary indexes as tables.
    pub fn stored(&self) -> impl Iterator<Item = Arc<TableSchema>> + '_ {
        let entries = self.indexes.values().map(|i| Arc::new(i.entry_table()));
        let transactions = self.transactions.iter().map(|log| Arc::clone(&log.table));
        self.tables
            .values()
            .cloned()
            .chain(entries)
            .chain(transactions)
            .chain([Arc::clone(&self.idempotency.table)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first version wrote it.
    const FIRST: &str = r#"{"version":3,"next_table_id":2,"tables":{"t":{"id":1,"name":"t","columns":[
        {"name":"a","data_type":"bigint","nullable":false},
        {"name":"b","data_type":"text","nullable":true,"default":"'x'"}],
        "primary_key":[0],"options":{}}}}"#;

    #[test]
    fn a_catalog_of_the_first_version_reads_and_is_written_alike() {
        let catalog: Catalog = serde_json::from_str(FIRST).unwrap();
        let table = catalog.table("t").unwrap();
        assert_eq!(table.column_id(1), ColumnId(1));
        assert_eq!(table.position_of(ColumnId(0)), Some(0));
        assert_eq!((table.shape.version, table.has_row_rules()), (0, false));
        assert!(catalog.sequences.is_empty() && catalog.views.is_empty());
        // What has nothing new in it can still be read by who knows nothing of it.
        let written = serde_json::to_value(&catalog).unwrap();
        let first: serde_json::Value = serde_json::from_str(FIRST).unwrap();
        assert_eq!(written, first);
    }
}
