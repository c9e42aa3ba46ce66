//! Tests of the whole store through its public face.
#![allow(
    clippy::disallowed_methods,
    reason = "tests may read the clock for deadlines"
)]
#![allow(missing_docs)]

mod archive;
mod behaviour;
mod by_key;
mod cases;
mod checkpoint;
mod content;
mod damage;
mod disk_faults;
mod fixture;
mod foreign_keys;
mod idempotency;
mod index;
mod index_moves;
mod migrate;
mod model;
mod power_cut;
mod progress;
mod random;
mod retention;
mod retention_power_cut;
mod valid_time;
