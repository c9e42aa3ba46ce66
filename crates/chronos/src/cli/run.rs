//! From arguments to the command that does the work, and from its ending to an exit code.

use std::process::ExitCode;

use chronos_env::Env;
use clap::Parser;

use super::args::{AdminCommand, Cli, ClientArgs, Command, HostPort, SnapshotCommand};
use super::cluster::{self, Following};
use super::error::{tell, CliError};
use super::repl::Backend;
use super::wire::{Session, Target, TlsWish};
use super::{check, demo, import, repl, single_node, snapshot, start};

/// The command line's whole life.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Start(args) => start::run(&args),
        Command::Node(args) => start::run_node(&args),
        Command::SingleNode(args) => {
            block_on(|env| async move { single_node::run(args, env).await })
        }
        Command::Client(args) => block_on(|env| async move { client(args, &env).await }),
        Command::Import(args) => block_on(|env| async move { import::run(args, &env).await }),
        Command::Admin(command) => block_on(|env| async move { admin(command, env).await }),
        Command::Snapshot(SnapshotCommand::Verify(args)) => {
            block_on(|env| async move { snapshot::verify(args, env).await })
        }
        Command::Snapshot(SnapshotCommand::Create(args)) => {
            block_on(|env| async move { snapshot::create(args, env).await })
        }
        Command::Snapshot(SnapshotCommand::Restore(args)) => {
            block_on(|env| async move { snapshot::restore(args, env).await })
        }
        Command::Demo(args) => block_on(|env| async move { demo::run(args, &env).await }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                tell(&format!("chronos: {error}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command that waits on the network. The prompt blocks the calling thread while
/// it reads keys; the runtime's own threads go on meanwhile.
fn block_on<F>(command: impl FnOnce(Env) -> F) -> Result<(), CliError>
where
    F: std::future::Future<Output = Result<(), CliError>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(command(Env::real()));
    // A thread that waits for stdin must not keep the program alive.
    runtime.shutdown_background();
    result
}

/// What is done over HTTP.
async fn admin(command: AdminCommand, env: Env) -> Result<(), CliError> {
    match command {
        AdminCommand::Check(args) => check::admin_check(args, env).await,
        AdminCommand::Members(args) => cluster::list(args).await,
        AdminCommand::Add(args) => cluster::add(args).await,
        AdminCommand::Promote(args) => cluster::promote(args).await,
        AdminCommand::Remove(args) => cluster::remove(args).await,
        AdminCommand::TransferLeader(args) => cluster::transfer(args).await,
    }
}

async fn client(args: ClientArgs, env: &Env) -> Result<(), CliError> {
    let target = match &args.leader {
        Some(leader) => leader_target(leader).await?.with_login(&args.node.login)?,
        None => args.node.target()?,
    };
    let session = Session::connect(&target).await?;
    repl::run(Backend::Wire(Box::new(session)), &args.script, env).await
}

/// The SQL endpoint of the leader of the cluster to which the node with the gRPC address `leader`
/// belongs: the nodes' `/health` says who leads and names its SQL port in `pg_address`.
async fn leader_target(leader: &HostPort) -> Result<Target, CliError> {
    let mut following = Following::of(leader.clone(), TlsWish::of_environment()?);
    let mut target = Target::at_first_of(following.find_first().await?.pg)?;
    target.following = Some(following);
    Ok(target)
}
