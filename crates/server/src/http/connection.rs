//! Connections: accepted, counted, limited, and ended in order.
//!
//! Owns the loop around the listener. At the limit of connections nothing more is
//! accepted until one ends; the operating system's queue holds the others. At shutdown
//! idle connections close at once and busy ones after their answer, within a time.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::Router;
use chronos_model::SqlState;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::Failure;
use super::HttpOptions;
use crate::tls::{TlsServer, Transport};

/// A request's head must be there this long after its connection became idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The type of a TLS record that holds a handshake; no method of HTTP begins so.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long to leave the listener alone when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counts a connection while it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves `router` until `shutdown` is ready, and then until what is under way is
/// finished or `options.shutdown_timeout` has passed.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    options: &HttpOptions,
    connections: Gauge,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(options.connections_max));
    let mut tasks = JoinSet::new();
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let (stream, is_local) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip().is_loopback()),
            Err(e) => {
                accept_failed(&e).await;
                continue;
            }
        };
        let (watcher, router) = (graceful.watcher(), router.clone());
        let counted = Counted::new(&connections);
        let tls = options.tls.clone();
        tasks.spawn(async move {
            let _held = (permit, counted);
            let Some((transport, router)) = secured(stream, is_local, tls, router).await else {
                return;
            };
            if let Err(e) = watcher.watch(connection(transport, router)).await {
                // Clients leave; only someone who looks for trouble wants to know.
                tracing::debug!(error = %e, "HTTP connection ended");
            }
        });
    }
    drop(listener);
    let finished = tokio::time::timeout(options.shutdown_timeout, graceful.shutdown());
    if finished.await.is_err() {
        tracing::warn!(open = tasks.len(), "HTTP connections were cut at shutdown");
        tasks.shutdown().await;
    }
    Ok(())
}

/// The stream, encrypted if the client begins with TLS, and who answers on it. `None`: the client
/// is gone.
async fn secured(
    stream: TcpStream,
    is_local: bool,
    tls: Option<Arc<TlsServer>>,
    router: Router,
) -> Option<(Transport<TcpStream>, Router)> {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "TCP_NODELAY was not set");
    }
    let Some(tls) = tls else {
        return Some((Transport::Plain(stream), router));
    };
    let handshake = async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        let mut transport = Transport::Plain(stream);
        if first == [TLS_HANDSHAKE] {
            let config = Arc::clone(&tls.loaded().http);
            transport.start_tls(config, Bytes::new()).await?;
        }
        io::Result::Ok(transport)
    };
    match tokio::time::timeout(HEAD_TIMEOUT, handshake).await {
        Ok(Ok(transport)) => {
            let is_refused = !transport.is_encrypted() && !tls.allows_plain(is_local);
            let refusing = || Router::new().fallback(refuse_plain);
            let router = if is_refused { refusing() } else { router };
            Some((transport, router))
        }
        Ok(Err(e)) => {
            tracing::info!(error = %e, "an HTTP client failed at TLS");
            None
        }
        Err(_) => None,
    }
}

async fn refuse_plain() -> Failure {
    Failure::new(
        StatusCode::FORBIDDEN,
        SqlState::INVALID_AUTHORIZATION,
        "requests without TLS are refused",
    )
    .with_hint("Use https.")
}

fn connection(
    transport: Transport<TcpStream>,
    router: Router,
) -> http1::Connection<TokioIo<Transport<TcpStream>>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(transport), TowerToHyperService::new(router))
}

async fn accept_failed(e: &io::Error) {
    let is_client = matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !is_client {
        tracing::error!(error = %e, "no HTTP connection could be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
