//! One connection past start-up: takes messages, runs them in the session, replies.
//!
//! 1. [`Connection::run`] takes the next message, sending what is waiting only if none
//!    is complete.
//! 2. A simple query is split and its statements run in one implicit transaction; an
//!    extended message is handed on to [`execute`](super::execute).
//! 3. A failure is reported; an extended one skips all that follows until Sync.
//! 4. At the end of a cycle changed settings and ReadyForQuery are appended.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chronos_model::SqlState;
use chronos_node::{Error, Outcome, Session, Statement, TransactionStatus};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::backend::{self, ErrorSeverity};
use super::cancel::Interrupt;
use super::extended::{Extended, ResultFormats};
use super::failure::{Failure, Handled};
use super::format::FieldFormat;
use super::frontend::{self, Message};
use super::rows::{Cursor, Progress};
use super::wire::{Frame, Wire};

/// A connection past start-up.
pub(super) struct Connection<'a, S> {
    pub(super) wire: &'a mut Wire<S>,
    pub(super) session: Session,
    pub(super) interrupt: Arc<Interrupt>,
    pub(super) extended: Extended,
    shutdown: CancellationToken,
    /// The same as a future: registered once instead of at every wait.
    shutdown_ordered: Pin<Box<WaitForCancellationFutureOwned>>,
    idle_timeout: Option<Duration>,
    /// Nothing was received since ReadyForQuery.
    at_rest: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    /// A connection whose session has its start-up settings.
    pub(super) fn new(
        wire: &'a mut Wire<S>,
        session: Session,
        interrupt: Arc<Interrupt>,
        shutdown: CancellationToken,
        idle_timeout: Option<Duration>,
    ) -> Connection<'a, S> {
        Connection {
            wire,
            session,
            interrupt,
            extended: Extended::new(),
            shutdown_ordered: Box::pin(shutdown.clone().cancelled_owned()),
            shutdown,
            idle_timeout,
            at_rest: false,
        }
    }

    /// Serves the client until one of the two leaves.
    pub(super) async fn run(&mut self) -> Handled {
        self.ready();
        loop {
            let frame = self.next_frame().await?;
            self.at_rest = false;
            self.count(frame.tag);
            let is_end_of_batch = matches!(frame.tag, b'S' | b'X');
            if self.extended.skipping && !is_end_of_batch {
                continue;
            }
            match self.handle(frame).await {
                Ok(()) => {}
                Err(Failure::Statement(error)) if self.session.is_ended_by(&error) => {
                    return Err(Failure::Fatal(error));
                }
                Err(Failure::Statement(error)) => {
                    self.report(&error);
                    self.extended.skipping = true;
                }
                Err(end) => return Err(end),
            }
        }
    }

    /// The next message. While none is there the replies are sent, and shutdown or a
    /// long silence ends the connection.
    async fn next_frame(&mut self) -> Handled<Frame> {
        if self.at_rest && self.shutdown.is_cancelled() {
            return Err(shut_down());
        }
        let mut silence = None;
        loop {
            if let Some(frame) = self.wire.pop()? {
                return Ok(frame);
            }
            self.wire.flush().await?;
            if self.at_rest {
                self.wire.rest();
            }
            // Counts from the first wait on: a message that comes byte by byte is silence, too.
            let silence = silence.get_or_insert_with(|| Box::pin(self.silence()));
            tokio::select! {
                biased;
                filled = self.wire.fill() => filled?,
                () = self.shutdown_ordered.as_mut() => return Err(shut_down()),
                error = silence => return Err(Failure::Fatal(Box::new(error))),
            }
        }
    }

    /// Ready when the client has been silent for too long.
    fn silence(&self) -> impl std::future::Future<Output = Error> + 'static {
        let of_server = self.idle_timeout.map(|timeout| {
            let message = "terminating connection due to idle-session timeout";
            (timeout, Error::new(SqlState("57P05"), message))
        });
        let of_session = self.session.silence_limit(self.at_rest);
        let limits = of_server.into_iter().chain(of_session);
        let limit = limits.min_by_key(|(after, _)| *after);
        async {
            match limit {
                Some((after, error)) => {
                    tokio::time::sleep(after).await;
                    error
                }
                None => std::future::pending().await,
            }
        }
    }

    fn count(&self, tag: u8) {
        let stats = &self.wire.stats;
        let counter = match tag {
            b'Q' => &stats.queries,
            b'P' => &stats.parses,
            b'B' => &stats.binds,
            b'E' => &stats.executes,
            b'd' => &stats.copy_data,
            _ => &stats.other_messages,
        };
        counter.add(1);
    }

    async fn handle(&mut self, frame: Frame) -> Handled {
        let message = match frontend::decode(frame.tag, &frame.body) {
            Ok(message) => message,
            // These are their own cycle: no Sync will come to end it.
            Err(error) if matches!(frame.tag, b'Q' | b'F') => {
                self.report(&error);
                self.ready();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match message {
            Message::Query(sql) => self.query(sql).await,
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => {
                self.extended.bind(&bind)?;
                backend::bind_complete(&mut self.wire.output);
                Ok(())
            }
            Message::Describe(target) => self.describe(target),
            Message::Execute { portal, rows_max } => self.execute(portal, rows_max).await,
            Message::Close(target) => {
                self.extended.close(target);
                backend::close_complete(&mut self.wire.output);
                Ok(())
            }
            Message::Flush => self.wire.flush().await,
            Message::Sync => self.sync().await,
            Message::Terminate => Err(Failure::Closed),
            // What a client still sent when its COPY had failed already.
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) => Ok(()),
            Message::FunctionCall => {
                self.report(&Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "function calls by object id are not supported",
                ));
                self.ready();
                Ok(())
            }
        }
    }

    /// Runs a query string: its statements in one implicit transaction if there are
    /// several, up to the first that fails.
    async fn query(&mut self, sql: &str) -> Handled {
        self.extended.close_unnamed();
        let result = self.statements(sql).await;
        self.conclude(result)?;
        if std::mem::take(&mut self.extended.implicit) {
            let ended = self.end_implicit().await;
            self.conclude(ended)?;
        }
        self.ready();
        Ok(())
    }

    async fn statements(&mut self, sql: &str) -> Handled {
        let statements = self.session.split(sql)?;
        let mut answered = false;
        for statement in &statements {
            if statements.len() > 1 {
                self.begin_implicit().await?;
            }
            answered |= self.statement(statement).await?;
        }
        if !answered {
            backend::empty_query(&mut self.wire.output);
        }
        Ok(())
    }

    /// Runs one statement of a simple query; whether there was anything to run.
    async fn statement(&mut self, statement: &Statement) -> Handled<bool> {
        let run = self.session.run(statement);
        match self.wire.watch(&self.interrupt, run).await? {
            Outcome::Rows(rows) => {
                let text = ResultFormats::All(FieldFormat::Text);
                let mut cursor = Cursor::new(rows, None, text);
                cursor.describe(&mut self.wire.output);
                let sent = cursor.send(self.wire, &self.interrupt, None).await?;
                if let Progress::Complete(tag) = sent {
                    self.complete(tag);
                }
            }
            Outcome::Done(tag) => self.complete(tag),
            Outcome::CopyIn(copy) => self.copy_in(copy).await?,
            Outcome::CopyOut(copy) => self.copy_out(copy).await?,
            Outcome::Empty => return Ok(false),
        }
        Ok(true)
    }

    /// Begins an implicit transaction, unless the client began one of its own.
    pub(super) async fn begin_implicit(&mut self) -> Handled {
        if self.session.transaction_status() == TransactionStatus::Idle {
            let begin = self.session.begin_implicit();
            self.wire.watch(&self.interrupt, begin).await?;
            self.extended.implicit = true;
        }
        Ok(())
    }

    /// Ends the implicit transaction: committed, or rolled back if it failed.
    pub(super) async fn end_implicit(&mut self) -> Handled {
        let end = self.session.end_implicit();
        Ok(self.wire.watch(&self.interrupt, end).await?)
    }

    /// Reports a failed statement and goes on; passes on what ends the connection.
    pub(super) fn conclude(&mut self, result: Handled) -> Handled {
        match result {
            Err(Failure::Statement(error)) if self.session.is_ended_by(&error) => {
                Err(Failure::Fatal(error))
            }
            Err(Failure::Statement(error)) => {
                self.report(&error);
                Ok(())
            }
            other => other,
        }
    }

    /// Appends a finished statement's notices and tag.
    pub(super) fn complete(&mut self, tag: chronos_node::CommandTag) {
        self.notices();
        backend::command_complete(&mut self.wire.output, tag);
    }

    fn notices(&mut self) {
        for notice in self.session.take_notices() {
            backend::notice_response(&mut self.wire.output, &notice);
        }
    }

    /// Appends an error. It may have arisen outside of the session, in a parameter or
    /// while rows were sent, so the session is told.
    fn report(&mut self, error: &Error) {
        self.session.fail_transaction();
        self.notices();
        self.wire.stats.errors.add(1);
        backend::error_response(&mut self.wire.output, ErrorSeverity::Error, error);
    }

    /// Ends a cycle: settings that changed, and ReadyForQuery.
    pub(super) fn ready(&mut self) {
        self.notices();
        let out = &mut self.wire.output;
        for (name, value) in self.session.take_reported_settings() {
            backend::parameter_status(out, &name, &value);
        }
        backend::ready_for_query(out, self.session.transaction_status());
        self.at_rest = true;
    }
}

fn shut_down() -> Failure {
    Failure::fatal(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}
