//! Entries over loopback: an append stream over gRPC beside plain TCP with a length before each batch;
//! and proposals, each a call of its own.
//!
//! `cargo run --release -p chronos-server --example append_stream [seconds]`. Both ends run in this
//! process, each on a thread of its own; CPU time is that of both. Prints, and asserts nothing.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chronos_node::cluster::{
    AdminReply, AdminRequest, AppendReplies, AppendReply, AppendRequest, AppendRequests, Ballot,
    CheckpointOffer, CheckpointPart, GroupId, LogEntry, LogIndex, LogPosition, Member, NodeNumber,
    OfferReply, Peer, PeerError, Peers as _, ProposeReply, ReadIndexReply, ReadIndexRequest, Term,
    TransferRequest, VoteReply, VoteRequest,
};
use chronos_server::grpc::{serve, GrpcOptions, GrpcPeers, WireCompression};
use futures::stream::{self, BoxStream};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

const ENTRY_BYTES: usize = 256;
/// Entries a batch, and batches without an answer.
const SHAPES: [(usize, usize); 4] = [(1, 1), (1, 256), (16, 64), (256, 16)];

/// Takes everything at once.
struct Sink;

fn no<T>() -> Result<T, PeerError> {
    Err(PeerError::Failed("only entries are measured".into()))
}

#[async_trait]
impl Peer for Sink {
    async fn append_stream(&self, requests: AppendRequests) -> Result<AppendReplies, PeerError> {
        let taken = |request: AppendRequest| {
            let last = request.entries.last().map(|entry| LogPosition {
                term: entry.term.0,
                index: entry.index.0,
            });
            Ok(AppendReply::Matched(last))
        };
        Ok(requests.map(taken).boxed())
    }
    async fn append(&self, _: AppendRequest) -> Result<AppendReply, PeerError> {
        Ok(AppendReply::Matched(None))
    }
    async fn vote(&self, _: VoteRequest) -> Result<VoteReply, PeerError> {
        no()
    }
    async fn pre_vote(&self, _: VoteRequest) -> Result<VoteReply, PeerError> {
        no()
    }
    async fn transfer(&self, _: TransferRequest) -> Result<Result<(), String>, PeerError> {
        no()
    }
    async fn offer_checkpoint(&self, _: CheckpointOffer) -> Result<OfferReply, PeerError> {
        no()
    }
    async fn send_parts(
        &self,
        mut parts: BoxStream<'static, CheckpointPart>,
    ) -> Result<(), PeerError> {
        while parts.next().await.is_some() {}
        Ok(())
    }
    async fn install_checkpoint(&self, _: CheckpointOffer) -> Result<Ballot, PeerError> {
        no()
    }
    async fn propose(&self, term: u64, _: Bytes) -> Result<ProposeReply, PeerError> {
        Ok(ProposeReply::Appended(LogPosition { term, index: 1 }))
    }
    async fn follows(&self, _: Ballot) -> Result<bool, PeerError> {
        Ok(true)
    }

    async fn read_index(&self, _: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        Ok(ReadIndexReply::At(1))
    }
    async fn admin(&self, _: AdminRequest) -> Result<AdminReply, PeerError> {
        no()
    }
}

/// What was measured.
struct Measured {
    what: &'static str,
    entries_a_batch: usize,
    window: usize,
    batches: u64,
    took: Duration,
    cpu: Duration,
}

impl Measured {
    fn print(&self) {
        let batches_a_second = self.batches as f64 / self.took.as_secs_f64();
        println!(
            "{:<9} {:>4} entries a batch, {:>3} under way: {:>9.0} batches/s {:>10.0} entries/s {:>8.1} MB/s {:>7.2} us CPU a batch, {:.2} cores",
            self.what,
            self.entries_a_batch,
            self.window,
            batches_a_second,
            batches_a_second * self.entries_a_batch as f64,
            batches_a_second * (self.entries_a_batch * ENTRY_BYTES) as f64 / 1e6,
            self.cpu.as_secs_f64() * 1e6 / self.batches as f64,
            self.cpu.as_secs_f64() / self.took.as_secs_f64(),
        );
    }
}

/// From when on something is measured.
struct Watch {
    started: Instant,
    cpu: Duration,
    seconds: u64,
}

impl Watch {
    fn start(seconds: u64) -> Watch {
        Watch {
            started: Instant::now(),
            cpu: cpu_time(),
            seconds,
        }
    }

    fn is_over(&self) -> bool {
        self.started.elapsed().as_secs() >= self.seconds
    }

    fn measured(
        &self,
        what: &'static str,
        (entries_a_batch, window): (usize, usize),
        batches: u64,
    ) -> Measured {
        Measured {
            what,
            entries_a_batch,
            window,
            batches,
            took: self.started.elapsed(),
            cpu: cpu_time() - self.cpu,
        }
    }
}

/// Processor time of this process; ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse().ok()).unwrap_or(0u64);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn member(number: u32, address: String) -> Member {
    Member {
        number: NodeNumber(number),
        name: format!("n{number}"),
        address,
    }
}

fn request(index: u64, entries: usize, payload: &Bytes) -> AppendRequest {
    let entry = |n| LogEntry {
        group: GroupId(0),
        term: Term(1),
        index: LogIndex(index + n as u64),
        payload: payload.clone(),
    };
    AppendRequest {
        ballot: Ballot {
            term: 1,
            node: NodeNumber(1),
            elected: true,
        },
        previous: Some(LogPosition {
            term: 1,
            index: index.saturating_sub(1),
        }),
        entries: (0..entries).map(entry).collect(),
        committed: None,
        election_timeout_ms: 0,
    }
}

