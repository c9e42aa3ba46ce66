//! The calling side: ways to other nodes.

mod backoff;
mod link;
mod peer;
mod proposals;
mod replies;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use chronos_node::cluster::{Member, NodeNumber, Peer, Peers};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::options::GrpcOptions;
use super::rarely::Rarely;
use super::throttle::Throttle;
use peer::GrpcPeer;

/// Ways to nodes that are kept although nobody holds them; beyond, unused ones are let go.
const PEERS_KEPT_MAX: usize = 64;

/// Ways to other nodes over gRPC.
#[derive(Debug)]
pub struct GrpcPeers {
    shared: Arc<Shared>,
    peers: Mutex<HashMap<NodeNumber, Arc<GrpcPeer>>>,
}

/// What all ways have in common.
#[derive(Debug)]
struct Shared {
    options: GrpcOptions,
    /// Where connections are worked on.
    runtime: Handle,
    throttle: Throttle,
    refused: Rarely,
}

/// How a way to a node is, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The node.
    pub member: Member,
    /// Time there and back, in microseconds, once one is known.
    pub round_trip_micros: Option<u64>,
    /// Connections that were opened.
    pub connects: u64,
    /// Bytes sent, with everything around messages (but what TLS adds).
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes that were compressed before they were sent.
    pub plain_bytes: u64,
    /// What became of those.
    pub packed_bytes: u64,
}

impl GrpcPeers {
    /// Ways to other nodes. Connections are worked on by the runtime in which this is called (whoever
    /// calls the node afterwards): one that queries keep busy would keep heartbeats waiting.
    ///
    /// Panics outside of a runtime.
    pub fn new(options: GrpcOptions) -> Arc<GrpcPeers> {
        let throttle = Throttle::new(options.checkpoint_bytes_per_second);
        Arc::new(GrpcPeers {
            shared: Arc::new(Shared {
                options,
                runtime: Handle::current(),
                throttle,
                refused: Rarely::default(),
            }),
            peers: Mutex::default(),
        })
    }

    /// How the ways are, in the order of the nodes' numbers.
    pub fn links(&self) -> Vec<LinkStatus> {
        let mut links: Vec<_> = self.peers.lock().values().map(|p| p.status()).collect();
        links.sort_by_key(|link| link.member.number);
        links
    }

    fn way_to(&self, member: &Member) -> Arc<GrpcPeer> {
        let mut peers = self.peers.lock();
        if let Some(known) = peers.get(&member.number) {
            if known.member() == member {
                return Arc::clone(known);
            }
        }
        let peer = Arc::new(GrpcPeer::new(member, Arc::clone(&self.shared)));
        // Number 0 is any node that can be asked there: nothing to come back to.
        if member.number != NodeNumber(0) {
            if peers.len() >= PEERS_KEPT_MAX {
                peers.retain(|_, peer| Arc::strong_count(peer) > 1);
            }
            peers.insert(member.number, Arc::clone(&peer));
        }
        peer
    }
}

impl Peers for GrpcPeers {
    fn peer(&self, member: &Member) -> Arc<dyn Peer> {
        self.way_to(member)
    }
}

impl GrpcPeer {
    fn status(&self) -> LinkStatus {
        let target = self.target();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStatus {
            member: target.member.clone(),
            round_trip_micros: target.round_trip.get().map(|time| time.as_micros() as u64),
            connects: count(&target.connects),
            sent_bytes: count(&target.traffic.sent_bytes),
            received_bytes: count(&target.traffic.received_bytes),
            plain_bytes: count(&target.savings.plain_bytes),
            packed_bytes: count(&target.savings.packed_bytes),
        }
    }
}
