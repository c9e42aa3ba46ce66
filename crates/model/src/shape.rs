//! How the columns of a table change over its life.
//!
//! A column has an id that is never given to another. Whatever stores values says by id whose
//! they are, so that columns can be added, dropped and widened while what was written before
//! stays as it is:
//!
//! ```text
//!   stored under  a:0 int4   b:1 text                 an old segment
//!   read as       a:0 int8   c:2 int8 missing '7'     a converted, b passed over, c is 7
//! ```
//!
//! A table whose columns never changed has its positions for ids and stores none.

use serde::{Deserialize, Serialize};

use crate::{text, ColumnSchema, DataError, DataType, TableSchema, Value};

/// A column's identity within its table; never reused, unlike its name and its position.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct ColumnId(pub u32);

/// What has become of a table's columns since it was created.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Shape {
    /// Grows with each change of what a row must look like. Rows that were made for another
    /// version are not applied.
    pub version: u32,
    /// Ids of the columns in order; empty: their positions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub column_ids: Vec<ColumnId>,
    /// The id that the next column gets; 0: as many as there are columns.
    #[serde(default)]
    pub next_column_id: u32,
}

impl Shape {
    pub(crate) fn is_default(&self) -> bool {
        *self == Shape::default()
    }
}

/// Where stored values of a column are, and of which type.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredColumn {
    /// The column.
    pub id: ColumnId,
    /// Its type when the values were written.
    pub data_type: DataType,
}

impl TableSchema {
    /// The id of the column at a position.
    pub fn column_id(&self, position: usize) -> ColumnId {
        let id = self.shape.column_ids.get(position).copied();
        id.unwrap_or(ColumnId(position as u32))
    }

    /// The position of a column by its id; `None`: it was dropped.
    pub fn position_of(&self, id: ColumnId) -> Option<usize> {
        (0..self.columns.len()).find(|position| self.column_id(*position) == id)
    }

    /// The columns as they are stored when they are written now.
    pub fn stored_columns(&self) -> impl Iterator<Item = StoredColumn> + '_ {
        self.columns
            .iter()
            .enumerate()
            .map(|(i, column)| StoredColumn {
                id: self.column_id(i),
                data_type: column.data_type.clone(),
            })
    }

    /// Whether rows written for `other` have the same columns and the same kind of key, so that
    /// they can be read as they are.
    pub fn stores_like(&self, other: &TableSchema) -> bool {
        self.shape.version == other.shape.version
            || (self.has_hidden_key() == other.has_hidden_key()
                && self.stored_columns().eq(other.stored_columns()))
    }

    /// Notes that rows made from now on are different from those before.
    pub fn reshape(&mut self) {
        self.shape.version += 1;
    }

    /// Adds a column; rows from before have its missing value.
    pub fn add_column(&mut self, column: ColumnSchema) {
        self.spell_out_ids();
        self.shape
            .column_ids
            .push(ColumnId(self.shape.next_column_id));
        self.shape.next_column_id += 1;
        self.columns.push(column);
        self.reshape();
    }

    /// Takes a column away, which must not be one of the primary key. What refers to columns
    /// by position is moved; what refers to this one must be gone.
    pub fn remove_column(&mut self, position: usize) {
        self.spell_out_ids();
        self.columns.remove(position);
        self.shape.column_ids.remove(position);
        let move_up = |p: &mut usize| {
            if *p > position {
                *p -= 1;
            }
        };
        self.primary_key.iter_mut().for_each(move_up);
        self.options.time_column.iter_mut().for_each(move_up);
        self.reshape();
    }

    /// Makes a column's type a wider one.
    ///
    /// Errors: its missing value does not become one of that type.
    pub fn widen_column(&mut self, position: usize, to: DataType) -> Result<(), DataError> {
        let column = &mut self.columns[position];
        let missing = column.missing_value()?.coerce(&to)?;
        column.data_type = to;
        column.set_missing(&missing);
        self.reshape();
        Ok(())
    }

    fn spell_out_ids(&mut self) {
        if self.shape.column_ids.is_empty() && self.shape.next_column_id == 0 {
            let count = self.columns.len() as u32;
            self.shape.column_ids = (0..count).map(ColumnId).collect();
            self.shape.next_column_id = count;
        }
    }
}

