//! Where proposals wait for the thread of the consensus.
//!
//! ```text
//!   session  ─┐
//!   session  ─┼─► intake ─(all there are)─► consensus ─► one write, one sync
//!   follower ─┘
//! ```
//!
//! That thread takes all there are at once, so that they share its work, a write and a sync. Before
//! it does, it lets threads run that wait for a processor: those that are about to propose come in
//! time (docs/decisions/0030). Who proposes waits for the outcome, so what waits here is limited by
//! what sessions and other nodes may have under way.

use openraft::raft::ClientWriteResult;
use tokio::sync::{mpsc, oneshot};

use super::types::{Leader, Proposal, Reply, Types};
use super::Raft;

/// What becomes of handing a proposal to the consensus.
pub(super) type Answer = oneshot::Receiver<ClientWriteResult<Types>>;

struct Handed {
    proposal: Proposal,
    leader: Leader,
    reply: Reply<ClientWriteResult<Types>>,
}

/// The side of those who propose.
pub(super) struct Intake(mpsc::UnboundedSender<Handed>);

/// The side of the consensus.
pub(super) struct Handing(mpsc::UnboundedReceiver<Handed>);

impl Intake {
    pub(super) fn new() -> (Intake, Handing) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Intake(sender), Handing(receiver))
    }

    /// Hands a proposal to this node as the leader of a term. The answer fails if the consensus has
    /// ended.
    pub(super) fn hand(&self, proposal: Proposal, term: u64) -> Answer {
        let (reply, answer) = Reply::new();
        let leader = Leader::from(term);
        // Where nobody takes it any more, the reply is dropped with it.
        let _ = self.0.send(Handed {
            proposal,
            leader,
            reply,
        });
        answer
    }
}

impl Handing {
    /// Runs until nobody proposes any more, or the consensus has ended.
    pub(super) async fn run(mut self, raft: Raft) {
        while let Some(first) = self.0.recv().await {
            std::thread::yield_now();
            let mut next = Some(first);
            while let Some(handed) = next {
                let request = raft.write(handed.proposal).with_leader(handed.leader);
                if request.responder(handed.reply).await.is_err() {
                    return;
                }
                next = self.0.try_recv().ok();
            }
        }
    }
}
