//! Changes of who belongs to the cluster.

use chronos_node::cluster::{AdminReply, AdminRequest, ClientAddresses, Introduction, NodeNumber};

use super::checkpoint::{received, sent};
use super::{leader, not_leader, required, Malformed};
use crate::grpc::pb;
use pb::admin_request::{Action, AddLearner, ChangeMembership, Remove, TransferLeader};

impl From<AdminRequest> for pb::AdminRequest {
    fn from(request: AdminRequest) -> Self {
        let action = match request {
            AdminRequest::AddLearner {
                member,
                auto_promote,
            } => Action::AddLearner(AddLearner {
                member: Some(member.into()),
                auto_promote,
            }),
            AdminRequest::ChangeMembership { voters, remove } => {
                Action::ChangeMembership(ChangeMembership {
                    voters: sent(voters),
                    remove,
                })
            }
            AdminRequest::Remove { node } => Action::Remove(Remove { node: node.0 }),
            AdminRequest::TransferLeader { to } => Action::TransferLeader(TransferLeader {
                to: to.map(|node| node.0),
            }),
        };
        Self {
            action: Some(action),
        }
    }
}

impl TryFrom<pb::AdminRequest> for AdminRequest {
    type Error = Malformed;

    fn try_from(request: pb::AdminRequest) -> Result<Self, Malformed> {
        Ok(match required(request.action, "action")? {
            Action::AddLearner(it) => Self::AddLearner {
                member: required(it.member, "member")?.into(),
                auto_promote: it.auto_promote,
            },
            Action::ChangeMembership(it) => Self::ChangeMembership {
                voters: received(it.voters),
                remove: it.remove,
            },
            Action::Remove(it) => Self::Remove {
                node: NodeNumber(it.node),
            },
            Action::TransferLeader(it) => Self::TransferLeader {
                to: it.to.map(NodeNumber),
            },
        })
    }
}

impl From<AdminReply> for pb::AdminReply {
    fn from(reply: AdminReply) -> Self {
        use pb::admin_reply::{Done, Outcome};
        let outcome = match reply {
            AdminReply::Done => Outcome::Done(Done {}),
            AdminReply::NotLeader(leader) => Outcome::NotLeader(not_leader(leader)),
            AdminReply::Refused(why) => Outcome::Refused(why),
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

impl TryFrom<pb::AdminReply> for AdminReply {
    type Error = Malformed;

    fn try_from(reply: pb::AdminReply) -> Result<Self, Malformed> {
        use pb::admin_reply::Outcome;
        Ok(match required(reply.outcome, "outcome")? {
            Outcome::Done(_) => Self::Done,
            Outcome::NotLeader(it) => Self::NotLeader(leader(it)),
            Outcome::Refused(why) => Self::Refused(why),
        })
    }
}

impl From<Introduction> for pb::Introduction {
    fn from(introduction: Introduction) -> Self {
        Self {
            cluster_id: introduction.cluster_id,
            leader: introduction.leader.map(Into::into),
            http_address: introduction.addresses.http,
            pg_address: introduction.addresses.pg,
        }
    }
}

impl From<pb::Introduction> for Introduction {
    fn from(introduction: pb::Introduction) -> Self {
        Self {
            cluster_id: introduction.cluster_id,
            leader: introduction.leader.map(Into::into),
            addresses: ClientAddresses {
                http: introduction.http_address,
                pg: introduction.pg_address,
            },
        }
    }
}
