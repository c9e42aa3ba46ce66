//! `bench cluster`: three Chronos nodes beside three members of etcd, on one machine.
//!
//! Starts both clusters, waits for their leaders, runs every phase on one and on the other in turn, and takes all of
//! it away again. Both keep the same pairs (a number, and 256 letters), both sync before they acknowledge, and
//! both answer reads linearizably; each gets its own protocol, from one thread of this process.
//!
//! ```text
//! args ── phases (what is measured) ── Cluster ── chronos (pgwire) | etcd (gRPC)
//!               │
//!               └── gauge (processor time, bytes between nodes) ── table
//! ```

mod args;
mod chronos;
mod etcd;
mod gauge;
mod phases;
mod table;

use std::path::Path;

use crate::cleanup;
use crate::error::Result;
use crate::load::Load;
use crate::machine::Machine;
use crate::sample::{Bound, Sample};
use args::Options;
use gauge::Member;
use table::Report;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Debian's etcd-server.
    Etcd,
    /// The binary of this repository.
    Chronos,
}

impl Kind {
    /// Its column's heading.
    fn name(self) -> &'static str {
        match self {
            Kind::Etcd => "etcd",
            Kind::Chronos => "chronos",
        }
    }
}

/// Two phases of a load: one that only warms up, one that counts.
struct Phase<'a> {
    load: &'a Load,
    /// To which member each client is connected.
    clients: Vec<usize>,
    warm_up: Bound,
    bound: Bound,
}

/// What the phases ask of a cluster.
trait Cluster {
    fn kind(&self) -> Kind;

    /// Version and settings in a line.
    fn describe(&self) -> String;

    /// Its processes.
    fn members(&self) -> &[Member];

    /// The position of the leader among the members, as soon as there is one.
    fn leader(&mut self) -> Result<usize>;

    /// Pairs in one operation of the batch phase.
    fn batch_pairs(&self) -> u64;

    /// Pairs there are, counted at the leader.
    fn count(&mut self) -> Result<u64>;

    /// Runs a phase; `begin` is called when the warm-up is over.
    fn load(&mut self, phase: &Phase<'_>, begin: &mut dyn FnMut()) -> Result<Sample>;
}

/// One whole run.
pub(crate) fn run(args: impl Iterator<Item = String>) -> Result<()> {
    let Some(options) = args::parse(args)? else {
        print!("{}", args::HELP);
        return Ok(());
    };
    cleanup::on_signal()?;
    let scratch = cleanup::Scratch::new(options.dir.as_deref())?;
    let mut machine = Machine::look(scratch.path())?;
    print!("{machine}");
    let mut clusters = start(&options, scratch.path())?;
    for cluster in &clusters {
        println!("{:<10} {}", cluster.kind().name(), cluster.describe());
    }
    let mut report = Report::default();
    phases::run(&options, &mut clusters, &mut report);
    // Stopped in the open, so that a hang here is seen for what it is.
    drop(clusters);
    machine.finish();
    print!("{}", table::render(&report, &machine));
    if let Some(path) = &options.json {
        std::fs::write(path, table::to_json(&report, &machine, &options))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("\nwritten: {}", path.display());
    }
    Ok(())
}

/// Starts what there is; a peer that is missing or does not start is left out with a word.
fn start(options: &Options, scratch: &Path) -> Result<Vec<Box<dyn Cluster>>> {
    let mut clusters: Vec<Box<dyn Cluster>> = Vec::new();
    let wanted = |kind: Kind| !options.without.contains(&kind);
    if wanted(Kind::Etcd) {
        match etcd::Etcd::start(options, scratch) {
            Ok(etcd) => clusters.push(Box::new(etcd)),
            Err(error) => println!("etcd       left out: {error}"),
        }
    }
    if wanted(Kind::Chronos) {
        match chronos::Chronos::start(options, scratch) {
            Ok(chronos) => clusters.push(Box::new(chronos)),
            Err(error) => println!("chronos    left out: {error}"),
        }
    }
    if clusters.is_empty() {
        return Err("there is no cluster to measure".into());
    }
    Ok(clusters)
}

/// Ports of loopback that nobody listens on at this moment.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held before the first is let go, so that none comes twice.
    let listeners: Vec<std::net::TcpListener> = (0..count)
        .map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<_>>()?;
    let ports = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()));
    Ok(ports.collect::<std::io::Result<_>>()?)
}
