//! Members, and offers of checkpoints.

use chronos_node::cluster::{CheckpointOffer, Member, NodeNumber, OfferReply};

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

impl From<CheckpointOffer> for pb::CheckpointOffer {
    fn from(offer: CheckpointOffer) -> Self {
        Self {
            ballot: Some(offer.ballot.into()),
            id: offer.id,
            list: offer.list,
        }
    }
}

impl TryFrom<pb::CheckpointOffer> for CheckpointOffer {
    type Error = Malformed;

    fn try_from(offer: pb::CheckpointOffer) -> Result<Self, Malformed> {
        Ok(Self {
            ballot: ballot(offer.ballot)?,
            id: offer.id,
            list: offer.list,
        })
    }
}

impl From<OfferReply> for pb::OfferReply {
    fn from(reply: OfferReply) -> Self {
        use pb::offer_reply::{Complete, Outcome, Wanted};
        let outcome = match reply {
            OfferReply::Wanted { file, offset } => Outcome::Wanted(Wanted { file, offset }),
            OfferReply::Complete => Outcome::Complete(Complete {}),
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
        use pb::offer_reply::{Outcome, Wanted};
        Ok(match required(reply.outcome, "outcome")? {
            Outcome::Wanted(Wanted { file, offset }) => Self::Wanted { file, offset },
            Outcome::Complete(_) => Self::Complete,
            Outcome::HigherBallot(ballot) => Self::HigherBallot(ballot.into()),
        })
    }
}
