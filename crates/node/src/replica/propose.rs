//! A write set's way to the leader, and back as an outcome.
//!
//! A proposal goes to the leader of one term. If it turns out that the leader did not take it, or
//! that it was lost with its leader, it is proposed anew: it is certain then that it was not
//! applied. If nothing can be found out in time, the client is told so (08007).

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chronos_model::{Author, SqlState, WriteSet};
use chronos_store::log::LogEntry;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::payload;
use super::pending::{Committal, Resolution, Ticket};
use super::types::{log_index, position, Proposal};
use super::{renewed, shutting_down, Replica};
use crate::cluster::{Member, NodeNumber, PeerError, ProposeReply, Sabotage};
use crate::Error;

/// Bytes of proposals that wait to be applied, of one node, at most; beyond, proposing waits.
pub(super) const UNDER_WAY_BYTES_MAX: usize = 64 << 20;
/// Election timeouts that a statement waits for a leader.
const LEADER_WAITS: u32 = 10;
/// And that it waits for the outcome of what it has proposed.
const OUTCOME_WAITS: u32 = 20;
/// At least so long, each.
const LEAST_WAIT: Duration = Duration::from_secs(5);

/// Who leads, as far as is known here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lead {
    pub(super) node: u64,
    pub(super) term: u64,
    pub(super) member: Option<Member>,
}

/// What became of handing a proposal over.
enum Handed {
    /// The leader has it, or may have it: the outcome comes by applying.
    Sent,
    /// Nobody took it.
    NotTaken,
    /// Nobody will.
    Refused(Error),
    Resolved(Resolution),
}