/// A thread for a node's side of connections.
fn side(name: &str) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
}

/// A node that is called, as the calling side has it.
fn connected(calling: &Runtime, called: &Runtime) -> std::io::Result<Arc<dyn Peer>> {
    let listener = called.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?.to_string();
    let options = |number| GrpcOptions {
        compression: WireCompression::None,
        ..GrpcOptions::new(member(number, address.clone()))
    };
    let never = std::future::pending();
    called.spawn(serve(listener, Arc::new(Sink), options(2), never));
    let _entered = calling.enter();
    Ok(GrpcPeers::new(options(1)).peer(&member(2, address.clone())))
}

fn grpc(seconds: u64, (entries, under_way): (usize, usize)) -> Result<Measured, Box<dyn Error>> {
    let (calling, called) = (side("calling")?, side("called")?);
    let peer = connected(&calling, &called)?;
    let task = calling.spawn(async move {
        let payload = Bytes::from(vec![7; ENTRY_BYTES]);
        let window = Arc::new(tokio::sync::Semaphore::new(under_way));
        let permits = Arc::clone(&window);
        let index = AtomicU64::new(1);
        let requests = stream::repeat(()).then(move |()| {
            let index = index.fetch_add(entries as u64, Ordering::Relaxed);
            let message = request(index, entries, &payload);
            let permits = Arc::clone(&permits);
            async move {
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                }
                message
            }
        });
        let mut replies = peer.append_stream(requests.boxed()).await?;
        let watch = Watch::start(seconds);
        let mut batches = 0;
        while let Some(reply) = replies.next().await {
            reply?;
            window.add_permits(1);
            batches += 1;
            if batches % 64 == 0 && watch.is_over() {
                break;
            }
        }
        Ok::<_, PeerError>(watch.measured("gRPC", (entries, under_way), batches))
    });
    Ok(calling.block_on(task)??)
}

/// Calls that are answered one by one: proposals handed to the leader.
fn proposals(seconds: u64, under_way: usize) -> Result<Measured, Box<dyn Error>> {
    let (calling, called) = (side("calling")?, side("called")?);
    let peer = connected(&calling, &called)?;
    let task = calling.spawn(async move {
        let payload = Bytes::from(vec![7; ENTRY_BYTES]);
        let watch = Watch::start(seconds);
        let calls = stream::repeat(()).map(|()| peer.propose(1, payload.clone()));
        let mut calls = calls.buffer_unordered(under_way);
        let mut batches = 0;
        while let Some(reply) = calls.next().await {
            reply?;
            batches += 1;
            if batches % 64 == 0 && watch.is_over() {
                break;
            }
        }
        Ok::<_, PeerError>(watch.measured("propose", (1, under_way), batches))
    });
    Ok(calling.block_on(task)??)
}

/// Answers each batch with the index of its last entry.
async fn plain_sink(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, write) = stream.into_split();
    let mut write = BufWriter::new(write);
    let mut input = BytesMut::with_capacity(64 << 10);
    let mut index = 0u64;
    loop {
        if read.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while input.len() >= 4 {
            let length = u32::from_le_bytes([input[0], input[1], input[2], input[3]]) as usize;
            if input.len() < 4 + length {
                break;
            }
            let batch = input.split_to(4 + length).freeze();
            index += batch.len() as u64;
            write.write_u64_le(index).await?;
        }
        write.flush().await?;
    }
}

fn plain(seconds: u64, (entries, under_way): (usize, usize)) -> Result<Measured, Box<dyn Error>> {
    let (calling, called) = (side("calling")?, side("called")?);
    let listener = called.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    called.spawn(async move {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = plain_sink(stream).await;
        }
    });
    let task = calling.spawn(async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut read, write) = stream.into_split();
        let window = Arc::new(tokio::sync::Semaphore::new(under_way));
        let permits = Arc::clone(&window);
        tokio::spawn(async move {
            let mut write = BufWriter::with_capacity(32 << 10, write);
            let batch = vec![7u8; entries * (ENTRY_BYTES + 20)];
            loop {
                let permit = match permits.try_acquire() {
                    Ok(permit) => permit,
                    // Nothing more may go: what there is goes now.
                    Err(_) => {
                        write.flush().await?;
                        match permits.acquire().await {
                            Ok(permit) => permit,
                            Err(_) => return Ok::<(), std::io::Error>(()),
                        }
                    }
                };
                permit.forget();
                write.write_u32_le(batch.len() as u32).await?;
                write.write_all(&batch).await?;
            }
        });
        let watch = Watch::start(seconds);
        let mut input = BytesMut::with_capacity(64 << 10);
        let mut batches = 0;
        while !watch.is_over() {
            read.read_buf(&mut input).await?;
            let answers = input.len() / 8;
            let _ = input.split_to(answers * 8);
            window.add_permits(answers);
            batches += answers as u64;
        }
        Ok::<_, std::io::Error>(watch.measured("plain TCP", (entries, under_way), batches))
    });
    Ok(calling.block_on(task)??)
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |s| s.parse())?;
    for shape in SHAPES {
        plain(seconds, shape)?.print();
        grpc(seconds, shape)?.print();
    }
    for under_way in [1, 64] {
        proposals(seconds, under_way)?.print();
    }
    Ok(())
}
