//! The HTTP face: SQL, readings of sensors, health and metrics.
//!
//! ```text
//!     connection.rs   accepts, counts, encrypts, shuts down
//!         │
//!     auth.rs         who is there
//!         │
//!     Router ── GET /health, GET /ready ── health.rs
//!         │ ─── GET /metrics ───────────── metrics.rs
//!         │ ─── POST /admin/check ───────── check.rs   everything read again ─▶ findings
//!         │ ─── GET /cluster, POST /add-learner .. ── cluster.rs   who belongs to the cluster
//!         │ ─── POST /admin/snapshot ────── snapshot.rs  a checkpoint ─▶ an archive
//!         │ ─── GET /admin/hashes ────────── hashes.rs  what replicas compare
//!         │ ─── GET, POST /sql ─────────── sql/      statement ─▶ rows as JSON, NDJSON, CSV, Arrow
//!         └ ─── POST /ingest ───────────── ingest/   JSON, NDJSON ─▶ table `readings`
//!                                              │
//!                                          chronos_node
//! ```
//!
//! Every error, from whatever depth, is one JSON document (`error.rs`). Requests that a
//! browser sends on behalf of another site are refused: a database on loopback is in
//! reach of every page that its user opens. `docs/http.md` is the manual.

mod answer;
mod auth;
mod body;
mod check;
mod cluster;
mod connection;
mod error;
mod hashes;
mod headers;
mod health;
pub mod ingest;
mod metrics;
mod raft_metrics;
mod snapshot;
mod sql;

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{header, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing;
use axum::Router;
use chronos_env::{Clock, SystemClock};
use chronos_model::SqlState;
use chronos_node::{AlertThresholds, AlertWatch, Node};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::error::Failure;
use self::metrics::Metrics;
use self::raft_metrics::RaftCollector;
use crate::tls::TlsServer;

/// Passwords that are hashed at the same time.
const PASSWORDS_AT_ONCE: usize = 2;
/// How often it is looked whether something is wrong.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Limits of the HTTP face and what it shares with the rest of the process.
#[derive(Debug)]
pub struct HttpOptions {
    /// Largest body of `POST /ingest`, compressed and decompressed
    /// (`CHRONOS_INGEST_MAX_BODY_BYTES`). Beyond it: 413.
    pub ingest_max_body_bytes: usize,
    /// Requests to `POST /ingest` that are handled at once
    /// (`CHRONOS_INGEST_MAX_INFLIGHT`). Beyond it: 429.
    pub ingest_max_inflight: usize,
    /// Largest body of `POST /sql`. Beyond it: 413.
    pub sql_max_body_bytes: usize,
    /// Connections open at once. Beyond it, clients wait in the listener's queue.
    pub connections_max: usize,
    /// How long a body may take to arrive. Beyond it: 408.
    pub body_timeout: Duration,
    /// How long requests may go on after the shutdown began.
    pub shutdown_timeout: Duration,
    /// Metrics of other parts of the process, shown by `GET /metrics` beside ours. Names
    /// are registered in full (`chronos_pgwire_connections`).
    pub registry: Registry,
    /// How connections are encrypted; `None`: not at all.
    pub tls: Option<Arc<TlsServer>>,
    /// For durations.
    pub clock: Arc<dyn Clock>,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            ingest_max_body_bytes: 8 << 20,
            ingest_max_inflight: 64,
            sql_max_body_bytes: 16 << 20,
            connections_max: 1024,
            body_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(10),
            registry: Registry::default(),
            tls: None,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// What every handler sees.
#[derive(Clone)]
pub(crate) struct App(Arc<AppState>);

pub(crate) struct AppState {
    node: Node,
    options: HttpOptions,
    metrics: Arc<Metrics>,
    alerts: Arc<AlertWatch>,
    ingest_permits: Arc<Semaphore>,
    check_permit: Arc<Semaphore>,
    snapshot_permit: Arc<Semaphore>,
    hashes_permit: Arc<Semaphore>,
    password_permits: Semaphore,
    draining: AtomicBool,
}

impl std::ops::Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

impl AppState {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl App {
    fn new(node: Node, mut options: HttpOptions) -> App {
        let mut registry = std::mem::take(&mut options.registry);
        let alerts = AlertWatch::new(node.clone(), AlertThresholds::default());
        let alerts = Arc::new(alerts);
        registry.register_collector(Box::new(RaftCollector {
            node: node.clone(),
            alerts: Arc::clone(&alerts),
        }));
        let metrics = Metrics::new(registry, options.clock.clone(), node.clone());
        App(Arc::new(AppState {
            node,
            metrics: Arc::new(metrics),
            alerts,
            ingest_permits: Arc::new(Semaphore::new(options.ingest_max_inflight)),
            check_permit: Arc::new(Semaphore::new(1)),
            snapshot_permit: Arc::new(Semaphore::new(1)),
            hashes_permit: Arc::new(Semaphore::new(1)),
            password_permits: Semaphore::new(PASSWORDS_AT_ONCE),
            draining: AtomicBool::new(false),
            options,
        }))
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/health", routing::get(health::health))
            .route("/ready", routing::get(health::ready))
            .route("/metrics", routing::get(metrics::metrics))
            .route("/admin/check", routing::post(check::post))
            .route("/cluster", routing::get(cluster::get))
            .merge(cluster::changes())
            .route("/admin/snapshot", routing::post(snapshot::post))
            .route("/admin/position", routing::get(hashes::position))
            .route("/admin/hashes", routing::get(hashes::hashes))
            .route("/sql", routing::get(sql::get).post(sql::post))
            .route("/ingest", routing::post(ingest::post))
            .fallback(error::not_found)
            .method_not_allowed_fallback(error::method_not_allowed)
            .layer(middleware::from_fn_with_state(self.clone(), auth::identify))
            .layer(middleware::from_fn(refuse_other_sites))
            .with_state(self.clone())
    }
}

/// Serves HTTP on `listener` until `shutdown` is ready. Then `/ready` says no, no
/// connection is accepted, and requests under way are finished.
///
/// Errors: none today; a listener that fails is tried again.
pub async fn serve(
    listener: TcpListener,
    node: Node,
    options: HttpOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let app = App::new(node, options);
    let draining = async {
        shutdown.await;
        app.draining.store(true, Ordering::Relaxed);
    };
    let connections = app.metrics.connections.clone();
    let serving = connection::run(listener, app.router(), &app.options, connections, draining);
    tokio::select! {
        ended = serving => ended,
        never = watch(&app.alerts) => match never {},
        never = ask_members(&app.node) => match never {},
    }
}

/// Looks at the node again and again.
async fn watch(alerts: &Arc<AlertWatch>) -> std::convert::Infallible {
    loop {
        let looking = Arc::clone(alerts);
        // It asks the disk how much is free.
        let looked = tokio::task::spawn_blocking(move || looking.look()).await;
        if let Err(e) = looked {
            tracing::error!(error = %e, "the look for alerts failed");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keeps what is told of where clients reach the other members.
async fn ask_members(node: &Node) -> std::convert::Infallible {
    loop {
        node.cluster().ask_addresses().await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lets no page of another site speak through its visitor's browser: such requests
/// carry the site's name in `Origin`, and it is not the name we were called by.
async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok());
    let is_own = match headers.get(header::ORIGIN).map(|v| v.to_str()) {
        None => true,
        Some(Ok(origin)) => {
            let origin = origin.parse::<Uri>().ok();
            let authority = origin.as_ref().and_then(Uri::authority);
            authority.is_some_and(|a| Some(a.as_str()) == host)
        }
        Some(Err(_)) => false,
    };
    if is_own || request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    Failure::new(
        StatusCode::FORBIDDEN,
        SqlState::INVALID_AUTHORIZATION,
        "requests on behalf of another site are refused",
    )
    .into_response()
}

/// An empty node on a simulated disk.
#[cfg(test)]
fn test_node() -> Node {
    let options = chronos_node::NodeOptions::new("/data");
    Node::open(chronos_env::Env::simulated(1), &options).expect("a fresh node opens")
}

#[cfg(test)]
mod tests;
