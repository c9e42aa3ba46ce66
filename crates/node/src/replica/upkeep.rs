//! What goes on by itself: the log is cut, what is of no use any more is removed, learners that have
//! caught up are let vote, changes of voters come to their end, and changes of leaders are noted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::Instant as _;
use openraft::{ChangeMembers, ServerState};
use tokio::sync::watch;

use super::log_length::{cut_upto, Ages, Keep, Length};
use super::network::run;
use super::types::{index_of_id, raft_index};
use super::Replica;
use crate::Error;
use chronos_model::SqlState;
use chronos_store::log::LogIndex;

/// How often the log's length is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// What was received of a checkpoint is kept for so long after nothing more came.
const KEEP_RECEIVED: Duration = Duration::from_secs(60 * 60);
/// Who has not answered for so long is not there.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// A learner votes once it is no further behind than this.
const PROMOTE_LAG_MAX: u64 = 1_000;

/// What was counted since the node was opened.
#[derive(Default)]
pub(super) struct Counts {
    elections: AtomicU64,
    terms_led: AtomicU64,
}

impl Counts {
    pub(super) fn elections(&self) -> u64 {
        self.elections.load(Ordering::Relaxed)
    }

    pub(super) fn terms_led(&self) -> u64 {
        self.terms_led.load(Ordering::Relaxed)
    }
}

/// Runs until the replica is gone.
pub(super) async fn watch_leaders(replica: Weak<Replica>) {
    let Some(strong) = replica.upgrade() else {
        return;
    };
    let mut metrics = strong.raft.server_metrics();
    let own = strong.own_id();
    drop(strong);
    let mut last = (ServerState::Learner, None);
    let mut was_member = false;
    loop {
        let (now, is_member) = {
            let metrics = metrics.borrow_and_update();
            let is_member = metrics.membership_config.get_node(&own).is_some();
            ((metrics.state, metrics.current_leader), is_member)
        };
        if was_member && !is_member {
            tracing::warn!("this node is no member of the cluster any more; it can be stopped");
        }
        was_member = is_member;
        let Some(replica) = replica.upgrade() else {
            return;
        };
        if now != last {
            replica.note_lead(last, now);
            last = now;
        }
        drop(replica);
        if metrics.changed().await.is_err() {
            break;
        }
    }
    if let Some(replica) = replica.upgrade() {
        replica.note_end();
    }
}

/// Runs until the replica is gone.
pub(super) async fn cut_logs(replica: Weak<Replica>, mut refused: watch::Receiver<u64>) {
    let mut installed = 0;
    let mut ages = Ages::default();
    let mut received = (0, 0);
    loop {
        let noticed = tokio::time::timeout(EVERY, refused.changed()).await;
        let Some(replica) = replica.upgrade() else {
            return;
        };
        if replica.closing.load(Ordering::Acquire) {
            return;
        }
        let must_forget = matches!(noticed, Ok(Ok(())));
        replica.cut_log(must_forget, &mut ages).await;
        replica.discard_received(&mut received).await;
        if replica.checkpoints.installed() != installed {
            installed = replica.checkpoints.installed();
            replica.indexes.look_again();
        }
    }
}

/// Runs until the replica is gone.
pub(super) async fn watch_members(replica: Weak<Replica>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(replica) = replica.upgrade() else {
            return;
        };
        if replica.closing.load(Ordering::Acquire) {
            return;
        }
        replica.complete_change().await;
        replica.promote_learners().await;
    }
}

