//! A leader's heartbeats, and with each of them a look at how fast the consensus may be.
//!
//! They are as frequent as was given, whatever the pace: a follower hears soon how long it is to
//! wait, and of what was committed. There is one under way to each follower at a time, so that a
//! slow link carries no more of them than it can.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::ServerState;

use super::pace::{Change, Circumstances};
use super::Replica;

/// The consensus as far as heartbeats ask.
struct Seen {
    term: u64,
    leads: bool,
    voters: Vec<BTreeSet<u64>>,
    has_others: bool,
}

/// Runs until the replica is gone.
pub(super) async fn beat(replica: Weak<Replica>) {
    loop {
        let Some(strong) = replica.upgrade() else {
            return;
        };
        if strong.closing.load(Ordering::Acquire) {
            return;
        }
        strong.beat_once().await;
        let every = Duration::from_millis(strong.pace.given().heartbeat_ms);
        drop(strong);
        tokio::time::sleep(every).await;
    }
}

impl Replica {
    async fn beat_once(self: &Arc<Self>) {
        let seen = self.seen();
        if !seen.has_others {
            return;
        }
        let change = self.pace.judge(&Circumstances {
            own: self.own_id(),
            term: seen.term,
            leads: seen.leads,
            voters: &seen.voters,
        });
        if let Some(change) = change {
            self.tell(&change, seen.leads);
        }
        if seen.leads {
            // An error is the end of the consensus, which others notice.
            let _ = self.raft.trigger().heartbeat().await;
        }
    }

    fn seen(&self) -> Seen {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let has_others = membership.nodes().nth(1).is_some();
        Seen {
            term: metrics.vote.leader_id.term,
            leads: metrics.state == ServerState::Leader,
            voters: membership.get_joint_config().clone(),
            has_others,
        }
    }

    fn tell(&self, change: &Change, leads: bool) {
        let election_timeout_ms = self.pace.election_timeout().as_millis() as u64;
        let (to, round_trip, longest) = change.trip.unwrap_or_default();
        let to = self.name_of(to);
        let sync = change.sync.unwrap_or_default();
        let why = match change.is_told {
            true => "as the leader says",
            false if !change.is_slower => "links and disks have been faster for a while",
            false if change.trip.is_none() && change.sync.is_none() && leads => {
                "as under the leader before"
            }
            false => "a link or a disk is slow",
        };
        tracing::info!(
            election_timeout_ms,
            to,
            ?round_trip,
            round_trip_longest = ?longest,
            sync = ?sync.0,
            sync_longest = ?sync.1,
            "elections wait {} than before: {why}",
            if change.is_slower { "longer" } else { "less" },
        );
    }

    fn name_of(&self, id: u64) -> Option<String> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.membership_config.get_node(&id)?;
        Some(node.member.name.clone())
    }
}
