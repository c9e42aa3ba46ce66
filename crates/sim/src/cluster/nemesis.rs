//! Carries faults out: chooses the nodes that they strike, and what it breaks it mends later.

use std::sync::Arc;
use std::time::Duration;

use chronos_env::SimRandom;
use chronos_node::cluster::{
    AdminRequest, ClusterStart, ClusterStatus, Member, NodeNumber, NodeRole,
};

use tokio::time::Instant;

use super::clock::MachineClock;
use super::machine::{Habits, Machine};
use super::network::Weather;
use super::schedule::{Event, Fault};
use super::trace::{note, Trace};
use super::Cluster;

/// What measures times on a machine is fast or slow by up to so many parts of a million. Leases bear a tenth.
const RATE_PPM_MAX: u64 = 40_000;
/// A cluster is never made smaller than this.
const MEMBERS_MIN: usize = 3;
/// Nor larger.
const MEMBERS_MAX: usize = 6;
/// Whoever asks for a change of the cluster waits for so long.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a new leader is waited for.
const ELECTION_PATIENCE: Duration = Duration::from_secs(2);
/// A machine that lost its power in the middle of a write gets so many more done.
const WRITES_BEFORE_CUT: u64 = 60;

/// What brings faults about.
pub(super) struct Nemesis {
    cluster: Cluster,
    trace: Arc<Trace>,
    random: SimRandom,
    habits: Habits,
    /// The number of the next machine.
    next_number: u32,
}

impl Nemesis {
    /// A nemesis of a cluster without machines.
    pub(super) fn new(seed: u64, cluster: &Cluster, habits: Habits) -> Nemesis {
        Nemesis {
            cluster: cluster.clone(),
            trace: Arc::clone(cluster.trace()),
            random: SimRandom::new(seed),
            habits,
            next_number: 1,
        }
    }

    /// Sets up machines of a cluster that begin together.
    pub(super) fn found(&mut self, nodes: u32) {
        let members: Vec<Member> = (1..=nodes).map(member).collect();
        for member in &members {
            self.set_up(member.clone(), ClusterStart::Static(members.clone()));
        }
        self.next_number = nodes + 1;
    }

    fn set_up(&mut self, member: Member, start: ClusterStart) {
        // Up to a quarter of a second off, and 0.02 % fast or slow.
        let ahead = self.random.below(500_000) as i64 - 250_000;
        let drift = self.random.below(400) as i64 - 200;
        let rate = self.random.below(2 * RATE_PPM_MAX) as i64 - RATE_PPM_MAX as i64;
        let clock = MachineClock::new(ahead, drift, rate);
        let seed = self.random.below(u64::MAX);
        let mut machine = Machine::new(member, start, self.habits, clock, seed);
        machine.start(self.cluster.network(), &self.trace);
        self.cluster.add(machine);
    }

    /// Brings all of it about.
    pub(super) async fn run(&mut self, events: &[Event]) {
        for event in events {
            tokio::time::sleep(event.after).await;
            note!(self.trace, "nemesis: {:?}", event.fault);
            self.strike(event).await;
        }
    }

