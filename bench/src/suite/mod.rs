//! What is measured. A suite is a function over the [`Bench`]; it makes its tables on fresh
//! peers, and runs every phase on each of them in turn before it runs it again.

mod copy;
mod idle;
mod ingest;
mod keyed;
mod periods;
mod scan;

use std::time::Instant;

use crate::args::{Options, Scale};
use crate::data::Chunk;
use crate::error::Result;
use crate::load::{Load, Table};
use crate::peer::{Kind, Peer};
use crate::report::Report;
use crate::sample::{Bound, Sample};

/// The suites, in the order they are run.
pub(crate) const NAMES: [&str; 9] = [
    "idle", "insert", "batch", "point", "update", "copy", "scan", "periods", "ingest",
];

/// The peers and where their figures go.
pub(crate) struct Bench<'a> {
    /// How much of everything.
    pub(crate) scale: &'a Scale,
    /// In the order of the columns.
    pub(crate) peers: &'a mut Vec<Box<dyn Peer>>,
    /// The figures so far.
    pub(crate) report: &'a mut Report,
    /// Peers that failed: they sit out.
    out: Vec<Kind>,
    /// How many of them, from the front, sit out the whole suite.
    out_for_good: usize,
}

/// Runs the suites that were asked for. A peer that fails is noted, sits out the rest of
/// that suite, and starts afresh in the next.
pub(crate) fn run_all(options: &Options, peers: &mut Vec<Box<dyn Peer>>, report: &mut Report) {
    for name in &options.suites {
        println!("{name} ..");
        let start = Instant::now();
        let mut bench = Bench {
            scale: &options.scale,
            peers,
            report,
            out: Vec::new(),
            out_for_good: 0,
        };
        bench.each(name, |peer, _| peer.fresh());
        bench.exclude();
        match name.as_str() {
            "idle" => idle::run(&mut bench),
            "insert" => keyed::insert(&mut bench),
            "batch" => keyed::batch(&mut bench),
            "point" => keyed::point(&mut bench),
            "update" => keyed::update(&mut bench),
            "copy" => copy::run(&mut bench),
            "scan" => scan::run(&mut bench),
            "periods" => periods::run(&mut bench, &options.python),
            _ => ingest::run(&mut bench),
        }
        println!("{name}: {:.0} s", start.elapsed().as_secs_f64());
    }
}

impl Bench<'_> {
    /// Does something with each peer that is still in, in turn.
    pub(crate) fn each(
        &mut self,
        what: &str,
        mut action: impl FnMut(&mut dyn Peer, &mut Report) -> Result<()>,
    ) {
        self.each_from(0, what, &mut action);
    }

    /// The same as often as there are repetitions, beginning with another peer each time, so
    /// that none always runs in the wake of the same other one.
    pub(crate) fn repeat(
        &mut self,
        what: &str,
        mut action: impl FnMut(&mut dyn Peer, &mut Report, usize) -> Result<()>,
    ) {
        for repetition in 0..self.scale.reps {
            self.each_from(repetition, what, &mut |peer, report| {
                action(peer, report, repetition)
            });
        }
    }

    fn each_from(
        &mut self,
        first: usize,
        what: &str,
        action: &mut dyn FnMut(&mut dyn Peer, &mut Report) -> Result<()>,
    ) {
        let count = self.peers.len();
        for index in (0..count).map(|index| (first + index) % count) {
            let peer = &mut self.peers[index];
            let kind = peer.kind();
            if self.out.contains(&kind) {
                continue;
            }
            if let Err(error) = action(peer.as_mut(), self.report) {
                self.report
                    .note(format!("{}: {what}: {error}", kind.name()));
                self.out.push(kind);
            }
        }
    }

    /// Lets a peer that failed at one figure take part in the next one, unless it has not even
    /// the table.
    pub(crate) fn forgive(&mut self) {
        self.out.truncate(self.out_for_good);
    }

    /// Whoever has failed by now has not what the suite needs, and sits it out.
    pub(crate) fn exclude(&mut self) {
        self.out_for_good = self.out.len();
    }

    /// Makes a table on each peer and fills it with the first `rows` rows.
    pub(crate) fn fill(&mut self, table: Table, rows: u64) {
        let chunk = Chunk::new(table.shape(), 0, rows);
        self.each("loading", |peer, _| {
            peer.create(table)?;
            peer.copy(table, &chunk)?;
            peer.settle(table)
        });
        self.exclude();
    }
}

/// One measured phase of a load, behind its warm-up.
pub(crate) fn measure(
    peer: &mut dyn Peer,
    scale: &Scale,
    load: &Load,
    clients: usize,
) -> Result<Sample> {
    let sample = peer.load(
        load,
        clients,
        Bound::time(scale.warm_up),
        Bound::time(scale.phase),
    )?;
    if sample.count() == 0 {
        return Err("not one operation was finished".into());
    }
    Ok(sample)
}
