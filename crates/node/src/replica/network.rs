//! The way from the consensus to other nodes.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::Either;
use futures::stream::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::base::{BoxFuture, BoxStream as RaftStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::metrics::RaftServerMetrics;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::WatchReceiverOf;
use openraft::OptionalSend;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::checkpoints::Checkpoints;
use super::ending::ending;
use super::machine::{CheckpointData, RaftSnapshot};
use super::pace::Pace;
use super::pushing::{Push, Pushed};
use super::runtime::stretched;
use super::types::{ballot, log_entry, log_id, position, vote, RaftNode, RaftVote, Types};
use super::Sending;
use crate::cluster::{
    AppendReply, AppendRequest, CheckpointOffer, LogPosition, Member, NodeNumber, Peer, PeerError,
    Peers, Sabotage, TransferRequest, VoteReply,
};

/// The members as the consensus knows them now, from when it has started.
pub(crate) type Roll = Arc<OnceLock<WatchReceiverOf<Types, RaftServerMetrics<Types>>>>;

/// Gives the consensus its connections.
pub(crate) struct Network {
    pub(crate) own: u64,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) roll: Roll,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) sending: Arc<Mutex<Sending>>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) stepped: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &RaftNode) -> Link {
        Link {
            failures: 0,
            carries: Carries::Anything,
            own: self.own,
            target,
            member: node.member.clone(),
            peers: Arc::clone(&self.peers),
            roll: Arc::clone(&self.roll),
            checkpoints: Arc::clone(&self.checkpoints),
            sending: Arc::clone(&self.sending),
            pace: Arc::clone(&self.pace),
            stepped: self.stepped,
            sabotage: self.sabotage,
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &RaftNode) -> Link {
        Link {
            carries: Carries::Heartbeats,
            ..self.new_client(target, node).await
        }
    }
}

/// A stream of entries may take so many times as long to open as a heartbeat may take.
const OPENING_TIMES: u32 = 4;
/// Who has not answered for so long is not waited for, to see how long it takes.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// Before a connection is opened again, the first time and with each failure twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// So that it is no longer than two thirds of a second.
const PAUSE_DOUBLINGS_MAX: u32 = 5;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    Anything,
    Heartbeats,
}

/// A connection to one node.
pub(crate) struct Link {
    /// How often it could not be opened, one time after another.
    failures: u32,
    carries: Carries,
    own: u64,
    target: u64,
    /// The node as it was when the connection was made.
    member: Member,
    peers: Arc<dyn Peers>,
    roll: Roll,
    checkpoints: Arc<Checkpoints>,
    sending: Arc<Mutex<Sending>>,
    pace: Arc<Pace>,
    stepped: bool,
    sabotage: Option<Sabotage>,
}

impl Link {
    /// The way to where the node is now. When it has got another address, the library goes on with
    /// the connections that it has.
    fn peer(&self) -> Arc<dyn Peer> {
        let now = self.roll.get().and_then(|roll| {
            let metrics = roll.borrow_watched();
            let node = metrics.membership_config.get_node(&self.target)?;
            Some(self.peers.peer(&node.member))
        });
        now.unwrap_or_else(|| self.peers.peer(&self.member))
    }

