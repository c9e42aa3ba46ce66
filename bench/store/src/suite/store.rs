//! The suite `store`: the same rows in every engine, each in a process of its own.
//!
//! A child ingests, settles, checks that the engine answers rightly (which also warms it up),
//! measures, and prints its figures as one line of JSON. The parent makes the table of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{p50_micros, repeated, Questions};
use crate::args::Options;
use crate::data::{ticks, Batches, BATCH_ROWS, DEVICES};
use crate::engine::{self, Kind};
use crate::error::{failure, Result};
use crate::machine::peak_memory_mib;
use crate::report::{short, Table};
use crate::scratch::{disk_bytes, Scratch};

const ROWS: u64 = 10_000_000;

/// What one engine did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Figures {
    #[serde(default)]
    bytes_per_row: f64,
    /// Rows per second, until the last batch is durable.
    ingest: f64,
    settle_seconds: f64,
    /// Rows per second.
    aggregate: f64,
    range_micros: f64,
    point_micros: f64,
    peak_mib: f64,
}

/// Rows of a whole number of ticks.
fn rows(options: &Options) -> u64 {
    ticks(options.rows.unwrap_or(ROWS)) * DEVICES
}

pub(super) fn run(options: &Options) -> Result<()> {
    let rows = rows(options);
    println!(
        "{rows} rows of {DEVICES} devices in batches of {BATCH_ROWS}, one thread, {} repetitions",
        options.reps
    );
    let scratch = Scratch::new(options.dir.as_deref())?;
    let mut table = Table::new([
        "engine",
        "bytes/row",
        "ingest rows/s",
        "settle s",
        "avg, max rows/s",
        "1 hour p50 us",
        "point p50 us",
        "peak MiB",
    ]);
    let mut notes = Vec::new();
    for kind in &options.engines {
        eprintln!("{} ..", kind.name());
        let dir = scratch.dir(kind.name())?;
        match child(options, *kind, &dir) {
            Ok(Some(figures)) => table.row(kind.name(), figures.cells()),
            Ok(None) => table.row(kind.name(), vec!["skipped".into()]),
            Err(error) => {
                table.row(kind.name(), vec!["failed".into()]);
                notes.push(format!("{}: {error}", kind.name()));
            }
        }
        std::fs::remove_dir_all(&dir)?;
    }
    println!("\n{table}");
    if options.engines.contains(&Kind::Duckdb) {
        println!(
            "duckdb needs a Python with the module duckdb (--python); without, it is skipped."
        );
    }
    notes.iter().for_each(|note| println!("! {note}"));
    Ok(())
}

impl Figures {
    fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.2}", self.bytes_per_row),
            short(self.ingest),
            format!("{:.1}", self.settle_seconds),
            short(self.aggregate),
            short(self.range_micros),
            short(self.point_micros),
            format!("{:.0}", self.peak_mib),
        ]
    }
}

/// Runs one engine in a process of its own; `None`: it is not there.
fn child(options: &Options, kind: Kind, dir: &Path) -> Result<Option<Figures>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["child", kind.name(), "--python", &options.python])
        .args(["--rows", &rows(options).to_string()])
        .args(["--reps", &options.reps.to_string()])
        .arg("--dir")
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return failure("its process failed");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One engine in this process: prints its figures.
pub(super) fn run_child(options: &Options, kind: Kind) -> Result<()> {
    let Some(dir) = &options.dir else {
        return failure("a child needs --dir");
    };
    let questions = Questions::new(rows(options));
    let figures = match kind {
        Kind::Duckdb => duckdb(options, dir, &questions)?,
        _ => Some(measure(options, kind, dir, &questions)?),
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn duckdb(options: &Options, dir: &Path, questions: &Questions) -> Result<Option<Figures>> {
    let figures = engine::run_duckdb(&options.python, dir, questions, options.reps)?;
    let Some(figures) = figures else {
        return Ok(None);
    };
    let figures: Figures = serde_json::from_value(figures)?;
    Ok(Some(Figures {
        bytes_per_row: disk_bytes(dir) as f64 / questions.rows as f64,
        ..figures
    }))
}

fn measure(options: &Options, kind: Kind, dir: &Path, questions: &Questions) -> Result<Figures> {
    let rows = questions.rows as f64;
    let mut engine = engine::open(kind, dir)?;
    let mut ingest = 0.0;
    for batch in Batches::new(questions.rows) {
        let start = Instant::now();
        engine.ingest(&batch)?;
        ingest += start.elapsed().as_secs_f64();
    }
    let start = Instant::now();
    engine.seal()?;
    ingest += start.elapsed().as_secs_f64();
    let start = Instant::now();
    engine.settle()?;
    let settle_seconds = start.elapsed().as_secs_f64();
    let bytes = engine.data_bytes(dir);
    questions.check(engine.as_mut())?;
    let aggregate = repeated(options.reps, || {
        let start = Instant::now();
        engine.aggregate()?;
        Ok(rows / start.elapsed().as_secs_f64())
    })?;
    let range_micros = repeated(options.reps, || {
        p50_micros(&questions.ranges, |(range, ..)| {
            engine.range(*range).map(|_| ())
        })
    })?;
    let mut repetition = 0;
    let point_micros = repeated(options.reps, || {
        repetition += 1;
        p50_micros(&questions.fresh_points(repetition), |(device, ts, _)| {
            engine.point(*device, *ts).map(|_| ())
        })
    })?;
    Ok(Figures {
        bytes_per_row: bytes as f64 / rows,
        ingest: rows / ingest,
        settle_seconds,
        aggregate,
        range_micros,
        point_micros,
        peak_mib: peak_memory_mib(),
    })
}
