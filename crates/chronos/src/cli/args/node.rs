//! What the command line accepts of a node of a cluster, on top of what every node has.

use std::path::PathBuf;
use std::str::FromStr;

use chronos_node::cluster::KeepLog;
use chronos_server::grpc::WireCompression;
use clap::Args;

use super::start::at_least_64_kib;
use super::{ByteSize, HostPort, Listeners, StartArgs, DEFAULT_PG_PORT};
use crate::cli::security::CertificateFiles;

/// gRPC ports from which the other ones are told by their distance.
const GRPC_PORTS: std::ops::RangeInclusive<u16> = 8000..=8999;

const NODE_HELP: &str = "\
A node of a cluster. Give three (or five) nodes the same list of members, and start them in any order:

  chronos node --id n1 --address a:8000 --peers n2=b:8000,n3=c:8000
  chronos node --id n2 --address b:8000 --peers n1=a:8000,n3=c:8000
  chronos node --id n3 --address c:8000 --peers n1=a:8000,n2=b:8000

Or begin with one and let others join it while it works:

  chronos node --id n1 --address a:8000 --bootstrap
  chronos node --id n2 --address b:8000 --join a:8000

All on one machine: give each another port and --data-dir; HTTP and PostgreSQL follow (8001: 9001, 5434).

  chronos node --id n1 --address 127.0.0.1:8001 --data-dir n1 --peers n2=127.0.0.1:8002,n3=127.0.0.1:8003

A node that was started once needs only --id, --address and --data-dir; it knows the rest. How nodes are \
looked after: chronos admin members|add|promote|remove|transfer-leader. SIGTERM lets another node lead first.";

/// Arguments of `chronos node`.
#[derive(Debug, Clone, Args)]
#[command(after_help = NODE_HELP)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    #[command(flatten, next_help_heading = "Node")]
    pub(crate) start: StartArgs,
}

/// How a node takes part in a cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// Name of the node: letters, digits, '-', '_', '.'. Digits at its end are its number, which
    /// no other member may have
    #[arg(long, value_name = "NAME", env = "CHRONOS_NODE_ID")]
    pub(crate) id: String,

    /// The other members of a cluster that begins; the same members on each of them
    #[arg(
        long,
        value_name = "NAME=HOST:PORT,..",
        env = "CHRONOS_PEERS",
        value_delimiter = ',',
        conflicts_with_all = ["bootstrap", "join"]
    )]
    pub(crate) peers: Vec<NamedAddress>,

    /// Begin a cluster of this node alone, which others can join
    #[arg(long, conflicts_with = "join")]
    pub(crate) bootstrap: bool,

    /// Join the cluster of which this is a member, by its gRPC address
    #[arg(long, value_name = "HOST:PORT", env = "CHRONOS_JOIN")]
    pub(crate) join: Option<HostPort>,

    /// Join without a vote, and stay so until promoted
    #[arg(long, requires = "join")]
    pub(crate) learner: bool,

    /// Name of the cluster; nodes of another one are refused [default: with --peers made of the
    /// members, with --bootstrap a new one, with --join that of the member]
    #[arg(long, value_name = "TEXT", env = "CHRONOS_CLUSTER_ID", value_parser = cluster_id)]
    pub(crate) cluster_id: Option<String>,

    /// Where to listen for other nodes, if not at --address, by which they reach this node
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen_address: Option<HostPort>,

    /// Time between a leader's heartbeats, in milliseconds [default: by the profile]
    #[arg(long, value_name = "MS", env = "CHRONOS_HEARTBEAT_MS", value_parser = clap::value_parser!(u64).range(5..=10_000))]
    pub(crate) heartbeat_ms: Option<u64>,

    /// Without a sign of the leader for so long, at least, another is elected; in milliseconds, at
    /// least five heartbeats [default: by the profile]
    #[arg(long, value_name = "MS", env = "CHRONOS_ELECTION_TIMEOUT_MS", value_parser = clap::value_parser!(u64).range(20..=120_000))]
    pub(crate) election_timeout_ms: Option<u64>,

    /// Let the leader answer linearizable reads by its lease, without asking the others. Correct
    /// as long as clocks run at about the same speed
    #[arg(long, env = "CHRONOS_LEASE_READS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) lease_reads: bool,

    /// Whether entries and checkpoints are compressed on their way to other nodes: where the way
    /// takes longer than 2 ms (auto), never, or always
    #[arg(
        long,
        value_name = "auto|none|lz4",
        env = "CHRONOS_WIRE_COMPRESSION",
        default_value = "auto"
    )]
    pub(crate) wire_compression: WireCompression,

    /// Bytes per second that checkpoints for joining and lagging nodes may take, such as 20MiB
    /// [default: no limit]
    #[arg(
        long,
        value_name = "SIZE",
        env = "CHRONOS_CHECKPOINT_IO_LIMIT",
        value_parser = at_least_64_kib
    )]
    pub(crate) checkpoint_io_limit: Option<ByteSize>,

    /// How long entries of the log are kept for members that are behind, such as 12h or 7d; who was
    /// away for longer gets a checkpoint
    #[arg(
        long,
        value_name = "DURATION",
        env = "CHRONOS_LOG_KEEP_FOR",
        default_value = "24h"
    )]
    pub(crate) log_keep_for: KeepLog,

    #[command(flatten)]
    pub(crate) security: PeerSecurityArgs,
}

