//! Two nodes with a real connection between them; behind the called one stands a [`Fake`].

mod calls;
mod fake;
mod links;
mod messages;
mod proposals;
mod public;
mod refusals;
mod streams;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chronos_node::cluster::{
    AppendRequest, Ballot, GroupId, LogEntry, LogIndex, LogPosition, Member, NodeNumber, Peer,
    PeerError, Peers as _, ReadIndexRequest, Term, VoteRequest,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{serve, GrpcOptions, GrpcPeers};
use fake::Fake;

/// No state is waited for longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// A node that is called.
struct Called {
    address: SocketAddr,
    fake: Arc<Fake>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Called {
    async fn start(options: GrpcOptions) -> Called {
        Called::start_at("127.0.0.1:0".parse().unwrap(), options).await
    }

    async fn start_at(address: SocketAddr, options: GrpcOptions) -> Called {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Fake::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Arc::clone(&fake) as Arc<dyn Peer>;
        let served = tokio::spawn(serve(listener, service, options, async {
            let _ = stopped.await;
        }));
        Called {
            address,
            fake,
            stop,
            served,
        }
    }

    /// Stops it; gives whether it ended in order.
    async fn stop(self) -> std::io::Result<()> {
        drop(self.stop);
        within(self.served).await.unwrap()
    }

    /// It, as a node with these options sees it.
    fn seen_by(&self, options: GrpcOptions) -> Arc<dyn Peer> {
        GrpcPeers::new(options).peer(&member(2, &self.address.to_string()))
    }
}

/// A node and one that calls it.
async fn pair() -> (Called, Arc<dyn Peer>) {
    let called = Called::start(callee()).await;
    let peer = called.seen_by(caller());
    (called, peer)
}

fn member(number: u32, address: &str) -> Member {
    Member {
        number: NodeNumber(number),
        name: format!("n{number}"),
        address: address.into(),
    }
}

fn caller() -> GrpcOptions {
    GrpcOptions::new(member(1, "127.0.0.1:1"))
}

fn callee() -> GrpcOptions {
    GrpcOptions {
        shutdown_grace: Duration::from_millis(200),
        ..GrpcOptions::new(member(2, "127.0.0.1:2"))
    }
}

/// Waits, but not for ever.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(DEADLINE, future).await;
    outcome.expect("what was waited for did not come")
}

/// Tries until it is so.
async fn eventually<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    within(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

const BALLOT: Ballot = Ballot {
    term: 7,
    node: NodeNumber(1),
    elected: true,
};

fn at(index: u64) -> LogPosition {
    LogPosition { term: 7, index }
}

fn vote_request() -> VoteRequest {
    VoteRequest {
        ballot: BALLOT,
        last: Some(at(41)),
        transfer: false,
    }
}

/// A request with one entry of so many bytes.
fn append_request(index: u64, bytes: usize) -> AppendRequest {
    let entry = LogEntry {
        group: GroupId(0),
        term: Term(7),
        index: LogIndex(index),
        payload: vec![index as u8; bytes].into(),
    };
    AppendRequest {
        ballot: BALLOT,
        previous: index.checked_sub(1).map(at),
        entries: vec![entry],
        committed: None,
        election_timeout_ms: 1_000,
    }
}

fn reader() -> ReadIndexRequest {
    ReadIndexRequest {
        node: NodeNumber(1),
        ballot: Some(BALLOT),
    }
}

fn heartbeat() -> AppendRequest {
    AppendRequest {
        ballot: BALLOT,
        previous: None,
        entries: vec![],
        committed: Some(at(3)),
        election_timeout_ms: 1_000,
    }
}

/// What a refused call says.
fn refusal<T: std::fmt::Debug>(outcome: Result<T, PeerError>) -> String {
    match outcome {
        Err(PeerError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}
