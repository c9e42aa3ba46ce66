//! Rows of a system relation, given by some of its columns.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema};
use chronos_model::{append_value, column_builder, CatalogType, Value};
use std::sync::Arc;

use super::relations::Relation;
use crate::QueryError;

/// Rows: values of the named columns; the others get what
/// [`Relation::absent`] says.
pub(super) struct Rows {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Of these columns; no rows yet.
    pub(super) fn of(columns: &'static [&'static str]) -> Rows {
        Rows {
            columns,
            rows: Vec::new(),
        }
    }

    /// None at all.
    pub(super) fn none() -> Rows {
        Rows::of(&[])
    }

    /// Adds a row, its values in the order of the columns.
    pub(super) fn push<const N: usize>(&mut self, values: [Value; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(values.into());
    }

    /// The batch of the relation's columns.
    pub(super) fn into_batch(self, relation: &Relation) -> Result<RecordBatch, QueryError> {
        let mut fields = Vec::with_capacity(relation.columns.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let given = self.columns.iter().position(|name| *name == column.name);
            let absent = relation.absent(column);
            let mut builder = column_builder(&column.data_type, self.rows.len());
            for row in &self.rows {
                let value = match given.and_then(|i| row.get(i)) {
                    Some(value) => value.clone().coerce(&column.data_type)?,
                    None => absent.clone(),
                };
                append_value(&mut builder, &value)?;
            }
            let field = column.data_type.to_field(column.name, true);
            fields.push(match CatalogType::of_name(column.type_name) {
                Some(shown) => shown.mark(field),
                None => field,
            });
            arrays.push(builder.finish());
        }
        let schema = Arc::new(Schema::new(fields as Vec<Field>));
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))
    }
}

/// An integer of any width.
pub(super) fn int(value: impl Into<i64>) -> Value {
    Value::Int8(value.into())
}

/// A text.
pub(super) fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// A boolean.
pub(super) fn yes(value: bool) -> Value {
    Value::Bool(value)
}

/// `YES` or `NO`, as `information_schema` writes booleans.
pub(super) fn yes_or_no(value: bool) -> Value {
    text(if value { "YES" } else { "NO" })
}

/// An array of integers.
pub(super) fn ints(values: impl IntoIterator<Item = i64>) -> Value {
    Value::Array(values.into_iter().map(Value::Int8).collect())
}
