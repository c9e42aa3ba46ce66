//! What is measured, and in which order: every phase on each cluster in turn, before it is repeated.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::args::Options;
use super::gauge::Gauge;
use super::table::{Floor, Report};
use super::{Cluster, Kind, Phase};
use crate::error::Result;
use crate::load::{Load, Operation, Protocol};
use crate::process::resident_bytes;
use crate::report::Unit;
use crate::sample::{Bound, Sample};

/// Pairs that are read and replaced; written before anything is measured.
const PAIRS: u64 = 10_000;

/// How long clusters are watched while they have nothing to do.
const IDLE: Duration = Duration::from_secs(3);

/// Clients of the phase that replaces values.
const REPLACING: usize = 64;

/// Where clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All to the leader.
    Leader,
    /// In turn to each member, beginning behind the leader: a single one is at a follower.
    Spread,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Leader => "at the leader",
            Place::Spread => "at all nodes",
        }
    }

    fn members(self, clients: usize, nodes: usize, leader: usize) -> Vec<usize> {
        let member = |client| match self {
            Place::Leader => leader,
            Place::Spread => (leader + 1 + client) % nodes,
        };
        (0..clients).map(member).collect()
    }
}

/// One phase of one kind of operation.
#[derive(Debug, Clone, Copy)]
struct Plan {
    suite: &'static str,
    /// What a row of the table begins with.
    what: &'static str,
    clients: usize,
    place: Place,
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Put,
    Replace,
    Get,
    Batch,
}

