//! `chronos single-node`: a prompt on a database of this process, without a network.
//!
//! The prompt and the database talk over a pair of connected sockets that have no
//! address, in the protocol that they would talk over the wire: one code, one behaviour.

use chronos_env::Env;
use chronos_node::{Node, NodeOptions, Spill};
use chronos_server::pgwire::{serve_streams, Admission, PgOptions};
use tokio_util::sync::CancellationToken;

use super::args::SingleNodeArgs;
use super::error::CliError;
use super::repl::{self, Backend};
use super::start::{alone, node_error};
use super::wire::{Session, Target};

/// Connections that may wait to be taken up.
const STREAMS_WAITING: usize = 4;

/// Opens the database, runs the prompt or the script, closes the database.
pub(super) async fn run(args: SingleNodeArgs, env: Env) -> Result<(), CliError> {
    let mut options = NodeOptions::new(args.data_dir.clone());
    options.spill = Spill::BesideData;
    let opening = env.clone();
    let node = tokio::task::spawn_blocking(move || Node::open(opening, &options))
        .await
        .map_err(|e| CliError::Failed(e.to_string()))?
        .map_err(|e| node_error(&e))?;
    alone(&node)?;
    let (streams, incoming) = tokio::sync::mpsc::channel(STREAMS_WAITING);
    let stop = CancellationToken::new();
    let sessions = node.clone();
    let server = tokio::spawn(serve_streams(
        incoming,
        move || sessions.session(),
        PgOptions {
            admission: Admission::Everybody,
            ..PgOptions::new(&env)
        },
        stop.clone(),
    ));
    let ended = match Session::connect(&Target::embedded(streams)).await {
        Ok(session) => repl::run(Backend::Wire(Box::new(session)), &args.script, &env).await,
        Err(error) => Err(error),
    };
    stop.cancel();
    // A server that failed has told why; what counts now is closing the database.
    let _ = server.await;
    let closed = tokio::task::spawn_blocking(move || node.close())
        .await
        .map_err(|e| CliError::Failed(e.to_string()))?;
    ended.and(closed.map_err(|e| node_error(&e)))
}