    /// The library's own pauses come with requests, of which a connection that cannot be opened
    /// takes none.
    async fn pause(&self) {
        if self.failures > 0 {
            let pause = PAUSE_FIRST * (1 << (self.failures - 1).min(PAUSE_DOUBLINGS_MAX));
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request, and does not wait for the answer.
    fn sent_and_taken_for_stored(&self, request: AppendRequest) -> AppendReply {
        let last = request.entries.last().map(|entry| LogPosition {
            term: entry.term.0,
            index: entry.index.0,
        });
        let last = last.or(request.previous);
        let peer = self.peer();
        tokio::spawn(async move { peer.append(request).await });
        AppendReply::Matched(last)
    }

    /// Measures how long the answer to a call takes, also if whoever calls gives up before.
    fn measured<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, PeerError>> + Send + 'static,
    ) -> impl Future<Output = Result<T, PeerError>> {
        let Some(probe) = self.pace.probe(self.target) else {
            return Either::Left(call);
        };
        let (sender, answer) = oneshot::channel();
        tokio::spawn(async move {
            let Ok(answer) = tokio::time::timeout(PROBE_MAX, call).await else {
                return;
            };
            if answer.is_ok() {
                probe.answered();
            }
            // Nobody waits any more if it took too long.
            let _ = sender.send(answer);
        });
        Either::Right(async move {
            let ended = |_| PeerError::TimedOut(PROBE_MAX.as_millis() as u64);
            answer.await.map_err(ended)?
        })
    }

    /// Sends one, on the way on which nothing waits behind entries.
    fn heartbeat(
        &self,
        request: AppendRequest,
    ) -> impl Future<Output = Result<AppendReply, PeerError>> {
        let peer = self.peer();
        self.measured(async move { peer.append(request).await })
    }

    /// Gives a call so much time, of which the library says how much it has.
    async fn in_time<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        call: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, RPCError<Types>> {
        self.within(action, option.soft_ttl(), call).await
    }

    async fn within<T>(
        &self,
        action: RPCTypes,
        timeout: Duration,
        call: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, RPCError<Types>> {
        let timeout = stretched(timeout);
        match tokio::time::timeout(timeout, call).await {
            Ok(result) => result.map_err(|e| self.error(e)),
            Err(_) => Err(RPCError::Timeout(Timeout {
                action,
                id: self.own,
                target: self.target,
                timeout,
            })),
        }
    }

    fn error(&self, error: PeerError) -> RPCError<Types> {
        match &error {
            PeerError::Unreachable(_) | PeerError::Refused(_) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            PeerError::TimedOut(ms) => RPCError::Timeout(Timeout {
                action: RPCTypes::AppendEntries,
                id: self.own,
                target: self.target,
                timeout: Duration::from_millis(*ms),
            }),
            PeerError::Failed(_) => RPCError::Network(NetworkError::new(&error)),
        }
    }

    async fn send_checkpoint(&self, from: RaftVote) -> Result<RaftVote, StreamingError<Types>> {
        let (checkpoints, stepped) = (Arc::clone(&self.checkpoints), self.stepped);
        let made = self
            .blocking(move || checkpoints.make(stepped))
            .await
            .map_err(|e| unreachable_now(&io::Error::other(e)))?;
        let peer = self.peer();
        let push = Push {
            target: self.target,
            peer: Arc::clone(&peer),
            sending: Arc::clone(&self.sending),
            stepped: self.stepped,
        };
        let offer = CheckpointOffer {
            ballot: ballot(&from),
            ..CheckpointOffer::default()
        };
        let offer = match push.push(made, offer).await.map_err(|e| self.error(e))? {
            Pushed::There(offer) => offer,
            Pushed::HigherBallot(higher) => return Ok(vote(higher)),
        };
        let accepted = peer.install_checkpoint(offer).await;
        let accepted = accepted.map_err(|e| self.error(e))?;
        tracing::info!(to = self.target, "a checkpoint has arrived");
        Ok(vote(accepted))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, crate::Error> + Send + 'static,
    ) -> Result<T, crate::Error> {
        run(self.stepped, work).await
    }
}

/// Does what blocks elsewhere; in a simulation, at once.
pub(crate) async fn run<T, E>(
    stepped: bool,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    if stepped {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn unreachable_now(error: &(impl std::error::Error + 'static)) -> StreamingError<Types> {
    StreamingError::Unreachable(Unreachable::new(error))
}

/// A request in our words.
fn append_request(pace: &Pace, request: AppendEntriesRequest<Types>) -> AppendRequest {
    AppendRequest {
        ballot: ballot(&request.vote),
        previous: request.prev_log_id.as_ref().map(position),
        entries: request.entries.iter().map(log_entry).collect(),
        committed: request.leader_commit.as_ref().map(position),
        election_timeout_ms: pace.to_tell(),
    }
}

fn append_result(reply: AppendReply) -> StreamAppendResult<Types> {
    match reply {
        AppendReply::Matched(last) => Ok(last.map(log_id)),
        AppendReply::Conflict(at) => Err(StreamAppendError::Conflict(log_id(at))),
        AppendReply::HigherBallot(higher) => Err(StreamAppendError::HigherVote(vote(higher))),
    }
}

fn vote_request(request: VoteRequest<Types>) -> crate::cluster::VoteRequest {
    crate::cluster::VoteRequest {
        ballot: ballot(&request.vote),
        last: request.last_log_id.as_ref().map(position),
        transfer: request.leadership_transfer,
    }
}

fn vote_response(reply: VoteReply) -> VoteResponse<Types> {
    VoteResponse {
        vote: vote(reply.ballot),
        vote_granted: reply.granted,
        last_log_id: reply.last.map(log_id),
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = CheckpointData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let peer = self.peer();
        let sent = peer.append(append_request(&self.pace, request));
        let reply = self.in_time(RPCTypes::AppendEntries, &option, sent).await?;
        Ok(append_result(reply).into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<RaftStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let pace = Arc::clone(&self.pace);
            let mut requests = input.map(move |request| append_request(&pace, request));
            if self.sabotage == Some(Sabotage::AcknowledgeBeforeQuorum) {
                let link = &*self;
                let results = requests
                    .boxed()
                    .map(|request| Ok(append_result(link.sent_and_taken_for_stored(request))));
                return Ok(results.boxed() as RaftStream<'s, _>);
            }
            if self.carries == Carries::Heartbeats {
                let link = &*self;
                let results = async move {
                    let sent = link.heartbeat(requests.next().await?);
                    Some(sent.await.map(append_result).map_err(|e| link.error(e)))
                };
                let results = futures::stream::once(results);
                return Ok(results.filter_map(std::future::ready).boxed() as RaftStream<'s, _>);
            }
            self.pause().await;
            let (requests, end) = ending(requests.boxed());
            let peer = self.peer();
            let opened = peer.append_stream(requests);
            // A connection may have to be made first, over a link that is slower than a heartbeat.
            let most = option.soft_ttl() * OPENING_TIMES;
            let opened = self.within(RPCTypes::AppendEntries, most, opened).await;
            self.failures = match &opened {
                Ok(_) => 0,
                Err(_) => self.failures + 1,
            };
            let replies = opened?;
            let link = &*self;
            let mut end = Some(end);
            let results = replies.map(move |reply| match reply {
                Ok(reply) => Ok(append_result(reply)),
                Err(error) => {
                    end.take();
                    Err(link.error(error))
                }
            });
            Ok(results.boxed() as RaftStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let peer = self.peer();
        let sent = self.measured(async move { peer.vote(vote_request(request)).await });
        let reply = self.in_time(RPCTypes::Vote, &option, sent).await?;
        Ok(vote_response(reply))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let peer = self.peer();
        let sent = self.measured(async move { peer.pre_vote(vote_request(request)).await });
        let reply = self.in_time(RPCTypes::Vote, &option, sent).await?;
        Ok(vote_response(reply))
    }

    async fn full_snapshot(
        &mut self,
        from: RaftVote,
        _snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            sent = self.send_checkpoint(from) => sent.map(|vote| SnapshotResponse { vote }),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let peer = self.peer();
        let sent = peer.transfer(TransferRequest {
            from: ballot(request.from_leader()),
            to: NodeNumber(*request.to_node_id() as u32),
            last: request.last_log_id().map(position),
        });
        let reply = self
            .in_time(RPCTypes::TransferLeader, &option, sent)
            .await?;
        Ok(reply.map_err(|reason| {
            tracing::info!(reason, "the node did not take over");
            TransferLeaderError::LogNotFlushed {
                expected: request.last_log_id().copied(),
                actual: None,
            }
        }))
    }
}

/// Nobody: of a node that is alone.
pub(crate) struct NoPeers;

impl Peers for NoPeers {
    fn peer(&self, _: &crate::cluster::Member) -> Arc<dyn Peer> {
        Arc::new(super::service::Nobody)
    }
}
