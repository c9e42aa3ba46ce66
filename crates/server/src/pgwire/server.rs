//! Accepts connections, limits them, and ends them all at shutdown.
//!
//! Each connection is a task of its own. A panic in one is logged, answered with XX000
//! and closes that one only. At shutdown no more are accepted, idle ones are closed with
//! 57P01 at once, busy ones when their statement is done; those that outlast the grace
//! period are cancelled, and what then still runs is dropped.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chronos_env::{Env, Random};
use chronos_model::SqlState;
use chronos_node::{Error, Identity, Session};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backend::{self, ErrorSeverity};
use super::cancel::{Cancellations, Interrupt};
use super::connection::Connection;
use super::failure::{Failure, Handled};
use super::login::log_in;
use super::startup::{greet, Hello};
use super::stats::PgStats;
use super::wire::Wire;
use crate::tls::TlsServer;

/// Sockets beyond the connection limit that may be in start-up: they are told that
/// there are too many, or they came to cancel.
const STARTUP_SOCKETS_MAX: usize = 64;
/// How long a client that is being turned away may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// How long statements may take to notice that they were cancelled at shutdown.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long to wait when the system is out of sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Whom the node lets in ([`chronos_node::AuthOptions`]).
    AsNodeSays,
    /// Everybody: the clients are of this process.
    Everybody,
}

/// How the PostgreSQL server behaves.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// Sessions at a time; one more is refused with 53300.
    pub max_connections: usize,
    /// Bytes of the largest message that a client may send.
    pub message_bytes_max: usize,
    /// How long a client may take to say what it came for.
    pub startup_timeout: Duration,
    /// How long a client may be silent; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long running statements may go on at shutdown.
    pub shutdown_grace: Duration,
    /// Who is let in.
    pub admission: Admission,
    /// How connections are encrypted; `None`: not at all.
    pub tls: Option<Arc<TlsServer>>,
    /// Where the secrets for cancel requests come from.
    pub random: Arc<dyn Random>,
    /// Counters, shared with whoever serves metrics.
    pub stats: Arc<PgStats>,
}

impl PgOptions {
    /// 500 connections: some hundred clients without a pool find room, and none takes much while it
    /// is idle. PostgreSQL's defaults otherwise: 60 s for start-up, no idle timeout. Messages up to 256 MiB, 10 s of grace.
    pub fn new(env: &Env) -> PgOptions {
        PgOptions {
            max_connections: 500,
            message_bytes_max: 256 << 20,
            startup_timeout: Duration::from_secs(60),
            idle_timeout: None,
            shutdown_grace: Duration::from_secs(10),
            admission: Admission::AsNodeSays,
            tls: None,
            random: env.random.clone(),
            stats: Arc::default(),
        }
    }
}

/// What all connections share.
pub(super) struct Shared<F> {
    node_sessions: F,
    options: PgOptions,
    cancellations: Arc<Cancellations>,
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl<F: Fn() -> Session> Shared<F> {
    /// A server without connections.
    pub(super) fn new(node_sessions: F, options: PgOptions, shutdown: CancellationToken) -> Self {
        Shared {
            node_sessions,
            cancellations: Cancellations::new(options.random.clone()),
            places: Arc::new(Semaphore::new(options.max_connections)),
            options,
            shutdown,
        }
    }
}

/// Serves PostgreSQL clients until `shutdown` is cancelled and all of them are gone.
///
/// Errors: the listener itself is broken.
pub async fn serve(
    listener: TcpListener,
    node_sessions: impl Fn() -> Session + Send + Sync + 'static,
    options: PgOptions,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared::new(node_sessions, options, shutdown));
    let mut connections = JoinSet::new();
    let accepted = accept(&listener, &shared, &mut connections).await;
    drop(listener);
    // A broken listener ends the connections too: whoever serves them restarts.
    shared.shutdown.cancel();
    end(&shared, connections).await;
    accepted
}

/// Serves clients of the same process: each stream is one connection. Ends when no
/// more can come and all of them are gone, or at `shutdown`.
pub async fn serve_streams(
    mut streams: mpsc::Receiver<UnixStream>,
    node_sessions: impl Fn() -> Session + Send + Sync + 'static,
    options: PgOptions,
    shutdown: CancellationToken,
) {
    let shared = Arc::new(Shared::new(node_sessions, options, shutdown));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            stream = streams.recv() => match stream {
                Some(stream) => {
                    let shared = shared.clone();
                    connections.spawn(async move { serve_stream(stream, &shared).await });
                }
                None => break,
            },
        }
    }
    end(&shared, connections).await;
}

