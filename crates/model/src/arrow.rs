//! Between single values and Arrow columns.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryViewBuilder, BooleanBuilder, NullBufferBuilder, PrimitiveBuilder, StringViewBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ByteViewType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, GenericByteViewArray, ListArray, RecordBatch,
    RecordBatchOptions,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType as Arrow, Field};

use crate::{text, DataError, DataType, Decimal, Interval, TableSchema, Value};

/// Gathers values of one SQL type into an Arrow column.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int2(PrimitiveBuilder<Int16Type>),
    Int4(PrimitiveBuilder<Int32Type>),
    Int8(PrimitiveBuilder<Int64Type>),
    Float4(PrimitiveBuilder<Float32Type>),
    Float8(PrimitiveBuilder<Float64Type>),
    Numeric(PrimitiveBuilder<Decimal128Type>, i8),
    /// Text, VARCHAR, JSON, JSONB and UUID.
    Text(StringViewBuilder),
    Bytea(BinaryViewBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    /// With the zone for TIMESTAMPTZ.
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
    /// Item type, offsets, validity, items.
    Array(DataType, Vec<i32>, NullBufferBuilder, Box<ColumnBuilder>),
    /// Dimensions, validity, items.
    Vector(u32, NullBufferBuilder, PrimitiveBuilder<Float32Type>),
}

