//! Secondary indexes: their schemas, and the bytes of their entries.
//!
//! An entry says that some version of a row has had certain values. Its bytes sort as the
//! index does:
//!
//! ```text
//! entry    prefix, the row's key
//! prefix   per indexed column: marker, value as in a key (key.rs)
//! marker   00 NULL, which comes first    01 a value follows    02 NULL, which comes last
//! ```
//!
//! The bytes of a value in descending order are inverted. No prefix begins with another, so
//! entries of one table never begin with each other either.
//!
//! A partial index has entries only of rows for which all of its conditions hold. Conditions
//! are typed and compare key bytes, so that whoever applies a write set can decide them
//! without knowing SQL.

use std::cmp::Ordering;

use arrow_array::{Array, ArrayRef};
use serde::{Deserialize, Serialize};

use crate::key::{column_writer, put_value, take_value};
use crate::{DataError, DataType, Decoder, KeyError, Keys, Stamp, TableId, TableSchema, Value};

const NULL_FIRST: u8 = 0;
const VALUE: u8 = 1;
const NULL_LAST: u8 = 2;

/// A secondary index.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct IndexSchema {
    /// Identity, from the same numbers as those of tables; given when the creation is applied.
    pub id: TableId,
    /// Name, already folded; tables and indexes share their names.
    pub name: String,
    /// The table. 0 in a write set: the table created just before in the same set.
    pub table: TableId,
    /// What it is sorted by.
    pub columns: Vec<IndexColumn>,
    /// Positions of the columns that INCLUDE lists. Nothing is stored for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<usize>,
    /// What kind of promise it makes.
    pub unique: Uniqueness,
    /// What must hold of a row for it to be indexed; all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How far it is built.
    pub state: IndexState,
    /// Stamp of the commit that created it: later versions enter it as they are applied.
    pub created: u64,
    /// Whether it was made for a foreign key, with which it goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_foreign_key: bool,
}

/// A column that an index is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexColumn {
    /// Its position in the table.
    pub column: usize,
    /// Whether the highest value comes first.
    pub descending: bool,
    /// Whether NULLs come before all values.
    pub nulls_first: bool,
}

/// Whether an index allows rows with the same values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uniqueness {
    /// It does.
    No,
    /// It does not: CREATE UNIQUE INDEX.
    Index,
    /// It does not: a UNIQUE constraint of the table.
    Constraint,
}

/// How far an index is built. It only ever moves on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexState {
    /// New versions enter it; those from before are being added.
    Building,
    /// It is complete and, if unique, enforced; rows from before are searched for duplicates.
    Checking,
    /// Queries may use it.
    Valid,
}

/// What a partial index asks of a row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Condition {
    /// Position of the column.
    pub column: usize,
    /// What is asked of its value.
    pub test: Test,
}

/// A test of one value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It is NULL.
    IsNull,
    /// It is not NULL.
    IsNotNull,
    /// It compares so with a constant, which is encoded as in a key.
    Compare(CompareWith, Vec<u8>),
}

/// How a value compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareWith {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

impl CompareWith {
    /// The operator in SQL.
    pub fn symbol(self) -> &'static str {
        match self {
            CompareWith::Eq => "=",
            CompareWith::NotEq => "<>",
            CompareWith::Lt => "<",
            CompareWith::LtEq => "<=",
            CompareWith::Gt => ">",
            CompareWith::GtEq => ">=",
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            CompareWith::Eq => ordering.is_eq(),
            CompareWith::NotEq => ordering.is_ne(),
            CompareWith::Lt => ordering.is_lt(),
            CompareWith::LtEq => ordering.is_le(),
            CompareWith::Gt => ordering.is_gt(),
            CompareWith::GtEq => ordering.is_ge(),
        }
    }
}

impl Condition {
    /// A comparison with a constant of the column's type.
    ///
    /// Errors: NULL, or a value of another type.
    pub fn compare(
        table: &TableSchema,
        column: usize,
        how: CompareWith,
        value: &Value,
    ) -> Result<Condition, DataError> {
        let mut bytes = Vec::new();
        put_value(&mut bytes, value, &table.columns[column].data_type)?;
        let test = Test::Compare(how, bytes);
        Ok(Condition { column, test })
    }

