//! How a leader makes sure that it still leads, before something is read: it asks as few as it takes.
//!
//! ReadIndex wants a quorum to be heard after the reader has come. Any quorum will do, so those are
//! asked who answer soonest, and they answer by the vote that is on their disk: their consensus is not
//! disturbed, and nothing waits behind its thread. If one of them does not answer soon, all are asked, by
//! way of the consensus.
//!
//! Why their votes suffice: this node had voted for nobody later when it looked, and each of the
//! others not when it answered; they are a quorum. A leader of a later term who was elected before
//! the reader came would have had a vote of one of them before, and votes are on disk before they are
//! given. So what others had committed by then was committed by this node.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use openraft::ServerState;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::reads::state_of;
use super::types::{ballot, index_of_id, RaftLogId, RaftState};
use super::Replica;
use crate::cluster::{Ballot, Member};

/// One who answers is waited for so many times as long as its last answer took.
const PATIENCE_TIMES: u32 = 4;
/// And at least so long.
const PATIENCE_MIN: Duration = Duration::from_millis(2);

/// What is known of how soon others answer.
#[derive(Default)]
pub(super) struct Confirming {
    others: Mutex<BTreeMap<u64, Known>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// How long its last answer took.
    took: Option<Duration>,
    /// When it did not answer.
    silent_at: Option<Instant>,
}

/// A leader, as it sees itself.
struct Leading {
    ballot: Ballot,
    committed: u64,
    others: Vec<(u64, Member)>,
    /// How many of them are a quorum together with it.
    needed: usize,
}

impl Replica {
    /// What is committed, if this node leads and a quorum says so soon.
    pub(super) async fn index_while_followed(&self) -> Option<u64> {
        let own = self.own_id();
        let leading = state_of(&self.raft, move |state| leading(state, own)).await??;
        let asked = {
            let known = self.confirming.others.lock();
            let ids = leading.others.iter().map(|(id, _)| *id);
            let known: Vec<_> = ids
                .map(|id| known.get(&id).copied().unwrap_or_default())
                .collect();
            let silence = self.pace.election_timeout();
            soonest(&known, leading.needed, Instant::now(), silence)?
        };
        let answers = asked.iter().map(|i| {
            let (id, member) = &leading.others[*i];
            self.is_followed_by(*id, member, leading.ballot)
        });
        let all = join_all(answers).await.into_iter().all(|follows| follows);
        all.then_some(leading.committed)
    }

    async fn is_followed_by(&self, id: u64, member: &Member, ballot: Ballot) -> bool {
        let took = {
            let known = self.confirming.others.lock();
            known.get(&id).and_then(|known| known.took)
        };
        let patience = match took {
            Some(took) => (took * PATIENCE_TIMES).max(PATIENCE_MIN),
            None => Duration::from_millis(self.pace.given().heartbeat_ms),
        };
        let began = Instant::now();
        let until = began + patience.min(self.pace.election_timeout());
        let peer = self.peers.peer(member);
        let answer = self.place.timeout_at(until, peer.follows(ballot)).await;
        let now = Instant::now();
        let mut others = self.confirming.others.lock();
        let known = others.entry(id).or_default();
        match answer {
            Ok(Ok(follows)) => {
                *known = Known {
                    took: Some(now - began),
                    silent_at: None,
                };
                follows
            }
            Ok(Err(_)) | Err(_) => {
                known.silent_at = Some(now);
                false
            }
        }
    }

    /// Whether this node has voted for nobody after that ballot, and for it.
    pub(super) fn follows(&self, ballot: Ballot) -> bool {
        let voted = self.log.vote();
        voted.is_some_and(|it| it.term == ballot.term && it.node == u64::from(ballot.node.0))
    }
}

/// Whom to ask, by position: those who answered soonest last time, and first those of whom that is not known.
/// `None`: too few are known to answer.
fn soonest(known: &[Known], needed: usize, now: Instant, silence: Duration) -> Option<Vec<usize>> {
    let is_silent = |known: &Known| known.silent_at.is_some_and(|at| now < at + silence);
    let mut answering: Vec<usize> = (0..known.len())
        .filter(|i| !is_silent(&known[*i]))
        .collect();
    answering.sort_by_key(|i| known[*i].took);
    answering.truncate(needed);
    (answering.len() == needed).then_some(answering)
}

fn leading(state: &RaftState, own: u64) -> Option<Leading> {
    let (ballot, committed) = committed_as_leader(state)?;
    let members = state.membership_state.effective().membership();
    // While members change, two quorums are needed: the consensus sees to that.
    let [voters] = &members.get_joint_config()[..] else {
        return None;
    };
    if !voters.contains(&own) {
        return None;
    }
    let others = voters.iter().filter(|id| **id != own);
    let others = others.map(|id| Some((*id, members.get_node(id)?.member.clone())));
    Some(Leading {
        ballot,
        committed: index_of_id(committed),
        others: others.collect::<Option<_>>()?,
        needed: voters.len() / 2,
    })
}

/// What is committed, if this node leads. Until it has committed something itself, it does not know.
pub(super) fn committed_as_leader(state: &RaftState) -> Option<(Ballot, &RaftLogId)> {
    let own = ballot(state.vote_ref());
    let committed = state.cluster_committed()?;
    let knows = committed.committed_leader_id().term == own.term;
    (state.server_state == ServerState::Leader && knows).then_some((own, committed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(ms: u64) -> Known {
        Known {
            took: Some(Duration::from_millis(ms)),
            silent_at: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_are_asked_who_answer_soonest() {
        let silence = Duration::from_secs(1);
        let began = Instant::now();
        let silent = Known {
            took: Some(Duration::ZERO),
            silent_at: Some(began),
        };
        let unknown = Known::default();
        let at = |known: &[Known], needed| soonest(known, needed, Instant::now(), silence);
        assert_eq!(at(&[took(3), took(2)], 1), Some(vec![1]));
        assert_eq!(at(&[took(3), unknown], 1), Some(vec![1]));
        assert_eq!(at(&[silent, took(9)], 1), Some(vec![1]));
        assert_eq!(at(&[silent, took(9)], 2), None);
        assert_eq!(
            at(&[took(4), silent, took(9), took(5)], 2),
            Some(vec![0, 3])
        );
        assert_eq!(at(&[], 0), Some(vec![]));
        tokio::time::advance(silence).await;
        assert_eq!(at(&[silent, took(9)], 1), Some(vec![0]));
    }
}
