//! Members, and offers of checkpoints.

use std::num::NonZeroU64;

use chronos_node::cluster::{
    CheckpointOffer, CheckpointRequest, LogIndex, Member, NodeNumber, OfferReply,
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

impl From<CheckpointOffer> for pb::CheckpointOffer {
    fn from(offer: CheckpointOffer) -> Self {
        Self {
            ballot: Some(offer.ballot.into()),
            id: offer.id,
            list: offer.list,
            asked: offer.asked.map_or(0, NonZeroU64::get),
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
            asked: NonZeroU64::new(offer.asked),
        })
    }
}

impl From<CheckpointRequest> for pb::CheckpointRequest {
    fn from(request: CheckpointRequest) -> Self {
        Self {
            node: request.node.0,
            at_least: request.at_least.0,
            number: request.number.get(),
        }
    }
}

impl TryFrom<pb::CheckpointRequest> for CheckpointRequest {
    type Error = Malformed;

    fn try_from(request: pb::CheckpointRequest) -> Result<Self, Malformed> {
        Ok(Self {
            node: NodeNumber(request.node),
            at_least: LogIndex(request.at_least),
            number: required(NonZeroU64::new(request.number), "number")?,
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
