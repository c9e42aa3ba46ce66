//! The receiving end of COPY: fields go into typed columns, rows into batches.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use chronos_model::text::{self, parse_f64, parse_i64, parse_timestamp, parse_timestamptz};
use chronos_model::{append_value, column_builder, ColumnBuilder, DataType, SqlState, TableSchema};

use super::copy_error::{shown, CopyError, Fault};
use super::parameters::{decode_binary, float, integer, timestamp};

/// Rows of a batch.
const BATCH_ROWS_MAX: usize = 8_192;
/// Input bytes of a batch; a batch ends with the row that reaches this.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// A column under construction.
struct Column {
    name: String,
    data_type: DataType,
    builder: ColumnBuilder,
}

/// Rows under construction.
pub(super) struct Rows {
    table: String,
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
    ready: VecDeque<RecordBatch>,
}

/// What a field held, for the error about it.
pub(super) enum Shown<'a> {
    Text(&'a [u8]),
    Binary,
}

impl Rows {
    /// Rows of the given columns of a table.
    pub(super) fn new(table: &TableSchema, columns: &[usize]) -> Rows {
        let columns: Vec<_> = columns
            .iter()
            .map(|&at| {
                let column = &table.columns[at];
                Column {
                    name: column.name.clone(),
                    data_type: column.data_type.clone(),
                    builder: column_builder(&column.data_type, BATCH_ROWS_MAX),
                }
            })
            .collect();
        // Whether NULL may be stored is for the table to check.
        let fields = columns.iter().map(|c| c.data_type.to_field(&c.name, true));
        Rows {
            table: table.name.clone(),
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            columns,
            rows: 0,
            bytes: 0,
            ready: VecDeque::new(),
        }
    }

    /// Number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn null(&mut self, column: usize) {
        self.columns[column].builder.append_null();
    }

    /// Appends a field given as text, unescaped.
    #[inline]
    pub(super) fn text(&mut self, column: usize, field: &[u8], line: u64) -> Result<(), CopyError> {
        match self.columns[column].text(field) {
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.at(self.place(line, Some((column, Shown::Text(field)))))),
        }
    }

    /// Appends a field in binary form.
    #[inline]
    pub(super) fn binary(
        &mut self,
        column: usize,
        field: &[u8],
        line: u64,
    ) -> Result<(), CopyError> {
        match self.columns[column].binary(field) {
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.at(self.place(line, Some((column, Shown::Binary))))),
        }
    }

    /// Ends a row of so many bytes of input.
    #[inline]
    pub(super) fn end_row(&mut self, bytes: usize) -> Result<(), CopyError> {
        self.rows += 1;
        self.bytes += bytes;
        if self.rows == BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.end_batch()?;
        }
        Ok(())
    }

    /// Makes a batch of the rows so far, if there are any.
    pub(super) fn end_batch(&mut self) -> Result<(), CopyError> {
        if self.rows == 0 {
            return Ok(());
        }
        let columns = self.columns.iter_mut().map(|c| c.builder.finish());
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns.collect(), &options)
                .map_err(|e| CopyError {
                    code: SqlState::INTERNAL,
                    message: format!("rows do not make a batch: {e}"),
                    context: format!("COPY {}", self.table),
                })?;
        self.ready.push_back(batch);
        self.rows = 0;
        self.bytes = 0;
        Ok(())
    }

    pub(super) fn next_batch(&mut self) -> Option<RecordBatch> {
        self.ready.pop_front()
    }

    /// The name of a column, or a number if there is none.
    pub(super) fn column_name(&self, column: usize) -> String {
        match self.columns.get(column) {
            Some(column) => column.name.clone(),
            None => (column + 1).to_string(),
        }
    }

    /// Where an error is, as PostgreSQL says it.
    pub(super) fn place(&self, line: u64, field: Option<(usize, Shown<'_>)>) -> String {
        let table = &self.table;
        match field {
            None => format!("COPY {table}, line {line}"),
            Some((column, Shown::Text(text))) => {
                let column = self.column_name(column);
                format!(
                    "COPY {table}, line {line}, column {column}: \"{}\"",
                    shown(text)
                )
            }
            Some((column, Shown::Binary)) => {
                format!(
                    "COPY {table}, line {line}, column {}",
                    self.column_name(column)
                )
            }
        }
    }

    /// A line that is wrong as a whole.
    pub(super) fn line_error(&self, fault: Fault, line: u64, text: &[u8]) -> CopyError {
        let place = self.place(line, None);
        fault.at(format!("{place}: \"{}\"", shown(text)))
    }
}

impl Column {
    #[inline]
    fn text(&mut self, field: &[u8]) -> Result<(), Fault> {
        match (&mut self.builder, &self.data_type) {
            (ColumnBuilder::Text(b), DataType::Text) => b.append_value(utf8(field)?),
            (ColumnBuilder::Int8(b), _) => b.append_value(parse_i64(field)?),
            (ColumnBuilder::Float8(b), _) => b.append_value(parse_f64(field)?),
            (ColumnBuilder::Timestamp(b), DataType::TimestampTz) => {
                b.append_value(parse_timestamptz(field)?);
            }
            (ColumnBuilder::Timestamp(b), _) => b.append_value(parse_timestamp(field)?),
            (builder, data_type) => {
                append_value(builder, &text::parse(data_type, utf8(field)?)?)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn binary(&mut self, field: &[u8]) -> Result<(), Fault> {
        let fast = match (&mut self.builder, &self.data_type) {
            (ColumnBuilder::Text(b), DataType::Text) => {
                b.append_value(utf8(field)?);
                true
            }
            (ColumnBuilder::Int8(b), _) => integer(field).map(|v| b.append_value(v)).is_some(),
            (ColumnBuilder::Float8(b), _) => float(field).map(|v| b.append_value(v)).is_some(),
            (ColumnBuilder::Timestamp(b), _) => match timestamp(field) {
                Some(micros) => {
                    b.append_value(micros?);
                    true
                }
                None => false,
            },
            _ => false,
        };
        if !fast {
            append_value(&mut self.builder, &decode_binary(field, &self.data_type)?)?;
        }
        Ok(())
    }
}

fn utf8(field: &[u8]) -> Result<&str, Fault> {
    match std::str::from_utf8(field) {
        Ok(text) if !field.contains(&0) => Ok(text),
        _ => Err(Fault::encoding(field)),
    }
}
