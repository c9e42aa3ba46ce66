//! A cluster as one of its nodes sees it.

use serde::{Deserialize, Serialize};

use super::{ClientAddresses, NodeNumber, NodeRole};

/// A cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Name of the answering node.
    pub node_id: String,
    /// Its number.
    pub number: NodeNumber,
    /// Names the cluster; nodes of another are refused.
    pub cluster_id: String,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: String,
    /// Current term.
    pub term: u64,
    /// Number of the leader, if one is known.
    pub leader: Option<NodeNumber>,
    /// Name of the leader.
    pub leader_id: Option<String>,
    /// Where nodes reach the leader.
    pub leader_address: Option<String>,
    /// Index of the last entry in the log.
    pub last_index: u64,
    /// Up to which entries are known to be committed.
    pub committed_index: u64,
    /// Up to which they are applied.
    pub applied_index: u64,
    /// Up to which the log was cut.
    pub purged_index: u64,
    /// The last entry that a checkpoint of this node contains.
    pub checkpoint_index: u64,
    /// Members.
    pub members: Vec<MemberStatus>,
    /// Whether a change of voters is under way: until its end, those before and those after it must
    /// both agree to everything, and all of them are shown as voters.
    #[serde(default)]
    pub changing: bool,
    /// Elections that this node has started since it was opened.
    pub elections: u64,
    /// How often it has become leader.
    pub terms_led: u64,
    /// Milliseconds since a quorum answered, where the node leads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quorum_acked_ms: Option<u64>,
    /// A checkpoint that is being received, if so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub receiving: Option<TransferStatus>,
    /// What is damaged, and mended from other members.
    #[serde(default)]
    pub repair: RepairStatus,
    /// Milliseconds without a sign of the leader after which an election starts, at least: as given,
    /// or longer where links or disks are slow.
    pub election_timeout_ms: u64,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub id: String,
    /// Its number.
    pub number: NodeNumber,
    /// Where other nodes reach it.
    pub address: String,
    /// Where clients reach it, as far as the answering node knows.
    #[serde(flatten)]
    pub clients: ClientAddresses,
    /// Whether it votes.
    pub role: NodeRole,
    /// How far it is, where the answering node leads.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<FollowerStatus>,
}

/// How far a follower is, as its leader knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FollowerStatus {
    /// The last entry that it has in its log as the leader has it.
    pub matched_index: u64,
    /// Entries that the leader has beyond.
    pub lag_entries: u64,
    /// Milliseconds since it answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heard_ms: Option<u64>,
    /// Milliseconds until it answers to a heartbeat, on average of the last minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub round_trip_ms: Option<f64>,
    /// A checkpoint on its way there, if so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sending: Option<TransferStatus>,
}

/// Damaged files of a node, and their being replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Files that are known to be damaged.
    pub damaged_files: u64,
    /// The member whose store is being taken over, if so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<NodeNumber>,
    /// How often another one's was taken over since the node was opened.
    pub done: u64,
}

/// A checkpoint on its way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// Bytes that are there.
    pub bytes: u64,
    /// Bytes of all its files.
    pub bytes_total: u64,
}
