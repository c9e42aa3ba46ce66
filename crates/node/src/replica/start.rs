//! How a replica takes up work: what its log and store say, what its cluster begins with, and
//! what runs from then on.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chronos_env::Env;
use chronos_model::{Hlc, NodeId, SqlState};
use chronos_store::log::{GroupId, Log, LogEntry, LogIndex, Term};
use chronos_store::{MemoryAccount, Store};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::apply::Applier;
use super::checkpoints::Checkpoints;
use super::fault::FaultCell;
use super::intake::Intake;
use super::log_store::LogStore;
use super::machine::{ApplyPlace, Applying, Machine};
use super::network::{Network, NoPeers, Roll};
use super::pace::{Pace, WAITS_IN_TIMEOUT};
use super::payload::{self, Kind};
use super::pending::Pending;
use super::propose::UNDER_WAY_BYTES_MAX;
use super::reads::Reads;
use super::runtime::{paced, Place};
use super::{log_error, upkeep, Raft, Replica};
use crate::cluster::{ClusterOptions, ClusterStart, Membership, Peers, Sabotage, Timing};
use crate::indexes::Indexes;
use crate::Error;

/// Entries of one message to a follower, at most; bytes are limited too.
const MESSAGE_ENTRIES_MAX: u64 = 1_024;
/// Steps of what is committed that wait to be applied; none holds entries.
const APPLY_STEPS_MAX: u64 = 16 * 1_024;
/// Of a node that has nobody to answer to: entries that its consensus writes, syncs and applies itself, so
/// that nobody waits for threads to wake each other. What comes meanwhile shares the next sync, as it would
/// anyway; of larger ones, writing the next is to go on while one is applied.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;
/// A follower's connection is tried again after so long, and up to a second as it goes on.
const BACK_OFF: &str = "50ms 100ms ..1s";

/// What a replica is made of.
pub(crate) struct Start<'a> {
    pub(crate) env: &'a Env,
    pub(crate) data_dir: &'a Path,
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) memory: Arc<MemoryAccount>,
    pub(crate) options: ClusterOptions,
    pub(crate) timing: Timing,
    /// Bytes of log that are kept for nodes that are behind.
    pub(crate) log_keep_bytes: u64,
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) place: Place,
}

/// What else runs once the replica is there.
struct Running {
    intake: Intake,
    raft: Raft,
    applying: Arc<Applying>,
    thread: Option<std::thread::JoinHandle<()>>,
    applied: watch::Receiver<u64>,
    refused: watch::Receiver<u64>,
    checkpoints: Arc<Checkpoints>,
}

/// What parts of a replica share.
struct Shared {
    hlc: Arc<Hlc>,
    node: NodeId,
    pending: Arc<Pending>,
    fault: Arc<FaultCell>,
    alone: Arc<AtomicBool>,
    sending: Arc<Mutex<super::Sending>>,
    pace: Arc<Pace>,
    peers: Arc<dyn Peers>,
    /// Whether there is a way to other nodes at all.
    reaches_others: bool,
}

