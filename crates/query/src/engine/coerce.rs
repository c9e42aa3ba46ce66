//! Columns of query results as columns of a table: PostgreSQL's assignment casts.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_cast::{cast_with_options, CastOptions};
use arrow_schema::{DataType as Arrow, Field};
use chronos_model::{append_value, column_builder, value_at, DataType, TableSchema};

use crate::QueryError;

/// Columns given in the table's order, as a batch of the table's types.
///
/// Errors: a value does not fit its column; NULLs are not checked here.
pub fn coerce_batch(
    table: &TableSchema,
    fields: &[Arc<Field>],
    columns: &[ArrayRef],
    rows: usize,
) -> Result<RecordBatch, QueryError> {
    let coerced = table
        .columns
        .iter()
        .zip(fields.iter().zip(columns))
        .map(|(column, (field, array))| {
            coerce_array(array, field, &column.data_type).map_err(|mut e| {
                e.column = Some(column.name.clone());
                e.table = Some(table.name.clone());
                e
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Nullability is checked by whoever knows the row to show in the error.
    let fields: Vec<Field> = table
        .columns
        .iter()
        .map(|c| c.arrow_field().with_nullable(true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = Arc::new(arrow_schema::Schema::new(fields));
    RecordBatch::try_new_with_options(schema, coerced, &options)
        .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))
}

/// One column as `to`'s Arrow type.
pub fn coerce_array(
    array: &ArrayRef,
    field: &Field,
    to: &DataType,
) -> Result<ArrayRef, QueryError> {
    let target = to.to_arrow();
    let from = DataType::of_field(field);
    if array.data_type() == &target && is_same_domain(&from, to) {
        return Ok(Arc::clone(array));
    }
    if array.data_type() == &Arrow::Null {
        return Ok(arrow_array::new_null_array(&target, array.len()));
    }
    if casts_exactly(&from, to) {
        return cast(array, &target);
    }
    // Value by value: text is read as a literal, numbers round and are checked.
    let natural = cast(array, &from.to_arrow())?;
    let mut builder = column_builder(to, array.len());
    for row in 0..natural.len() {
        let value = value_at(&natural, row, &from)?.coerce(to)?;
        append_value(&mut builder, &value)?;
    }
    Ok(builder.finish())
}

/// Whether values of `from` are values of `to` as they stand.
fn is_same_domain(from: &DataType, to: &DataType) -> bool {
    from == to
        || matches!(
            (from, to),
            (_, DataType::Text | DataType::Varchar(None))
                | (DataType::Vector(_), DataType::Vector(_))
        )
}

/// Whether Arrow's cast does what PostgreSQL's assignment does.
fn casts_exactly(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    matches!(
        (from, to),
        (T::Int2 | T::Int4, T::Int4 | T::Int8)
            | (T::Int2 | T::Int4 | T::Int8 | T::Float4, T::Float8)
            | (T::Timestamp | T::TimestampTz, T::Timestamp | T::TimestampTz)
            | (T::Text | T::Varchar(_), T::Text | T::Varchar(None))
            | (T::Bytea, T::Bytea)
    ) || from == to
}

fn cast(array: &ArrayRef, target: &Arrow) -> Result<ArrayRef, QueryError> {
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    // Lists of floats become vectors of any layout only if the lengths fit.
    if let (Arrow::List(_), Arrow::FixedSizeList(_, n)) = (array.data_type(), target) {
        let wrong = array
            .as_list::<i32>()
            .iter()
            .flatten()
            .find(|v| v.len() != *n as usize);
        if let Some(wrong) = wrong {
            return Err(chronos_model::DataError::Dimensions {
                expected: *n as u32,
                actual: wrong.len(),
            }
            .into());
        }
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, target, &options)
        .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))
}