/// How nodes know each other.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Security between nodes")]
pub(crate) struct PeerSecurityArgs {
    /// What nodes of the cluster must know to talk to each other; visible to who lists processes,
    /// so rather give a file or the environment variable
    #[arg(
        long,
        value_name = "TEXT",
        env = "CHRONOS_CLUSTER_SECRET",
        hide_env_values = true,
        conflicts_with = "cluster_secret_file"
    )]
    pub(crate) cluster_secret: Option<String>,

    /// The same, as the first line of a file
    #[arg(long, value_name = "FILE", env = "CHRONOS_CLUSTER_SECRET_FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,

    /// This node's certificate chain as PEM, shown to other nodes in both directions
    #[arg(
        long,
        value_name = "FILE",
        env = "CHRONOS_PEER_TLS_CERT",
        requires = "peer_tls_key",
        requires = "peer_tls_ca_cert"
    )]
    pub(crate) peer_tls_cert: Option<PathBuf>,

    /// Private key of the certificate as PEM, without passphrase
    #[arg(
        long,
        value_name = "FILE",
        env = "CHRONOS_PEER_TLS_KEY",
        requires = "peer_tls_cert"
    )]
    pub(crate) peer_tls_key: Option<PathBuf>,

    /// Authorities of the nodes' certificates as PEM: a node without a certificate of theirs is
    /// refused
    #[arg(
        long,
        value_name = "FILE",
        env = "CHRONOS_PEER_TLS_CA_CERT",
        requires = "peer_tls_cert"
    )]
    pub(crate) peer_tls_ca_cert: Option<PathBuf>,

    /// The name that the other nodes' certificates are good for [default: the host of each address]
    #[arg(
        long,
        value_name = "NAME",
        env = "CHRONOS_PEER_TLS_DOMAIN",
        requires = "peer_tls_cert"
    )]
    pub(crate) peer_tls_domain: Option<String>,
}

impl PeerSecurityArgs {
    /// Whether somebody who is no node of the cluster is kept out.
    pub(crate) fn keeps_others_out(&self) -> bool {
        self.cluster_secret.is_some()
            || self.cluster_secret_file.is_some()
            || self.peer_tls_ca_cert.is_some()
    }

    /// The files of TLS between nodes.
    pub(crate) fn files(&self) -> CertificateFiles {
        CertificateFiles {
            certificate: self.peer_tls_cert.clone(),
            key: self.peer_tls_key.clone(),
            authorities: self.peer_tls_ca_cert.clone(),
        }
    }
}

impl NodeArgs {
    /// Where the node listens.
    pub(crate) fn listeners(&self) -> Listeners {
        let start = &self.start;
        let grpc = self.cluster.listen_address.as_ref();
        let grpc = grpc.unwrap_or(&start.address).clone();
        let pg = HostPort {
            host: grpc.host.clone(),
            port: match grpc.port {
                0 => 0,
                port if GRPC_PORTS.contains(&port) => DEFAULT_PG_PORT + (port - GRPC_PORTS.start()),
                _ => DEFAULT_PG_PORT,
            },
        };
        Listeners {
            http: start.http_address_beside(&grpc),
            pg: start.pg_address.clone().unwrap_or(pg),
            grpc: Some(grpc),
        }
    }
}