/// Runs what was asked for. A cluster that fails at a phase is noted and takes part in the next.
pub(super) fn run(options: &Options, clusters: &mut [Box<dyn Cluster>], report: &mut Report) {
    let mut bench = Bench {
        options,
        keys: HashMap::new(),
        report,
    };
    for cluster in clusters.iter_mut() {
        bench.prepare(cluster.as_mut());
    }
    for plan in plans(options) {
        let start = Instant::now();
        for repetition in 0..options.reps {
            let count = clusters.len();
            for index in (0..count).map(|index| (repetition + index) % count) {
                bench.measure(clusters[index].as_mut(), plan);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{}: {seconds:.0} s", plan.name());
    }
    for cluster in clusters.iter_mut() {
        bench.finish(cluster.as_mut());
    }
}

fn plans(options: &Options) -> Vec<Plan> {
    let places: &[Place] = match options.nodes {
        1 => &[Place::Leader],
        _ => &[Place::Leader, Place::Spread],
    };
    let wanted = |name: &str| options.only.iter().any(|only| only == name);
    let mut plans = Vec::new();
    let mut add = |suite, what, clients: &[usize], does| {
        if !wanted(suite) {
            return;
        }
        for &clients in clients {
            plans.extend(places.iter().map(|&place| Plan {
                suite,
                what,
                clients,
                place,
                does,
            }));
        }
    };
    add("writes", "new pairs", &options.clients, Does::Put);
    add("replace", "pairs replaced", &[REPLACING], Does::Replace);
    add("reads", "linearizable reads", &options.clients, Does::Get);
    add("batches", "pairs in batches", &[1, 16], Does::Batch);
    plans
}

impl Plan {
    fn name(&self) -> String {
        let (what, place) = (self.what, self.place.name());
        match (self.clients, self.place) {
            (1, Place::Spread) => format!("{what}, 1 client at a follower"),
            (1, Place::Leader) => format!("{what}, 1 client {place}"),
            (many, _) => format!("{what}, {many} clients {place}"),
        }
    }

    fn is_write(&self) -> bool {
        self.does != Does::Get
    }

    /// What Chronos set out to reach.
    fn rate_floor(&self) -> Floor {
        match (self.does, self.clients) {
            (Does::Put, 256..) => Floor::AtLeast(20_000.0),
            (Does::Batch, _) => Floor::AtLeast(200_000.0),
            _ => Floor::Ahead,
        }
    }

    fn p50_floor(&self) -> Floor {
        match (self.does, self.clients) {
            (Does::Get, 1) => Floor::AtMost(500.0),
            _ => Floor::Ahead,
        }
    }
}

struct Bench<'a> {
    options: &'a Options,
    /// Pairs that were put into each cluster.
    keys: HashMap<&'static str, u64>,
    report: &'a mut Report,
}

impl Bench<'_> {
    /// Idle processor time, and the pairs that are read.
    fn prepare(&mut self, cluster: &mut dyn Cluster) {
        let kind = cluster.kind();
        if let Err(error) = self.idle(cluster).and_then(|()| self.fill(cluster)) {
            self.report.note(format!("{}: {error}", kind.name()));
        }
    }

    fn idle(&mut self, cluster: &mut dyn Cluster) -> Result<()> {
        let leader = cluster.leader()?;
        let before = Gauge::read(cluster.members())?;
        std::thread::sleep(IDLE);
        let used = Gauge::read(cluster.members())?.since(&before);
        let millis = used.processor[leader].as_secs_f64() * 1e3 / IDLE.as_secs_f64();
        let what = "leader with nothing to do, processor per second";
        self.report.add(
            "resources",
            what,
            Unit::Millis,
            None,
            cluster.kind(),
            millis,
        );
        Ok(())
    }

    fn fill(&mut self, cluster: &mut dyn Cluster) -> Result<()> {
        const BATCH: u64 = 100;
        let operation = Operation::PutPairs { pairs: BATCH };
        let load = Load::new(operation, Protocol::Prepared, 0);
        let leader = cluster.leader()?;
        let once = |ops| Bound {
            time: Duration::from_secs(60),
            ops,
        };
        let phase = Phase {
            load: &load,
            clients: vec![leader],
            warm_up: once(1),
            bound: once(PAIRS / BATCH),
        };
        cluster.load(&phase, &mut || {})?;
        self.keys.insert(cluster.kind().name(), load.keys());
        self.check_count(cluster)
    }

    fn measure(&mut self, cluster: &mut dyn Cluster, plan: Plan) {
        if let Err(error) = self.try_measure(cluster, plan) {
            let kind = cluster.kind().name();
            self.report
                .note(format!("{kind}: {}: {error}", plan.name()));
        }
    }

    fn try_measure(&mut self, cluster: &mut dyn Cluster, plan: Plan) -> Result<()> {
        let leader = cluster.leader()?;
        let stored = self.keys.get(cluster.kind().name()).copied().unwrap_or(0);
        let load = plan_load(plan, cluster.batch_pairs(), stored);
        let nodes = cluster.members().len();
        let phase = Phase {
            load: &load,
            clients: plan.place.members(plan.clients, nodes, leader),
            warm_up: Bound::time(self.options.warm_up),
            bound: Bound::time(self.options.phase),
        };
        let members = cluster.members().to_vec();
        let mut before = Ok(Gauge::default());
        let sample = cluster.load(&phase, &mut || before = Gauge::read(&members));
        if matches!(plan.does, Does::Put | Does::Batch) {
            self.keys.insert(cluster.kind().name(), load.keys());
        }
        let sample = sample?;
        if sample.count() == 0 {
            return Err("not one operation was finished".into());
        }
        let used = Gauge::read(&members)?.since(&before?);
        if cluster.leader()? != leader {
            return Err("the leader changed meanwhile".into());
        }
        if plan.is_write() {
            self.check_count(cluster)?;
        }
        let rows = load.answer() as f64;
        self.note_sample(cluster.kind(), plan, &sample, rows);
        self.note_use(
            cluster.kind(),
            plan,
            &used,
            leader,
            sample.count() as f64 * rows,
        );
        Ok(())
    }

    fn note_sample(&mut self, kind: Kind, plan: Plan, sample: &Sample, rows: f64) {
        let (suite, name) = (plan.suite, plan.name());
        let mut add = |what: &str, unit, floor, value| {
            let name = format!("{name}{what}");
            self.report.add(suite, &name, unit, floor, kind, value);
        };
        let rate = sample.per_second() * rows;
        add("", Unit::PerSecond, Some(plan.rate_floor()), rate);
        // A batch of 1,000 and one of 128 do not take the same time.
        if plan.does != Does::Batch {
            add(
                ", p50",
                Unit::Micros,
                Some(plan.p50_floor()),
                sample.micros(0.5),
            );
            add(", p99", Unit::Micros, None, sample.micros(0.99));
        }
    }

    /// Per 1,000 operations, or pairs.
    fn note_use(&mut self, kind: Kind, plan: Plan, used: &Gauge, leader: usize, count: f64) {
        let suite = match plan.is_write() {
            true => "what writes cost",
            false => "what reads cost",
        };
        let name = plan.name();
        let mut add = |what: &str, unit, value| {
            let name = format!("{name}: {what}");
            self.report.add(suite, &name, unit, None, kind, value);
        };
        let per_thousand = |time: Duration| time.as_secs_f64() * 1e3 / (count / 1e3);
        add(
            "leader, per 1,000",
            Unit::ProcessorMillis,
            per_thousand(used.processor[leader]),
        );
        let others = used.processor.len() - 1;
        if others > 0 {
            let all: Duration = used.processor.iter().sum();
            let mean = (all - used.processor[leader]) / others as u32;
            add(
                "others, each, per 1,000",
                Unit::ProcessorMillis,
                per_thousand(mean),
            );
            let sent: u64 = used.sent.iter().sum();
            let each = sent as f64 / count;
            add("between nodes, each", Unit::BytesPerOperation, each);
        }
        add(
            "load generator, per 1,000",
            Unit::ProcessorMillis,
            per_thousand(used.own_processor),
        );
    }

    /// Everything that was acknowledged is there, and nothing else.
    fn check_count(&self, cluster: &mut dyn Cluster) -> Result<()> {
        let expected = self.keys.get(cluster.kind().name()).copied().unwrap_or(0);
        match cluster.count()? {
            found if found == expected => Ok(()),
            found => Err(format!("{expected} pairs were acknowledged, {found} are there").into()),
        }
    }

    fn finish(&mut self, cluster: &mut dyn Cluster) {
        let kind = cluster.kind();
        let sizes: Vec<f64> = cluster
            .members()
            .iter()
            .filter_map(|member| resident_bytes(member.pid))
            .map(|bytes| bytes as f64 / f64::from(1 << 20))
            .collect();
        if let Ok(leader) = cluster.leader() {
            let largest = sizes.iter().copied().fold(0.0, f64::max);
            let mut add = |what, value| {
                self.report
                    .add("resources", what, Unit::Mebibytes, None, kind, value);
            };
            add(
                "resident at the end, leader",
                sizes[leader.min(sizes.len() - 1)],
            );
            add("resident at the end, largest node", largest);
        }
        let pairs = self.keys.get(kind.name()).copied().unwrap_or(0);
        self.report
            .note(format!("{} holds {pairs} pairs at the end", kind.name()));
    }
}

fn plan_load(plan: Plan, batch_pairs: u64, stored: u64) -> Load {
    let (operation, keys) = match plan.does {
        Does::Put => (Operation::PutPairs { pairs: 1 }, stored),
        Does::Batch => (Operation::PutPairs { pairs: batch_pairs }, stored),
        Does::Replace => (Operation::ReplacePair, PAIRS),
        Does::Get => (Operation::GetPair, PAIRS),
    };
    Load::new(operation, Protocol::Prepared, keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_placed() {
        assert_eq!(Place::Leader.members(3, 3, 2), [2, 2, 2]);
        assert_eq!(Place::Spread.members(4, 3, 1), [2, 0, 1, 2]);
    }
}
