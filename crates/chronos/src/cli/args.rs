//! What the command line accepts: names, defaults, environment names and help.
//!
//! Owns the promised flags; refuses to act on them. A later configuration file
//! enters here: clap already ranks environment below flags, and a file's values
//! become the defaults that both override (file < environment < flag).

mod admin;
mod client;
mod node;
mod start;

use std::sync::OnceLock;

use clap::{Parser, Subcommand};

pub(crate) use self::admin::{
    AddArgs, AdminCheckArgs, ClusterUrlArgs, MemberArgs, MembersArgs, TransferArgs,
};
pub(crate) use self::client::{
    ClientArgs, DemoArgs, Format, ImportArgs, ScriptArgs, SingleNodeArgs,
};
pub(crate) use self::node::{cluster_id, ClusterArgs, NamedAddress, NodeArgs, PeerSecurityArgs};
pub(crate) use self::start::{Listeners, Profile, StartArgs};
use super::snapshot::{SnapshotCreateArgs, SnapshotRestoreArgs, SnapshotVerifyArgs};
pub(crate) use super::values::{ByteSize, Durability, HostPort};

/// Where a node's PostgreSQL port is unless told otherwise.
pub(crate) const DEFAULT_PG_PORT: u16 = 5433;
/// The HTTP port is this much above the gRPC port.
pub(crate) const HTTP_PORT_OFFSET: u16 = 1000;

const ROOT_HELP: &str = "\
Examples:
  chronos start                              one node, everything on loopback
  chronos node --id n1 --peers n2=b:8000,..  a node of a cluster
  chronos demo                               simulated sensors post to it; queries show the history
  chronos client                             SQL prompt on that node
  chronos client -c 'select count(*) from readings'
  chronos import temps temps.csv             create a table from a CSV file and fill it
  chronos single-node --data-dir ./db        SQL prompt on an embedded database, no network
  chronos admin members                      who belongs to the cluster, and how far each is
  chronos admin check                        read everything that is stored again; list what is damaged
  chronos snapshot create -o monday.chronos  back up a node while it works

Any PostgreSQL client works as well: psql postgres://127.0.0.1:5433/chronos";

/// A bitemporal SQL database for the places where data is born.
#[derive(Debug, Parser)]
#[command(
    name = "chronos",
    version = version_text(),
    about = "A bitemporal SQL database for the places where data is born",
    long_about = "Chronos is a SQL database that never overwrites a fact: every change of a row is an \
immutable version, with when it was true and when it was recorded. It speaks the PostgreSQL protocol.",
    after_help = ROOT_HELP,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one node: SQL, HTTP and ingest on loopback
    Start(StartArgs),
    /// Run a node of a cluster
    Node(Box<NodeArgs>),
    /// SQL prompt on an embedded database; opens no port
    SingleNode(SingleNodeArgs),
    /// SQL prompt, or a script, on a running node
    Client(ClientArgs),
    /// Load a CSV file into a table
    Import(ImportArgs),
    /// Simulated sensors post to a running node, then queries show what it can answer
    Demo(DemoArgs),
    /// Look after a node
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Back up, restore, and look after copies of a data directory
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

/// The subcommands of `chronos admin`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Read everything that is stored again, and list what is damaged
    Check(AdminCheckArgs),
    /// List the members of a cluster: who leads, who votes, how far each is
    Members(MembersArgs),
    /// Let a node receive everything, and vote once it has caught up
    Add(AddArgs),
    /// Let a learner vote
    Promote(MemberArgs),
    /// Let a member leave the cluster
    Remove(MemberArgs),
    /// Let another voter lead
    TransferLeader(TransferArgs),
}

/// The subcommands of `chronos snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Write everything that is committed to a file, while the node works on
    Create(SnapshotCreateArgs),
    /// Make a data directory of a snapshot
    Restore(SnapshotRestoreArgs),
    /// Read everything in a snapshot, or in a data directory, and list what is damaged
    Verify(SnapshotVerifyArgs),
}

/// The version, with the commit when the build knew it (`CHRONOS_COMMIT`).
pub(crate) fn version_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| match option_env!("CHRONOS_COMMIT") {
        Some(commit) if !commit.is_empty() => {
            format!("{} (commit {commit})", env!("CARGO_PKG_VERSION"))
        }
        _ => env!("CARGO_PKG_VERSION").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_node::NoteTransactions;
    use clap::CommandFactory;
    use std::time::Duration;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn promised_names_parse() {
        let line = "chronos start --data-dir d --address 0.0.0.0:8000 --pg-address [::1]:5433 \
                    --profile potato --durability interval=100ms --memory-limit 256MiB \
                    --ingest-max-body-bytes 1MiB --ingest-max-inflight 4 --log-file l --compaction-io-limit 20MiB \
                    --keep-transactions 90d --keep-idempotency-keys 2d";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Start(start) = cli.command else {
            panic!("expected start")
        };
        let listeners = start.listeners();
        assert_eq!(listeners.http.to_string(), "0.0.0.0:9000");
        assert_eq!(listeners.pg.host, "::1");
        assert!(listeners.grpc.is_none());
        assert_eq!(
            start.durability,
            Some(Durability::Interval(Duration::from_millis(100)))
        );
        assert_eq!(start.memory_limit, Some(ByteSize(256 << 20)));
        assert_eq!(start.compaction_io_limit, Some(ByteSize(20 << 20)));
        let days = 90 * 86_400_000_000;
        assert_eq!(start.keep_transactions, Some(NoteTransactions::For(days)));
        assert_eq!(start.keep_idempotency_keys, "48h".parse().ok());
    }

    #[test]
    fn sizes_that_no_node_can_work_with_are_refused() {
        for flag in [
            "--memory-limit 7MiB",
            "--memory-limit 1",
            "--ingest-max-body-bytes 0",
            "--compaction-io-limit 1KiB",
        ] {
            let line = format!("chronos start {flag}");
            let refused = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
            assert!(refused.to_string().contains("at least"), "{refused}");
        }
    }

    #[test]
    fn leader_and_url_exclude_each_other() {
        let line = "chronos client --leader h:8000 --url postgres://h";
        assert!(Cli::try_parse_from(line.split_whitespace()).is_err());
    }
}
