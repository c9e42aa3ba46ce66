//! What other nodes may ask of this one.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest as RaftVoteRequest, VoteResponse,
};

use super::machine::{CheckpointData, RaftSnapshot};
use super::network::run;
use super::pace::Pace;
use super::reads::state_of;
use super::types::{
    ballot, log_id, position, raft_entry, raft_log_id, vote, RaftSnapshotMeta, Types,
};
use super::{checkpoints, Raft, Replica};
use crate::cluster::{
    AdminReply, AdminRequest, AppendReplies, AppendReply, AppendRequest, AppendRequests, Ballot,
    CheckpointOffer, CheckpointPart, CheckpointRequest, Introduction, OfferReply, Peer, PeerError,
    ProposeReply, ReadIndexReply, ReadIndexRequest, Sabotage, TransferRequest, VoteReply,
    VoteRequest,
};

/// The receiving side of calls between nodes.
pub(crate) struct Service {
    pub(crate) replica: Weak<Replica>,
}

impl Service {
    fn replica(&self) -> Result<Arc<Replica>, PeerError> {
        let ended = || PeerError::Unreachable("the node has ended".into());
        self.replica.upgrade().ok_or_else(ended)
    }

    fn raft(&self) -> Result<Raft, PeerError> {
        Ok(self.replica()?.raft().clone())
    }

    fn raft_and_pace(&self) -> Result<(Raft, Arc<Pace>), PeerError> {
        let replica = self.replica()?;
        Ok((replica.raft().clone(), Arc::clone(&replica.pace)))
    }
}

fn stopped(error: impl std::fmt::Display) -> PeerError {
    PeerError::Unreachable(format!("the node takes no part any more: {error}"))
}

fn raft_vote_request(request: &VoteRequest) -> RaftVoteRequest<Types> {
    let mut asked = RaftVoteRequest::new(vote(request.ballot), request.last.map(log_id));
    asked.leadership_transfer = request.transfer;
    asked
}

fn vote_reply(response: VoteResponse<Types>) -> VoteReply {
    VoteReply {
        ballot: ballot(&response.vote),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(position),
    }
}

fn any_vote(request: &VoteRequest) -> VoteReply {
    VoteReply {
        ballot: request.ballot,
        granted: true,
        last: None,
    }
}

/// Puts this node's own leader in the place of one of an earlier term: a mistake.
fn of_present_leader(replica: &Replica, mut request: AppendRequest) -> AppendRequest {
    let present = ballot(&replica.raft().metrics().borrow_watched().vote);
    let is_earlier = request.ballot.term < present.term;
    if is_earlier && present.elected && u64::from(present.node.0) != replica.own_id() {
        request.ballot = present;
    }
    request
}

/// Also takes note of how long the leader says that an election waits.
fn append_entries(
    pace: &Pace,
    request: AppendRequest,
) -> Result<AppendEntriesRequest<Types>, PeerError> {
    if request.ballot.elected {
        pace.heard(request.ballot.term);
        pace.told(request.ballot.term, request.election_timeout_ms);
    }
    let entries = request.entries.into_iter().map(raft_entry);
    let entries: Result<Vec<_>, _> = entries.collect();
    Ok(AppendEntriesRequest {
        vote: vote(request.ballot),
        prev_log_id: request.previous.map(log_id),
        entries: entries.map_err(|e| PeerError::Failed(e.message))?,
        leader_commit: request.committed.map(log_id),
    })
}

fn append_reply(result: StreamAppendResult<Types>) -> AppendReply {
    match result {
        Ok(last) => AppendReply::Matched(last.as_ref().map(position)),
        Err(StreamAppendError::Conflict(at)) => AppendReply::Conflict(position(&at)),
        Err(StreamAppendError::HigherVote(higher)) => AppendReply::HigherBallot(ballot(&higher)),
    }
}

/// Waits until a heartbeat was heard: what the consensus is asked after it, it answers after it.
///
/// Its own answer comes when the entries that came before are on disk. But a heartbeat only asks
/// whether this node still follows, and a slow disk is to depose nobody. That the ballot may
/// not be on disk yet does no harm: its leader was elected by a quorum that has it.
async fn heard(raft: &Raft, ballot: Ballot) {
    let follows = state_of(raft, move |state| *state.vote_ref() == vote(ballot)).await;
    if follows != Some(true) {
        // It is refused, or the consensus has ended, and says so.
        std::future::pending().await
    }
}

