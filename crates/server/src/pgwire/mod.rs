//! The PostgreSQL server: protocol 3.0 on top of [`chronos_node::Session`].
//!
//! ```text
//!     server      accepts, limits, shuts down
//!       startup   what a client came for: a session, or to cancel one; TLS
//!       login     who it is
//!       connection, execute, copy
//!                 messages in, calls of Session, replies out
//!         extended    prepared statements and portals
//!         rows        sends results as they come
//!           format    values and rows in text and binary
//!       wire      frames in, buffered replies out
//!         frontend    decodes what clients send
//!         backend     encodes what the server sends
//!     cancel, stats   shared by all connections
//! ```
//!
//! Nothing here knows SQL: statements are split, planned and executed by the session,
//! and what it answers is put into PostgreSQL's messages.

mod backend;
mod cancel;
mod connection;
mod copy;
mod execute;
mod extended;
mod failure;
pub mod format;
mod frontend;
mod login;
mod rows;
mod server;
mod startup;
mod stats;
#[cfg(test)]
mod tests;
mod wire;

pub use server::{serve, serve_streams, Admission, PgOptions};
pub use stats::{Counter, PgStats};
