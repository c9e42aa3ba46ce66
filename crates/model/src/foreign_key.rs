//! Foreign keys: what they say, which key of the referenced table they name, and by what the rows
//! that refer to a key are found.
//!
//! ```text
//!   child (a, b) REFERENCES parent (x, y)
//!
//!   a child's row is written     -> is there a parent with (x, y) = (a, b)?    by `target`
//!   a parent's key goes or moves -> is there a child with (a, b) = (x, y)?     by `access`
//! ```
//!
//! Columns and tables are named by their ids, so that renaming changes nothing. Values are
//! compared by their bytes in keys and in entries of indexes.

use serde::{Deserialize, Serialize};

use crate::key::put_value;
use crate::{
    Catalog, ColumnId, DataError, DataType, IndexSchema, IndexState, TableId, TableSchema,
    Uniqueness, Value,
};

/// A FOREIGN KEY constraint, kept with the table that refers. MATCH SIMPLE: a row with a NULL
/// among the columns refers to nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Name, already folded; unique among the table's constraints.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<ColumnId>,
    /// The table they refer to. 0 in a write set: the table that is created with it.
    pub table: TableId,
    /// The columns there, one for each.
    pub referenced: Vec<ColumnId>,
    /// What becomes of rows when the key they refer to changes.
    #[serde(default, skip_serializing_if = "ReferentialAction::is_default")]
    pub on_update: ReferentialAction,
    /// What becomes of them when it goes.
    #[serde(default, skip_serializing_if = "ReferentialAction::is_default")]
    pub on_delete: ReferentialAction,
    /// When it is checked within a transaction.
    #[serde(default, skip_serializing_if = "Deferral::is_default")]
    pub deferral: Deferral,
}

/// What a foreign key does to rows that refer to a key which goes or changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferentialAction {
    /// Nothing: at the end there must be none.
    #[default]
    NoAction,
    /// Nothing, and the check is never deferred.
    Restrict,
    /// They go or change, too.
    Cascade,
    /// Their columns become NULL.
    SetNull,
    /// Their columns get their defaults.
    SetDefault,
}

impl ReferentialAction {
    fn is_default(&self) -> bool {
        *self == ReferentialAction::NoAction
    }

    /// Whether rows that refer are changed.
    pub fn acts(self) -> bool {
        !matches!(
            self,
            ReferentialAction::NoAction | ReferentialAction::Restrict
        )
    }

    /// As SQL writes it.
    pub fn sql(self) -> &'static str {
        match self {
            ReferentialAction::NoAction => "NO ACTION",
            ReferentialAction::Restrict => "RESTRICT",
            ReferentialAction::Cascade => "CASCADE",
            ReferentialAction::SetNull => "SET NULL",
            ReferentialAction::SetDefault => "SET DEFAULT",
        }
    }

    /// `pg_constraint.confupdtype`, `confdeltype`
    pub fn letter(self) -> &'static str {
        match self {
            ReferentialAction::NoAction => "a",
            ReferentialAction::Restrict => "r",
            ReferentialAction::Cascade => "c",
            ReferentialAction::SetNull => "n",
            ReferentialAction::SetDefault => "d",
        }
    }
}

/// Until when a check within a transaction may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deferral {
    /// Until the end of the statement.
    #[default]
    Never,
    /// The same, unless SET CONSTRAINTS says otherwise.
    InitiallyImmediate,
    /// Until COMMIT, unless SET CONSTRAINTS says otherwise.
    InitiallyDeferred,
}

impl Deferral {
    fn is_default(&self) -> bool {
        *self == Deferral::Never
    }
}

/// The key that a foreign key refers to.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The primary key.
    PrimaryKey,
    /// That of a unique index.
    Index(&'a IndexSchema),
}

/// By what the rows that refer to a key are found.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// Their own keys begin with the columns.
    KeyPrefix,
    /// So do the entries of an index.
    Index(&'a IndexSchema),
}

impl ForeignKey {
    /// Positions of the columns that refer; `None`: one of them was dropped.
    pub fn positions(&self, child: &TableSchema) -> Option<Vec<usize>> {
        positions(child, &self.columns)
    }

    /// Positions of the columns referred to.
    pub fn referenced_positions(&self, parent: &TableSchema) -> Option<Vec<usize>> {
        positions(parent, &self.referenced)
    }

