//! `chronos start` and `chronos node`: a node with its servers, until a signal.
//!
//! The first SIGINT or SIGTERM lets another node lead if this one does, stops accepting, lets what
//! is in flight finish, flushes, and exits 0; a second one stops at once.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;

use chronos_env::Env;
use chronos_model::FloatCodec;
use chronos_node::cluster::ClientAddresses;
use chronos_node::{durability_warning, Durability, Node, NodeOptions, Profile, Spill};
use chronos_server::grpc::{self, GrpcPeers};
use chronos_server::http::{self, HttpOptions};
use chronos_server::pgwire::{self, PgOptions};
use chronos_server::tls::TlsServer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio_util::sync::CancellationToken;

use super::allocator;
use super::args::{self, HostPort, Listeners, NodeArgs, StartArgs};
use super::cluster::{hand_over, Side};
use super::error::{tell, CliError};
use super::files;
use super::security;

/// Stack of a thread that plans queries: deep expressions recurse.
const STACK_BYTES: usize = 8 << 20;
/// A message of a client takes at most this part of the memory limit.
const MESSAGE_PART: usize = 8;
/// Exit code of a process that was told twice to stop.
const STOPPED_AT_ONCE: i32 = 130;

/// Runs a node by itself until it is told to stop.
pub(super) fn run(args: &StartArgs) -> Result<(), CliError> {
    let listen = args.listeners();
    let (mut options, runtime) = prepared(args, &listen)?;
    options.cluster.member.address = args.address.to_string();
    let node = Node::open(Env::real(), &options).map_err(|e| node_error(&e))?;
    let served = alone(&node).and_then(|()| {
        runtime.block_on(async {
            security::prepare_users(args, &listen, &node).await?;
            serve(args, &listen, &node, None).await
        })
    });
    finish(runtime, &node, served)
}

/// Runs a node of a cluster until it is told to stop.
pub(super) fn run_node(args: &NodeArgs) -> Result<(), CliError> {
    let listen = args.listeners();
    let (mut options, runtime) = prepared(&args.start, &listen)?;
    let profile = options.profile.unwrap_or_else(Profile::of_this_machine);
    let side = runtime.block_on(Side::prepare(args, &listen, profile))?;
    options.cluster = side.options.clone();
    let node = Node::open_with_peers(Env::real(), &options, Some(side.peers()));
    let node = node.map_err(|e| node_error(&e))?;
    let served = runtime.block_on(serve(&args.start, &listen, &node, Some(side)));
    finish(runtime, &node, served)
}

