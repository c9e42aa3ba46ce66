//! Rows as DataRow messages.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::{BufMut, BytesMut};
use chronos_model::{DataError, Value};

use super::cell::Cell;
use super::cell_binary::{put_binary_field, put_sized};
use super::cell_text::put_text;
use super::column::Column;
use super::column_type::{put_catalog_items, ColumnType};
use super::FieldFormat;

/// Bytes reserved ahead for a cell: most are shorter.
const CELL_BYTES: usize = 24;

/// Writes record batches as DataRow messages.
#[derive(Debug)]
pub struct RowEncoder {
    columns: Vec<(ColumnType, FieldFormat)>,
}

impl RowEncoder {
    /// An encoder for rows of `schema`. `formats` follows the protocol: one per
    /// column, a single one for all of them, or none for text.
    pub fn new(schema: &SchemaRef, formats: &[FieldFormat]) -> RowEncoder {
        let types = schema.fields().iter().map(|f| ColumnType::of(f));
        let columns = types.enumerate().map(|(at, t)| (t, format_of(formats, at)));
        RowEncoder {
            columns: columns.collect(),
        }
    }

    /// Appends a DataRow message for every row and gives their number.
    ///
    /// Errors: a value does not fit what it is sent as, or a column has no SQL
    /// form; `out` then ends after the last whole message.
    pub fn encode_batch(
        &mut self,
        batch: &RecordBatch,
        out: &mut BytesMut,
    ) -> Result<usize, DataError> {
        let arrays = batch.columns().iter();
        let columns = arrays
            .map(|array| Column::of(array.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        out.reserve(batch.num_rows() * (7 + columns.len() * CELL_BYTES));
        for row in 0..batch.num_rows() {
            put_row(columns.len(), out, |out| {
                for (column, (column_type, format)) in columns.iter().zip(&self.columns) {
                    put_field(&column.cell(row)?, column_type, *format, out)?;
                }
                Ok(())
            })?;
        }
        Ok(batch.num_rows())
    }
}

/// Appends one row as a DataRow message; `types` and `formats` as for
/// [`RowEncoder::new`].
///
/// Errors: as [`RowEncoder::encode_batch`].
pub fn encode_values(
    values: &[Value],
    types: &[ColumnType],
    formats: &[FieldFormat],
    out: &mut BytesMut,
) -> Result<(), DataError> {
    put_row(values.len(), out, |out| {
        for (at, (value, column_type)) in values.iter().zip(types).enumerate() {
            put_field(&Cell::from(value), column_type, format_of(formats, at), out)?;
        }
        Ok(())
    })
}

fn format_of(formats: &[FieldFormat], column: usize) -> FieldFormat {
    match formats {
        [] => FieldFormat::Text,
        [format] => *format,
        formats => formats.get(column).copied().unwrap_or(FieldFormat::Text),
    }
}

/// Appends the message around what `fields` writes; on an error, nothing.
#[inline]
fn put_row(
    columns: usize,
    out: &mut BytesMut,
    fields: impl FnOnce(&mut BytesMut) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let start = out.len();
    out.put_u8(b'D');
    out.put_u32(0);
    out.put_u16(columns as u16);
    if let Err(error) = fields(out) {
        out.truncate(start);
        return Err(error);
    }
    let length = (out.len() - start - 1) as u32;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[inline]
fn put_field(
    cell: &Cell<'_>,
    column_type: &ColumnType,
    format: FieldFormat,
    out: &mut BytesMut,
) -> Result<(), DataError> {
    let data_type = &column_type.data_type;
    if let (Some(shown), Cell::Items(_)) = (column_type.catalog_type, cell) {
        return put_catalog_items(cell, data_type, shown, format, out);
    }
    match (format, cell) {
        (_, Cell::Null) => {
            out.put_i32(-1);
            Ok(())
        }
        (FieldFormat::Text, cell) => put_sized(out, |out| put_text(cell, data_type, out)),
        (FieldFormat::Binary, cell) => put_binary_field(cell, data_type, out),
    }
}
