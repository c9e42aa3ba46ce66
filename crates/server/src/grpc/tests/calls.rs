//! Each call arrives as it was made, and its answer as it was given.

use std::num::NonZeroU64;

use bytes::Bytes;
use chronos_node::cluster::{
    AdminReply, AdminRequest, AppendReply, Ballot, CheckpointOffer, CheckpointPart,
    CheckpointRequest, ClientAddresses, Introduction, LogIndex, NodeNumber, OfferReply, PeerError,
    ProposeReply, ReadIndexReply, TransferRequest,
};
use futures::{stream, StreamExt as _};

use super::fake::Asked;
use super::{
    append_request, at, caller, heartbeat, member, pair, vote_request, within, Called, BALLOT,
};
use crate::grpc::{GrpcOptions, WireCompression};

#[tokio::test]
async fn votes() {
    let (called, peer) = pair().await;
    let granted = called.fake.answers.lock().vote.clone();
    assert_eq!(peer.vote(vote_request()).await, granted);
    assert_eq!(peer.pre_vote(vote_request()).await, granted);
    assert_eq!(
        called.fake.asked(),
        [Asked::Vote(vote_request()), Asked::PreVote(vote_request())]
    );
}

#[tokio::test]
async fn heartbeats_and_single_batches() {
    let (called, peer) = pair().await;
    for (request, reply) in [
        (heartbeat(), AppendReply::Matched(None)),
        (append_request(9, 300), AppendReply::Conflict(at(8))),
        (append_request(9, 0), AppendReply::HigherBallot(BALLOT)),
    ] {
        called.fake.answers.lock().append = reply.clone();
        assert_eq!(peer.append(request.clone()).await, Ok(reply));
        assert_eq!(called.fake.asked().pop(), Some(Asked::Append(request)));
    }
}

#[tokio::test]
async fn transfers() {
    let (called, peer) = pair().await;
    let request = TransferRequest {
        from: BALLOT,
        to: NodeNumber(2),
        last: Some(at(5)),
    };
    for answer in [Ok(()), Err("it lags behind".to_owned())] {
        called.fake.answers.lock().transfer = answer.clone();
        assert_eq!(peer.transfer(request.clone()).await, Ok(answer));
    }
    assert_eq!(called.fake.asked()[0], Asked::Transfer(request));
}

fn offer() -> CheckpointOffer {
    CheckpointOffer {
        ballot: BALLOT,
        id: "7-42".into(),
        list: Bytes::from_static(b"a manifest and a segment"),
        asked: NonZeroU64::new(5),
    }
}

#[tokio::test]
async fn a_checkpoint_is_asked_for() {
    let called = Called::start(super::callee()).await;
    let peer = called.seen_by(caller());
    let request = CheckpointRequest {
        node: NodeNumber(3),
        at_least: LogIndex(42),
        number: NonZeroU64::MAX,
    };
    let sent = peer.request_checkpoint(request.clone()).await;
    assert_eq!(sent, Ok("7-42".to_owned()));
    assert_eq!(called.fake.asked(), [Asked::Request(request)]);
}

fn part(offset: u64, bytes: usize) -> CheckpointPart {
    CheckpointPart {
        id: "7-42".into(),
        file: 1,
        offset,
        bytes: vec![3; bytes].into(),
    }
}

#[tokio::test]
async fn checkpoints() {
    // The same, packed and not.
    for compression in [WireCompression::None, WireCompression::Lz4] {
        let called = Called::start(super::callee()).await;
        let peer = called.seen_by(GrpcOptions {
            compression,
            ..caller()
        });
        assert_eq!(
            peer.offer_checkpoint(offer()).await,
            Ok(OfferReply::Wanted {
                file: 1,
                offset: 17
            })
        );
        called.fake.answers.lock().offer = OfferReply::HigherBallot(BALLOT);
        assert_eq!(
            peer.offer_checkpoint(offer()).await,
            Ok(OfferReply::HigherBallot(BALLOT))
        );
        let parts = [part(17, 60_000), part(60_017, 39_983)];
        let sent = peer.send_parts(stream::iter(parts.clone()).boxed());
        assert_eq!(within(sent).await, Ok(()));
        assert_eq!(peer.install_checkpoint(offer()).await, Ok(BALLOT));
        let asked = called.fake.asked();
        let [first, second] = parts.map(Asked::Part);
        assert_eq!(
            asked[1..],
            [
                Asked::Offer(offer()),
                first,
                second,
                Asked::StreamEnded,
                Asked::Install(offer())
            ]
        );
    }
}

