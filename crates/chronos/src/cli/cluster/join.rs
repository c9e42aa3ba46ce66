//! `--join`: which cluster it is, and being added to it.
//!
//! Both are tried until they work: a node may be started before the member that it asks, and
//! members come and go. A node that belongs to the cluster already, at this address, asks nothing.

use std::sync::Arc;
use std::time::Duration;

use chronos_node::cluster::{
    AdminReply, AdminRequest, ClusterStatus, Member, NodeNumber, Peer, PeerError, Peers,
};
use chronos_node::Node;

use crate::cli::args::HostPort;
use crate::cli::error::tell;

/// Between attempts: the first time, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// For one attempt; adding a node waits for a commit.
const ATTEMPT_TIME: Duration = Duration::from_secs(10);

/// Pauses that grow, and a complaint only when the reason is another one.
pub(super) struct Patience {
    pause: Duration,
    told: String,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience {
            pause: PAUSE,
            told: String::new(),
        }
    }

    /// Waits before the next attempt.
    pub(super) async fn wait(&mut self, what: &str, reason: String) {
        if reason != self.told {
            tell(&format!("chronos: {what}: {reason}; trying on"));
            self.told = reason;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// The way to a node of which only the address is known.
fn at(peers: &dyn Peers, target: &HostPort) -> Arc<dyn Peer> {
    peers.peer(&Member {
        number: NodeNumber(0),
        name: target.to_string(),
        address: target.to_string(),
    })
}

/// The id of the cluster to which the node at `target` belongs.
pub(super) async fn cluster_at(peers: &dyn Peers, target: &HostPort) -> String {
    let peer = at(peers, target);
    let mut patience = Patience::new();
    loop {
        let reason = match in_time(peer.introduce()).await {
            Ok(introduction) if !introduction.cluster_id.is_empty() => {
                return introduction.cluster_id;
            }
            Ok(_) => "it does not belong to a cluster yet".to_owned(),
            Err(e) => e.to_string(),
        };
        let what = format!("cannot learn from {target} which cluster to join");
        patience.wait(&what, reason).await;
    }
}

/// Has the node added to the cluster, if it is not a member of it.
pub(super) async fn be_added(
    node: &Node,
    peers: &dyn Peers,
    target: &HostPort,
    request: &AdminRequest,
) {
    let AdminRequest::AddLearner { member, .. } = request else {
        return;
    };
    let first = at(peers, target);
    let mut patience = Patience::new();
    loop {
        if is_member(&node.cluster().status(), member) {
            return;
        }
        // A target that is gone is no obstacle once others are known.
        let asked = match ask(peers, &first, request).await {
            Ok(()) => return,
            Err(reason) => match node.cluster().status().leader {
                Some(_) => in_own_time(node, request).await.map_err(|_| reason),
                None => Err(reason),
            },
        };
        match asked {
            Ok(()) => return,
            Err(reason) => {
                let what = format!("cannot join the cluster of {target}");
                patience.wait(&what, reason).await;
            }
        }
    }
}

/// Whether a node takes part already, where the others look for it.
fn is_member(status: &ClusterStatus, member: &Member) -> bool {
    let listed = status.members.iter().find(|m| m.number == member.number);
    status.leader.is_some() && listed.is_some_and(|m| m.address == member.address)
}

/// Asks the leader that the target names.
async fn ask(
    peers: &dyn Peers,
    target: &Arc<dyn Peer>,
    request: &AdminRequest,
) -> Result<(), String> {
    let introduction = in_time(target.introduce())
        .await
        .map_err(|e| e.to_string())?;
    let leader = introduction.leader.ok_or("it knows no leader")?;
    let leader = peers.peer(&leader);
    match in_time(leader.admin(request.clone())).await {
        Ok(AdminReply::Done) => Ok(()),
        Ok(AdminReply::NotLeader(_)) => Err("the leader has changed".to_owned()),
        Ok(AdminReply::Refused(reason)) => Err(reason),
        Err(e) => Err(e.to_string()),
    }
}

async fn in_own_time(node: &Node, request: &AdminRequest) -> Result<(), String> {
    let cluster = node.cluster();
    match tokio::time::timeout(ATTEMPT_TIME, cluster.request(request.clone())).await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn in_time<T>(
    call: impl std::future::Future<Output = Result<T, PeerError>>,
) -> Result<T, PeerError> {
    let millis = ATTEMPT_TIME.as_millis() as u64;
    let outcome = tokio::time::timeout(ATTEMPT_TIME, call).await;
    outcome.unwrap_or(Err(PeerError::TimedOut(millis)))
}
