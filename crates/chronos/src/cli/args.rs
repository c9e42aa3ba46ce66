//! What the command line accepts: names, defaults, environment names and help.
//!
//! Owns the promised flags; refuses to act on them. A later configuration file
//! enters here: clap already ranks environment below flags, and a file's values
//! become the defaults that both override (file < environment < flag).

mod admin;
mod node;

use std::path::PathBuf;
use std::sync::OnceLock;

use chronos_node::{KeepKeys, NoteTransactions};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::admin::{AddArgs, ClusterUrlArgs, MemberArgs, MembersArgs, TransferArgs};
pub(crate) use self::node::{cluster_id, ClusterArgs, NamedAddress, NodeArgs, PeerSecurityArgs};
use super::error::CliError;
use super::security::ServeSecurityArgs;
pub(crate) use super::security::{HttpLoginArgs, LoginArgs};
use super::snapshot::{SnapshotCreateArgs, SnapshotRestoreArgs, SnapshotVerifyArgs};
use super::values::{parse_delimiter, HttpUrl};
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
  chronos admin check                        read everything that is stored again; list what is damaged

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

const START_HELP: &str = "\
Examples:
  chronos start
  chronos start --data-dir /var/lib/chronos --pg-address 127.0.0.1:5432
  chronos start --profile potato --durability interval=100ms
  chronos start --memory-limit 256MiB
  chronos start --pg-address 0.0.0.0:5433 --admin-password-file /etc/chronos/password \\
      --tls-cert server.crt --tls-key server.key --tls require

Without a user with a password, and listening on loopback only, everybody on this machine may do \
everything. CHRONOS_AUTH_TOKEN_ADMIN and CHRONOS_AUTH_TOKEN_READONLY are tokens for HTTP. SIGHUP reads \
certificates again, as does a change of their files.

Stop it with Ctrl-C or SIGTERM: what is in flight is finished and flushed; a second signal stops \
at once. RUST_LOG sets the log level, for example RUST_LOG=chronos_store=debug,info.";

/// Arguments of `chronos start`.
#[derive(Debug, Clone, Args)]
#[command(after_help = START_HELP)]
pub(crate) struct StartArgs {
    /// Directory of the database; created when missing, locked while in use
    #[arg(long, value_name = "DIR", default_value = "chronos-data")]
    pub(crate) data_dir: PathBuf,

    /// gRPC address: by it other nodes reach this one
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CHRONOS_ADDRESS",
        default_value = "127.0.0.1:8000"
    )]
    pub(crate) address: HostPort,

    /// HTTP address (/sql, /ingest, /health, /metrics) [default: the gRPC port + 1000]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http_address: Option<HostPort>,

    /// PostgreSQL address [default: 127.0.0.1:5433; of a node of a cluster the host of its gRPC
    /// address, and 5433 for port 8000, 5434 for 8001 ..]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) pg_address: Option<HostPort>,

    /// Hardware profile: worker threads and the durability default
    #[arg(long, value_enum, default_value_t = Profile::Auto)]
    pub(crate) profile: Profile,

    /// When a write is acknowledged: after its fsync (strict), before it but synced every
    /// interval (interval=100ms), or left to the operating system (none). Anything but strict
    /// can lose acknowledged writes in a power cut [default: set by the profile]
    #[arg(long, value_name = "strict|interval=DURATION|none")]
    pub(crate) durability: Option<Durability>,

    /// Memory for memtables, caches and statements together, such as 512MiB [default: set by the profile]
    #[arg(long, value_name = "SIZE", value_parser = at_least_8_mib)]
    pub(crate) memory_limit: Option<ByteSize>,

    /// Bytes per second that compactions may write, such as 20MiB; they read about as fast [default: no limit]
    #[arg(
        long,
        value_name = "SIZE",
        env = "CHRONOS_COMPACTION_IO_LIMIT",
        value_parser = at_least_64_kib
    )]
    pub(crate) compaction_io_limit: Option<ByteSize>,

    /// How long chronos.transactions tells who changed which tables, such as 90d; off: nothing new
    /// is noted [default: as before; in a new database 30d]
    #[arg(
        long,
        value_name = "DURATION|forever|off",
        env = "CHRONOS_KEEP_TRANSACTIONS"
    )]
    pub(crate) keep_transactions: Option<NoteTransactions>,

    /// How long a request with an idempotency key is known again, such as 24h or 7d
    /// [default: as before; in a new database 24h]
    #[arg(long, value_name = "DURATION", env = "CHRONOS_KEEP_IDEMPOTENCY_KEYS")]
    pub(crate) keep_idempotency_keys: Option<KeepKeys>,

    /// Encode FLOAT columns with Chimp128 in tables that do not say otherwise (float_codec)
    #[arg(long, env = "CHRONOS_CHIMP_ENABLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) chimp: bool,

    /// Largest body POST /ingest accepts; a larger one is answered 413
    #[arg(
        long,
        value_name = "SIZE",
        env = "CHRONOS_INGEST_MAX_BODY_BYTES",
        default_value = "8MiB",
        value_parser = at_least_1_kib
    )]
    pub(crate) ingest_max_body_bytes: ByteSize,

    /// Most /ingest requests worked on at once; the next one is answered 429
    #[arg(
        long,
        value_name = "N",
        env = "CHRONOS_INGEST_MAX_INFLIGHT",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) ingest_max_inflight: u32,

    /// Write the log to this file instead of stderr
    #[arg(long, value_name = "FILE", env = "CHRONOS_LOG_FILE")]
    pub(crate) log_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) security: ServeSecurityArgs,
}

