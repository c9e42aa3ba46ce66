//! What somebody should look at: conditions that last, judged from two looks at a node.
//!
//! ```text
//!   Node ──look──► Observation ┐
//!            (seconds later)   ├─ judge ─► alerts ─► what came, what went: log, metric, /health
//!   Node ──look──► Observation ┘
//! ```
//!
//! [`judge`] decides and nothing else does; it knows no clock and no disk. A condition that is
//! seen once may be over already, so whatever can pass by itself has to be there twice.

use std::collections::BTreeMap;
use std::fmt;

use chronos_model::SqlState;
use parking_lot::Mutex;
use serde::Serialize;

use crate::cluster::{ClusterStatus, FollowerStatus};
use crate::{LatencyHistogram, Node};

/// A condition that somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alert {
    /// No leader was known for the whole time: nothing can be written.
    LeaderElectionFailed,
    /// A member does not keep up with this leader, or is silent.
    FollowerLagging,
    /// There is hardly any room on the disk, or it has run out.
    DiskFull,
    /// Syncs of the log take long.
    HighLatency,
    /// Files are damaged.
    Damaged,
}

impl Alert {
    /// All there are.
    pub const ALL: [Alert; 5] = [
        Alert::LeaderElectionFailed,
        Alert::FollowerLagging,
        Alert::DiskFull,
        Alert::HighLatency,
        Alert::Damaged,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Alert::LeaderElectionFailed => "leader_election_failed",
            Alert::FollowerLagging => "follower_lagging",
            Alert::DiskFull => "disk_full",
            Alert::HighLatency => "high_latency",
            Alert::Damaged => "damaged",
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// From where on a condition is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertThresholds {
    /// Entries that a follower lacks, if they do not become fewer.
    pub lag_entries: u64,
    /// Milliseconds without a sign of a follower.
    pub silence_ms: u64,
    /// Bytes that are free on the disk of the data directory.
    pub free_bytes: u64,
    /// Microseconds that one in a hundred syncs takes, at least.
    pub sync_micros: u64,
}

impl Default for AlertThresholds {
    fn default() -> AlertThresholds {
        AlertThresholds {
            lag_entries: 10_000,
            silence_ms: 10_000,
            free_bytes: 256 << 20,
            sync_micros: 500_000,
        }
    }
}

/// A node at one moment, as far as alerts ask.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The cluster.
    pub cluster: ClusterStatus,
    /// How long syncs of the log took, since the node was opened.
    pub syncs: LatencyHistogram,
    /// Free on the disk of the data directory, where that is known.
    pub free_bytes: Option<u64>,
    /// Whether the node stopped writing because the disk was full.
    pub ran_full: bool,
    /// The first file that is known to be damaged, and its table.
    pub damaged: Option<String>,
}

/// What is wrong now, each with a sentence about it.
pub fn judge(
    before: &Observation,
    now: &Observation,
    thresholds: &AlertThresholds,
) -> BTreeMap<Alert, String> {
    let found = [
        (Alert::LeaderElectionFailed, leaderless(before, now)),
        (Alert::FollowerLagging, lagging(before, now, thresholds)),
        (Alert::DiskFull, full(now, thresholds)),
        (Alert::HighLatency, slow(before, now, thresholds)),
        (Alert::Damaged, damaged(now)),
    ];
    let told = found
        .into_iter()
        .filter_map(|(alert, reason)| Some((alert, reason?)));
    told.collect()
}

fn leaderless(before: &Observation, now: &Observation) -> Option<String> {
    if before.cluster.leader.is_some() || now.cluster.leader.is_some() {
        return None;
    }
    let began = now
        .cluster
        .elections
        .saturating_sub(before.cluster.elections);
    Some(format!(
        "no leader is known in term {}; this node began {began} elections meanwhile",
        now.cluster.term
    ))
}