impl Start<'_> {
    /// Takes up work. A cluster of one leads and has applied its log when this returns; a member
    /// of a larger one may not know a leader yet.
    pub(crate) fn run(self) -> Result<Arc<Replica>, Error> {
        check_log(&self.store, &self.log)?;
        let membership = self.establish_membership()?;
        let number = self.options.member.number;
        // A learner could be let vote.
        let is_alone = membership.voters == [vec![number]] && membership.members.len() == 1;
        let place = Arc::new(self.place);
        let shared = Shared {
            hlc: Arc::new(Hlc::new(self.store.floor())),
            node: NodeId(number.0),
            pending: Pending::new(self.env.random.u64()),
            fault: Arc::new(FaultCell::default()),
            alone: Arc::new(AtomicBool::new(is_alone)),
            sending: Arc::default(),
            pace: Pace::by_clock(
                self.timing,
                !self.options.simulated.keeps_times,
                self.options.simulated.clock_ppm,
            ),
            peers: self.peers.clone().unwrap_or_else(|| Arc::new(NoPeers)),
            reaches_others: self.peers.is_some(),
        };
        let (index_requests, requested) = crate::indexes::requests();
        let (indexes, builder) = Indexes::new(index_requests.clone());
        let start_index = self.log.last().map_or(0, |(_, index)| index.0);
        let running = run(
            &shared,
            &place,
            (self.env, self.data_dir),
            (&self.store, &self.log),
            &self.options,
            index_requests,
        )?;
        let cluster_id = self.options.cluster_id.clone().unwrap_or_default();
        let replica = Arc::new(Replica {
            store: self.store,
            log: self.log,
            indexes,
            env: self.env.clone(),
            hlc: shared.hlc,
            node: shared.node,
            options: self.options,
            pace: shared.pace,
            log_keep_bytes: self.log_keep_bytes,
            cluster_id,
            peers: shared.peers,
            reaches_others: shared.reaches_others,
            place,
            intake: running.intake,
            raft: running.raft,
            pending: shared.pending,
            applying: Mutex::new(Some(running.applying)),
            applied: running.applied,
            apply_thread: Mutex::new(running.thread),
            checkpoints: running.checkpoints,
            sending: shared.sending,
            addresses: super::addresses::Addresses::default(),
            alone: shared.alone,
            reads: Reads::new(start_index),
            confirming: super::confirming::Confirming::default(),
            counts: upkeep::Counts::default(),
            fault: shared.fault,
            closing: AtomicBool::new(false),
            under_way: tokio::sync::Semaphore::new(UNDER_WAY_BYTES_MAX),
            received: Arc::new(super::receiving::Received::new(Arc::clone(&self.memory))),
            memory: self.memory,
            started_nanos: self.env.clock.monotonic_nanos(),
            repairs: super::repair::Repairs::default(),
        });
        upkeep::start(&replica, running.refused);
        super::repair::start(&replica);
        if is_alone && !replica.is_stepped() {
            replica.wait_until_it_leads()?;
        }
        replica.indexes.start(builder, &replica, requested)?;
        Ok(replica)
    }

    /// Who belongs to the cluster, as far as this node knows. If it knows nothing and is to begin
    /// one, that is written as an entry before anybody votes.
    fn establish_membership(&self) -> Result<Membership, Error> {
        if let Some(known) = self.known_membership()? {
            return Ok(known);
        }
        let mut members = match &self.options.start {
            ClusterStart::Alone => vec![self.options.member.clone()],
            ClusterStart::Static(members) => members.clone(),
            ClusterStart::Join => return Ok(Membership::default()),
        };
        // In whatever order they were named: all that begin together write the same bytes.
        members.sort_by_key(|m| m.number);
        let voters: Vec<_> = members.iter().map(|m| m.number).collect();
        let membership = Membership {
            voters: vec![voters],
            members,
            promote: Vec::new(),
        };
        let (term, last) = self.log.last().unwrap_or((Term::FIRST, LogIndex(0)));
        let entry = LogEntry {
            group: GroupId(0),
            term,
            index: last.next(),
            payload: payload::membership(&membership),
        };
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.log.append(vec![entry], move |durable| {
            let _ = sender.send(durable);
        });
        self.log.sync_now().map_err(log_error)?;
        match receiver.recv() {
            Ok(durable) => durable.map_err(log_error)?,
            Err(_) => return Err(super::shutting_down()),
        }
        Ok(membership)
    }

    /// What the end of the log, or else the store, says of members.
    fn known_membership(&self) -> Result<Option<Membership>, Error> {
        let mut known = None;
        if let Some(stored) = self.store.membership() {
            let read = serde_json::from_slice(&stored.bytes);
            known = Some(read.map_err(|e| {
                let message = format!("the store's list of members cannot be read: {e}");
                Error::new(SqlState::DATA_CORRUPTED, message)
            })?);
        }
        let from = self.store.applied_index().next();
        let has_more = self.log.bounds().is_some_and(|(_, last)| last >= from);
        if !has_more {
            return Ok(known);
        }
        let first = self.log.purged().map_or(from, |(_, i)| i.next().max(from));
        for entry in self.log.read(first).map_err(log_error)? {
            let entry = entry.map_err(log_error)?;
            if let Kind::Membership(membership) = payload::kind(&entry.payload)? {
                known = Some(membership);
            }
        }
        Ok(known)
    }
}

/// Errors if the log was removed under the store.
fn check_log(store: &Store, log: &Log) -> Result<(), Error> {
    if log.last().is_none() && store.applied_index() > LogIndex(0) {
        return Err(Error::new(
            SqlState::DATA_CORRUPTED,
            format!(
                "the log has no file, although the store contains its entries up to {}",
                store.applied_index()
            ),
        )
        .with_hint("Its files were removed, and with them acknowledged writes. Restore the data directory as a whole."));
    }
    Ok(())
}

/// For how long voters that have heard a leader keep to it.
pub(super) fn lease(timing: Timing) -> Duration {
    Duration::from_millis(timing.election_timeout_ms * 3 / 5)
}

