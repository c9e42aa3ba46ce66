//! Who does not belong here is told so.

use std::time::Duration;

use chronos_node::cluster::{PeerError, Peers as _};
use futures::{stream, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{
    append_request, callee, caller, eventually, heartbeat, member, refusal, vote_request, within,
    Called,
};
use crate::grpc::{pb, ClusterId, GrpcOptions, GrpcPeers, Secret};

fn of_cluster(options: GrpcOptions, id: &str) -> GrpcOptions {
    let cluster_id = ClusterId::default();
    cluster_id.set(id).unwrap();
    GrpcOptions {
        cluster_id: cluster_id.into(),
        ..options
    }
}

fn with_secret(options: GrpcOptions, secret: &str) -> GrpcOptions {
    GrpcOptions {
        secret: Some(Secret::new(secret)),
        ..options
    }
}

#[tokio::test]
async fn nodes_of_another_cluster() {
    let called = Called::start(of_cluster(callee(), "red")).await;
    let stranger = called.seen_by(of_cluster(caller(), "blue"));
    let why = refusal(stranger.vote(vote_request()).await);
    assert!(why.contains("\"red\"") && why.contains("\"blue\""), "{why}");
    refusal(stranger.append(heartbeat()).await);
    let requests = stream::iter([append_request(1, 1)]).boxed();
    let streamed = match stranger.append_stream(requests).await {
        Err(e) => Err(e),
        Ok(mut replies) => within(replies.next()).await.unwrap(),
    };
    refusal(streamed);
    refusal(stranger.send_parts(stream::empty().boxed()).await);
    assert_eq!(called.fake.asked(), []);

    assert!(called
        .seen_by(of_cluster(caller(), "red"))
        .vote(vote_request())
        .await
        .is_ok());
    // A node that waits to be added knows no cluster yet.
    assert!(called.seen_by(caller()).vote(vote_request()).await.is_ok());
}

#[tokio::test]
async fn a_cluster_that_becomes_known_counts_from_then_on() {
    let options = callee();
    let called = Called::start(options.clone()).await;
    let peer = called.seen_by(of_cluster(caller(), "blue"));
    assert!(peer.vote(vote_request()).await.is_ok());
    options.cluster_id.set("red").unwrap();
    refusal(peer.vote(vote_request()).await);
}

#[tokio::test]
async fn nodes_without_the_secret() {
    let called = Called::start(with_secret(callee(), "open sesame")).await;
    for wrong in [caller(), with_secret(caller(), "open sésame")] {
        let why = refusal(called.seen_by(wrong).vote(vote_request()).await);
        assert!(why.contains("secret"), "{why}");
    }
    assert_eq!(called.fake.asked(), []);
    let right = called.seen_by(with_secret(caller(), "open sesame"));
    assert!(right.vote(vote_request()).await.is_ok());
}

#[tokio::test]
async fn calls_for_another_node_and_of_the_node_itself() {
    let called = Called::start(callee()).await;
    let address = called.address.to_string();
    let other = GrpcPeers::new(caller()).peer(&member(3, &address));
    let why = refusal(other.vote(vote_request()).await);
    assert!(why.contains("meant for node 3"), "{why}");
    let twin = called.seen_by(GrpcOptions {
        member: member(2, "127.0.0.1:9"),
        ..caller()
    });
    let why = refusal(twin.vote(vote_request()).await);
    assert!(why.contains("number 2"), "{why}");
    assert_eq!(called.fake.asked(), []);
}

#[tokio::test]
async fn other_protocols() {
    let called = Called::start(callee()).await;
    let channel = super::public::channel(&called).await;
    let mut client = pb::replication_client::ReplicationClient::new(channel);
    for (protocol, expected) in [
        (None, "chronos-protocol"),
        (Some("99"), "version 99"),
        (Some("one"), "not a number"),
    ] {
        let mut request = tonic::Request::new(pb::ReadIndexRequest::default());
        if let Some(protocol) = protocol {
            let metadata = request.metadata_mut();
            metadata.insert("chronos-protocol", protocol.parse().unwrap());
        }
        let status = client.read_index(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains(expected), "{status:?}");
        assert!(matches!(
            crate::grpc::status::peer_error(&status),
            PeerError::Refused(_)
        ));
    }
    assert_eq!(called.fake.asked(), []);
    // What docs/replication.md says is enough.
    let mut request = tonic::Request::new(pb::ReadIndexRequest::default());
    for (key, value) in [
        ("chronos-protocol", "1"),
        ("chronos-sender", "0"),
        ("chronos-to", "0"),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    assert!(client.read_index(request).await.is_ok());
}

#[tokio::test]
async fn messages_that_say_nothing() {
    let called = Called::start(callee()).await;
    let channel = super::public::channel(&called).await;
    let mut client = pb::replication_client::ReplicationClient::new(channel);
    let pass = crate::grpc::pass::Pass::new(&caller(), member(2, "").number);
    let status = client.vote(pass.call(pb::VoteRequest::default())).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("ballot"), "{status:?}");
    let packed = pb::AppendRequest {
        packed: Some(pb::Packed {
            unpacked_bytes: 10_000,
            lz4: vec![0xff; 100].into(),
        }),
        ..Default::default()
    };
    let good = pb::AppendRequest::from(append_request(1, 1));
    let requests = stream::iter([good, packed]);
    let replies = client.append_stream(pass.call(requests)).await.unwrap();
    let replies: Vec<_> = within(replies.into_inner().collect()).await;
    // The good one is answered before.
    assert_eq!(replies.len(), 2);
    let status = replies[1].as_ref().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("damaged"), "{status:?}");
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go() {
    let options = GrpcOptions {
        connect_timeout: Duration::from_millis(50),
        ..callee()
    };
    let called = Called::start(options).await;
    let mut silent = TcpStream::connect(called.address).await.unwrap();
    let mut read = [0; 1];
    assert_eq!(within(silent.read(&mut read)).await.unwrap(), 0);
    eventually(|| async { called.seen_by(caller()).vote(vote_request()).await.is_ok() }).await;
}
