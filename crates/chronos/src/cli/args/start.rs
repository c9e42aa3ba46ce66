//! What the command line accepts of every node: where it listens, how much it takes, what it promises.

use std::path::PathBuf;

use chronos_node::{KeepKeys, NoteTransactions};
use clap::{Args, ValueEnum};

use super::{ByteSize, Durability, HostPort, DEFAULT_PG_PORT, HTTP_PORT_OFFSET};
use crate::cli::security::ServeSecurityArgs;

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
    pub(super) fn http_address_beside(&self, grpc: &HostPort) -> HostPort {
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

/// Less does not hold one memtable, a page and a query.
fn at_least_8_mib(text: &str) -> Result<ByteSize, String> {
    at_least(text, 8 << 20, "8MiB")
}

/// With less, compactions would never keep up with anything.
pub(super) fn at_least_64_kib(text: &str) -> Result<ByteSize, String> {
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
