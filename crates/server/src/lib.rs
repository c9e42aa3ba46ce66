//! The servers: each translates one protocol into calls of `chronos_node::Session`,
//! and none into another's.

pub mod http;
pub mod pgwire;
