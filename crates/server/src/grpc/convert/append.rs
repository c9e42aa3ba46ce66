//! Entries and the answers to them.

use chronos_node::cluster::{AppendReply, AppendRequest, GroupId, LogEntry, LogIndex, Term};

use super::{ballot, required, Malformed};
use crate::grpc::pb;

impl From<LogEntry> for pb::Entry {
    fn from(entry: LogEntry) -> Self {
        Self {
            group: entry.group.0,
            term: entry.term.0,
            index: entry.index.0,
            payload: entry.payload,
        }
    }
}

impl From<pb::Entry> for LogEntry {
    fn from(entry: pb::Entry) -> Self {
        Self {
            group: GroupId(entry.group),
            term: Term(entry.term),
            index: LogIndex(entry.index),
            payload: entry.payload,
        }
    }
}

impl From<AppendRequest> for pb::AppendRequest {
    fn from(request: AppendRequest) -> Self {
        Self {
            ballot: Some(request.ballot.into()),
            previous: request.previous.map(Into::into),
            entries: request.entries.into_iter().map(Into::into).collect(),
            committed: request.committed.map(Into::into),
            packed: None,
            election_timeout_ms: request.election_timeout_ms,
        }
    }
}

/// Of a request whose entries are not packed any more.
impl TryFrom<pb::AppendRequest> for AppendRequest {
    type Error = Malformed;

    fn try_from(request: pb::AppendRequest) -> Result<Self, Malformed> {
        Ok(Self {
            ballot: ballot(request.ballot)?,
            previous: request.previous.map(Into::into),
            entries: request.entries.into_iter().map(Into::into).collect(),
            committed: request.committed.map(Into::into),
            election_timeout_ms: request.election_timeout_ms,
        })
    }
}

impl From<AppendReply> for pb::AppendReply {
    fn from(reply: AppendReply) -> Self {
        use pb::append_reply::{Matched, Outcome};
        let outcome = match reply {
            AppendReply::Matched(position) => Outcome::Matched(Matched {
                position: position.map(Into::into),
            }),
            AppendReply::Conflict(position) => Outcome::Conflict(position.into()),
            AppendReply::HigherBallot(ballot) => Outcome::HigherBallot(ballot.into()),
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

impl TryFrom<pb::AppendReply> for AppendReply {
    type Error = Malformed;

    fn try_from(reply: pb::AppendReply) -> Result<Self, Malformed> {
        use pb::append_reply::Outcome;
        Ok(match required(reply.outcome, "outcome")? {
            Outcome::Matched(matched) => Self::Matched(matched.position.map(Into::into)),
            Outcome::Conflict(position) => Self::Conflict(position.into()),
            Outcome::HigherBallot(ballot) => Self::HigherBallot(ballot.into()),
        })
    }
}
