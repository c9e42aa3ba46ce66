//! The replica: proposes write sets, has the cluster agree on their order, applies them in that
//! order, answers the proposer.
//!
//! ```text
//! session --propose--> leader's consensus --entries--> log thread (write, fsync)  here
//!                             |        `---entries---> followers' logs            there
//!                             v committed: a quorum has it
//!         <--Resolution-- apply (preconditions, memtable), on every node
//! ```
//!
//! One node is a cluster of one, and takes the same way. A session proposes on the node to which
//! it is connected; the entry names that node, and its apply answers, so that whoever wrote reads
//! what he wrote there.
//!
//! | module | owns |
//! |---|---|
//! | `types`, `runtime` | the consensus library's types in our words; the thread that it runs on |
//! | `log_store`, `machine`, `network`, `ending` | log, store and other nodes as the library sees them |
//! | `service`, `receiving` | this node as others see it; how much of what they send it has in memory |
//! | `payload` | the bytes of an entry |
//! | `propose`, `intake`, `pending` | a write set's way to the leader, and who waits for it |
//! | `apply`, `describe` | entries' way to the store |
//! | `reads` | what has to be applied before a read |
//! | `checkpoints`, `pushing` | the store of one node brought to another |
//! | `repair` | a damaged store that gets another one's place |
//! | `pace`, `beat` | by how much longer than given the consensus waits, as links and disks demand; heartbeats |
//! | `membership`, `upkeep` | who belongs to the cluster; what a leader sees to |
//! | `log_length` | how much of the log is kept |
//! | `fault` | why a node writes no more |
//!
//! Nothing outside of this module names the consensus library.

mod addresses;
mod apply;
mod beat;
mod checkpoints;
mod confirming;
mod describe;
mod ending;
mod fault;
mod intake;
mod log_length;
mod log_store;
mod machine;
mod membership;
mod network;
mod pace;
mod payload;
mod pending;
mod propose;
mod pushing;
mod reads;
mod receiving;
mod repair;
mod runtime;
mod service;
mod start;
mod types;
mod upkeep;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use chronos_env::Env;
use chronos_model::{Hlc, Key, NodeId, SqlState, Stamp};
use chronos_store::log::Log;
use chronos_store::{MemoryAccount, MemoryClass, Reservation, Store};
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use describe::describe;
pub(crate) use fault::{log_error, Fault};
pub(crate) use payload::check as check_payload;
pub(crate) use pending::Committal;
pub(crate) use runtime::{block_on, Place};
pub(crate) use start::Start;

use checkpoints::Checkpoints;
use fault::FaultCell;
use machine::{Applying, Machine};
use pace::Pace;
use pending::Pending;
use reads::Reads;
use types::{vote, Types};

use crate::cluster::{Ballot, ClusterOptions, Peer, PeerError, Peers, Sabotage, TransferStatus};
use crate::indexes::Indexes;
use crate::Error;

/// The consensus.
pub(crate) type Raft = openraft::Raft<Types, Machine>;

/// One node's replica of the database.
pub(crate) struct Replica {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) indexes: Indexes,
    env: Env,
    hlc: Arc<Hlc>,
    node: NodeId,
    options: ClusterOptions,
    pace: Arc<Pace>,
    /// Files of the log of a cluster of more than one are kept up to so many bytes for nodes that
    /// are behind; those further behind get a checkpoint.
    log_keep_bytes: u64,
    cluster_id: String,
    peers: Arc<dyn Peers>,
    /// Whether there is a way to other nodes.
    reaches_others: bool,
    place: Arc<Place>,
    raft: Raft,
    intake: intake::Intake,
    pending: Arc<Pending>,
    applying: Mutex<Option<Arc<Applying>>>,
    applied: watch::Receiver<u64>,
    apply_thread: Mutex<Option<JoinHandle<()>>>,
    checkpoints: Arc<Checkpoints>,
    sending: Arc<Mutex<Sending>>,
    /// Where clients reach members.
    addresses: addresses::Addresses,
    /// Whether no other node can ever have led or voted since this one was opened.
    alone: Arc<AtomicBool>,
    reads: Reads,
    confirming: confirming::Confirming,
    counts: upkeep::Counts,
    fault: Arc<FaultCell>,
    closing: AtomicBool,
    /// What is left for proposals that wait to be applied, in bytes.
    under_way: tokio::sync::Semaphore,
    memory: Arc<MemoryAccount>,
    started_nanos: u64,
    repairs: repair::Repairs,
    received: Arc<receiving::Received>,
}

/// Checkpoints on their way to others.
#[derive(Default)]
pub(crate) struct Sending(BTreeMap<u64, TransferStatus>);

impl Sending {
    fn note(&mut self, to: u64, bytes: u64, bytes_total: u64) {
        self.0.insert(to, TransferStatus { bytes, bytes_total });
    }

    fn end(&mut self, to: u64) {
        self.0.remove(&to);
    }

    fn to(&self, to: u64) -> Option<TransferStatus> {
        self.0.get(&to).cloned()
    }
}

impl Replica {
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    fn checkpoints(&self) -> &Arc<Checkpoints> {
        &self.checkpoints
    }

    pub(crate) fn is_stepped(&self) -> bool {
        self.place.is_stepped()
    }

    /// Whether this node makes a mistake, so that a simulation can find it.
    fn makes(&self, mistake: Sabotage) -> bool {
        self.options.simulated.sabotage == Some(mistake)
    }