fn config(
    options: &ClusterOptions,
    timing: Timing,
    reaches_others: bool,
) -> Result<Arc<Config>, Error> {
    let waits_ms = timing.election_timeout_ms / u64::from(WAITS_IN_TIMEOUT);
    let waits_ms = timing.heartbeat_ms.max(waits_ms);
    let config = Config {
        cluster_name: options.cluster_id.clone().unwrap_or_default(),
        // How long an answer to one is waited for. They are sent by `beat`, more often than that.
        heartbeat_interval: waits_ms,
        enable_heartbeat: false,
        // A follower lets a leader's lease run out, then waits for a time between these two. The
        // lease is the second: together a whole timeout, up to a fifth more.
        election_timeout_min: timing.election_timeout_ms * 2 / 5,
        election_timeout_max: lease(timing).as_millis() as u64,
        // A leader that is heard and does not hear falls silent for so long, twice the lease, that
        // others can elect one who does both.
        quorum_loss_probe_interval: Some(2 * (timing.election_timeout_ms * 3 / 5)),
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        // While nothing is applied for a moment, the consensus must not wait.
        state_machine_channel_size: Some(APPLY_STEPS_MAX),
        // The log's length is seen to by `upkeep`.
        snapshot_policy: SnapshotPolicy::Never,
        replication_lag_threshold: u64::MAX,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: Duration::from_secs(24 * 60 * 60).as_millis() as u64,
        enable_pre_vote: Some(true),
        // What a former leader has applied may lag behind what it has acknowledged. And followers
        // may have entries of its term that it had not stored when it ended: if it went on to
        // lead in that term, it would give their places to others.
        enable_leader_restore: Some(false),
        // Followers get entries before this node has synced them. Where there are none, looking out for
        // answers between two proposals would only make batches smaller.
        broadcast_submitted_on_append: Some(reaches_others),
        backoff: BACK_OFF.into(),
        ..Config::default()
    };
    let config = config.validate().map_err(|e| {
        Error::new(
            SqlState::INVALID_PARAMETER,
            format!("times of heartbeats and elections that do not go together: {e}"),
        )
    })?;
    Ok(Arc::new(config))
}

fn run(
    shared: &Shared,
    place: &Arc<Place>,
    (env, data_dir): (&Env, &Path),
    (store, log): (&Store, &Log),
    options: &ClusterOptions,
    index_requests: crossbeam_channel::Sender<chronos_model::TableId>,
) -> Result<Running, Error> {
    let (applied_sender, applied) = watch::channel(store.applied_index().0);
    let (refused_sender, refused) = watch::channel(0);
    let applier = Applier {
        store: store.clone(),
        hlc: Arc::clone(&shared.hlc),
        node: shared.node,
        pending: Arc::clone(&shared.pending),
        fault: Arc::clone(&shared.fault),
        alone: Arc::clone(&shared.alone),
        applied: applied_sender.clone(),
        index_requests,
        refused: refused_sender,
        halt: None,
        again: match options.simulated.sabotage {
            Some(Sabotage::ApplyAgain) => last_write(store, log),
            _ => None,
        },
    };
    let at_once_bytes_max = match shared.reaches_others {
        true => 0,
        false => AT_ONCE_BYTES_MAX,
    };
    let (applying, thread) = applying(applier, place.is_stepped(), at_once_bytes_max)?;
    let after_install = {
        let (store, hlc) = (store.clone(), Arc::clone(&shared.hlc));
        move || {
            hlc.restore(store.floor());
            applied_sender.send_replace(store.applied_index().0);
        }
    };
    let checkpoints = Arc::new(Checkpoints::new(
        env,
        data_dir,
        store.clone(),
        Arc::clone(&shared.pending),
        Box::new(after_install),
    )?);
    let log_store = LogStore {
        log: log.clone(),
        number: options.member.number,
        fault: Arc::clone(&shared.fault),
        pending: Arc::clone(&shared.pending),
        alone: Arc::clone(&shared.alone),
        at_once_bytes_max,
        sabotage: options.simulated.sabotage,
        pace: Arc::clone(&shared.pace),
    };
    let machine = Machine {
        applying: Arc::clone(&applying),
        checkpoints: Arc::clone(&checkpoints),
    };
    let roll = Roll::default();
    let network = Network {
        own: u64::from(shared.node.0),
        peers: Arc::clone(&shared.peers),
        roll: Arc::clone(&roll),
        checkpoints: Arc::clone(&checkpoints),
        sending: Arc::clone(&shared.sending),
        pace: Arc::clone(&shared.pace),
        stepped: place.is_stepped(),
        sabotage: options.simulated.sabotage,
    };
    let config = config(options, shared.pace.given(), shared.reaches_others)?;
    let waits = options.lease_reads && log.vote().is_some();
    let id = u64::from(shared.node.0);
    let pace = Arc::clone(&shared.pace);
    let stepped = place.is_stepped().then(|| log.clone());
    let opened = paced(pace, async move {
        let raft = Raft::new(id, config, network, log_store, machine).await;
        let raft = raft.map_err(|e| {
            Error::new(
                SqlState::IO_ERROR,
                format!("the consensus cannot start: {e}"),
            )
        })?;
        let _ = roll.set(raft.server_metrics());
        // Nor does it vote for itself (see `may_vote`).
        raft.runtime_config().elect(!waits);
        Ok::<_, Error>(raft)
    });
    let raft = place.wait_for(stepping(stepped, opened))??;
    if waits {
        let raft = raft.clone();
        let least = Duration::from_millis(shared.pace.given().election_timeout_ms);
        place.spawn(async move {
            tokio::time::sleep(least).await;
            raft.runtime_config().elect(true);
        });
    }
    let (intake, handing) = Intake::new();
    place.spawn(handing.run(raft.clone()));
    Ok(Running {
        intake,
        raft,
        applying,
        thread,
        applied,
        refused,
        checkpoints,
    })
}

