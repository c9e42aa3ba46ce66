//! `chronos start`: one node with its servers, until a signal.
//!
//! The first SIGINT or SIGTERM stops accepting, lets what is in flight finish,
//! flushes, and exits 0; a second one stops at once.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;

use chronos_env::Env;
use chronos_model::FloatCodec;
use chronos_node::{durability_warning, Durability, Node, NodeOptions, Profile, Spill};
use chronos_server::http::{self, HttpOptions};
use chronos_server::pgwire::{self, PgOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{signal, SignalKind};
use tokio_util::sync::CancellationToken;

use super::allocator;
use super::args::{self, HostPort, StartArgs};
use super::error::{tell, CliError};
use super::files;
use super::security;

/// Stack of a thread that plans queries: deep expressions recurse.
const STACK_BYTES: usize = 8 << 20;
/// A message of a client takes at most this part of the memory limit.
const MESSAGE_PART: usize = 8;
/// Exit code of a process that was told twice to stop.
const STOPPED_AT_ONCE: i32 = 130;

/// Runs a node until it is told to stop.
pub(super) fn run(args: &StartArgs) -> Result<(), CliError> {
    init_logging(args)?;
    let options = node_options(args)?;
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
    let node = Node::open(Env::real(), &options).map_err(|e| node_error(&e))?;
    let served = runtime.block_on(serve(args, &node));
    runtime.shutdown_background();
    let closed = node.close().map_err(|e| node_error(&e));
    served.and(closed)
}

fn node_options(args: &StartArgs) -> Result<NodeOptions, CliError> {
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
    options.auth = security::auth_options(args)?;
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

async fn serve(args: &StartArgs, node: &Node) -> Result<(), CliError> {
    let tls = security::tls_server(&args.security)?;
    security::prepare_users(args, node).await?;
    let pg = bind("PostgreSQL", &args.pg_address).await?;
    let web = bind("HTTP", &args.http_address()).await?;
    let (pg_address, web_address) = (address(&pg)?, address(&web)?);
    node.announce_pg_address(pg_address.to_string());
    greet(node, pg_address, web_address);

    let stop = CancellationToken::new();
    watch_signals(stop.clone())?;
    let env = node.env();
    let sessions = node.clone();
    let mut pg_options = PgOptions::new(env);
    pg_options.tls.clone_from(&tls);
    let memory = usize::try_from(node.memory().shares().limit).unwrap_or(usize::MAX);
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
    let pg_stop = stop.clone();
    let pg_server = pgwire::serve(pg, move || sessions.session(), pg_options, pg_stop);
    let web_stop = stop.clone().cancelled_owned();
    let web_server = http::serve(web, node.clone(), http_options, web_stop);
    let (pg_ended, web_ended) = tokio::join!(pg_server, web_server);
    let broken =
        |what: &str, e: std::io::Error| CliError::Failed(format!("the {what} server failed: {e}"));
    pg_ended.map_err(|e| broken("PostgreSQL", e))?;
    web_ended.map_err(|e| broken("HTTP", e))
}

async fn bind(what: &str, address: &HostPort) -> Result<TcpListener, CliError> {
    TcpListener::bind((address.host.as_str(), address.port))
        .await
        .map_err(|e| CliError::Failed(format!("cannot listen on {address} for {what}: {e}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, CliError> {
    listener.local_addr().map_err(CliError::Output)
}

/// What a person wants to know first, with a line to paste.
fn greet(node: &Node, pg: SocketAddr, web: SocketAddr) {
    let status = node.status();
    say(&format!("Chronos {} is ready.", status.version));
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
    say(&format!("  HTTP        http://{web}"));
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
fn say(line: &str) {
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
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(obey_signals(stop)))
        .map_err(failed)?;
    Ok(())
}

/// The first signal asks to stop, the second does it.
async fn obey_signals(stop: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        tell("chronos: cannot watch for signals");
        return;
    };
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
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,chronos=info"));
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
