//! Rows of one shape of a table as rows of a later one.
//!
//! ```text
//!   made for  a:0 int4   b:1 text                  values in the order of the columns then
//!   is now    a:0 int8   c:2 int8 missing '7'      a widened, b left out, c is 7
//! ```
//!
//! The store does this to what it holds in segments when it reads them; this is for rows that are
//! not there yet, or only in memory.

use bytes::Bytes;

use crate::{decode_row, encode_row, DataError, DataType, TableSchema, Value};

/// Of what each column of a later shape is made.
#[derive(Debug)]
pub struct Reshape<'a> {
    from: &'a TableSchema,
    columns: Vec<Origin>,
}

#[derive(Debug)]
enum Origin {
    /// Of the value at this position.
    Same(usize),
    /// Of that, which is of a narrower type.
    Widened(usize, DataType),
    /// The column was added since.
    Missing(Value),
}

impl Reshape<'_> {
    /// How rows of `from` become rows of `to`, which is the same table.
    ///
    /// Errors: a column's missing value is damaged.
    pub fn new<'a>(from: &'a TableSchema, to: &TableSchema) -> Result<Reshape<'a>, DataError> {
        let origin = |(position, column): (usize, &crate::ColumnSchema)| {
            Ok(match from.position_of(to.column_id(position)) {
                None => Origin::Missing(column.missing_value()?),
                Some(before) if from.columns[before].data_type == column.data_type => {
                    Origin::Same(before)
                }
                Some(before) => Origin::Widened(before, column.data_type.clone()),
            })
        };
        let columns = to.columns.iter().enumerate().map(origin);
        Ok(Reshape {
            from,
            columns: columns.collect::<Result<_, DataError>>()?,
        })
    }

    /// A row's values.
    pub fn values(&self, values: &[Value]) -> Result<Vec<Value>, DataError> {
        let of = |origin: &Origin| match origin {
            Origin::Same(before) => Ok(values[*before].clone()),
            Origin::Widened(before, to) => values[*before].clone().coerce(to),
            Origin::Missing(value) => Ok(value.clone()),
        };
        self.columns.iter().map(of).collect()
    }

    /// A row as [`encode_row`] wrote it; of a removal, which has none, nothing.
    pub fn row(&self, row: &[u8]) -> Result<Bytes, DataError> {
        if row.is_empty() {
            return Ok(Bytes::new());
        }
        let values = self.values(&decode_row(self.from, row)?)?;
        let mut bytes = Vec::with_capacity(row.len());
        encode_row(&values, &mut bytes);
        Ok(Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ColumnSchema, TableId};

    #[test]
    fn rows_follow_their_table() {
        let column = |name: &str, data_type| ColumnSchema {
            name: name.to_owned(),
            data_type,
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        let before = TableSchema {
            id: TableId(1),
            name: "t".into(),
            columns: vec![
                column("gone", DataType::Text),
                column("a", DataType::Int4),
                column("b", DataType::Text),
            ],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![],
            options: Default::default(),
        };
        let mut after = before.clone();
        let mut added = column("c", DataType::Int8);
        added.set_missing(&Value::Int8(7));
        after.remove_column(0);
        after.widen_column(0, DataType::Int8).unwrap();
        after.add_column(added);
        let mut row = Vec::new();
        let text = |s: &str| Value::Text(s.into());
        encode_row(&[text("x"), Value::Int4(-3), Value::Null], &mut row);
        let reshape = Reshape::new(&before, &after).unwrap();
        let now = decode_row(&after, &reshape.row(&row).unwrap()).unwrap();
        assert_eq!(now, [Value::Int8(-3), Value::Null, Value::Int8(7)]);
        assert!(reshape.row(b"").unwrap().is_empty());
    }
}
