//! Streams: in order, without waiting, each with its own connection, and ended from both sides.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use chronos_node::cluster::{AppendReply, CheckpointPart, PeerError};
use futures::{stream, StreamExt as _};

use super::fake::Asked;
use super::{append_request, at, callee, caller, heartbeat, pair, vote_request, within, Called};
use crate::grpc::{GrpcOptions, WireCompression};

fn streamed(asked: &[Asked]) -> usize {
    let is_streamed = |asked: &&Asked| matches!(asked, Asked::Streamed(_));
    asked.iter().filter(is_streamed).count()
}

#[tokio::test]
async fn requests_do_not_wait_for_answers() {
    let (called, peer) = pair().await;
    called.fake.permits.forget_permits(usize::MAX);
    let requests: Vec<_> = (1..=5).map(|index| append_request(index, 100)).collect();
    // A stream that does not end by itself.
    let stream = stream::iter(requests.clone()).chain(stream::pending());
    let mut replies = within(peer.append_stream(stream.boxed())).await.unwrap();
    called.fake.wait_for(|asked| streamed(asked) == 5).await;
    let expected: Vec<_> = requests.into_iter().map(Asked::Streamed).collect();
    assert_eq!(called.fake.asked(), expected);
    called.fake.permits.add_permits(5);
    for index in 1..=5 {
        let reply = within(replies.next()).await;
        assert_eq!(reply, Some(Ok(AppendReply::Matched(Some(at(index))))));
    }
}

#[tokio::test]
async fn packed_entries_arrive_as_they_were() {
    let called = Called::start(callee()).await;
    let peer = called.seen_by(GrpcOptions {
        compression: WireCompression::Lz4,
        ..caller()
    });
    let requests = [append_request(1, 50_000), append_request(2, 10)];
    let replies = peer.append_stream(stream::iter(requests.clone()).boxed());
    let replies: Vec<_> = within(within(replies).await.unwrap().collect()).await;
    assert_eq!(replies.len(), 2);
    let [first, second] = requests.map(Asked::Streamed);
    assert_eq!(called.fake.asked(), [first, second, Asked::StreamEnded]);
}

#[tokio::test]
async fn a_stream_ends_when_its_requests_do() {
    let (called, peer) = pair().await;
    let requests = stream::iter([append_request(1, 1)]).boxed();
    let replies = within(peer.append_stream(requests)).await.unwrap();
    let replies: Vec<_> = within(replies.collect()).await;
    assert_eq!(replies, [Ok(AppendReply::Matched(Some(at(1))))]);
    assert_eq!(called.fake.asked().pop(), Some(Asked::StreamEnded));
}

#[tokio::test]
async fn dropping_answers_ends_the_requests() {
    let (called, peer) = pair().await;
    let requests = stream::iter([append_request(1, 1)]).chain(stream::pending());
    let mut replies = within(peer.append_stream(requests.boxed())).await.unwrap();
    within(replies.next()).await.unwrap().unwrap();
    drop(replies);
    let is_ended = |asked: &[Asked]| asked.last() == Some(&Asked::StreamEnded);
    called.fake.wait_for(is_ended).await;
}

#[tokio::test]
async fn dropping_a_call_cancels_it_there() {
    let (called, peer) = pair().await;
    called.fake.answers.lock().is_mute = true;
    let call = tokio::spawn(async move { peer.vote(vote_request()).await });
    called.fake.wait_for(|asked| !asked.is_empty()).await;
    call.abort();
    let is_cancelled = |asked: &[Asked]| asked.last() == Some(&Asked::Cancelled);
    called.fake.wait_for(is_cancelled).await;
}

#[tokio::test]
async fn heartbeats_do_not_queue_behind_entries_or_checkpoints() {
    let (called, peer) = pair().await;
    called.fake.answers.lock().is_deaf = true;
    // More than any window takes, and nobody reads it.
    let requests = stream::repeat(append_request(1, 1 << 20)).boxed();
    let replies = within(peer.append_stream(requests)).await.unwrap();
    let parts = stream::repeat(CheckpointPart {
        id: "1".into(),
        file: 0,
        offset: 0,
        bytes: vec![0; 1 << 20].into(),
    });
    let sending = peer.send_parts(parts.boxed());
    let beats = async {
        for _ in 0..20 {
            let beat = within(peer.append(heartbeat())).await;
            assert_eq!(beat, Ok(AppendReply::Matched(None)));
        }
    };
    tokio::select! {
        sent = sending => panic!("an endless checkpoint was sent: {sent:?}"),
        () = beats => {}
    }
    drop(replies);
}