impl Replica {
    /// The consensus has ended. If nobody has closed the node, that is a fault: nothing is written any
    /// more, and it must not look as if all were well.
    fn note_end(&self) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        let ended = self.raft.metrics().borrow_watched().running_state.clone();
        let why = ended
            .err()
            .map_or_else(String::new, |fatal| format!(": {fatal}"));
        let error = Error::new(SqlState::INTERNAL, format!("the consensus has ended{why}"));
        self.fault
            .stop(&error, "the consensus has ended; nothing more is written");
    }

    fn note_lead(
        &self,
        (state, leader): (ServerState, Option<u64>),
        (state_now, leader_now): (ServerState, Option<u64>),
    ) {
        if state_now == ServerState::Candidate && state != ServerState::Candidate {
            self.counts.elections.fetch_add(1, Ordering::Relaxed);
        }
        if state_now == ServerState::Leader && state != ServerState::Leader {
            self.counts.terms_led.fetch_add(1, Ordering::Relaxed);
            self.indexes.look_again();
        }
        if self.is_alone() || leader == leader_now {
            return;
        }
        let lead = self.known_lead();
        match lead.as_ref().and_then(|lead| lead.member.as_ref()) {
            Some(member) => {
                let term = lead.as_ref().map_or(0, |lead| lead.term);
                let is_own = leader_now == Some(self.own_id());
                match is_own || self.pace.silence_in(term).is_some() {
                    true => tracing::info!(leader = member.name, term, "a leader was elected"),
                    // It stands in the vote on disk; nobody was heard of yet.
                    false => tracing::info!(
                        leader = member.name,
                        term,
                        "a leader is known from before this start; it was not heard yet"
                    ),
                }
            }
            None => tracing::info!("there is no leader"),
        }
    }

    /// Lets go of entries that no node is likely to need.
    async fn cut_log(&self, must_forget: bool, ages: &mut Ages) {
        let Some((first, last)) = self.log.bounds() else {
            return;
        };
        let keep = self.log_keep();
        let old = ages.look(self.env.clock.monotonic_nanos(), last, keep.age);
        let upto = if self.is_alone() || must_forget {
            self.store.flushed_index()
        } else {
            let length = Length {
                first,
                last,
                bytes: self.log.stats().file_bytes,
            };
            let Some(upto) = cut_upto(length, old, keep, self.followed()) else {
                return;
            };
            // Small transactions fill the log, and rare ones grow old, long before they fill memory.
            if self.store.flushed_index() < upto && !self.flush_to_cut().await {
                return;
            }
            self.store.flushed_index().min(upto)
        };
        // What is not handed out to be applied yet is read from the log, whatever the store has.
        let upto = upto.min(self.handed_out());
        let purged = self.log.purged().map_or(LogIndex(0), |(_, index)| index);
        if upto <= purged || upto < first {
            return;
        }
        // The library lets go of nothing that is not in what it calls a snapshot, and of
        // nothing that a follower is being sent.
        let _ = self.raft.trigger().snapshot().await;
        let _ = self.raft.trigger().purge_log(raft_index(upto)).await;
    }

    /// The last entry that all followers have that answer; `None`: this node does not lead, or there
    /// are none.
    fn followed(&self) -> Option<LogIndex> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (replication, heard) = (metrics.replication.as_ref()?, metrics.heartbeat.as_ref()?);
        let answers = |id: &u64| {
            let heard = heard.get(id).and_then(Option::as_ref);
            heard.is_some_and(|at| at.elapsed() < ANSWERED_WITHIN)
        };
        let followers = replication.iter().filter(|(id, _)| **id != self.own_id());
        let followers = followers.filter(|(id, _)| answers(id));
        let matched = followers.map(|(_, matched)| matched.as_ref().map_or(0, index_of_id));
        matched.min().map(LogIndex)
    }

    /// Makes room if nobody goes on with what was sent here. `seen`: the bytes that had arrived when
    /// something was seen to last, and when that was.
    async fn discard_received(&self, seen: &mut (u64, u64)) {
        let now = self.env.clock.monotonic_nanos();
        let arrived = self.checkpoints.arrived();
        if arrived != seen.0 || seen.1 == 0 {
            *seen = (arrived, now.max(1));
        }
        if Duration::from_nanos(now.saturating_sub(seen.1)) < KEEP_RECEIVED {
            return;
        }
        seen.1 = now;
        let checkpoints = Arc::clone(&self.checkpoints);
        let discarded = run(self.is_stepped(), move || checkpoints.discard()).await;
        if let Err(error) = discarded {
            tracing::warn!(%error, "what was received of a checkpoint cannot be removed");
        }
    }

    fn log_keep(&self) -> Keep {
        let bytes = self.options.simulated.log_keep_bytes;
        Keep {
            bytes: bytes.unwrap_or(self.log_keep_bytes),
            age: self.options.log_keep_for,
        }
    }

    /// Flushes, so that the log can be cut. Whether it did.
    async fn flush_to_cut(&self) -> bool {
        if self.fault().is_some() {
            return false;
        }
        let store = self.store.clone();
        let flushed = run(self.is_stepped(), move || store.flush_now()).await;
        if let Err(error) = &flushed {
            tracing::warn!(%error, "the log cannot be cut");
        }
        flushed.is_ok()
    }

    /// The last entry that was handed out to be applied.
    fn handed_out(&self) -> LogIndex {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        LogIndex(metrics.last_applied.as_ref().map_or(0, index_of_id))
    }

    async fn promote_learners(&self) {
        let ready: Vec<u64> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            if metrics.state != ServerState::Leader {
                return;
            }
            let Some(replication) = &metrics.replication else {
                return;
            };
            let membership = metrics.membership_config.membership();
            let last = metrics.last_log_index.map_or(0, super::propose::index_of);
            let learners = membership.learner_ids();
            let learners = learners.filter(|id| membership.get_node(id).is_some_and(|n| n.promote));
            learners
                .filter(|id| {
                    let matched = replication.get(id).and_then(Option::as_ref);
                    matched.is_some_and(|m| index_of_id(m) + PROMOTE_LAG_MAX >= last)
                })
                .collect()
        };
        if ready.is_empty() {
            return;
        }
        let voters = ready.iter().copied().collect();
        let reply = self
            .change_members(ChangeMembers::AddVoterIds(voters), true)
            .await;
        tracing::info!(nodes = ?ready, ?reply, "nodes that have caught up vote from now on");
    }
}

/// Starts what goes on by itself.
pub(super) fn start(replica: &Arc<Replica>, refused: watch::Receiver<u64>) {
    replica.place.spawn(watch_leaders(Arc::downgrade(replica)));
    replica
        .place
        .spawn(cut_logs(Arc::downgrade(replica), refused));
    replica.place.spawn(watch_members(Arc::downgrade(replica)));
    replica
        .place
        .spawn(super::beat::beat(Arc::downgrade(replica)));
}
