//! Nodes are stopped in good order and started again, one after the other, under load.

use super::load::{Clients, Load};
use super::nodes::Cluster;
use super::{rounds, scenario, CALM_WRITES};

#[test]
fn three_nodes_are_restarted_one_by_one() {
    scenario(async |seed| restart_one_by_one(3, rounds(1), seed).await);
}

#[test]
fn five_nodes_are_restarted_one_by_one() {
    scenario(async |seed| restart_one_by_one(5, rounds(1), seed).await);
}

async fn restart_one_by_one(count: usize, rounds: u64, seed: u64) {
    let mut cluster = Cluster::start(count, 0).await;
    let load = Load::start(&cluster, Clients::default(), seed).await;
    for _ in 0..rounds {
        for node in cluster.all() {
            load.progress(&cluster, CALM_WRITES).await;
            cluster.stop(node);
            let others: Vec<usize> = cluster.all().into_iter().filter(|&n| n != node).collect();
            cluster.leader_among(&others).await;
            load.progress(&cluster, CALM_WRITES).await;
            cluster.restart(node);
            cluster.caught_up(&cluster.all()).await;
        }
    }
    load.finish(&cluster).await;
}
