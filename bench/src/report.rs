//! The figures of a run: which there are, every single value, and what went wrong.

use std::time::Duration;

use serde_json::{json, Map, Value};

use crate::args::Options;
use crate::machine::Machine;
use crate::peer::Kind;
use crate::sample::median;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations or rows per second; more is better.
    PerSecond,
    /// Microseconds; less is better.
    Micros,
    /// Milliseconds; less is better.
    Millis,
    /// Mebibytes of memory; less is better.
    Mebibytes,
    /// Bytes of disk per row; less is better.
    BytesPerRow,
    /// Bytes of anything per operation; less is better.
    BytesPerOperation,
    /// Milliseconds of a processor per 1,000 operations; less is better.
    ProcessorMillis,
    /// One of the peer's own figures divided by another; more is better.
    Times,
}

impl Unit {
    /// Whether a larger number is the better one.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::Times)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::Micros => "us",
            Unit::Millis => "ms",
            Unit::Mebibytes => "MiB",
            Unit::BytesPerRow => "B/row",
            Unit::BytesPerOperation => "B",
            Unit::ProcessorMillis => "ms",
            Unit::Times => "x",
        }
    }
}

/// What Chronos is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Floor {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// At least so many times PostgreSQL's figure in the same run.
    TimesPostgres(f64),
}

/// A figure: one line of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    /// The suite it belongs to.
    pub(crate) suite: &'static str,
    /// What it is.
    pub(crate) name: String,
    /// What its numbers count.
    pub(crate) unit: Unit,
    /// What Chronos is to reach.
    pub(crate) floor: Option<Floor>,
    runs: Vec<(Kind, f64)>,
}

impl Figure {
    /// The values of one peer, in the order they were measured.
    pub(crate) fn runs(&self, peer: Kind) -> Vec<f64> {
        self.runs
            .iter()
            .filter(|(kind, _)| *kind == peer)
            .map(|(_, value)| *value)
            .collect()
    }

    /// The middle one.
    pub(crate) fn median(&self, peer: Kind) -> Option<f64> {
        median(&self.runs(peer))
    }

    /// Chronos against PostgreSQL, turned so that more than 1 means Chronos is better.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (chronos, postgres) = (self.median(Kind::Chronos)?, self.median(Kind::Postgres)?);
        let ratio = if self.unit.more_is_better() {
            chronos / postgres
        } else {
            postgres / chronos
        };
        ratio.is_finite().then_some(ratio)
    }

    /// Whether the floor is met; `None` without a floor or without what it needs.
    pub(crate) fn met(&self) -> Option<bool> {
        let chronos = self.median(Kind::Chronos)?;
        Some(match self.floor? {
            Floor::AtLeast(floor) => chronos >= floor,
            Floor::AtMost(floor) => chronos <= floor,
            Floor::TimesPostgres(floor) => self.ratio()? >= floor,
        })
    }
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// Peers that took part, in the order of the columns.
    pub(crate) peers: Vec<Kind>,
    /// In the order they were first measured.
    pub(crate) figures: Vec<Figure>,
    /// What went wrong, or is to be known with the figures.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn new(peers: Vec<Kind>) -> Report {
        Report {
            peers,
            figures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// One value of a figure without a floor.
    pub(crate) fn add(
        &mut self,
        suite: &'static str,
        name: &str,
        unit: Unit,
        peer: Kind,
        value: f64,
    ) {
        self.add_with_floor(suite, name, unit, None, peer, value);
    }

    /// One value of a figure.
    pub(crate) fn add_with_floor(
        &mut self,
        suite: &'static str,
        name: &str,
        unit: Unit,
        floor: Option<Floor>,
        peer: Kind,
        value: f64,
    ) {
        let known = self
            .figures
            .iter()
            .position(|figure| figure.suite == suite && figure.name == name && figure.unit == unit);
        let index = known.unwrap_or_else(|| {
            self.figures.push(Figure {
                suite,
                name: name.to_owned(),
                unit,
                floor,
                runs: Vec::new(),
            });
            self.figures.len() - 1
        });
        self.figures[index].runs.push((peer, value));
    }

    /// Something to be told with the figures, once.
    pub(crate) fn note(&mut self, text: String) {
        println!("  ! {text}");
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// Everything, every single run included.
pub(crate) fn to_json(report: &Report, machine: &Machine, options: &Options) -> String {
    let figures = report.figures.iter().map(|figure| {
        let values = report
            .peers
            .iter()
            .filter(|peer| !figure.runs(**peer).is_empty())
            .map(|&peer| {
                let value = json!({ "median": figure.median(peer), "runs": figure.runs(peer) });
                (peer.name().to_owned(), value)
            });
        let floor = figure.floor.map(|floor| match floor {
            Floor::AtLeast(number) => json!({ "at_least": number }),
            Floor::AtMost(number) => json!({ "at_most": number }),
            Floor::TimesPostgres(number) => json!({ "times_postgres": number }),
        });
        json!({
            "suite": figure.suite,
            "figure": figure.name,
            "unit": figure.unit.name(),
            "peers": values.collect::<Map<String, Value>>(),
            "ratio_to_postgres": figure.ratio(),
            "floor": floor,
            "met": figure.met(),
        })
    });
    let whole = json!({
        "machine": machine_json(machine),
        "started": machine.started,
        "repetitions": options.scale.reps,
        "phase_ms": options.scale.phase.as_millis() as u64,
        "keyed_rows": options.scale.keyed_rows,
        "copy_rows": options.scale.copy_rows,
        "scan_rows": options.scale.scan_rows,
        "figures": figures.collect::<Vec<Value>>(),
        "notes": report.notes,
    });
    format!("{whole:#}\n")
}

/// What was measured on.
pub(crate) fn machine_json(machine: &Machine) -> Value {
    let us = |(p50, p99): (Duration, Duration)| json!({ "p50_us": p50.as_micros() as u64, "p99_us": p99.as_micros() as u64 });
    json!({
        "cores": machine.cores,
        "processor": machine.processor,
        "memory_bytes": machine.memory,
        "kernel": machine.kernel,
        "disk": machine.disk,
        "fdatasync_append": us(machine.append),
        "fdatasync_in_place": us(machine.overwrite),
        "load_at_start": machine.load.0,
        "load_at_end": machine.load.1,
    })
}