#[tokio::test]
async fn proposals_and_reads() {
    let (called, peer) = pair().await;
    let payload = Bytes::from(vec![9; 5000]);
    assert_eq!(
        peer.propose(7, payload.clone()).await,
        Ok(ProposeReply::Appended(at(5000)))
    );
    let reader = super::reader();
    assert_eq!(
        peer.read_index(reader.clone()).await,
        Ok(ReadIndexReply::At(43))
    );
    assert_eq!(peer.follows(BALLOT).await, Ok(true));
    let later = Ballot {
        term: BALLOT.term + 1,
        ..BALLOT
    };
    assert_eq!(peer.follows(later).await, Ok(false));
    for leader in [None, Some(NodeNumber(3))] {
        called.fake.answers.lock().propose = Some(Ok(ProposeReply::NotLeader(leader)));
        called.fake.answers.lock().read_index = ReadIndexReply::NotLeader(leader);
        assert_eq!(
            peer.propose(7, Bytes::new()).await,
            Ok(ProposeReply::NotLeader(leader))
        );
        assert_eq!(
            peer.read_index(reader.clone()).await,
            Ok(ReadIndexReply::NotLeader(leader))
        );
    }
    assert_eq!(called.fake.asked()[0], Asked::Propose(7, payload));
}

#[tokio::test]
async fn admin() {
    let (called, peer) = pair().await;
    for (request, reply) in [
        (
            AdminRequest::AddLearner {
                member: member(4, "d:1"),
                auto_promote: true,
            },
            AdminReply::Done,
        ),
        (
            AdminRequest::ChangeMembership {
                voters: vec![NodeNumber(1), NodeNumber(4)],
                remove: true,
            },
            AdminReply::Refused("it has not caught up".into()),
        ),
        (
            AdminRequest::TransferLeader { to: None },
            AdminReply::NotLeader(Some(NodeNumber(3))),
        ),
    ] {
        called.fake.answers.lock().admin = reply.clone();
        assert_eq!(peer.admin(request.clone()).await, Ok(reply));
        assert_eq!(called.fake.asked().pop(), Some(Asked::Admin(request)));
    }
}

/// Who does not belong anywhere yet may ask.
#[tokio::test]
async fn introductions() {
    let called = Called::start(super::callee()).await;
    let peer = called.seen_by(caller());
    for leader in [None, Some(member(2, "b:1"))] {
        let introduction = Introduction {
            cluster_id: "farm".into(),
            addresses: ClientAddresses {
                http: leader.is_some().then(|| "b:9000".into()),
                pg: Some("b:5433".into()),
            },
            leader,
        };
        called.fake.answers.lock().introduction = introduction.clone();
        assert_eq!(peer.introduce().await, Ok(introduction));
    }
}

#[tokio::test]
async fn errors_arrive_as_they_are() {
    let (called, peer) = pair().await;
    for error in [
        PeerError::Failed("the disk is full: öäü".into()),
        PeerError::Refused("not a member".into()),
        PeerError::TimedOut(150),
        PeerError::Unreachable("it is stopping".into()),
    ] {
        called.fake.answers.lock().vote = Err(error.clone());
        assert_eq!(peer.vote(vote_request()).await, Err(error));
    }
    called.fake.answers.lock().parts = Err(PeerError::Failed("the disk is full".into()));
    let endless = stream::repeat(part(0, 100_000)).boxed();
    assert_eq!(
        within(peer.send_parts(endless)).await,
        Err(PeerError::Failed("the disk is full".into()))
    );
}
