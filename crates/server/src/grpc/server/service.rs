//! Calls of other nodes, handed to this node's [`Peer`].

use std::sync::Arc;

use async_trait::async_trait;
use chronos_node::cluster::{AppendRequest, CheckpointPart, Peer};
use futures::stream::{self, BoxStream, Stream};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::incoming::{Broken, Incoming};
use crate::grpc::convert::{propose_reply, transfer_reply, Malformed};
use crate::grpc::options::GrpcOptions;
use crate::grpc::packing::{unpack, unpack_entries};
use crate::grpc::pb;
use crate::grpc::pb::replication_server::Replication;
use crate::grpc::status::status;

/// Proposals of a stream that are worked on at one time; further ones wait at the caller.
const PROPOSALS_MAX: usize = 4096;

/// The called side of each call.
pub(super) struct Service {
    peer: Arc<dyn Peer>,
    message_bytes_max: usize,
    stopping: CancellationToken,
}

impl Service {
    pub(super) fn new(
        peer: Arc<dyn Peer>,
        options: &GrpcOptions,
        stopping: CancellationToken,
    ) -> Service {
        Service {
            peer,
            message_bytes_max: options.message_bytes_max,
            stopping,
        }
    }

    /// The answers of a stream, until the node stops; and at their end why there are no more.
    fn until_stop<T: Send + 'static>(
        &self,
        replies: impl Stream<Item = Result<T, Status>> + Send + 'static,
        broken: Broken,
    ) -> Response<BoxStream<'static, Result<T, Status>>> {
        let (stop, is_stopping) = (self.stopping.clone(), self.stopping.clone());
        // What was answered before the requests broke off is sent before that is told.
        let end = stream::once(async move {
            match is_stopping.is_cancelled() {
                true => Some(stopping()),
                false => broken.take(),
            }
        });
        let end = end.filter_map(|end| std::future::ready(end.map(Err)));
        let replies = replies.take_until(stop.cancelled_owned()).chain(end);
        Response::new(replies.boxed())
    }
}

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

/// What a caller's message says.
fn read<M, T: TryFrom<M, Error = Malformed>>(request: Request<M>) -> Result<T, Status> {
    request.into_inner().try_into().map_err(malformed)
}

fn read_append(message: pb::AppendRequest, bytes_max: usize) -> Result<AppendRequest, Status> {
    let mut message = message;
    unpack_entries(&mut message, bytes_max).map_err(Status::invalid_argument)?;
    message.try_into().map_err(malformed)
}

fn read_part(part: pb::CheckpointPart, bytes_max: usize) -> Result<CheckpointPart, Status> {
    use pb::checkpoint_part::Content;
    let bytes = match part.content {
        Some(Content::Bytes(bytes)) => bytes,
        Some(Content::Packed(packed)) => {
            unpack(&packed, bytes_max).map_err(Status::invalid_argument)?
        }
        None => return Err(malformed(Malformed("content"))),
    };
    Ok(CheckpointPart {
        id: part.id,
        file: part.file,
        offset: part.offset,
        bytes,
    })
}

fn stopping() -> Status {
    Status::unavailable("the node is stopping")
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl Replication for Service {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteReply> {
        let reply = self.peer.vote(read(request)?).await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteReply> {
        let reply = self.peer.pre_vote(read(request)?).await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Answer<pb::AppendReply> {
        let request = read_append(request.into_inner(), self.message_bytes_max)?;
        let reply = self.peer.append(request).await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }

    type AppendStreamStream = BoxStream<'static, Result<pb::AppendReply, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Answer<Self::AppendStreamStream> {
        let bytes_max = self.message_bytes_max;
        let read = move |message| read_append(message, bytes_max);
        let (requests, broken) = Incoming::new(request.into_inner(), read);
        let replies = self.peer.append_stream(requests.boxed()).await;
        let replies = replies.map_err(status)?;
        let replies = replies.map(|reply| reply.map(Into::into).map_err(status));
        Ok(self.until_stop(replies, broken))
    }

    async fn transfer(&self, request: Request<pb::TransferRequest>) -> Answer<pb::TransferReply> {
        let reply = self.peer.transfer(read(request)?).await;
        reply
            .map(|it| Response::new(transfer_reply(it)))
            .map_err(status)
    }

    async fn offer_checkpoint(
        &self,
        request: Request<pb::CheckpointOffer>,
    ) -> Answer<pb::OfferReply> {
        let reply = self.peer.offer_checkpoint(read(request)?).await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }

    async fn send_parts(
        &self,
        request: Request<Streaming<pb::CheckpointPart>>,
    ) -> Answer<pb::SendPartsReply> {
        let bytes_max = self.message_bytes_max;
        let read = move |message| read_part(message, bytes_max);
        let (parts, broken) = Incoming::new(request.into_inner(), read);
        let written = tokio::select! {
            written = self.peer.send_parts(parts.boxed()) => written,
            () = self.stopping.cancelled() => return Err(stopping()),
        };
        written.map_err(status)?;
        // To the node it looked as if the parts had come to their end.
        match broken.take() {
            Some(status) => Err(status),
            None => Ok(Response::new(pb::SendPartsReply {})),
        }
    }

    async fn install_checkpoint(
        &self,
        request: Request<pb::CheckpointOffer>,
    ) -> Answer<pb::InstallReply> {
        let ballot = self.peer.install_checkpoint(read(request)?).await;
        let ballot = Some(ballot.map_err(status)?.into());
        Ok(Response::new(pb::InstallReply { ballot }))
    }

    async fn request_checkpoint(
        &self,
        request: Request<pb::CheckpointRequest>,
    ) -> Answer<pb::CheckpointSent> {
        let request = read(request)?;
        let sent = tokio::select! {
            sent = self.peer.request_checkpoint(request) => sent,
            () = self.stopping.cancelled() => return Err(stopping()),
        };
        let id = sent.map_err(status)?;
        Ok(Response::new(pb::CheckpointSent { id }))
    }

    type ProposeStream = BoxStream<'static, Result<pb::ProposeReply, Status>>;

    async fn propose(
        &self,
        request: Request<Streaming<pb::ProposeRequest>>,
    ) -> Answer<Self::ProposeStream> {
        let (proposals, broken) = Incoming::new(request.into_inner(), Ok);
        let peer = Arc::clone(&self.peer);
        let answered = proposals.map(move |proposal| {
            let peer = Arc::clone(&peer);
            async move {
                let reply = peer.propose(proposal.term, proposal.payload).await;
                Ok(propose_reply(proposal.number, reply))
            }
        });
        Ok(self.until_stop(answered.buffer_unordered(PROPOSALS_MAX), broken))
    }

    async fn follows(&self, request: Request<pb::FollowsRequest>) -> Answer<pb::FollowsReply> {
        let ballot = request.into_inner().ballot;
        let ballot = ballot.ok_or_else(|| malformed(Malformed("ballot")))?;
        let follows = self.peer.follows(ballot.into()).await.map_err(status)?;
        Ok(Response::new(pb::FollowsReply { follows }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Answer<pb::ReadIndexReply> {
        let reply = self.peer.read_index(request.into_inner().into()).await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }

    async fn admin(&self, request: Request<pb::AdminRequest>) -> Answer<pb::AdminReply> {
        let reply = self.peer.admin(read(request)?).await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }

    async fn introduce(&self, _: Request<pb::IntroduceRequest>) -> Answer<pb::Introduction> {
        let reply = self.peer.introduce().await;
        reply.map(|it| Response::new(it.into())).map_err(status)
    }
}
