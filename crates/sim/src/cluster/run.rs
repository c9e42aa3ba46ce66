//! A run: sets up a cluster, lets clients and faults at it, heals it, and has everything judged.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chronos_env::SimRandom;
use chronos_node::cluster::{KeepLog, Sabotage};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::{Client, KEYS, TABLES};
use super::connection::Reply;
use super::damage::{decay, Victim};
use super::judge::Judge;
use super::machine::{Disks, Habits};
use super::nemesis::Nemesis;
use super::process::Syncs;
use super::record::{Record, Tally};
use super::schedule::{self, Season};
use super::trace::{note, Print, Trace};
use super::Cluster;
use crate::checkers::linearizable::Action;

/// How long a cluster may take until it works for the first time.
const SETUP_PATIENCE: Duration = Duration::from_secs(60);

/// What a run is made of, besides its seed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Nodes at first.
    pub nodes: u32,
    /// Clients.
    pub clients: u64,
    /// For how long faults strike, in simulated time.
    pub lasts: Duration,
    /// What goes wrong most.
    pub season: Season,
    /// Whether disks keep what they promise.
    pub syncs: Syncs,
    /// Whether leaders answer reads by their lease.
    pub lease_reads: bool,
    /// Whether nodes keep the times of heartbeats and elections that they were given, so that faults lead to more
    /// elections.
    pub keeps_times: bool,
    /// A mistake that the nodes make.
    pub sabotage: Option<Sabotage>,
    /// Whose disk decays, instead of other faults.
    pub decays: Option<Victim>,
}

impl Plan {
    /// The run of a seed: two of three have three nodes, the others five; in one of four, leaders answer reads by
    /// their lease; of eight in a row, four adapt their times; in three of five dozens, anything may go wrong.
    pub fn of(seed: u64) -> Plan {
        Plan {
            seed,
            nodes: if seed % 3 == 2 { 5 } else { 3 },
            clients: 5,
            lasts: Duration::from_secs(6),
            season: match seed / 12 % 5 {
                3 => Season::PowerCuts,
                4 => Season::Elections,
                _ => Season::Mixed,
            },
            syncs: Syncs::Honest,
            lease_reads: seed % 4 == 3,
            keeps_times: seed % 8 >= 4,
            sabotage: None,
            decays: None,
        }
    }
}

/// What happened in a run that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// A number that is another one if anything is.
    pub digest: u64,
    /// Events of the trace.
    pub events: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Statements of clients.
    pub tally: Tally,
}

/// What went wrong in one that did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed, with which it goes wrong again.
    pub seed: u64,
    /// What must not be.
    pub faults: Vec<String>,
    /// What happened last.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.trace)?;
        writeln!(f, "seed {} failed:", self.seed)?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        write!(
            f,
            "again: CHRONOS_SIM_SEED={} cargo test -p chronos-sim --test cluster",
            self.seed
        )
    }
}

/// Runs a simulation from beginning to end. Takes a thread of its own: what other simulations left on it (counters of
/// random numbers) would be felt.
///
/// # Panics
/// When a thread cannot be started.
pub fn run(plan: Plan, print: Print) -> Result<Report, Failure> {
    let name = format!("seed {}", plan.seed);
    let ended = in_simulated_time(name, move || Run::begin(plan, print).finish());
    ended.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("something");
        Err(Failure {
            seed: plan.seed,
            faults: vec![format!("panicked: {said}")],
            trace: String::new(),
        })
    })
}

/// Does something in a thread of its own, whose time jumps to the next timer when all wait. An error is a panic.
pub(super) fn in_simulated_time<T: Send + 'static, F: Future<Output = T>>(
    name: String,
    begin: impl FnOnce() -> F + Send + 'static,
) -> std::thread::Result<T> {
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(16 << 20)
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime needs no resource that could be missing");
            runtime.block_on(async move {
                // Timers strike at whole milliseconds since the runtime was made, which is some time ago by the
                // real clock. After the first of them nothing is left of that.
                tokio::time::sleep(Duration::from_millis(1)).await;
                begin().await
            })
        })
        .expect("threads can be started");
    thread.join()
}

struct Run {
    plan: Plan,
    trace: Arc<Trace>,
    cluster: Cluster,
    record: Arc<Mutex<Record>>,
    seeds: SimRandom,
}

impl Run {
    fn begin(plan: Plan, print: Print) -> Run {
        let seeds = SimRandom::new(plan.seed);
        let trace = Arc::new(Trace::begin(print));
        let cluster = Cluster::new(seeds.below(u64::MAX), Arc::clone(&trace));
        Run {
            plan,
            trace,
            cluster,
            record: Arc::default(),
            seeds,
        }
    }

