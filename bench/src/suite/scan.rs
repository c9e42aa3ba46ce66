//! Reads of many rows: aggregates over all of a table, one device's hour, the past.
//!
//! Answers are compared with what the rows must give, to the last digit of a count and to
//! nine of an average: a fast wrong answer is noted, not praised.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Bench;
use crate::data::{self, Chunk, DEVICES};
use crate::error::Result;
use crate::load::Table;
use crate::peer::{Kind, Peer};
use crate::report::{Floor, Report, Unit};
use crate::sample::Sample;

const BY_DEVICE: &str = "SELECT device, avg(value), max(value) FROM series GROUP BY device";

/// The figure that has a floor.
const ALL: &str = "avg, max by device, rows";

/// Queries of one device's hour per repetition.
const HOURS: u64 = 50;

/// Loads the table, then reads it in several ways.
pub(crate) fn run(bench: &mut Bench<'_>) {
    let rows = bench.scale.scan_rows;
    load(bench, rows);
    let expected = data::expected(rows);
    bench.exclude();
    bench.repeat("aggregate", |peer, report, _| {
        aggregate(peer, report, ALL, BY_DEVICE, rows, &expected)
    });
    bench.forgive();
    bench.repeat("count", |peer, report, _| count(peer, report, rows));
    bench.forgive();
    bench.repeat("one hour", |peer, report, _| hour(peer, report, rows));
    bench.forgive();
    history(bench, rows, &expected);
    bench.forgive();
    bench.each("space", |peer, report| space(peer, report, rows));
}

/// COPYs until the table is full; the rate over all of them, the last ones included.
fn load(bench: &mut Bench<'_>, rows: u64) {
    let step = bench.scale.copy_rows;
    bench.each("create", |peer, _| peer.create(Table::Series));
    let mut seconds: BTreeMap<Kind, f64> = BTreeMap::new();
    for first in (0..rows).step_by(step as usize) {
        let chunk = Chunk::new(Table::Series.shape(), first, step);
        bench.each("loading", |peer, _| {
            *seconds.entry(peer.kind()).or_default() +=
                peer.copy(Table::Series, &chunk)?.as_secs_f64();
            Ok(())
        });
    }
    bench.each("settling", |peer, report| {
        let took = seconds.get(&peer.kind()).copied().unwrap_or(f64::NAN);
        report.add(
            "scan",
            "COPYs into the growing table, rows",
            Unit::PerSecond,
            peer.kind(),
            rows as f64 / took,
        );
        memory(peer, report, "resident right after the load");
        peer.settle(Table::Series)
    });
}

fn memory(peer: &mut dyn Peer, report: &mut Report, name: &str) {
    if let Some(bytes) = peer.memory() {
        report.add(
            "scan",
            name,
            Unit::Mebibytes,
            peer.kind(),
            bytes as f64 / (1u64 << 20) as f64,
        );
    }
}

/// Times the aggregate by device and checks its answer.
fn aggregate(
    peer: &mut dyn Peer,
    report: &mut Report,
    name: &str,
    sql: &str,
    rows: u64,
    expected: &BTreeMap<String, (f64, f64)>,
) -> Result<()> {
    let start = Instant::now();
    let answer = peer.query(sql)?;
    let took = start.elapsed().as_secs_f64();
    let floor = (name == ALL).then_some(Floor::AtLeast(50e6));
    report.add_with_floor(
        "scan",
        name,
        Unit::PerSecond,
        floor,
        peer.kind(),
        rows as f64 / took,
    );
    if answer.len() != expected.len() {
        report.note(format!(
            "{}: WRONG: {name}: {} groups instead of {}",
            peer.kind().name(),
            answer.len(),
            expected.len()
        ));
    }
    for row in answer {
        let [device, avg, max] = &row[..] else {
            return Err("three columns were asked for".into());
        };
        let near = |text: &str, wanted: f64| {
            text.parse()
                .is_ok_and(|value: f64| (value - wanted).abs() <= 1e-9 * wanted.abs())
        };
        if !expected
            .get(device)
            .is_some_and(|(a, m)| near(avg, *a) && near(max, *m))
        {
            report.note(format!(
                "{}: WRONG: {name}: {device} is {avg}, {max}",
                peer.kind().name()
            ));
            break;
        }
    }
    Ok(())
}

