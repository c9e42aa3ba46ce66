//! `chronos node`: what a node of a cluster does beyond `chronos start`.
//!
//! ```text
//!   flags, identity.json ─► options ─► listen for nodes ─► open ─► serve nodes ─┬─► PostgreSQL, HTTP
//!        join: which cluster is it?                                             ├─► join: ask to be added
//!                                                        SIGTERM: let another lead, then stop
//! ```
//!
//! Nodes are served before the node knows a leader, and after the last client is gone: without
//! them there is none, and with the last of them go the answers of others.

mod addresses;
mod join;
mod leader;
mod members;
mod options;
mod security;
mod service;
mod thread;

pub(super) use addresses::http_of;
pub(super) use leader::Following;
pub(super) use members::{add, list, promote, remove, transfer};
pub(super) use service::{hand_over, Side};