    fn seed(&self) -> u64 {
        self.seeds.below(u64::MAX)
    }

    async fn finish(self) -> Result<Report, Failure> {
        let habits = Habits {
            syncs: self.plan.syncs,
            lease_reads: self.plan.lease_reads,
            sabotage: self.plan.sabotage,
            // With the shortest, whoever is away for a moment needs a checkpoint.
            log_keep_bytes: 16 << (10 + self.seeds.below(4)),
            // Entries grow old in the middle of a run. Letting go of them syncs what is in the store, which
            // would hide what power cuts are to find.
            log_keep_for: match self.plan.season {
                Season::PowerCuts => KeepLog::default().duration(),
                _ => Duration::from_secs(3),
            },
            keeps_times: self.plan.keeps_times,
            disks: Disks::Fast,
        };
        let mut nemesis = Nemesis::new(self.seed(), &self.cluster, habits);
        nemesis.found(self.plan.nodes);
        if let Err(fault) = self.make_tables().await {
            return Err(self.failure(vec![fault]));
        }
        let until = Instant::now() + self.plan.lasts;
        let clients: Vec<_> = (1..=self.plan.clients)
            .map(|id| {
                let client = Client::new(id, self.seed(), &self.cluster, &self.record);
                tokio::spawn(client.run(until))
            })
            .collect();
        let lot = self.seed();
        let mut faults = Vec::new();
        match self.plan.decays {
            None => {
                nemesis
                    .run(&schedule::draw(lot, self.plan.season, self.plan.lasts))
                    .await
            }
            Some(victim) => {
                let lot = SimRandom::new(lot);
                let decayed = decay(&self.cluster, victim, &lot).await;
                faults.extend(decayed.err());
            }
        }
        for client in clients {
            if let Err(panic) = client.await {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
        let judge = Judge::new(&self.cluster, &self.record);
        faults.extend(judge.judge(&nemesis).await);
        let report = self.report();
        for number in self.cluster.numbers() {
            let network = self.cluster.network();
            self.cluster.with(number, |machine| machine.kill(network));
        }
        match faults.is_empty() {
            true => Ok(report),
            false => Err(self.failure(faults)),
        }
    }

    fn report(&self) -> Report {
        Report {
            digest: self.trace.digest(),
            events: self.trace.events(),
            messages: self.cluster.network().messages(),
            tally: self.record.lock().tally,
        }
    }

    fn failure(&self, faults: Vec<String>) -> Failure {
        Failure {
            seed: self.plan.seed,
            faults,
            trace: self.trace.last(),
        }
    }

    /// Makes the tables and their rows, as soon as there is a leader.
    async fn make_tables(&self) -> Result<(), String> {
        let mut statements: Vec<String> = TABLES.iter().map(ToString::to_string).collect();
        let (mut registers, mut lists, mut counters) = (vec![], vec![], vec![]);
        let mut first = Vec::new();
        // One counter more, for whoever wants to know whether a node writes.
        counters.push(format!("({KEYS}, 0)"));
        for key in 0..KEYS {
            let mut record = self.record.lock();
            let value = record.number();
            registers.push(format!("({key}, {value})"));
            lists.push(format!("({key}, '')"));
            counters.push(format!("({key}, 0)"));
            let write = Action::Write(Some(value));
            first.push(record.registers.invoke(0, key, write));
        }
        for (table, rows) in [
            ("registers", registers),
            ("lists", lists),
            ("counters", counters),
        ] {
            statements.push(format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
        }
        let deadline = Instant::now() + SETUP_PATIENCE;
        for sql in &statements {
            self.insist(sql, deadline).await?;
        }
        let mut record = self.record.lock();
        for invocation in first {
            record.registers.done(invocation);
        }
        Ok(())
    }

    /// Repeats a statement until it is done, by one attempt or another.
    async fn insist(&self, sql: &str, deadline: Instant) -> Result<(), String> {
        let mut attempts = 0;
        loop {
            let reply = match self.cluster.connect(&self.seeds) {
                Some(mut connection) => connection.ask(sql).await,
                None => Reply::Unknown("nothing runs".into()),
            };
            note!(self.trace, "setup: {sql}: {reply:?}");
            match reply {
                Reply::Done { .. } => return Ok(()),
                // An attempt of unknown outcome had succeeded.
                Reply::Refused(e) if attempts > 0 && matches!(e.code.0, "42P07" | "23505") => {
                    return Ok(());
                }
                reply if Instant::now() > deadline => {
                    return Err(format!("no cluster: {sql}: {reply:?}"));
                }
                _ => attempts += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
