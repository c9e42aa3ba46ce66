//! One connection's bytes: frames in, buffered replies out.
//!
//! ```text
//!     socket --read--> input --pop()--> Frame { tag, body }
//!     socket <--write-- output <-- messages, rows
//! ```
//!
//! Replies gather in `output` and leave in one write, when the connection is about to
//! wait for the client, at Flush, or when [`OUTPUT_BYTES_MAX`] are waiting. So a
//! pipelining client gets one write per batch, and a client that does not read stops
//! the statement that feeds it instead of filling memory.
//!
//! Refuses frames of unknown tag or impossible length: after those nothing in the
//! stream can be trusted.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use chronos_model::SqlState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cancel::Interrupt;
use super::failure::{Failure, Handled};
use super::frontend;
use super::stats::PgStats;
use crate::tls::{Loaded, Transport};

/// Output beyond this many bytes is written before more is produced.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// The first reads of a connection ask for this many bytes.
const READ_BYTES_MIN: usize = 8 * 1024;
/// Reads that come back full grow until they ask for this many bytes.
const READ_BYTES_MAX: usize = 256 * 1024;
/// A client may send this far ahead while its statement runs.
const READ_AHEAD_BYTES_MAX: usize = 256 * 1024;
/// An idle connection keeps buffers no larger than this.
const IDLE_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Tag and length of a message.
const HEADER_BYTES: usize = 5;

/// One message: its tag and what follows the length.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// A connection's stream and buffers.
pub(super) struct Wire<S> {
    stream: Transport<S>,
    /// What channel binding binds to, once the stream is encrypted.
    end_point: Option<Vec<u8>>,
    input: BytesMut,
    /// Replies that wait to be sent; whole messages only.
    pub(super) output: BytesMut,
    read_bytes: usize,
    message_bytes_max: usize,
    ended: bool,
    /// Shared counters.
    pub(super) stats: Arc<PgStats>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A fresh connection that takes messages up to `message_bytes_max`.
    pub(super) fn new(stream: S, message_bytes_max: usize, stats: Arc<PgStats>) -> Wire<S> {
        Wire {
            stream: Transport::Plain(stream),
            end_point: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            message_bytes_max,
            ended: false,
            stats,
        }
    }

    /// Takes a start-up packet (a length, no tag) off the input, if it is complete.
    pub(super) fn pop_startup(&mut self) -> Handled<Option<Bytes>> {
        /// PostgreSQL's limit (MAX_STARTUP_PACKET_LENGTH).
        const STARTUP_BYTES_MAX: usize = 10_000;
        let Some(length) = self.input.first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if !(8..=STARTUP_BYTES_MAX).contains(&length) {
            return Err(Failure::fatal(
                SqlState::PROTOCOL_VIOLATION,
                "invalid length of startup packet",
            ));
        }
        if self.input.len() < length {
            return Ok(None);
        }
        let mut packet = self.input.split_to(length);
        packet.advance(4);
        Ok(Some(packet.freeze()))
    }

    /// Whether the client began with TLS, without asking for it first.
    pub(super) fn begins_with_tls(&self) -> bool {
        /// The type of a TLS record that holds a handshake.
        const HANDSHAKE: u8 = 0x16;
        self.input.first() == Some(&HANDSHAKE) && !self.stream.is_encrypted()
    }

    /// Goes over to TLS; what is in the input belongs to its handshake.
    ///
    /// Errors: the handshake failed; nothing can be said to the client any more.
    pub(super) async fn start_tls(&mut self, loaded: &Loaded) -> Handled {
        let read = self.input.split().freeze();
        let config = Arc::clone(&loaded.pgwire);
        if let Err(error) = self.stream.start_tls(config, read).await {
            tracing::info!(%error, "a PostgreSQL client failed at TLS");
            return Err(Failure::Closed);
        }
        self.end_point.clone_from(&loaded.end_point);
        Ok(())
    }

