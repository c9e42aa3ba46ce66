//! Arguments of `chronos snapshot`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::cluster_id;
use crate::cli::security::HttpLoginArgs;
use crate::cli::values::HttpUrl;

const CREATE_HELP: &str = "\
Writes everything that is committed to one file, while the node works on. With --base the file has only \
what the base, and the bases of that, do not have: keep them all. The file is written under another \
name, FILE.part, synced and renamed.

Examples:
  chronos snapshot create --output monday.chronos                   the node on this machine
  chronos snapshot create --url http://gateway-7:9000 --output monday.chronos
  chronos snapshot create --url https://gateway-7:9000 --tls-ca-cert farm.crt --output monday.chronos
  chronos snapshot create --output tuesday.chronos --base monday.chronos
  chronos snapshot create --data-dir /var/lib/chronos --output cold.chronos     no node has it open

Exit codes: 0 written, 1 it could not be written, 2 no connection, or wrong arguments.";

/// Arguments of `chronos snapshot create`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CREATE_HELP)]
pub(crate) struct SnapshotCreateArgs {
    /// The node's HTTP address
    #[arg(long, value_name = "URL", default_value_t = HttpUrl::habitual())]
    pub(crate) url: HttpUrl,

    /// A data directory that no process has open, instead of a node
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "user", "password_file"])]
    pub(crate) data_dir: Option<PathBuf>,

    /// The file to be written, which must not exist
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// An earlier snapshot: leave out what it, and its own bases, have
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) login: HttpLoginArgs,
}

const RESTORE_HELP: &str = "\
Restores a snapshot to a new data directory: a node of its own, with all history. Of several files the \
newest is restored; bases that are not named are looked for beside it. The directory must not exist, or \
be empty; it is there when everything in it is complete and checked, and not before.

Examples:
  chronos snapshot restore monday.chronos --data-dir /var/lib/chronos
  chronos snapshot restore tuesday.chronos monday.chronos --data-dir /var/lib/chronos
  chronos snapshot restore monday.chronos --data-dir n1 --id n1 --cluster-id farm    the first node of a cluster
  chronos node --id n1 --address a:8000 --data-dir n1                                which begins with it

Exit codes: 0 restored, 1 it could not be restored, 2 wrong arguments.";

/// Arguments of `chronos snapshot restore`.
#[derive(Debug, Clone, Args)]
#[command(after_help = RESTORE_HELP)]
pub(crate) struct SnapshotRestoreArgs {
    /// A snapshot, and the ones it is based on
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// The directory to be made
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,

    /// Name of the node that is to begin a new cluster with it, as of chronos node
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,

    /// Name of that cluster [default: a new one]
    #[arg(long, value_name = "TEXT", value_parser = cluster_id, requires = "id")]
    pub(crate) cluster_id: Option<String>,
}

const VERIFY_HELP: &str = "\
Reads a snapshot to its end, checks every checksum, restores it to a directory beside it, reads every page \
and removes the directory again; bases are looked for beside it. Without a file: reads every record of \
the log, the manifest, and every page of every segment of a data directory, as \"chronos admin check\" \
does, and changes nothing.

Examples:
  chronos snapshot verify monday.chronos
  chronos snapshot verify --data-dir /backup/chronos-2026-03-01
  chronos snapshot verify --data-dir /backup/chronos-2026-03-01 --json

Exit codes: 0 no damage, 1 damage, 2 the check could not be made.";

/// Arguments of `chronos snapshot verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct SnapshotVerifyArgs {
    /// A snapshot
    #[arg(value_name = "FILE", conflicts_with = "data_dir")]
    pub(crate) file: Option<PathBuf>,

    /// A data directory that no process has open, or a copy of one
    #[arg(long, value_name = "DIR", default_value = "chronos-data")]
    pub(crate) data_dir: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
