//! What the command line accepts of who looks after nodes: members, checks.

use std::path::PathBuf;

use clap::Args;

use super::HostPort;
use crate::cli::error::CliError;
use crate::cli::security::HttpLoginArgs;
use crate::cli::values::HttpUrl;

/// Which cluster is meant, and by whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterUrlArgs {
    /// HTTP address of any member
    #[arg(
        long,
        value_name = "URL",
        env = "CHRONOS_URL",
        default_value_t = HttpUrl::habitual()
    )]
    pub(crate) url: HttpUrl,

    #[command(flatten)]
    pub(crate) login: HttpLoginArgs,
}

const MEMBERS_HELP: &str = "\
How far each member is, the leader knows; a follower that is asked asks the leader in turn.

  lag    entries that the leader has and the member has not
  heard  how long ago the leader last heard of it

Examples:
  chronos admin members
  chronos admin members --url http://gateway-7:9000
  chronos admin members --url https://gateway-7:9000 --tls-ca-cert farm.crt
  chronos admin members --json";

/// Arguments of `chronos admin members`.
#[derive(Debug, Clone, Args)]
#[command(after_help = MEMBERS_HELP)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterUrlArgs,

    /// Print what the node answers, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const ADD_HELP: &str = "\
The node is started first, and waits: chronos node --id n4 --address d:8000 --join a:8000 does both. \
Adding a member again under another address lets the others find it there.

Example:
  chronos admin add n4 d:8000 --url http://a:9000";

/// Arguments of `chronos admin add`.
#[derive(Debug, Clone, Args)]
#[command(after_help = ADD_HELP)]
pub(crate) struct AddArgs {
    /// Name of the node
    pub(crate) id: String,

    /// Its gRPC address
    pub(crate) address: HostPort,

    /// Leave it without a vote until it is promoted
    #[arg(long)]
    pub(crate) learner: bool,

    #[command(flatten)]
    pub(crate) cluster: ClusterUrlArgs,
}

/// Arguments of `chronos admin promote` and `chronos admin remove`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemberArgs {
    /// Name or number of the member
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) cluster: ClusterUrlArgs,
}

/// Arguments of `chronos admin transfer-leader`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TransferArgs {
    /// Name or number of the voter that is to lead [default: the one that is furthest]
    pub(crate) id: Option<String>,

    #[command(flatten)]
    pub(crate) cluster: ClusterUrlArgs,
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
  chronos admin check --cluster --url http://a:9000    do all members of its cluster hold the same?
  chronos admin check --cluster --url http://a:9000 --url http://b:9000    do these two?

Exit codes: 0 no damage or difference, 1 damage or a difference, 2 the check could not be made, or not \
with all members.";

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

    /// Compare what nodes hold, table by table, instead: all members of the cluster of the node at
    /// --url [default: http://127.0.0.1:9000], or those of several --url
    #[arg(long, conflicts_with_all = ["data_dir", "address", "http_address"])]
    pub(crate) cluster: bool,

    /// A running node by the URL of its HTTP address, http or https
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
