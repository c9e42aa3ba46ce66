//! Another node as a [`Peer`].

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chronos_node::cluster::{
    AdminReply, AdminRequest, AppendReplies, AppendReply, AppendRequest, AppendRequests, Ballot,
    CheckpointOffer, CheckpointPart, CheckpointRequest, Introduction, Member, OfferReply, Peer,
    PeerError, ProposeReply, ReadIndexReply, ReadIndexRequest, TransferRequest, VoteReply,
    VoteRequest,
};
use futures::stream::BoxStream;
use futures::StreamExt as _;
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{timeout, Instant};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::link::{Lane, Target};
use super::proposals::Proposals;
use super::replies::{check_size, malformed, outgoing, Replies};
use super::Shared;
use crate::grpc::convert::transferred;
use crate::grpc::pass::Pass;
use crate::grpc::pb;
use crate::grpc::pb::replication_client::ReplicationClient;
use crate::grpc::status::peer_error;

/// Calls that wait for no more than a disk, when whoever calls does not give up before.
const SHORT: Duration = Duration::from_secs(10);
/// Calls that wait for a quorum or for data to arrive.
const LONG: Duration = Duration::from_secs(60);
/// Calls during which the node reads whole files have no limit; keepalive tells whether it lives.
const UNLIMITED: Duration = Duration::MAX;

pub(super) type Client = ReplicationClient<Channel>;

/// Another node, over gRPC.
pub(super) struct GrpcPeer {
    target: Arc<Target>,
    pass: Arc<Pass>,
    control: Client,
    entries: Client,
    proposals: Proposals,
    bulk: Client,
}

impl fmt::Debug for GrpcPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GrpcPeer")
            .field(&self.target.member)
            .finish()
    }
}

impl GrpcPeer {
    pub(super) fn new(member: &Member, shared: Arc<Shared>) -> GrpcPeer {
        let pass = Arc::new(Pass::new(&shared.options, member.number));
        let target = Arc::new(Target::new(member, shared));
        let client = |lane| {
            let limit = target.shared.options.message_bytes_max;
            ReplicationClient::new(target.channel(lane))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit)
        };
        let entries = client(Lane::Entries);
        GrpcPeer {
            control: client(Lane::Control),
            proposals: Proposals::new(entries.clone(), Arc::clone(&pass), Arc::clone(&target)),
            entries,
            bulk: client(Lane::Bulk),
            pass,
            target,
        }
    }

    pub(super) fn member(&self) -> &Member {
        &self.target.member
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    fn bytes_max(&self) -> usize {
        self.target.shared.options.message_bytes_max
    }

    /// Calls the node, and gives its answer within the limit. The call is made where connections are
    /// worked on: who waits elsewhere is woken once, not for each part of an answer.
    async fn call<M, R, F>(
        &self,
        limit: Duration,
        message: M,
        call: impl FnOnce(Request<M>) -> F,
    ) -> Result<R, PeerError>
    where
        M: Message,
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        check_size(&message, self.bytes_max())?;
        // Dropped, it is cancelled.
        let mut made = JoinSet::new();
        made.spawn_on(call(self.pass.call(message)), &self.target.shared.runtime);
        let answer = async {
            match made.join_next().await {
                Some(Ok(answer)) => answer,
                _ => Err(Status::unavailable("the call did not come to its end")),
            }
        };
        self.answer(limit, answer).await
    }

    async fn answer<R>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Result<R, PeerError> {
        match timeout(limit, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let error = peer_error(&status);
                tell_refused(&self.target, &error);
                Err(error)
            }
            Err(_) => Err(PeerError::TimedOut(limit.as_millis() as u64)),
        }
    }
}

/// A refusal does not go away by itself: a person has to know.
pub(super) fn tell_refused(target: &Target, error: &PeerError) {
    let PeerError::Refused(reason) = error else {
        return;
    };
    let Member { name, address, .. } = &target.member;
    if target.shared.refused.is_due(name) {
        tracing::warn!(node = name, address, reason, "a node refuses calls");
    }
}

/// Requests as they are sent, packed where that is worth it.
fn append_messages(
    target: Arc<Target>,
    requests: AppendRequests,
) -> BoxStream<'static, pb::AppendRequest> {
    let packer = target.packer();
    requests
        .then(move |request| {
            let round_trip = target.network_round_trip();
            Arc::clone(&packer).append(request.into(), round_trip)
        })
        .boxed()
}

/// Parts as they are sent, packed where that is worth it, and no faster than allowed.
fn part_messages(
    target: Arc<Target>,
    parts: BoxStream<'static, CheckpointPart>,
) -> BoxStream<'static, pb::CheckpointPart> {
    let packer = target.packer();
    parts
        .then(move |part| {
            let (target, packer) = (Arc::clone(&target), Arc::clone(&packer));
            async move {
                let content = packer.part(part.bytes, target.network_round_trip()).await;
                let message = pb::CheckpointPart {
                    id: part.id,
                    file: part.file,
                    offset: part.offset,
                    content: Some(content),
                };
                target.shared.throttle.pass(message.encoded_len()).await;
                message
            }
        })
        .boxed()
}

