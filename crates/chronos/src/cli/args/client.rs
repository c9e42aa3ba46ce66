//! What the command line accepts of whoever talks SQL to a node: prompt, script, import, demo.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::HostPort;
use crate::cli::error::CliError;
use crate::cli::security::{HttpLoginArgs, LoginArgs};
use crate::cli::values::{parse_delimiter, HttpUrl};
use crate::cli::wire::Target;

/// Which node is meant, by its PostgreSQL port, and by whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct SqlUrlArgs {
    /// A node, or any PostgreSQL server, by its connection URL [default: postgres://127.0.0.1:5433/chronos]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

impl SqlUrlArgs {
    /// Where to connect.
    pub(crate) fn target(&self) -> Result<Target, CliError> {
        Target::from_option(self.url.as_deref())?.with_login(&self.login)
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

    #[command(flatten)]
    pub(crate) node: SqlUrlArgs,

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

    #[command(flatten)]
    pub(crate) node: SqlUrlArgs,

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

const DEMO_HELP: &str = "\
Needs a running node (chronos start), unless it is to start its own with --nodes.

A farm with a few dozen sensors: soil probes, a weather mast, tanks, pumps, greenhouses. The demo \
posts some hours of history, then live readings; a pump fails, a probe goes offline and sends its \
backlog late, a reading is corrected. Then it runs queries, current and historical, and prints them \
with their results.

Examples:
  chronos demo
  chronos demo --seconds 60 --devices 100
  chronos demo --seconds 0                   until Ctrl-C
  chronos demo --nodes 3                     a cluster of its own, whose leader is killed
  chronos demo --url https://gateway-7:9000 --tls-ca-cert farm.crt \\
      --pg-url 'postgres://ada@gateway-7:5433/chronos?sslmode=verify-full&sslrootcert=farm.crt'";

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

    /// The node's HTTP address, http or https, which takes the readings
    #[arg(long, value_name = "URL", default_value_t = HttpUrl::habitual())]
    pub(crate) url: HttpUrl,

    /// The node's connection URL for the queries
    #[arg(
        long,
        value_name = "URL",
        default_value = "postgres://127.0.0.1:5433/chronos"
    )]
    pub(crate) pg_url: String,

    #[command(flatten)]
    pub(crate) login: HttpLoginArgs,
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
