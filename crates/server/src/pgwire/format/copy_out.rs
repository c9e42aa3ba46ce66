//! `COPY .. TO STDOUT`: record batches as CopyData messages, one per row as
//! PostgreSQL sends them (some clients count on it). The header of the binary
//! format shares the first row's message.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::{BufMut, BytesMut};
use chronos_model::{DataError, DataType};
use chronos_node::{CopyFormat, CopyOptions};

use super::cell::Cell;
use super::cell_binary::put_binary_field;
use super::cell_text::put_text;
use super::column::Column;
use super::copy_binary::SIGNATURE;

/// Writes COPY data.
pub struct CopyEncoder {
    fields: Fields,
    names: Vec<String>,
    types: Vec<DataType>,
    /// Whether what comes before the first row was sent.
    is_begun: bool,
}

/// Writes fields of the text and CSV formats.
struct Fields {
    options: CopyOptions,
    /// A field before it is escaped.
    scratch: Vec<u8>,
}

impl CopyEncoder {
    /// An encoder for rows of `schema`.
    pub fn new(options: &CopyOptions, schema: &SchemaRef) -> CopyEncoder {
        let fields = schema.fields();
        CopyEncoder {
            names: fields.iter().map(|f| f.name().clone()).collect(),
            types: fields.iter().map(|f| DataType::of_field(f)).collect(),
            is_begun: false,
            fields: Fields {
                options: options.clone(),
                scratch: Vec::new(),
            },
        }
    }

    /// Appends a CopyData message for every row, before the first also the
    /// header line, and gives the number of rows.
    ///
    /// Errors: as [`RowEncoder::encode_batch`](super::RowEncoder::encode_batch).
    pub fn encode_batch(
        &mut self,
        batch: &RecordBatch,
        out: &mut BytesMut,
    ) -> Result<usize, DataError> {
        let arrays = batch.columns().iter();
        let columns = arrays
            .map(|array| Column::of(array.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        self.put_header_line(out)?;
        for row in 0..batch.num_rows() {
            put_message(out, |out| match self.format() {
                CopyFormat::Binary => self.put_binary_row(&columns, row, out),
                CopyFormat::Text | CopyFormat::Csv => self.put_line(&columns, row, out),
            })?;
        }
        Ok(batch.num_rows())
    }

    /// Appends what ends the data: nothing but in the binary format, unless no
    /// row came.
    pub fn finish(&mut self, out: &mut BytesMut) -> Result<(), DataError> {
        self.put_header_line(out)?;
        if self.format() == CopyFormat::Binary {
            put_message(out, |out| {
                self.put_binary_header(out);
                out.put_i16(-1);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn format(&self) -> CopyFormat {
        self.fields.options.format
    }

    fn put_header_line(&mut self, out: &mut BytesMut) -> Result<(), DataError> {
        let is_wanted = self.fields.options.header && self.format() != CopyFormat::Binary;
        if !is_wanted || self.is_begun {
            return Ok(());
        }
        self.is_begun = true;
        put_message(out, |out| {
            for (at, name) in self.names.iter().enumerate() {
                let width = self.names.len();
                let name = Cell::Text(name);
                self.fields.put(&name, &DataType::Text, at, width, out)?;
            }
            out.put_u8(b'\n');
            Ok(())
        })
    }

    fn put_line(
        &mut self,
        columns: &[Column<'_>],
        row: usize,
        out: &mut BytesMut,
    ) -> Result<(), DataError> {
        for (at, (column, data_type)) in columns.iter().zip(&self.types).enumerate() {
            let cell = column.cell(row)?;
            self.fields.put(&cell, data_type, at, columns.len(), out)?;
        }
        out.put_u8(b'\n');
        Ok(())
    }

    fn put_binary_row(
        &mut self,
        columns: &[Column<'_>],
        row: usize,
        out: &mut BytesMut,
    ) -> Result<(), DataError> {
        self.put_binary_header(out);
        out.put_i16(columns.len() as i16);
        for (column, data_type) in columns.iter().zip(&self.types) {
            put_binary_field(&column.cell(row)?, data_type, out)?;
        }
        Ok(())
    }

    fn put_binary_header(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.is_begun, true) {
            out.put_slice(SIGNATURE);
            // Flags, and the length of the extension.
            out.put_u64(0);
        }
    }
}

impl Fields {
    /// Appends field `at` of `width` and the delimiter before it.
    fn put(
        &mut self,
        cell: &Cell<'_>,
        data_type: &DataType,
        at: usize,
        width: usize,
        out: &mut BytesMut,
    ) -> Result<(), DataError> {
        if at > 0 {
            out.put_u8(self.options.delimiter);
        }
        if let Cell::Null = cell {
            out.put_slice(self.options.null.as_bytes());
            return Ok(());
        }
        self.scratch.clear();
        put_text(cell, data_type, &mut self.scratch)?;
        match self.options.format {
            CopyFormat::Csv => self.put_csv_field(width == 1, out),
            _ => put_escaped(&self.scratch, self.options.delimiter, out),
        }
        Ok(())
    }

    fn put_csv_field(&self, is_alone: bool, out: &mut BytesMut) {
        let CopyOptions {
            delimiter,
            quote,
            escape,
            ..
        } = self.options;
        let field = &self.scratch[..];
        let is_special = |b: &u8| *b == delimiter || *b == quote || matches!(b, b'\n' | b'\r');
        let needs_quotes = field == self.options.null.as_bytes()
            || (is_alone && field == b"\\.")
            || field.iter().any(is_special);
        if !needs_quotes {
            out.put_slice(field);
            return;
        }
        out.put_u8(quote);
        for &byte in field {
            if byte == quote || byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(quote);
    }
}

/// Appends a CopyData message around what `body` writes; on an error, nothing.
fn put_message(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let start = out.len();
    out.put_u8(b'd');
    out.put_u32(0);
    if let Err(error) = body(out) {
        out.truncate(start);
        return Err(error);
    }
    let length = (out.len() - start - 1) as u32;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Appends a field of the text format.
fn put_escaped(field: &[u8], delimiter: u8, out: &mut BytesMut) {
    let mut rest = field;
    loop {
        let special = rest
            .iter()
            .position(|b| matches!(b, b'\\' | 0x08..=0x0d) || *b == delimiter);
        let Some(at) = special else {
            out.put_slice(rest);
            return;
        };
        out.put_slice(&rest[..at]);
        out.put_u8(b'\\');
        out.put_u8(match rest[at] {
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0b => b'v',
            0x0c => b'f',
            b'\r' => b'r',
            byte => byte,
        });
        rest = &rest[at + 1..];
    }
}
