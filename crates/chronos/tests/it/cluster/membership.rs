//! Nodes come and go while clients write.

use serde_json::json;

use super::load::{Clients, Load};
use super::nodes::{name, Cluster};
use super::{rounds, scenario, CALM_WRITES};

#[test]
fn nodes_are_added_promoted_and_removed_under_load() {
    scenario(async |seed| {
        let rounds = rounds(2) as usize;
        let mut cluster = Cluster::start(3, rounds).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        let mut voters: Vec<usize> = cluster.all();
        for round in 0..rounds {
            load.progress(&cluster, CALM_WRITES).await;
            let leader = cluster.leader_among(&voters).await;
            let joined = cluster.start_joining(leader);
            add_learner(&cluster, leader, joined).await;
            voters.push(joined);
            promote(&cluster, &voters).await;
            load.progress(&cluster, CALM_WRITES).await;
            // The leader itself, or another one.
            let leader = cluster.leader_among(&voters).await;
            let leaves = match round % 2 {
                0 => *voters
                    .iter()
                    .find(|&&node| node != leader)
                    .expect("a follower"),
                _ => leader,
            };
            voters.retain(|&node| node != leaves);
            remove(&cluster, leader, &voters).await;
            load.leave(leaves);
            cluster.leader_among(&voters).await;
            load.progress(&cluster, CALM_WRITES).await;
            cluster.kill(leaves);
        }
        load.finish(&cluster).await;
    });
}

/// It receives everything, and does not vote.
async fn add_learner(cluster: &Cluster, leader: usize, node: usize) {
    let address = cluster.network.address(node).to_string();
    let body = json!({ "id": name(node), "addr": address, "auto_promote": false });
    let (status, text) = cluster.post(leader, "/add-learner", &body).await;
    assert_eq!(status, 200, "{text}");
    let what = format!("{} to be a learner", name(node));
    cluster
        .wait(&what, async || {
            let learners = cluster.status(leader).await?.members("learner");
            learners.contains(&node).then_some(())
        })
        .await;
    cluster.caught_up(&[leader, node]).await;
}

async fn promote(cluster: &Cluster, voters: &[usize]) {
    let leader = cluster.leader_among(&voters[..voters.len() - 1]).await;
    change(cluster, leader, voters).await;
    let what = format!("{voters:?} to vote");
    cluster
        .wait(&what, async || {
            let voting = cluster.status(leader).await?.members("voter");
            let mut expected = voters.to_vec();
            expected.sort_unstable();
            (voting == expected).then_some(())
        })
        .await;
}

async fn remove(cluster: &Cluster, leader: usize, voters: &[usize]) {
    change(cluster, leader, voters).await;
    let what = format!("only {voters:?} to vote");
    cluster
        .wait(&what, async || {
            let leader = cluster.leader_among(voters).await;
            let voting = cluster.status(leader).await?.members("voter");
            let mut expected = voters.to_vec();
            expected.sort_unstable();
            (voting == expected).then_some(())
        })
        .await;
}

async fn change(cluster: &Cluster, leader: usize, voters: &[usize]) {
    let names: Vec<String> = voters.iter().map(|&node| name(node)).collect();
    let (status, text) = cluster
        .post(leader, "/change-membership", &json!(names))
        .await;
    assert_eq!(status, 200, "{text}");
}