    /// The constant that it compares with, if it compares.
    pub fn constant(&self, table: &TableSchema) -> Result<Option<Value>, DataError> {
        let Test::Compare(_, bytes) = &self.test else {
            return Ok(None);
        };
        let mut d = Decoder::new("an index's condition", bytes);
        take_value(&mut d, &table.columns[self.column].data_type).map(Some)
    }

    /// Whether it holds for a value, encoded as in a key; `None`: NULL.
    pub fn holds(&self, value: Option<&[u8]>) -> bool {
        match (&self.test, value) {
            (Test::IsNull, value) => value.is_none(),
            (Test::IsNotNull, value) => value.is_some(),
            (Test::Compare(..), None) => false,
            (Test::Compare(how, constant), Some(value)) => how.holds(value.cmp(constant)),
        }
    }
}

/// The part of an entry before the row's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryPrefix {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether a column is NULL, so that it equals no other.
    pub has_null: bool,
}

/// The prefixes of many rows.
#[derive(Clone, Debug, Default)]
pub struct EntryPrefixes {
    /// One for each row; empty where the conditions do not hold.
    pub bytes: Keys,
    /// Whether a column is NULL, for each row.
    pub has_null: Vec<bool>,
}

impl EntryPrefixes {
    /// That of a row; `None`: the row is not in the index.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        Some(self.bytes.get(row)).filter(|prefix| !prefix.is_empty())
    }
}

impl IndexSchema {
    /// Whether duplicates are refused now.
    pub fn is_enforced(&self) -> bool {
        self.unique != Uniqueness::No && self.state >= IndexState::Checking
    }

    /// When it was created.
    pub fn created(&self) -> Stamp {
        Stamp(self.created)
    }

    /// The internal table that its entries are stored in: keys without columns.
    pub fn entry_table(&self) -> TableSchema {
        TableSchema {
            id: self.id,
            name: self.name.clone(),
            columns: Vec::new(),
            shape: Default::default(),
            rules: Default::default(),
            primary_key: Vec::new(),
            options: crate::TableOptions::default(),
        }
    }

    /// Positions of the columns that decide a row's entry: those indexed, then those of the
    /// conditions.
    pub fn inputs(&self) -> Vec<usize> {
        let indexed = self.columns.iter().map(|c| c.column);
        indexed
            .chain(self.conditions.iter().map(|c| c.column))
            .collect()
    }

    /// Whether it has to do with the column at a position.
    pub fn uses(&self, column: usize) -> bool {
        self.inputs().contains(&column) || self.included.contains(&column)
    }

    /// Follows the table, from which a column that it does not use was taken away.
    pub fn column_removed(&mut self, position: usize) {
        let indexed = self.columns.iter_mut().map(|c| &mut c.column);
        let tested = self.conditions.iter_mut().map(|c| &mut c.column);
        for column in indexed.chain(tested).chain(&mut self.included) {
            if *column > position {
                *column -= 1;
            }
        }
    }

    /// The prefix of a row's entry, by the values of all of the table's columns; `None`: the
    /// row is not in the index.
    pub fn prefix_of_row(
        &self,
        table: &TableSchema,
        row: &[Value],
    ) -> Result<Option<EntryPrefix>, DataError> {
        let inputs: Vec<&Value> = self.inputs().iter().map(|c| &row[*c]).collect();
        self.prefix_of(table, &inputs)
    }

    /// The same by the values of [`inputs`](Self::inputs).
    pub fn prefix_of(
        &self,
        table: &TableSchema,
        inputs: &[&Value],
    ) -> Result<Option<EntryPrefix>, DataError> {
        let (indexed, tested) = inputs.split_at(self.columns.len());
        let mut scratch = Vec::new();
        for (condition, value) in self.conditions.iter().zip(tested) {
            scratch.clear();
            let encoded = if value.is_null() {
                None
            } else {
                let data_type = &table.columns[condition.column].data_type;
                // A test for NULL may be of a type that no key has.
                if matches!(condition.test, Test::Compare(..)) {
                    put_value(&mut scratch, value, data_type)?;
                }
                Some(scratch.as_slice())
            };
            if !condition.holds(encoded) {
                return Ok(None);
            }
        }
        let mut bytes = Vec::with_capacity(32);
        for (i, value) in indexed.iter().enumerate() {
            self.put_column(table, i, value, &mut bytes)?;
        }
        let has_null = indexed.iter().any(|v| v.is_null());
        Ok(Some(EntryPrefix { bytes, has_null }))
    }

