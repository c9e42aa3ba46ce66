//! The cluster over HTTP, asked of a cluster of one.

use super::*;

#[tokio::test]
async fn a_node_tells_its_cluster() {
    let server = Server::start(HttpOptions::default()).await;
    let cluster = json(&server.get("/cluster").await);
    assert_eq!(cluster["node_id"], "n1");
    assert_eq!(cluster["role"], "leader");
    assert_eq!(cluster["leader_id"], "n1");
    assert_eq!(cluster["members"][0]["id"], "n1");
    assert_eq!(cluster["members"][0]["role"], "voter");
    let health = json(&server.get("/health").await);
    assert_eq!(health["cluster"]["cluster_id"], cluster["cluster_id"]);
    assert_eq!(health["node_id"], "n1");
    let metrics = server.get("/metrics").await;
    for line in [
        "chronos_raft_is_leader 1",
        "chronos_raft_has_leader 1",
        "chronos_raft_leader 1",
        "chronos_raft_members{role=\"voter\"} 1",
        "chronos_raft_members{role=\"learner\"} 0",
        "chronos_alert{alert=\"leader_election_failed\"} 0",
        "chronos_alert{alert=\"disk_full\"} 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
    server.finish().await;
}

#[tokio::test]
async fn changes_that_make_no_sense_are_refused() {
    let server = Server::start(HttpOptions::default()).await;
    for (path, body, wanted, reason) in [
        ("/add-learner", "", 400, "cannot be read"),
        ("/add-learner", r#"{"id": "n2"}"#, 400, "addr"),
        (
            "/add-learner",
            r#"{"id": "n/2", "addr": "b:1"}"#,
            400,
            "no name of a node",
        ),
        (
            "/add-learner",
            r#"{"id": "n2", "addr": "b:1", "vote": 1}"#,
            400,
            "vote",
        ),
        // Nobody could reach it.
        (
            "/add-learner",
            r#"{"id": "n2", "addr": "b:1"}"#,
            400,
            "chronos node --id n1",
        ),
        ("/change-membership", "[]", 400, "without voters"),
        ("/change-membership", "{}", 400, "expected [\\\"n1\\\", 2"),
        (
            "/change-membership",
            "[true]",
            400,
            "names and numbers of members",
        ),
        ("/init", r#"{"voters": ["n1"]}"#, 400, "unknown field"),
        ("/change-membership", "[1, 7]", 404, "7 is no member"),
        ("/remove", r#"{"id": "n7"}"#, 404, "Members: n1."),
        ("/remove", r#"{"id": true}"#, 400, "the name or the number"),
        ("/transfer-leader", r#"{"id": 9}"#, 404, "9 is no member"),
        ("/transfer-leader", "", 400, "no other voter"),
    ] {
        let answer = server.request("POST", path, "", body.as_bytes()).await;
        assert_eq!(status(&answer), wanted, "{path} {body}: {answer}");
        assert!(answer.contains(reason), "{path} {body}: {answer}");
    }
    let answer = server.get("/remove").await;
    assert_eq!(status(&answer), 405, "{answer}");
    // There is nothing to begin.
    let answer = server.request("POST", "/init", "", b"").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(json(&answer)["members"][0]["id"], "n1");
    // To vote alone, it votes already.
    let answer = server
        .request("POST", "/change-membership", "", br#"["n1"]"#)
        .await;
    assert_eq!(status(&answer), 200, "{answer}");
    server.finish().await;
}

#[tokio::test]
async fn no_member_is_to_be_looked_for_where_there_can_be_none() {
    let server = Server::start(HttpOptions::default()).await;
    let add = async |address: &str| {
        let body = format!(r#"{{"id": "n1", "addr": "{address}"}}"#);
        let answer = server.request("POST", "/add-learner", "", body.as_bytes());
        let answer = answer.await;
        assert_eq!(status(&answer), 400, "{address}: {answer}");
        answer
    };
    for address in [
        "b",
        "b:0",
        ":8000",
        "a b:1",
        "0.0.0.0:1",
        "[::]:1",
        "::1:1",
        "[b]:1",
        "http://b:1",
    ] {
        let answer = add(address).await;
        assert!(answer.contains("expected host:port"), "{address}: {answer}");
    }
    for address in ["b:1", "gateway-7.farm:8000", "10.0.0.1:1", "[::1]:1"] {
        let answer = add(address).await;
        let reason = "started by itself and reaches no others";
        assert!(answer.contains(reason), "{address}: {answer}");
    }
    server.finish().await;
}
