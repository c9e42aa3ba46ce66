//! Result sets as bytes: JSON, NDJSON, CSV and Arrow IPC.
//!
//! Owns the shape of the body around the cells. An [`Encoder`] is given the columns,
//! then batch after batch, then the end, and appends to a buffer that its caller empties
//! in between; it never holds more than that.

use std::io;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_cast::cast;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use chronos_model::{DataType, SqlState};
use chronos_node::{CommandTag, Error, Notice, Severity};

use super::cells::{ipc_type, write_csv_field, Column};
use super::json::write_json_string;

/// How rows are laid out in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// One document.
    Json,
    /// One object per row and line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
    /// Arrow IPC stream.
    Arrow,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The format of a name as users write it.
    pub(crate) fn parse(name: &str) -> Option<Format> {
        Some(match name.to_ascii_lowercase().as_str() {
            "json" => Format::Json,
            "ndjson" | "jsonl" => Format::Ndjson,
            "csv" => Format::Csv,
            "arrow" => Format::Arrow,
            _ => return None,
        })
    }
}

/// What is known only when the last row was written.
pub(crate) struct Ending<'a> {
    pub(crate) tag: CommandTag,
    pub(crate) elapsed_nanos: u64,
    pub(crate) notices: &'a [Notice],
}

/// Writes one result set.
pub(crate) struct Encoder {
    schema: SchemaRef,
    rows: u64,
    layout: Layout,
}

enum Layout {
    Json,
    /// What stands before each cell: `{"a":`, `,"b":`.
    Ndjson(Vec<Vec<u8>>),
    Csv,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

fn internal(e: ArrowError) -> Error {
    Error::new(
        SqlState::INTERNAL,
        format!("the result cannot be written: {e}"),
    )
}

impl Encoder {
    /// Appends what comes before the first row.
    pub(crate) fn begin(
        format: Format,
        schema: SchemaRef,
        out: &mut Vec<u8>,
    ) -> Result<Encoder, Error> {
        let layout = match format {
            Format::Json => {
                write_json_columns(&schema, out);
                Layout::Json
            }
            Format::Ndjson => Layout::Ndjson(ndjson_prefixes(&schema)),
            Format::Csv => {
                write_csv_header(&schema, out);
                Layout::Csv
            }
            Format::Arrow => {
                let writer = StreamWriter::try_new(Vec::new(), &ipc_schema(&schema));
                let writer = writer.map_err(internal)?;
                Layout::Arrow(Box::new(writer))
            }
        };
        let mut encoder = Encoder {
            schema,
            rows: 0,
            layout,
        };
        encoder.take_arrow(out);
        Ok(encoder)
    }