    /// Whether this node is the whole cluster.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    fn own_id(&self) -> u64 {
        u64::from(self.node.0)
    }

    /// The receiving side of calls between nodes.
    pub(crate) fn peer_service(self: &Arc<Self>) -> Arc<dyn Peer> {
        Arc::new(service::Service {
            replica: Arc::downgrade(self),
        })
    }

    /// A leader that answers by its lease relies on nobody voting meanwhile; a node that has just
    /// started does not know whom it promised.
    fn may_vote(&self) -> Result<(), PeerError> {
        let up = self.env.clock.monotonic_nanos() - self.started_nanos;
        // A leader relies on its lease at the pace that was given only.
        let least = Duration::from_millis(self.pace.given().election_timeout_ms);
        if self.options.lease_reads && Duration::from_nanos(up) < least {
            return Err(PeerError::Failed("it has just started".into()));
        }
        Ok(())
    }

    /// What this node voted for, if that is later than what somebody claims.
    fn ballot_above(&self, claimed: Ballot) -> Option<Ballot> {
        let own = self.raft.metrics().borrow_watched().vote;
        (own > vote(claimed)).then(|| types::ballot(&own))
    }

    /// Waits until every commit with a stamp up to `now_micros` is applied or refused, and
    /// sees to it that no later one gets such a stamp: a view that is taken then shows the
    /// past up to this instant as it will be for ever.
    ///
    /// Errors: there is no leader.
    pub(crate) async fn settle(&self, now_micros: i64) -> Result<(), Error> {
        let last = Stamp::last_of_micros(now_micros);
        self.hlc.restore(last);
        self.pending.drained().await;
        if self.is_alone() || self.store.floor() >= last {
            return Ok(());
        }
        // Whatever is recorded after this entry is later, on whichever node it is proposed.
        let set = chronos_model::WriteSet {
            begin: Stamp::MAX,
            changes: Vec::new(),
        };
        self.propose(set, None).await.map(drop)
    }

    /// An empty reservation for rows and changes on their way.
    pub(crate) fn write_memory(&self) -> Reservation {
        self.memory.reservation(MemoryClass::Writes, "a write")
    }

    /// Keys for rows of tables without one, before they are committed.
    pub(crate) fn hidden_keys(&self) -> HiddenKeys {
        HiddenKeys {
            stamp: self.next_stamp(),
            node: self.node,
        }
    }

    /// A stamp that no other write of this node has.
    fn next_stamp(&self) -> Stamp {
        self.hlc.next(self.env.clock.now_micros())
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let known = self.fault.get();
        known.or_else(|| self.store.stopped().map(Fault::of_store))
    }

    /// Takes no more proposals, lets another node lead, finishes what is under way, flushes and
    /// closes.
    pub(crate) fn close(&self) -> Result<(), Error> {
        if self.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.repairs.stop();
        if !self.is_stepped() {
            let _ = self.place.wait_for(self.winding_down());
        }
        let logged = self.log.sync_now();
        self.indexes.stop();
        let raft = self.raft.clone();
        if self.is_stepped() {
            // Whoever steps runs what is left of it.
            self.place.spawn(async move {
                let _ = raft.shutdown().await;
            });
        } else {
            let _ = self.place.wait_for(async move {
                let _ = raft.shutdown().await;
            });
        }
        let closed = self.log.close();
        self.pending.close(&shutting_down());
        drop(self.applying.lock().take());
        self.place.end();
        if let Some(thread) = self.apply_thread.lock().take() {
            let _ = thread.join();
        }
        let stored = match self.fault() {
            None => self.store.flush_now(),
            Some(_) => Ok(()),
        };
        self.store.close();
        self.indexes.join();
        logged.and(closed).map_err(log_error)?;
        stored.map_err(Error::from)
    }

    /// Lets another node lead, and gives what was proposed a moment to be resolved.
    pub(crate) fn winding_down(&self) -> impl Future<Output = ()> + Send + 'static {
        let is_well = self.fault().is_none();
        let handing_over = (is_well && !self.is_alone()).then(|| self.handing_over());
        let pending = Arc::clone(&self.pending);
        let most = 2 * self.pace.election_timeout();
        async move {
            if let Some(handing_over) = handing_over.flatten() {
                handing_over.await;
            }
            if is_well {
                let _ = tokio::time::timeout(most, pending.drained()).await;
            }
        }
    }
}

/// Hidden keys that nobody else gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HiddenKeys {
    stamp: Stamp,
    /// Another node may give the same stamp.
    node: NodeId,
}

impl HiddenKeys {
    /// The key of a row, by its position among those that get their keys together.
    pub(crate) fn key(self, position: u64) -> Key {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&self.stamp.0.to_be_bytes());
        bytes.extend_from_slice(&((u64::from(self.node.0) << 32) + position).to_be_bytes());
        Key(bytes.into())
    }
}

/// 57P01: the node ends.
fn shutting_down() -> Error {
    Error::new(SqlState::ADMIN_SHUTDOWN, "the node is shutting down")
}

/// An encoded write set with another number and stamp.
fn renewed(payload: &Bytes, request: u64, recorded: Stamp) -> Bytes {
    let mut payload = payload.to_vec();
    payload::renumber(&mut payload, request);
    payload::stamp(&mut payload, recorded);
    payload.into()
}
