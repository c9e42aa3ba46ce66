//! The leader dies under load, again and again.

use tokio::time::Instant;

use super::load::{Clients, Load};
use super::nodes::Cluster;
use super::{rounds, scenario, CALM_WRITES};

#[test]
fn three_nodes_survive_the_death_of_their_leader() {
    scenario(async |seed| kill_leaders(3, rounds(4), seed).await);
}

#[test]
fn five_nodes_survive_the_death_of_their_leader() {
    scenario(async |seed| kill_leaders(5, rounds(2), seed).await);
}

#[test]
fn nothing_is_lost_when_all_nodes_die_at_once() {
    scenario(async |seed| {
        let mut cluster = Cluster::start(3, 0).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        for _ in 0..rounds(2) {
            load.progress(&cluster, CALM_WRITES).await;
            for node in cluster.all() {
                cluster.kill(node);
            }
            cluster.restart_all();
            cluster.leader_among(&cluster.all()).await;
        }
        load.progress(&cluster, CALM_WRITES).await;
        load.finish(&cluster).await;
    });
}

async fn kill_leaders(count: usize, rounds: u64, seed: u64) {
    let mut cluster = Cluster::start(count, 0).await;
    let load = Load::start(&cluster, Clients::default(), seed).await;
    let mut pauses = Vec::new();
    for _ in 0..rounds {
        load.progress(&cluster, CALM_WRITES).await;
        let leader = cluster.leader_among(&cluster.all()).await;
        let others: Vec<usize> = cluster.all().into_iter().filter(|&n| n != leader).collect();
        let killed = Instant::now();
        cluster.kill(leader);
        cluster.leader_among(&others).await;
        load.progress(&cluster, CALM_WRITES).await;
        pauses.push(load.pause_since(killed));
        cluster.restart(leader);
        cluster.caught_up(&cluster.all()).await;
    }
    let status = cluster.status(0).await.expect("a node answers");
    let timeout = status.number("election_timeout_ms");
    pauses.sort_unstable();
    // Of an even number the mean of the two in the middle.
    let (low, high) = ((pauses.len() - 1) / 2, pauses.len() / 2);
    let median = (pauses[low] + pauses[high]).as_millis() / 2;
    println!(
        "{count} nodes, {rounds} leaders killed: writes paused for {pauses:?}; median {median} ms, {:.2} election timeouts of {timeout} ms",
        median as f64 / timeout as f64
    );
    load.finish(&cluster).await;
}
