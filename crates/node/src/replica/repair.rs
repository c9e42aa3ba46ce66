//! A member whose files are damaged takes over another member's store.
//!
//! ```text
//!   damaged node                                   another member
//!     "send me what you have"  ------------------>   flushes, links files
//!     receives; goes on applying  <------- parts --  sends them
//!     holds entries back
//!     "send me what contains <last entry>"  ----->   flushes, links files
//!     receives what is new  <------------- parts --  sends what is not there yet
//!     waits until it knows all of it to be committed
//!     store retired, directory replaced, reopened
//!     goes on with the entry behind it
//! ```
//!
//! Single files cannot be fetched: members flush and compact on their own, so no file of one is
//! another's (docs/decisions/0068). The first transfer is long and stops nothing; the second one
//! is short, and holds back entries so that what arrives is not behind what is here. Entries that
//! are contained in it and handed out later are passed over.
//!
//! [`BackOff`] decides when it is tried; one repair is under way at a time.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chronos_store::log::LogIndex;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::checkpoints::Checkpoints;
use super::network::run;
use super::pushing::{Push, Pushed};
use super::types::index_of_id;
use super::Replica;
use crate::cluster::{
    Ballot, CheckpointOffer, CheckpointRequest, Member, NodeNumber, Peer, PeerError, RepairStatus,
};

/// How often damage is looked for among what was found.
const EVERY: Duration = Duration::from_secs(1);
/// Between one attempt and the next, the first time; twice as long each time.
const PAUSE_FIRST: Duration = Duration::from_secs(60);
/// And at most.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// Entries are held back for so long at most, while what is new is received.
const HOLD_MOST: Duration = Duration::from_secs(10);
/// Transfers from one member, each of what was new since the one before, until one fits in.
const ROUNDS_MAX: u32 = 5;
/// A transfer of which nothing more comes for so long is given up, or for up to twice as long.
const STALL: Duration = Duration::from_secs(120);
/// The asked member may have to apply so long to contain what is wanted.
const CATCH_UP_MOST: Duration = Duration::from_secs(5);

/// What a replica knows of repairs.
pub(super) struct Repairs {
    /// Set when the node ends.
    ends: watch::Sender<bool>,
    /// Held while this node sends its store to a damaged one.
    giving: tokio::sync::Mutex<()>,
    status: Mutex<RepairStatus>,
}

impl Default for Repairs {
    fn default() -> Repairs {
        Repairs {
            ends: watch::channel(false).0,
            giving: tokio::sync::Mutex::default(),
            status: Mutex::default(),
        }
    }
}

impl Repairs {
    /// Gives up what is under way.
    pub(super) fn stop(&self) {
        self.ends.send_replace(true);
    }

    /// Returns when the node ends.
    pub(super) async fn stopped(&self) {
        let mut ends = self.ends.subscribe();
        // The sender is as old as this.
        let _ = ends.wait_for(|ends| *ends).await;
    }
}

/// When a repair is tried: at once, and then with growing pauses, whether it failed or damage was
/// found again. Times are since any moment.
#[derive(Debug, Default)]
struct BackOff {
    attempts: u32,
    last: Duration,
}

impl BackOff {
    fn pause(&self) -> Duration {
        match self.attempts {
            0 => Duration::ZERO,
            n => (PAUSE_FIRST * (1 << (n - 1).min(16))).min(PAUSE_MAX),
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        now >= self.last + self.pause()
    }

    /// One is tried now.
    fn note(&mut self, now: Duration) {
        // Nothing was wrong for long: this is something else.
        if now >= self.last + self.pause() + PAUSE_MAX {
            self.attempts = 0;
        }
        self.attempts += 1;
        self.last = now;
    }
}

/// Starts looking after damaged files.
pub(super) fn start(replica: &Arc<Replica>) {
    replica.place.spawn(look(Arc::downgrade(replica)));
}

/// Runs until the replica is gone.
async fn look(replica: Weak<Replica>) {
    let mut back_off = BackOff::default();
    let mut arrived = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(replica) = replica.upgrade() else {
            return;
        };
        if replica.closing.load(Ordering::Acquire) {
            return;
        }
        // The leader sends one, which mends as well.
        let before = std::mem::replace(&mut arrived, replica.checkpoints.arrived());
        let is_on_its_way = arrived != before;
        let now = Duration::from_nanos(replica.env.clock.monotonic_nanos());
        if !is_on_its_way && back_off.is_due(now) && replica.can_be_repaired() {
            back_off.note(now);
            tokio::select! {
                biased;
                () = replica.repairs.stopped() => return,
                () = replica.repair() => {}
            }
            arrived = replica.checkpoints.arrived();
        }
    }
}

