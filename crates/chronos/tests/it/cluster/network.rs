//! The network between nodes: a TCP proxy in front of each node's port for its peers.
//!
//! ```text
//!   node a ── connects ──▶ proxy of b ──▶ node b        bytes a to b obey flow(a, b)
//!                                                       bytes b to a obey flow(b, a)
//! ```
//!
//! A connection carries bytes both ways, whoever made it, so a flow is a direction between two nodes and not
//! a connection. All nodes know a node by the same address, its proxy's; who has connected is found out
//! by looking for the process that holds the other end.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for their time, at most.
const CHUNKS_MAX: usize = 256;

/// What becomes of bytes from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// They arrive so much later.
    Delayed(Duration),
    /// They are taken and go no further, until the flow is open again.
    Stalled,
    /// Connections break, and new ones are closed at once.
    Cut,
}

/// The proxies of all nodes that there may be.
pub(crate) struct Network {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

struct Shared {
    /// By the sending node, then by the receiving one.
    flows: Vec<Vec<watch::Sender<Flow>>>,
    /// Where a node listens, and its process.
    nodes: Mutex<Vec<Option<(SocketAddr, u32)>>>,
}

impl Network {
    /// Proxies for so many nodes, all flows open.
    pub(crate) async fn new(nodes: usize) -> Network {
        let row = || (0..nodes).map(|_| watch::Sender::new(Flow::Open)).collect();
        let shared = Arc::new(Shared {
            flows: (0..nodes).map(|_| row()).collect(),
            nodes: Mutex::new(vec![None; nodes]),
        });
        let mut addresses = Vec::new();
        for to in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("it has an address"));
            tokio::spawn(serve(listener, to, Arc::clone(&shared)));
        }
        Network { addresses, shared }
    }

    /// Where others find a node.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.addresses[node]
    }

    /// A node is there, or gone.
    pub(crate) fn set_node(&self, node: usize, place: Option<(SocketAddr, u32)>) {
        self.shared.nodes.lock().expect("no panic")[node] = place;
    }

    /// Bytes from one node to another.
    pub(crate) fn set(&self, from: usize, to: usize, flow: Flow) {
        self.shared.flows[from][to].send_replace(flow);
    }

    /// Bytes between these nodes and all others, both ways.
    pub(crate) fn set_around(&self, inside: &[usize], flow: Flow) {
        for a in 0..self.addresses.len() {
            for b in 0..self.addresses.len() {
                if inside.contains(&a) != inside.contains(&b) {
                    self.set(a, b, flow);
                }
            }
        }
    }

    /// All flows are open again.
    pub(crate) fn heal(&self) {
        for flow in self.shared.flows.iter().flatten() {
            flow.send_replace(Flow::Open);
        }
    }
}

async fn serve(listener: TcpListener, to: usize, shared: Arc<Shared>) {
    loop {
        if let Ok((caller, address)) = listener.accept().await {
            let from = shared.who(address.port());
            tokio::spawn(connection(caller, from, to, Arc::clone(&shared)));
        }
    }
}