async fn accept<F: Fn() -> Session + Send + Sync + 'static>(
    listener: &TcpListener,
    shared: &Arc<Shared<F>>,
    connections: &mut JoinSet<()>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let sockets_max = shared.options.max_connections + STARTUP_SOCKETS_MAX;
                    if connections.len() >= sockets_max {
                        tracing::warn!(%peer, "too many PostgreSQL sockets, closing one");
                        shared.options.stats.connections_refused.add(1);
                        continue;
                    }
                    tracing::debug!(%peer, "PostgreSQL client connected");
                    connections.spawn(serve_socket(stream, peer.ip().is_loopback(), shared.clone()));
                }
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "cannot accept a PostgreSQL connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => return Err(error),
            },
        }
    }
}

/// Whether accepting may work again: the client was too fast, or the system is out of
/// file descriptors or memory for the moment.
fn is_transient(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    ) || matches!(
        error.raw_os_error(),
        Some(ENOMEM | ENFILE | EMFILE | ENOBUFS)
    )
}

/// Waits for the connections to end, for a while; then makes them.
async fn end<F: Fn() -> Session>(shared: &Shared<F>, mut connections: JoinSet<()>) {
    let grace = shared.options.shutdown_grace;
    if timeout(grace, all(&mut connections)).await.is_ok() {
        return;
    }
    shared.cancellations.cancel_all();
    if timeout(CANCEL_GRACE, all(&mut connections)).await.is_ok() {
        return;
    }
    tracing::warn!(
        connections = connections.len(),
        "PostgreSQL connections did not end in time, dropping them"
    );
    connections.shutdown().await;
}

async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

async fn serve_socket<F: Fn() -> Session>(
    stream: TcpStream,
    is_local: bool,
    shared: Arc<Shared<F>>,
) {
    // Replies are whole when they are written: holding them back gains nothing.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    serve_client(stream, is_local, &shared).await;
}

