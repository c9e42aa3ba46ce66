//! What has to be applied here before a session reads.
//!
//! Linearizable: the leader is asked up to where entries are committed, which it answers after a
//! quorum has confirmed that it still leads (ReadIndex; Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, section 6.4), and that much is applied. Questions that come while one is on
//! its way share the next one. A cluster of one asks nobody.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::ReadPolicy;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::propose::{index_of, no_leader};
use super::Replica;
use crate::cluster::{NodeNumber, ReadIndexReply, Sabotage};
use crate::{Error, ReadConsistency};

/// Election timeouts that a read waits for a leader.
const READ_WAITS: u32 = 10;

type Answer = Result<u64, Error>;

/// Who waits for a read index.
pub(super) struct Reads {
    waiting: Mutex<Waiting>,
    /// What was the end of the log when the node was opened.
    start_index: u64,
}

impl Reads {
    pub(super) fn new(start_index: u64) -> Reads {
        Reads {
            waiting: Mutex::default(),
            start_index,
        }
    }
}

#[derive(Default)]
struct Waiting {
    asking: bool,
    next: Vec<oneshot::Sender<Answer>>,
}

impl Replica {
    /// Waits until a session may read.
    ///
    /// Errors: no leader is known, or this node is too far behind (57P03).
    pub(crate) async fn ready_to_read(
        self: &Arc<Self>,
        consistency: ReadConsistency,
    ) -> Result<(), Error> {
        if self.is_alone() || consistency == ReadConsistency::Stale {
            return Ok(());
        }
        let deadline = Instant::now() + self.wait_at_most(READ_WAITS);
        let index = match consistency {
            ReadConsistency::Linearizable => self.shared_read_index(deadline).await?,
            _ => self.reads.start_index,
        };
        self.applied(index, deadline).await
    }

    /// A read index that was asked for after this call began.
    async fn shared_read_index(self: &Arc<Self>, deadline: Instant) -> Result<u64, Error> {
        let (sender, answer) = oneshot::channel();
        let asks = {
            let mut waiting = self.reads.waiting.lock();
            waiting.next.push(sender);
            !std::mem::replace(&mut waiting.asking, true)
        };
        if asks {
            let replica = Arc::clone(self);
            self.place
                .spawn(async move { replica.answer_waiting(deadline).await });
        }
        answer.await.unwrap_or_else(|_| Err(super::shutting_down()))
    }

    /// Asks for those who wait, until nobody does.
    async fn answer_waiting(&self, mut deadline: Instant) {
        loop {
            let answered = {
                let mut waiting = self.reads.waiting.lock();
                if waiting.next.is_empty() {
                    waiting.asking = false;
                    return;
                }
                std::mem::take(&mut waiting.next)
            };
            let index = self.read_index(deadline).await;
            for sender in answered {
                let _ = sender.send(index.clone());
            }
            deadline = Instant::now() + self.wait_at_most(READ_WAITS);
        }
    }

    async fn read_index(&self, deadline: Instant) -> Answer {
        loop {
            let lead = self.lead(deadline).await?;
            let reply = match &lead.member {
                _ if lead.node == self.own_id() => self.leader_read_index().await,
                Some(member) => {
                    let peer = self.peers.peer(member);
                    let asked = peer.read_index();
                    let most = Duration::from_millis(self.timing.election_timeout_ms);
                    let until = (Instant::now() + most).min(deadline);
                    match self.place.timeout_at(until, asked).await {
                        Ok(Ok(reply)) => reply,
                        Ok(Err(error)) => {
                            tracing::debug!(%error, "the leader gives no read index");
                            ReadIndexReply::NotLeader(None)
                        }
                        Err(_) => ReadIndexReply::NotLeader(None),
                    }
                }
                None => ReadIndexReply::NotLeader(None),
            };
            if let ReadIndexReply::At(index) = reply {
                return Ok(index);
            }
            if Instant::now() >= deadline {
                return Err(no_leader());
            }
            self.next_lead(&lead, deadline).await?;
        }
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        let own = self.own_id();
        self.known_lead().is_some_and(|lead| lead.node == own)
    }

    /// Whether the database is new, and what a leader makes by itself is still to come. Until then
    /// nobody reads: a transaction that began before, and made tables as well, would lose against it.
    fn makes_own_tables(&self) -> bool {
        !self.is_stepped()
            && self.store.catalog().tables.is_empty()
            && self.indexes.builder().wants_settings()
    }

    /// What has to be applied before a linearizable read, if this node leads.
    pub(super) async fn leader_read_index(&self) -> ReadIndexReply {
        if self.makes(Sabotage::ReadWithoutQuorum) {
            return match self.leads() {
                true => ReadIndexReply::At(self.store.applied_index().0),
                false => ReadIndexReply::NotLeader(None),
            };
        }
        if self.makes_own_tables() {
            return ReadIndexReply::NotLeader(None);
        }
        let policy = match self.options.lease_reads {
            true => ReadPolicy::LeaseRead,
            false => ReadPolicy::ReadIndex,
        };
        match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => ReadIndexReply::At(index_of(linearizer.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                ReadIndexReply::NotLeader(to.leader_id.map(|id| NodeNumber(id as u32)))
            }
            Err(error) => {
                tracing::debug!(%error, "this node cannot make sure that it leads");
                ReadIndexReply::NotLeader(None)
            }
        }
    }
}
