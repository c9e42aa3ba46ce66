//! A whole cluster in one thread: real nodes on simulated machines, in simulated time.
//!
//! ```text
//!   client, client, ..          nemesis (faults drawn from the seed)
//!        | sessions                 |
//!   [node 1]   [node 2]   [node 3]  |       everything is a task of one runtime whose
//!     |   \_____ network ____/      |       time jumps to the next timer when all wait
//!   machine: SimDisk, clock  <------'
//! ```
//!
//! Everything that happens follows from a seed: a run can be repeated. A run ends with healing all faults; then the
//! judges of [`checkers`](crate::checkers) look at what clients saw and at what the nodes hold.
//! Why not an existing simulator: docs/decisions/0063.

mod call;
mod client;
mod clock;
mod connection;
mod damage;
#[cfg(test)]
mod halfway;
mod judge;
mod machine;
mod nemesis;
mod network;
mod process;
mod record;
mod run;
mod schedule;
mod slow;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use chronos_env::{Clock, SimRandom};
use chronos_node::cluster::NodeNumber;
use chronos_node::Node;
use parking_lot::Mutex;

use connection::Connection;
use machine::Machine;
use network::Network;
use process::Process;
use trace::Trace;

pub use damage::Victim;
pub use process::Syncs;
pub use record::Tally;
pub use run::{run, Failure, Plan, Report};
pub use schedule::Season;
pub use slow::{Slow, SlowPlan, Slowly};
pub use trace::Print;

/// A simulated cluster. Clones are handles of the same.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    trace: Arc<Trace>,
    network: Network,
    machines: Mutex<BTreeMap<NodeNumber, Machine>>,
}

impl Cluster {
    fn new(seed: u64, trace: Arc<Trace>) -> Cluster {
        Cluster {
            shared: Arc::new(Shared {
                network: Network::new(seed, Arc::clone(&trace)),
                trace,
                machines: Mutex::default(),
            }),
        }
    }

    fn trace(&self) -> &Arc<Trace> {
        &self.shared.trace
    }

    fn network(&self) -> &Network {
        &self.shared.network
    }

    fn add(&self, machine: Machine) {
        let number = machine.member().number;
        self.shared.machines.lock().insert(number, machine);
    }

    fn remove(&self, number: NodeNumber) {
        self.shared.machines.lock().remove(&number);
    }

    /// Does something with a machine, if there is one of this number.
    fn with<T>(&self, number: NodeNumber, act: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.shared.machines.lock().get_mut(&number).map(act)
    }

    /// The numbers of all machines.
    fn numbers(&self) -> Vec<NodeNumber> {
        self.shared.machines.lock().keys().copied().collect()
    }

    /// The nodes that run.
    fn running(&self) -> Vec<(Node, Process)> {
        let machines = self.shared.machines.lock();
        machines.values().filter_map(Machine::running).collect()
    }

    fn node(&self, number: NodeNumber) -> Option<Node> {
        let running = self.with(number, |machine| machine.running())?;
        running.map(|(node, _)| node)
    }

    /// A connection to any running node.
    fn connect(&self, random: &SimRandom) -> Option<Connection> {
        let running = self.running();
        if running.is_empty() {
            return None;
        }
        let (node, process) = &running[random.below(running.len() as u64) as usize];
        Some(Connection::open(node, process))
    }

    /// What a machine's clock shows.
    fn clock_micros(&self, number: u64) -> u64 {
        let number = NodeNumber(number as u32);
        self.with(number, |machine| machine.clock().now_micros())
            .unwrap_or_default()
    }
}
