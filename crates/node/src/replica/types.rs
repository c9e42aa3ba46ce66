//! The consensus library's types, and their translation to what nodes say to each other.
//!
//! The library counts entries from 0, the log from 1: an index here is always the log's, and
//! only this file knows the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use chronos_store::log::{GroupId, LogEntry, LogIndex, Term};
use openraft::impls::{leader_id_std, Entry, EntryPayload, InlineBatch, LogId};
use openraft::{RaftTypeConfig, StoredMembership};

use super::payload;
use super::runtime::Runtime;
use crate::cluster::{Ballot, LogPosition, Member, Membership, NodeNumber};
use crate::Error;

/// What the consensus agrees on: an encoded write set with its header.
#[derive(Clone)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A member, as the consensus keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RaftNode {
    pub(crate) member: Member,
    /// A learner that is to vote once it has caught up.
    pub(crate) promote: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    type R = ();
    type NodeId = u64;
    type Node = RaftNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Proposal, u64, RaftNode>;
    type Entry = RaftEntry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::AnyError;
}

pub(crate) type Leader =
    <leader_id_std::LeaderId<u64, u64> as openraft::vote::RaftLeaderId>::Committed;
pub(crate) type RaftEntry = Entry<Leader, EntryPayload<Proposal, u64, RaftNode>>;
pub(crate) type RaftLogId = LogId<Leader>;
pub(crate) type RaftVote = openraft::impls::Vote<leader_id_std::LeaderId<u64, u64>>;
pub(crate) type RaftState = openraft::RaftState<Types>;
pub(crate) type RaftMembership = openraft::Membership<u64, RaftNode>;
pub(crate) type RaftStoredMembership = StoredMembership<Leader, u64, RaftNode>;
pub(crate) type RaftSnapshotMeta = openraft::storage::SnapshotMeta<Leader, u64, RaftNode>;

/// The library's index of an index of the log.
pub(crate) fn raft_index(index: LogIndex) -> u64 {
    index.0.saturating_sub(1)
}

/// The log's index of an index of the library.
pub(crate) fn log_index(raft_index: u64) -> LogIndex {
    LogIndex(raft_index.saturating_add(1))
}

/// The library's id of a place in the log.
pub(crate) fn raft_log_id(term: Term, index: LogIndex) -> RaftLogId {
    RaftLogId::new(Leader::from(term.0), raft_index(index))
}

/// The place in the log of an id of the library.
pub(crate) fn position(id: &RaftLogId) -> LogPosition {
    LogPosition {
        term: id.committed_leader_id().term,
        index: log_index(id.index()).0,
    }
}

/// And back.
pub(crate) fn log_id(position: LogPosition) -> RaftLogId {
    raft_log_id(Term(position.term), LogIndex(position.index))
}

pub(crate) fn ballot(vote: &RaftVote) -> Ballot {
    Ballot {
        term: vote.leader_id.term,
        node: NodeNumber(vote.leader_id.voted_for as u32),
        elected: vote.committed,
    }
}

pub(crate) fn vote(ballot: Ballot) -> RaftVote {
    let node = u64::from(ballot.node.0);
    match ballot.elected {
        true => RaftVote::new_committed(ballot.term, node),
        false => RaftVote::new(ballot.term, node),
    }
}

/// An entry as the log keeps it.
pub(crate) fn log_entry(entry: &RaftEntry) -> LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.clone(),
        EntryPayload::Blank => payload::blank(),
        EntryPayload::Membership(membership) => payload::membership(&members(membership)),
    };
    let place = position(&entry.log_id);
    LogEntry {
        group: GroupId(0),
        term: Term(place.term),
        index: LogIndex(place.index),
        payload,
    }
}

/// An entry of the log as the library takes it.
pub(crate) fn raft_entry(entry: LogEntry) -> Result<RaftEntry, Error> {
    let log_id = raft_log_id(entry.term, entry.index);
    let payload = match payload::kind(&entry.payload)? {
        payload::Kind::WriteSet => EntryPayload::Normal(Proposal(entry.payload)),
        payload::Kind::Blank => EntryPayload::Blank,
        payload::Kind::Membership(membership) => {
            EntryPayload::Membership(raft_membership(&membership))
        }
    };
    Ok(RaftEntry { log_id, payload })
}

/// Who belongs to the cluster, in our words.
pub(crate) fn members(membership: &RaftMembership) -> Membership {
    let sets = membership.get_joint_config().iter();
    let number = |id: &u64| NodeNumber(*id as u32);
    Membership {
        voters: sets.map(|set| set.iter().map(number).collect()).collect(),
        members: membership.nodes().map(|(_, n)| n.member.clone()).collect(),
        promote: membership
            .nodes()
            .filter(|(_, node)| node.promote)
            .map(|(id, _)| number(id))
            .collect(),
    }
}

/// And in the library's.
pub(crate) fn raft_membership(membership: &Membership) -> RaftMembership {
    let set =
        |set: &Vec<NodeNumber>| -> BTreeSet<u64> { set.iter().map(|n| u64::from(n.0)).collect() };
    let node = |member: &Member| {
        let node = RaftNode {
            member: member.clone(),
            promote: membership.promote.contains(&member.number),
        };
        (u64::from(member.number.0), node)
    };
    let nodes: BTreeMap<u64, RaftNode> = membership.members.iter().map(node).collect();
    let voters: Vec<BTreeSet<u64>> = membership.voters.iter().map(set).collect();
    // Voters without an entry among the members come from no node of ours.
    RaftMembership::new(voters, nodes).unwrap_or_default()
}

/// Where an answer of the library goes. Whoever waited may have gone away.
pub(crate) struct Reply<T>(tokio::sync::oneshot::Sender<T>);

impl<T> Reply<T> {
    pub(crate) fn new() -> (Reply<T>, tokio::sync::oneshot::Receiver<T>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        (Reply(sender), receiver)
    }
}

impl<T: openraft::OptionalSend + 'static> openraft::raft::responder::Responder<Types, T>
    for Reply<T>
{
    fn on_complete(self, result: T) {
        let _ = self.0.send(result);
    }
}

/// The log's index of an id of the library.
pub(crate) fn index_of_id(id: &RaftLogId) -> u64 {
    position(id).index
}
