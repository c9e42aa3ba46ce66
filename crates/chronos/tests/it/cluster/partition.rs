//! The network between nodes breaks: around the leader, around a minority, in one direction, or becomes slow.

use std::time::Duration;

use super::load::{Clients, Load};
use super::network::Flow;
use super::nodes::Cluster;
use super::{rounds, scenario, CALM_WRITES};

/// How many times the election timeout a follower is away.
const TIMEOUTS_AWAY: u32 = 4;

#[test]
fn three_nodes_go_on_when_their_leader_is_cut_off() {
    scenario(async |seed| cut_off_leaders(3, rounds(3), seed).await);
}

#[test]
fn five_nodes_go_on_when_their_leader_is_in_a_minority() {
    scenario(async |seed| cut_off_leaders(5, rounds(2), seed).await);
}

/// The leader, and of five nodes another one, are on the wrong side.
async fn cut_off_leaders(count: usize, rounds: u64, seed: u64) {
    let cluster = Cluster::start(count, 0).await;
    let load = Load::start(&cluster, Clients::default(), seed).await;
    for round in 0..rounds {
        load.progress(&cluster, CALM_WRITES).await;
        let leader = cluster.leader_among(&cluster.all()).await;
        let minority: Vec<usize> = (0..count.div_ceil(2) - 1)
            .map(|n| (leader + n) % count)
            .collect();
        let (inside, majority): (Vec<usize>, Vec<usize>) = cluster
            .all()
            .into_iter()
            .partition(|node| minority.contains(node));
        // Connections break, or, to those who use them, only stop answering.
        let flow = if round % 2 == 0 {
            Flow::Cut
        } else {
            Flow::Stalled
        };
        cluster.network.set_around(&inside, flow);
        cluster.leader_among(&majority).await;
        load.progress(&cluster, CALM_WRITES).await;
        cluster.network.heal();
        cluster.caught_up(&cluster.all()).await;
    }
    load.progress(&cluster, CALM_WRITES).await;
    load.finish(&cluster).await;
}

#[test]
fn a_leader_that_is_not_heard_or_does_not_hear_is_replaced() {
    scenario(async |seed| {
        let cluster = Cluster::start(3, 0).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        for round in 0..rounds(2) {
            load.progress(&cluster, CALM_WRITES).await;
            let leader = cluster.leader_among(&cluster.all()).await;
            let others: Vec<usize> = cluster.all().into_iter().filter(|&n| n != leader).collect();
            for &other in &others {
                match round % 2 {
                    0 => cluster.network.set(leader, other, Flow::Stalled),
                    _ => cluster.network.set(other, leader, Flow::Stalled),
                }
            }
            cluster.leader_among(&others).await;
            load.progress(&cluster, CALM_WRITES).await;
            cluster.network.heal();
            cluster.caught_up(&cluster.all()).await;
        }
        load.progress(&cluster, CALM_WRITES).await;
        load.finish(&cluster).await;
    });
}

#[test]
fn a_follower_that_was_away_does_not_depose_the_leader() {
    scenario(async |seed| {
        let cluster = Cluster::start(3, 0).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        let mut kept = 0;
        // A machine that is too busy may lose its leader meanwhile; one that comes back would depose it every time.
        for _ in 0..rounds(3) {
            load.progress(&cluster, CALM_WRITES).await;
            let leader = cluster.leader_among(&cluster.all()).await;
            let before = cluster.status(leader).await.expect("the leader answers");
            let away = (leader + 1) % 3;
            cluster.network.set_around(&[away], Flow::Cut);
            let timeout = Duration::from_millis(before.number("election_timeout_ms"));
            tokio::time::sleep(TIMEOUTS_AWAY * timeout).await;
            cluster.network.heal();
            load.progress(&cluster, CALM_WRITES).await;
            cluster.caught_up(&cluster.all()).await;
            let after = cluster.status(leader).await.expect("the leader answers");
            kept += u64::from(after.is_leader() && after.number("term") == before.number("term"));
        }
        assert!(
            kept > 0,
            "each follower that came back had the leader replaced"
        );
        load.finish(&cluster).await;
    });
}

#[test]
fn a_slow_network_loses_nothing() {
    scenario(async |seed| {
        let cluster = Cluster::start(3, 0).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        for round in 0..rounds(3) {
            let node = round as usize % 3;
            let delay = Duration::from_millis(20 + 40 * round);
            cluster.network.set_around(&[node], Flow::Delayed(delay));
            load.progress(&cluster, CALM_WRITES).await;
        }
        cluster.network.heal();
        cluster.caught_up(&cluster.all()).await;
        load.finish(&cluster).await;
    });
}
