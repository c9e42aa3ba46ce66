//! The side of a node that other nodes see.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chronos_env::Env;
use chronos_node::cluster::{
    AdminRequest, ClusterOptions, ClusterStart, ClusterStatus, MemberStatus, NodeIdentity,
    NodeRole, Peers,
};
use chronos_node::{Node, Profile};
use chronos_server::grpc::{self, GrpcOptions, GrpcPeers};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::join::{self, Patience};
use super::options::Known;
use super::thread::PeersThread;
use super::{options, security};
use crate::cli::args::{ClusterArgs, HostPort, Listeners, NodeArgs, PeerSecurityArgs, StartArgs};
use crate::cli::error::{tell, CliError};
use crate::cli::security as users;
use crate::cli::start;

/// How long a node that is told to stop waits for another to lead.
const HAND_OVER_TIME: Duration = Duration::from_secs(5);
/// Between looks at whether the node is ready.
const READINESS_EVERY: Duration = Duration::from_millis(250);
/// Between looks at who leads.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a node needs to take part in a cluster.
pub(in crate::cli) struct Side {
    pub(in crate::cli) options: ClusterOptions,
    thread: PeersThread,
    listener: TcpListener,
    grpc: GrpcOptions,
    peers: Arc<GrpcPeers>,
    ready: watch::Sender<bool>,
    security: PeerSecurityArgs,
    join: Option<(HostPort, AdminRequest)>,
}

impl Side {
    /// Listens, and learns what has to be known before the node is opened. Waits for the member
    /// that is to be joined.
    pub(in crate::cli) async fn prepare(
        args: &NodeArgs,
        listen: &Listeners,
        profile: Profile,
    ) -> Result<Side, CliError> {
        let listen = listen.grpc.as_ref().unwrap_or(&args.start.address);
        let (cluster, dir) = (&args.cluster, args.start.data_dir.as_path());
        let known = known(cluster, dir)?;
        // What is wrong in the flags is told before a port is taken.
        options::cluster_options(cluster, &args.start.address, known.as_ref(), profile)?;
        security::check(args, listen)?;
        users::admin_password(&args.start)?;
        let flag = match cluster.listen_address {
            Some(_) => "--listen-address",
            None => "--address",
        };
        let listener = start::bind("gRPC", flag, listen).await?;
        let mut address = args.start.address.clone();
        if address.port == 0 {
            address.port = start::address(&listener)?.port();
        }
        let mut options = options::cluster_options(cluster, &address, known.as_ref(), profile)?;
        let (ready, is_ready) = watch::channel(false);
        let grpc = security::grpc_options(cluster, &options.member, is_ready)?;
        let thread = PeersThread::start()?;
        let peers = thread.bind(|| GrpcPeers::new(grpc.clone()));
        if let (Some(target), None, None) = (&cluster.join, &known, &options.cluster_id) {
            options.cluster_id = Some(join::cluster_at(&*peers, target).await);
        }
        let known_id = known.map(|known| known.identity.cluster_id);
        if let Some(id) = known_id.or(options.cluster_id.clone()) {
            know(&grpc, &id)?;
        }
        let request = AdminRequest::AddLearner {
            member: options.member.clone(),
            auto_promote: !cluster.learner,
        };
        Ok(Side {
            options,
            thread,
            listener,
            grpc,
            peers,
            ready,
            security: cluster.security.clone(),
            join: cluster.join.clone().map(|target| (target, request)),
        })
    }

    /// The way to other nodes.
    pub(in crate::cli) fn peers(&self) -> Arc<dyn Peers> {
        Arc::clone(&self.peers) as Arc<dyn Peers>
    }

    /// The same, for metrics.
    pub(in crate::cli) fn links(&self) -> Arc<GrpcPeers> {
        Arc::clone(&self.peers)
    }

    /// Serves other nodes until `stop`; meanwhile has the node added to its cluster, says who
    /// leads it, and makes its first admin.
    pub(in crate::cli) async fn serve(
        self,
        node: &Node,
        (args, listen): (&StartArgs, &Listeners),
        stop: CancellationToken,
    ) -> Result<(), CliError> {
        let status = node.cluster().status();
        know(&self.grpc, &status.cluster_id)?;
        warn_of_other_members(&self.options.start, &status);
        users::warn_of_openness(args, listen)?;
        if let Some(tls) = self.grpc.tls.clone() {
            tokio::spawn(security::watch_certificates(self.security, tls));
        }
        let peers = Arc::clone(&self.peers);
        let joining = async {
            if let Some((target, request)) = &self.join {
                join::be_added(node, &*peers, target, request).await;
            }
            announce_leader(node).await;
            make_users(node, args, listen).await;
            std::future::pending::<()>().await;
        };
        let ready = self.ready;
        let service = node.cluster().service();
        let listener = self.listener.into_std();
        let (grpc, listener) = (self.grpc, listener.map_err(|e| failed(&e))?);
        let server = self.thread.run(async move {
            let listener = TcpListener::from_std(listener)?;
            grpc::serve(listener, service, grpc, stop.cancelled_owned()).await
        });
        tokio::select! {
            ended = server => ended?.map_err(|e| failed(&e)),
            () = joining => Ok(()),
            () = tell_readiness(node, &ready) => Ok(()),
        }
    }
}

