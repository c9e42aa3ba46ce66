//! Messages of `replication.proto` as the plain ones of `chronos_node::cluster`, and back.
//!
//! Payloads are shared, not copied. Every message that came over the network is looked at: one that
//! lacks what it needs is [`Malformed`].

mod admin;
mod append;
mod checkpoint;

use chronos_node::cluster::{
    Ballot, LogPosition, NodeNumber, PeerError, ProposeReply, ReadIndexReply, ReadIndexRequest,
    TransferRequest, VoteReply, VoteRequest,
};

use super::pb;
use super::status::{failed, failure};

/// A message lacks something that it must have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message between nodes lacks its {0}")]
#[allow(unreachable_pub)] // as public as the generated types that it stands beside
pub struct Malformed(pub &'static str);

/// What a message must have.
fn required<T>(value: Option<T>, what: &'static str) -> Result<T, Malformed> {
    value.ok_or(Malformed(what))
}

fn ballot(value: Option<pb::Ballot>) -> Result<Ballot, Malformed> {
    required(value, "ballot").map(Ballot::from)
}

impl From<LogPosition> for pb::LogPosition {
    fn from(position: LogPosition) -> Self {
        Self {
            term: position.term,
            index: position.index,
        }
    }
}

impl From<pb::LogPosition> for LogPosition {
    fn from(position: pb::LogPosition) -> Self {
        Self {
            term: position.term,
            index: position.index,
        }
    }
}

impl From<Ballot> for pb::Ballot {
    fn from(ballot: Ballot) -> Self {
        Self {
            term: ballot.term,
            node: ballot.node.0,
            elected: ballot.elected,
        }
    }
}

impl From<pb::Ballot> for Ballot {
    fn from(ballot: pb::Ballot) -> Self {
        Self {
            term: ballot.term,
            node: NodeNumber(ballot.node),
            elected: ballot.elected,
        }
    }
}

impl From<VoteRequest> for pb::VoteRequest {
    fn from(request: VoteRequest) -> Self {
        Self {
            ballot: Some(request.ballot.into()),
            last: request.last.map(Into::into),
            transfer: request.transfer,
        }
    }
}

impl TryFrom<pb::VoteRequest> for VoteRequest {
    type Error = Malformed;

    fn try_from(request: pb::VoteRequest) -> Result<Self, Malformed> {
        Ok(Self {
            ballot: ballot(request.ballot)?,
            last: request.last.map(Into::into),
            transfer: request.transfer,
        })
    }
}

impl From<VoteReply> for pb::VoteReply {
    fn from(reply: VoteReply) -> Self {
        Self {
            ballot: Some(reply.ballot.into()),
            granted: reply.granted,
            last: reply.last.map(Into::into),
        }
    }
}

impl TryFrom<pb::VoteReply> for VoteReply {
    type Error = Malformed;

    fn try_from(reply: pb::VoteReply) -> Result<Self, Malformed> {
        Ok(Self {
            ballot: ballot(reply.ballot)?,
            granted: reply.granted,
            last: reply.last.map(Into::into),
        })
    }
}

impl From<TransferRequest> for pb::TransferRequest {
    fn from(request: TransferRequest) -> Self {
        Self {
            from: Some(request.from.into()),
            to: request.to.0,
            last: request.last.map(Into::into),
        }
    }
}

impl TryFrom<pb::TransferRequest> for TransferRequest {
    type Error = Malformed;

    fn try_from(request: pb::TransferRequest) -> Result<Self, Malformed> {
        Ok(Self {
            from: ballot(request.from)?,
            to: NodeNumber(request.to),
            last: request.last.map(Into::into),
        })
    }
}

/// The answer to [`TransferRequest`], which has no type of its own.
pub(super) fn transfer_reply(reply: Result<(), String>) -> pb::TransferReply {
    pb::TransferReply {
        refused: reply.err(),
    }
}

/// And back.
pub(super) fn transferred(reply: pb::TransferReply) -> Result<(), String> {
    reply.refused.map_or(Ok(()), Err)
}

fn not_leader(leader: Option<NodeNumber>) -> pb::NotLeader {
    pb::NotLeader {
        leader: leader.map(|node| node.0),
    }
}

fn leader(not_leader: pb::NotLeader) -> Option<NodeNumber> {
    not_leader.leader.map(NodeNumber)
}

/// The answer to a proposal that was made with this number.
pub(super) fn propose_reply(
    number: u64,
    reply: Result<ProposeReply, PeerError>,
) -> pb::ProposeReply {
    use pb::propose_reply::Outcome;
    let outcome = match reply {
        Ok(ProposeReply::Appended(position)) => Outcome::Appended(position.into()),
        Ok(ProposeReply::NotLeader(leader)) => Outcome::NotLeader(not_leader(leader)),
        Err(error) => Outcome::Failure(failure(error)),
    };
    pb::ProposeReply {
        number,
        outcome: Some(outcome),
    }
}

/// And back.
pub(super) fn proposed(reply: pb::ProposeReply) -> Result<ProposeReply, PeerError> {
    use pb::propose_reply::Outcome;
    match reply.outcome {
        Some(Outcome::Appended(position)) => Ok(ProposeReply::Appended(position.into())),
        Some(Outcome::NotLeader(it)) => Ok(ProposeReply::NotLeader(leader(it))),
        Some(Outcome::Failure(failure)) => Err(failed(failure)),
        None => Err(PeerError::Failed(Malformed("outcome").to_string())),
    }
}

impl From<ReadIndexRequest> for pb::ReadIndexRequest {
    fn from(request: ReadIndexRequest) -> Self {
        Self {
            node: request.node.0,
            ballot: request.ballot.map(Into::into),
        }
    }
}

impl From<pb::ReadIndexRequest> for ReadIndexRequest {
    fn from(request: pb::ReadIndexRequest) -> Self {
        Self {
            node: NodeNumber(request.node),
            ballot: request.ballot.map(Into::into),
        }
    }
}

impl From<ReadIndexReply> for pb::ReadIndexReply {
    fn from(reply: ReadIndexReply) -> Self {
        use pb::read_index_reply::Outcome;
        let outcome = match reply {
            ReadIndexReply::At(index) => Outcome::At(index),
            ReadIndexReply::NotLeader(leader) => Outcome::NotLeader(not_leader(leader)),
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

impl TryFrom<pb::ReadIndexReply> for ReadIndexReply {
    type Error = Malformed;

    fn try_from(reply: pb::ReadIndexReply) -> Result<Self, Malformed> {
        use pb::read_index_reply::Outcome;
        Ok(match required(reply.outcome, "outcome")? {
            Outcome::At(index) => Self::At(index),
            Outcome::NotLeader(it) => Self::NotLeader(leader(it)),
        })
    }
}
