//! Who belongs to the cluster: told, and changed by whoever leads.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use chronos_model::SqlState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::Instant as _;
use openraft::{ChangeMembers, RaftMetrics, ServerState};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::types::{index_of_id, RaftMembership, RaftNode, Types};
use super::Replica;
use crate::cluster::{
    AdminReply, AdminRequest, ClusterStatus, FollowerStatus, Introduction, Member, MemberStatus,
    NodeNumber, NodeRole, PeerError,
};
use crate::Error;

/// Election timeouts that a change waits for a leader.
const ADMIN_WAITS: u32 = 20;
/// And that one to be committed may take.
const CHANGE_WAITS: u32 = 40;
/// And that a leader may be silent: the longest that a follower waits before it wants to be elected.
const SILENCE_TIMES: u32 = 2;

type Changes = ChangeMembers<u64, RaftNode>;

impl Replica {
    /// The cluster at this moment, as this node sees it.
    pub(crate) fn cluster_status(&self) -> ClusterStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let leader = metrics
            .current_leader
            .filter(|_| self.is_in_touch(&metrics));
        let leads = leader == Some(self.own_id());
        let leading = leader.and_then(|id| membership.get_node(&id));
        let last_index = metrics.last_log_index.map_or(0, super::propose::index_of);
        let index = |id: &Option<super::types::RaftLogId>| id.as_ref().map_or(0, index_of_id);
        let applied_index = *self.applied.borrow();
        ClusterStatus {
            node_id: self.options.member.name.clone(),
            number: NodeNumber(self.node.0),
            cluster_id: self.cluster_id.clone(),
            role: match metrics.state {
                ServerState::Leader if !leads => role_name(ServerState::Follower),
                state => role_name(state),
            }
            .into(),
            term: metrics.vote.leader_id.term,
            leader: leader.map(|id| NodeNumber(id as u32)),
            leader_id: leading.map(|node| node.member.name.clone()),
            leader_address: leading.map(|node| node.member.address.clone()),
            last_index,
            // Who has just begun to lead does not know it yet; what is applied was committed.
            committed_index: index(&metrics.cluster_committed).max(applied_index),
            applied_index,
            purged_index: index(&metrics.purged),
            checkpoint_index: self.store.flushed_index().0,
            members: self.members_in(&metrics, leads),
            changing: is_joint(membership),
            elections: self.counts.elections(),
            terms_led: self.counts.terms_led(),
            quorum_acked_ms: metrics
                .last_quorum_acked
                .as_ref()
                .filter(|_| metrics.state == ServerState::Leader)
                .map(|at| at.elapsed().as_millis() as u64),
            receiving: self.checkpoints.receiving(),
            repair: self.repair_status(),
            election_timeout_ms: self.pace.election_timeout().as_millis() as u64,
            heartbeat_ms: self.pace.given().heartbeat_ms,
        }
    }

    /// The members, with how far each is if this node leads.
    fn members_in(&self, metrics: &RaftMetrics<Types>, leads: bool) -> Vec<MemberStatus> {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let last_index = metrics.last_log_index.map_or(0, super::propose::index_of);
        let members = membership.nodes().map(|(id, node)| {
            let matched = metrics.replication.as_ref().and_then(|r| r.get(id));
            let heard = metrics.heartbeat.as_ref().and_then(|h| h.get(id));
            let heard = heard.and_then(Option::as_ref);
            let matched_index = matched.and_then(Option::as_ref).map_or(0, index_of_id);
            MemberStatus {
                id: node.member.name.clone(),
                number: node.member.number,
                address: node.member.address.clone(),
                clients: match *id == self.own_id() {
                    true => self.addresses.own(),
                    false => self.addresses.of(*id),
                },
                role: match voters.contains(id) {
                    true => NodeRole::Voter,
                    false => NodeRole::Learner,
                },
                progress: (leads && *id != self.own_id()).then(|| FollowerStatus {
                    matched_index,
                    lag_entries: last_index.saturating_sub(matched_index),
                    heard_ms: heard.map(|at| at.elapsed().as_millis() as u64),
                    round_trip_ms: round_trip_ms(self.pace.round_trip(*id)),
                    sending: self.sending.lock().to(*id),
                }),
            }
        });
        members.collect()
    }

    /// Whether the leader of whom the consensus knows shows signs of being there: to itself, that a
    /// quorum answers. The consensus holds on to a leader until there is another, which there may not
    /// be without a quorum, and knows it again when the node starts.
    fn is_in_touch(&self, metrics: &RaftMetrics<Types>) -> bool {
        let own = self.own_id();
        let silence = match metrics.current_leader == Some(own) {
            true => {
                let mut voters = metrics.membership_config.voter_ids();
                let has_others = voters.any(|id| id != own);
                let acked = metrics.last_quorum_acked.as_ref();
                // A quorum has just elected whom none has answered yet.
                let acked = acked.filter(|_| has_others).map(|at| at.elapsed());
                Some(acked.unwrap_or_default())
            }
            false => self.pace.silence_in(metrics.vote.leader_id.term),
        };
        silence.is_some_and(|silence| silence <= SILENCE_TIMES * self.pace.election_timeout())
    }

    /// What is told to a node that may not belong here yet.
    pub(super) fn introduction(&self) -> Introduction {
        Introduction {
            cluster_id: self.cluster_id.clone(),
            leader: self.known_lead().and_then(|lead| lead.member),
            addresses: self.addresses.own(),
        }
    }

    /// Has the leader do something. Returns when it is committed.
    pub(crate) async fn administer(&self, request: AdminRequest) -> Result<(), Error> {
        let deadline = Instant::now() + self.wait_at_most(ADMIN_WAITS);
        loop {
            let lead = self.lead(deadline).await?;
            let reply = match &lead.member {
                Some(member) if lead.node != self.own_id() => {
                    self.peers.peer(member).admin(request.clone()).await
                }
                _ => self.administer_here(request.clone()).await,
            };
            let reply = reply.map_err(|error| not_done(&error))?;
            match reply {
                AdminReply::Done => return Ok(()),
                AdminReply::Refused(reason) => {
                    return Err(Error::new(SqlState::OBJECT_NOT_IN_STATE, reason))
                }
                AdminReply::NotLeader(_) if Instant::now() < deadline => {
                    self.next_lead(&lead, deadline).await?;
                }
                AdminReply::NotLeader(_) => return Err(Error::no_leader()),
            }
        }
    }

    /// Does it, if this node leads.
    ///
    /// Errors: it was begun, and there is no quorum for it in time; it takes effect when there is.
    pub(super) async fn administer_here(
        &self,
        request: AdminRequest,
    ) -> Result<AdminReply, PeerError> {
        let most = self.wait_at_most(CHANGE_WAITS);
        let done = self.change(request);
        let done = self.place.timeout_at(Instant::now() + most, done).await;
        done.map_err(|_| PeerError::TimedOut(most.as_millis() as u64))
    }

    async fn change(&self, request: AdminRequest) -> AdminReply {
        match request {
            AdminRequest::AddLearner {
                member,
                auto_promote,
            } => self.add_learner(member, auto_promote).await,
            AdminRequest::ChangeMembership { voters, remove } => {
                let voters: BTreeSet<u64> = voters.iter().map(|n| u64::from(n.0)).collect();
                if let Some(unknown) = voters.iter().find(|id| !self.is_member(**id)) {
                    return AdminReply::Refused(format!(
                        "node {unknown} is no member yet; add it as a learner first"
                    ));
                }
                self.replace_voters(voters, !remove).await
            }
            AdminRequest::Remove { node } => self.remove(u64::from(node.0)).await,
            AdminRequest::TransferLeader { to } => self.transfer(to.map(|n| u64::from(n.0))).await,
        }
    }

    async fn replace_voters(&self, voters: BTreeSet<u64>, retain: bool) -> AdminReply {
        let kept = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            kept_promises(metrics.membership_config.membership(), &voters)
        };
        let replaced = Changes::ReplaceAllVoters(voters);
        let changes = match kept.is_empty() {
            true => replaced,
            false => Changes::Batch(vec![Changes::SetNodes(kept), replaced]),
        };
        self.change_members(changes, retain).await
    }

    fn is_member(&self, id: u64) -> bool {
        let metrics = self.raft.server_metrics();
        let known = metrics
            .borrow_watched()
            .membership_config
            .get_node(&id)
            .is_some();
        known
    }

    fn is_voter(&self, id: u64) -> bool {
        let metrics = self.raft.server_metrics();
        let voters: BTreeSet<u64> = metrics
            .borrow_watched()
            .membership_config
            .voter_ids()
            .collect();
        voters.contains(&id)
    }

    async fn add_learner(&self, member: Member, auto_promote: bool) -> AdminReply {
        let id = u64::from(member.number.0);
        if !self.reaches_others {
            return AdminReply::Refused(format!(
                "this node was started by itself and reaches no others; start it as chronos node --id {}",
                self.options.member.name
            ));
        }
        let (known, there) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let members = metrics.membership_config.membership();
            let mut others = members.nodes().filter(|(other, _)| **other != id);
            let there = others.find(|(_, other)| other.member.address == member.address);
            let there = there.map(|(_, other)| other.member.name.clone());
            (members.get_node(&id).cloned(), there)
        };
        if let Some(there) = there {
            return AdminReply::Refused(format!(
                "{} is the address of the member \"{there}\"",
                member.address
            ));
        }
        if let Some(known) = &known {
            if known.member.name != member.name {
                return AdminReply::Refused(format!(
                    "the number {id} belongs to the member \"{}\"; number the new node differently at the end of its name",
                    known.member.name
                ));
            }
        }
        let node = RaftNode {
            promote: auto_promote && !self.is_voter(id),
            member,
        };
        if known.as_ref() == Some(&node) {
            return AdminReply::Done;
        }
        let nodes = BTreeMap::from([(id, node)]);
        let change = match known {
            Some(_) => Changes::SetNodes(nodes),
            None => Changes::AddNodes(nodes),
        };
        self.change_members(change, true).await
    }

    async fn remove(&self, id: u64) -> AdminReply {
        if !self.is_member(id) {
            return AdminReply::Refused(format!("node {id} is no member"));
        }
        if self.is_voter(id) {
            return self
                .change_members(Changes::RemoveVoters(BTreeSet::from([id])), false)
                .await;
        }
        self.change_members(Changes::RemoveNodes(BTreeSet::from([id])), false)
            .await
    }

    /// Lets learners that have caught up vote, or changes members in any other way. It takes two
    /// entries if voters change: the second one follows also if nobody waits for it any more.
    pub(super) async fn change_members(&self, changes: Changes, retain: bool) -> AdminReply {
        let (sender, changed) = oneshot::channel();
        let raft = self.raft.clone();
        self.place.spawn(async move {
            let _ = sender.send(raft.change_membership(changes, retain).await);
        });
        match changed.await {
            Ok(Ok(_)) => AdminReply::Done,
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                AdminReply::NotLeader(to.leader_id.map(|id| NodeNumber(id as u32)))
            }
            Ok(Err(error)) => AdminReply::Refused(error.to_string()),
            Err(_) => AdminReply::Refused(super::shutting_down().message),
        }
    }

    /// Completes a change of voters that an earlier leader has left halfway. One of this term is
    /// completed by who began it.
    pub(super) async fn complete_change(&self) {
        let is_left = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let members = &metrics.membership_config;
            let begun = members.log_id().as_ref();
            let begun = begun.map_or(0, |id| id.committed_leader_id().term);
            metrics.state == ServerState::Leader
                && is_joint(members.membership())
                && begun < metrics.vote.leader_id.term
        };
        if is_left {
            let nobody = Changes::AddVoterIds(BTreeSet::new());
            let reply = self.change_members(nobody, true).await;
            tracing::info!(
                ?reply,
                "a change of voters that was left halfway is completed"
            );
        }
    }

    pub(super) async fn transfer(&self, to: Option<u64>) -> AdminReply {
        let own = self.own_id();
        let Some(lead) = self.known_lead().filter(|lead| lead.node == own) else {
            return AdminReply::NotLeader(self.known_lead().map(|l| NodeNumber(l.node as u32)));
        };
        let to = match to {
            Some(to) if to == own => return AdminReply::Done,
            Some(to) if !self.is_voter(to) => {
                return AdminReply::Refused(format!("node {to} is no voter, so it cannot lead"))
            }
            Some(to) => to,
            None => match self.furthest_voter() {
                Some(to) => to,
                None => return AdminReply::Refused("there is no other voter".into()),
            },
        };
        let deadline = Instant::now() + 4 * self.pace.election_timeout();
        if self.raft.trigger().transfer_leader(to).await.is_err() {
            return AdminReply::NotLeader(None);
        }
        let mut metrics = self.raft.server_metrics();
        loop {
            metrics.borrow_and_update();
            if self.known_lead().is_some_and(|now| now != lead) {
                return AdminReply::Done;
            }
            let changed = self.place.timeout_at(deadline, metrics.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return AdminReply::Refused(format!(
                    "node {to} did not take over in time; is it running and near the end of the log?"
                ));
            }
        }
    }

    /// The voter other than this one that has most of the log.
    pub(super) fn furthest_voter(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let replication = metrics.replication.as_ref()?;
        let others = replication
            .iter()
            .filter(|(id, _)| **id != self.own_id() && voters.contains(id));
        others
            .max_by_key(|(_, matched)| **matched)
            .map(|(id, _)| *id)
    }

    /// Lets another node lead, for a little while at most; `None` if this one does not.
    pub(super) fn handing_over(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let own = self.own_id();
        let leads = self.known_lead().is_some_and(|lead| lead.node == own);
        let to = leads.then(|| self.furthest_voter()).flatten()?;
        let raft = self.raft.clone();
        let most = 2 * self.pace.election_timeout();
        Some(async move {
            let mut metrics = raft.server_metrics();
            if raft.trigger().transfer_leader(to).await.is_err() {
                return;
            }
            let moved = async {
                let moved = |leader: Option<u64>| leader.is_some_and(|id| id != own);
                while !moved(metrics.borrow_and_update().current_leader) {
                    if metrics.changed().await.is_err() {
                        break;
                    }
                }
            };
            if tokio::time::timeout(most, moved).await.is_err() {
                tracing::warn!(to, "the other node did not take over in time");
            }
        })
    }
}

