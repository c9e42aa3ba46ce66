//! A statement's outcome becomes the body of an answer.
//!
//! Owns the order of things: batches are encoded until the first [`CHUNK_BYTES`] are
//! there. If that was all, the answer is sent whole, with its length, and whatever went
//! wrong is a proper error. Otherwise the rest follows as the client takes it, one chunk
//! in memory; an error then breaks the connection off, so that no client takes a part
//! for the whole.
//!
//! ```text
//!     RowStream -> Encoder -> chunk -> (client takes it) -> next chunk ..
//! ```
//!
//! The statement is cancelled when the answer is dropped before its end.

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use axum::body::{Body, Bytes};
use axum::http::{header, HeaderValue, StatusCode};
use axum::response::Response;
use chronos_model::{append_value, column_builder, DataType, SqlState, Value};
use chronos_node::{
    CancelHandle, CommandTag, Error, Notice, Outcome, RowData, RowStream, Rows, Session,
    TransactionStatus,
};
use futures::StreamExt;
use std::sync::Arc;

use super::encode::{broken_body, Encoder, Ending, Format};
use crate::http::metrics::RequestGuard;

/// A chunk is sent when it has this size; also the largest answer that is sent whole.
const CHUNK_BYTES: usize = 64 << 10;
/// Rows that are encoded at a time, so that wide rows do not blow a chunk up.
const SLICE_ROWS: usize = 1024;

/// Cancels a session's statement unless told that it is over.
pub(crate) struct CancelOnDrop {
    handle: CancelHandle,
    is_armed: bool,
}

impl CancelOnDrop {
    pub(crate) fn new(session: &Session) -> CancelOnDrop {
        CancelOnDrop {
            handle: session.cancel_handle(),
            is_armed: true,
        }
    }

    fn disarm(&mut self) {
        self.is_armed = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.is_armed {
            self.handle.cancel();
        }
    }
}

/// What must happen with the session when the last row is out.
pub(crate) struct Closing {
    /// Dropped before the session.
    pub(crate) cancel: CancelOnDrop,
    pub(crate) session: Session,
    /// The statements run in an implicit transaction, to be committed.
    pub(crate) has_implicit: bool,
}

impl Closing {
    /// Commits, and refuses to leave a transaction open that nobody could ever end.
    async fn close(&mut self) -> Result<Vec<Notice>, Error> {
        if self.has_implicit {
            self.session.end_implicit().await?;
        }
        self.cancel.disarm();
        if self.session.transaction_status() != TransactionStatus::Idle {
            return Err(Error::new(
                SqlState::INVALID_TRANSACTION_STATE,
                "the request ended within a transaction, which was rolled back",
            )
            .with_hint("send BEGIN, the statements and COMMIT in one request"));
        }
        Ok(self.session.take_notices())
    }
}

/// Encodes an outcome step by step.
struct Producer {
    rows: Option<RowStream>,
    /// The part of the last batch that is still to be encoded.
    batch: Option<RecordBatch>,
    /// `None`: everything is written.
    encoder: Option<Encoder>,
    tag: CommandTag,
    closing: Option<Closing>,
    out: Vec<u8>,
}

impl Producer {
    /// Encodes until a chunk is full or everything is written.
    async fn fill(&mut self, request: &RequestGuard) -> Result<(), Error> {
        while self.out.len() < CHUNK_BYTES {
            let Some(encoder) = &mut self.encoder else {
                return Ok(());
            };
            if let Some(batch) = self.batch.take() {
                let rows = batch.num_rows();
                let now = rows.min(SLICE_ROWS);
                encoder.rows(&batch.slice(0, now), &mut self.out)?;
                self.batch = (now < rows).then(|| batch.slice(now, rows - now));
                continue;
            }
            let next = match &mut self.rows {
                Some(rows) => rows.next().await,
                None => None,
            };
            match next {
                Some(batch) => self.batch = Some(batch?).filter(|b| b.num_rows() > 0),
                None => self.end(request).await?,
            }
        }
        Ok(())
    }

