//! COPY: data from the client until it says done, data to the client until there is
//! no more.
//!
//! Rows from the client reach the session a batch at a time as they come in, and are
//! committed when the client says CopyDone; whatever else happens drops the
//! [`CopyIn`], which leaves no trace of it. What a client still sends after a failed
//! COPY is ignored by [`Connection`].

use std::pin::{pin, Pin};

use chronos_model::SqlState;
use chronos_node::{CommandTag, CopyIn, CopyOut};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::futures::Notified;

use super::backend;
use super::connection::Connection;
use super::failure::{Failure, Handled};
use super::format::{CopyDecoder, CopyEncoder};
use super::frontend::{self, Message};
use super::wire::Frame;

/// Rows of a batch that are encoded between two looks at the output's size.
const SLICE_ROWS: usize = 512;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// `COPY .. FROM STDIN`.
    pub(super) async fn copy_in(&mut self, mut copy: CopyIn) -> Handled {
        let interrupt = self.interrupt.clone();
        let mut cancelled = pin!(interrupt.cancelled());
        let mut decoder = CopyDecoder::new(&copy.options, &copy.table, &copy.columns);
        let (format, columns) = (copy.options.format, copy.columns.len());
        backend::copy_in_response(&mut self.wire.output, format, columns);
        loop {
            let frame = self.next_copy_frame(cancelled.as_mut()).await?;
            match frontend::decode(frame.tag, &frame.body)? {
                Message::CopyData(data) => {
                    self.wire.stats.copy_data.add(1);
                    decoder.push(data)?;
                    self.write_batches(&mut decoder, &mut copy).await?;
                }
                Message::CopyDone => {
                    decoder.finish()?;
                    self.write_batches(&mut decoder, &mut copy).await?;
                    let tag = self.session.copy_finish(copy).await?;
                    self.complete(tag);
                    return Ok(());
                }
                Message::CopyFail(reason) => {
                    return Err(Failure::statement(
                        SqlState::QUERY_CANCELED,
                        format!("COPY from stdin failed: {reason}"),
                    ))
                }
                // Clients may send these along without knowing what they execute.
                Message::Flush | Message::Sync => {}
                Message::Terminate => return Err(Failure::Closed),
                _ => {
                    return Err(Failure::violation(format!(
                        "unexpected message type 0x{:02X} during COPY from stdin",
                        frame.tag
                    )))
                }
            }
        }
    }

    async fn write_batches(&mut self, decoder: &mut CopyDecoder, copy: &mut CopyIn) -> Handled {
        while let Some(batch) = decoder.next_batch() {
            self.session.copy_write(copy, batch).await?;
        }
        Ok(())
    }

    async fn next_copy_frame(&mut self, mut cancelled: Pin<&mut Notified<'_>>) -> Handled<Frame> {
        loop {
            if let Some(frame) = self.wire.pop()? {
                return Ok(frame);
            }
            self.wire.flush().await?;
            tokio::select! {
                biased;
                () = cancelled.as_mut() => return Err(Failure::statement(
                    SqlState::QUERY_CANCELED,
                    "canceling statement due to user request",
                )),
                filled = self.wire.fill() => filled?,
            }
        }
    }

    /// `COPY .. TO STDOUT`.
    pub(super) async fn copy_out(&mut self, mut copy: CopyOut) -> Handled {
        let mut encoder = CopyEncoder::new(&copy.options, &copy.schema);
        let columns = copy.schema.fields().len();
        let (format, out) = (copy.options.format, &mut self.wire.output);
        backend::copy_out_response(out, format, columns);
        let mut rows = 0;
        while let Some(batch) = self
            .wire
            .watch(&self.interrupt, copy.batches.next())
            .await
            .transpose()?
        {
            for start in (0..batch.num_rows()).step_by(SLICE_ROWS) {
                let slice = batch.slice(start, SLICE_ROWS.min(batch.num_rows() - start));
                rows += encoder.encode_batch(&slice, &mut self.wire.output)? as u64;
                self.wire.relieve().await?;
            }
        }
        encoder.finish(&mut self.wire.output)?;
        backend::copy_done(&mut self.wire.output);
        self.complete(CommandTag {
            verb: "COPY",
            rows: Some(rows),
        });
        Ok(())
    }
}