    async fn strike(&mut self, event: &Event) {
        let lot = SimRandom::new(event.lot);
        match event.fault {
            Fault::Partition => self.partition(&lot),
            Fault::IsolateLeader => self.isolate_leader(&lot),
            Fault::OneWay => {
                if let (Some(from), Some(to)) = (self.any(&lot), self.any(&lot)) {
                    self.cut(from, to);
                }
            }
            Fault::Delay => self.weather(Weather {
                delay_micros_max: 5_000 + lot.below(60_000),
                late_per_mille: 50,
                ..Weather::FAIR
            }),
            Fault::Loss => self.weather(Weather {
                lost_per_mille: 5 + lot.below(100),
                ..Weather::FAIR
            }),
            Fault::Mend => {
                self.cluster.network().mend();
                self.weather(Weather::FAIR);
            }
            Fault::Kill => self.kill(self.any(&lot)),
            Fault::KillLeader => self.kill(self.leader()),
            Fault::PowerCut => self.cut_power(&lot).await,
            Fault::Blackout => self.blackout(&lot).await,
            Fault::Coup => self.coup(&lot).await,
            Fault::Restart => self.restart(),
            Fault::StopInOrder => {
                let number = match lot.below(2) {
                    0 => self.leader(),
                    _ => self.any(&lot),
                };
                self.stop_in_order(number, &lot).await;
            }
            Fault::RestartInTurn => {
                for number in self.cluster.numbers() {
                    self.stop_in_order(Some(number), &lot).await;
                }
            }
            Fault::DiskFull => self.fill_disk(&lot).await,
            Fault::ClockJump => self.jump(&lot),
            Fault::Checkpoint => self.checkpoint(&lot),
            Fault::TransferLeader => {
                let to = (lot.below(2) == 0).then(|| self.any(&lot)).flatten();
                self.admin(AdminRequest::TransferLeader { to });
            }
            Fault::AddLearner => self.add_learner(&lot),
            Fault::ChangeVoters => self.change_voters(&lot),
            Fault::RemoveMember => self.remove_member(&lot),
        }
    }

    fn any(&self, lot: &SimRandom) -> Option<NodeNumber> {
        let numbers = self.cluster.numbers();
        let count = numbers.len() as u64;
        (count > 0).then(|| numbers[lot.below(count) as usize])
    }

    /// The cluster as whoever leads in the latest term sees it.
    fn led(&self) -> Option<ClusterStatus> {
        let nodes = self.cluster.running();
        let seen = nodes.iter().map(|(node, _)| node.cluster().status());
        seen.filter(|status| status.role == "leader")
            .max_by_key(|status| status.term)
    }

    fn leader(&self) -> Option<NodeNumber> {
        self.led().map(|status| status.number)
    }

    fn weather(&self, weather: Weather) {
        self.cluster.network().set_weather(weather);
    }

    fn cut(&self, from: NodeNumber, to: NodeNumber) {
        note!(self.trace, "nemesis: cut {from} -> {to}");
        self.cluster.network().cut(from, to);
    }

    fn partition(&self, lot: &SimRandom) {
        let numbers = self.cluster.numbers();
        let side: Vec<bool> = numbers.iter().map(|_| lot.below(2) == 0).collect();
        for (i, from) in numbers.iter().enumerate() {
            for (j, to) in numbers.iter().enumerate() {
                if side[i] != side[j] {
                    self.cut(*from, *to);
                }
            }
        }
    }