    /// Which key of the referenced table it names; `None`: it has no such key.
    pub fn target<'a>(
        &self,
        parent: &TableSchema,
        indexes: impl IntoIterator<Item = &'a IndexSchema>,
    ) -> Option<Target<'a>> {
        let columns = self.referenced_positions(parent)?;
        if is_permutation(&parent.primary_key, &columns) {
            return Some(Target::PrimaryKey);
        }
        let is_key = |index: &&IndexSchema| {
            let indexed: Vec<usize> = index.columns.iter().map(|c| c.column).collect();
            index.unique != Uniqueness::No
                && index.state == IndexState::Valid
                && index.conditions.is_empty()
                && is_permutation(&indexed, &columns)
        };
        indexes.into_iter().find(is_key).map(Target::Index)
    }

    /// By what rows of the referring table are found; `None`: by nothing there is.
    pub fn access<'a>(
        &self,
        child: &TableSchema,
        indexes: impl IntoIterator<Item = &'a IndexSchema>,
    ) -> Option<Access<'a>> {
        let columns = self.positions(child)?;
        let count = columns.len();
        let begins = |all: &[usize]| {
            let first = all.get(..count);
            first.is_some_and(|first| is_permutation(first, &columns))
        };
        if begins(&child.primary_key) {
            return Some(Access::KeyPrefix);
        }
        let serves = |index: &&IndexSchema| {
            let indexed: Vec<usize> = index.columns.iter().map(|c| c.column).collect();
            index.state == IndexState::Valid && index.conditions.is_empty() && begins(&indexed)
        };
        indexes.into_iter().find(serves).map(Access::Index)
    }

    /// The values of a row that refers, of the types of the columns referred to. `None`: it
    /// refers to nothing. An inner `None`: to nothing that there could be.
    pub fn refers_to(
        &self,
        child: &TableSchema,
        row: &[Value],
        parent: &TableSchema,
    ) -> Option<Option<Vec<Value>>> {
        let columns = self.positions(child)?;
        let referenced = self.referenced_positions(parent)?;
        if columns.iter().any(|c| row[*c].is_null()) {
            return None;
        }
        let pairs = columns.iter().zip(&referenced);
        Some(
            pairs
                .map(|(c, r)| of_type(&row[*c], &parent.columns[*r].data_type))
                .collect(),
        )
    }

    /// The values of a referenced row, of the types of the columns that refer. `None`: no row
    /// can refer to it.
    pub fn referred_by(
        &self,
        parent: &TableSchema,
        row: &[Value],
        child: &TableSchema,
    ) -> Option<Vec<Value>> {
        let columns = self.positions(child)?;
        let referenced = self.referenced_positions(parent)?;
        if referenced.iter().any(|c| row[*c].is_null()) {
            return None;
        }
        let pairs = columns.iter().zip(&referenced);
        pairs
            .map(|(c, r)| of_type(&row[*r], &child.columns[*c].data_type))
            .collect()
    }
}

impl Target<'_> {
    /// The key, or the entry's prefix, of values in the order of `columns`.
    pub fn bytes(
        self,
        parent: &TableSchema,
        columns: &[usize],
        values: &[Value],
    ) -> Result<Vec<u8>, DataError> {
        match self {
            Target::PrimaryKey => key_bytes(parent, columns.len(), columns, values),
            Target::Index(index) => entry_bytes(parent, index, columns, values),
        }
    }
}

impl Access<'_> {
    /// What keys, or entries, of rows with these values in `columns` begin with.
    pub fn prefix(
        self,
        child: &TableSchema,
        columns: &[usize],
        values: &[Value],
    ) -> Result<Vec<u8>, DataError> {
        match self {
            Access::KeyPrefix => key_bytes(child, columns.len(), columns, values),
            Access::Index(index) => entry_bytes(child, index, columns, values),
        }
    }
}

fn key_bytes(
    table: &TableSchema,
    count: usize,
    columns: &[usize],
    values: &[Value],
) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::with_capacity(24);
    for column in &table.primary_key[..count] {
        let value = value_of(*column, columns, values)?;
        put_value(&mut bytes, value, &table.columns[*column].data_type)?;
    }
    Ok(bytes)
}

fn entry_bytes(
    table: &TableSchema,
    index: &IndexSchema,
    columns: &[usize],
    values: &[Value],
) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::with_capacity(32);
    for (i, column) in index.columns.iter().take(columns.len()).enumerate() {
        let value = value_of(column.column, columns, values)?;
        index.put_column(table, i, value, &mut bytes)?;
    }
    Ok(bytes)
}

fn value_of<'a>(
    column: usize,
    columns: &[usize],
    values: &'a [Value],
) -> Result<&'a Value, DataError> {
    let at = columns.iter().position(|c| *c == column);
    at.and_then(|at| values.get(at)).ok_or(DataError::Damaged {
        what: "a foreign key",
        offset: 0,
        reason: "it names other columns than its key",
    })
}

fn positions(table: &TableSchema, ids: &[ColumnId]) -> Option<Vec<usize>> {
    ids.iter().map(|id| table.position_of(*id)).collect()
}

/// Whether both have the same numbers, each once.
fn is_permutation(a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && a.iter().all(|x| b.contains(x)) && b.iter().all(|x| a.contains(x))
}

