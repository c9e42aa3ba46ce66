//! A call from one simulated node to another: the client side of `Peers` and `Peer`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chronos_node::cluster::{
    AdminReply, AdminRequest, AppendReplies, AppendReply, AppendRequest, AppendRequests, Ballot,
    CheckpointOffer, CheckpointPart, CheckpointRequest, Introduction, Member, NodeNumber,
    OfferReply, Peer, PeerError, Peers, ProposeReply, ReadIndexReply, ReadIndexRequest,
    TransferRequest, VoteReply, VoteRequest,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::network::{broken, Fate, Host, Network};
use super::process::Process;
use super::trace::note;

/// Messages of a stream that are on their way at once, at most.
const STREAM_MESSAGES_MAX: usize = 64;

/// The ways from a process to others.
#[derive(Debug)]
pub(super) struct SimPeers {
    /// Who calls.
    pub(super) process: Process,
    /// By what way.
    pub(super) network: Network,
}

impl Peers for SimPeers {
    fn peer(&self, member: &Member) -> Arc<dyn Peer> {
        Arc::new(SimPeer {
            process: self.process.clone(),
            to: member.number,
            network: self.network.clone(),
        })
    }
}

/// The way from a process to one node, whichever process that is at the time.
#[derive(Clone)]
struct SimPeer {
    process: Process,
    to: NodeNumber,
    network: Network,
}

impl SimPeer {
    fn from(&self) -> NodeNumber {
        self.process.number
    }

    /// Carries a message there.
    async fn there(&self, what: &str) -> Result<(), PeerError> {
        travel(&self.network, self.from(), self.to, what).await
    }

    /// The process over there, when a message has arrived.
    fn host(&self) -> Result<Host, PeerError> {
        match self.process.is_killed() {
            true => Err(broken()),
            false => self.network.host(self.to),
        }
    }

    /// Carries a request there, has it served by a task of that node, which goes on when the caller gives up, and
    /// carries the answer back.
    async fn call<A, F>(
        &self,
        what: &'static str,
        serve: impl FnOnce(Arc<dyn Peer>) -> F + Send,
    ) -> Result<A, PeerError>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, PeerError>> + Send + 'static,
    {
        self.there(what).await?;
        let host = self.host()?;
        let answer = serve(host.service);
        let process = host.process;
        let served = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = process.killed() => Err(broken()),
                answer = answer => answer,
            }
        });
        let answer = served.await.map_err(|_| broken())?;
        travel(&self.network, self.to, self.from(), what).await?;
        if self.process.is_killed() {
            return Err(broken());
        }
        if !matches!(what, "heartbeat" | "append") {
            let outcome = if answer.is_ok() { "ok" } else { "failed" };
            note!(
                self.network.trace(),
                "{} -> {} {what}: {outcome}",
                self.from(),
                self.to
            );
        }
        answer
    }

    /// A stream of messages from here to there.
    fn outgoing<T: Send + 'static>(
        &self,
        messages: BoxStream<'static, T>,
        connection: &CancellationToken,
        what: &'static str,
    ) -> BoxStream<'static, T> {
        let line = Line {
            network: self.network.clone(),
            from: self.from(),
            to: self.to,
            what,
            sender: self.process.clone(),
            connection: connection.clone(),
        };
        line.carry(messages).boxed()
    }
}

/// Carries one message from a node to another.
async fn travel(
    network: &Network,
    from: NodeNumber,
    to: NodeNumber,
    what: &str,
) -> Result<(), PeerError> {
    match network.fate(from, to, what) {
        Fate::Arrives { after } => {
            tokio::time::sleep(after).await;
            match network.is_open(from, to) {
                true => Ok(()),
                false => Err(broken()),
            }
        }
        Fate::Lost { noticed_after } => {
            tokio::time::sleep(noticed_after).await;
            Err(broken())
        }
    }
}

/// One direction of a connection.
struct Line {
    network: Network,
    from: NodeNumber,
    to: NodeNumber,
    what: &'static str,
    /// Who sends.
    sender: Process,
    /// Broken: nothing more arrives, in either direction.
    connection: CancellationToken,
}

impl Line {
    /// Messages arrive in the order in which they were sent, each after its own time or with the one before. The first
    /// that is lost breaks the connection.
    fn carry<T: Send + 'static>(
        self,
        mut messages: BoxStream<'static, T>,
    ) -> impl Stream<Item = T> + Send + 'static {
        let (sender, receiver) = mpsc::channel::<(Instant, T)>(STREAM_MESSAGES_MAX);
        let connection = self.connection.clone();
        let (network, from, to) = (self.network.clone(), self.from, self.to);
        tokio::spawn(async move {
            let ended = self.connection.clone();
            loop {
                let next = tokio::select! {
                    biased;
                    () = ended.cancelled() => return,
                    () = self.sender.killed() => return self.connection.cancel(),
                    () = sender.closed() => return,
                    next = messages.next() => next,
                };
                let Some(message) = next else { return };
                match self.network.fate(self.from, self.to, self.what) {
                    Fate::Arrives { after } => {
                        let arrival = Instant::now() + after;
                        if sender.send((arrival, message)).await.is_err() {
                            return;
                        }
                    }
                    Fate::Lost { noticed_after } => {
                        break_after(self.connection, noticed_after);
                        return;
                    }
                }
            }
        });
        arrivals(receiver, connection, move || network.is_open(from, to))
    }
}

