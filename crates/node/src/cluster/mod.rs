//! What nodes of a cluster say to each other, and who belongs to it.
//!
//! ```text
//!   replica --Peers/Peer--> the other node's PeerService --> its replica
//! ```
//!
//! Messages are plain values here: `server` carries them over gRPC, a simulation hands them
//! over in memory. Knows no wire format, no port and no consensus library.

mod addresses;
mod admin;
mod handle;
pub(crate) mod identity;
mod member;
mod messages;
mod options;
mod peers;
mod simulated;
mod status;

pub use chronos_store::log::{GroupId, LogEntry, LogIndex, Term};

pub use addresses::ClientAddresses;
pub use admin::{AdminReply, AdminRequest};
pub use handle::Cluster;
pub use identity::{static_cluster_id, Beginning, NodeIdentity};
pub use member::{numbered, Member, MemberError, NodeNumber, NodeRole};
pub use messages::{
    AppendReply, AppendRequest, Ballot, CheckpointOffer, CheckpointPart, CheckpointRequest,
    Introduction, LogPosition, Membership, OfferReply, ProposeReply, ReadIndexReply,
    ReadIndexRequest, TransferRequest, VoteReply, VoteRequest,
};
pub use options::{ClusterOptions, ClusterStart, ConsensusRuntime, KeepLog, OnWork, Timing};
pub use peers::{AppendReplies, AppendRequests, Peer, PeerError, Peers};
#[doc(hidden)]
pub use simulated::{Sabotage, Simulated};
pub use status::{ClusterStatus, FollowerStatus, MemberStatus, RepairStatus, TransferStatus};
