//! Members that do not find each other: who is left without a majority says so, whatever it was before;
//! who comes back somewhere else is found there.

use serde_json::{json, Value};

use crate::members::{admin, done, leader_of, three_with_a_table, wait_for, Place, Running};
use crate::node::get;

/// Waits until a node says that it has no leader to send requests to.
fn wait_for_no_leader(node: &Running) {
    wait_for("there is no leader", || {
        let (status, body) = get(node.place().http, "/ready").ok()?;
        (status == 503 && body.contains("no leader is known")).then_some(())
    });
    let seen = node.cluster().expect("it answers");
    assert_eq!(seen["leader"], Value::Null, "{seen}");
    assert_ne!(seen["role"], "leader", "{seen}");
}

#[test]
fn who_is_left_without_a_majority_says_so() {
    let root = tempfile::tempdir().expect("a directory");
    let (places, mut nodes, leads) = three_with_a_table(root.path());
    let left = (leads + 1) % nodes.len();

    // A follower that hears nothing of its leader any more.
    let left = nodes.swap_remove(left);
    drop(nodes);
    wait_for_no_leader(&left);
    wait_for("an alert", || {
        let (_, health) = get(left.place().http, "/health").ok()?;
        health.contains("leader_election_failed").then_some(())
    });

    // What can be compared is, and who is missing is named.
    let compared = admin(&left, &["check", "--cluster"]);
    assert_eq!(compared.status.code(), Some(2));
    let told = String::from_utf8_lossy(&compared.stdout).into_owned();
    for place in places.iter().filter(|p| p.id() != left.place().id()) {
        let line = format!("{} was not compared: cannot connect to", place.id());
        assert!(told.contains(&line), "{told}");
    }
    let last = "no difference; the comparison is incomplete\n";
    assert!(
        told.contains("1 of 3 nodes") && told.ends_with(last),
        "{told}"
    );

    // It does not take the leader for there that stands in its vote.
    let place = left.place().clone();
    assert_eq!(left.stop(), Some(0));
    let left = place.start(&[]);
    wait_for("an answer", || left.cluster());
    wait_for_no_leader(&left);

    // Nor does a leader lead that no majority follows.
    let other = places.iter().find(|p| p.id() != place.id());
    let other = other.expect("there are three").start(&[]);
    let mut nodes = vec![left, other];
    let leads = leader_of(&nodes.iter().collect::<Vec<_>>());
    let leader = nodes.swap_remove(leads);
    drop(nodes);
    wait_for_no_leader(&leader);
}

#[test]
fn a_member_with_another_address_is_found_there() {
    let root = tempfile::tempdir().expect("a directory");
    let (places, mut nodes, leads) = three_with_a_table(root.path());
    let moves = (leads + 1) % nodes.len();
    let id = places[moves].id();

    let stopped = nodes.swap_remove(moves);
    assert_eq!(stopped.stop(), Some(0));
    let others: Vec<&Running> = nodes.iter().collect();
    let leader = others[leader_of(&others)];
    leader.sql("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING");

    // The address of another member is refused, and so is none.
    let taken = others.iter().map(|n| n.place().grpc.to_string());
    for address in taken {
        let refused = admin(leader, &["add", id, &address]);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("is the address of the member"), "{told}");
    }

    let moved = Place::new(id, root.path());
    let target = leader.place().grpc.to_string();
    let moved_runs = moved.start(&["--join", &target]);
    wait_for("it is found where it is now", || {
        let seen = leader.cluster()?;
        let mut members = seen["members"].as_array()?.iter();
        let member = members.find(|m| m["id"] == id)?;
        let is_there = member["address"] == moved.grpc.to_string();
        let has_all = member["progress"]["matched_index"] == seen["last_index"];
        (is_there && has_all).then_some(())
    });
    leader.sql("INSERT INTO t VALUES (2) ON CONFLICT DO NOTHING");
    let rows = moved_runs.rows("SELECT id FROM t ORDER BY id");
    assert_eq!(rows, json!([[1], [2]]));
    let told = done(leader, &["members"]);
    assert!(told.contains(&moved.grpc.to_string()), "{told}");
}
