//! What has to be applied here before a session reads.
//!
//! Linearizable: the leader is asked up to where entries are committed, which it answers after a
//! quorum has confirmed that it still leads (ReadIndex; Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, section 6.4), and that much is applied. Questions that come while one is on
//! its way share the next one. A cluster of one asks nobody. A leader asks as few as it takes
//! (`confirming.rs`).
//!
//! By lease: a quorum that has answered votes for nobody else for a while, so an answer that is
//! young enough stands for one to this question. How long that is, each node measures by its own
//! clock, and the leader counts on nine tenths of it: clocks may differ in speed by a tenth.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Instant as _, LinearizerOption, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::confirming::committed_as_leader;
use super::propose::index_of;
use super::types::{index_of_id, RaftState};
use super::{Raft, Replica};
use crate::cluster::{Ballot, NodeNumber, ReadIndexReply, ReadIndexRequest, Sabotage};
use crate::{Error, ReadConsistency};

/// Election timeouts that a read waits for a leader.
const READ_WAITS: u32 = 10;
/// Of the time for which voters keep to a leader, the part on which the leader does not count.
const LEASE_MARGIN_PARTS: u32 = 10;
/// Leases for which a node that is to make this mistake takes itself for the leader.
const OVERSTAYED: u32 = 20;

type Answer = Result<u64, Error>;

/// Who waits for a read index.
pub(super) struct Reads {
    waiting: Arc<Mutex<Waiting>>,
    /// What was the end of the log when the node was opened.
    start_index: u64,
}

impl Reads {
    pub(super) fn new(start_index: u64) -> Reads {
        Reads {
            waiting: Arc::default(),
            start_index,
        }
    }
}

#[derive(Default)]
struct Waiting {
    asking: bool,
    next: Vec<oneshot::Sender<Answer>>,
}

/// Asks for those who wait. If it is dropped before it is over, as when the node ends, they learn
/// that nobody does any more.
struct Asking {
    waiting: Arc<Mutex<Waiting>>,
    is_over: bool,
}