/// What the data directory says, which must be of this node and cluster.
fn known(cluster: &ClusterArgs, dir: &Path) -> Result<Option<Known>, CliError> {
    let disk = Env::real().disk;
    let identity = NodeIdentity::read(&*disk, dir).map_err(|e| start::node_error(&e))?;
    let Some(identity) = identity else {
        return Ok(None);
    };
    let checked = identity.check(Some(&cluster.id), cluster.cluster_id.as_deref(), dir);
    checked.map_err(|e| start::node_error(&e))?;
    let has_store = disk.exists(&dir.join("store")).unwrap_or(false);
    Ok(Some(Known {
        identity,
        has_store,
    }))
}

/// Says so if `--peers` names others than the cluster has, once it has begun: it changes nothing.
fn warn_of_other_members(start: &ClusterStart, status: &ClusterStatus) {
    let ClusterStart::Static(given) = start else {
        return;
    };
    let are = |m: &MemberStatus| {
        given
            .iter()
            .any(|g| g.name == m.id && g.address == m.address)
    };
    if given.len() != status.members.len() || !status.members.iter().all(are) {
        let members: Vec<String> = status
            .members
            .iter()
            .map(|m| format!("{}={}", m.id, m.address))
            .collect();
        tell(&format!(
            "WARNING: the cluster has begun, so --peers has no effect; its members are {}",
            members.join(", ")
        ));
    }
}

fn failed(error: &std::io::Error) -> CliError {
    CliError::Failed(format!("the gRPC server failed: {error}"))
}

fn know(grpc: &GrpcOptions, cluster_id: &str) -> Result<(), CliError> {
    let known = grpc.cluster_id.set(cluster_id);
    known.map_err(|e| CliError::Failed(e.to_string()))
}

/// Tries until it works: a leader that was there a moment ago may be gone.
async fn make_users(node: &Node, args: &StartArgs, listen: &Listeners) {
    let mut patience = Patience::new();
    while let Err(e) = users::prepare_users_of_cluster(args, listen, node).await {
        patience.wait("cannot make the admin", e.to_string()).await;
    }
}

/// Lets the health service of gRPC tell what `/ready` tells. Ends never.
async fn tell_readiness(node: &Node, ready: &watch::Sender<bool>) {
    loop {
        let now = node.status().ready;
        ready.send_if_modified(|told| std::mem::replace(told, now) != now);
        tokio::time::sleep(READINESS_EVERY).await;
    }
}

/// Says who leads, once somebody does.
async fn announce_leader(node: &Node) {
    loop {
        let status = node.cluster().status();
        if let Some(leader) = &status.leader_id {
            let address = status.leader_address.as_deref().unwrap_or("?");
            start::say(&format!(
                "  role        {} in term {}; {leader} leads ({address})",
                status.role, status.term
            ));
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lets another voter lead, if this node does and there is one, and waits until it does. A node
/// that nobody takes over from in time stops all the same.
pub(in crate::cli) async fn hand_over(node: &Node) {
    let cluster = node.cluster();
    if !leads_others(&cluster.status()) {
        return;
    }
    let handing = async {
        let request = AdminRequest::TransferLeader { to: None };
        cluster.request(request).await.map_err(|e| e.to_string())?;
        while cluster.status().role == "leader" {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok::<(), String>(())
    };
    match tokio::time::timeout(HAND_OVER_TIME, handing).await {
        Ok(Ok(())) => tell("chronos: another node leads now"),
        Ok(Err(reason)) => tell(&format!("chronos: no other node took over: {reason}")),
        Err(_) => tell("chronos: no other node took over in time"),
    }
}

fn leads_others(status: &ClusterStatus) -> bool {
    let is_other = |m: &MemberStatus| m.role == NodeRole::Voter && m.number != status.number;
    status.role == "leader" && status.members.iter().any(is_other)
}