/// Whether two sets of voters must agree.
fn is_joint(members: &RaftMembership) -> bool {
    members.get_joint_config().len() > 1
}

/// The members that were to vote once they had caught up, and do so or are told to now: that is over,
/// and who loses the vote later does not get it back by it.
fn kept_promises(members: &RaftMembership, voters: &BTreeSet<u64>) -> BTreeMap<u64, RaftNode> {
    let vote: BTreeSet<u64> = members.voter_ids().collect();
    let kept = |id: &u64| vote.contains(id) || voters.contains(id);
    let promised = members.nodes().filter(|(_, node)| node.promote);
    let kept = promised.filter(|(id, _)| kept(id)).map(|(id, node)| {
        let node = RaftNode {
            promote: false,
            ..node.clone()
        };
        (*id, node)
    });
    kept.collect()
}

/// In milliseconds, to the microsecond.
fn round_trip_ms(measured: Option<Duration>) -> Option<f64> {
    measured.map(|trip| trip.as_micros() as f64 / 1e3)
}

fn role_name(state: ServerState) -> &'static str {
    match state {
        ServerState::Learner => "learner",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Leader => "leader",
        ServerState::Shutdown => "stopped",
    }
}

fn not_done(error: &PeerError) -> Error {
    if let PeerError::Refused(reason) = error {
        let message = format!("the leader was not asked: {reason}");
        return Error::new(SqlState::OBJECT_NOT_IN_STATE, message);
    }
    Error::new(
        SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        format!(
            "it is unknown whether the change takes place: the leader has not done it yet: {error}"
        ),
    )
    .with_hint("Ask for the members, then repeat it if needed: that does no harm.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_to_vote_is_over_when_it_is_kept() {
        let node = |id: u64, promote| {
            let member = Member::new(&format!("n{id}"), "a:1").unwrap();
            (id, RaftNode { member, promote })
        };
        let nodes = [(1, false), (2, true), (3, true), (4, true), (5, false)];
        let nodes: BTreeMap<u64, RaftNode> = nodes.map(|(id, promote)| node(id, promote)).into();
        let voters = BTreeSet::from([1, 2]);
        let members = RaftMembership::new(vec![voters], nodes).unwrap();
        // 2 votes and is not to any more, 3 is told to, 4 still has to catch up.
        let kept = kept_promises(&members, &BTreeSet::from([1, 3]));
        assert_eq!(kept, BTreeMap::from([node(2, false), node(3, false)]));
    }
}
