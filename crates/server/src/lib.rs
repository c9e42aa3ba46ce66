//! The servers: each translates one protocol into calls of `chronos_node::Session`,
//! and none into another's.

pub mod grpc;
pub mod http;
mod metrics;
pub mod pgwire;
pub mod tls;

pub use metrics::register_pgwire;