/// Whether values of two types can be compared in a foreign key: they are equal if their values
/// are.
pub fn types_refer(from: &DataType, to: &DataType) -> bool {
    let is_int = |t: &DataType| matches!(t, DataType::Int2 | DataType::Int4 | DataType::Int8);
    let is_text = |t: &DataType| matches!(t, DataType::Text | DataType::Varchar(_));
    from == to || (is_int(from) && is_int(to)) || (is_text(from) && is_text(to))
}

/// A value as one of another type; `None`: that type has none like it.
fn of_type(value: &Value, data_type: &DataType) -> Option<Value> {
    let int = match value {
        Value::Int2(v) => i64::from(*v),
        Value::Int4(v) => i64::from(*v),
        Value::Int8(v) => *v,
        other => return Some(other.clone()),
    };
    match data_type {
        DataType::Int2 => i16::try_from(int).ok().map(Value::Int2),
        DataType::Int4 => i32::try_from(int).ok().map(Value::Int4),
        _ => Some(Value::Int8(int)),
    }
}

impl Catalog {
    /// The foreign keys that refer to a table, with the tables that have them.
    pub fn foreign_keys_to(
        &self,
        table: TableId,
    ) -> impl Iterator<Item = (&std::sync::Arc<TableSchema>, &ForeignKey)> {
        self.tables.values().flat_map(move |child| {
            let keys = child.rules.foreign_keys.iter();
            keys.filter(move |key| key.table == table)
                .map(move |key| (child, key))
        })
    }

    /// Whether a table refers to another or is referred to.
    pub fn has_foreign_keys(&self, table: &TableSchema) -> bool {
        let own = self.table_by_id(table.id).map(|t| &t.rules.foreign_keys);
        own.is_some_and(|keys| !keys.is_empty()) || self.foreign_keys_to(table.id).next().is_some()
    }

    /// Whether every foreign key can be kept: its table is there, with the key it names, and the
    /// rows that refer can be found.
    pub fn keeps_foreign_keys(&self) -> bool {
        self.tables.values().all(|child| {
            let mut keys = child.rules.foreign_keys.iter();
            keys.all(|key| self.keeps(child, key))
        })
    }

    fn keeps(&self, child: &TableSchema, key: &ForeignKey) -> bool {
        let Some(parent) = self.table_by_id(key.table) else {
            return false;
        };
        let indexes = |table| self.indexes_of(table).map(|index| &**index);
        parent.options.ttl_micros.is_none()
            && key.target(parent, indexes(parent.id)).is_some()
            && key.access(child, indexes(child.id)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColumnSchema;

    fn table(types: &[DataType], primary_key: &[usize]) -> TableSchema {
        let column = |(i, data_type): (usize, &DataType)| ColumnSchema {
            name: format!("c{i}"),
            data_type: data_type.clone(),
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: types.iter().enumerate().map(column).collect(),
            shape: Default::default(),
            rules: Default::default(),
            primary_key: primary_key.to_vec(),
            options: Default::default(),
        }
    }

    fn key(columns: &[u32], referenced: &[u32]) -> ForeignKey {
        ForeignKey {
            name: "f".into(),
            columns: columns.iter().copied().map(ColumnId).collect(),
            table: TableId(1),
            referenced: referenced.iter().copied().map(ColumnId).collect(),
            on_update: Default::default(),
            on_delete: Default::default(),
            deferral: Default::default(),
        }
    }

    #[test]
    fn a_key_is_found_in_whatever_order_its_columns_are_named() {
        let parent = table(&[DataType::Int8, DataType::Text], &[1, 0]);
        let child = table(&[DataType::Text, DataType::Int2], &[]);
        let key = key(&[0, 1], &[1, 0]);
        let target = key.target(&parent, []).unwrap();
        let row = [Value::Text("x".into()), Value::Int2(7)];
        let values = key.refers_to(&child, &row, &parent).unwrap().unwrap();
        let columns = key.referenced_positions(&parent).unwrap();
        let expected = crate::encode_key(&parent, &[Value::Text("x".into()), Value::Int8(7)]);
        assert_eq!(
            target.bytes(&parent, &columns, &values).unwrap(),
            expected.unwrap().0.to_vec()
        );
        assert!(key.access(&child, []).is_none());
    }

    #[test]
    fn values_that_the_other_type_has_not_refer_to_nothing() {
        let parent = table(&[DataType::Int2], &[0]);
        let child = table(&[DataType::Int8], &[0]);
        let key = key(&[0], &[0]);
        let refers = |v| key.refers_to(&child, &[v], &parent);
        assert_eq!(refers(Value::Null), None);
        assert_eq!(refers(Value::Int8(70_000)), Some(None));
        assert_eq!(refers(Value::Int8(7)), Some(Some(vec![Value::Int2(7)])));
        assert!(matches!(key.access(&child, []), Some(Access::KeyPrefix)));
    }
}
