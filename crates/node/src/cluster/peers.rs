//! The way to other nodes: the network as a seam.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{
    AppendReply, AppendRequest, CheckpointOffer, CheckpointPart, CheckpointRequest, Introduction,
    Member, OfferReply, ProposeReply, ReadIndexReply, ReadIndexRequest, TransferRequest, VoteReply,
    VoteRequest,
};

/// Requests on their way, in order.
pub type AppendRequests = BoxStream<'static, AppendRequest>;
/// Their answers, in the same order; an error ends them.
pub type AppendReplies = BoxStream<'static, Result<AppendReply, PeerError>>;

/// Why a call to another node has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached, or the connection broke: the call may or may not have arrived.
    #[error("{0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("no answer within {0} ms")]
    TimedOut(u64),
    /// It does not talk to this node: another cluster, another version, no permission.
    #[error("refused: {0}")]
    Refused(String),
    /// It failed at what it was asked to do.
    #[error("{0}")]
    Failed(String),
}

/// Gives connections to other nodes.
pub trait Peers: Send + Sync + 'static {
    /// A way to a member. Opens connections when it is used, and again when they break.
    fn peer(&self, member: &Member) -> std::sync::Arc<dyn Peer>;
}

/// Another node, as seen from here. Calls are cancelled by dropping them.
#[async_trait]
pub trait Peer: Send + Sync + 'static {
    /// Asks for a vote.
    async fn vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError>;
    /// Asks whether a vote would be granted; changes nothing there.
    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError>;
    /// Sends entries one after another without waiting for answers in between. Never shares a
    /// queue with heartbeats or bulk data.
    async fn append_stream(&self, requests: AppendRequests) -> Result<AppendReplies, PeerError>;
    /// Sends a single request: a heartbeat.
    async fn append(&self, request: AppendRequest) -> Result<AppendReply, PeerError>;
    /// Asks it to take over.
    async fn transfer(&self, request: TransferRequest) -> Result<Result<(), String>, PeerError>;
    /// Offers a checkpoint.
    async fn offer_checkpoint(&self, offer: CheckpointOffer) -> Result<OfferReply, PeerError>;
    /// Sends parts of it. The answer comes when all are written.
    async fn send_parts(&self, parts: BoxStream<'static, CheckpointPart>) -> Result<(), PeerError>;
    /// Has an offered checkpoint, all of whose files were sent, verified and put in the place of
    /// the node's store. Gives the node's ballot.
    async fn install_checkpoint(&self, offer: CheckpointOffer) -> Result<super::Ballot, PeerError>;
    /// Asks for a checkpoint, which the node then offers and sends. Gives its id when all of it is
    /// here.
    async fn request_checkpoint(&self, _: CheckpointRequest) -> Result<String, PeerError> {
        Err(PeerError::Failed("it sends nobody its store".into()))
    }
    /// Hands a proposal to the leader of a term.
    async fn propose(&self, term: u64, payload: bytes::Bytes) -> Result<ProposeReply, PeerError>;
    /// Asks whether it has voted for that leader, and for nobody since. It answers by what is on its disk.
    async fn follows(&self, ballot: super::Ballot) -> Result<bool, PeerError>;
    /// Asks the leader what has to be applied before a linearizable read.
    async fn read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexReply, PeerError>;
    /// Asks who it is. The one call that is answered to a node of no cluster.
    async fn introduce(&self) -> Result<Introduction, PeerError> {
        Err(PeerError::Failed("it does not introduce itself".into()))
    }
    /// Has the leader do something that is done by leaders only.
    async fn admin(&self, request: super::AdminRequest) -> Result<super::AdminReply, PeerError>;
}