    async fn end(&mut self, request: &RequestGuard) -> Result<(), Error> {
        self.rows = None;
        let notices = match &mut self.closing {
            Some(closing) => closing.close().await?,
            None => Vec::new(),
        };
        if let Some(encoder) = self.encoder.take() {
            self.tag.rows = self.tag.rows.or(Some(encoder.row_count()));
            let ending = Ending {
                tag: self.tag,
                elapsed_nanos: request.elapsed_nanos(),
                notices: &notices,
            };
            encoder.end(&ending, &mut self.out)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.encoder.is_none()
    }

    fn take_chunk(&mut self) -> Bytes {
        let next = if self.is_done() { 0 } else { CHUNK_BYTES };
        std::mem::replace(&mut self.out, Vec::with_capacity(next)).into()
    }
}

/// The next chunk of a body whose head is out; `None` at its end.
async fn next_chunk(
    (mut producer, request): (Producer, RequestGuard),
) -> Result<Option<(Bytes, (Producer, RequestGuard))>, std::io::Error> {
    if let Err(e) = producer.fill(&request).await {
        tracing::warn!(code = e.code.0, error = %e, "a result broke off while it was sent");
        return Err(broken_body(&e));
    }
    if producer.out.is_empty() {
        request.finish(StatusCode::OK);
        return Ok(None);
    }
    let chunk = producer.take_chunk();
    Ok(Some((chunk, (producer, request))))
}

/// The answer with an outcome as its body.
///
/// Errors: what went wrong before the first chunk was complete, with the request's
/// guard, which is still to be finished.
pub(crate) async fn reply(
    outcome: Outcome,
    format: Format,
    closing: Option<Closing>,
    request: RequestGuard,
) -> Result<Response, (Error, RequestGuard)> {
    let mut producer = match produce(outcome, format) {
        Ok(producer) => producer,
        Err(e) => return Err((e, request)),
    };
    producer.closing = closing;
    if let Err(e) = producer.fill(&request).await {
        return Err((e, request));
    }
    if producer.is_done() {
        request.finish(StatusCode::OK);
        let body = Body::from(producer.take_chunk());
        return Ok(response(format, Some(producer.tag), body));
    }
    let chunks = futures::stream::try_unfold((producer, request), next_chunk);
    Ok(response(format, None, Body::from_stream(chunks)))
}

fn response(format: Format, tag: Option<CommandTag>, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(format.content_type());
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(Ok(tag)) = tag.map(|tag| HeaderValue::from_str(&tag.to_string())) {
        headers.insert(header::HeaderName::from_static("chronos-command"), tag);
    }
    response
}

/// All documents of several outcomes, as a JSON array. `outcomes` gives them in order.
pub(crate) struct Collected {
    out: Vec<u8>,
    max_bytes: usize,
}

impl Collected {
    pub(crate) fn new(max_bytes: usize) -> Collected {
        Collected {
            out: Vec::new(),
            max_bytes,
        }
    }

    /// Appends the document of one outcome.
    ///
    /// Errors: those of the statement, and 54000 when the whole becomes too large.
    pub(crate) async fn push(
        &mut self,
        outcome: Outcome,
        request: &RequestGuard,
    ) -> Result<(), Error> {
        self.out.push(if self.out.is_empty() { b'[' } else { b',' });
        let mut producer = produce(outcome, Format::Json)?;
        loop {
            producer.fill(request).await?;
            self.out.append(&mut producer.out);
            if self.out.len() > self.max_bytes {
                let message = format!("the results are larger than {} bytes", self.max_bytes);
                return Err(Error::new(SqlState::PROGRAM_LIMIT, message)
                    .with_hint("send the statements one by one"));
            }
            if producer.is_done() {
                return Ok(());
            }
        }
    }

    /// The answer, after the statements were committed.
    pub(crate) async fn reply(
        mut self,
        mut closing: Closing,
        request: RequestGuard,
    ) -> Result<Response, (Error, RequestGuard)> {
        if let Err(e) = closing.close().await {
            return Err((e, request));
        }
        self.out.extend_from_slice(b"]\n");
        request.finish(StatusCode::OK);
        Ok(response(Format::Json, None, Body::from(self.out)))
    }
}

/// Runs an outcome to its end without wanting it.
pub(crate) async fn discard(outcome: Outcome) -> Result<(), Error> {
    match outcome {
        Outcome::Rows(Rows {
            data: RowData::Batches(mut rows),
            ..
        }) => {
            while let Some(batch) = rows.next().await {
                batch?;
            }
            Ok(())
        }
        Outcome::CopyIn(_) | Outcome::CopyOut(_) => Err(no_copy()),
        Outcome::Rows(_) | Outcome::Done(_) | Outcome::Empty => Ok(()),
    }
}

fn no_copy() -> Error {
    Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "COPY with STDIN or STDOUT is not possible over HTTP",
    )
    .with_hint(
        "read with SELECT and Accept: text/csv, write with POST /ingest or the PostgreSQL protocol",
    )
}

fn produce(outcome: Outcome, format: Format) -> Result<Producer, Error> {
    let nothing = || Arc::new(Schema::empty());
    let (schema, rows, batch, tag) = match outcome {
        Outcome::Rows(Rows { schema, data, tag }) => match data {
            RowData::Batches(rows) => (schema, Some(rows), None, tag),
            RowData::Values(values) => {
                let batch = batch_of(&schema, &values)?;
                (batch.schema(), None, Some(batch), tag)
            }
        },
        Outcome::Done(tag) => (nothing(), None, None, tag),
        Outcome::Empty => {
            let tag = CommandTag {
                verb: "",
                rows: None,
            };
            (nothing(), None, None, tag)
        }
        Outcome::CopyIn(_) | Outcome::CopyOut(_) => return Err(no_copy()),
    };
    let mut out = Vec::with_capacity(4096);
    let encoder = Encoder::begin(format, schema, &mut out)?;
    Ok(Producer {
        rows,
        batch: batch.filter(|b| b.num_rows() > 0),
        encoder: Some(encoder),
        tag,
        closing: None,
        out,
    })
}

/// Rows that never were columns, as columns of the types in which values travel.
fn batch_of(schema: &SchemaRef, rows: &[Vec<Value>]) -> Result<RecordBatch, Error> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (i, field) in schema.fields().iter().enumerate() {
        let data_type = DataType::of_field(field);
        let mut builder = column_builder(&data_type, rows.len());
        for row in rows {
            append_value(&mut builder, row.get(i).unwrap_or(&Value::Null))?;
        }
        let column = builder.finish();
        let field = field.as_ref().clone().with_nullable(true);
        fields.push(field.with_data_type(column.data_type().clone()));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(
        |e| {
            Error::new(
                SqlState::INTERNAL,
                format!("rows do not fit their columns: {e}"),
            )
        },
    )
}

#[cfg(test)]
mod tests;
