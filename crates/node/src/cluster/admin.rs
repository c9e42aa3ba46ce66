//! Changes of who belongs to a cluster, and who leads it: done by the leader, asked for anywhere.

use serde::{Deserialize, Serialize};

use super::{Member, NodeNumber};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminRequest {
    /// Let a node receive everything without a vote; with `auto_promote`, give it one when it has
    /// caught up. Adding a member again changes its address.
    AddLearner {
        /// The node.
        member: Member,
        /// Whether it is to vote once it has caught up.
        auto_promote: bool,
    },
    /// Let exactly these members vote; the others become learners, or leave if `remove`.
    ChangeMembership {
        /// Who votes.
        voters: Vec<NodeNumber>,
        /// Whether the other voters leave the cluster.
        remove: bool,
    },
    /// Let a member go, voter or learner.
    Remove {
        /// The node.
        node: NodeNumber,
    },
    /// Let another voter lead; `None`: the one that is furthest.
    TransferLeader {
        /// The node.
        to: Option<NodeNumber>,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminReply {
    /// It is done, and committed.
    Done,
    /// The node does not lead. Who it believes does.
    NotLeader(Option<NodeNumber>),
    /// It cannot be done, as a sentence.
    Refused(String),
}