#[async_trait]
impl Peer for GrpcPeer {
    async fn vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.vote(request).await };
        let reply = self.call(SHORT, request.into(), call).await?;
        reply.try_into().map_err(malformed)
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.pre_vote(request).await };
        let reply = self.call(SHORT, request.into(), call).await?;
        reply.try_into().map_err(malformed)
    }

    async fn append_stream(&self, requests: AppendRequests) -> Result<AppendReplies, PeerError> {
        let messages = append_messages(Arc::clone(&self.target), requests);
        let (messages, reins) = outgoing(messages, self.bytes_max());
        let mut client = self.entries.clone();
        let opened = client.append_stream(self.pass.call(messages));
        let replies = self.answer(SHORT, opened).await;
        let target = Arc::clone(&self.target);
        Ok(Replies {
            replies: replies.map_err(|e| reins.unsent.get().cloned().unwrap_or(e))?,
            reins,
            is_ended: false,
            on_error: Box::new(move |error| tell_refused(&target, error)),
        }
        .boxed())
    }

    async fn append(&self, request: AppendRequest) -> Result<AppendReply, PeerError> {
        let is_heartbeat = request.entries.is_empty();
        let started = Instant::now();
        let mut client = self.control.clone();
        let call = |request| async move { client.append(request).await };
        let reply = self.call(SHORT, request.into(), call).await?;
        if is_heartbeat {
            self.target.round_trip.note(started.elapsed());
        }
        reply.try_into().map_err(malformed)
    }

    async fn transfer(&self, request: TransferRequest) -> Result<Result<(), String>, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.transfer(request).await };
        let reply = self.call(SHORT, request.into(), call).await?;
        Ok(transferred(reply))
    }

    async fn offer_checkpoint(&self, offer: CheckpointOffer) -> Result<OfferReply, PeerError> {
        let mut client = self.bulk.clone();
        let call = |request| async move { client.offer_checkpoint(request).await };
        let reply = self.call(UNLIMITED, offer.into(), call).await?;
        reply.try_into().map_err(malformed)
    }

    async fn send_parts(&self, parts: BoxStream<'static, CheckpointPart>) -> Result<(), PeerError> {
        let messages = part_messages(Arc::clone(&self.target), parts);
        let (messages, reins) = outgoing(messages, self.bytes_max());
        let mut client = self.bulk.clone();
        let sent = client.send_parts(self.pass.call(messages));
        let sent = self.answer(UNLIMITED, sent).await;
        // Parts that were not sent are missing, whatever the node said about the others.
        match reins.unsent.get() {
            Some(error) => Err(error.clone()),
            None => sent.map(|_: pb::SendPartsReply| ()),
        }
    }

    async fn install_checkpoint(&self, offer: CheckpointOffer) -> Result<Ballot, PeerError> {
        let mut client = self.bulk.clone();
        let call = |request| async move { client.install_checkpoint(request).await };
        let reply: pb::InstallReply = self.call(UNLIMITED, offer.into(), call).await?;
        let ballot = reply.ballot.map(Ballot::from);
        ballot.ok_or_else(|| malformed("an answer without a ballot"))
    }

    async fn request_checkpoint(&self, request: CheckpointRequest) -> Result<String, PeerError> {
        let mut client = self.bulk.clone();
        let call = |request| async move { client.request_checkpoint(request).await };
        let reply: pb::CheckpointSent = self.call(UNLIMITED, request.into(), call).await?;
        Ok(reply.id)
    }

    async fn propose(&self, term: u64, payload: Bytes) -> Result<ProposeReply, PeerError> {
        let proposal = pb::ProposeRequest {
            term,
            payload,
            number: 0,
        };
        match timeout(LONG, self.proposals.propose(proposal)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PeerError::TimedOut(LONG.as_millis() as u64)),
        }
    }

    async fn follows(&self, ballot: Ballot) -> Result<bool, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.follows(request).await };
        let request = pb::FollowsRequest {
            ballot: Some(ballot.into()),
        };
        let reply: pb::FollowsReply = self.call(SHORT, request, call).await?;
        Ok(reply.follows)
    }

    async fn read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.read_index(request).await };
        let reply = self.call(SHORT, request.into(), call).await?;
        reply.try_into().map_err(malformed)
    }

    async fn admin(&self, request: AdminRequest) -> Result<AdminReply, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.admin(request).await };
        let reply = self.call(LONG, request.into(), call).await?;
        reply.try_into().map_err(malformed)
    }

    async fn introduce(&self) -> Result<Introduction, PeerError> {
        let mut client = self.control.clone();
        let call = |request| async move { client.introduce(request).await };
        let reply = self.call(SHORT, pb::IntroduceRequest {}, call).await?;
        Ok(reply.into())
    }
}