/// What comes before a node is opened.
fn prepared(args: &StartArgs, listen: &Listeners) -> Result<(NodeOptions, Runtime), CliError> {
    init_logging(args)?;
    let options = node_options(args, listen)?;
    let profile = options.profile.unwrap_or_else(Profile::of_this_machine);
    let memory = options.memory_bytes_max;
    allocator::fit(memory.unwrap_or_else(|| profile.memory_bytes()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(profile.worker_threads())
        .thread_stack_size(STACK_BYTES)
        .thread_name("chronos")
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start the runtime: {e}")))?;
    Ok((options, runtime))
}

fn finish(runtime: Runtime, node: &Node, served: Result<(), CliError>) -> Result<(), CliError> {
    let closed = node.close().map_err(|e| node_error(&e));
    runtime.shutdown_background();
    served.and(closed)
}

/// Refuses to open a node by itself whose cluster has other members: without them it can do
/// nothing, and does not serve them.
pub(super) fn alone(node: &Node) -> Result<(), CliError> {
    let status = node.cluster().status();
    let others = status.members.iter().filter(|m| m.number != status.number);
    let others: Vec<&str> = others.map(|m| m.id.as_str()).collect();
    let reason = match (status.members.is_empty(), others.is_empty()) {
        (false, true) => return Ok(()),
        (true, _) => "that waits to be added to a cluster".to_owned(),
        (false, false) => format!("of a cluster with other members ({})", others.join(", ")),
    };
    let (dir, id) = (node.data_dir().display(), &status.node_id);
    Err(CliError::Failed(format!(
        "the data directory {dir} belongs to the node \"{id}\" {reason}\n\
         Start it as such: chronos node --id {id} --data-dir {dir} --address HOST:PORT"
    )))
}

fn node_options(args: &StartArgs, listen: &Listeners) -> Result<NodeOptions, CliError> {
    let mut options = NodeOptions::new(args.data_dir.clone());
    let profile = match args.profile {
        args::Profile::Auto => Profile::of_this_machine(),
        args::Profile::Potato => Profile::Potato,
        args::Profile::Standard => Profile::Standard,
        args::Profile::Server => Profile::Server,
    };
    options.profile = Some(profile);
    options.durability = match &args.durability {
        None => None,
        Some(given) => Some(
            given
                .to_string()
                .parse::<Durability>()
                .map_err(|e| CliError::Usage(e.to_string()))?,
        ),
    };
    options.memory_bytes_max = args.memory_limit.map(|limit| limit.0);
    options.compaction_bytes_per_second = args.compaction_io_limit.map(|limit| limit.0);
    options.transactions = args.keep_transactions;
    options.idempotency_keys = args.keep_idempotency_keys;
    options.spill = Spill::BesideData;
    options.auth = security::auth_options(args, listen)?;
    if args.chimp {
        options.float_codec = FloatCodec::Chimp;
    }
    Ok(options)
}

/// An error of the node as the command's ending.
pub(super) fn node_error(e: &chronos_node::Error) -> CliError {
    let hint = e
        .hint
        .as_ref()
        .map(|h| format!("\n{h}"))
        .unwrap_or_default();
    CliError::Failed(format!("{e}{hint}"))
}

async fn serve(
    args: &StartArgs,
    listen: &Listeners,
    node: &Node,
    side: Option<Side>,
) -> Result<(), CliError> {
    let tls = security::tls_server(&args.security)?;
    let pg = bind("PostgreSQL", "--pg-address", &listen.pg).await?;
    let web = bind("HTTP", "--http-address", &listen.http).await?;
    let (pg_address, web_address) = (address(&pg)?, address(&web)?);
    node.announce(ClientAddresses {
        http: Some(seen_from_outside(web_address, &args.address)),
        pg: Some(seen_from_outside(pg_address, &args.address)),
    });
    // Before anybody is told that it runs, and may tell it to stop.
    let stop = CancellationToken::new();
    watch_signals(stop.clone())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    greet(
        node,
        pg_address,
        &format!("{scheme}://{web_address}"),
        side.as_ref(),
    );
    let draining = CancellationToken::new();
    let nodes_stop = CancellationToken::new();
    let links = side.as_ref().map(Side::links);
    let has_others = links.is_some();
    let nodes = async {
        match side {
            Some(side) => side.serve(node, (args, listen), nodes_stop.clone()).await,
            None => {
                nodes_stop.cancelled().await;
                Ok(())
            }
        }
    };
    let stopping = async {
        stop.cancelled().await;
        if has_others {
            hand_over(node).await;
        }
        draining.cancel();
    };
    let clients = async {
        let clients = serve_clients(args, node, (pg, web), (tls, links), &draining);
        let (ended, ()) = tokio::join!(clients, stopping);
        nodes_stop.cancel();
        ended
    };
    // Whatever fails first ends everything.
    let (clients, nodes) = tokio::join!(clients, async {
        let ended = nodes.await;
        stop.cancel();
        ended
    });
    clients.and(nodes)
}

/// Serves PostgreSQL and HTTP until `stop`, and until what is under way then is finished.
async fn serve_clients(
    args: &StartArgs,
    node: &Node,
    (pg, web): (TcpListener, TcpListener),
    (tls, links): (Option<Arc<TlsServer>>, Option<Arc<GrpcPeers>>),
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let env = node.env();
    let sessions = node.clone();
    let mut pg_options = PgOptions::new(env);
    pg_options.tls.clone_from(&tls);
    let memory = node.memory().shares().limit;
    tokio::spawn(allocator::watch_growth(memory));
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    let message_bytes_max = &mut pg_options.message_bytes_max;
    *message_bytes_max = (*message_bytes_max).min(memory / MESSAGE_PART);
    let mut http_options = HttpOptions {
        ingest_max_body_bytes: usize::try_from(args.ingest_max_body_bytes.0).unwrap_or(usize::MAX),
        ingest_max_inflight: args.ingest_max_inflight as usize,
        clock: Arc::clone(&env.clock),
        tls: tls.clone(),
        ..HttpOptions::default()
    };
    if let Some(tls) = tls {
        tokio::spawn(security::watch_certificates(args.security.clone(), tls));
    }
    chronos_server::register_pgwire(&mut http_options.registry, Arc::clone(&pg_options.stats));
    if let Some(links) = links {
        grpc::register(&mut http_options.registry, links);
    }
    let pg_server = pgwire::serve(pg, move || sessions.session(), pg_options, stop.clone());
    let web_stop = stop.clone().cancelled_owned();
    let web_server = http::serve(web, node.clone(), http_options, web_stop);
    let (pg_ended, web_ended) = tokio::join!(pg_server, web_server);
    let broken =
        |what: &str, e: std::io::Error| CliError::Failed(format!("the {what} server failed: {e}"));
    pg_ended.map_err(|e| broken("PostgreSQL", e))?;
    web_ended.map_err(|e| broken("HTTP", e))
}

/// Listens at an address, which a flag gives.
pub(super) async fn bind(
    what: &str,
    flag: &str,
    address: &HostPort,
) -> Result<TcpListener, CliError> {
    let listener = TcpListener::bind((address.host.as_str(), address.port)).await;
    listener.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("\nAnother process listens there; {flag} says where else.")
            }
            _ => String::new(),
        };
        CliError::Failed(format!("cannot listen on {address} for {what}: {e}{hint}"))
    })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, CliError> {
    listener.local_addr().map_err(CliError::Output)
}

