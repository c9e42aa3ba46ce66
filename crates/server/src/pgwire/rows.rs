//! Sends a statement's rows: all of them, or as many as Execute asks for.
//!
//! Rows are encoded a slice at a time and sent as the output fills, so memory does not
//! grow with the result and a slow client slows the query.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::BytesMut;
use chronos_model::Value;
use chronos_node::{CommandTag, RowData, RowStream, Rows};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend;
use super::cancel::Interrupt;
use super::extended::ResultFormats;
use super::failure::Handled;
use super::format::{encode_values, ColumnType, FieldFormat, RowEncoder};
use super::wire::Wire;

/// Rows of a batch that are encoded between two looks at the output's size.
const SLICE_ROWS: usize = 512;

/// The columns of a result. Their SQL types are parsed from the schema's metadata,
/// which is why a prepared statement keeps them.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    types: Vec<ColumnType>,
}

impl Columns {
    /// The columns of a schema.
    pub(super) fn of(schema: &SchemaRef) -> Arc<Columns> {
        let types = schema.fields().iter().map(|f| ColumnType::of(f));
        Arc::new(Columns {
            types: types.collect(),
            schema: schema.clone(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.types.len()
    }

    /// Appends the RowDescription.
    pub(super) fn describe(&self, out: &mut BytesMut, formats: &ResultFormats) {
        let columns = self.schema.fields().iter().zip(&self.types).enumerate();
        let columns = columns.map(|(at, (f, t))| (f.name().as_str(), t, formats.of(at)));
        backend::row_description(out, columns);
    }
}

/// A result of which some rows may have been sent.
pub(super) struct Cursor {
    columns: Arc<Columns>,
    formats: ResultFormats,
    data: Data,
    tag: CommandTag,
}

enum Data {
    Values(std::vec::IntoIter<Vec<Value>>),
    Batches {
        stream: RowStream,
        /// What of the last batch was not sent.
        rest: Option<RecordBatch>,
        encoder: RowEncoder,
    },
    End,
}

/// How sending rows ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// There are no more; the tag to send.
    Complete(CommandTag),
    /// As many were sent as were asked for.
    Suspended,
}

impl Cursor {
    /// A cursor before the first row. `columns` are those of the statement, if they
    /// are known; the result's schema has the last word.
    pub(super) fn new(
        rows: Rows,
        columns: Option<&Arc<Columns>>,
        formats: ResultFormats,
    ) -> Cursor {
        let columns = match columns {
            Some(columns) if Arc::ptr_eq(&columns.schema, &rows.schema) => columns.clone(),
            _ => Columns::of(&rows.schema),
        };
        let data = match rows.data {
            RowData::Values(rows) => Data::Values(rows.into_iter()),
            RowData::Batches(stream) => Data::Batches {
                stream,
                rest: None,
                encoder: RowEncoder::new(&columns.schema, formats.codes()),
            },
        };
        Cursor {
            columns,
            formats,
            data,
            tag: rows.tag,
        }
    }

    /// Appends the RowDescription.
    pub(super) fn describe(&self, out: &mut BytesMut) {
        self.columns.describe(out, &self.formats);
    }

    /// Sends up to `rows_max` rows, or all. As in PostgreSQL, whoever asks for exactly
    /// as many as there are learns only by the next Execute that there are no more.
    pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        interrupt: &Interrupt,
        rows_max: Option<u64>,
    ) -> Handled<Progress> {
        let rows_max = rows_max.unwrap_or(u64::MAX);
        let mut sent = 0;
        while sent < rows_max {
            let encoded = match &mut self.data {
                Data::Values(rows) => {
                    let wanted = (rows_max - sent).min(SLICE_ROWS as u64) as usize;
                    let rows = rows.by_ref().take(wanted);
                    encode_rows(rows, &self.columns, self.formats.codes(), &mut wire.output)?
                }
                Data::Batches {
                    stream,
                    rest,
                    encoder,
                } => match rest {
                    None => match wire.watch(interrupt, stream.next()).await {
                        Some(batch) => {
                            *rest = Some(batch?);
                            continue;
                        }
                        None => 0,
                    },
                    Some(batch) if batch.num_rows() == 0 => {
                        *rest = None;
                        continue;
                    }
                    Some(batch) => {
                        let wanted = (rows_max - sent).min(SLICE_ROWS as u64) as usize;
                        let wanted = wanted.min(batch.num_rows());
                        let slice = batch.slice(0, wanted);
                        *batch = batch.slice(wanted, batch.num_rows() - wanted);
                        encoder.encode_batch(&slice, &mut wire.output)? as u64
                    }
                },
                Data::End => 0,
            };
            if encoded == 0 {
                self.data = Data::End;
                return Ok(Progress::Complete(self.tag_after(sent)));
            }
            sent += encoded;
            wire.relieve().await?;
        }
        Ok(Progress::Suspended)
    }

    /// SELECT tells how many rows this Execute sent; other verbs what they changed.
    fn tag_after(&self, sent: u64) -> CommandTag {
        match self.tag.verb {
            "SELECT" => CommandTag {
                verb: "SELECT",
                rows: Some(sent),
            },
            _ => self.tag,
        }
    }
}

/// Appends rows; nothing of one that fails.
fn encode_rows(
    rows: impl Iterator<Item = Vec<Value>>,
    columns: &Columns,
    formats: &[FieldFormat],
    out: &mut BytesMut,
) -> Handled<u64> {
    let mut encoded = 0;
    for row in rows {
        encode_values(&row, &columns.types, formats, out)?;
        encoded += 1;
    }
    Ok(encoded)
}
