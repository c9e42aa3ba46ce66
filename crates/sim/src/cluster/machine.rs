//! A simulated machine: a disk and a clock that outlive the processes on it, and the process that runs there now.

use std::sync::Arc;
use std::time::Duration;

use chronos_env::{Env, SimDisk, SimRandom};
use chronos_node::cluster::{
    ClusterOptions, ClusterStart, ConsensusRuntime, Member, NodeNumber, OnWork, Peers, Sabotage,
    Simulated, Timing,
};
use chronos_node::{Node, NodeOptions, NoteTransactions, Profile};

use tokio::sync::Notify;

use super::call::SimPeers;
use super::clock::MachineClock;
use super::network::Network;
use super::process::{Process, ProcessDisk, Syncs};
use super::trace::{note, Trace};

const DATA_DIR: &str = "/data";
const CLUSTER_ID: &str = "simulated";
pub(super) const HEARTBEAT_MS: u64 = 100;
pub(super) const ELECTION_TIMEOUT_MS: u64 = 400;
/// A write and its sync take so long, in microseconds; one of a hundred takes much longer.
const SYNC_MICROS: (u64, u64) = (100, 800);
const SLOW_SYNC_MICROS_MAX: u64 = 60_000;
/// Between two looks at what is to be flushed and compacted, in milliseconds.
const MAINTENANCE_MILLIS: (u64, u64) = (20, 400);
const LOG_FILE_BYTES: u64 = 32 << 10;

/// How all nodes of a run are opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) syncs: Syncs,
    pub(super) lease_reads: bool,
    pub(super) sabotage: Option<Sabotage>,
    /// Bytes of the log that are kept for nodes that are behind.
    pub(super) log_keep_bytes: u64,
    /// And for how long.
    pub(super) log_keep_for: Duration,
    /// Whether nodes do not adapt the times of heartbeats and elections.
    pub(super) keeps_times: bool,
    pub(super) disks: Disks,
}

/// How long disks take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disks {
    Fast,
    /// Milliseconds of a write and its sync, from .. to.
    Slow(u64, u64),
}

/// A machine.
pub(super) struct Machine {
    member: Member,
    start: ClusterStart,
    habits: Habits,
    disk: SimDisk,
    clock: Arc<MachineClock>,
    random: SimRandom,
    generation: u32,
    running: Option<(Node, Process)>,
}

impl Machine {
    /// A machine with an empty disk, on which nothing runs.
    pub(super) fn new(
        member: Member,
        start: ClusterStart,
        habits: Habits,
        clock: MachineClock,
        seed: u64,
    ) -> Machine {
        let random = SimRandom::new(seed);
        Machine {
            member,
            start,
            habits,
            disk: SimDisk::new(random.below(u64::MAX)),
            clock: Arc::new(clock),
            random,
            generation: 0,
            running: None,
        }
    }

    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    pub(super) fn number(&self) -> NodeNumber {
        self.member.number
    }

    pub(super) fn clock(&self) -> &MachineClock {
        &self.clock
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The node and its process, if it runs.
    pub(super) fn running(&self) -> Option<(Node, Process)> {
        self.running.clone()
    }

    /// Starts the node. It may fail to, when its disk does.
    pub(super) fn start(&mut self, network: &Network, trace: &Trace) -> bool {
        if self.running.is_some() {
            return true;
        }
        self.generation += 1;
        let process = Process::start(self.number(), self.generation);
        let env = Env {
            clock: self.clock.clone(),
            disk: Arc::new(ProcessDisk::new(
                self.disk.clone(),
                process.clone(),
                self.habits.syncs,
            )),
            random: Arc::new(SimRandom::new(self.random.below(u64::MAX))),
        };
        let peers: Arc<dyn Peers> = Arc::new(SimPeers {
            process: process.clone(),
            network: network.clone(),
        });
        let work = Arc::new(Notify::new());
        let on_log_work: OnWork = {
            let work = Arc::clone(&work);
            Arc::new(move || work.notify_one())
        };
        match Node::open_with_peers(env, &self.options(on_log_work), Some(peers)) {
            Ok(node) => {
                note!(trace, "{process:?} starts");
                let random = || SimRandom::new(self.random.below(u64::MAX));
                let disks = self.habits.disks;
                let writes = write_log(node.clone(), process.clone(), work, random(), disks);
                tokio::spawn(writes);
                tokio::spawn(maintain(node.clone(), process.clone(), random()));
                network.attach(&process, node.cluster().service());
                self.running = Some((node, process));
                true
            }
            Err(error) => {
                note!(trace, "{process:?} does not start: {error}");
                process.kill();
                false
            }
        }
    }

    fn options(&self, on_log_work: OnWork) -> NodeOptions {
        NodeOptions {
            profile: Some(Profile::Potato),
            transactions: Some(NoteTransactions::Off),
            cluster: ClusterOptions {
                member: self.member.clone(),
                start: self.start.clone(),
                cluster_id: Some(CLUSTER_ID.into()),
                timing: Some(Timing {
                    heartbeat_ms: HEARTBEAT_MS,
                    election_timeout_ms: ELECTION_TIMEOUT_MS,
                }),
                lease_reads: self.habits.lease_reads,
                log_keep_for: self.habits.log_keep_for,
                runtime: ConsensusRuntime::Ambient {
                    seed: self.random.below(u64::MAX),
                },
                on_log_work: Some(on_log_work),
                simulated: Simulated {
                    log_file_bytes: Some(LOG_FILE_BYTES),
                    log_keep_bytes: Some(self.habits.log_keep_bytes),
                    keeps_times: self.habits.keeps_times,
                    clock_ppm: self.clock.rate_ppm(),
                    sabotage: self.habits.sabotage,
                },
            },
            ..NodeOptions::new(DATA_DIR)
        }
    }

    /// Ends the process. What it wrote stays, whether or not it was synced.
    pub(super) fn kill(&mut self, network: &Network) {
        let Some((node, process)) = self.running.take() else {
            return;
        };
        process.kill();
        network.detach(process.number);
        // Its tasks end; they cannot write any more.
        let _ = node.close();
    }

    /// Cuts the power: the process ends, and of what was not synced anything may be lost.
    pub(super) fn cut_power(&mut self, network: &Network) {
        self.kill(network);
        self.disk = self.disk.restart(self.random.below(u64::MAX));
    }
}

/// Does what the log's thread does: writes and syncs what has gathered, a while after there is something.
async fn write_log(
    node: Node,
    process: Process,
    work: Arc<Notify>,
    random: SimRandom,
    disks: Disks,
) {
    loop {
        tokio::select! {
            biased;
            () = process.killed() => return,
            () = work.notified() => {}
        }
        let (least, most) = SYNC_MICROS;
        let micros = match (disks, random.below(100)) {
            (Disks::Slow(least, most), _) => (least + random.below(most - least)) * 1_000,
            (Disks::Fast, 0) => random.below(SLOW_SYNC_MICROS_MAX),
            (Disks::Fast, _) => least + random.below(most - least),
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
        while node.step_log() {}
    }
}

/// Does what the store's threads do: flushes what is full, and compacts.
async fn maintain(node: Node, process: Process, random: SimRandom) {
    loop {
        let (least, most) = MAINTENANCE_MILLIS;
        let millis = least + random.below(most - least);
        tokio::select! {
            biased;
            () = process.killed() => return,
            () = tokio::time::sleep(Duration::from_millis(millis)) => {}
        }
        // A full disk, for example. It is tried again.
        let _ = node.maintain();
    }
}