    /// Whether bytes are waiting that were sent before anybody could expect them.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether nobody else can read what is said.
    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// The protocol that was agreed upon in TLS.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.stream.alpn()
    }

    /// What channel binding binds to; `None`: there is none.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        self.end_point.clone()
    }

    /// Takes a message of the log-in off the input, if it is complete.
    pub(super) fn pop_authentication(&mut self) -> Handled<Option<Bytes>> {
        /// The messages of SCRAM are far smaller.
        const BYTES_MAX: usize = 10_000;
        let violation = |message: String| Failure::fatal(SqlState::PROTOCOL_VIOLATION, message);
        match self.input.first() {
            None => return Ok(None),
            Some(b'p') => {}
            Some(tag) => {
                let message = format!("expected SASL response, got message type {tag}");
                return Err(violation(message));
            }
        }
        let Some(length) = frame_length(&self.input) else {
            return Ok(None);
        };
        if !(4..=BYTES_MAX).contains(&length) {
            return Err(violation("invalid message length".to_owned()));
        }
        if self.input.len() <= length {
            return Ok(None);
        }
        let mut frame = self.input.split_to(1 + length);
        frame.advance(HEADER_BYTES);
        Ok(Some(frame.freeze()))
    }

    /// Takes a message off the input, if it is complete.
    pub(super) fn pop(&mut self) -> Handled<Option<Frame>> {
        let Some(&tag) = self.input.first() else {
            return Ok(None);
        };
        let Some(length_max) = frontend::length_max(tag, self.message_bytes_max) else {
            return Err(Failure::fatal(
                SqlState::PROTOCOL_VIOLATION,
                format!("invalid frontend message type {tag}"),
            ));
        };
        let Some(length) = frame_length(&self.input) else {
            return Ok(None);
        };
        if length < 4 {
            return Err(Failure::fatal(
                SqlState::PROTOCOL_VIOLATION,
                "invalid message length",
            ));
        }
        if length > length_max {
            return Err(Failure::fatal(
                SqlState::PROGRAM_LIMIT,
                format!("a message of {length} bytes exceeds the limit of {length_max}"),
            ));
        }
        if self.input.len() <= length {
            return Ok(None);
        }
        let mut frame = self.input.split_to(1 + length);
        frame.advance(HEADER_BYTES);
        Ok(Some(Frame {
            tag,
            body: frame.freeze(),
        }))
    }

    /// Whether the input goes on with Sync, with nothing before it that could run a
    /// statement: then the statement at hand is its batch's last.
    pub(super) fn sync_follows(&self) -> bool {
        let mut rest = &self.input[..];
        loop {
            match (rest.first(), frame_length(rest)) {
                (Some(b'S'), Some(_)) => return true,
                (Some(b'C' | b'H'), Some(length)) if length >= 4 && rest.len() > length => {
                    rest = &rest[1 + length..];
                }
                _ => return false,
            }
        }
    }

    /// Waits for bytes from the client. May be dropped and called again.
    pub(super) async fn fill(&mut self) -> Handled {
        if self.ended {
            return Err(Failure::Closed);
        }
        self.make_room();
        let room = self.input.capacity() - self.input.len();
        let read = self.stream.read_buf(&mut self.input).await?;
        if read == 0 {
            self.ended = true;
            return Err(Failure::Closed);
        }
        if read == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        self.stats.bytes_received.add(read as u64);
        Ok(())
    }

    /// Room for the next read: for the rest of a message that has begun, but not on
    /// the word of its length alone.
    fn make_room(&mut self) {
        let missing = frame_length(&self.input)
            .map_or(0, |length| (1 + length).saturating_sub(self.input.len()));
        let wanted = missing.clamp(self.read_bytes, READ_BYTES_MAX);
        self.input.reserve(wanted);
    }

    /// Sends all replies.
    pub(super) async fn flush(&mut self) -> Handled {
        if self.output.is_empty() {
            return Ok(());
        }
        self.stats.bytes_sent.add(self.output.len() as u64);
        self.stats.writes.add(1);
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await?;
        self.output.clear();
        Ok(())
    }

    /// Sends the replies if there are many: called while rows are produced.
    pub(super) async fn relieve(&mut self) -> Handled {
        if self.output.len() < OUTPUT_BYTES_MAX {
            return Ok(());
        }
        self.flush().await
    }

    /// Gives large buffers back; called when the client may be silent for long.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() && self.input.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES_MIN;
        }
        if self.output.is_empty() && self.output.capacity() > 4 * OUTPUT_BYTES_MAX {
            self.output = BytesMut::new();
        }
    }

    /// Drops replies that may be incomplete, after a panic.
    pub(super) fn forget_output(&mut self) {
        self.output.clear();
    }

    /// Reads and forgets what the client still sends, until it leaves.
    pub(super) async fn discard(&mut self) {
        self.input.clear();
        while self.fill().await.is_ok() {
            self.input.clear();
        }
    }

    /// Sends the replies and closes the stream.
    pub(super) async fn close(&mut self) -> Handled {
        self.flush().await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// Runs a statement's `work`, and cancels it when the client vanishes meanwhile.
    ///
    /// Work that is ready at once costs nothing. Otherwise what the client sends is
    /// read ahead. An end of the stream behind complete messages is a client that has
    /// said all it wants to say, perhaps a last INSERT and Terminate: its work goes on.
    pub(super) async fn watch<T>(
        &mut self,
        interrupt: &Interrupt,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        if let Poll::Ready(result) = futures::poll!(&mut work) {
            return result;
        }
        loop {
            if self.ended || self.input.len() >= READ_AHEAD_BYTES_MAX {
                return work.await;
            }
            tokio::select! {
                biased;
                result = &mut work => return result,
                filled = self.fill() => {
                    if filled.is_err() {
                        self.ended = true;
                        if self.input.is_empty() {
                            interrupt.cancel();
                        }
                    }
                }
            }
        }
    }
}

/// The length word of the message that `input` begins with.
fn frame_length(input: &[u8]) -> Option<usize> {
    let length = input.get(1..HEADER_BYTES)?.first_chunk()?;
    Some(u32::from_be_bytes(*length) as usize)
}