/// Serves one client on any stream of this machine.
pub(super) async fn serve_stream<S, F>(stream: S, shared: &Shared<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Session,
{
    serve_client(stream, true, shared).await;
}

async fn serve_client<S, F>(stream: S, is_local: bool, shared: &Shared<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Session,
{
    let options = &shared.options;
    let mut wire = Wire::new(stream, options.message_bytes_max, options.stats.clone());
    // Unwinding drops the session and leaves the wire, whose output is discarded.
    let conversation = AssertUnwindSafe(converse(&mut wire, is_local, shared));
    let farewell = match conversation.catch_unwind().await {
        Ok(Ok(()) | Err(Failure::Closed)) => None,
        Ok(Err(Failure::Fatal(error) | Failure::Statement(error))) => Some(error),
        Err(panic) => {
            let reason = panic_message(&*panic);
            tracing::error!(reason, "a PostgreSQL connection panicked");
            options.stats.panics.add(1);
            wire.forget_output();
            Some(Box::new(Error::new(
                SqlState::INTERNAL,
                "internal error: the connection's task failed",
            )))
        }
    };
    // Closing a socket with unread input resets it, and the client would lose the error
    // before it could read it. At shutdown the clients were silent, and are many.
    let is_refused = farewell
        .as_ref()
        .is_some_and(|error| error.code != SqlState::ADMIN_SHUTDOWN);
    if let Some(error) = farewell {
        options.stats.errors.add(1);
        backend::error_response(&mut wire.output, ErrorSeverity::Fatal, &error);
    }
    if timeout(LINGER, wire.close()).await.is_ok() && is_refused {
        let _ = timeout(LINGER, wire.discard()).await;
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown reason")
}

async fn converse<S, F>(wire: &mut Wire<S>, is_local: bool, shared: &Shared<F>) -> Handled
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Session,
{
    let stats = shared.options.stats.clone();
    let arrival = arrive_in_time(wire, is_local, shared).await;
    let arrival = arrival.inspect_err(|_| stats.connections_refused.add(1))?;
    let (mut session, settings) = match arrival {
        Arrival::Session(session, settings) => (session, settings),
        Arrival::Cancel { process_id, secret } => {
            if shared.cancellations.cancel(process_id, secret) {
                stats.cancels.add(1);
            }
            return Ok(());
        }
    };
    let Ok(_place) = shared.places.try_acquire() else {
        stats.connections_refused.add(1);
        return Err(Failure::fatal(
            SqlState("53300"),
            "sorry, too many clients already",
        ));
    };
    for (name, value) in &settings {
        session.set_startup(name, value).map_err(|error| {
            stats.connections_refused.add(1);
            Failure::Fatal(Box::new(error))
        })?;
    }
    let interrupt = Interrupt::new(session.cancel_handle());
    let registration = shared.cancellations.register(interrupt.clone());
    let (process_id, secret) = (registration.process_id, registration.secret);
    backend::authentication_ok(&mut wire.output);
    for (name, value) in session.take_reported_settings() {
        backend::parameter_status(&mut wire.output, &name, &value);
    }
    backend::backend_key_data(&mut wire.output, process_id, secret);
    stats.connections_total.add(1);
    let _open = Open::new(&stats);
    let shutdown = shared.shutdown.child_token();
    let idle_timeout = shared.options.idle_timeout;
    Connection::new(wire, *session, interrupt, shutdown, idle_timeout)
        .run()
        .await
}

/// What came of a client's start-up.
enum Arrival {
    /// A session that belongs to it, and the settings that it asks for.
    Session(Box<Session>, Vec<(String, String)>),
    /// It wants another connection's statement cancelled.
    Cancel { process_id: u32, secret: u32 },
}

/// Reads the start-up packets and logs in, for as long as is allowed and the server runs.
async fn arrive_in_time<S, F>(
    wire: &mut Wire<S>,
    is_local: bool,
    shared: &Shared<F>,
) -> Handled<Arrival>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Session,
{
    let arriving = timeout(
        shared.options.startup_timeout,
        arrive(wire, is_local, shared),
    );
    tokio::select! {
        biased;
        arrived = arriving => arrived.unwrap_or(Err(Failure::Closed)),
        () = shared.shutdown.cancelled() => Err(Failure::fatal(
            SqlState::CANNOT_CONNECT_NOW,
            "the database system is shutting down",
        )),
    }
}

async fn arrive<S, F>(wire: &mut Wire<S>, is_local: bool, shared: &Shared<F>) -> Handled<Arrival>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn() -> Session,
{
    let tls = shared.options.tls.as_deref();
    let settings = match greet(wire, tls).await? {
        Hello::Start(settings) => settings,
        Hello::Cancel { process_id, secret } => return Ok(Arrival::Cancel { process_id, secret }),
    };
    let is_clear = !wire.is_encrypted();
    if is_clear && tls.is_some_and(|tls| !tls.allows_plain(is_local)) {
        return Err(Failure::Fatal(Box::new(
            Error::new(
                SqlState::INVALID_AUTHORIZATION,
                "connections without TLS are refused: no encryption",
            )
            .with_hint("Connect with sslmode=require, or better verify-full."),
        )));
    }
    let mut session = Box::new((shared.node_sessions)());
    if shared.options.admission == Admission::Everybody {
        return Ok(Arrival::Session(session, settings));
    }
    let named = settings.iter().find(|(name, _)| name == "user");
    let user = named.map(|(_, user)| user.clone()).unwrap_or_default();
    let node = session.node().clone();
    let identity = log_in(wire, &node, &user).await.inspect_err(|failure| {
        if let Failure::Fatal(error) = failure {
            tracing::warn!(
                user,
                reason = error.message,
                "a PostgreSQL client was not let in"
            );
            shared.options.stats.logins_failed.add(1);
        }
    })?;
    // A name that nobody had to prove stays as it was given.
    if identity != Identity::Trusted {
        let logged_in = session.log_in(identity);
        logged_in.map_err(|error| Failure::Fatal(Box::new(error)))?;
    }
    Ok(Arrival::Session(session, settings))
}

/// Counts an open connection for as long as it lives.
struct Open<'a>(&'a PgStats);

impl<'a> Open<'a> {
    fn new(stats: &'a PgStats) -> Open<'a> {
        stats.connections_open.add(1);
        Open(stats)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections_open.subtract(1);
    }
}