fn lagging(
    before: &Observation,
    now: &Observation,
    thresholds: &AlertThresholds,
) -> Option<String> {
    let mut wrong = Vec::new();
    for member in &now.cluster.members {
        let Some(progress) = &member.progress else {
            continue;
        };
        let earlier = before
            .cluster
            .members
            .iter()
            .find(|m| m.number == member.number)
            .and_then(|m| m.progress.as_ref());
        if let Some(reason) = follower(earlier, progress, thresholds) {
            wrong.push(format!("{} {reason}", member.id));
        }
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn follower(
    before: Option<&FollowerStatus>,
    now: &FollowerStatus,
    thresholds: &AlertThresholds,
) -> Option<String> {
    if let Some(silent) = now.heard_ms.filter(|ms| *ms > thresholds.silence_ms) {
        return Some(format!("has not been heard of for {silent} ms"));
    }
    let grew = before.is_some_and(|before| now.lag_entries >= before.lag_entries);
    // A checkpoint that arrives is progress, too, though the lag does not show it.
    let arrives = match (before.and_then(|b| b.sending.as_ref()), &now.sending) {
        (Some(before), Some(now)) => now.bytes > before.bytes,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    (now.lag_entries > thresholds.lag_entries && grew && !arrives)
        .then(|| format!("lacks {} entries", now.lag_entries))
}

fn full(now: &Observation, thresholds: &AlertThresholds) -> Option<String> {
    if now.ran_full {
        return Some("the disk is full; nothing is written until a restart".into());
    }
    let free = now
        .free_bytes
        .filter(|free| *free < thresholds.free_bytes)?;
    Some(format!("{} MiB are free", free >> 20))
}

fn damaged(now: &Observation) -> Option<String> {
    let first = now.damaged.as_ref()?;
    let repair = &now.cluster.repair;
    let goes_on = match repair.from {
        Some(from) => format!("; node {from} sends its own"),
        None => String::new(),
    };
    let files = repair.damaged_files;
    Some(format!("{files} files are damaged, first {first}{goes_on}"))
}

fn slow(before: &Observation, now: &Observation, thresholds: &AlertThresholds) -> Option<String> {
    let micros = percentile_99(&before.syncs, &now.syncs)?;
    (micros >= thresholds.sync_micros).then(|| {
        format!(
            "one in a hundred syncs of the log takes {} ms or more",
            micros / 1000
        )
    })
}

/// Of the durations that were counted in between: 99 of a hundred are no longer than the bound
/// above this one.
fn percentile_99(before: &LatencyHistogram, now: &LatencyHistogram) -> Option<u64> {
    let counts: Vec<u64> = now
        .counts
        .iter()
        .enumerate()
        .map(|(i, count)| count - before.counts.get(i).copied().unwrap_or(0).min(*count))
        .collect();
    let total: u64 = counts.iter().sum();
    let mut above = total / 100;
    let slowest = counts.iter().enumerate().rev().find(|(_, count)| {
        let is_here = above < **count;
        above = above.saturating_sub(**count);
        is_here
    })?;
    // The lower bound of that bucket.
    Some(match slowest.0 {
        0 => 0,
        i => now.bounds_micros.get(i - 1).copied().unwrap_or(0),
    })
}

/// Looks at a node now and then, and remembers what is wrong.
pub struct AlertWatch {
    node: Node,
    thresholds: AlertThresholds,
    before: Mutex<Option<Observation>>,
    active: Mutex<BTreeMap<Alert, String>>,
}

impl AlertWatch {
    /// A watch that has not looked yet.
    pub fn new(node: Node, thresholds: AlertThresholds) -> AlertWatch {
        AlertWatch {
            node,
            thresholds,
            before: Mutex::new(None),
            active: Mutex::new(BTreeMap::new()),
        }
    }

    /// Looks, and tells the log what has come and what has gone since the last look.
    pub fn look(&self) {
        let now = self.node.observe();
        let Some(before) = self.before.lock().replace(now.clone()) else {
            return;
        };
        let found = judge(&before, &now, &self.thresholds);
        let mut active = self.active.lock();
        for (alert, reason) in &found {
            if !active.contains_key(alert) {
                tracing::warn!(alert = alert.name(), "alert: {reason}");
            }
        }
        for alert in active.keys().filter(|alert| !found.contains_key(alert)) {
            tracing::info!(alert = alert.name(), "the alert is over");
        }
        *active = found;
    }

    /// What is wrong, as of the last look.
    pub fn active(&self) -> BTreeMap<Alert, String> {
        self.active.lock().clone()
    }
}

impl Node {
    fn observe(&self) -> Observation {
        let status = self.status();
        let fault = self.inner.replica.fault();
        Observation {
            free_bytes: self.env().disk.available_space(self.data_dir()).ok(),
            damaged: (self.inner.replica.store.damage().first())
                .map(|damage| format!("{} of table {}", damage.path.display(), damage.table)),
            ran_full: fault.is_some_and(|fault| fault.code == SqlState::DISK_FULL),
            cluster: status.cluster,
            syncs: status.log.fsync_latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{MemberStatus, NodeNumber, NodeRole, TransferStatus};

    fn led(lag_entries: u64, heard_ms: u64, sent: Option<u64>) -> Observation {
        let progress = FollowerStatus {
            matched_index: 1,
            lag_entries,
            heard_ms: Some(heard_ms),
            round_trip_ms: None,
            sending: sent.map(|bytes| TransferStatus {
                bytes,
                bytes_total: 1000,
            }),
        };
        let member = MemberStatus {
            id: "n2".into(),
            number: NodeNumber(2),
            address: "b:1".into(),
            clients: Default::default(),
            role: NodeRole::Voter,
            progress: Some(progress),
        };
        Observation {
            cluster: ClusterStatus {
                leader: Some(NodeNumber(1)),
                members: vec![member],
                ..ClusterStatus::default()
            },
            ..Observation::default()
        }
    }

    fn names(before: &Observation, now: &Observation) -> Vec<&'static str> {
        let found = judge(before, now, &AlertThresholds::default());
        found.keys().map(|alert| alert.name()).collect()
    }

    #[test]
    fn a_moment_without_leader_is_no_alert() {
        let (with, without) = (led(0, 1, None), Observation::default());
        assert_eq!(names(&with, &without), [] as [&str; 0]);
        assert_eq!(names(&without, &with), [] as [&str; 0]);
        assert_eq!(names(&without, &without), ["leader_election_failed"]);
    }

    #[test]
    fn followers_that_catch_up_do_not_lag() {
        let lag = ["follower_lagging"];
        let none: [&str; 0] = [];
        assert_eq!(
            names(&led(20_000, 1, None), &led(15_000, 1, None)),
            none,
            "catches up"
        );
        assert_eq!(names(&led(20_000, 1, None), &led(20_000, 1, None)), lag);
        assert_eq!(
            names(&led(50, 1, None), &led(60, 1, None)),
            none,
            "lacks little"
        );
        assert_eq!(names(&led(0, 1, None), &led(0, 11_000, None)), lag);
        assert_eq!(
            names(&led(20_000, 1, Some(5)), &led(30_000, 1, Some(6))),
            none,
            "a checkpoint is on its way"
        );
        assert_eq!(
            names(&led(20_000, 1, Some(5)), &led(30_000, 1, Some(5))),
            lag,
            "and stands still"
        );
    }

    #[test]
    fn disks_run_full() {
        let mut now = led(0, 1, None);
        now.free_bytes = Some(1 << 30);
        assert_eq!(names(&now, &now), [] as [&str; 0]);
        now.free_bytes = Some(100 << 20);
        assert_eq!(names(&now, &now), ["disk_full"]);
        now.free_bytes = None;
        now.ran_full = true;
        assert_eq!(names(&now, &now), ["disk_full"]);
    }

    #[test]
    fn only_syncs_in_between_count() {
        let with = |fast: u64, slow: u64| {
            let mut observation = led(0, 1, None);
            observation.syncs = LatencyHistogram {
                bounds_micros: vec![1_000, 500_000],
                counts: vec![fast, 0, slow],
                sum_micros: 0,
            };
            observation
        };
        let none: [&str; 0] = [];
        assert_eq!(names(&with(0, 9), &with(100, 9)), none);
        assert_eq!(names(&with(0, 0), &with(1000, 5)), none);
        assert_eq!(names(&with(0, 0), &with(10, 1)), ["high_latency"]);
        assert_eq!(names(&with(5, 5), &with(5, 5)), none);
    }

    #[test]
    fn a_watch_remembers_until_the_next_look() {
        let sim = chronos_env::SimEnv::new(1);
        let node = Node::open(sim.env(), &crate::NodeOptions::new("/node")).unwrap();
        let thresholds = AlertThresholds {
            free_bytes: u64::MAX,
            ..AlertThresholds::default()
        };
        let watch = AlertWatch::new(node, thresholds);
        watch.look();
        assert!(watch.active().is_empty());
        watch.look();
        assert!(watch.active().contains_key(&Alert::DiskFull));
    }
}