    fn isolate_leader(&self, lot: &SimRandom) {
        let Some(leader) = self.leader() else {
            return;
        };
        let (hears, speaks) = match lot.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (false, false),
        };
        for other in self.cluster.numbers() {
            if other != leader && !speaks {
                self.cut(leader, other);
            }
            if other != leader && !hears {
                self.cut(other, leader);
            }
        }
    }

    fn kill(&self, number: Option<NodeNumber>) {
        let Some(number) = number else { return };
        note!(self.trace, "nemesis: kill {number}");
        let network = self.cluster.network();
        self.cluster.with(number, |machine| machine.kill(network));
    }

    /// At once, or first at some write that is still to come.
    async fn cut_power(&self, lot: &SimRandom) {
        let Some(number) = self.any(lot) else { return };
        note!(self.trace, "nemesis: cut the power of {number}");
        if lot.below(2) == 0 {
            self.cluster.with(number, |machine| {
                let disk = machine.disk();
                let writes = lot.below(WRITES_BEFORE_CUT);
                disk.crash_after_write_points(disk.write_points() + writes);
            });
            tokio::time::sleep(Duration::from_millis(lot.below(300))).await;
        }
        let network = self.cluster.network();
        self.cluster
            .with(number, |machine| machine.cut_power(network));
    }

    /// A majority of the machines loses power, or all do.
    async fn blackout(&self, lot: &SimRandom) {
        let numbers = self.cluster.numbers();
        let most = numbers.len() / 2 + 1;
        let struck = match lot.below(2) {
            0 => numbers.len(),
            _ => most,
        };
        let first = lot.below(numbers.len().max(1) as u64) as usize;
        for number in numbers.iter().cycle().skip(first).take(struck) {
            self.power_off(*number);
        }
        tokio::time::sleep(Duration::from_millis(lot.below(400))).await;
        self.restart();
    }

    fn power_off(&self, number: NodeNumber) {
        let network = self.cluster.network();
        self.cluster
            .with(number, |machine| machine.cut_power(network));
    }

    /// Whoever voted for the new leader must still know it when the power is back, or there is another one of the
    /// same term.
    async fn coup(&self, lot: &SimRandom) {
        let Some(old) = self.leader() else { return };
        self.kill(Some(old));
        let deadline = Instant::now() + ELECTION_PATIENCE;
        let is_new = |led: &ClusterStatus| led.number != old && led.quorum_acked_ms.is_some();
        let new = loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            match self.led().filter(is_new) {
                Some(led) => break led.number,
                None if Instant::now() > deadline => return self.restart(),
                None => {}
            }
        };
        note!(self.trace, "nemesis: {new} leads, and is cut off");
        let others = self.cluster.numbers().into_iter().filter(|n| *n != new);
        for other in others {
            self.cut(new, other);
            self.cut(other, new);
            self.power_off(other);
        }
        tokio::time::sleep(Duration::from_millis(lot.below(30))).await;
        self.restart();
        tokio::time::sleep(Duration::from_millis(700 + lot.below(800))).await;
        if lot.below(2) == 0 {
            self.rejoin_behind_the_leader(new);
            tokio::time::sleep(Duration::from_millis(100 + lot.below(400))).await;
        }
        self.cluster.network().mend();
        if lot.below(3) > 0 {
            tokio::time::sleep(Duration::from_millis(lot.below(300))).await;
            self.blackout(lot).await;
        }
    }

    /// A node that was cut off reaches all but the leader.
    fn rejoin_behind_the_leader(&self, number: NodeNumber) {
        let led = self.led().filter(|led| led.number != number);
        let Some(leader) = led.map(|led| led.number) else {
            return;
        };
        note!(self.trace, "nemesis: {number} reaches all but {leader}");
        let others = self.cluster.numbers().into_iter();
        for other in others.filter(|n| *n != number && *n != leader) {
            self.cluster.network().mend_link(number, other);
            self.cluster.network().mend_link(other, number);
        }
    }

    /// Starts what is down.
    pub(super) fn restart(&self) {
        let network = self.cluster.network();
        for number in self.cluster.numbers() {
            self.cluster
                .with(number, |machine| machine.start(network, &self.trace));
        }
    }

    /// As on SIGTERM: it lets another node lead first if it does.
    async fn stop_in_order(&self, number: Option<NodeNumber>, lot: &SimRandom) {
        let Some(number) = number else { return };
        note!(self.trace, "nemesis: stop {number}");
        let running = self.cluster.with(number, |machine| machine.running());
        if let Some((node, process)) = running.flatten() {
            let asked = node.cluster();
            tokio::select! {
                biased;
                () = process.killed() => {}
                () = asked.wind_down() => {}
            }
            let closed = node.close();
            note!(self.trace, "nemesis: stopped {number}: {}", closed.is_ok());
        }
        tokio::time::sleep(Duration::from_millis(lot.below(200))).await;
        let network = self.cluster.network();
        self.cluster.with(number, |machine| {
            machine.kill(network);
            machine.start(network, &self.trace)
        });
    }

    async fn fill_disk(&self, lot: &SimRandom) {
        let Some(number) = self.any(lot) else { return };
        note!(self.trace, "nemesis: the disk of {number} is full");
        self.cluster.with(number, |machine| {
            let disk = machine.disk();
            disk.fill_after_write_points(disk.write_points());
        });
        tokio::time::sleep(Duration::from_millis(200 + lot.below(1_000))).await;
        let network = self.cluster.network();
        self.cluster.with(number, |machine| {
            machine.disk().clear_faults();
            machine.kill(network);
            machine.start(network, &self.trace)
        });
    }

    fn jump(&self, lot: &SimRandom) {
        let Some(number) = self.any(lot) else { return };
        let micros = lot.below(4_000_000) as i64 - 2_000_000;
        note!(self.trace, "nemesis: clock of {number} jumps by {micros}");
        self.cluster
            .with(number, |machine| machine.clock().jump(micros));
    }

    fn checkpoint(&self, lot: &SimRandom) {
        let number = match lot.below(2) {
            0 => self.leader(),
            _ => self.any(lot),
        };
        let node = number.and_then(|number| self.cluster.node(number));
        if let (Some(number), Some(node)) = (number, node) {
            let flushed = node.flush();
            note!(self.trace, "nemesis: flushed {number}: {}", flushed.is_ok());
        }
    }

    /// Asks any node for a change, and does not wait for the outcome.
    fn admin(&self, request: AdminRequest) {
        let nodes = self.cluster.running();
        if nodes.is_empty() {
            return;
        }
        let (node, process) = nodes[self.random.below(nodes.len() as u64) as usize].clone();
        let trace = Arc::clone(&self.trace);
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            let removed = match &request {
                AdminRequest::Remove { node } => Some(*node),
                _ => None,
            };
            let shown = format!("{request:?}");
            let asked = node.cluster();
            let done = tokio::select! {
                biased;
                () = process.killed() => return,
                done = asked.request(request) => done,
                () = tokio::time::sleep(ADMIN_PATIENCE) => return,
            };
            note!(trace, "admin at {process:?}: {shown}: {done:?}");
            if let (Ok(()), Some(number)) = (done, removed) {
                let network = cluster.network();
                cluster.with(number, |machine| machine.kill(network));
                cluster.remove(number);
            }
        });
    }

    fn add_learner(&mut self, lot: &SimRandom) {
        if self.cluster.numbers().len() >= MEMBERS_MAX {
            return;
        }
        let member = member(self.next_number);
        self.next_number += 1;
        self.set_up(member.clone(), ClusterStart::Join);
        self.admin(AdminRequest::AddLearner {
            member,
            auto_promote: lot.below(2) == 0,
        });
    }

    /// A learner votes, or a voter does not any more.
    fn change_voters(&self, lot: &SimRandom) {
        let Some(status) = self.led() else { return };
        let of = |role: NodeRole| -> Vec<NodeNumber> {
            let members = status.members.iter();
            members
                .filter(|m| m.role == role)
                .map(|m| m.number)
                .collect()
        };
        let (mut voters, learners) = (of(NodeRole::Voter), of(NodeRole::Learner));
        match learners.first() {
            Some(learner) => voters.push(*learner),
            None if voters.len() > MEMBERS_MIN => {
                voters.remove(lot.below(voters.len() as u64) as usize);
            }
            None => return,
        }
        self.admin(AdminRequest::ChangeMembership {
            voters,
            remove: false,
        });
    }

    fn remove_member(&self, lot: &SimRandom) {
        let Some(status) = self.led() else { return };
        let count = status.members.len();
        if count > MEMBERS_MIN {
            let node = status.members[lot.below(count as u64) as usize].number;
            self.admin(AdminRequest::Remove { node });
        }
    }

    /// Ends all faults and starts all nodes.
    pub(super) fn heal(&self) {
        note!(self.trace, "nemesis: heals");
        self.cluster.network().mend();
        self.weather(Weather::FAIR);
        let network = self.cluster.network();
        for number in self.cluster.numbers() {
            self.cluster.with(number, |machine| {
                let is_broken = machine.disk().is_powered_off()
                    || machine
                        .running()
                        .is_some_and(|(node, _)| !node.status().ready);
                machine.disk().clear_faults();
                if machine.disk().is_powered_off() {
                    machine.cut_power(network);
                } else if is_broken {
                    machine.kill(network);
                }
                machine.start(network, &self.trace)
            });
        }
    }
}

fn member(number: u32) -> Member {
    Member {
        number: NodeNumber(number),
        name: format!("n{number}"),
        address: format!("n{number}:1"),
    }
}