/// Where a node listens.
#[derive(Debug, Clone)]
pub(crate) struct Listeners {
    /// For other nodes; `None`: there are none.
    pub(crate) grpc: Option<HostPort>,
    /// HTTP.
    pub(crate) http: HostPort,
    /// PostgreSQL.
    pub(crate) pg: HostPort,
}

impl StartArgs {
    /// Where a node listens that is alone.
    pub(crate) fn listeners(&self) -> Listeners {
        Listeners {
            grpc: None,
            http: self.http_address_beside(&self.address),
            pg: self.pg_address.clone().unwrap_or_else(|| HostPort {
                host: "127.0.0.1".to_owned(),
                port: DEFAULT_PG_PORT,
            }),
        }
    }

    /// The HTTP address, derived from a gRPC address unless given.
    fn http_address_beside(&self, grpc: &HostPort) -> HostPort {
        let given = self.http_address.clone();
        given.unwrap_or_else(|| grpc.http_beside())
    }
}

impl HostPort {
    /// The HTTP address of the node with this gRPC address, as long as it was given no other.
    pub(crate) fn http_beside(&self) -> HostPort {
        HostPort {
            host: self.host.clone(),
            port: match self.port {
                0 => 0,
                port => port.saturating_add(HTTP_PORT_OFFSET),
            },
        }
    }
}

const SINGLE_NODE_HELP: &str = "\
Examples:
  chronos single-node --data-dir ./db
  chronos single-node --data-dir ./db -c 'select * from readings limit 5' --format json
  chronos single-node --data-dir ./db -f schema.sql";

/// Arguments of `chronos single-node`.
#[derive(Debug, Clone, Args)]
#[command(after_help = SINGLE_NODE_HELP)]
pub(crate) struct SingleNodeArgs {
    /// Directory of the database; created when missing, locked while in use
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,

    #[command(flatten)]
    pub(crate) script: ScriptArgs,
}

/// What the prompt and its non-interactive forms share.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ScriptArgs {
    /// Run these statements or this \command, then exit; may be repeated
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub(crate) commands: Vec<String>,

    /// Run this file (- is stdin) after every -c, then exit; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) files: Vec<String>,

    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

const CLIENT_HELP: &str = "\
Examples:
  chronos client                                       the node started by `chronos start`
  chronos client --leader gateway-7:8000               the leader of that node's cluster, whoever it is or becomes
  chronos client --url postgres://ada@db.example:5433/chronos
  chronos client -c 'select * from readings limit 10' --format csv > readings.csv
  chronos client -f schema.sql -f data.sql
  echo 'select 1' | chronos client