impl Replica {
    /// How far a repair is, and how many there were.
    pub(super) fn repair_status(&self) -> RepairStatus {
        RepairStatus {
            damaged_files: self.store.damage().len() as u64,
            ..self.repairs.status.lock().clone()
        }
    }

    /// Whether files are damaged, and there may be somebody who has them.
    fn can_be_repaired(&self) -> bool {
        let is_damaged = self.fault.damage().is_some() || !self.store.damage().is_empty();
        let is_member = !self.is_alone() && self.reaches_others && self.known_lead().is_some();
        is_damaged && is_member && self.fault.is_mendable() && self.store.stopped().is_none()
    }

    async fn repair(&self) {
        let files = self.store.damage();
        let tables: Vec<&str> = files.iter().map(|damage| &*damage.table).collect();
        tracing::warn!(
            files = files.len(),
            ?tables,
            "files are damaged: other members are asked for theirs"
        );
        for member in self.others() {
            self.repairs.status.lock().from = Some(member.number);
            let mended = self.repair_from(&member).await;
            self.checkpoints.expect(None);
            self.repairs.status.lock().from = None;
            match mended {
                Ok(index) => {
                    self.repairs.status.lock().done += 1;
                    tracing::warn!(
                        from = member.name,
                        index = index.0,
                        "the damaged files are replaced: the store is that of another member"
                    );
                    return;
                }
                Err(reason) => {
                    tracing::warn!(from = member.name, reason, "damaged files are not replaced");
                }
            }
        }
    }

