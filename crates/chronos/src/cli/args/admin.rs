//! What the command line accepts about the members of a cluster.

use clap::Args;

use super::HostPort;
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
        default_value = "http://127.0.0.1:9000"
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