/// The last entry in the store that writes something, if the log still has it.
fn last_write(store: &Store, log: &Log) -> Option<LogEntry> {
    let (first, _) = log.bounds()?;
    let entries = log.read(first).ok()?;
    let applied = entries
        .map_while(Result::ok)
        .take_while(|entry| entry.index <= store.applied_index());
    let writes = |entry: &LogEntry| {
        let header = payload::header(&entry.payload).ok()?;
        let set = payload::write_set(&entry.payload, &header).ok()?;
        Some(!set.changes.is_empty())
    };
    applied
        .filter(|entry| matches!(payload::kind(&entry.payload), Ok(Kind::WriteSet)))
        .filter(|entry| writes(entry) == Some(true))
        .last()
}

/// Where everything is done in steps, takes those of the log that are waited for: the log may have to
/// be cut first, if it ends before what the store contains.
async fn stepping<T>(log: Option<Log>, task: impl Future<Output = T>) -> T {
    let mut task = std::pin::pin!(task);
    std::future::poll_fn(|context| loop {
        if let Poll::Ready(done) = task.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if !log.as_ref().is_some_and(Log::step) {
            return Poll::Pending;
        }
    })
    .await
}

/// Has entries applied on a thread, or at once if everything is done in steps.
fn applying(
    applier: Applier,
    stepped: bool,
    at_once_bytes_max: usize,
) -> Result<(Arc<Applying>, Option<std::thread::JoinHandle<()>>), Error> {
    if stepped {
        let inline = ApplyPlace::Inline(Box::new(Mutex::new(applier)));
        return Ok((Arc::new(Applying::new(inline)), None));
    }
    // Whose turn it is waits for what it has sent, so there is one at a time.
    let (sender, work) = crossbeam_channel::unbounded();
    let applier = Arc::new(Mutex::new(applier));
    let applied_on = Arc::clone(&applier);
    let thread = std::thread::Builder::new()
        .name("apply".into())
        .spawn(move || Applier::run(&applied_on, &work))
        .map_err(|e| {
            Error::new(
                SqlState::INTERNAL,
                format!("cannot start the apply thread: {e}"),
            )
        })?;
    let applying = Applying::new(ApplyPlace::Thread {
        applier,
        work: sender,
        at_once_bytes_max,
    });
    Ok((Arc::new(applying), Some(thread)))
}

impl Replica {
    /// Of a cluster of one: waits until it leads and has applied what was in its log, or until
    /// it turns out that it cannot write.
    fn wait_until_it_leads(&self) -> Result<(), Error> {
        let raft = self.raft.clone();
        let fault = Arc::clone(&self.fault);
        let own = self.own_id();
        self.place.wait_for(async move {
            // What is in the log is this node's own: there is nobody to wait for.
            let _ = raft.trigger().elect(false).await;
            let mut metrics = raft.metrics();
            loop {
                {
                    let now = metrics.borrow_and_update();
                    let leads = now.current_leader == Some(own);
                    let last = now.last_log_index;
                    let caught_up = now.last_applied.as_ref().map(|id| id.index()) >= last;
                    if (leads && caught_up) || now.running_state.is_err() {
                        return;
                    }
                }
                if fault.get().is_some() || metrics.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}