/// Carries one connection until an end of it closes, or a flow is cut. Callers that are no nodes are let through.
async fn connection(caller: TcpStream, from: Option<usize>, to: usize, shared: Arc<Shared>) {
    let place = shared.nodes.lock().expect("no panic")[to];
    let Some((address, _)) = place else { return };
    let Ok(node) = TcpStream::connect(address).await else {
        return;
    };
    let _ = (caller.set_nodelay(true), node.set_nodelay(true));
    let open = watch::Sender::new(Flow::Open);
    let flow = |a: Option<usize>, b: Option<usize>| match (a, b) {
        (Some(a), Some(b)) => shared.flows[a][b].subscribe(),
        _ => open.subscribe(),
    };
    let (there, back) = (flow(from, Some(to)), flow(Some(to), from));
    let (caller_in, caller_out) = caller.into_split();
    let (node_in, node_out) = node.into_split();
    tokio::select! {
        _ = carry(caller_in, node_out, there) => {}
        _ = carry(node_in, caller_out, back) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    flow: watch::Receiver<Flow>,
) -> io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let (seen_by_reader, mut seen_by_writer, mut cut) = (flow.clone(), flow.clone(), flow);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
            let delay = match *seen_by_reader.borrow() {
                Flow::Delayed(delay) => delay,
                _ => Duration::ZERO,
            };
            let chunk = (Instant::now() + delay, buffer[..count].to_vec());
            if count == 0 || sender.send(chunk).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((at, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(at).await;
            let _ = seen_by_writer.wait_for(|flow| *flow != Flow::Stalled).await;
            to.write_all(&chunk).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        _ = cut.wait_for(|flow| *flow == Flow::Cut) => Ok(()),
        both = async { tokio::try_join!(read, write) } => both.map(drop),
    }
}

impl Shared {
    /// The node whose process has a connection from this port of loopback.
    fn who(&self, port: u16) -> Option<usize> {
        let inode = inode_of(&std::fs::read_to_string("/proc/net/tcp").ok()?, port)?;
        let socket = format!("socket:[{inode}]");
        let nodes = self.nodes.lock().expect("no panic").clone();
        nodes.iter().position(|place| {
            place.is_some_and(|(_, pid)| {
                let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
                let mut links = files.into_iter().flatten().flatten();
                links.any(|file| {
                    std::fs::read_link(file.path())
                        .is_ok_and(|to| to.as_os_str() == socket.as_str())
                })
            })
        })
    }
}

/// The socket with this local port in the kernel's table of connections.
fn inode_of(table: &str, port: u16) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    let mut lines = table.lines().skip(1).map(|line| line.split_whitespace());
    lines.find_map(|mut words| {
        let local = words.nth(1)?;
        let inode = words.nth(7)?.parse().ok()?;
        // A connection of which nobody holds this end any more has none.
        (local.ends_with(&suffix) && inode != 0).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A "node" that answers every byte with the next one, in this process.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = socket.read_u8().await {
                        if socket.write_u8(byte.wrapping_add(1)).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    /// Node 0 is this process, which calls; node 1 is the echo, said to be another process.
    async fn network() -> Network {
        let network = Network::new(2).await;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        network.set_node(0, Some((nowhere, std::process::id())));
        network.set_node(1, Some((echo().await, 0)));
        network
    }

    async fn ask(socket: &mut TcpStream, byte: u8) -> io::Result<u8> {
        socket.write_u8(byte).await?;
        socket.read_u8().await
    }

    #[tokio::test]
    async fn bytes_pass_and_a_cut_breaks_connections() {
        let network = network().await;
        let mut socket = TcpStream::connect(network.address(1)).await.unwrap();
        assert_eq!(ask(&mut socket, 1).await.unwrap(), 2);
        network.set(0, 1, Flow::Cut);
        assert!(ask(&mut socket, 2).await.is_err());
        let mut socket = TcpStream::connect(network.address(1)).await.unwrap();
        assert!(ask(&mut socket, 3).await.is_err());
        network.heal();
        let mut socket = TcpStream::connect(network.address(1)).await.unwrap();
        assert_eq!(ask(&mut socket, 4).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_stalled_flow_holds_its_direction_only_and_goes_on_later() {
        let network = network().await;
        for (from, to) in [(0, 1), (1, 0)] {
            let mut socket = TcpStream::connect(network.address(1)).await.unwrap();
            assert_eq!(ask(&mut socket, 1).await.unwrap(), 2);
            network.set(from, to, Flow::Stalled);
            socket.write_u8(7).await.unwrap();
            let nothing = tokio::time::timeout(Duration::from_millis(50), socket.read_u8());
            assert!(nothing.await.is_err(), "{from} to {to}");
            network.heal();
            assert_eq!(socket.read_u8().await.unwrap(), 8);
        }
    }

    #[tokio::test]
    async fn a_delayed_flow_takes_so_long() {
        let network = network().await;
        let delay = Duration::from_millis(40);
        network.set(0, 1, Flow::Delayed(delay));
        network.set(1, 0, Flow::Delayed(delay));
        let mut socket = TcpStream::connect(network.address(1)).await.unwrap();
        let begun = Instant::now();
        assert_eq!(ask(&mut socket, 1).await.unwrap(), 2);
        assert!(begun.elapsed() >= 2 * delay);
    }

    #[test]
    fn sockets_are_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
             1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 815 1\n";
        assert_eq!(inode_of(table, 0xC350), Some(815));
        assert_eq!(inode_of(table, 80), None);
    }
}
