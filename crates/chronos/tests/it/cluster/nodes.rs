//! A cluster of real processes that can be killed, frozen, cut off and started again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::network::Network;
use crate::node::{Node, Starting};

/// How long anything may take that a healthy cluster does by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a node may take for a page; one that is frozen never answers.
const PAGE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at a cluster.
const PAUSE: Duration = Duration::from_millis(20);
/// So that five nodes, unoptimised, fit beside each other, and do not take long to see that one is missing.
const FLAGS: [&str; 8] = [
    "--memory-limit",
    "64MiB",
    "--profile",
    "potato",
    "--heartbeat-ms",
    "100",
    "--election-timeout-ms",
    "1000",
];
/// Lines of each node's complaints that a failed test prints.
const LOG_LINES: usize = 60;

/// Where clients find the nodes, by position; `None` while a node is down.
pub(super) type Places = Arc<Mutex<Vec<Option<SocketAddr>>>>;

/// Nodes, the network between them, and their files.
pub(super) struct Cluster {
    pub(super) network: Network,
    places: Places,
    nodes: Vec<Slot>,
    directory: tempfile::TempDir,
}

struct Slot {
    node: Option<Node>,
    /// Where the node itself listens for others, behind its proxy.
    port: u16,
    /// How it belongs to the cluster: `--peers ..` or `--join ..`.
    belongs: Vec<String>,
}

/// What a node says of the cluster.
#[derive(Debug, Clone)]
pub(super) struct Status(Value);

impl Status {
    pub(super) fn is_leader(&self) -> bool {
        self.0["role"] == "leader"
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or(0)
    }

    /// Whether it has replaced damaged files, and knows of none.
    pub(super) fn is_mended(&self) -> bool {
        let repair = &self.0["repair"];
        repair["done"].as_u64() > Some(0) && repair["damaged_files"] == 0
    }

    /// The members with this role, by position.
    pub(super) fn members(&self, role: &str) -> Vec<usize> {
        let members = self.0["members"].as_array();
        let with_role = members.into_iter().flatten().filter(|m| m["role"] == role);
        let mut found: Vec<usize> = with_role.filter_map(|m| position(&m["id"])).collect();
        found.sort_unstable();
        found
    }

    fn leader(&self) -> Option<usize> {
        position(&self.0["leader_id"])
    }
}

/// A node's name.
pub(super) fn name(position: usize) -> String {
    format!("n{}", position + 1)
}

fn position(name: &Value) -> Option<usize> {
    let number: usize = name.as_str()?.strip_prefix('n')?.parse().ok()?;
    number.checked_sub(1)
}

