//! Clusters of real processes under load, while nodes are killed, frozen, cut off, restarted, added and removed.
//!
//! ```text
//!   clients ──pgwire──▶ node ──proxy──▶ node        what clients saw ──▶ sim::checkers
//! ```
//!
//! Every scenario ends the same way: the network is healed, all nodes run, and then no acknowledged write is lost, none
//! is there twice, and the registers were linearizable, reads by any node included. `CHRONOS_CLUSTER_ROUNDS` has
//! each scenario do what it does more often; `CHRONOS_CLUSTER_SEED` gives back a run's choices, though
//! not its schedule.

mod decay;
mod freeze;
mod kill;
mod load;
mod membership;
mod network;
mod nodes;
mod partition;
mod rolling;
mod stale;

use std::future::Future;

use tokio::sync::{Mutex, MutexGuard};

use crate::random::variable;

/// One cluster at a time: beside each other they would take each other's processors, and elections.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Writes that are acknowledged between two disturbances.
const CALM_WRITES: u64 = 60;

/// Runs a scenario by itself, on a runtime of its own.
fn scenario<F: Future<Output = ()>>(run: impl FnOnce(u64) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let seed = variable("CHRONOS_CLUSTER_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("CHRONOS_CLUSTER_SEED={seed}");
    runtime.block_on(async {
        let _alone: MutexGuard<'_, ()> = ALONE.lock().await;
        run(seed).await;
    });
}

/// How often a scenario does what it does, unless the environment says otherwise.
fn rounds(usual: u64) -> u64 {
    variable("CHRONOS_CLUSTER_ROUNDS").unwrap_or(usual)
}
