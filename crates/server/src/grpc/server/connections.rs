//! Connections: accepted, limited, encrypted, and ended in order.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::grpc::options::GrpcOptions;
use crate::grpc::rarely::Rarely;
use crate::tls::Transport;

/// Connections at one time. Each node has three; the operating system's queue holds others.
const CONNECTIONS_MAX: usize = 512;
/// Calls at one time on a connection; further ones wait at the caller.
const CALLS_MAX: u32 = 4096;
/// Calls that were cancelled before they were looked at: a node that was paused finds many.
const CANCELLED_CALLS_MAX: usize = 4096;
/// Bytes that the other side may send ahead on one stream, and on the whole connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Large frames, for large batches; a short message waits for one of them at most, and only for
/// those of its own connection.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// How many times longer than the caller a called node waits for the answer to its pings: the
/// caller knows what is on the connection and decides.
const PATIENCE: u32 = 8;
/// How long to leave the listener alone when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often in a row accepting may fail.
const ACCEPT_FAILURES_MAX: u32 = 600;

/// Serves `routes` until `shutdown` is ready, and then until what is under way is finished
/// or the grace is over.
pub(super) async fn run(
    listener: TcpListener,
    routes: Routes,
    options: &GrpcOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Arc::new(Rarely::default());
    let mut tasks = JoinSet::new();
    let mut failures = 0;
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
                failures += 1;
                accept_failed(e, failures).await?;
                continue;
            }
        };
        failures = 0;
        let (watcher, routes, options) = (graceful.watcher(), routes.clone(), options.clone());
        let strangers = Arc::clone(&strangers);
        tasks.spawn(async move {
            let _held = permit;
            let Some(stream) = secured(stream, &options, &strangers).await else {
                return;
            };
            if let Err(e) = watcher.watch(connection(stream, routes, &options)).await {
                tracing::debug!(error = %e, "a node's connection ended");
            }
        });
    }
    drop(listener);
    let finished = tokio::time::timeout(options.shutdown_grace, graceful.shutdown());
    if finished.await.is_err() {
        tracing::debug!(
            open = tasks.len(),
            "nodes' connections were cut at shutdown"
        );
        tasks.shutdown().await;
    }
    Ok(())
}

/// The stream, encrypted if nodes use TLS. `None`: the other side is gone, says nothing, or is not one
/// of ours.
async fn secured(
    stream: TcpStream,
    options: &GrpcOptions,
    strangers: &Rarely,
) -> Option<Transport<TcpStream>> {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "TCP_NODELAY was not set");
    }
    let from = stream.peer_addr().ok()?.ip();
    let Some(tls) = &options.tls else {
        // Who calls begins at once; HTTP/2 itself would wait for ever, and hold one of few places.
        let mut first = [0];
        let begun = tokio::time::timeout(options.connect_timeout, stream.peek(&mut first)).await;
        return matches!(begun, Ok(Ok(1))).then_some(Transport::Plain(stream));
    };
    let mut transport = Transport::Plain(stream);
    let config = Arc::clone(&tls.loaded().server);
    let handshake = transport.start_tls(config, Bytes::new());
    match tokio::time::timeout(options.connect_timeout, handshake).await {
        Ok(Ok(())) => Some(transport),
        Ok(Err(e)) => {
            if strangers.is_due(&from.to_string()) {
                tracing::warn!(error = %e, %from, "a caller failed at TLS between nodes");
            }
            None
        }
        Err(_) => None,
    }
}

type Connection =
    http2::Connection<TokioIo<Transport<TcpStream>>, TowerToHyperService<Routes>, TokioExecutor>;

fn connection(stream: Transport<TcpStream>, routes: Routes, options: &GrpcOptions) -> Connection {
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(CALLS_MAX)
        .max_pending_accept_reset_streams(CANCELLED_CALLS_MAX)
        .keep_alive_interval(options.keepalive.interval)
        .keep_alive_timeout(options.keepalive.timeout * PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
}

async fn accept_failed(e: io::Error, failures: u32) -> io::Result<()> {
    let is_caller = matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if is_caller {
        return Ok(());
    }
    if failures >= ACCEPT_FAILURES_MAX {
        return Err(e);
    }
    tracing::error!(error = %e, "no connection of a node could be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
    Ok(())
}