/// A port of loopback below those that the system gives to callers, so that nobody takes it while its node is down.
fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 12_000 + ((std::process::id().wrapping_mul(131) + step) % 20_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    /// Starts nodes that are told of each other, in a network with room for `spare` more, and returns when they have a leader.
    pub(super) async fn start(count: usize, spare: usize) -> Cluster {
        let network = Network::new(count + spare).await;
        let peers_of = |node: usize| {
            let others = (0..count).filter(|&other| other != node);
            let peers = others.map(|other| format!("{}={}", name(other), network.address(other)));
            peers.collect::<Vec<_>>().join(",")
        };
        let slot = |node| Slot {
            node: None,
            port: free_port(),
            belongs: vec!["--peers".to_owned(), peers_of(node)],
        };
        let mut cluster = Cluster {
            nodes: (0..count).map(slot).collect(),
            network,
            places: Arc::new(Mutex::new(vec![None; count + spare])),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        cluster.restart_all();
        cluster.leader_among(&(0..count).collect::<Vec<_>>()).await;
        cluster
    }

    /// Starts one more node, which asks a member to add it to the cluster, and says there what else it wants.
    pub(super) fn join(&mut self, member: usize, wants: &[&str]) -> usize {
        let node = self.nodes.len();
        let target = self.network.address(member).to_string();
        let mut belongs = vec!["--join".to_owned(), target];
        belongs.extend(wants.iter().map(|&want| want.to_owned()));
        self.nodes.push(Slot {
            node: None,
            port: free_port(),
            belongs,
        });
        self.restart(node);
        node
    }

    fn begin(&self, node: usize) -> Starting {
        let slot = &self.nodes[node];
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(node))
            .expect("a file for what the node complains of");
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronos"));
        command
            .args(["node", "--id", &name(node)])
            .args(["--address", &self.network.address(node).to_string()])
            .args(["--listen-address", &format!("127.0.0.1:{}", slot.port)])
            .args(&slot.belongs)
            .args(FLAGS)
            .arg("--data-dir")
            .arg(self.data_dir(node))
            .env("RUST_LOG", "info")
            .stderr(log);
        Starting::begin(&mut command)
    }

    fn put(&mut self, node: usize, process: Node) {
        let behind = SocketAddr::from(([127, 0, 0, 1], self.nodes[node].port));
        self.network.set_node(node, Some((behind, process.pid())));
        self.places.lock().expect("no panic")[node] = Some(process.pg);
        self.nodes[node].node = Some(process);
    }

    fn take(&mut self, node: usize) -> Node {
        self.places.lock().expect("no panic")[node] = None;
        self.network.set_node(node, None);
        self.nodes[node].node.take().expect("the node runs")
    }

    /// Where a node keeps its files.
    pub(super) fn data_dir(&self, node: usize) -> PathBuf {
        self.directory.path().join(name(node))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", name(node)))
    }

    fn node(&self, node: usize) -> &Node {
        self.nodes[node].node.as_ref().expect("the node runs")
    }

    /// Where clients find the nodes.
    pub(super) fn places(&self) -> Places {
        Arc::clone(&self.places)
    }

    /// Positions of all nodes that were ever started.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, node: usize) {
        self.take(node).kill();
    }

    /// SIGTERM, which must end it with 0.
    pub(super) fn stop(&mut self, node: usize) {
        assert_eq!(self.take(node).stop(), Some(0), "{} stops", name(node));
    }

    /// Starts a node that is down on its data.
    pub(super) fn restart(&mut self, node: usize) {
        let process = self.begin(node).announced();
        self.put(node, process);
    }

    /// Starts all nodes, which are down: none has to wait for others that are not there yet.
    pub(super) fn restart_all(&mut self) {
        let starting: Vec<Starting> = self
            .all()
            .into_iter()
            .map(|node| self.begin(node))
            .collect();
        for (node, starting) in starting.into_iter().enumerate() {
            self.put(node, starting.announced());
        }
    }

    /// SIGSTOP: clients and peers can connect, and nothing answers.
    pub(super) fn freeze(&self, node: usize) {
        self.node(node).signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(super) fn thaw(&self, node: usize) {
        self.node(node).signal(Signal::CONT);
    }

    /// What a node says; `None` if it does not answer.
    pub(super) async fn status(&self, node: usize) -> Option<Status> {
        let http = self.nodes[node].node.as_ref()?.http;
        let (status, body) = request(http, "GET", "/cluster", "").await?;
        let page = serde_json::from_str(&body).ok().filter(|_| status == 200);
        page.map(Status)
    }

    /// Has a node change the cluster; the status and text of its answer.
    pub(super) async fn post(&self, node: usize, path: &str, body: &Value) -> (u16, String) {
        let http = self.node(node).http;
        let answer = request(http, "POST", path, &body.to_string()).await;
        answer.unwrap_or_else(|| panic!("{} does not answer POST {path}", name(node)))
    }

    /// Waits until one of these nodes leads and all of them know. Others are not asked.
    pub(super) async fn leader_among(&self, nodes: &[usize]) -> usize {
        let what = format!("a leader among {nodes:?}");
        self.wait(&what, async || self.agreed(nodes).await).await
    }

    async fn agreed(&self, nodes: &[usize]) -> Option<usize> {
        let mut leader = None;
        for &node in nodes {
            let status = self.status(node).await?;
            let named = status.leader().filter(|named| nodes.contains(named))?;
            if *leader.get_or_insert(named) != named || status.is_leader() != (node == named) {
                return None;
            }
        }
        leader
    }

    /// Waits until these nodes have applied what any of them knew to be committed when this was called.
    pub(super) async fn caught_up(&self, nodes: &[usize]) {
        let mut goal = 0;
        for &node in nodes {
            let status = self.status(node).await;
            goal = goal.max(status.map_or(0, |status| status.number("committed_index")));
        }
        let what = format!("{nodes:?} to apply entry {goal}");
        self.wait(&what, async || {
            for &node in nodes {
                if self.status(node).await?.number("applied_index") < goal {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Looks until there is something to see.
    pub(super) async fn wait<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            if Instant::now() >= deadline {
                for node in self.all() {
                    eprintln!("{}: {:?}", name(node), self.status(node).await);
                }
                panic!("waited {PATIENCE:?} for {what}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.all() {
            let text = std::fs::read_to_string(self.log(node)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- the end of what {} wrote", name(node));
            eprintln!("{}", last.join("\n"));
        }
    }
}

/// One request on a connection of its own; `None` if there is no answer in time.
async fn request(to: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let patience = if method == "GET" {
        PAGE_WITHIN
    } else {
        PATIENCE
    };
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    };
    tokio::time::timeout(patience, exchange).await.ok()?
}
