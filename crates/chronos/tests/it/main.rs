//! Tests of the whole program: the real binary, as a child process, spoken to as its users do.
//!
//! Owns the child processes (`node`), golden scripts by both query protocols (`slt`, read by `engine`
//! and `value`), foreign clients (`clients`), kill tests (`crash`, and `tpcb` with its sums), isolation (`isolation`,
//! judged by `chronos_sim::checkers::list_append`), data directories that cannot be used (`data_dir`), checks of what is
//! stored (`check`), snapshots (`snapshot`), requests that are sent again (`once`), reading the past beside writers (`as_of`), tables that are altered beside writers (`alter`, `primary_key`), foreign keys beside writers (`foreign_keys`), DDL in transactions (`migrations`), indexes that are built
//! beside writers (`index`), the SH1 benchmark's questions (`bitemporal`), joins by periods and columns that bound them (`periods`), a small memory limit (`memory`) and a real series
//! (`series`), passwords and tokens (`login`), what users may do (`roles`), certificates (`tls`, between nodes `mutual_tls`) and
//! silences (`timeouts`); nodes of a cluster as they are started, joined and looked after (`members`), and killed, frozen and cut off (`cluster`). Every node listens on loopback on ports of its own choice, keeps its files in a
//! temporary directory, and is killed by its process id when its test ends.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use the real clock and files"
)]

mod alter;
mod as_of;
mod bitemporal;
mod check;
mod clients;
mod cluster;
mod crash;
mod data_dir;
mod engine;
mod foreign_keys;
mod index;
mod isolation;
mod left_alone;
mod login;
mod members;
mod memory;
mod migrations;
mod mutual_tls;
mod node;
mod once;
mod periods;
mod primary_key;
mod random;
mod roles;
mod series;
mod slt;
mod snapshot;
mod timeouts;
mod tls;
mod tpcb;
mod transactions;
mod value;