    /// Appends a value of the index's column number `i`, as entries have it.
    pub fn put_column(
        &self,
        table: &TableSchema,
        i: usize,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), DataError> {
        let column = &self.columns[i];
        if value.is_null() {
            out.push(column.null_marker());
            return Ok(());
        }
        out.push(VALUE);
        let start = out.len();
        put_value(out, value, &table.columns[column.column].data_type)?;
        column.turn(&mut out[start..]);
        Ok(())
    }

    /// Appends what all values of a column that are not NULL begin with.
    pub fn put_any_value(&self, out: &mut Vec<u8>) {
        out.push(VALUE);
    }

    /// The prefixes of many rows; `inputs` are the columns of [`inputs`](Self::inputs), of the
    /// table's Arrow types.
    pub fn prefixes_of_columns(
        &self,
        table: &TableSchema,
        inputs: &[ArrayRef],
    ) -> Result<EntryPrefixes, KeyError> {
        let (indexed, tested) = inputs.split_at(self.columns.len());
        let type_of = |column: usize| &table.columns[column].data_type;
        let writers = self
            .columns
            .iter()
            .zip(indexed)
            .map(|(c, array)| column_writer(type_of(c.column), array))
            .collect::<Result<Vec<_>, _>>()?;
        let rows = inputs.first().map_or(0, |c| c.len());
        let holds = self.conditions_hold(table, tested, rows)?;
        let mut prefixes = EntryPrefixes::default();
        let mut prefix = Vec::with_capacity(32);
        for (row, holds) in holds.into_iter().enumerate() {
            prefix.clear();
            let mut has_null = false;
            if holds {
                for ((column, array), write) in self.columns.iter().zip(indexed).zip(&writers) {
                    if array.is_null(row) {
                        prefix.push(column.null_marker());
                        has_null = true;
                        continue;
                    }
                    prefix.push(VALUE);
                    let start = prefix.len();
                    write(row, &mut prefix)?;
                    column.turn(&mut prefix[start..]);
                }
            }
            prefixes.bytes.push(&prefix);
            prefixes.has_null.push(has_null);
        }
        Ok(prefixes)
    }

    fn conditions_hold(
        &self,
        table: &TableSchema,
        tested: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<bool>, KeyError> {
        let mut holds = vec![true; rows];
        let mut scratch = Vec::new();
        for (condition, array) in self.conditions.iter().zip(tested) {
            let write = match condition.test {
                Test::Compare(..) => {
                    let data_type = &table.columns[condition.column].data_type;
                    Some(column_writer(data_type, array)?)
                }
                _ => None,
            };
            for (row, holds) in holds.iter_mut().enumerate().filter(|(_, holds)| **holds) {
                scratch.clear();
                let value = if array.is_null(row) {
                    None
                } else {
                    if let Some(write) = &write {
                        write(row, &mut scratch)?;
                    }
                    Some(scratch.as_slice())
                };
                *holds = condition.holds(value);
            }
        }
        Ok(holds)
    }

    /// The values that a prefix is made of.
    pub fn values_of_prefix(
        &self,
        table: &TableSchema,
        prefix: &[u8],
    ) -> Result<Vec<Value>, DataError> {
        let mut rest = prefix;
        let mut values = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let data_type = &table.columns[column.column].data_type;
            let after = column.skip(data_type, rest).ok_or(DataError::Damaged {
                what: "an entry of an index",
                offset: prefix.len() - rest.len(),
                reason: "it ends early, or a marker is unknown",
            })?;
            let (own, _) = rest.split_at(rest.len() - after.len());
            values.push(match own {
                [VALUE, bytes @ ..] => {
                    let mut bytes = bytes.to_vec();
                    column.turn(&mut bytes);
                    take_value(&mut Decoder::new("an entry of an index", &bytes), data_type)?
                }
                _ => Value::Null,
            });
            rest = after;
        }
        Ok(values)
    }

