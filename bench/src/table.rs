//! The table that is printed: one line per figure, medians, ratio and floor.

use std::fmt::Write;

use crate::machine::Machine;
use crate::peer::Kind;
use crate::report::{Figure, Floor, Report, Unit};

/// Columns of the peers, whether they took part or not.
const PEERS: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::Chronos];

/// The whole report as text.
pub(crate) fn render(report: &Report, machine: &Machine) -> String {
    let mut out = format!(
        "\nload       {:.2} at the start, {:.2} at the end\n",
        machine.load.0, machine.load.1
    );
    let mut suite = "";
    for figure in &report.figures {
        if figure.suite != suite {
            suite = figure.suite;
            let heading = line(
                suite,
                ["sqlite", "postgres", "chronos", "c : pg", "floor", "met"].map(str::to_owned),
            );
            let _ = write!(
                out,
                "\n{heading}{}\n",
                "-".repeat(heading.trim_end().chars().count())
            );
        }
        out += &row(figure);
    }
    if !report.notes.is_empty() {
        out += "\nnotes\n";
    }
    for note in &report.notes {
        let _ = writeln!(out, "- {note}");
    }
    let judged = report.figures.iter().filter_map(Figure::met);
    let (met, all) = judged.fold((0, 0), |(met, all), this| {
        (met + usize::from(this), all + 1)
    });
    if all > 0 {
        let _ = writeln!(out, "\nfloors met: {met} of {all}");
    }
    out
}

fn row(figure: &Figure) -> String {
    let mut cells: Vec<String> = PEERS
        .iter()
        .map(|&peer| {
            figure
                .median(peer)
                .map_or("-".to_owned(), |value| number(figure.unit, value))
        })
        .collect();
    cells.push(
        figure
            .ratio()
            .map_or("-".to_owned(), |ratio| format!("{ratio:.2}x")),
    );
    cells.push(match figure.floor {
        None => String::new(),
        Some(Floor::AtLeast(floor)) => format!(">= {}", number(figure.unit, floor)),
        Some(Floor::AtMost(floor)) => format!("<= {}", number(figure.unit, floor)),
        Some(Floor::TimesPostgres(floor)) => format!(">= {floor}x pg"),
    });
    cells.push(figure.met().map_or(String::new(), |met| {
        if met { "yes" } else { "NO" }.to_owned()
    }));
    let cells = <[String; 6]>::try_from(cells).unwrap_or_default();
    line(&format!("{}, {}", figure.name, figure.unit.name()), cells)
}

fn line(name: &str, cells: [String; 6]) -> String {
    let [a, b, c, ratio, floor, met] = cells;
    format!("{name:<50} {a:>9} {b:>9} {c:>9} {ratio:>8}  {floor:<11} {met}")
        .trim_end()
        .to_owned()
        + "\n"
}

/// A number with three digits that count.
pub(crate) fn number(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond if value >= 999_500.0 => {
            format!("{:.*}M", digits(value / 1e6), value / 1e6)
        }
        Unit::PerSecond if value >= 999.5 => format!("{:.*}k", digits(value / 1e3), value / 1e3),
        _ => format!("{:.*}", digits(value), value),
    }
}

/// Decimals that leave three digits.
fn digits(value: f64) -> usize {
    match value.abs() {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let all = [
            (1.0, "1.00"),
            (45.67, "45.7"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (50e6, "50.0M"),
            (523_456.0, "523k"),
        ];
        for (value, text) in all {
            assert_eq!(number(Unit::PerSecond, value), text);
        }
        assert_eq!(number(Unit::Micros, 12_345.6), "12346");
    }

    #[test]
    fn ratios_point_the_same_way_and_floors_are_judged() {
        let mut report = Report::new(PEERS.to_vec());
        for (peer, value) in [
            (Kind::Postgres, 200.0),
            (Kind::Chronos, 90.0),
            (Kind::Chronos, 100.0),
            (Kind::Chronos, 300.0),
        ] {
            report.add_with_floor(
                "point",
                "p50",
                Unit::Micros,
                Some(Floor::AtMost(150.0)),
                peer,
                value,
            );
            report.add_with_floor(
                "point",
                "rate",
                Unit::PerSecond,
                Some(Floor::TimesPostgres(1.5)),
                peer,
                value,
            );
        }
        let [latency, rate] = &report.figures[..] else {
            panic!("two figures")
        };
        assert_eq!(
            (
                latency.median(Kind::Chronos),
                latency.ratio(),
                latency.met()
            ),
            (Some(100.0), Some(2.0), Some(true))
        );
        assert_eq!((rate.ratio(), rate.met()), (Some(0.5), Some(false)));
        assert!(row(rate).ends_with(">= 1.5x pg  NO\n"), "{}", row(rate));
    }
}
