//! A session with a node over the PostgreSQL protocol, version 3.
//!
//! Why not `tokio-postgres`, whose codec this uses: its simple query hides the command
//! tag, the column types, the transaction state and COPY, all of which a prompt shows.
//! Only the simple query protocol and COPY are spoken, so every value arrives as text.
//!
//! ```text
//!   Target (URL) ──connect──► Session ──run(sql)──► Event* ──► sink
//!                                     ◄─copy_data / copy_finish─ COPY .. FROM STDIN
//!                             Canceller: a second connection that stops the running statement
//! ```
//!
//! TLS is as `sslmode` says ([`tls`]). Refuses anything but UTF-8.

mod connect;
#[cfg(test)]
pub(in crate::cli) mod fake;
mod target;
#[cfg(test)]
mod tests;
mod tls;

use std::io;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{ErrorFields, Message, RowDescriptionBody};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::reply::{
    Column, Event, Kind, Progress, RunError, Sink, SmallResult, SqlError, Transaction,
};
pub(crate) use target::Target;
pub(in crate::cli) use tls::{config as tls_config, TlsWish};

/// Data of one CopyData message; larger input is cut into several.
const COPY_MESSAGE_BYTES: usize = 256 * 1024;
/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// The byte stream under a session.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Socket {
    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        into.reserve(READ_BYTES);
        match self {
            Self::Tcp(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
            Self::Unix(stream) => stream.read_buf(into).await,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}

/// An open session. One statement at a time.
#[derive(Debug)]
pub(crate) struct Session {
    socket: Socket,
    input: BytesMut,
    output: BytesMut,
    target: Target,
    server_version: String,
    process_id: i32,
    secret_key: i32,
    transaction: Transaction,
}

impl Session {
    /// Where this session is connected to.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// What the server calls its version.
    pub(crate) fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Whether a transaction is open, as of the last answer.
    pub(crate) fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// A handle that can stop this session's running statement.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller {
            target: self.target.clone(),
            process_id: self.process_id,
            secret_key: self.secret_key,
        }
    }

    /// Sends one statement and passes its answer to `sink`.
    ///
    /// When `sink` fails, the statement is cancelled and its rest is skipped, so that
    /// the session stays usable.
    pub(crate) async fn run(
        &mut self,
        sql: &str,
        sink: &mut Sink<'_>,
    ) -> Result<Progress, RunError> {
        if sql.contains('\0') {
            return Err(RunError::Sql(Box::new(SqlError {
                severity: "ERROR".into(),
                code: "22021".into(),
                message: "the statement contains a zero byte".into(),
                ..SqlError::default()
            })));
        }
        frontend::query(sql, &mut self.output).map_err(lost)?;
        self.flush().await?;
        self.answer(sink).await
    }

    /// Runs a statement and holds its rows.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<SmallResult, RunError> {
        let mut result = SmallResult::default();
        let progress = self
            .run(sql, &mut |event| {
                result.absorb(event);
                Ok(())
            })
            .await?;
        if progress == Progress::WantsCopyData {
            self.copy_fail("no data is available here").await?;
        }
        Ok(result)
    }

    /// Sends data for the COPY .. FROM STDIN that [`run`](Self::run) started.
    pub(crate) async fn copy_data(&mut self, data: &[u8]) -> Result<(), RunError> {
        for chunk in data.chunks(COPY_MESSAGE_BYTES) {
            self.output.reserve(chunk.len() + 5);
            frontend::CopyData::new(chunk)
                .map_err(lost)?
                .write(&mut self.output);
            self.flush().await?;
        }
        Ok(())
    }

    /// Ends the data of a COPY .. FROM STDIN and waits for the verdict.
    pub(crate) async fn copy_finish(&mut self, sink: &mut Sink<'_>) -> Result<(), RunError> {
        frontend::copy_done(&mut self.output);
        self.flush().await?;
        match self.answer(sink).await? {
            Progress::Done => Ok(()),
            Progress::WantsCopyData => self.copy_fail("the data has ended").await,
        }
    }

    /// Withdraws a COPY .. FROM STDIN; the error the server answers with is the result.
    pub(crate) async fn copy_fail(&mut self, reason: &str) -> Result<(), RunError> {
        loop {
            frontend::copy_fail(reason, &mut self.output).map_err(lost)?;
            self.flush().await?;
            if self.answer(&mut |_| Ok(())).await? == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Says goodbye. Errors do not matter any more.
    pub(crate) async fn close(mut self) {
        frontend::terminate(&mut self.output);
        let _ = self.flush().await;
    }

    /// Reads until the server is ready, or wants COPY data.
    async fn answer(&mut self, sink: &mut Sink<'_>) -> Result<Progress, RunError> {
        let mut columns = Vec::new();
        let mut failure = None;
        loop {
            let message = self.receive().await?;
            let event_result = match message {
                Message::ReadyForQuery(body) => {
                    self.transaction = match body.status() {
                        b'T' => Transaction::Open,
                        b'E' => Transaction::Failed,
                        _ => Transaction::Idle,
                    };
                    return failure.map_or(Ok(Progress::Done), Err);
                }
                Message::CopyInResponse(_) if failure.is_none() => {
                    return Ok(Progress::WantsCopyData)
                }
                Message::CopyInResponse(_) => {
                    frontend::copy_fail("an earlier error", &mut self.output).map_err(lost)?;
                    self.flush().await?;
                    continue;
                }
                Message::ErrorResponse(body) => {
                    let error = sql_error(body.fields()).map_err(lost)?;
                    if error.severity == "FATAL" || error.severity == "PANIC" {
                        return Err(RunError::Lost(error.to_string()));
                    }
                    failure.get_or_insert(RunError::Sql(Box::new(error)));
                    continue;
                }
                _ if matches!(failure, Some(RunError::Output(_))) => continue,
                message => deliver(message, &mut columns, sink),
            };
            match event_result {
                Ok(()) => {}
                Err(Delivery::Sink(error)) => {
                    self.canceller().cancel().await;
                    failure = Some(RunError::Output(error));
                }
                Err(Delivery::Protocol(reason)) => return Err(RunError::Lost(reason)),
            }
        }
    }

    async fn receive(&mut self) -> Result<Message, RunError> {
        loop {
            if let Some(message) = Message::parse(&mut self.input).map_err(lost)? {
                return Ok(message);
            }
            if self.socket.read(&mut self.input).await.map_err(lost)? == 0 {
                return Err(RunError::Lost("the node closed it".into()));
            }
        }
    }

    async fn flush(&mut self) -> Result<(), RunError> {
        let written = self.socket.write_all(&self.output).await;
        self.output.clear();
        match written {
            Ok(()) => Ok(()),
            // What the node said before it closed tells more than "broken pipe".
            Err(error) => loop {
                match self.receive().await {
                    Ok(Message::ErrorResponse(body)) => {
                        let reason = sql_error(body.fields()).map_err(lost)?;
                        return Err(RunError::Lost(reason.to_string()));
                    }
                    Ok(_) => continue,
                    Err(_) => return Err(lost(error)),
                }
            },
        }
    }
}

fn lost(error: io::Error) -> RunError {
    RunError::Lost(error.to_string())
}

/// Why an event could not be handed on.
enum Delivery {
    Sink(io::Error),
    Protocol(String),
}

impl From<io::Error> for Delivery {
    fn from(error: io::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Translates one message into an event for the sink.
fn deliver(
    message: Message,
    columns: &mut Vec<Column>,
    sink: &mut Sink<'_>,
) -> Result<(), Delivery> {
    match message {
        Message::RowDescription(body) => {
            *columns = read_columns(&body)?;
            sink(Event::Columns(columns)).map_err(Delivery::Sink)
        }
        Message::DataRow(body) => {
            let bytes = body.buffer();
            let mut lossy = Vec::new();
            let ranges: Vec<Option<std::ops::Range<usize>>> = body.ranges().collect()?;
            if ranges.len() != columns.len() {
                let problem = format!(
                    "a row of {} cells came for {} columns",
                    ranges.len(),
                    columns.len()
                );
                return Err(Delivery::Protocol(problem));
            }
            // Invalid UTF-8 is rare: repaired copies are made first, so that rows borrow.
            for range in ranges.iter().flatten() {
                if std::str::from_utf8(&bytes[range.clone()]).is_err() {
                    lossy.push(String::from_utf8_lossy(&bytes[range.clone()]).into_owned());
                }
            }
            let mut repaired = lossy.iter();
            let cells: Vec<Option<&str>> = ranges
                .iter()
                .map(|range| {
                    let cell = &bytes[range.clone()?];
                    std::str::from_utf8(cell)
                        .ok()
                        .or_else(|| repaired.next().map(String::as_str))
                })
                .collect();
            sink(Event::Row(&cells)).map_err(Delivery::Sink)
        }
        Message::CommandComplete(body) => {
            columns.clear();
            sink(Event::Complete(body.tag()?)).map_err(Delivery::Sink)
        }
        Message::CopyData(body) => sink(Event::CopyOut(body.data())).map_err(Delivery::Sink),
        Message::NoticeResponse(body) => {
            let notice = sql_error(body.fields())?;
            sink(Event::Notice(&notice)).map_err(Delivery::Sink)
        }
        Message::CopyOutResponse(_)
        | Message::CopyDone
        | Message::EmptyQueryResponse
        | Message::ParameterStatus(_)
        | Message::NotificationResponse(_) => Ok(()),
        _ => Err(Delivery::Protocol(
            "the node sent a message that does not belong here".into(),
        )),
    }
}

fn read_columns(body: &RowDescriptionBody) -> io::Result<Vec<Column>> {
    body.fields()
        .map(|field| {
            Ok(Column {
                name: field.name().to_owned(),
                kind: kind_of(field.type_oid()),
            })
        })
        .collect()
}

/// The kind of a PostgreSQL type, by its object id in `pg_type`.
fn kind_of(type_oid: u32) -> Kind {
    match type_oid {
        // int8, int2, int4, oid, float4, float8, numeric
        20 | 21 | 23 | 26 | 700 | 701 | 1700 => Kind::Number,
        16 => Kind::Boolean,
        114 | 3802 => Kind::Json,
        _ => Kind::Text,
    }
}

fn sql_error(mut fields: ErrorFields<'_>) -> io::Result<SqlError> {
    let mut error = SqlError::default();
    while let Some(field) = fields.next()? {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            // `V` is the severity that is never translated; it wins over `S`.
            b'V' => error.severity = text,
            b'S' if error.severity.is_empty() => error.severity = text,
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'P' => error.position = text.parse().ok(),
            b'W' => error.context = Some(text),
            b'c' => error.column = Some(text),
            _ => {}
        }
    }
    Ok(error)
}

/// Stops the statement a session is running. Owned, so that it can act while the
/// session is borrowed by [`Session::run`].
#[derive(Debug, Clone)]
pub(crate) struct Canceller {
    target: Target,
    process_id: i32,
    secret_key: i32,
}

impl Canceller {
    /// Asks the node to stop the statement. Best effort, as the protocol has no reply.
    pub(crate) async fn cancel(&self) {
        let mut request = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut request);
        if let Ok(mut socket) = connect::open_socket(&self.target).await {
            if socket.write_all(&request).await.is_ok() {
                // The server closes once it has acted.
                let mut rest = BytesMut::new();
                let _ = tokio::time::timeout(connect::CANCEL_WAIT, socket.read(&mut rest)).await;
            }
        }
    }
}

#[cfg(test)]
mod message_tests {
    use super::*;
    use bytes::BufMut;

    /// One backend message: tag, length, body.
    fn message(tag: u8, body: &[u8]) -> Message {
        let mut bytes = BytesMut::new();
        bytes.put_u8(tag);
        bytes.put_i32(body.len() as i32 + 4);
        bytes.put_slice(body);
        Message::parse(&mut bytes).unwrap().unwrap()
    }

    fn two_text_columns() -> Vec<Column> {
        ["a", "b"]
            .map(|name| Column {
                name: name.into(),
                kind: Kind::Text,
            })
            .to_vec()
    }

    #[test]
    fn invalid_text_in_a_cell_is_repaired_in_place() {
        let body = b"\0\x02\0\0\0\x03ok!\0\0\0\x02\xff!";
        let mut seen = Vec::new();
        let delivered = deliver(message(b'D', body), &mut two_text_columns(), &mut |event| {
            if let Event::Row(cells) = event {
                seen = cells.iter().map(|cell| cell.map(str::to_owned)).collect();
            }
            Ok(())
        });
        assert!(delivered.is_ok());
        assert_eq!(seen, [Some("ok!".to_owned()), Some("\u{fffd}!".to_owned())]);
    }

    #[test]
    fn a_row_of_the_wrong_width_is_a_protocol_error() {
        let body = b"\0\x01\xff\xff\xff\xff";
        let result = deliver(
            message(b'D', body),
            &mut two_text_columns(),
            &mut |_| Ok(()),
        );
        assert!(matches!(result, Err(Delivery::Protocol(_))));
    }

    #[test]
    fn error_fields_are_read() {
        let body = b"SFEHLER\0VERROR\0C42P01\0Mno such table\0P15\0Hcreate it\0\0";
        let Message::ErrorResponse(body) = message(b'E', body) else {
            panic!("expected an error response")
        };
        let error = sql_error(body.fields()).unwrap();
        assert_eq!(error.severity, "ERROR");
        assert_eq!(error.to_string(), "no such table (42P01)");
        assert_eq!(error.position, Some(15));
        assert_eq!(error.hint.as_deref(), Some("create it"));
    }
}