/// An empty builder for a type, with room for `capacity` rows.
pub fn column_builder(data_type: &DataType, capacity: usize) -> ColumnBuilder {
    match data_type {
        DataType::Bool => ColumnBuilder::Bool(BooleanBuilder::with_capacity(capacity)),
        DataType::Int2 => ColumnBuilder::Int2(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Int4 => ColumnBuilder::Int4(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Int8 => ColumnBuilder::Int8(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Float4 => ColumnBuilder::Float4(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Float8 => ColumnBuilder::Float8(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Numeric(p) => {
            let (_, scale) = DataType::numeric_shape(*p);
            let builder =
                PrimitiveBuilder::with_capacity(capacity).with_data_type(data_type.to_arrow());
            ColumnBuilder::Numeric(builder, scale)
        }
        DataType::Text
        | DataType::Varchar(_)
        | DataType::Json
        | DataType::Jsonb
        | DataType::Uuid => ColumnBuilder::Text(StringViewBuilder::with_capacity(capacity)),
        DataType::Bytea => ColumnBuilder::Bytea(BinaryViewBuilder::with_capacity(capacity)),
        DataType::Date => ColumnBuilder::Date(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Time => ColumnBuilder::Time(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Timestamp | DataType::TimestampTz => ColumnBuilder::Timestamp(
            PrimitiveBuilder::with_capacity(capacity).with_data_type(data_type.to_arrow()),
        ),
        DataType::Interval => ColumnBuilder::Interval(PrimitiveBuilder::with_capacity(capacity)),
        DataType::Array(item) => ColumnBuilder::Array(
            (**item).clone(),
            vec![0],
            NullBufferBuilder::new(capacity),
            Box::new(column_builder(item, capacity)),
        ),
        DataType::Vector(n) => ColumnBuilder::Vector(
            *n,
            NullBufferBuilder::new(capacity),
            PrimitiveBuilder::with_capacity(capacity * *n as usize),
        ),
    }
}

/// Appends one value, which must be NULL or of the builder's type.
///
/// Errors: the value is of another type, or a vector of the wrong length.
pub fn append_value(builder: &mut ColumnBuilder, value: &Value) -> Result<(), DataError> {
    match (&mut *builder, value) {
        (b, Value::Null) => b.append_null(),
        (ColumnBuilder::Bool(b), Value::Bool(v)) => b.append_value(*v),
        (ColumnBuilder::Int2(b), Value::Int2(v)) => b.append_value(*v),
        (ColumnBuilder::Int4(b), Value::Int4(v)) => b.append_value(*v),
        (ColumnBuilder::Int8(b), Value::Int8(v)) => b.append_value(*v),
        (ColumnBuilder::Float4(b), Value::Float4(v)) => b.append_value(*v),
        (ColumnBuilder::Float8(b), Value::Float8(v)) => b.append_value(*v),
        (ColumnBuilder::Numeric(b, scale), Value::Numeric(d)) => {
            let scaled = d.rescale(*scale).ok_or_else(|| DataError::OutOfRange {
                type_name: "numeric".into(),
                text: text::format_decimal(*d),
            })?;
            b.append_value(scaled.unscaled);
        }
        (ColumnBuilder::Text(b), Value::Text(v) | Value::Json(v) | Value::Jsonb(v)) => {
            b.append_value(v)
        }
        (ColumnBuilder::Text(b), Value::Uuid(v)) => b.append_value(text::format_uuid(v)),
        (ColumnBuilder::Bytea(b), Value::Bytea(v)) => b.append_value(v),
        (ColumnBuilder::Date(b), Value::Date(v)) => b.append_value(*v),
        (ColumnBuilder::Time(b), Value::Time(v)) => b.append_value(*v),
        (ColumnBuilder::Timestamp(b), Value::Timestamp(v) | Value::TimestampTz(v)) => {
            b.append_value(*v)
        }
        (ColumnBuilder::Interval(b), Value::Interval(v)) => {
            b.append_value(IntervalMonthDayNano::new(v.months, v.days, v.nanos));
        }
        (ColumnBuilder::Array(_, offsets, validity, items), Value::Array(values)) => {
            for value in values {
                append_value(items, value)?;
            }
            offsets.push(offsets[offsets.len() - 1] + values.len() as i32);
            validity.append_non_null();
        }
        (ColumnBuilder::Vector(n, validity, items), Value::Vector(values)) => {
            if values.len() != *n as usize {
                return Err(DataError::Dimensions {
                    expected: *n,
                    actual: values.len(),
                });
            }
            items.append_slice(values);
            validity.append_non_null();
        }
        (_, value) => {
            return Err(DataError::Mismatch {
                from: value.type_name().to_owned(),
                to: "a column of another type".into(),
            })
        }
    }
    Ok(())
}

impl ColumnBuilder {
    /// Appends a NULL.
    pub fn append_null(&mut self) {
        match self {
            ColumnBuilder::Bool(b) => b.append_null(),
            ColumnBuilder::Int2(b) => b.append_null(),
            ColumnBuilder::Int4(b) => b.append_null(),
            ColumnBuilder::Int8(b) => b.append_null(),
            ColumnBuilder::Float4(b) => b.append_null(),
            ColumnBuilder::Float8(b) => b.append_null(),
            ColumnBuilder::Numeric(b, _) => b.append_null(),
            ColumnBuilder::Text(b) => b.append_null(),
            ColumnBuilder::Bytea(b) => b.append_null(),
            ColumnBuilder::Date(b) => b.append_null(),
            ColumnBuilder::Time(b) => b.append_null(),
            ColumnBuilder::Timestamp(b) => b.append_null(),
            ColumnBuilder::Interval(b) => b.append_null(),
            ColumnBuilder::Array(_, offsets, validity, _) => {
                offsets.push(offsets[offsets.len() - 1]);
                validity.append_null();
            }
            ColumnBuilder::Vector(n, validity, items) => {
                items.append_value_n(0.0, *n as usize);
                validity.append_null();
            }
        }
    }

    /// The column of everything appended; the builder is empty again.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Bool(b) => Arc::new(b.finish()),
            ColumnBuilder::Int2(b) => Arc::new(b.finish()),
            ColumnBuilder::Int4(b) => Arc::new(b.finish()),
            ColumnBuilder::Int8(b) => Arc::new(b.finish()),
            ColumnBuilder::Float4(b) => Arc::new(b.finish()),
            ColumnBuilder::Float8(b) => Arc::new(b.finish()),
            ColumnBuilder::Numeric(b, _) => Arc::new(b.finish()),
            ColumnBuilder::Text(b) => Arc::new(without_slack(b.finish())),
            ColumnBuilder::Bytea(b) => Arc::new(without_slack(b.finish())),
            ColumnBuilder::Date(b) => Arc::new(b.finish()),
            ColumnBuilder::Time(b) => Arc::new(b.finish()),
            ColumnBuilder::Timestamp(b) => Arc::new(b.finish()),
            ColumnBuilder::Interval(b) => Arc::new(b.finish()),
            ColumnBuilder::Array(item, offsets, validity, items) => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let field = Arc::new(item.to_result_field("item", true));
                Arc::new(ListArray::new(
                    field,
                    offsets,
                    items.finish(),
                    validity.finish(),
                ))
            }
            ColumnBuilder::Vector(n, validity, items) => {
                let field = Arc::new(Field::new("item", Arrow::Float32, false));
                let items = Arc::new(items.finish());
                Arc::new(FixedSizeListArray::new(
                    field,
                    *n as i32,
                    items,
                    validity.finish(),
                ))
            }
        }
    }
}

/// The array in buffers that fit it: a builder that is used again allocates ever larger ones,
/// and what lives long would keep them.
fn without_slack<T: ByteViewType>(array: GenericByteViewArray<T>) -> GenericByteViewArray<T> {
    let buffers = array.data_buffers().iter();
    let allocated: usize = buffers.map(|buffer| buffer.capacity()).sum();
    match allocated > 2 * array.total_buffer_bytes_used() {
        true => array.gc(),
        false => array,
    }
}

/// Bytes of memory that the rows of columns take, without what other rows in the same buffers do.
pub fn columns_bytes(columns: &[ArrayRef]) -> usize {
    let bytes = |c: &ArrayRef| match c.data_type() {
        Arrow::Utf8View => 16 * c.len() + c.as_string_view().total_buffer_bytes_used(),
        Arrow::BinaryView => 16 * c.len() + c.as_binary_view().total_buffer_bytes_used(),
        _ => {
            let data = c.to_data();
            data.get_slice_memory_size()
                .unwrap_or_else(|_| data.get_buffer_memory_size())
        }
    };
    columns.iter().map(bytes).sum()
}

/// The table's columns of the given rows; values must be of the columns' types.
pub fn rows_to_batch(schema: &TableSchema, rows: &[Vec<Value>]) -> Result<RecordBatch, DataError> {
    let columns = schema
        .columns
        .iter()
        .enumerate()
        .map(|(i, column)| {
            let mut builder = column_builder(&column.data_type, rows.len());
            for row in rows {
                append_value(&mut builder, &row[i])?;
            }
            Ok(builder.finish())
        })
        .collect::<Result<Vec<_>, DataError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.arrow_schema(), columns, &options).map_err(|e| {
        DataError::InvalidType {
            reason: format!("rows do not fit table \"{}\": {e}", schema.name),
        }
    })
}

/// The value at `row` of a column that is of `data_type`'s Arrow type.
///
/// Errors: the column is of another Arrow type.
pub fn value_at(array: &dyn Array, row: usize, data_type: &DataType) -> Result<Value, DataError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let expected = data_type.to_arrow();
    if !array.data_type().equals_datatype(&expected) {
        return Err(DataError::Mismatch {
            from: array.data_type().to_string(),
            to: data_type.to_string(),
        });
    }
    Ok(match data_type {
        DataType::Bool => Value::Bool(array.as_boolean().value(row)),
        DataType::Int2 => Value::Int2(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int4 => Value::Int4(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int8 => Value::Int8(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float4 => Value::Float4(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float8 => Value::Float8(array.as_primitive::<Float64Type>().value(row)),
        DataType::Numeric(p) => Value::Numeric(Decimal {
            unscaled: array.as_primitive::<Decimal128Type>().value(row),
            scale: DataType::numeric_shape(*p).1,
        }),
        DataType::Text | DataType::Varchar(_) => {
            Value::Text(array.as_string_view().value(row).to_owned())
        }
        DataType::Json => Value::Json(array.as_string_view().value(row).to_owned()),
        DataType::Jsonb => Value::Jsonb(array.as_string_view().value(row).to_owned()),
        DataType::Uuid => Value::Uuid(text::parse_uuid(array.as_string_view().value(row))?),
        DataType::Bytea => Value::Bytea(array.as_binary_view().value(row).to_vec()),
        DataType::Date => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time => Value::Time(array.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp => {
            Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::TimestampTz => {
            Value::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Interval => {
            let v = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            Value::Interval(Interval {
                months: v.months,
                days: v.days,
                nanos: v.nanoseconds,
            })
        }
        DataType::Array(item) => {
            let items = array.as_list::<i32>().value(row);
            let values = (0..items.len())
                .map(|i| value_at(&items, i, item))
                .collect::<Result<Vec<_>, _>>()?;
            Value::Array(values)
        }
        DataType::Vector(_) => {
            let items = array.as_fixed_size_list().value(row);
            Value::Vector(items.as_primitive::<Float32Type>().values().to_vec())
        }
    })
}