impl ColumnSchema {
    /// What the column is in rows from before it was added.
    ///
    /// Errors: the text that says so is damaged.
    pub fn missing_value(&self) -> Result<Value, DataError> {
        match &self.attributes.missing {
            None => Ok(Value::Null),
            Some(written) => text::parse(&self.data_type, written),
        }
    }

    /// Says what the column is in rows from before it was added.
    pub fn set_missing(&mut self, value: &Value) {
        self.attributes.missing = (!value.is_null()).then(|| text::format(value));
    }
}

impl DataType {
    /// Whether every value of this type is one of `wider`, by a conversion that can be made
    /// when it is read.
    pub fn widens_to(&self, wider: &DataType) -> bool {
        match (self, wider) {
            (DataType::Int2, DataType::Int4 | DataType::Int8)
            | (DataType::Int4, DataType::Int8)
            | (DataType::Float4, DataType::Float8)
            | (DataType::Varchar(_), DataType::Text | DataType::Varchar(None)) => true,
            (DataType::Text, DataType::Varchar(None)) => true,
            (DataType::Varchar(Some(n)), DataType::Varchar(Some(m))) => n <= m,
            (DataType::Numeric(from), DataType::Numeric(to)) => {
                let (from, to) = (DataType::numeric_shape(*from), DataType::numeric_shape(*to));
                from.1 == to.1 && from.0 <= to.0
            }
            (same, other) => same == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;

    fn table(columns: &[(&str, DataType)]) -> TableSchema {
        let column = |(name, data_type): &(&str, DataType)| ColumnSchema {
            name: (*name).to_owned(),
            data_type: data_type.clone(),
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: columns.iter().map(column).collect(),
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![1],
            options: Default::default(),
        }
    }

    #[test]
    fn ids_are_positions_until_a_column_goes_and_are_never_given_twice() {
        let mut t = table(&[
            ("a", DataType::Int4),
            ("b", DataType::Int4),
            ("c", DataType::Text),
        ]);
        let before = t.clone();
        let added = t.columns[0].clone();
        t.remove_column(2);
        t.add_column(added.clone());
        assert_eq!(t.shape.column_ids, [ColumnId(0), ColumnId(1), ColumnId(3)]);
        t.remove_column(2);
        t.remove_column(0);
        t.add_column(added);
        assert_eq!(t.shape.column_ids, [ColumnId(1), ColumnId(4)]);
        assert_eq!((t.primary_key.as_slice(), t.shape.version), (&[0][..], 5));
        assert_eq!(t.position_of(ColumnId(0)), None);
        assert_eq!(t.position_of(ColumnId(4)), Some(1));
        assert!(!t.stores_like(&before));
    }

    #[test]
    fn a_missing_value_is_widened_with_its_column() {
        let mut t = table(&[("a", DataType::Float4), ("b", DataType::Int4)]);
        t.columns[0].set_missing(&Value::Float4(1.1));
        t.widen_column(0, DataType::Float8).unwrap();
        let wide = t.columns[0].missing_value().unwrap();
        assert_eq!(wide, Value::Float8(f64::from(1.1f32)));
    }

    #[test]
    fn only_what_loses_nothing_is_wider() {
        let numeric = |p, s| DataType::Numeric(Some((p, s)));
        assert!(DataType::Int2.widens_to(&DataType::Int8));
        assert!(numeric(8, 2).widens_to(&numeric(9, 2)));
        assert!(DataType::Varchar(Some(3)).widens_to(&DataType::Varchar(Some(4))));
        for (from, to) in [
            (DataType::Int8, DataType::Int4),
            (DataType::Int4, DataType::Float8),
            (numeric(8, 2), numeric(9, 3)),
            (numeric(8, 2), numeric(7, 2)),
            (DataType::Varchar(Some(4)), DataType::Varchar(Some(3))),
            (DataType::Text, DataType::Varchar(Some(3))),
        ] {
            assert!(!from.widens_to(&to), "{from} to {to}");
        }
    }
}
