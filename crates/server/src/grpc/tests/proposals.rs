//! Proposals share a stream, and nothing else.

use chronos_node::cluster::{PeerError, ProposeReply};
use futures::{future, FutureExt as _};

use super::fake::{Asked, HELD_BYTES};
use super::{at, callee, eventually, pair, within, Called};

fn of(bytes: usize) -> bytes::Bytes {
    vec![7; bytes].into()
}

fn appended(bytes: usize) -> Result<ProposeReply, PeerError> {
    Ok(ProposeReply::Appended(at(bytes as u64)))
}

#[tokio::test]
async fn each_gets_its_own_answer() {
    let (_called, peer) = pair().await;
    let proposals = (0..300).map(|bytes| peer.propose(7, of(bytes)));
    let answers = within(future::join_all(proposals)).await;
    let expected: Vec<_> = (0..300).map(appended).collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn nobody_waits_for_another() {
    let (called, peer) = pair().await;
    called.fake.permits.forget_permits(usize::MAX);
    let mut held = peer.propose(7, of(HELD_BYTES as usize));
    assert_eq!((&mut held).now_or_never(), None);
    // A large one goes by a stream of its own.
    for bytes in [1, 300_000] {
        assert_eq!(within(peer.propose(7, of(bytes))).await, appended(bytes));
    }
    assert_eq!((&mut held).now_or_never(), None);
    called.fake.permits.add_permits(1);
    assert_eq!(within(held).await, appended(HELD_BYTES as usize));
}

#[tokio::test]
async fn what_fails_for_one_is_nothing_to_others() {
    let (called, peer) = pair().await;
    for error in [
        PeerError::Failed("the disk is full".into()),
        PeerError::TimedOut(70),
    ] {
        called.fake.answers.lock().propose = Some(Err(error.clone()));
        assert_eq!(within(peer.propose(7, of(1))).await, Err(error));
    }
    called.fake.answers.lock().propose = None;
    // Whoever gives up is not waited for.
    called.fake.permits.forget_permits(usize::MAX);
    let given_up = peer.propose(7, of(HELD_BYTES as usize)).now_or_never();
    assert_eq!(given_up, None);
    assert_eq!(within(peer.propose(7, of(2))).await, appended(2));
    called.fake.permits.add_permits(1);
    assert_eq!(within(peer.propose(7, of(3))).await, appended(3));
}

#[tokio::test]
async fn nobody_knows_what_became_of_those_that_wait_when_a_node_stops() {
    let (called, peer) = pair().await;
    let address = called.address;
    called.fake.permits.forget_permits(usize::MAX);
    let asking = std::sync::Arc::clone(&peer);
    let held = tokio::spawn(async move { asking.propose(7, of(HELD_BYTES as usize)).await });
    let is_there = |asked: &[Asked]| asked.iter().any(|a| matches!(a, Asked::Propose(..)));
    called.fake.wait_for(is_there).await;
    called.stop().await.unwrap();
    let told = PeerError::Unreachable("the node is stopping".into());
    assert_eq!(within(held).await.unwrap(), Err(told));
    let failed = within(peer.propose(7, of(1))).await;
    assert!(
        matches!(failed, Err(PeerError::Unreachable(_))),
        "{failed:?}"
    );
    let _called = Called::start_at(address, callee()).await;
    eventually(|| async { peer.propose(7, of(1)).await == appended(1) }).await;
}