    /// Appends the rows of a batch.
    pub(crate) fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        if let Layout::Arrow(writer) = &mut self.layout {
            let schema = ipc_schema(&self.schema);
            let columns = batch.columns().iter().zip(schema.fields());
            let columns = columns
                .map(|(column, field)| cast(column, field.data_type()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(internal)?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch =
                RecordBatch::try_new_with_options(schema, columns, &options).map_err(internal)?;
            writer.write(&batch).map_err(internal)?;
        } else {
            let columns = batch.columns().iter().zip(self.schema.fields());
            let columns = columns
                .map(|(array, field)| Column::new(array, field))
                .collect::<Result<Vec<_>, _>>()
                .map_err(internal)?;
            self.write_text(&columns, batch.num_rows(), out);
        }
        self.rows += batch.num_rows() as u64;
        self.take_arrow(out);
        Ok(())
    }

    fn write_text(&self, columns: &[Column], rows: usize, out: &mut Vec<u8>) {
        match &self.layout {
            Layout::Json => {
                for row in 0..rows {
                    if self.rows > 0 || row > 0 {
                        out.push(b',');
                    }
                    let mut before = b'[';
                    for column in columns {
                        out.push(before);
                        column.write_json(row, out);
                        before = b',';
                    }
                    if columns.is_empty() {
                        out.push(b'[');
                    }
                    out.push(b']');
                }
            }
            Layout::Ndjson(prefixes) => {
                for row in 0..rows {
                    for (prefix, column) in prefixes.iter().zip(columns) {
                        out.extend_from_slice(prefix);
                        column.write_json(row, out);
                    }
                    if columns.is_empty() {
                        out.push(b'{');
                    }
                    out.extend_from_slice(b"}\n");
                }
            }
            Layout::Csv => {
                for row in 0..rows {
                    for (i, column) in columns.iter().enumerate() {
                        if i > 0 {
                            out.push(b',');
                        }
                        column.write_csv(row, out);
                    }
                    out.extend_from_slice(b"\r\n");
                }
            }
            Layout::Arrow(_) => {}
        }
    }

    /// Appends what comes after the last row.
    pub(crate) fn end(mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        match &mut self.layout {
            Layout::Json => write_json_ending(ending, self.rows, out),
            Layout::Ndjson(_) | Layout::Csv => {}
            Layout::Arrow(writer) => writer.finish().map_err(internal)?,
        }
        self.take_arrow(out);
        Ok(())
    }

    /// How many rows were written.
    pub(crate) fn row_count(&self) -> u64 {
        self.rows
    }

    fn take_arrow(&mut self, out: &mut Vec<u8>) {
        if let Layout::Arrow(writer) = &mut self.layout {
            out.append(writer.get_mut());
        }
    }
}

fn ipc_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|f| {
        let arrow = ipc_type(f.data_type());
        f.as_ref().clone().with_data_type(arrow)
    });
    std::sync::Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// `{"columns":[{"name":"a","type":"bigint"}],"rows":[`
fn write_json_columns(schema: &Schema, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"columns\":[");
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        write_json_string(field.name(), out);
        out.extend_from_slice(b",\"type\":");
        write_json_string(&DataType::of_field(field).to_string(), out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"rows\":[");
}

/// `],"command":"SELECT","row_count":1,"elapsed_ms":0.5}` and a line break
fn write_json_ending(ending: &Ending<'_>, rows: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"],\"command\":");
    write_json_string(ending.tag.verb, out);
    let row_count = ending.tag.rows.unwrap_or(rows);
    let elapsed_ms = ending.elapsed_nanos as f64 / 1e6;
    out.extend_from_slice(
        format!(",\"row_count\":{row_count},\"elapsed_ms\":{elapsed_ms:.3}").as_bytes(),
    );
    if !ending.notices.is_empty() {
        out.extend_from_slice(b",\"notices\":[");
        for (i, notice) in ending.notices.iter().enumerate() {
            let severity = match notice.severity {
                Severity::Notice => "NOTICE",
                Severity::Warning => "WARNING",
            };
            out.extend_from_slice(if i > 0 { b"," } else { b"" });
            out.extend_from_slice(
                format!(
                    "{{\"severity\":\"{severity}\",\"code\":\"{}\",\"message\":",
                    notice.code.0
                )
                .as_bytes(),
            );
            write_json_string(&notice.message, out);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"}\n");
}

/// Columns of one name get numbers (`a`, `a_2`): an object has each name once.
fn ndjson_prefixes(schema: &Schema) -> Vec<Vec<u8>> {
    let mut names: Vec<String> = Vec::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut number = 1;
        while names.contains(&name) {
            number += 1;
            name = format!("{}_{number}", field.name());
        }
        names.push(name);
    }
    let prefix = |(i, name): (usize, &String)| {
        let mut prefix = vec![if i == 0 { b'{' } else { b',' }];
        write_json_string(name, &mut prefix);
        prefix.push(b':');
        prefix
    };
    names.iter().enumerate().map(prefix).collect()
}

fn write_csv_header(schema: &Schema, out: &mut Vec<u8>) {
    if schema.fields().is_empty() {
        return;
    }
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_csv_field(field.name().as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// The error that ends a body whose status was sent already.
pub(crate) fn broken_body(error: &Error) -> io::Error {
    io::Error::other(format!("{} ({})", error.message, error.code.0))
}

#[cfg(test)]
mod tests;