Scripts stop at the first error. Exit codes: 1 a -c statement failed, 2 no connection, 3 a script \
statement failed. At the prompt: \\? lists commands, \\h shows SQL by example, \\q leaves.";

/// Arguments of `chronos client`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CLIENT_HELP)]
pub(crate) struct ClientArgs {
    /// The leader of the cluster to which the node with this gRPC address belongs. Asked for over
    /// HTTP (port + 1000); when the connection is lost, the other members are asked, too
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "url")]
    pub(crate) leader: Option<HostPort>,

    /// A node, or any PostgreSQL server, by its connection URL [default: postgres://127.0.0.1:5433/chronos]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) login: LoginArgs,

    #[command(flatten)]
    pub(crate) script: ScriptArgs,
}

const IMPORT_HELP: &str = "\
The first line names the columns, in any order and case. A missing table is created with column \
types inferred from the first rows (boolean, bigint, double precision, timestamp, timestamptz, date, \
text); the statement is printed. Rows are sent in batches; a batch with a bad row is split until only \
the bad row is left out, so that every good row is loaded and every bad one reported with its line \
and the reason.

Examples:
  chronos import temps machine_temperature.csv
  chronos import temps machine_temperature.csv --primary-key timestamp
  chronos import temps day1.csv.gz --reject-file bad.csv
  chronos import prices prices.csv --delimiter ';' --null NA
  zcat big.csv.gz | chronos import big -";

/// Arguments of `chronos import`.
#[derive(Debug, Clone, Args)]
#[command(after_help = IMPORT_HELP)]
pub(crate) struct ImportArgs {
    /// Table to load, such as readings, plant.readings or '"Mixed Case"'
    pub(crate) table: String,

    /// CSV file; .gz is decompressed; - is stdin
    pub(crate) file: String,

    /// The node's connection URL [default: postgres://127.0.0.1:5433/chronos]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) login: LoginArgs,

    /// Create the table, and fail when it exists [default: create it when missing]
    #[arg(long, conflicts_with = "no_create")]
    pub(crate) create: bool,

    /// Fail when the table is missing
    #[arg(long)]
    pub(crate) no_create: bool,

    /// Primary key of a table created by this import
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        conflicts_with = "no_create"
    )]
    pub(crate) primary_key: Vec<String>,

    /// Rows per COPY, each of which is one commit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) batch_rows: u32,

    /// Field separator: one ASCII character, or \t
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = parse_delimiter)]
    pub(crate) delimiter: u8,

    /// Unquoted text that means NULL [default: the empty field]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) null: String,

    /// The first line is data; columns are taken in the table's order
    #[arg(long)]
    pub(crate) no_header: bool,

    /// Write rejected records to this file, as they were
    #[arg(long, value_name = "FILE")]
    pub(crate) reject_file: Option<String>,

    /// Give up after this many rejected rows
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) max_rejects: u64,
}

const ADMIN_CHECK_HELP: &str = "\
Reads every record of the log, the manifest, and every page of every segment, checks the checksums and \
decodes what is in them. Prints a line for each finding: file, offset, table, keys, and what is lost.

Examples:
  chronos admin check                                  the closed directory ./chronos-data
  chronos admin check --data-dir /var/lib/chronos
  chronos admin check --address 127.0.0.1:8000         a running node, by its gRPC address
  chronos admin check --http-address gateway-7:9000 --json
  chronos admin check --url https://gateway-7:9000 --tls-ca-cert farm.crt
  chronos admin check --cluster --url http://a:9000    do the members of its cluster hold the same?
  chronos admin check --cluster --url http://a:9000 --url http://b:9000    do these two?

Exit codes: 0 no damage or difference, 1 damage or a difference, 2 the check could not be made.";