/// Where clients connect to a listener, of a node whose gRPC address is that.
fn seen_from_outside(listens: SocketAddr, grpc: &HostPort) -> String {
    if !listens.ip().is_unspecified() {
        return listens.to_string();
    }
    let (host, port) = (grpc.host.clone(), listens.port());
    HostPort { host, port }.to_string()
}

/// What a person wants to know first, with a line to paste.
fn greet(node: &Node, pg: SocketAddr, web: &str, side: Option<&Side>) {
    let status = node.status();
    match side {
        None => say(&format!("Chronos {} is ready.", status.version)),
        Some(side) => {
            let (version, id) = (&status.version, &status.node_id);
            say(&format!("Chronos {version} runs as node {id}."));
            say(&format!("  cluster     {}", status.cluster.cluster_id));
            say(&format!("  gRPC        {}", side.options.member.address));
        }
    }
    say(&format!("  data        {}", status.data_dir));
    let resources = &status.resources;
    say(&format!(
        "  profile     {}: {} worker threads, {} MiB of memory, heartbeat {} ms",
        status.profile,
        resources.worker_threads,
        resources.memory_bytes_max >> 20,
        resources.heartbeat_ms
    ));
    say(&format!("  durability  {}", status.durability.mode));
    say(&format!("  PostgreSQL  postgres://chronos@{pg}/chronos"));
    say(&format!("  HTTP        {web}"));
    say("");
    say(&format!(
        "  psql -h {} -p {} -U chronos chronos",
        pg.ip(),
        pg.port()
    ));
    say("  Ctrl-C stops it.");
    for damage in &status.store.damaged {
        tell(&format!("WARNING: {damage}"));
    }
    if let Some(fault) = &status.fault {
        tell(&format!("WARNING: nothing is written: {fault}"));
    }
    if let Some(warning) = durability_warning_of(node) {
        tell(&format!("WARNING: {warning}"));
    }
}

fn durability_warning_of(node: &Node) -> Option<String> {
    let mode = node.status().durability.mode;
    durability_warning(&mode.parse::<Durability>().ok()?)
}

/// A line on stdout; a reader that went away is no reason to stop.
pub(super) fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Watches for signals on a thread of its own: a second one must stop the process also when no
/// worker is free to see it.
fn watch_signals(stop: CancellationToken) -> Result<(), CliError> {
    let failed = |e| CliError::Failed(format!("cannot watch for signals: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    let (interrupt, terminate) = {
        let _entered = runtime.enter();
        let watched = |kind| signal(kind).map_err(failed);
        (
            watched(SignalKind::interrupt())?,
            watched(SignalKind::terminate())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(obey_signals(interrupt, terminate, stop)))
        .map_err(failed)?;
    Ok(())
}

/// The first signal asks to stop, the second does it.
async fn obey_signals(mut interrupt: Signal, mut terminate: Signal, stop: CancellationToken) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tell("chronos: finishing what is under way; a second signal stops at once");
    stop.cancel();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::process::exit(STOPPED_AT_ONCE);
}

fn init_logging(args: &StartArgs) -> Result<(), CliError> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,chronos=info,openraft=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // A second call in one process keeps the first subscriber.
    let _ = match &args.log_file {
        Some(path) => {
            let file = files::append(path)?;
            builder
                .with_ansi(false)
                .with_writer(std::sync::Mutex::new(file))
                .try_init()
        }
        None => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .try_init(),
    };
    Ok(())
}
