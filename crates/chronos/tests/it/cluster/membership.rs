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
        let mut voters = cluster.all();
        for round in 0..rounds {
            load.progress(&cluster, CALM_WRITES).await;
            let leader = cluster.leader_among(&voters).await;
            // It gets a vote when somebody gives it one, or by itself when it has caught up.
            let joined = match round % 2 {
                0 => join_and_promote(&mut cluster, leader, &voters).await,
                _ => cluster.join(leader, &[]),
            };
            voters.push(joined);
            voting(&cluster, &voters).await;
            load.progress(&cluster, CALM_WRITES).await;
            // A follower, or the leader itself.
            let leader = cluster.leader_among(&voters).await;
            let followers = voters.iter().filter(|&&node| node != leader);
            let leaves = match round % 2 {
                0 => *followers.min().expect("a follower"),
                _ => leader,
            };
            voters.retain(|&node| node != leaves);
            load.leave(leaves);
            let (status, text) = cluster
                .post(leader, "/remove", &json!({ "id": name(leaves) }))
                .await;
            assert_eq!(status, 200, "{text}");
            voting(&cluster, &voters).await;
            load.progress(&cluster, CALM_WRITES).await;
            cluster.kill(leaves);
        }
        load.finish(&cluster).await;
    });
}

#[test]
fn who_is_told_not_to_vote_any_more_does_not_go_on_by_itself() {
    scenario(async |seed| {
        let mut cluster = Cluster::start(3, 2).await;
        let load = Load::start(&cluster, Clients::default(), seed).await;
        let mut voters = cluster.all();
        let leader = cluster.leader_among(&voters).await;
        let demoted = cluster.join(leader, &[]);
        voting(&cluster, &[&voters[..], &[demoted]].concat()).await;
        let names: Vec<String> = voters.iter().map(|&node| name(node)).collect();
        let leader = cluster.leader_among(&voters).await;
        let (status, text) = cluster
            .post(leader, "/change-membership", &json!(names))
            .await;
        assert_eq!(status, 200, "{text}");
        voting(&cluster, &voters).await;
        // When the next one has caught up and votes, the other one has been looked at as well.
        let leader = cluster.leader_among(&voters).await;
        voters.push(cluster.join(leader, &[]));
        voting(&cluster, &voters).await;
        let status = cluster.status(voters[0]).await.expect("a status");
        assert_eq!(status.members("learner"), [demoted]);
        load.finish(&cluster).await;
    });
}

/// A node receives everything and does not vote, until it has caught up and is told to.
async fn join_and_promote(cluster: &mut Cluster, leader: usize, voters: &[usize]) -> usize {
    let joined = cluster.join(leader, &["--learner"]);
    let what = format!("{} to be a learner", name(joined));
    cluster
        .wait(&what, async || {
            let learners = cluster.status(leader).await?.members("learner");
            learners.contains(&joined).then_some(())
        })
        .await;
    cluster.caught_up(&[leader, joined]).await;
    let names: Vec<String> = voters
        .iter()
        .chain([&joined])
        .map(|&node| name(node))
        .collect();
    let leader = cluster.leader_among(voters).await;
    let (status, text) = cluster
        .post(leader, "/change-membership", &json!(names))
        .await;
    assert_eq!(status, 200, "{text}");
    joined
}

/// Waits until these nodes vote and no others, and one of them leads.
async fn voting(cluster: &Cluster, voters: &[usize]) {
    let mut expected = voters.to_vec();
    expected.sort_unstable();
    let what = format!("{expected:?} to vote, and no others");
    cluster
        .wait(&what, async || {
            for &node in &expected {
                let status = cluster.status(node).await?;
                if status.members("voter") != expected {
                    return None;
                }
            }
            Some(())
        })
        .await;
    cluster.leader_among(&expected).await;
}
