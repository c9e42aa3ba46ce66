//! Calls between the nodes of a cluster, over gRPC.
//!
//! ```text
//!   replica ─► GrpcPeers ─► GrpcPeer ─┬─ control: votes, heartbeats, reads, admin ─┐
//!   (Peers)                 (Peer)    ├─ entries: append streams, proposals        ├─► serve ─► Peer of
//!                                     └─ bulk: checkpoints ────────────────────────┘   (gate)  that node
//! ```
//!
//! Three connections to each node, so that a heartbeat never queues behind entries, nor entries
//! behind a checkpoint. Each call carries a *pass* (`pass.rs`): which protocol, which cluster, from
//! whom, to whom, and the cluster's secret; the *gate* refuses wrong ones before it reads the message.
//!
//! Messages are those of `proto/chronos/replication/v1/replication.proto`; `convert` puts them into
//! the plain ones of `chronos_node::cluster` and back. Knows no consensus and decides nothing.

mod client;
mod convert;
mod metrics;
mod options;
mod packing;
mod pass;
mod rarely;
mod server;
mod status;
mod throttle;
mod tls;
mod traffic;

#[cfg(test)]
mod tests;

pub use client::{GrpcPeers, LinkStatus};
pub use metrics::register;
pub use options::{
    ClusterId, GrpcOptions, Keepalive, NotAClusterId, Secret, UnknownWireCompression,
    WireCompression, MESSAGE_BYTES_MAX,
};
pub use server::serve;
pub use tls::{PeerTls, PeerTlsFiles};

/// The generated code: messages, client and server of `replication.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod pb {
    include!("generated/chronos.replication.v1.rs");
}

/// The description of the service, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!("generated/replication.descriptors");