/// A member as `--peers` names it: `n2=host:8001`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedAddress {
    pub(crate) name: String,
    pub(crate) address: HostPort,
}

impl FromStr for NamedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text
            .split_once('=')
            .ok_or("expected NAME=HOST:PORT, such as n2=gateway-2:8000")?;
        let address: HostPort = address.parse()?;
        if address.port == 0 {
            return Err("others cannot reach port 0".to_owned());
        }
        Ok(NamedAddress {
            name: name.trim().to_owned(),
            address,
        })
    }
}

/// A name of a cluster.
pub(crate) fn cluster_id(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    match fits {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 128 visible ASCII characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser as _;

    fn parse(line: &str) -> Result<NodeArgs, clap::Error> {
        let line = format!("chronos node {line}");
        match Cli::try_parse_from(line.split_whitespace())?.command {
            Command::Node(args) => Ok(*args),
            other => panic!("expected node, not {other:?}"),
        }
    }

    #[test]
    fn promised_names_parse() {
        let args = parse(
            "--id n1 --address a:8001 --peers n2=b:8000,n3=[::1]:8003 --cluster-id farm --heartbeat-ms 50 \
             --election-timeout-ms 300 --wire-compression lz4 --checkpoint-io-limit 1MiB --log-keep-for 7d --lease-reads --cluster-secret s3cret --data-dir d --memory-limit 256MiB",
        )
        .unwrap();
        assert_eq!(args.cluster.peers.len(), 2);
        assert_eq!(args.cluster.peers[1].address.host, "::1");
        let listeners = args.listeners();
        assert_eq!(listeners.grpc.unwrap().to_string(), "a:8001");
        assert_eq!(listeners.http.to_string(), "a:9001");
        assert_eq!(listeners.pg.to_string(), "a:5434");
        assert!(args.cluster.security.keeps_others_out());
        assert_eq!(
            args.cluster.log_keep_for.duration().as_secs(),
            7 * 24 * 60 * 60
        );
    }

    #[test]
    fn addresses_follow_where_the_node_listens() {
        let args = parse("--id n1 --address a:8000 --listen-address 0.0.0.0:7000 --bootstrap");
        let listeners = args.unwrap().listeners();
        assert_eq!(listeners.grpc.unwrap().to_string(), "0.0.0.0:7000");
        assert_eq!(listeners.http.to_string(), "0.0.0.0:8000");
        assert_eq!(listeners.pg.to_string(), "0.0.0.0:5433");
        let args = parse("--id n1 --address a:0 --bootstrap --pg-address b:1").unwrap();
        let listeners = args.listeners();
        assert_eq!(listeners.http.to_string(), "a:0");
        assert_eq!(listeners.pg.to_string(), "b:1");
    }

    #[test]
    fn wrong_combinations_are_refused() {
        for (line, reason) in [
            ("--address a:1", "--id"),
            ("--id n1 --peers n2=b:1 --bootstrap", "cannot be used with"),
            ("--id n1 --peers n2=b:1 --join b:1", "cannot be used with"),
            ("--id n1 --bootstrap --join b:1", "cannot be used with"),
            ("--id n1 --learner", "--join"),
            ("--id n1 --peers n2", "NAME=HOST:PORT"),
            ("--id n1 --peers n2=b:0", "port 0"),
            ("--id n1 --cluster-id ", "--cluster-id"),
            ("--id n1 --heartbeat-ms 0", "0"),
            ("--id n1 --wire-compression zstd", "auto, none or lz4"),
            ("--id n1 --checkpoint-io-limit 1", "at least 64KiB"),
            ("--id n1 --log-keep-for soon", "12h or 7d"),
            ("--id n1 --log-keep-for 59s", "at least 1m"),
            ("--id n1 --peer-tls-cert c", "--peer-tls-key"),
            (
                "--id n1 --peer-tls-cert c --peer-tls-key k",
                "--peer-tls-ca-cert",
            ),
            ("--id n1 --peer-tls-ca-cert a", "--peer-tls-cert"),
            (
                "--id n1 --cluster-secret s --cluster-secret-file f",
                "cannot be used with",
            ),
        ] {
            let refused = parse(line).map(|args| panic!("{line}: {args:?}"));
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(reason), "{line}: {text}");
        }
    }
}
