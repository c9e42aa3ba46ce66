//! Connections that break and come back.

use std::sync::Arc;

use chronos_node::cluster::{NodeNumber, PeerError, Peers as _};
use futures::{stream, StreamExt as _};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::{
    append_request, callee, caller, eventually, heartbeat, member, pair, vote_request, within,
    Called,
};
use crate::grpc::GrpcPeers;

#[tokio::test]
async fn a_node_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let peer = GrpcPeers::new(caller()).peer(&member(2, &address));
    // The second one fails without a try of its own, and says the same.
    for _ in 0..2 {
        match within(peer.vote(vote_request())).await {
            Err(PeerError::Unreachable(why)) => assert!(why.contains("refused"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let nowhere = GrpcPeers::new(caller()).peer(&member(2, "no address at all"));
    assert!(matches!(
        within(nowhere.read_index(super::reader())).await,
        Err(PeerError::Unreachable(_))
    ));
}

#[tokio::test]
async fn a_node_that_restarts_is_found_again() {
    let (called, peer) = pair().await;
    let address = called.address;
    let requests = stream::iter([append_request(1, 1)]).chain(stream::pending());
    let mut replies = within(peer.append_stream(requests.boxed())).await.unwrap();
    within(replies.next()).await.unwrap().unwrap();

    called.stop().await.unwrap();
    let end = within(replies.next()).await;
    let told = PeerError::Unreachable("the node is stopping".into());
    assert_eq!(end, Some(Err(told)));
    assert_eq!(within(replies.next()).await, None);
    let failed = within(peer.append(heartbeat())).await;
    assert!(
        matches!(failed, Err(PeerError::Unreachable(_))),
        "{failed:?}"
    );

    let _called = Called::start_at(address, callee()).await;
    eventually(|| async { peer.append(heartbeat()).await.is_ok() }).await;
    let requests = stream::iter([append_request(2, 1)]).boxed();
    let again = within(peer.append_stream(requests)).await.unwrap();
    assert_eq!(within(again.collect::<Vec<_>>()).await.len(), 1);
}

#[tokio::test]
async fn ways_are_kept_and_measured() {
    let called = Called::start(callee()).await;
    let address = called.address.to_string();
    let peers = GrpcPeers::new(caller());
    let peer = peers.peer(&member(2, &address));
    let again = peers.peer(&member(2, &address));
    assert!(Arc::ptr_eq(&peer, &again));
    // Nobody knows the number of a node that is only asked whom to join.
    let joined = peers.peer(&member(0, &address));
    assert!(joined.read_index(super::reader()).await.is_ok());

    assert_eq!(peers.links()[0].connects, 0);
    peer.append(heartbeat()).await.unwrap();
    peer.propose(1, vec![0; 5000].into()).await.unwrap();
    let links = peers.links();
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].member.number, NodeNumber(2));
    assert_eq!(links[0].connects, 2);
    assert!(links[0].round_trip_micros.is_some());
    assert!(links[0].sent_bytes > 5000 && links[0].received_bytes > 0);

    let mut registry = Registry::default();
    crate::grpc::register(&mut registry, Arc::clone(&peers));
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    let node = &links[0].member.name;
    for line in [
        format!("chronos_raft_link_connects_total{{node=\"{node}\"}} 2"),
        format!("chronos_raft_link_packed_bytes_total{{node=\"{node}\"}} 0"),
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} in {shown}");
    }
    let round_trip = format!("chronos_raft_link_round_trip_seconds{{node=\"{node}\"}} ");
    assert!(shown.contains(&round_trip), "{round_trip} in {shown}");

    // Another address is another way.
    assert!(!Arc::ptr_eq(&peer, &peers.peer(&member(2, "127.0.0.1:1"))));
    assert_eq!(peers.links().len(), 1);
}

/// The runtime of whoever calls is not the one that works on connections.
#[test]
fn calls_come_from_any_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (ours, theirs) = (runtime(), runtime());
    let (called, peer) = ours.block_on(pair());
    theirs
        .block_on(async { within(peer.vote(vote_request())).await })
        .unwrap();
    drop(theirs);
    ours.block_on(async { within(peer.vote(vote_request())).await })
        .unwrap();
    assert_eq!(called.fake.asked().len(), 2);
    let outside = std::thread::spawn(move || peer_elsewhere(&ours.handle().clone()));
    outside.join().unwrap();
}

/// A way made on a thread without a runtime.
fn peer_elsewhere(runtime: &tokio::runtime::Handle) {
    let peers = {
        let _entered = runtime.enter();
        GrpcPeers::new(caller())
    };
    let _peer = peers.peer(&member(2, "127.0.0.1:1"));
}
