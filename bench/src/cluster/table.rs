//! The figures of a run of clusters, and the table that is printed: medians, ratio, and what Chronos is to reach.

use std::fmt::Write;

use serde_json::{json, Map, Value};

use super::args::Options;
use super::Kind;
use crate::machine::Machine;
use crate::report::Unit;
use crate::sample::median;
use crate::table::number;

/// What Chronos is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Floor {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Better than etcd in the same run.
    Ahead,
}

/// A figure: one line of the table.
#[derive(Debug)]
struct Figure {
    suite: &'static str,
    name: String,
    unit: Unit,
    floor: Option<Floor>,
    runs: Vec<(Kind, f64)>,
}

impl Figure {
    fn runs(&self, kind: Kind) -> Vec<f64> {
        let of_kind = self.runs.iter().filter(|(of, _)| *of == kind);
        of_kind.map(|(_, value)| *value).collect()
    }

    fn median(&self, kind: Kind) -> Option<f64> {
        median(&self.runs(kind))
    }

    /// Chronos against etcd, turned so that more than 1 means Chronos is better.
    fn ratio(&self) -> Option<f64> {
        let (chronos, etcd) = (self.median(Kind::Chronos)?, self.median(Kind::Etcd)?);
        let ratio = match self.unit.more_is_better() {
            true => chronos / etcd,
            false => etcd / chronos,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// Whether the floor is met; `None` without a floor or without what it needs.
    fn met(&self) -> Option<bool> {
        let chronos = self.median(Kind::Chronos)?;
        Some(match self.floor? {
            Floor::AtLeast(floor) => chronos >= floor,
            Floor::AtMost(floor) => chronos <= floor,
            Floor::Ahead => self.ratio()? >= 1.0,
        })
    }
}

/// All figures of a run, and what is to be known with them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    /// One value of a figure.
    pub(crate) fn add(
        &mut self,
        suite: &'static str,
        name: &str,
        unit: Unit,
        floor: Option<Floor>,
        kind: Kind,
        value: f64,
    ) {
        let known = self
            .figures
            .iter_mut()
            .find(|figure| figure.suite == suite && figure.name == name);
        if let Some(figure) = known {
            return figure.runs.push((kind, value));
        }
        self.figures.push(Figure {
            suite,
            name: name.to_owned(),
            unit,
            floor,
            runs: vec![(kind, value)],
        });
    }

    /// Something to be told with the figures, once.
    pub(crate) fn note(&mut self, text: String) {
        println!("  ! {text}");
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The suites, in the order of their first figures.
    fn suites(&self) -> Vec<&'static str> {
        let mut suites: Vec<&'static str> = Vec::new();
        for figure in &self.figures {
            if !suites.contains(&figure.suite) {
                suites.push(figure.suite);
            }
        }
        suites
    }
}

/// The whole report as text.
pub(crate) fn render(report: &Report, machine: &Machine) -> String {
    let mut out = format!(
        "\nload       {:.2} at the start, {:.2} at the end\n",
        machine.load.0, machine.load.1
    );
    for suite in report.suites() {
        let heading = line(
            suite,
            ["etcd", "chronos", "c : e", "floor", "met"].map(str::to_owned),
        );
        let width = heading.trim_end().chars().count();
        let _ = write!(out, "\n{heading}{}\n", "-".repeat(width));
        for figure in report.figures.iter().filter(|figure| figure.suite == suite) {
            out += &row(figure);
        }
    }
    if !report.notes.is_empty() {
        out += "\nnotes\n";
    }
    for note in &report.notes {
        let _ = writeln!(out, "- {note}");
    }
    let judged: Vec<bool> = report.figures.iter().filter_map(Figure::met).collect();
    if !judged.is_empty() {
        let met = judged.iter().filter(|met| **met).count();
        let _ = writeln!(out, "\nfloors met: {met} of {}", judged.len());
    }
    out
}

fn row(figure: &Figure) -> String {
    let value = |kind| {
        let median = figure.median(kind);
        median.map_or("-".to_owned(), |value| number(figure.unit, value))
    };
    let ratio = figure.ratio();
    let floor = match figure.floor {
        None => String::new(),
        Some(Floor::AtLeast(floor)) => format!(">= {}", number(figure.unit, floor)),
        Some(Floor::AtMost(floor)) => format!("<= {}", number(figure.unit, floor)),
        Some(Floor::Ahead) => "ahead".to_owned(),
    };
    let met = figure
        .met()
        .map_or("", |met| if met { "yes" } else { "NO" });
    let cells = [
        value(Kind::Etcd),
        value(Kind::Chronos),
        ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x")),
        floor,
        met.to_owned(),
    ];
    line(&format!("{}, {}", figure.name, figure.unit.name()), cells)
}

fn line(name: &str, cells: [String; 5]) -> String {
    let [etcd, chronos, ratio, floor, met] = cells;
    format!("{name:<74} {etcd:>9} {chronos:>9} {ratio:>8}  {floor:<9} {met}")
        .trim_end()
        .to_owned()
        + "\n"
}

/// Everything, every single run included.
pub(crate) fn to_json(report: &Report, machine: &Machine, options: &Options) -> String {
    let figures = report.figures.iter().map(|figure| {
        let values = [Kind::Etcd, Kind::Chronos].map(|kind| {
            let value = json!({ "median": figure.median(kind), "runs": figure.runs(kind) });
            (kind.name().to_owned(), value)
        });
        let floor = figure.floor.map(|floor| match floor {
            Floor::AtLeast(number) => json!({ "at_least": number }),
            Floor::AtMost(number) => json!({ "at_most": number }),
            Floor::Ahead => json!("ahead of etcd"),
        });
        json!({
            "suite": figure.suite,
            "figure": figure.name,
            "unit": figure.unit.name(),
            "peers": values.into_iter().collect::<Map<String, Value>>(),
            "ratio_to_etcd": figure.ratio(),
            "floor": floor,
            "met": figure.met(),
        })
    });
    let whole = json!({
        "machine": crate::report::machine_json(machine),
        "started": machine.started,
        "nodes": options.nodes,
        "repetitions": options.reps,
        "phase_ms": options.phase.as_millis() as u64,
        "figures": figures.collect::<Vec<Value>>(),
        "notes": report.notes,
    });
    format!("{whole:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_point_the_same_way_and_floors_are_judged() {
        let mut report = Report::default();
        let all = [
            ("rate", Unit::PerSecond, Some(Floor::Ahead), 200.0, 100.0),
            (
                "p50",
                Unit::Micros,
                Some(Floor::AtMost(150.0)),
                200.0,
                100.0,
            ),
            (
                "floor",
                Unit::PerSecond,
                Some(Floor::AtLeast(50.0)),
                200.0,
                100.0,
            ),
        ];
        for (name, unit, floor, etcd, chronos) in all {
            report.add("s", name, unit, floor, Kind::Etcd, etcd);
            report.add("s", name, unit, floor, Kind::Chronos, chronos);
        }
        let judged: Vec<_> = report
            .figures
            .iter()
            .map(|figure| (figure.ratio(), figure.met()))
            .collect();
        assert_eq!(
            judged,
            [
                (Some(0.5), Some(false)),
                (Some(2.0), Some(true)),
                (Some(0.5), Some(true))
            ]
        );
        assert!(row(&report.figures[0]).ends_with("0.50x  ahead     NO\n"));
    }
}