/// Arguments of `chronos admin check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = ADMIN_CHECK_HELP)]
pub(crate) struct AdminCheckArgs {
    /// Directory of a database that no process has open
    #[arg(
        long,
        value_name = "DIR",
        default_value = "chronos-data",
        conflicts_with_all = ["address", "http_address"]
    )]
    pub(crate) data_dir: PathBuf,

    /// A running node by its gRPC address; its HTTP port is 1000 above
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<HostPort>,

    /// A running node by its HTTP address
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "address")]
    pub(crate) http_address: Option<HostPort>,

    /// Compare what nodes hold, table by table, instead
    #[arg(long, requires = "urls")]
    pub(crate) cluster: bool,

    /// A running node by the URL of its HTTP address, http or https. With --cluster, each of those
    /// that are compared; if it is one, it is compared with all members of its cluster
    #[arg(
        long = "url",
        value_name = "URL",
        conflicts_with_all = ["data_dir", "address", "http_address"]
    )]
    pub(crate) urls: Vec<HttpUrl>,

    #[command(flatten)]
    pub(crate) login: HttpLoginArgs,

    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl AdminCheckArgs {
    /// The node that is to be checked; `None`: a directory is to be.
    ///
    /// Errors: several nodes are named, which only can be compared.
    pub(crate) fn node(&self) -> Result<Option<HttpUrl>, CliError> {
        if let [_, _, ..] = self.urls.as_slice() {
            let text = "one node is checked at a time; --cluster compares several";
            return Err(CliError::Usage(text.to_owned()));
        }
        let beside = self.address.as_ref().map(HostPort::http_beside);
        let address = self.http_address.clone().or(beside);
        Ok(self.urls.first().cloned().or(address.map(HttpUrl::of)))
    }
}

const DEMO_HELP: &str = "\
Needs a running node: chronos start

A farm with a few dozen sensors: soil probes, a weather mast, tanks, pumps, greenhouses. The demo \
posts some hours of history, then live readings; a pump fails, a probe goes offline and sends its \
backlog late, a reading is corrected. Then it runs queries, current and historical, and prints them \
with their results.

Examples:
  chronos demo
  chronos demo --seconds 60 --devices 100
  chronos demo --seconds 0                   until Ctrl-C";

/// Arguments of `chronos demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DEMO_HELP)]
pub(crate) struct DemoArgs {
    /// How long to post live readings; 0 is until Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) seconds: u64,

    /// How many devices
    #[arg(
        long,
        value_name = "N",
        default_value_t = 36,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(crate) devices: u32,

    /// Hours of history posted before the live part
    #[arg(
        long,
        value_name = "N",
        default_value_t = 6,
        value_parser = clap::value_parser!(u32).range(1..=720)
    )]
    pub(crate) history_hours: u32,

    /// Start a cluster of so many nodes on this machine, kill its leader while devices post, and compare
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(3..=7),
        conflicts_with_all = ["url", "pg_url", "history_hours"]
    )]
    pub(crate) nodes: Option<u8>,

    /// The node's HTTP address, which takes the readings
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) url: String,

    /// The node's connection URL for the queries
    #[arg(
        long,
        value_name = "URL",
        default_value = "postgres://127.0.0.1:5433/chronos"
    )]
    pub(crate) pg_url: String,

    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Hardware profile of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Chosen from the machine's cores and memory
    Auto,
    /// Small boards with slow storage
    Potato,
    /// A small server or a gateway
    Standard,
    /// A server with many cores and fast storage
    Server,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns that fit the terminal
    #[default]
    Table,
    /// RFC 4180 quoting, a header line, NULL as an empty unquoted field
    Csv,
    /// One JSON object per row and line
    Json,
    /// One `column = value` per line, a blank line between rows
    Line,
}

/// Less does not hold one memtable, a page and a query.
fn at_least_8_mib(text: &str) -> Result<ByteSize, String> {
    at_least(text, 8 << 20, "8MiB")
}

/// With less, compactions would never keep up with anything.
fn at_least_64_kib(text: &str) -> Result<ByteSize, String> {
    at_least(text, 64 << 10, "64KiB")
}

fn at_least_1_kib(text: &str) -> Result<ByteSize, String> {
    at_least(text, 1 << 10, "1KiB")
}

fn at_least(text: &str, least: u64, shown: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    match size.0 >= least {
        true => Ok(size),
        false => Err(format!("it must be at least {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