impl Asking {
    /// Those who wait for the next answer; `None`: nobody does, and this is over.
    fn next(&mut self) -> Option<Vec<oneshot::Sender<Answer>>> {
        let mut waiting = self.waiting.lock();
        self.is_over = waiting.next.is_empty();
        waiting.asking = !self.is_over;
        waiting.asking.then(|| std::mem::take(&mut waiting.next))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.is_over {
            *self.waiting.lock() = Waiting::default();
        }
    }
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
            let asking = Asking {
                waiting: Arc::clone(&self.reads.waiting),
                is_over: false,
            };
            self.place
                .spawn(async move { replica.answer_waiting(asking, deadline).await });
        }
        answer.await.unwrap_or_else(|_| Err(super::shutting_down()))
    }

    /// Asks for those who wait, until nobody does.
    async fn answer_waiting(&self, mut asking: Asking, mut deadline: Instant) {
        while let Some(answered) = asking.next() {
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
                    let asked = async {
                        let request = ReadIndexRequest {
                            node: NodeNumber(self.own_id() as u32),
                            ballot: self.own_vote(),
                        };
                        peer.read_index(request).await
                    };
                    let until = (Instant::now() + self.pace.election_timeout()).min(deadline);
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
                return Err(Error::no_leader());
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

    /// The same, for another node that wants to read.
    ///
    /// Who asks says whom it followed then, which was after its reader had come. If that is this
    /// leader, the two of them may be a quorum: whoever was elected later, one of them would have
    /// known of it. Then nobody else has to be asked.
    pub(super) async fn read_index_for(&self, request: ReadIndexRequest) -> ReadIndexReply {
        if let (Some(asked_in), false) = (request.ballot, self.makes_own_tables()) {
            let (own, asker) = (self.own_id(), u64::from(request.node.0));
            let look = move |state: &RaftState| committed_with(state, own, asker, asked_in);
            if let Some(Some(index)) = state_of(&self.raft, look).await {
                return ReadIndexReply::At(index);
            }
        }
        self.leader_read_index().await
    }

    /// For whom this node has voted, as its disk says.
    fn own_vote(&self) -> Option<Ballot> {
        let vote = self.log.vote()?;
        Some(Ballot {
            term: vote.term,
            node: NodeNumber(vote.node as u32),
            elected: vote.committed,
        })
    }

    /// What has to be applied before a linearizable read, if this node leads.
    pub(super) async fn leader_read_index(&self) -> ReadIndexReply {
        if self.reads_at_will() {
            return ReadIndexReply::At(self.store.applied_index().0);
        }
        if self.makes_own_tables() {
            return ReadIndexReply::NotLeader(None);
        }
        // A lease may be relied on only as long as no node's can be shorter: none is shorter than
        // given. If the pace changes meanwhile, it is not known how long this node took it to be.
        let pace = self.pace.reading();
        if self.options.lease_reads && pace.is_given() {
            // Where the answer is too old, a new one is waited for.
            let by_lease = LinearizerOption::new(Some(self.counted_lease()), true);
            let reply = self.read_index_by(by_lease).await;
            if self.pace.reading() == pace {
                return reply;
            }
        }
        if let Some(index) = self.index_while_followed().await {
            return ReadIndexReply::At(index);
        }
        self.read_index_by(ReadPolicy::ReadIndex.into()).await
    }

    async fn read_index_by(&self, how: LinearizerOption) -> ReadIndexReply {
        match self.raft.get_read_linearizer(how).await {
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

    /// For how long after the answer of a quorum this node reads as its leader.
    fn counted_lease(&self) -> Duration {
        let lease = super::start::lease(self.pace.given());
        lease - lease / LEASE_MARGIN_PARTS
    }

    /// Whether this node makes the mistake to read as a leader that it may not be any more.
    fn reads_at_will(&self) -> bool {
        if self.makes(Sabotage::ReadWithoutQuorum) {
            return self.leads();
        }
        if !self.makes(Sabotage::OverstayLease) || !self.leads() {
            return false;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let acked = metrics.last_quorum_acked.as_ref();
        acked.is_some_and(|at| at.elapsed() < OVERSTAYED * self.counted_lease())
    }
}

/// What the consensus sees in its state, after what it was asked before. `None`: it has ended.
///
/// Whoever asks may have gone when it answers. The library's own call for this takes that for an
/// error, and says so in the log: at each heartbeat, where nothing else is under way.
pub(super) async fn state_of<T: Send + 'static>(
    raft: &Raft,
    look: impl FnOnce(&RaftState) -> T + Send + 'static,
) -> Option<T> {
    let (sender, seen) = oneshot::channel();
    let request = move |state: &RaftState| {
        let _ = sender.send(look(state));
    };
    raft.external_request(request).await.ok()?;
    seen.await.ok()
}

/// What is committed in the term of a leader whom another node follows, if no one else is needed
/// to know that he still leads.
fn committed_with(state: &RaftState, own: u64, follower: u64, follows: Ballot) -> Option<u64> {
    let (ballot, committed) = committed_as_leader(state)?;
    if (ballot.term, ballot.node) != (follows.term, follows.node) {
        return None;
    }
    let members = state.membership_state.effective().membership();
    let is_quorum = members.get_joint_config().iter().all(|voters| {
        let both = [own, follower];
        let agreeing = voters.iter().filter(|id| both.contains(id)).count();
        agreeing * 2 > voters.len()
    });
    is_quorum.then(|| index_of_id(committed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_who_does_not_ask_any_more() {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let ask = || {
            let (sender, answer) = oneshot::channel();
            waiting.lock().next.push(sender);
            answer
        };
        let asking = || Asking {
            waiting: Arc::clone(&waiting),
            is_over: false,
        };
        let mut first = ask();
        let mut asks = asking();
        let answered = asks.next().unwrap();
        let mut second = ask();
        // The task is dropped with the runtime of a node that ends.
        drop((asks, answered));
        for answer in [&mut first, &mut second] {
            assert!(matches!(
                answer.try_recv(),
                Err(oneshot::error::TryRecvError::Closed)
            ));
        }
        assert!(!waiting.lock().asking);
        // One that is over takes nobody with it who came after.
        let mut asks = asking();
        assert!(asks.next().is_none());
        let mut third = ask();
        drop(asks);
        assert!(matches!(
            third.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        ));
    }
}
