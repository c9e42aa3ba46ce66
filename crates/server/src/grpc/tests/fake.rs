//! A node's side of calls that notes what it is asked and says what it is told to say.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chronos_node::cluster::{
    AdminReply, AdminRequest, AppendReplies, AppendReply, AppendRequest, AppendRequests, Ballot,
    CheckpointOffer, CheckpointPart, CheckpointRequest, Introduction, LogPosition, OfferReply,
    Peer, PeerError, ProposeReply, ReadIndexReply, ReadIndexRequest, TransferRequest, VoteReply,
    VoteRequest,
};
use futures::stream::{self, BoxStream};
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{watch, Semaphore};

use super::{at, BALLOT};

/// Proposals of this length are answered when there is a permit.
pub(super) const HELD_BYTES: u64 = 13;

/// What it was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Vote(VoteRequest),
    PreVote(VoteRequest),
    Append(AppendRequest),
    /// One of a stream.
    Streamed(AppendRequest),
    StreamEnded,
    Transfer(TransferRequest),
    Offer(CheckpointOffer),
    Part(CheckpointPart),
    Install(CheckpointOffer),
    Request(CheckpointRequest),
    Propose(u64, Bytes),
    ReadIndex(ReadIndexRequest),
    Admin(AdminRequest),
    /// A vote was cancelled.
    Cancelled,
}

/// What it says.
pub(super) struct Answers {
    pub(super) vote: Result<VoteReply, PeerError>,
    pub(super) append: AppendReply,
    pub(super) transfer: Result<(), String>,
    pub(super) offer: OfferReply,
    pub(super) parts: Result<(), PeerError>,
    /// `None`: each is appended at the index that is its length.
    pub(super) propose: Option<Result<ProposeReply, PeerError>>,
    pub(super) read_index: ReadIndexReply,
    pub(super) admin: AdminReply,
    pub(super) introduction: Introduction,
    /// Votes are not answered at all.
    pub(super) is_mute: bool,
    /// Streams are not read.
    pub(super) is_deaf: bool,
}

pub(super) struct Fake {
    asked: watch::Sender<Vec<Asked>>,
    pub(super) answers: Mutex<Answers>,
    /// One for each answer of an append stream, and of a proposal that is held.
    pub(super) permits: Arc<Semaphore>,
}

impl Fake {
    pub(super) fn new() -> Arc<Fake> {
        let vote = VoteReply {
            ballot: BALLOT,
            granted: true,
            last: Some(at(40)),
        };
        let answers = Answers {
            vote: Ok(vote),
            append: AppendReply::Matched(None),
            transfer: Ok(()),
            offer: OfferReply::Wanted {
                file: 1,
                offset: 17,
            },
            parts: Ok(()),
            propose: None,
            read_index: ReadIndexReply::At(43),
            admin: AdminReply::Done,
            introduction: Introduction::default(),
            is_mute: false,
            is_deaf: false,
        };
        Arc::new(Fake {
            asked: watch::channel(vec![]).0,
            answers: Mutex::new(answers),
            permits: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        })
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// Waits until it was asked something like that.
    pub(super) async fn wait_for(&self, is_it: impl Fn(&[Asked]) -> bool) {
        let mut asked = self.asked.subscribe();
        let found = asked.wait_for(|asked| is_it(asked));
        super::within(found).await.unwrap();
    }

    fn note(&self, asked: Asked) {
        self.asked.send_modify(|all| all.push(asked));
    }
}

/// Notes when it is dropped.
struct Noted<'a>(&'a Fake);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.note(Asked::Cancelled);
    }
}

#[async_trait]
impl Peer for Fake {
    async fn vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        self.note(Asked::Vote(request));
        let (is_mute, vote) = {
            let answers = self.answers.lock();
            (answers.is_mute, answers.vote.clone())
        };
        if is_mute {
            let _noted = Noted(self);
            std::future::pending::<()>().await;
        }
        vote
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
        self.note(Asked::PreVote(request));
        self.answers.lock().vote.clone()
    }

    async fn append_stream(&self, requests: AppendRequests) -> Result<AppendReplies, PeerError> {
        if self.answers.lock().is_deaf {
            // The requests are held, and never looked at.
            let held = stream::once(async move {
                let _requests = requests;
                std::future::pending().await
            });
            return Ok(held.boxed());
        }
        let (send, replies) = futures::channel::mpsc::unbounded();
        let (permits, asked) = (Arc::clone(&self.permits), self.asked.clone());
        tokio::spawn(async move {
            let mut requests = requests;
            while let Some(request) = requests.next().await {
                let last = request.entries.last();
                let last = last.map(|entry| LogPosition {
                    term: entry.term.0,
                    index: entry.index.0,
                });
                asked.send_modify(|all| all.push(Asked::Streamed(request)));
                let _ = send.unbounded_send(Ok(AppendReply::Matched(last)));
            }
            asked.send_modify(|all| all.push(Asked::StreamEnded));
        });
        let permitted = replies.then(move |reply| {
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.unwrap().forget();
                reply
            }
        });
        Ok(permitted.boxed())
    }

    async fn append(&self, request: AppendRequest) -> Result<AppendReply, PeerError> {
        self.note(Asked::Append(request));
        Ok(self.answers.lock().append.clone())
    }

    async fn transfer(&self, request: TransferRequest) -> Result<Result<(), String>, PeerError> {
        self.note(Asked::Transfer(request));
        Ok(self.answers.lock().transfer.clone())
    }

    async fn offer_checkpoint(&self, offer: CheckpointOffer) -> Result<OfferReply, PeerError> {
        self.note(Asked::Offer(offer));
        Ok(self.answers.lock().offer.clone())
    }

    async fn send_parts(
        &self,
        mut parts: BoxStream<'static, CheckpointPart>,
    ) -> Result<(), PeerError> {
        self.answers.lock().parts.clone()?;
        if self.answers.lock().is_deaf {
            std::future::pending::<()>().await;
        }
        while let Some(part) = parts.next().await {
            self.note(Asked::Part(part));
        }
        self.note(Asked::StreamEnded);
        Ok(())
    }

    async fn install_checkpoint(&self, offer: CheckpointOffer) -> Result<Ballot, PeerError> {
        self.note(Asked::Install(offer));
        Ok(BALLOT)
    }

    async fn request_checkpoint(&self, request: CheckpointRequest) -> Result<String, PeerError> {
        self.note(Asked::Request(request));
        Ok("7-42".into())
    }

    async fn propose(&self, term: u64, payload: Bytes) -> Result<ProposeReply, PeerError> {
        let length = payload.len() as u64;
        self.note(Asked::Propose(term, payload));
        if length == HELD_BYTES {
            self.permits.acquire().await.unwrap().forget();
        }
        let answer = self.answers.lock().propose.clone();
        answer.unwrap_or(Ok(ProposeReply::Appended(at(length))))
    }

    async fn follows(&self, ballot: Ballot) -> Result<bool, PeerError> {
        Ok(ballot == BALLOT)
    }

    async fn read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        self.note(Asked::ReadIndex(request));
        Ok(self.answers.lock().read_index.clone())
    }

    async fn admin(&self, request: AdminRequest) -> Result<AdminReply, PeerError> {
        self.note(Asked::Admin(request));
        Ok(self.answers.lock().admin.clone())
    }

    async fn introduce(&self) -> Result<Introduction, PeerError> {
        Ok(self.answers.lock().introduction.clone())
    }
}
