//! What nodes say to each other.

use std::num::NonZeroU64;

use bytes::Bytes;
use chronos_store::log::{LogEntry, LogIndex};
use serde::{Deserialize, Serialize};

use super::{ClientAddresses, Member, NodeNumber};

/// An entry's place in the log: its term and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// The term in which it was proposed.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// Whom a node voted for, or who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// The candidate or leader.
    pub node: NodeNumber,
    /// Whether a quorum granted it: it leads.
    pub elected: bool,
}

/// A candidate asks for a vote, or, before it becomes one, whether it would get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// What it wants.
    pub ballot: Ballot,
    /// The end of its log.
    pub last: Option<LogPosition>,
    /// Whether the leader asked it to take over.
    pub transfer: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// Whom the answering node voted for.
    pub ballot: Ballot,
    /// Whether it is the candidate.
    pub granted: bool,
    /// The end of its log.
    pub last: Option<LogPosition>,
}

/// A leader sends entries, or none as a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRequest {
    /// Who leads.
    pub ballot: Ballot,
    /// The place before the first entry.
    pub previous: Option<LogPosition>,
    /// The entries; their payloads are shared with the log.
    pub entries: Vec<LogEntry>,
    /// Up to where the leader knows entries to be committed.
    pub committed: Option<LogPosition>,
    /// How long an election is to wait without a sign of the leader, in milliseconds, whatever the
    /// node would wait by itself. 0: not longer.
    pub election_timeout_ms: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendReply {
    /// All entries up to this one are durable and the leader's. `None`: there was nothing to
    /// append, or, of a heartbeat, it was heard.
    Matched(Option<LogPosition>),
    /// The entry before the first is not there, or another one.
    Conflict(LogPosition),
    /// The node knows a later leader or voted for one.
    HigherBallot(Ballot),
}

/// A leader asks a node to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// Who leads.
    pub from: Ballot,
    /// Who is to lead.
    pub to: NodeNumber,
    /// What it must have in its log.
    pub last: Option<LogPosition>,
}

/// Who belongs to a cluster: one set of voters, or two while a change is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Sets of voters, each of which must agree.
    pub voters: Vec<Vec<NodeNumber>>,
    /// All members, voters and learners, by their number.
    pub members: Vec<Member>,
    /// Learners that are to vote once they have caught up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promote: Vec<NodeNumber>,
}

/// A leader offers a checkpoint to a node that lacks what the log no longer has; or any member to one that
/// asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointOffer {
    /// Who leads.
    pub ballot: Ballot,
    /// Names the checkpoint: the same id has the same files.
    pub id: String,
    /// What it contains, as the store encodes it. Empty: as told before, go on.
    pub list: Bytes,
    /// The node asked for it, with this number: whoever offers it need not lead.
    pub asked: Option<NonZeroU64>,
}

/// A node whose files are damaged asks another for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// Who asks.
    pub node: NodeNumber,
    /// What it must contain.
    pub at_least: LogIndex,
    /// Stands in the offer.
    pub number: NonZeroU64,
}

/// What the node wants of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferReply {
    /// This file next, by its place in the list, from this offset to its end.
    Wanted {
        /// Which file.
        file: u32,
        /// Where to go on.
        offset: u64,
    },
    /// Everything is there.
    Complete,
    /// The node knows a later leader or voted for one.
    HigherBallot(Ballot),
}

/// A part of a file of a checkpoint that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPart {
    /// Of which checkpoint.
    pub id: String,
    /// Which file, by its place in the offer.
    pub file: u32,
    /// Where in the file.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// What became of a proposal that was handed to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeReply {
    /// It is in the leader's log, at this place; whether it is committed is seen by applying.
    Appended(LogPosition),
    /// It was not appended anywhere: the node does not lead, or not in that term. Who it
    /// believes does.
    NotLeader(Option<NodeNumber>),
}

/// A node wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadIndexRequest {
    /// Which node.
    pub node: NodeNumber,
    /// Whom it followed or voted for at the moment it asked, after whoever reads had come.
    pub ballot: Option<Ballot>,
}

/// A leader's answer to a node that wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadIndexReply {
    /// What has to be applied before the read.
    At(u64),
    /// The node does not lead, or cannot make sure that it does. Who it believes does.
    NotLeader(Option<NodeNumber>),
}

/// What a node tells about itself to one that may not belong to its cluster yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Names its cluster.
    pub cluster_id: String,
    /// Who leads, as far as it knows.
    pub leader: Option<Member>,
    /// Where clients reach it.
    #[serde(default)]
    pub addresses: ClientAddresses,
}
