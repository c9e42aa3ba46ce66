//! The suite `growth`: one table as it grows, measured at 1, 2, 5, 10, .. million rows.
//!
//! Nothing is settled in between but the compactions that are due: it is read as it stands.
//! Ingesting counts only the time inside of the engine. The figures are written as a CSV file
//! and as a chart.

use std::time::Instant;

use super::{chart, p50_micros, repeated};
use crate::args::Options;
use crate::data::{self, Batches, Random, Rows, DEVICES};
use crate::engine::chronos::Readings;
use crate::engine::Engine;
use crate::error::{failure, Result};
use crate::machine::peak_memory_mib;
use crate::report::{short, Table};
use crate::scratch::{disk_bytes, Scratch};

const ROWS: u64 = 10_000_000;
/// No checkpoint is earlier: late rows must have arrived.
const FIRST_CHECKPOINT: u64 = 100_000;
/// Ticks by which rows may still be missing.
const LATE_TICKS: u64 = 61;
const POINTS: usize = 3_000;

/// One checkpoint's figures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkpoint {
    pub(super) rows: u64,
    /// Rows per second since the checkpoint before.
    pub(super) ingest: f64,
    pub(super) point_micros: f64,
    /// Rows per second.
    pub(super) scan: f64,
    bytes_per_row: f64,
    peak_mib: f64,
}

/// 1, 2 and 5 times powers of ten, the last three decades up to `rows`, and `rows` itself.
fn checkpoints(rows: u64) -> Vec<u64> {
    let first = FIRST_CHECKPOINT.max(rows / 100).min(rows);
    let series = (0..18).flat_map(|power| [1, 2, 5].map(|digit| digit * 10u64.pow(power)));
    let mut all: Vec<u64> = series.filter(|n| (first..rows).contains(n)).collect();
    all.push(rows);
    all
}

pub(super) fn run(options: &Options) -> Result<()> {
    let rows = data::ticks(options.rows.unwrap_or(ROWS)) * DEVICES;
    if rows < FIRST_CHECKPOINT {
        return failure(format!("growth needs at least {FIRST_CHECKPOINT} rows"));
    }
    let scratch = Scratch::new(options.dir.as_deref())?;
    let dir = scratch.dir("chronos")?;
    let mut engine = Readings::open(&dir)?;
    let mut batches = Batches::new(rows);
    let mut done = Vec::new();
    let mut stored = 0;
    for end in checkpoints(rows) {
        let (added, seconds) = ingest(&mut engine, &mut batches, stored, end)?;
        stored += added;
        engine.maintain()?;
        let checkpoint = Checkpoint {
            rows: stored,
            ingest: added as f64 / seconds,
            point_micros: point_micros(&mut engine, stored, options.reps)?,
            scan: scan_rate(&mut engine, stored, options.reps)?,
            bytes_per_row: disk_bytes(&dir.join("store")) as f64 / stored as f64,
            peak_mib: peak_memory_mib(),
        };
        eprintln!("{stored} rows: {} rows/s", short(checkpoint.ingest));
        done.push(checkpoint);
    }
    print(&done);
    write(options, &done)
}

/// Ingests batches until there are `end` rows; how many, and in how many seconds.
fn ingest(
    engine: &mut Readings,
    batches: &mut Batches,
    stored: u64,
    end: u64,
) -> Result<(u64, f64)> {
    let (mut added, mut seconds) = (0, 0.0);
    while stored + added < end {
        let Some(rows): Option<Rows> = batches.next() else {
            break;
        };
        let start = Instant::now();
        engine.ingest(&rows)?;
        seconds += start.elapsed().as_secs_f64();
        added += rows.len() as u64;
    }
    Ok((added, seconds))
}

fn point_micros(engine: &mut Readings, stored: u64, reps: usize) -> Result<f64> {
    let ticks = (stored / DEVICES).saturating_sub(LATE_TICKS).max(1);
    let mut random = Random::new(stored);
    // Others each time: a row that was asked for before may have been kept.
    let mut pass = || {
        let points: Vec<(u32, u64)> = (0..POINTS)
            .map(|_| (random.below(DEVICES) as u32, random.below(ticks)))
            .collect();
        p50_micros(&points, |(device, tick)| {
            match engine.point(*device, data::ts(*device, *tick))? {
                Some(noise) if noise == data::noise(*device, *tick) => Ok(()),
                other => failure(format!("device {device}, tick {tick}: {other:?}")),
            }
        })
    };
    pass()?;
    repeated(reps, pass)
}

fn scan_rate(engine: &mut Readings, stored: u64, reps: usize) -> Result<f64> {
    repeated(reps, || {
        let start = Instant::now();
        let groups = engine.aggregate()?.len() as u64;
        if groups != DEVICES {
            return failure(format!("{groups} devices"));
        }
        Ok(stored as f64 / start.elapsed().as_secs_f64())
    })
}

fn print(all: &[Checkpoint]) {
    let mut table = Table::new([
        "rows",
        "ingest rows/s",
        "point p50 us",
        "scan rows/s",
        "bytes/row",
        "peak MiB",
    ]);
    for one in all {
        table.row(
            &short(one.rows as f64),
            vec![
                short(one.ingest),
                short(one.point_micros),
                short(one.scan),
                format!("{:.2}", one.bytes_per_row),
                format!("{:.0}", one.peak_mib),
            ],
        );
    }
    println!("{table}");
}

fn write(options: &Options, all: &[Checkpoint]) -> Result<()> {
    let mut csv =
        "rows,ingest_rows_per_s,point_p50_us,scan_rows_per_s,bytes_per_row,peak_mib\n".to_owned();
    for one in all {
        csv += &format!(
            "{},{:.0},{:.1},{:.0},{:.3},{:.0}\n",
            one.rows, one.ingest, one.point_micros, one.scan, one.bytes_per_row, one.peak_mib
        );
    }
    std::fs::create_dir_all(&options.out)?;
    for (name, text) in [("growth.csv", csv), ("growth.svg", chart::draw(all))] {
        let path = options.out.join(name);
        std::fs::write(&path, text)?;
        println!("written: {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_end_with_all_rows() {
        assert_eq!(checkpoints(200_000), [100_000, 200_000]);
        assert_eq!(
            checkpoints(3_000_000)[..4],
            [100_000, 200_000, 500_000, 1_000_000]
        );
        assert_eq!(checkpoints(3_000_000)[4..], [2_000_000, 3_000_000]);
        let large = checkpoints(100_000_000);
        assert_eq!((large[0], large.len()), (1_000_000, 7));
    }
}