    /// Where in an entry the row's key begins.
    pub fn key_start(&self, table: &TableSchema, entry: &[u8]) -> Result<usize, DataError> {
        let mut rest = entry;
        for column in &self.columns {
            let data_type = &table.columns[column.column].data_type;
            rest = column.skip(data_type, rest).ok_or(DataError::Damaged {
                what: "an entry of an index",
                offset: entry.len() - rest.len(),
                reason: "it ends early, or a marker is unknown",
            })?;
        }
        Ok(entry.len() - rest.len())
    }
}

impl IndexColumn {
    fn null_marker(self) -> u8 {
        match self.nulls_first {
            true => NULL_FIRST,
            false => NULL_LAST,
        }
    }

    /// Puts bytes of a value into, or out of, descending order.
    fn turn(self, bytes: &mut [u8]) {
        if self.descending {
            bytes.iter_mut().for_each(|b| *b = !*b);
        }
    }

    /// What follows this column's value; `None`: the bytes are damaged.
    fn skip<'a>(self, data_type: &DataType, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (marker, rest) = bytes.split_first()?;
        match *marker {
            NULL_FIRST | NULL_LAST => return Some(rest),
            VALUE => {}
            _ => return None,
        }
        let fixed = match data_type {
            DataType::Bool => 1,
            DataType::Int2 => 2,
            DataType::Int4 | DataType::Date | DataType::Float4 => 4,
            DataType::Numeric(_) | DataType::Uuid => 16,
            DataType::Text | DataType::Varchar(_) | DataType::Bytea => {
                let mask = if self.descending { 0xff } else { 0 };
                let mut at = 0;
                loop {
                    let zero = rest.get(at..)?.iter().position(|b| *b ^ mask == 0)?;
                    at += zero + 2;
                    if *rest.get(at - 1)? ^ mask == 1 {
                        return rest.get(at..);
                    }
                }
            }
            _ => 8,
        };
        rest.get(fixed..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{rows_to_batch, ColumnSchema, TableOptions};

    const TYPES: [DataType; 4] = [
        DataType::Int4,
        DataType::Text,
        DataType::Bool,
        DataType::Numeric(Some((9, 2))),
    ];

    fn table() -> TableSchema {
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
            columns: TYPES.iter().enumerate().map(column).collect(),
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![],
            options: TableOptions::default(),
        }
    }

    fn index(columns: Vec<IndexColumn>, conditions: Vec<Condition>) -> IndexSchema {
        IndexSchema {
            id: TableId(2),
            name: "i".into(),
            table: TableId(1),
            columns,
            included: vec![],
            unique: Uniqueness::No,
            conditions,
            state: IndexState::Valid,
            created: 0,
            for_foreign_key: false,
        }
    }

    fn value(column: usize) -> BoxedStrategy<Value> {
        let some = match column {
            0 => (-3i32..4).prop_map(Value::Int4).boxed(),
            1 => "[a\\x00\\xff]{0,3}".prop_map(Value::Text).boxed(),
            2 => any::<bool>().prop_map(Value::Bool).boxed(),
            _ => (-300i128..300)
                .prop_map(|unscaled| Value::Numeric(crate::Decimal { unscaled, scale: 2 }))
                .boxed(),
        };
        prop_oneof![1 => Just(Value::Null), 4 => some].boxed()
    }

    fn rank(value: &Value) -> i128 {
        match value {
            Value::Int4(v) => i128::from(*v),
            Value::Bool(v) => i128::from(*v),
            Value::Numeric(d) => d.unscaled,
            _ => 0,
        }
    }

    fn compare(column: IndexColumn, a: &Value, b: &Value) -> Ordering {
        let null = |v: &Value| match (v.is_null(), column.nulls_first) {
            (true, true) => 0,
            (false, _) => 1,
            (true, false) => 2,
        };
        let values = match (a, b) {
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (a, b) => rank(a).cmp(&rank(b)),
        };
        let values = if column.descending {
            values.reverse()
        } else {
            values
        };
        null(a).cmp(&null(b)).then(values)
    }