/// One thread for all connections, and a checkpoint that could be packed for ever: thousands of its
/// parts fit into a window.
#[tokio::test]
async fn packing_leaves_time_for_others() {
    let called = Called::start(callee()).await;
    let peer = called.seen_by(GrpcOptions {
        compression: WireCompression::Lz4,
        ..caller()
    });
    let part = CheckpointPart {
        id: "1".into(),
        file: 0,
        offset: 0,
        bytes: vec![0; 10_000].into(),
    };
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let parts = stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        part.clone()
    });
    let sending = peer.send_parts(parts.boxed());
    let beats = async {
        let is_part = |asked: &[Asked]| asked.iter().any(|a| matches!(a, Asked::Part(_)));
        called.fake.wait_for(is_part).await;
        assert!(within(peer.append(heartbeat())).await.is_ok());
    };
    tokio::select! {
        sent = sending => panic!("an endless checkpoint was sent: {sent:?}"),
        () = beats => {}
    }
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken < 10_000, "{taken} parts were sent in the meantime");
}

#[tokio::test]
async fn too_large_messages_are_told() {
    let called = Called::start(GrpcOptions {
        message_bytes_max: 2000,
        ..callee()
    })
    .await;
    // The caller knows, or the called node says so.
    for message_bytes_max in [2000, 1 << 20] {
        let peer = called.seen_by(GrpcOptions {
            message_bytes_max,
            ..caller()
        });
        let too_large = |error: PeerError| match error {
            PeerError::Failed(why) => assert!(why.contains("too large"), "{why}"),
            other => panic!("{other:?}"),
        };
        too_large(peer.append(append_request(1, 2000)).await.unwrap_err());
        too_large(peer.propose(1, vec![0; 2000].into()).await.unwrap_err());
        let requests = [1, 2].map(|index| append_request(index, 1000 * index as usize));
        let requests = stream::iter(requests).chain(stream::pending());
        let replies = within(peer.append_stream(requests.boxed())).await.unwrap();
        let replies: Vec<_> = within(replies.collect()).await;
        too_large(replies.last().unwrap().clone().unwrap_err());
        let parts = [CheckpointPart {
            id: "1".into(),
            file: 0,
            offset: 0,
            bytes: vec![0; 2000].into(),
        }];
        let sent = within(peer.send_parts(stream::iter(parts).boxed())).await;
        too_large(sent.unwrap_err());
        let parts = called.fake.asked();
        assert!(!parts.iter().any(|asked| matches!(asked, Asked::Part(_))));
        // The connection is as good as before.
        assert!(peer.append(append_request(1, 1000)).await.is_ok());
    }
}

#[tokio::test]
async fn checkpoints_are_throttled() {
    let called = Called::start(callee()).await;
    let peer = called.seen_by(GrpcOptions {
        checkpoint_bytes_per_second: NonZeroU64::new(1),
        ..caller()
    });
    let part = CheckpointPart {
        id: "1".into(),
        file: 0,
        offset: 0,
        bytes: vec![0; 10_000].into(),
    };
    // The second one would go in some hours; other calls do not wait for it.
    let sending = peer.send_parts(stream::repeat(part).boxed());
    let others = async {
        let is_part = |asked: &[Asked]| asked.iter().any(|a| matches!(a, Asked::Part(_)));
        called.fake.wait_for(is_part).await;
        assert!(peer.append(heartbeat()).await.is_ok());
    };
    tokio::select! {
        sent = sending => panic!("an endless checkpoint was sent: {sent:?}"),
        () = others => {}
    }
    let asked = called.fake.asked();
    let parts = asked.iter().filter(|a| matches!(a, Asked::Part(_)));
    assert_eq!(parts.count(), 1);
}
