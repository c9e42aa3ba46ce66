//! A follower whose disk does not keep up with its leader, or fails. What it has received stays within its memory
//! limit, it goes on hearing heartbeats, and has everything once the disk writes again; what its log does not take any
//! more it does not take for applied.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use chronos_env::{Env, SimEnv};
use chronos_node::cluster::{
    AppendReply, AppendRequest, Ballot, ClusterOptions, ClusterStart, ConsensusRuntime, GroupId,
    LogEntry, LogIndex, LogPosition, Member, NodeNumber, Peer, Term, Timing,
};
use chronos_node::{Node, NodeOptions, Profile};
use futures::{stream, StreamExt};

const LEADER: Ballot = Ballot {
    term: 5,
    node: NodeNumber(2),
    elected: true,
};
const MEMORY: u64 = 32 << 20;
/// An eighth of it is for entries that are not written.
const ROOM: usize = 4 << 20;
const ENTRY_BYTES: usize = 1 << 20;
const ENTRIES: u64 = 60;
/// What a new leader's first entry consists of.
const BLANK: u8 = 0x80;
/// What waits for no disk is done long before.
const SOON: Duration = Duration::from_secs(10);

/// A member of three, of which the others are played here.
fn follower(env: Env) -> Node {
    let member = |number: u32| Member::new(&format!("n{number}"), &format!("sim:{number}"));
    let members: Vec<Member> = (1..=3).map(|number| member(number).unwrap()).collect();
    let options = NodeOptions {
        profile: Some(Profile::Potato),
        memory_bytes_max: Some(MEMORY),
        cluster: ClusterOptions {
            member: members[0].clone(),
            start: ClusterStart::Static(members),
            runtime: ConsensusRuntime::Ambient { seed: 1 },
            // It never stands for election.
            timing: Some(Timing {
                heartbeat_ms: 1_000,
                election_timeout_ms: 100_000,
            }),
            ..ClusterOptions::default()
        },
        ..NodeOptions::new(Path::new("/data"))
    };
    Node::open(env, &options).unwrap()
}

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

/// One entry, which nobody applies who does not know what it is.
fn request(index: u64, bytes: usize) -> AppendRequest {
    let mut payload = vec![0; bytes];
    payload[0] = BLANK;
    AppendRequest {
        ballot: LEADER,
        // The first entry is the membership that all three began with.
        previous: Some(at(if index == 2 { 1 } else { LEADER.term }, index - 1)),
        entries: vec![LogEntry {
            group: GroupId(0),
            term: Term(LEADER.term),
            index: LogIndex(index),
            payload: payload.into(),
        }],
        committed: None,
        election_timeout_ms: 0,
    }
}

/// That entries up to this one are there, and committed up to another.
fn heartbeat(last: u64, committed: Option<u64>) -> AppendRequest {
    AppendRequest {
        previous: Some(at(LEADER.term, last)),
        entries: Vec::new(),
        committed: committed.map(|index| at(LEADER.term, index)),
        ..request(last + 1, 1)
    }
}

fn held(node: &Node) -> u64 {
    let classes = node.status().memory.classes;
    let writes = classes.iter().find(|class| class.class == "writes");
    writes.unwrap().bytes
}

/// Lets everything happen that waits for no disk.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Waits for something that waits for no disk.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let done = tokio::time::timeout(SOON, future).await;
    done.unwrap_or_else(|_| panic!("{what} waits for the disk"))
}

/// Lets the disk write.
async fn write_until(node: &Node, what: &str, is_done: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_done() {
            return;
        }
        settle().await;
        node.step_log();
    }
    panic!("{what}: {:?}", node.cluster().status());
}

/// Once it follows, it has nothing else to write.
async fn follow(node: &Node, service: &Arc<dyn Peer>) {
    let first = tokio::spawn({
        let service = Arc::clone(service);
        async move { service.append(request(2, 100)).await }
    });
    write_until(node, "the first entry", || first.is_finished()).await;
    let matched = AppendReply::Matched(Some(at(5, 2)));
    assert_eq!(first.await.unwrap(), Ok(matched));
}

#[tokio::test(start_paused = true)]
async fn what_is_received_and_not_written_stays_within_its_room() {
    // Timers strike at whole milliseconds since the runtime was made, which is some time ago by the real clock.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let node = follower(Env::simulated(1));
    let service = node.cluster().service();
    follow(&node, &service).await;

    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let requests = stream::iter(3..3 + ENTRIES).map(move |index| {
        counted.fetch_add(1, Ordering::Relaxed);
        request(index, ENTRY_BYTES)
    });
    let replies = service.append_stream(requests.boxed()).await.unwrap();
    let replies = tokio::spawn(replies.collect::<Vec<_>>());
    for _ in 0..50 {
        settle().await;
    }
    // One that was read waits for room.
    let most = ROOM / ENTRY_BYTES;
    assert_eq!(read.load(Ordering::Relaxed), most);
    let bytes = held(&node);
    assert!(bytes > 0 && bytes <= ROOM as u64, "{bytes}");
    assert!(!replies.is_finished());

    let heard = soon("a heartbeat", service.append(heartbeat(2, None))).await;
    assert!(matches!(heard, Ok(AppendReply::Matched(_))), "{heard:?}");

    write_until(&node, "all entries", || {
        assert!(held(&node) <= ROOM as u64);
        replies.is_finished()
    })
    .await;
    let replies = replies.await.unwrap();
    let last = replies.last().cloned();
    assert_eq!(
        last,
        Some(Ok(AppendReply::Matched(Some(at(5, 2 + ENTRIES)))))
    );
    assert_eq!(replies.len() as u64, ENTRIES);
    assert_eq!(node.cluster().status().last_index, 2 + ENTRIES);
    assert_eq!(held(&node), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_log_that_has_failed_does_not_take_is_not_taken_for_applied() {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let env = SimEnv::new(1);
    let node = follower(env.env());
    let service = node.cluster().service();
    follow(&node, &service).await;

    // That an entry is committed is noted on the disk, for which nobody waits: nobody is told that it failed.
    let heard = soon("a heartbeat", service.append(heartbeat(2, Some(2)))).await;
    assert!(matches!(heard, Ok(AppendReply::Matched(_))), "{heard:?}");
    settle().await;
    env.disk.crash_after_write_points(env.disk.write_points());
    while node.step_log() {}
    assert_eq!(node.cluster().status().applied_index, 2);

    let further = AppendRequest {
        committed: Some(at(LEADER.term, 3)),
        ..request(3, 100)
    };
    let refused = soon("the refusal", service.append(further)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(node.cluster().status().applied_index, 2);
    let fault = node.status().fault;
    assert!(
        fault.as_ref().is_some_and(|fault| fault.contains("log")),
        "{fault:?}"
    );
}
