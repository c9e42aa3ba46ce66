//! A cluster over links that are slower than its heartbeats, on slow disks, where nothing else goes wrong: nobody
//! may lose the lead. And one where that is so for a single node, which must not be felt.

use std::sync::Arc;
use std::time::Duration;

use chronos_node::cluster::{ClusterStatus, NodeNumber};
use tokio::time::Instant;

use super::connection::{Connection, Reply};
use super::machine::{Disks, Habits, ELECTION_TIMEOUT_MS, HEARTBEAT_MS};
use super::nemesis::Nemesis;
use super::network::Weather;
use super::process::Syncs;
use super::run::in_simulated_time;
use super::trace::{note, Print, Trace};
use super::Cluster;

/// A message takes from one to two heartbeats: a round trip about three of them.
const SLOW: Weather = Weather {
    delay_micros_min: HEARTBEAT_MS * 1_000,
    delay_micros_max: 2 * HEARTBEAT_MS * 1_000,
    late_per_mille: 0,
    lost_per_mille: 0,
};
/// Milliseconds of a write and its sync, from .. to.
const DISKS: Disks = Disks::Slow(20, 80);
/// A message to or from the only node that is slow takes so many times as long as others: half a second.
const SLOW_TIMES: u64 = 500;
/// Until it is known how slow everything is.
const SETTLING: Duration = Duration::from_secs(90);
/// So long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// A leader that was lost and is not replaced for so long will not be.
const REPLACED_MAX: Duration = Duration::from_secs(600);

/// What to try.
#[derive(Clone, Copy, Debug)]
pub struct SlowPlan {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: u32,
    /// What is slow.
    pub slow: Slow,
    /// Whether they keep the times that they were given.
    pub keeps_times: bool,
    /// For how long it is looked at, after it has settled.
    pub lasts: Duration,
}

/// What is slow in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// All links and disks.
    Everything,
    /// The links of one node.
    OneNode,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowly {
    /// Terms that began after it had settled.
    pub terms: u64,
    /// Writes at the leader that were done.
    pub writes: u64,
    /// And those that were not, or that met no leader.
    pub failures: u64,
    /// How long an election waited in the end, as the leader says.
    pub election_timeout: Duration,
    /// How long it took until there was another leader when the leader's process had ended.
    pub replaced_after: Option<Duration>,
    /// A number that is another one if anything is.
    pub digest: u64,
}

impl SlowPlan {
    /// How long an election waits if nothing is adapted.
    pub const GIVEN_TIMEOUT: Duration = Duration::from_millis(ELECTION_TIMEOUT_MS);

    /// Tries it, in a thread of its own.
    ///
    /// # Panics
    /// When something in it does.
    pub fn run(self) -> Slowly {
        let name = format!("slow {}", self.seed);
        match in_simulated_time(name, move || async move { self.happen().await }) {
            Ok(slowly) => slowly,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    async fn happen(self) -> Slowly {
        let trace = Arc::new(Trace::begin(Print::AfterFailure));
        let cluster = Cluster::new(self.seed, Arc::clone(&trace));
        let disks = match self.slow {
            Slow::Everything => {
                cluster.network().set_weather(SLOW);
                DISKS
            }
            Slow::OneNode => {
                let last = NodeNumber(self.nodes);
                cluster.network().slow_down(last, SLOW_TIMES);
                Disks::Fast
            }
        };
        let habits = Habits {
            syncs: Syncs::Honest,
            lease_reads: false,
            sabotage: None,
            log_keep_bytes: 1 << 20,
            log_keep_for: Duration::from_secs(3),
            keeps_times: self.keeps_times,
            disks,
        };
        let mut nemesis = Nemesis::new(self.seed, &cluster, habits);
        nemesis.found(self.nodes);
        tokio::time::sleep(SETTLING).await;
        let _ = ask(&cluster, "CREATE TABLE IF NOT EXISTS t (k INT PRIMARY KEY)").await;
        let began = newest_term(&cluster);
        let (writes, failures) = write(&cluster, self.lasts).await;
        let terms = newest_term(&cluster) - began;
        let mut statuses = statuses(&cluster);
        statuses.sort_by_key(|status| (status.role == "leader", status.term));
        let timeout = statuses.last().map(|status| status.election_timeout_ms);
        let election_timeout = Duration::from_millis(timeout.unwrap_or(0));
        let replaced_after = replace(&cluster).await;
        for number in cluster.numbers() {
            let network = cluster.network();
            cluster.with(number, |machine| machine.kill(network));
        }
        Slowly {
            terms,
            writes,
            failures,
            election_timeout,
            replaced_after,
            digest: trace.digest(),
        }
    }
}

fn statuses(cluster: &Cluster) -> Vec<ClusterStatus> {
    let nodes = cluster.running();
    nodes
        .iter()
        .map(|(node, _)| node.cluster().status())
        .collect()
}

fn newest_term(cluster: &Cluster) -> u64 {
    let terms = statuses(cluster).into_iter().map(|status| status.term);
    terms.max().unwrap_or(0)
}

/// Who leads, and since which term.
fn leader(cluster: &Cluster) -> Option<(NodeNumber, u64)> {
    let leads = statuses(cluster)
        .into_iter()
        .filter(|status| status.role == "leader");
    let leads = leads.max_by_key(|status| status.term)?;
    Some((leads.number, leads.term))
}

async fn write(cluster: &Cluster, lasts: Duration) -> (u64, u64) {
    let until = Instant::now() + lasts;
    let (mut writes, mut failures) = (0, 0);
    while Instant::now() < until {
        let sql = format!("INSERT INTO t VALUES ({})", writes + failures);
        match ask(cluster, &sql).await {
            Reply::Done { .. } => writes += 1,
            Reply::Refused(_) | Reply::Unknown(_) => failures += 1,
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
    (writes, failures)
}

/// Asks the leader.
async fn ask(cluster: &Cluster, sql: &str) -> Reply {
    let reply = match leader(cluster).and_then(|(number, _)| connect(cluster, number)) {
        Some(mut connection) => connection.ask_within(PATIENCE, sql).await,
        None => Reply::Unknown("nobody leads".into()),
    };
    note!(cluster.trace(), "{sql}: {reply:?}");
    reply
}

fn connect(cluster: &Cluster, number: NodeNumber) -> Option<Connection> {
    let running = cluster.with(number, |machine| machine.running())?;
    running.map(|(node, process)| Connection::open(&node, &process))
}

/// Ends the leader's process and waits for another leader.
async fn replace(cluster: &Cluster) -> Option<Duration> {
    let (number, term) = leader(cluster)?;
    let network = cluster.network();
    cluster.with(number, |machine| machine.kill(network));
    let lost = Instant::now();
    while lost.elapsed() < REPLACED_MAX {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if leader(cluster).is_some_and(|(_, now)| now > term) {
            return Some(lost.elapsed());
        }
    }
    None
}
