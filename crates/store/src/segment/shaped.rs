//! A segment whose table's columns have changed since it was written: which stored column
//! each of them is, and what it takes to make one of the other.
//!
//! ```text
//!   stored    a:0 int4    b:1 text                 footer, blocks
//!                |
//!   column    a:0 int8    c:2 int8 missing '7'     pages(), read_columns(), read_rows()
//! ```
//!
//! Nothing above the segment knows: pages tell of the table's columns as they are, and what
//! is read has their types.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};
use arrow_array::{new_null_array, ArrayRef, RecordBatch};
use chronos_model::{
    append_value, column_builder, DataError, DataType, StoredColumn, TableSchema, Value,
};

use super::layout::Footer;
use super::stats::column_stats;
use super::{ColumnStats, PageMeta, Segment, SegmentError};
use crate::error::StoreError;

/// How a table's columns are made of stored ones.
#[derive(Debug)]
pub(super) struct Shaped {
    columns: Vec<Made>,
    /// The pages with statistics of the table's columns.
    pub(super) pages: Vec<PageMeta>,
}

/// Of what a column of the table is made.
#[derive(Debug)]
enum Made {
    /// Of the stored column at this position.
    Same(usize),
    /// Of that, whose values are of a narrower type.
    Widened(usize, DataType),
    /// The column was added later: all rows have this value of this type.
    Missing(Value, DataType),
}

impl Shaped {
    /// `None`: the columns are those that are stored.
    ///
    /// Errors: a column's missing value is damaged.
    pub(super) fn new(footer: &Footer, schema: &TableSchema) -> Result<Option<Shaped>, DataError> {
        if schema.stored_columns().eq(footer.columns.iter().cloned()) {
            return Ok(None);
        }
        let columns = (0..schema.columns.len())
            .map(|i| Made::of(&footer.columns, schema, i))
            .collect::<Result<Vec<_>, _>>()?;
        let mut missing: HashMap<(usize, u32), ColumnStats> = HashMap::new();
        let mut pages = Vec::with_capacity(footer.pages.len());
        for page in &footer.pages {
            let mut stats = Vec::with_capacity(columns.len());
            for (i, made) in columns.iter().enumerate() {
                stats.push(match made {
                    // Bounds and sums of a type are those of a wider one.
                    Made::Same(stored) | Made::Widened(stored, _) => {
                        page.columns.get(*stored).cloned().unwrap_or_default()
                    }
                    Made::Missing(value, data_type) => match missing.get(&(i, page.rows)) {
                        Some(known) => known.clone(),
                        None => {
                            let array = repeated(value, data_type, page.rows as usize)?;
                            let stats = column_stats(&array, data_type);
                            missing.entry((i, page.rows)).or_insert(stats).clone()
                        }
                    },
                });
            }
            pages.push(PageMeta {
                columns: stats.into(),
                ..page.clone()
            });
        }
        Ok(Some(Shaped { columns, pages }))
    }

    /// A column of the table, `rows` long, of what `read` gives of a stored column.
    pub(super) fn column(
        &self,
        column: usize,
        rows: usize,
        read: impl FnOnce(usize) -> Result<ArrayRef, SegmentError>,
    ) -> Result<Result<ArrayRef, DataError>, SegmentError> {
        Ok(match &self.columns[column] {
            Made::Same(stored) => Ok(read(*stored)?),
            Made::Widened(stored, to) => Ok(widened(read(*stored)?, to)),
            Made::Missing(value, data_type) => repeated(value, data_type, rows),
        })
    }
}

impl Made {
    fn of(
        columns: &[StoredColumn],
        schema: &TableSchema,
        column: usize,
    ) -> Result<Made, DataError> {
        let id = schema.column_id(column);
        let now = &schema.columns[column];
        Ok(match columns.iter().position(|c| c.id == id) {
            None => Made::Missing(now.missing_value()?, now.data_type.clone()),
            Some(stored) => {
                let is_same = columns[stored].data_type.to_arrow() == now.data_type.to_arrow();
                match is_same {
                    true => Made::Same(stored),
                    false => Made::Widened(stored, now.data_type.clone()),
                }
            }
        })
    }
}