#[async_trait]
impl Peer for Service {
    async fn vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        let replica = self.replica()?;
        replica.may_vote()?;
        if replica.makes(Sabotage::GrantAnyVote) {
            return Ok(any_vote(&request));
        }
        let asked = raft_vote_request(&request);
        replica
            .raft()
            .vote(asked)
            .await
            .map(vote_reply)
            .map_err(stopped)
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        let replica = self.replica()?;
        replica.may_vote()?;
        if replica.makes(Sabotage::GrantAnyVote) {
            return Ok(any_vote(&request));
        }
        let asked = raft_vote_request(&request);
        replica
            .raft()
            .pre_vote(asked)
            .await
            .map(vote_reply)
            .map_err(stopped)
    }

    async fn append_stream(&self, requests: AppendRequests) -> Result<AppendReplies, PeerError> {
        let (raft, pace) = self.raft_and_pace()?;
        let replica = self.replica()?;
        let received = Arc::clone(&replica.received);
        let requests = match replica.makes(Sabotage::AcceptOlderTerm) {
            true => requests
                .map(move |request| of_present_leader(&replica, request))
                .boxed(),
            false => requests,
        };
        let (requests, answered) = received.limited(requests);
        // A request that is none ends the stream.
        let requests = requests
            .map(move |request| append_entries(&pace, request))
            .take_while(|request| std::future::ready(request.is_ok()))
            .filter_map(|request| std::future::ready(request.ok()));
        let replies = raft.stream_append(requests);
        let replies = replies.map(move |reply: Result<_, Fatal<Types>>| {
            answered.note();
            reply.map(append_reply).map_err(stopped)
        });
        Ok(replies.boxed())
    }

    async fn append(&self, request: AppendRequest) -> Result<AppendReply, PeerError> {
        let (raft, pace) = self.raft_and_pace()?;
        let replica = self.replica()?;
        let request = match replica.makes(Sabotage::AcceptOlderTerm) {
            true => of_present_leader(&replica, request),
            false => request,
        };
        let last = request
            .entries
            .last()
            .map(|entry| (entry.term, entry.index));
        let last = last.map(|(term, index)| raft_log_id(term, index));
        let previous = request.previous.map(log_id);
        let last = last.or(previous);
        let (ballot, is_heartbeat) = (request.ballot, request.entries.is_empty());
        let answer = raft.append_entries(append_entries(&pace, request)?);
        let answer = std::pin::pin!(answer);
        let response = tokio::select! {
            biased;
            response = answer => response.map_err(stopped)?,
            () = heard(&raft, ballot), if is_heartbeat => {
                return Ok(AppendReply::Matched(previous.as_ref().map(position)));
            }
        };
        if response.is_conflict() && previous.is_none() {
            return Err(PeerError::Failed(
                "a conflict before the first entry".into(),
            ));
        }
        Ok(append_reply(response.into_stream_result(previous, last)))
    }

    async fn transfer(&self, request: TransferRequest) -> Result<Result<(), String>, PeerError> {
        let asked = TransferLeaderRequest::new(
            vote(request.from),
            u64::from(request.to.0),
            request.last.map(log_id),
        );
        let answer = self.raft()?.handle_transfer_leader(asked).await;
        answer
            .map(|answer| answer.map_err(|e| e.to_string()))
            .map_err(stopped)
    }

    async fn offer_checkpoint(&self, offer: CheckpointOffer) -> Result<OfferReply, PeerError> {
        let replica = self.replica()?;
        let higher = replica.ballot_above(offer.ballot);
        if let (Some(higher), None) = (higher, offer.asked) {
            return Ok(OfferReply::HigherBallot(higher));
        }
        let checkpoints = Arc::clone(replica.checkpoints());
        run(replica.is_stepped(), move || checkpoints.offered(&offer)).await
    }

    async fn send_parts(
        &self,
        mut parts: BoxStream<'static, CheckpointPart>,
    ) -> Result<(), PeerError> {
        let replica = self.replica()?;
        while let Some(part) = parts.next().await {
            let checkpoints = Arc::clone(replica.checkpoints());
            run(replica.is_stepped(), move || checkpoints.received(&part)).await?;
        }
        Ok(())
    }

    async fn install_checkpoint(&self, offer: CheckpointOffer) -> Result<Ballot, PeerError> {
        let replica = self.replica()?;
        if let Some(higher) = replica.ballot_above(offer.ballot) {
            return Ok(higher);
        }
        let checkpoints = Arc::clone(replica.checkpoints());
        let id = offer.id;
        let incoming = run(replica.is_stepped(), move || checkpoints.complete(&id)).await?;
        let (term, index) = incoming.list.applied();
        if term.0 > offer.ballot.term {
            // No leader has what comes after it, and the consensus relies on that.
            return Err(PeerError::Failed("it is of a later leader's time".into()));
        }
        let membership = checkpoints::stored_membership(incoming.list.membership());
        let meta = RaftSnapshotMeta {
            last_log_id: Some(raft_log_id(term, index)),
            last_membership: membership.map_err(|e| PeerError::Failed(e.to_string()))?,
        };
        let snapshot = RaftSnapshot {
            meta,
            snapshot: CheckpointData::Incoming(incoming),
        };
        let installed = replica
            .raft()
            .install_full_snapshot(vote(offer.ballot), snapshot)
            .await;
        installed
            .map(|response| ballot(&response.vote))
            .map_err(stopped)
    }

    async fn request_checkpoint(&self, request: CheckpointRequest) -> Result<String, PeerError> {
        self.replica()?.give(request).await
    }

    async fn propose(&self, term: u64, payload: Bytes) -> Result<ProposeReply, PeerError> {
        self.replica()?.take_proposal(term, payload).await
    }

    async fn follows(&self, ballot: Ballot) -> Result<bool, PeerError> {
        Ok(self.replica()?.follows(ballot))
    }

    async fn read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        Ok(self.replica()?.read_index_for(request).await)
    }

    async fn introduce(&self) -> Result<Introduction, PeerError> {
        Ok(self.replica()?.introduction())
    }

    async fn admin(&self, request: AdminRequest) -> Result<AdminReply, PeerError> {
        self.replica()?.administer_here(request).await
    }
}

