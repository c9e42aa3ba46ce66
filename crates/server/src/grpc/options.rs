//! How a node talks to others: who it is, limits, times, compression, secrets.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chronos_node::cluster::{LogEntry, Member};
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};

use super::tls::PeerTls;

/// Largest message: an entry of the largest size and what is around it.
pub const MESSAGE_BYTES_MAX: usize = LogEntry::PAYLOAD_BYTES_MAX as usize + (1 << 20);

/// How a node talks to others. Server and clients of a node share one.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// This node.
    pub member: Member,
    /// The cluster's id, as far as it is known.
    pub cluster_id: Arc<ClusterId>,
    /// What nodes of the cluster must know; `None`: nothing.
    pub secret: Option<Secret>,
    /// TLS between nodes; `None`: in clear.
    pub tls: Option<Arc<PeerTls>>,
    /// Whether entries and checkpoints are compressed on their way.
    pub compression: WireCompression,
    /// Largest message that is sent or taken, at most [`MESSAGE_BYTES_MAX`].
    pub message_bytes_max: usize,
    /// When a silent connection is given up.
    pub keepalive: Keepalive,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How fast checkpoints are sent, to all nodes together; `None`: as fast as it goes.
    pub checkpoint_bytes_per_second: Option<NonZeroU64>,
    /// Whether the node serves: what `grpc.health.v1` tells.
    pub ready: watch::Receiver<bool>,
    /// How long a server that stops waits for calls that are under way.
    pub shutdown_grace: Duration,
}

impl GrpcOptions {
    /// The options of a node in clear, without a secret, of an unknown cluster, always ready.
    pub fn new(member: Member) -> GrpcOptions {
        GrpcOptions {
            member,
            cluster_id: Arc::default(),
            secret: None,
            tls: None,
            compression: WireCompression::Auto,
            message_bytes_max: MESSAGE_BYTES_MAX,
            keepalive: Keepalive::default(),
            connect_timeout: Duration::from_secs(2),
            checkpoint_bytes_per_second: None,
            ready: watch::channel(true).1,
            shutdown_grace: Duration::from_secs(2),
        }
    }
}

/// When a silent connection is given up: HTTP/2 pings, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Between pings.
    pub interval: Duration,
    /// Without an answer to a ping before the connection is closed. Connections that carry
    /// checkpoints wait eight times as long: there a ping queues behind data.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Short times: after a partition, TCP by itself tries again only after about as long as the
    /// partition took; a new connection is there at once.
    fn default() -> Keepalive {
        Keepalive {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(4),
        }
    }
}

/// Whether entries and checkpoints are compressed on their way, with LZ4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireCompression {
    /// Where the way there and back takes longer than 2 ms, and not within one machine.
    #[default]
    Auto,
    /// Never.
    None,
    /// Always.
    Lz4,
}

/// What is no name of a compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no compression between nodes: expected auto, none or lz4")]
pub struct UnknownWireCompression(String);

impl FromStr for WireCompression {
    type Err = UnknownWireCompression;

    fn from_str(name: &str) -> Result<WireCompression, UnknownWireCompression> {
        match name {
            "auto" => Ok(WireCompression::Auto),
            "none" => Ok(WireCompression::None),
            "lz4" => Ok(WireCompression::Lz4),
            _ => Err(UnknownWireCompression(name.into())),
        }
    }
}

/// What nodes of a cluster must know. Not the secret itself goes over the network but a digest of
/// it, which is as good to whoever overhears it: without TLS it keeps out mistakes, not attackers.
#[derive(Clone)]
pub struct Secret(MetadataValue<Ascii>);

impl Secret {
    /// A secret, of any characters.
    pub fn new(secret: &str) -> Secret {
        let mut digest = Sha256::new();
        digest.update(b"chronos cluster secret\0");
        digest.update(secret.as_bytes());
        let hex = digest.finalize().iter().fold(String::new(), |mut hex, b| {
            let _ = fmt::Write::write_fmt(&mut hex, format_args!("{b:02x}"));
            hex
        });
        let mut value: MetadataValue<Ascii> = hex.parse().expect("hexadecimal digits are ASCII");
        // HTTP/2 is not to keep it in its table of headers, nor anybody to print it.
        value.set_sensitive(true);
        Secret(value)
    }

    pub(super) fn value(&self) -> &MetadataValue<Ascii> {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The cluster's id, which a node that waits to be added does not know yet.
#[derive(Debug)]
pub struct ClusterId(RwLock<MetadataValue<Ascii>>);

/// What can't be the id of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no id of a cluster: expected at most 128 visible ASCII characters")]
pub struct NotAClusterId(String);

impl Default for ClusterId {
    fn default() -> ClusterId {
        ClusterId(RwLock::new(MetadataValue::from_static("")))
    }
}

impl ClusterId {
    /// Sets it; empty: unknown.
    ///
    /// Errors: longer than 128 characters, or others than visible ASCII ones.
    pub fn set(&self, id: &str) -> Result<(), NotAClusterId> {
        let allowed = id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic());
        let value = allowed.then(|| id.parse().ok()).flatten();
        *self.0.write() = value.ok_or_else(|| NotAClusterId(id.into()))?;
        Ok(())
    }

    /// The id; empty: it is not known.
    pub fn get(&self) -> String {
        self.0.read().to_str().unwrap_or_default().into()
    }

    pub(super) fn value(&self) -> MetadataValue<Ascii> {
        self.0.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clusters() {
        let id = ClusterId::default();
        assert_eq!(id.get(), "");
        id.set("c0ffee").unwrap();
        assert!(id.set("two words").is_err());
        assert!(id.set(&"x".repeat(129)).is_err());
        assert_eq!(id.get(), "c0ffee");
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("open sesame: öä");
        assert!(!format!("{secret:?} {:?}", secret.value()).contains("sesame"));
        assert_ne!(secret.value(), Secret::new("open sesame").value());
    }

    #[test]
    fn names_of_compressions() {
        assert_eq!("auto".parse(), Ok(WireCompression::Auto));
        assert!("zstd".parse::<WireCompression>().is_err());
    }
}