impl Segment {
    /// The same segment, read as the table is now.
    ///
    /// Errors: a column's missing value is damaged.
    pub(crate) fn shaped_as(&self, schema: &TableSchema) -> Result<Segment, StoreError> {
        let shaped = match self.is_lost() {
            true => None,
            false => Shaped::new(&self.footer, schema)?,
        };
        Ok(Segment {
            content: self.content.clone(),
            path: self.path.clone(),
            schema: schema.clone(),
            meta: self.meta.clone(),
            footer: self.footer.clone(),
            fences: self.fences.clone(),
            shaped,
            cache: self.cache.clone(),
            wound: self.wound.clone(),
        })
    }

    /// Whether its columns are those of `schema`.
    pub(crate) fn is_shaped_as(&self, schema: &TableSchema) -> bool {
        self.schema.stores_like(schema)
    }
}

/// Columns of one shape of a table, `rows` long, as those of a later one.
pub(crate) fn reshaped_columns(
    columns: &[ArrayRef],
    rows: usize,
    from: &TableSchema,
    to: &TableSchema,
) -> Result<Vec<ArrayRef>, DataError> {
    let stored: Vec<StoredColumn> = from.stored_columns().collect();
    let column = |position| match Made::of(&stored, to, position)? {
        Made::Same(before) => Ok(columns[before].clone()),
        Made::Widened(before, data_type) => Ok(widened(columns[before].clone(), &data_type)),
        Made::Missing(value, data_type) => repeated(&value, &data_type, rows),
    };
    (0..to.columns.len()).map(column).collect()
}

/// The same of a batch of rows.
///
/// Errors: a column's missing value is damaged.
pub fn reshaped_batch(
    batch: &RecordBatch,
    from: &TableSchema,
    to: &TableSchema,
) -> Result<RecordBatch, StoreError> {
    let columns = reshaped_columns(batch.columns(), batch.num_rows(), from, to)?;
    Ok(RecordBatch::try_new(to.arrow_schema(), columns)?)
}

fn repeated(value: &Value, data_type: &DataType, rows: usize) -> Result<ArrayRef, DataError> {
    if value.is_null() {
        return Ok(new_null_array(&data_type.to_arrow(), rows));
    }
    let mut builder = column_builder(data_type, rows);
    for _ in 0..rows {
        append_value(&mut builder, value)?;
    }
    Ok(builder.finish())
}

/// Values of a type as those of a wider one, as [`DataType::widens_to`] has it.
fn widened(array: ArrayRef, to: &DataType) -> ArrayRef {
    use arrow_schema::DataType as Arrow;
    match (array.data_type(), to) {
        (Arrow::Int16, DataType::Int4) => Arc::new(
            array
                .as_primitive::<Int16Type>()
                .unary::<_, Int32Type>(i32::from),
        ),
        (Arrow::Int16, DataType::Int8) => Arc::new(
            array
                .as_primitive::<Int16Type>()
                .unary::<_, Int64Type>(i64::from),
        ),
        (Arrow::Int32, DataType::Int8) => Arc::new(
            array
                .as_primitive::<Int32Type>()
                .unary::<_, Int64Type>(i64::from),
        ),
        (Arrow::Float32, DataType::Float8) => Arc::new(
            array
                .as_primitive::<Float32Type>()
                .unary::<_, Float64Type>(f64::from),
        ),
        (Arrow::Decimal128(..), DataType::Numeric(_)) => {
            let values = array.as_primitive::<Decimal128Type>().clone();
            Arc::new(values.with_data_type(to.to_arrow()))
        }
        _ => array,
    }
}
