//! A leader stops (SIGSTOP) and comes back later without knowing that time has passed: it must not answer reads
//! with what was true when it led, nor let its old entries count.

use super::load::{ask, Clients, Load};
use super::nodes::Cluster;
use super::{rounds, scenario, CALM_WRITES};

#[test]
fn three_nodes_go_on_without_a_frozen_leader() {
    scenario(async |seed| freeze_leaders(3, rounds(3), seed).await);
}

#[test]
fn five_nodes_go_on_without_a_frozen_leader() {
    scenario(async |seed| freeze_leaders(5, rounds(1), seed).await);
}

async fn freeze_leaders(count: usize, rounds: u64, seed: u64) {
    let cluster = Cluster::start(count, 0).await;
    let load = Load::start(&cluster, Clients::default(), seed).await;
    for _ in 0..rounds {
        load.progress(&cluster, CALM_WRITES).await;
        let leader = cluster.leader_among(&cluster.all()).await;
        let others: Vec<usize> = cluster.all().into_iter().filter(|&n| n != leader).collect();
        let reader = load.reader_at(leader).await;
        cluster.freeze(leader);
        cluster.leader_among(&others).await;
        load.progress(&cluster, CALM_WRITES).await;
        // These are sent to a leader that has been one no longer for a while, and answered as soon as it wakes.
        let reads = tokio::spawn(ask(reader));
        load.progress(&cluster, CALM_WRITES).await;
        cluster.thaw(leader);
        reads.await.expect("reads at the frozen node");
        cluster.caught_up(&cluster.all()).await;
    }
    load.progress(&cluster, CALM_WRITES).await;
    load.finish(&cluster).await;
}
