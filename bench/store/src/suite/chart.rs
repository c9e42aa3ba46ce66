//! The chart of the growth suite: three small panels over the number of rows, as SVG by hand.
//!
//! The axis of rows is logarithmic, the others begin at 0, so that a flat line means that size
//! does not matter.

use std::fmt::Write;

use super::growth::Checkpoint;
use crate::report::short;

const PANEL_WIDTH: f64 = 300.0;
const PANEL_HEIGHT: f64 = 180.0;
const MARGIN: f64 = 50.0;

/// The whole file.
pub(super) fn draw(all: &[Checkpoint]) -> String {
    type Figure = fn(&Checkpoint) -> f64;
    let panels: [(&str, Figure); 3] = [
        ("ingest, rows/s", |one| one.ingest),
        ("point read, p50 us", |one| one.point_micros),
        ("scan, rows/s", |one| one.scan),
    ];
    let width = panels.len() as f64 * (PANEL_WIDTH + MARGIN) + MARGIN;
    let height = PANEL_HEIGHT + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, (title, figure)) in panels.into_iter().enumerate() {
        let left = MARGIN + number as f64 * (PANEL_WIDTH + MARGIN);
        let points: Vec<(f64, f64)> = (all.iter())
            .map(|one| (one.rows as f64, figure(one)))
            .collect();
        panel(&mut out, left, title, &points);
    }
    out + "</svg>\n"
}

fn panel(out: &mut String, left: f64, title: &str, points: &[(f64, f64)]) {
    let bottom = MARGIN + PANEL_HEIGHT;
    let first = points.first().map_or(1.0, |p| p.0.log10());
    let last = points.last().map_or(1.0, |p| p.0.log10());
    let top = points.iter().map(|p| p.1).fold(0.0, f64::max) * 1.1;
    let x = |rows: f64| left + (rows.log10() - first) / (last - first).max(1e-9) * PANEL_WIDTH;
    let y = |value: f64| bottom - value / top.max(1e-9) * PANEL_HEIGHT;
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>\n\
         <path d=\"M{left} {MARGIN}V{bottom}H{:.0}\" fill=\"none\" stroke=\"#888\"/>",
        MARGIN - 12.0,
        left + PANEL_WIDTH
    );
    for share in [0.0, 0.5, 1.0] {
        let value = top * share;
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
            left - 4.0,
            y(value) + 4.0,
            short(value)
        );
    }
    for (rows, _) in points {
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(*rows),
            bottom + 16.0,
            short(*rows)
        );
    }
    let line: Vec<String> = points
        .iter()
        .map(|(rows, value)| format!("{:.1},{:.1}", x(*rows), y(*value)))
        .collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#0969da\" stroke-width=\"2\"/>",
        line.join(" ")
    );
    for (rows, value) in points {
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#0969da\"/>",
            x(*rows),
            y(*value)
        );
    }
}