impl Replica {
    /// Commits a write set: returns after it is durable on a quorum and applied here. What the
    /// set itself takes in memory is for the caller to have reserved; its form in the log is
    /// reserved here. `user`: who makes it, if it is not the node by itself.
    ///
    /// Errors: a precondition does not hold (23505, 40001), there is no memory for it (53200), the
    /// node cannot write any more, no leader is known (57P03), or it cannot be found out
    /// whether it was committed (08007).
    pub(crate) async fn propose(
        &self,
        set: WriteSet,
        user: Option<&str>,
    ) -> Result<Committal, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        let mut held = self.write_memory();
        held.try_grow(set.memory_bytes() as u64)?;
        let author = Author {
            node: self.node,
            user: user.map(|user| payload::shortened(user).into()),
        };
        let mut payload = payload::encode(&set, &author, 0)?;
        if payload.len() as u64 > LogEntry::PAYLOAD_BYTES_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT,
                "the transaction is larger than 1 GiB",
            )
            .with_hint("Split it, or COPY in several steps."));
        }
        let mut prepared = self
            .store
            .prepare(set, &self.store.catalog())
            .map_err(|e| super::describe(e, &self.store))?;
        if let Some(fault) = self.fault() {
            return Err(fault.error());
        }
        self.store.check_writable(&prepared)?;
        let _room = self.room(payload.len()).await;
        let (mut ticket, mut resolution) = self.pending.enter(prepared)?;
        payload::renumber(&mut payload, ticket.request());
        payload::stamp(&mut payload, self.next_stamp());
        let mut payload = Bytes::from(payload);
        loop {
            match self.resolve(&ticket, &payload, resolution).await? {
                Resolution::Outcome(result) => return result,
                Resolution::Unknown(error) => return Err(error),
                Resolution::Lost(set) => prepared = set,
            }
            (ticket, resolution) = self.pending.enter(prepared)?;
            payload = renewed(&payload, ticket.request(), self.next_stamp());
        }
    }

    /// Holds back proposals while too much is under way.
    async fn room(&self, bytes: usize) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let permits = bytes.clamp(1, UNDER_WAY_BYTES_MAX) as u32;
        // The semaphore is never closed.
        self.under_way.acquire_many(permits).await.ok()
    }

    /// Hands a proposal to leaders until one takes it, and waits for what becomes of it.
    async fn resolve(
        &self,
        ticket: &Ticket,
        payload: &Bytes,
        mut resolution: oneshot::Receiver<Resolution>,
    ) -> Result<Resolution, Error> {
        let deadline = Instant::now() + self.wait_at_most(LEADER_WAITS);
        loop {
            let lead = self.lead(deadline).await?;
            let handed = match ticket.send_in(lead.term) {
                true => self.hand_over(&lead, payload, &mut resolution).await,
                // What is applied is of a later term than what is known of leaders.
                false => Handed::NotTaken,
            };
            match handed {
                Handed::Resolved(resolution) => return Ok(resolution),
                Handed::Refused(error) => return Err(error),
                Handed::Sent => return self.outcome(resolution).await,
                Handed::NotTaken => {
                    ticket.not_sent();
                    self.next_lead(&lead, deadline).await?;
                }
            }
        }
    }

    async fn hand_over(
        &self,
        lead: &Lead,
        payload: &Bytes,
        resolution: &mut oneshot::Receiver<Resolution>,
    ) -> Handed {
        if lead.node == self.own_id() {
            return self.hand_to_self(lead, payload, resolution).await;
        }
        let Some(member) = &lead.member else {
            return Handed::NotTaken;
        };
        let peer = self.peers.peer(member);
        let proposed = peer.propose(lead.term, payload.clone());
        tokio::select! {
            biased;
            resolved = resolution => resolution_of(resolved),
            reply = proposed => match reply {
                Ok(ProposeReply::Appended(_)) => Handed::Sent,
                Ok(ProposeReply::NotLeader(_)) => Handed::NotTaken,
                Err(PeerError::Refused(reason)) => Handed::Refused(Error::new(
                    SqlState::CANNOT_CONNECT_NOW,
                    format!("the leader refuses this node: {reason}"),
                )),
                Err(_) if self.makes(Sabotage::ProposeAgain) => Handed::Refused(Error::new(
                    SqlState::SERIALIZATION_FAILURE,
                    "it was not committed; or so it is said here",
                )),
                // It may have arrived.
                Err(error) => {
                    tracing::debug!(%error, "the leader did not answer to a proposal");
                    Handed::Sent
                }
            },
        }
    }

    async fn hand_to_self(
        &self,
        lead: &Lead,
        payload: &Bytes,
        resolution: &mut oneshot::Receiver<Resolution>,
    ) -> Handed {
        let answer = self.intake.hand(Proposal(payload.clone()), lead.term);
        tokio::select! {
            biased;
            resolved = resolution => resolution_of(resolved),
            answer = answer => match answer {
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Handed::NotTaken,
                // Applied, or discarded by a later leader.
                Ok(_) => Handed::Sent,
                // Others may have it.
                Err(_) if !self.is_alone() => {
                    let why = self.ended(&"it gave no answer").message;
                    Handed::Refused(Error::unknown_outcome(why))
                }
                Err(_) => Handed::Refused(self.ended(&"it gave no answer")),
            },
        }
    }

    /// Waits for the outcome of what was handed over.
    async fn outcome(
        &self,
        resolution: oneshot::Receiver<Resolution>,
    ) -> Result<Resolution, Error> {
        let unknown =
            || Error::unknown_outcome("the leader was lost and no other was found in time");
        let resolved = match self.is_alone() {
            // Nobody else can decide.
            true => Ok(resolution.await),
            false => {
                self.place
                    .timeout_at(
                        Instant::now() + self.wait_at_most(OUTCOME_WAITS),
                        resolution,
                    )
                    .await
            }
        };
        match resolved {
            Ok(Ok(resolution)) => Ok(resolution),
            Ok(Err(_)) | Err(_) => Err(unknown()),
        }
    }

    /// Takes a proposal from another node. Returns when it is committed here.
    pub(super) async fn take_proposal(
        &self,
        term: u64,
        payload: Bytes,
    ) -> Result<ProposeReply, PeerError> {
        let readable = matches!(payload::kind(&payload), Ok(payload::Kind::WriteSet))
            && payload::header(&payload).is_ok();
        if !readable {
            return Err(PeerError::Refused("a proposal that is no write set".into()));
        }
        if self.closing.load(Ordering::Acquire) {
            return Ok(ProposeReply::NotLeader(None));
        }
        match self.intake.hand(Proposal(payload), term).await {
            Ok(Ok(response)) => Ok(ProposeReply::Appended(position(&response.log_id))),
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => Ok(ProposeReply::NotLeader(
                to.leader_id.map(|id| NodeNumber(id as u32)),
            )),
            Ok(Err(error)) => Err(PeerError::Failed(error.to_string())),
            // It may have been appended before the consensus ended.
            Err(_) => Err(PeerError::Failed("the leader has ended".into())),
        }
    }

    /// The consensus does not run any more: why.
    pub(super) fn ended(&self, fatal: &impl std::fmt::Display) -> Error {
        match self.fault() {
            Some(fault) => fault.error(),
            None => {
                tracing::debug!(%fatal, "the consensus has ended");
                shutting_down()
            }
        }
    }

    pub(super) fn wait_at_most(&self, elections: u32) -> Duration {
        (self.pace.election_timeout() * elections).max(LEAST_WAIT)
    }

    /// Who leads, once that is known.
    ///
    /// Errors: nobody does for too long (57P03).
    pub(super) async fn lead(&self, deadline: Instant) -> Result<Lead, Error> {
        if let Some(lead) = self.known_lead() {
            return Ok(lead);
        }
        let mut metrics = self.raft.server_metrics();
        loop {
            metrics.borrow_and_update();
            if let Some(lead) = self.known_lead() {
                return Ok(lead);
            }
            if let Some(fault) = self.fault() {
                return Err(fault.error());
            }
            match self.place.timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.ended(&"its metrics have ended")),
                Err(_) => return Err(Error::no_leader()),
            }
        }
    }

    pub(super) fn known_lead(&self) -> Option<Lead> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.current_leader?;
        let member = metrics.membership_config.get_node(&node);
        Some(Lead {
            node,
            term: metrics.vote.leader_id.term,
            member: member.map(|n| n.member.clone()),
        })
    }

    /// Waits for another leader than one that does not take proposals, or for it to begin to.
    ///
    /// Errors: the consensus has ended, or nobody can be found for too long (57P03).
    pub(super) async fn next_lead(&self, last: &Lead, deadline: Instant) -> Result<(), Error> {
        if Instant::now() >= deadline {
            return Err(Error::no_leader());
        }
        let pause = Duration::from_millis(self.pace.given().heartbeat_ms.clamp(5, 100));
        let until = (Instant::now() + pause).min(deadline);
        let mut metrics = self.raft.server_metrics();
        loop {
            metrics.borrow_and_update();
            if self.known_lead().is_some_and(|lead| lead != *last) {
                return Ok(());
            }
            match self.place.timeout_at(until, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.ended(&"its metrics have ended")),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits until an entry is applied here.
    pub(super) async fn applied(&self, index: u64, deadline: Instant) -> Result<(), Error> {
        let mut applied = self.applied.clone();
        if *applied.borrow() >= index {
            return Ok(());
        }
        let there = async {
            tokio::select! {
                biased;
                there = applied.wait_for(|last| *last >= index) => there.is_ok(),
                () = self.repairs.stopped() => false,
            }
        };
        match self.place.timeout_at(deadline, there).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(shutting_down()),
            Err(_) => Err(Error::new(
                SqlState::CANNOT_CONNECT_NOW,
                "this node is too far behind the leader to answer now",
            )
            .with_hint("Retry, or read what is here: SET chronos.read_consistency = 'stale'.")),
        }
    }
}

fn resolution_of(resolved: Result<Resolution, oneshot::error::RecvError>) -> Handed {
    match resolved {
        Ok(resolution) => Handed::Resolved(resolution),
        Err(_) => Handed::Refused(shutting_down()),
    }
}

/// The log's index of what the library's index is.
pub(super) fn index_of(raft_index: u64) -> u64 {
    log_index(raft_index).0
}
