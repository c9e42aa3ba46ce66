//! Certificates between nodes, and of nodes for clients that look for the leader.

use std::path::Path;

use serde_json::Value;

use crate::members::{connected_by, leader_of, three, wait_for, wait_for_members, Place};
use crate::node::get;
use crate::tls::Authority;

/// Writes a certificate for this machine and its key; gives the names of the files.
fn certify(root: &Path, name: &str, authority: &Authority) -> (String, String) {
    let (certificate, key) = authority.certificate(&["127.0.0.1"]);
    let write = |file: String, text: &str| {
        let path = root.join(file);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    (
        write(format!("{name}.crt"), &certificate),
        write(format!("{name}.key"), &key),
    )
}

fn authority_file(root: &Path, authority: &Authority) -> String {
    let path = root.join("nodes.crt");
    std::fs::write(&path, &authority.pem).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn nodes_with_certificates_form_a_cluster_and_others_are_kept_out() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let (ours, others) = (Authority::new("nodes"), Authority::new("others"));
    let believed = authority_file(root, &ours);
    let (places, peers) = three(root);
    let started = |place: &Place, name: &str, authority: &Authority, flags: &[&str]| {
        let (certificate, key) = certify(root, name, authority);
        let own = ["--peer-tls-cert", &certificate, "--peer-tls-key", &key];
        let theirs = ["--peer-tls-ca-cert", &believed];
        place.start(&[&own[..], &theirs, flags].concat())
    };
    let [first, second, third] = &places;
    let static_start = ["--peers", peers.as_str()];
    let nodes = [
        started(first, "n1", &ours, &static_start),
        started(second, "n2", &ours, &static_start),
        started(third, "n3", &ours, &static_start),
    ];
    let leads = leader_of(&nodes.each_ref());
    let [one, other] = [1, 2].map(|step| &nodes[(leads + step) % 3]);
    one.sql("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)");
    one.sql("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING");
    assert_eq!(other.rows("SELECT id FROM t"), serde_json::json!([[1]]));
    let (_, metrics) = get(places[leads].http, "/metrics").expect("an answer");
    for id in ["n1", "n2", "n3"]
        .iter()
        .filter(|id| **id != places[leads].id())
    {
        let line = format!("chronos_raft_link_round_trip_seconds{{node=\"{id}\"}}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }

    // Without a certificate, and with one of another authority.
    let target = first.grpc.to_string();
    let join = ["--join", target.as_str()];
    let without = Place::new("n4", root).start(&join);
    let strange = started(&Place::new("n5", root), "n5", &others, &join);
    for stranger in [&without, &strange] {
        wait_for("it is refused", || {
            stranger.has_told("cannot learn from").then_some(())
        });
    }
    // Who has one of ours is let in; meanwhile the others were not.
    let sixth = started(&Place::new("n6", root), "n6", &ours, &join);
    let voters = ["n1", "n2", "n3", "n6"].map(|id| (id, "voter"));
    wait_for_members(&nodes[0], &voters);
    assert_eq!(sixth.rows("SELECT id FROM t"), serde_json::json!([[1]]));
}

#[test]
fn the_leader_is_found_over_https() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let ours = Authority::new("nodes");
    let believed = authority_file(root, &ours);
    let (certificate, key) = certify(root, "n1", &ours);
    let place = Place::new("n1", root);
    let own = ["--tls-cert", &certificate, "--tls-key", &key];
    let _runs = place.start(&[&["--bootstrap", "--tls", "require"][..], &own].concat());
    let verified = [
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", believed.as_str()),
    ];
    wait_for("it is found", || {
        let told = connected_by(&place.grpc, &verified);
        told.contains("127.0.0.1").then_some(())
    });
    // In clear nobody answers.
    let told = connected_by(&place.grpc, &[("PGSSLMODE", "disable")]);
    assert!(!told.contains("127.0.0.1"), "{told}");
    let (status, health) = get(place.http, "/health").expect("an answer");
    let health: Value = serde_json::from_str(&health).unwrap_or_default();
    assert_eq!((status, &health["node_id"]), (403, &Value::Null));
}
