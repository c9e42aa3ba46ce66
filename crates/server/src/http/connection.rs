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

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::HttpOptions;

/// A request's head must be there this long after its connection became idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
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
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                accept_failed(&e).await;
                continue;
            }
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        let counted = Counted::new(&connections);
        tasks.spawn(async move {
            let _held = (permit, counted);
            if let Err(e) = connection.await {
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

fn connection(
    stream: TcpStream,
    router: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "TCP_NODELAY was not set");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
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
