//! Checkpoints: members, files, parts.

use chronos_node::cluster::{
    CheckpointFile, CheckpointOffer, Member, Membership, NodeNumber, OfferReply,
};

use super::{ballot, required, Malformed};
use crate::grpc::pb;

impl From<Member> for pb::Member {
    fn from(member: Member) -> Self {
        Self {
            number: member.number.0,
            name: member.name,
            address: member.address,
        }
    }
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Self {
        Self {
            number: NodeNumber(member.number),
            name: member.name,
            address: member.address,
        }
    }
}

/// Numbers of nodes as they are sent.
pub(super) fn sent(nodes: Vec<NodeNumber>) -> Vec<u32> {
    nodes.into_iter().map(|node| node.0).collect()
}

/// And back.
pub(super) fn received(nodes: Vec<u32>) -> Vec<NodeNumber> {
    nodes.into_iter().map(NodeNumber).collect()
}

impl From<Membership> for pb::Membership {
    fn from(membership: Membership) -> Self {
        let voters = |nodes| pb::Voters { nodes: sent(nodes) };
        Self {
            voters: membership.voters.into_iter().map(voters).collect(),
            members: membership.members.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<pb::Membership> for Membership {
    fn from(membership: pb::Membership) -> Self {
        let voters = |voters: pb::Voters| received(voters.nodes);
        Self {
            voters: membership.voters.into_iter().map(voters).collect(),
            members: membership.members.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<CheckpointFile> for pb::CheckpointFile {
    fn from(file: CheckpointFile) -> Self {
        Self {
            name: file.name,
            bytes: file.bytes,
            crc: file.crc,
        }
    }
}

impl From<pb::CheckpointFile> for CheckpointFile {
    fn from(file: pb::CheckpointFile) -> Self {
        Self {
            name: file.name,
            bytes: file.bytes,
            crc: file.crc,
        }
    }
}

impl From<CheckpointOffer> for pb::CheckpointOffer {
    fn from(offer: CheckpointOffer) -> Self {
        Self {
            ballot: Some(offer.ballot.into()),
            id: offer.id,
            last: offer.last.map(Into::into),
            membership: Some(offer.membership.into()),
            membership_at: offer.membership_at.map(Into::into),
            files: offer.files.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::CheckpointOffer> for CheckpointOffer {
    type Error = Malformed;

    fn try_from(offer: pb::CheckpointOffer) -> Result<Self, Malformed> {
        Ok(Self {
            ballot: ballot(offer.ballot)?,
            id: offer.id,
            last: offer.last.map(Into::into),
            membership: required(offer.membership, "membership")?.into(),
            membership_at: offer.membership_at.map(Into::into),
            files: offer.files.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<OfferReply> for pb::OfferReply {
    fn from(reply: OfferReply) -> Self {
        use pb::offer_reply::{Outcome, Send};
        let outcome = match reply {
            OfferReply::Send(present_bytes) => Outcome::Send(Send { present_bytes }),
            OfferReply::HigherBallot(ballot) => Outcome::HigherBallot(ballot.into()),
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

impl TryFrom<pb::OfferReply> for OfferReply {
    type Error = Malformed;

    fn try_from(reply: pb::OfferReply) -> Result<Self, Malformed> {
        use pb::offer_reply::Outcome;
        Ok(match required(reply.outcome, "outcome")? {
            Outcome::Send(send) => Self::Send(send.present_bytes),
            Outcome::HigherBallot(ballot) => Self::HigherBallot(ballot.into()),
        })
    }
}