fn count(peer: &mut dyn Peer, report: &mut Report, rows: u64) -> Result<()> {
    let start = Instant::now();
    let answer = peer.query("SELECT count(*) FROM series")?;
    let took = start.elapsed().as_secs_f64();
    report.add(
        "scan",
        "count(*), rows",
        Unit::PerSecond,
        peer.kind(),
        rows as f64 / took,
    );
    if answer != [[rows.to_string()]] {
        report.note(format!(
            "{}: WRONG: count(*) is {answer:?} instead of {rows}",
            peer.kind().name()
        ));
    }
    Ok(())
}

/// One hour of one device by a range of the key.
fn hour(peer: &mut dyn Peer, report: &mut Report, rows: u64) -> Result<()> {
    let seconds = rows / DEVICES;
    let mut random = data::Random::new();
    let mut sample = Sample::default();
    let begin = Instant::now();
    for _ in 0..HOURS {
        let from = random.below(seconds.saturating_sub(3600).max(1));
        let to = (from + 3600).min(seconds);
        let mut device = String::new();
        data::write_device(&mut device, random.below(DEVICES));
        let [low, high] =
            [from, to].map(|second| peer.time_literal(data::micros_of_second(second)));
        let sql = format!(
            "SELECT count(*), avg(value), max(value) FROM series WHERE device = '{device}' AND ts >= {low} AND ts < {high}"
        );
        let start = Instant::now();
        let answer = peer.query(&sql)?;
        sample.add(start.elapsed());
        if answer.first().and_then(|row| row.first()) != Some(&(to - from).to_string()) {
            report.note(format!(
                "{}: WRONG: an hour of {device}: {answer:?} instead of {}",
                peer.kind().name(),
                to - from
            ));
        }
    }
    sample.finish(begin.elapsed());
    report.add(
        "scan",
        "one device, one hour (3600 rows), p50",
        Unit::Micros,
        peer.kind(),
        sample.micros(0.5),
    );
    report.add(
        "scan",
        "one device, one hour (3600 rows), p99",
        Unit::Micros,
        peer.kind(),
        sample.micros(0.99),
    );
    Ok(())
}

/// Changes the rows of one device, then asks for the state now and for the one before.
fn history(bench: &mut Bench<'_>, rows: u64, expected: &BTreeMap<String, (f64, f64)>) {
    let mut changed = expected.clone();
    if let Some((avg, max)) = changed.get_mut("dev-007") {
        (*avg, *max) = (*avg + 1.0, *max + 1.0);
    }
    let mut before = String::new();
    bench.each("update of one device", |peer, report| {
        if peer.kind() == Kind::Chronos {
            before = peer
                .query("SELECT now()")?
                .into_iter()
                .flatten()
                .next()
                .unwrap_or_default();
        }
        let start = Instant::now();
        peer.query("UPDATE series SET value = value + 1 WHERE device = 'dev-007'")?;
        let took = start.elapsed().as_secs_f64();
        report.add(
            "scan",
            "UPDATE of 1 % of the rows, rows",
            Unit::PerSecond,
            peer.kind(),
            (rows / DEVICES) as f64 / took,
        );
        peer.settle(Table::Series)
    });
    bench.exclude();
    let name = "avg, max by device after that, rows";
    bench.repeat(name, |peer, report, _| {
        aggregate(peer, report, name, BY_DEVICE, rows, &changed)
    });
    bench.forgive();
    let clause = format!("FROM series FOR SYSTEM_TIME AS OF '{before}'");
    let past = BY_DEVICE.replace("FROM series", &clause);
    let name = "the same AS OF before that, rows";
    bench.repeat(name, |peer, report, _| match peer.kind() {
        Kind::Chronos => aggregate(peer, report, name, &past, rows, expected),
        _ => Ok(()),
    });
}

/// Memory after all of this, and space on disk.
fn space(peer: &mut dyn Peer, report: &mut Report, rows: u64) -> Result<()> {
    memory(peer, report, "resident after the queries");
    if let Some(disk) = peer.disk(Table::Series)? {
        report.add(
            "scan",
            "disk, table and its index",
            Unit::BytesPerRow,
            peer.kind(),
            disk.table as f64 / rows as f64,
        );
        report.add(
            "scan",
            "disk, all files with logs",
            Unit::BytesPerRow,
            peer.kind(),
            disk.all as f64 / rows as f64,
        );
    }
    if let Some(took) = peer
        .as_chronos()
        .map(|chronos| chronos.restart())
        .transpose()?
        .flatten()
    {
        report.add(
            "scan",
            "start with this table until connected",
            Unit::Millis,
            peer.kind(),
            took.as_secs_f64() * 1e3,
        );
    }
    Ok(())
}