/// The end of a stream where messages come out.
fn arrivals<T: Send + 'static>(
    receiver: mpsc::Receiver<(Instant, T)>,
    connection: CancellationToken,
    is_open: impl Fn() -> bool + Send + 'static,
) -> impl Stream<Item = T> + Send + 'static {
    let state = (receiver, connection, is_open);
    futures::stream::unfold(state, |(mut receiver, connection, is_open)| async move {
        let next = async {
            let (arrival, message) = receiver.recv().await?;
            tokio::time::sleep_until(arrival).await;
            Some(message)
        };
        let message = tokio::select! {
            biased;
            () = connection.cancelled() => None,
            message = next => message,
        };
        if message.is_some() && !is_open() {
            connection.cancel();
            return None;
        }
        message.map(|message| (message, (receiver, connection, is_open)))
    })
}

/// Somebody notices after a while that nothing comes through any more.
fn break_after(connection: CancellationToken, after: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        connection.cancel();
    });
}

#[async_trait]
impl Peer for SimPeer {
    async fn vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        self.call("vote", |service| async move { service.vote(request).await })
            .await
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        self.call("pre-vote", |service| async move {
            service.pre_vote(request).await
        })
        .await
    }

    async fn append_stream(&self, requests: AppendRequests) -> Result<AppendReplies, PeerError> {
        self.there("connect").await?;
        let host = self.host()?;
        let connection = CancellationToken::new();
        let arriving = self.outgoing(requests, &connection, "append");
        let back = Line {
            network: self.network.clone(),
            from: self.to,
            to: self.from(),
            what: "appended",
            sender: host.process.clone(),
            connection: connection.clone(),
        };
        let (replies, served) = mpsc::channel(STREAM_MESSAGES_MAX);
        let (service, process) = (host.service, host.process);
        let over = connection.clone();
        tokio::spawn(async move {
            let serve = async {
                let mut stream = match service.append_stream(arriving).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        let _ = replies.send(Err(error)).await;
                        return;
                    }
                };
                while let Some(reply) = stream.next().await {
                    if replies.send(reply).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                () = process.killed() => over.cancel(),
                () = over.cancelled() => {}
                () = serve => {}
            }
        });
        let replies = futures::stream::unfold(served, |mut served| async move {
            served.recv().await.map(|reply| (reply, served))
        });
        let returning = back.carry(replies.boxed());
        // Whoever waits for replies of a broken connection is told.
        let end = connection.clone();
        let last = futures::stream::once(async move { end.is_cancelled().then(|| Err(broken())) });
        let last = last.filter_map(|last| async move { last });
        let hold = connection.drop_guard();
        let returning = returning.chain(last).map(move |reply| {
            // The connection lasts as long as somebody reads the replies.
            let _ = &hold;
            reply
        });
        Ok(returning.boxed())
    }

    async fn append(&self, request: AppendRequest) -> Result<AppendReply, PeerError> {
        let what = match request.entries.is_empty() {
            true => "heartbeat",
            false => "append",
        };
        self.call(what, |service| async move { service.append(request).await })
            .await
    }

    async fn transfer(&self, request: TransferRequest) -> Result<Result<(), String>, PeerError> {
        self.call("transfer", |service| async move {
            service.transfer(request).await
        })
        .await
    }

    async fn offer_checkpoint(&self, offer: CheckpointOffer) -> Result<OfferReply, PeerError> {
        self.call("offer checkpoint", |service| async move {
            service.offer_checkpoint(offer).await
        })
        .await
    }

    async fn send_parts(&self, parts: BoxStream<'static, CheckpointPart>) -> Result<(), PeerError> {
        let connection = CancellationToken::new();
        let arriving = self.outgoing(parts, &connection, "checkpoint part");
        let sent = self.call("send parts", |service| async move {
            service.send_parts(arriving).await
        });
        tokio::select! {
            biased;
            () = connection.cancelled() => Err(broken()),
            sent = sent => sent,
        }
    }

    async fn install_checkpoint(&self, offer: CheckpointOffer) -> Result<Ballot, PeerError> {
        self.call("install checkpoint", |service| async move {
            service.install_checkpoint(offer).await
        })
        .await
    }

    async fn request_checkpoint(&self, request: CheckpointRequest) -> Result<String, PeerError> {
        self.call("request checkpoint", |service| async move {
            service.request_checkpoint(request).await
        })
        .await
    }

    async fn propose(&self, term: u64, payload: Bytes) -> Result<ProposeReply, PeerError> {
        self.call("propose", |service| async move {
            service.propose(term, payload).await
        })
        .await
    }

    async fn follows(&self, ballot: Ballot) -> Result<bool, PeerError> {
        self.call(
            "follows",
            |service| async move { service.follows(ballot).await },
        )
        .await
    }

    async fn read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        self.call("read index", |service| async move {
            service.read_index(request).await
        })
        .await
    }

    async fn introduce(&self) -> Result<Introduction, PeerError> {
        self.call(
            "introduce",
            |service| async move { service.introduce().await },
        )
        .await
    }

    async fn admin(&self, request: AdminRequest) -> Result<AdminReply, PeerError> {
        self.call(
            "admin",
            |service| async move { service.admin(request).await },
        )
        .await
    }
}
