//! The command line: arguments in, an exit code out.
//!
//! ```text
//!   args ──► run ──┬─► start, single-node   the architect's server and embedded bodies
//!                  ├─► node    ──► cluster ──► start
//!                  ├─► admin members, add .. ──► cluster ──► http (/cluster, /add-learner ..)
//!                  ├─► client  ──► repl ──► wire ──► a node's PostgreSQL port
//!                  ├─► admin check ──► a directory, or http (/admin/check)
//!                  ├─► snapshot ──► http (/admin/snapshot), a file, a directory
//!                  ├─► import  ──► wire (COPY)
//!                  └─► demo    ──► http (/ingest), wire (queries)
//!                        repl, demo ──► output (table, csv, json, line)
//! ```
//!
//! Everything that leaves through stdout is a result; prompts, progress and
//! errors go to stderr. Files named by the user are opened in [`files`] only.

mod allocator;
mod args;
mod check;
mod cluster;
mod cluster_check;
mod demo;
mod error;
mod files;
mod http;
mod import;
mod output;
mod progress;
mod repl;
mod reply;
mod run;
mod security;
mod single_node;
mod snapshot;
mod start;
mod values;
mod wire;

pub(crate) use run::main;