    /// The other members; the leader last, who has most to do.
    fn others(&self) -> Vec<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.nodes();
        let others = nodes.filter(|(id, _)| **id != self.own_id());
        let mut others: Vec<_> = others
            .map(|(id, node)| (metrics.current_leader == Some(*id), *id, &node.member))
            .collect();
        others.sort_by_key(|(leads, id, _)| (*leads, *id));
        let members = others.into_iter().map(|(_, _, member)| member.clone());
        members.collect()
    }

    /// Takes over a member's store. Gives the last entry that is in it.
    async fn repair_from(&self, member: &Member) -> Result<LogIndex, String> {
        let peer = self.peers.peer(member);
        for _ in 0..ROUNDS_MAX {
            self.ask(&*peer, self.store.applied_index()).await?;
            if self.leads() {
                // Statements of all nodes would wait for what is held back.
                let reply = self.transfer(None).await;
                tracing::info!(
                    ?reply,
                    "another node is to lead while entries are held back"
                );
            }
            let applying = self.applying.lock().clone();
            let applying = applying.ok_or("the node ends")?;
            let held = applying.hold().await;
            let at_least = held.handed_out().max(self.store.applied_index());
            let until = Instant::now() + HOLD_MOST;
            let all = self.ask_for_all(&*peer, at_least);
            let Ok(all) = self.place.timeout_at(until, all).await else {
                tracing::info!(
                    from = member.name,
                    "too much is new to hold back entries until it is here"
                );
                continue;
            };
            let (id, index) = all?;
            let checkpoints = Arc::clone(&self.checkpoints);
            let incoming = run(self.is_stepped(), move || checkpoints.complete(&id)).await;
            let incoming = incoming.map_err(|e| e.to_string())?;
            let checkpoints = Arc::clone(&self.checkpoints);
            let install = Box::new(move || checkpoints.install(&incoming));
            let installed = held.install(install).await;
            return installed.map(|()| index).map_err(|e| e.to_string());
        }
        Err("more is written all the time than is received".into())
    }

    /// Asks for a checkpoint that contains an entry, and waits until it is here. What an earlier
    /// one has left is not sent again.
    async fn ask(&self, peer: &dyn Peer, at_least: LogIndex) -> Result<(String, LogIndex), String> {
        let number = NonZeroU64::new(self.env.random.u64()).unwrap_or(NonZeroU64::MIN);
        self.checkpoints.expect(Some(number));
        let request = CheckpointRequest {
            node: NodeNumber(self.node.0),
            at_least,
            number,
        };
        let id = tokio::select! {
            biased;
            id = peer.request_checkpoint(request) => id.map_err(|e| e.to_string())?,
            () = stalled(&self.checkpoints) => return Err("nothing more comes".into()),
        };
        let contains = self.checkpoints.contains(&id);
        let index = contains.ok_or("another checkpoint has come in between")?;
        match index >= at_least {
            true => Ok((id, index)),
            false => Err(format!("it ends at the entry {index}, before {at_least}")),
        }
    }

    /// The same, and waits until this node knows everything in it to be committed: the consensus
    /// here must not be behind the store.
    async fn ask_for_all(
        &self,
        peer: &dyn Peer,
        at_least: LogIndex,
    ) -> Result<(String, LogIndex), String> {
        let (id, index) = self.ask(peer, at_least).await?;
        let mut metrics = self.raft.metrics();
        loop {
            let committed = {
                let now = metrics.borrow_and_update();
                now.local_committed.as_ref().map_or(0, index_of_id)
            };
            if committed >= index.0 {
                return Ok((id, index));
            }
            if metrics.changed().await.is_err() {
                return Err("the consensus has ended".into());
            }
        }
    }

    /// Sends what this node has to a damaged one. Gives the checkpoint's id when it is there.
    pub(super) async fn give(&self, request: CheckpointRequest) -> Result<String, PeerError> {
        let target = u64::from(request.node.0);
        let refused = |reason: &str| PeerError::Failed(reason.to_owned());
        let member = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let node = metrics.membership_config.get_node(&target);
            node.map(|node| node.member.clone())
        };
        let member = member.ok_or_else(|| refused("it knows no such member"))?;
        let one = self.repairs.giving.try_lock();
        let _one = one.map_err(|_| refused("it sends its store to somebody already"))?;
        if let Some(fault) = self.fault() {
            return Err(PeerError::Failed(fault.reason));
        }
        let deadline = Instant::now() + CATCH_UP_MOST;
        let there = self.applied(request.at_least.0, deadline).await;
        there.map_err(|_| refused("it has not applied as much"))?;
        let (checkpoints, stepped) = (Arc::clone(&self.checkpoints), self.is_stepped());
        let made = run(stepped, move || checkpoints.make(stepped)).await;
        let push = Push {
            target,
            peer: self.peers.peer(&member),
            sending: Arc::clone(&self.sending),
            stepped: self.is_stepped(),
        };
        let offer = CheckpointOffer {
            ballot: Ballot::default(),
            asked: Some(request.number),
            ..CheckpointOffer::default()
        };
        let made = made.map_err(|e| PeerError::Failed(e.message))?;
        match push.push(made, offer).await? {
            Pushed::There(offer) => Ok(offer.id),
            Pushed::HigherBallot(_) => Err(refused("it was not taken")),
        }
    }
}

/// Returns when nothing more has come of a checkpoint for a while.
async fn stalled(checkpoints: &Checkpoints) {
    let mut before = checkpoints.arrived();
    loop {
        tokio::time::sleep(STALL).await;
        let now = checkpoints.arrived();
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_a_long_time_without_damage_ends_them() {
        let mut back_off = BackOff::default();
        let mut now = Duration::from_secs(7);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(back_off.is_due(now));
            back_off.note(now);
            assert!(!back_off.is_due(now + back_off.pause() - Duration::from_nanos(1)));
            pauses.push(back_off.pause().as_secs() / 60);
            now += back_off.pause();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        // Damage that is found again within the hour is the same trouble.
        now += PAUSE_MAX - Duration::from_secs(1);
        back_off.note(now);
        assert_eq!(back_off.pause(), PAUSE_MAX);
        now += 2 * PAUSE_MAX;
        back_off.note(now);
        assert_eq!(back_off.pause(), PAUSE_FIRST);
    }
}
