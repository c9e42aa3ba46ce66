//! The network between simulated nodes: who can reach whom, how long a message takes, and which get lost.
//!
//! ```text
//!   node 1 --Peer--> [link 1 -> 2: delay, loss, cut] --> node 2's service
//!          <--Peer-- [link 2 -> 1: delay, loss, cut] <--
//! ```
//!
//! A call is two messages, so it can fail before it arrived and after it was carried out. Calls overtake each other.
//! What goes through a stream stays in order; a loss there is a broken connection. Whoever is killed neither
//! sends nor hears anything from then on. (The way of a call is in `call.rs`.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chronos_env::SimRandom;
use chronos_node::cluster::{NodeNumber, Peer, PeerError};
use parking_lot::Mutex;

use super::process::Process;
use super::trace::{note, Trace};

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// A message takes at least so long, in microseconds.
    pub(super) delay_micros_min: u64,
    /// And most of them at most so long.
    pub(super) delay_micros_max: u64,
    /// Of a thousand messages, so many take up to twenty times as long.
    pub(super) late_per_mille: u64,
    /// Of a thousand messages, so many are lost.
    pub(super) lost_per_mille: u64,
}

impl Weather {
    /// A network in a room.
    pub(super) const FAIR: Weather = Weather {
        delay_micros_min: 100,
        delay_micros_max: 2_000,
        late_per_mille: 5,
        lost_per_mille: 0,
    };
}

/// Whoever sends something that is lost learns of it after so long, if ever.
const LOSS_NOTICED_MICROS: (u64, u64) = (1_000, 400_000);

/// The network. Clones are handles of the same.
#[derive(Clone)]
pub(super) struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    trace: Arc<Trace>,
    random: SimRandom,
    state: Mutex<State>,
}

struct State {
    weather: Weather,
    hosts: BTreeMap<NodeNumber, Host>,
    /// Nodes to and from which messages take so many times as long.
    slow: BTreeMap<NodeNumber, u64>,
    /// From where to where nothing comes through.
    cut: BTreeSet<(NodeNumber, NodeNumber)>,
    messages: u64,
}

/// A running node, as others reach it.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) service: Arc<dyn Peer>,
    pub(super) process: Process,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Arrives { after: Duration },
    Lost { noticed_after: Duration },
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// A network without nodes.
    pub(super) fn new(seed: u64, trace: Arc<Trace>) -> Network {
        Network {
            shared: Arc::new(Shared {
                trace,
                random: SimRandom::new(seed),
                state: Mutex::new(State {
                    weather: Weather::FAIR,
                    hosts: BTreeMap::new(),
                    slow: BTreeMap::new(),
                    cut: BTreeSet::new(),
                    messages: 0,
                }),
            }),
        }
    }

    /// A node can be reached.
    pub(super) fn attach(&self, process: &Process, service: Arc<dyn Peer>) {
        let host = Host {
            service,
            process: process.clone(),
        };
        self.shared.state.lock().hosts.insert(process.number, host);
    }

    /// A node cannot be reached any more.
    pub(super) fn detach(&self, number: NodeNumber) {
        self.shared.state.lock().hosts.remove(&number);
    }

    /// From now on messages fare like this.
    pub(super) fn set_weather(&self, weather: Weather) {
        self.shared.state.lock().weather = weather;
    }

    /// From now on messages to and from a node take so many times as long.
    pub(super) fn slow_down(&self, node: NodeNumber, times: u64) {
        self.shared.state.lock().slow.insert(node, times);
    }

    /// Lets nothing through from one node to another.
    pub(super) fn cut(&self, from: NodeNumber, to: NodeNumber) {
        self.shared.state.lock().cut.insert((from, to));
    }

    /// Lets everything through again from one node to another.
    pub(super) fn mend_link(&self, from: NodeNumber, to: NodeNumber) {
        self.shared.state.lock().cut.remove(&(from, to));
    }

    /// Mends all links.
    pub(super) fn mend(&self) {
        self.shared.state.lock().cut.clear();
    }

    /// How many messages were sent.
    pub(super) fn messages(&self) -> u64 {
        self.shared.state.lock().messages
    }

    /// The node that runs under a number.
    pub(super) fn host(&self, number: NodeNumber) -> Result<Host, PeerError> {
        let host = self.shared.state.lock().hosts.get(&number).cloned();
        host.filter(|host| !host.process.is_killed())
            .ok_or_else(|| PeerError::Unreachable("connection refused".into()))
    }

    /// Decides what becomes of a message that is sent now.
    pub(super) fn fate(&self, from: NodeNumber, to: NodeNumber, what: &str) -> Fate {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        state.messages += 1;
        let weather = state.weather;
        let is_lost = shared.random.below(1000) < weather.lost_per_mille;
        if is_lost || state.cut.contains(&(from, to)) {
            let (least, most) = LOSS_NOTICED_MICROS;
            let noticed = least + shared.random.below(most - least);
            note!(shared.trace, "{from} -> {to} {what}: lost");
            return Fate::Lost {
                noticed_after: Duration::from_micros(noticed),
            };
        }
        let span = (weather.delay_micros_max - weather.delay_micros_min).max(1);
        let mut micros = weather.delay_micros_min + shared.random.below(span);
        if shared.random.below(1000) < weather.late_per_mille {
            micros *= 1 + shared.random.below(20);
        }
        let slower = state.slow.get(&from).max(state.slow.get(&to));
        micros *= slower.copied().unwrap_or(1);
        Fate::Arrives {
            after: Duration::from_micros(micros),
        }
    }

    /// Whether what is on its way arrives: the link may have been cut meanwhile.
    pub(super) fn is_open(&self, from: NodeNumber, to: NodeNumber) -> bool {
        !self.shared.state.lock().cut.contains(&(from, to))
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.shared.trace
    }
}

pub(super) fn broken() -> PeerError {
    PeerError::Unreachable("connection reset".into())
}
