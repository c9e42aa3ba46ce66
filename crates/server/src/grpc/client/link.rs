//! Connections to one node: opened when they are used, and again when they broke.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Uri;
use chronos_node::cluster::Member;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{timeout, Instant};
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use super::backoff::Backoff;
use super::Shared;
use crate::grpc::packing::{Packer, Savings};
use crate::grpc::traffic::{Metered, RoundTrip, Traffic};

/// Bytes that the other side may send ahead on one stream, and on the whole connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How many times longer a busy connection may be silent.
const BULK_PATIENCE: u32 = 8;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Short messages, none of which may wait: votes, heartbeats, reads.
    Control,
    /// Entries and proposals.
    Entries,
    /// Checkpoints.
    Bulk,
}

/// A node that is called.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) member: Member,
    pub(super) shared: Arc<Shared>,
    pub(super) round_trip: RoundTrip,
    pub(super) traffic: Traffic,
    pub(super) savings: Arc<Savings>,
    pub(super) connects: AtomicU64,
    /// Whether the last connection was to this machine.
    is_local: AtomicBool,
    backoff: Backoff,
}

impl AsRef<Traffic> for Arc<Target> {
    fn as_ref(&self) -> &Traffic {
        &self.traffic
    }
}

/// The byte stream of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
type BoxedStream = Box<dyn Stream>;

impl Target {
    pub(super) fn new(member: &Member, shared: Arc<Shared>) -> Target {
        Target {
            member: member.clone(),
            shared,
            round_trip: RoundTrip::default(),
            traffic: Traffic::default(),
            savings: Arc::default(),
            connects: AtomicU64::new(0),
            is_local: AtomicBool::new(false),
            backoff: Backoff::default(),
        }
    }

    /// How long the network takes there and back. `None`: unknown, or there is none in between, and
    /// what was measured is how busy this machine is.
    pub(super) fn network_round_trip(&self) -> Option<Duration> {
        match self.is_local.load(Ordering::Relaxed) {
            true => None,
            false => self.round_trip.get(),
        }
    }

    /// What packs the messages of a stream to it.
    pub(super) fn packer(&self) -> Arc<Packer> {
        let compression = self.shared.options.compression;
        Packer::new(compression, Arc::clone(&self.savings))
    }

    /// A connection of its own for this purpose.
    pub(super) fn channel(self: &Arc<Target>, lane: Lane) -> Channel {
        let options = &self.shared.options;
        let patience = match lane {
            Lane::Control | Lane::Entries => 1,
            Lane::Bulk => BULK_PATIENCE,
        };
        // The connector knows where to connect to; this is only what HTTP says about it.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.member.address))
            .unwrap_or_else(|_| Endpoint::from_static("http://node"));
        endpoint
            .executor(OnRuntime(self.shared.runtime.clone()))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(options.keepalive.interval)
            .keep_alive_timeout(options.keepalive.timeout * patience)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(Connector(Arc::clone(self)))
    }

    async fn connect(&self) -> io::Result<BoxedStream> {
        self.backoff.check(Instant::now())?;
        let limit = self.shared.options.connect_timeout;
        let connected = match timeout(limit, self.dial()).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {} ms", limit.as_millis()),
            )),
        };
        match connected {
            Ok(stream) => {
                self.backoff.connected();
                self.connects.fetch_add(1, Ordering::Relaxed);
                Ok(stream)
            }
            Err(e) => {
                let address = &self.member.address;
                tracing::debug!(node = %self.member.name, address, error = %e, "cannot connect");
                self.backoff.failed(&e, Instant::now());
                Err(e)
            }
        }
    }

    async fn dial(&self) -> io::Result<BoxedStream> {
        let tcp = self.dial_tcp().await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.shared.options.tls else {
            return Ok(Box::new(tcp));
        };
        let loaded = tls.loaded();
        let name = loaded
            .name_of(&self.member.address)
            .map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&loaded.client));
        let stream = connector.connect(name, tcp).await?;
        Ok(Box::new(stream))
    }

    /// Tries the addresses one after another. TCP's handshake is a round trip.
    async fn dial_tcp(&self) -> io::Result<TcpStream> {
        let mut failed = None;
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.member.address)
            .await?
            .collect();
        for address in addresses {
            let started = Instant::now();
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    self.round_trip.note(started.elapsed());
                    let is_local = address.ip().is_loopback();
                    self.is_local.store(is_local, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(e) => failed = Some(e),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let address = &self.member.address;
            io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))
        }))
    }
}

/// Opens connections for a channel.
struct Connector(Arc<Target>);

type Connecting =
    Pin<Box<dyn Future<Output = io::Result<TokioIo<Metered<BoxedStream, Arc<Target>>>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Metered<BoxedStream, Arc<Target>>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let target = Arc::clone(&self.0);
        Box::pin(async move {
            let stream = target.connect().await?;
            Ok(TokioIo::new(Metered {
                stream,
                traffic: target,
            }))
        })
    }
}

/// Has a channel's tasks run on one runtime, whoever uses the channel.
#[derive(Clone)]
struct OnRuntime(Handle);

impl<F> hyper::rt::Executor<F> for OnRuntime
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