/// A node that cannot be reached: the peer of a node that is alone.
pub(crate) struct Nobody;

fn nobody<T>() -> Result<T, PeerError> {
    Err(PeerError::Unreachable(
        "this node was started without a way to others".into(),
    ))
}

#[async_trait]
impl Peer for Nobody {
    async fn vote(&self, _: VoteRequest) -> Result<VoteReply, PeerError> {
        nobody()
    }

    async fn pre_vote(&self, _: VoteRequest) -> Result<VoteReply, PeerError> {
        nobody()
    }

    async fn append_stream(&self, _: AppendRequests) -> Result<AppendReplies, PeerError> {
        nobody()
    }

    async fn append(&self, _: AppendRequest) -> Result<AppendReply, PeerError> {
        nobody()
    }

    async fn transfer(&self, _: TransferRequest) -> Result<Result<(), String>, PeerError> {
        nobody()
    }

    async fn offer_checkpoint(&self, _: CheckpointOffer) -> Result<OfferReply, PeerError> {
        nobody()
    }

    async fn send_parts(&self, _: BoxStream<'static, CheckpointPart>) -> Result<(), PeerError> {
        nobody()
    }

    async fn install_checkpoint(&self, _: CheckpointOffer) -> Result<Ballot, PeerError> {
        nobody()
    }

    async fn propose(&self, _: u64, _: Bytes) -> Result<ProposeReply, PeerError> {
        nobody()
    }

    async fn follows(&self, _: Ballot) -> Result<bool, PeerError> {
        nobody()
    }

    async fn read_index(&self, _: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        nobody()
    }

    async fn admin(&self, _: AdminRequest) -> Result<AdminReply, PeerError> {
        nobody()
    }
}