    proptest! {
        /// Entries sort as rows do, give their keys back, and are the same from rows and from
        /// columns.
        #[test]
        fn entries_sort_as_their_rows(
            rows in prop::collection::vec((value(0), value(1), value(2), value(3)), 2..8),
            columns in prop::collection::vec((0usize..4, any::<bool>(), any::<bool>()), 1..4),
        ) {
            let table = table();
            let rows: Vec<Vec<Value>> = rows.into_iter().map(|(a, b, c, d)| vec![a, b, c, d]).collect();
            let columns = columns.into_iter().map(|(column, descending, nulls_first)| IndexColumn {
                column,
                descending,
                nulls_first,
            });
            let index = index(columns.collect(), vec![]);
            let prefixes: Vec<_> = rows
                .iter()
                .map(|r| index.prefix_of_row(&table, r).unwrap().unwrap())
                .collect();
            let batch = rows_to_batch(&table, &rows).unwrap();
            let inputs: Vec<_> = index.inputs().iter().map(|c| batch.column(*c).clone()).collect();
            let many = index.prefixes_of_columns(&table, &inputs).unwrap();
            for (i, prefix) in prefixes.iter().enumerate() {
                prop_assert_eq!(many.get(i), Some(prefix.bytes.as_slice()));
                prop_assert_eq!(many.has_null[i], prefix.has_null);
                let mut entry = prefix.bytes.clone();
                entry.extend_from_slice(b"the key");
                let values: Vec<_> = index.columns.iter().map(|c| rows[i][c.column].clone()).collect();
                prop_assert_eq!(index.values_of_prefix(&table, &prefix.bytes).unwrap(), values);
                prop_assert_eq!(index.key_start(&table, &entry).unwrap(), prefix.bytes.len());
            }
            for (a, x) in rows.iter().zip(&prefixes) {
                for (b, y) in rows.iter().zip(&prefixes) {
                    let expected = index.columns.iter().fold(Ordering::Equal, |so_far, c| {
                        so_far.then(compare(*c, &a[c.column], &b[c.column]))
                    });
                    prop_assert_eq!(x.bytes.cmp(&y.bytes), expected);
                }
            }
        }

        /// Conditions mean what they say, from rows and from columns alike.
        #[test]
        fn conditions_choose_rows(
            rows in prop::collection::vec((value(0), value(1)), 1..8),
            constant in -3i32..4,
            how in 0usize..6,
            null in any::<bool>(),
        ) {
            use CompareWith::*;
            let table = table();
            let how = [Eq, NotEq, Lt, LtEq, Gt, GtEq][how];
            let compared = Condition::compare(&table, 0, how, &Value::Int4(constant)).unwrap();
            prop_assert_eq!(compared.constant(&table).unwrap(), Some(Value::Int4(constant)));
            let nulls = Condition {
                column: 1,
                test: if null { Test::IsNull } else { Test::IsNotNull },
            };
            let column = IndexColumn { column: 1, descending: false, nulls_first: false };
            let index = index(vec![column], vec![compared, nulls]);
            let rows: Vec<Vec<Value>> = rows.into_iter().map(|(a, b)| vec![a, b, Value::Null, Value::Null]).collect();
            let batch = rows_to_batch(&table, &rows).unwrap();
            let inputs: Vec<_> = index.inputs().iter().map(|c| batch.column(*c).clone()).collect();
            let many = index.prefixes_of_columns(&table, &inputs).unwrap();
            for (i, row) in rows.iter().enumerate() {
                let first = match &row[0] {
                    Value::Int4(v) => match how {
                        Eq => *v == constant,
                        NotEq => *v != constant,
                        Lt => *v < constant,
                        LtEq => *v <= constant,
                        Gt => *v > constant,
                        GtEq => *v >= constant,
                    },
                    _ => false,
                };
                let expected = first && row[1].is_null() == null;
                let one = index.prefix_of_row(&table, row).unwrap();
                prop_assert_eq!(one.is_some(), expected);
                prop_assert_eq!(many.get(i), one.as_ref().map(|p| p.bytes.as_slice()));
            }
        }
    }

    #[test]
    fn damaged_entries_are_errors() {
        let table = table();
        let column = IndexColumn {
            column: 1,
            descending: true,
            nulls_first: true,
        };
        let index = index(vec![column], vec![]);
        for bytes in [&[][..], &[3], &[1], &[1, 0x9e], &[1, 0x9e, 0xff]] {
            let _ = index.key_start(&table, bytes).unwrap_err();
        }
    }
}
