//! A leader is lost in the middle of a change of voters.

use std::sync::Arc;
use std::time::Duration;

use chronos_node::cluster::{AdminRequest, ClusterStatus, NodeNumber};
use tokio::time::Instant;

use super::machine::{Disks, Habits};
use super::nemesis::Nemesis;
use super::process::Syncs;
use super::run::in_simulated_time;
use super::trace::{Print, Trace};
use super::Cluster;

const SEEDS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

fn statuses(cluster: &Cluster) -> Vec<ClusterStatus> {
    let nodes = cluster.running();
    let status = |(node, _): &(chronos_node::Node, _)| node.cluster().status();
    nodes.iter().map(status).collect()
}

/// Waits until some node says so.
async fn until(
    cluster: &Cluster,
    what: &str,
    is_so: impl Fn(&ClusterStatus) -> bool,
) -> NodeNumber {
    let begun = Instant::now();
    loop {
        let seen = statuses(cluster);
        if let Some(status) = seen.iter().find(|status| is_so(status)) {
            return status.number;
        }
        assert!(begun.elapsed() < PATIENCE, "never {what}: {seen:?}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn lose_the_leader_halfway(seed: u64) {
    let trace = Arc::new(Trace::begin(Print::AfterFailure));
    let cluster = Cluster::new(seed, trace);
    let habits = Habits {
        syncs: Syncs::Honest,
        lease_reads: false,
        sabotage: None,
        log_keep_bytes: 1 << 20,
        log_keep_for: Duration::from_secs(60),
        keeps_times: true,
        disks: Disks::Fast,
    };
    let mut nemesis = Nemesis::new(seed, &cluster, habits);
    nemesis.found(4);
    let leads = |status: &ClusterStatus| status.role == "leader" && status.applied_index > 1;
    let old = until(&cluster, "led", leads).await;
    let voters = cluster
        .numbers()
        .into_iter()
        .filter(|n| *n != NodeNumber(1));
    let voters = voters.collect();
    let running = cluster.with(old, |machine| machine.running()).flatten();
    let (node, process) = running.expect("the leader runs");
    tokio::spawn(async move {
        let asked = node.cluster();
        let request = AdminRequest::ChangeMembership {
            voters,
            remove: false,
        };
        tokio::select! {
            biased;
            () = process.killed() => {}
            _ = asked.request(request) => {}
        }
    });
    // The first of the two entries is there, and the second does not exist yet.
    let has_first = |status: &ClusterStatus| status.changing && status.number != old;
    until(&cluster, "begun", has_first).await;
    let network = cluster.network();
    cluster.with(old, |machine| machine.kill(network));
    let begun = |status: &ClusterStatus| status.role == "leader" && status.number != old;
    until(&cluster, "led again", begun).await;
    let done = |status: &ClusterStatus| begun(status) && !status.changing;
    until(&cluster, "completed", done).await;
}

#[test]
fn the_next_leader_completes_a_change_of_voters() {
    for seed in 0..SEEDS {
        let name = format!("halfway {seed}");
        in_simulated_time(name, move || lose_the_leader_halfway(seed)).unwrap();
    }
}
