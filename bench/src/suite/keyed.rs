//! Statements on single rows by key, and batches of them: inserts, point reads, updates.

use super::{measure, Bench};
use crate::load::{Load, Operation, Protocol, Table};
use crate::peer::Peer;
use crate::report::{Floor, Report, Unit};
use crate::sample::Sample;

/// Clients of the many-client phases.
const MANY: usize = 64;

/// A rate and its latencies. `rate` is the floor of the rate, `p50` that of the median latency.
fn add(
    report: &mut Report,
    peer: &dyn Peer,
    suite: &'static str,
    name: &str,
    sample: &Sample,
    rate: Option<Floor>,
    p50: Option<Floor>,
) {
    let kind = peer.kind();
    report.add_with_floor(
        suite,
        name,
        Unit::PerSecond,
        rate,
        kind,
        sample.per_second(),
    );
    report.add_with_floor(
        suite,
        &format!("{name}, p50"),
        Unit::Micros,
        p50,
        kind,
        sample.micros(0.5),
    );
    report.add(
        suite,
        &format!("{name}, p99"),
        Unit::Micros,
        kind,
        sample.micros(0.99),
    );
}

/// Durable single-row inserts by 1 and by many clients, and what group commit makes of many.
pub(crate) fn insert(bench: &mut Bench<'_>) {
    let scale = bench.scale;
    bench.repeat("insert", |peer, report, _| {
        peer.create(Table::Rows)?;
        let load = Load::new(Operation::Insert { rows: 1 }, Protocol::Prepared, 0);
        let one = measure(peer, scale, &load, 1)?;
        let many = measure(peer, scale, &load, MANY)?;
        check_count(peer, load.keys())?;
        add(
            report,
            peer,
            "insert",
            "durable inserts, 1 client",
            &one,
            None,
            None,
        );
        add(
            report,
            peer,
            "insert",
            "durable inserts, 64 clients",
            &many,
            None,
            None,
        );
        let times = many.per_second() / one.per_second();
        let floor = Some(Floor::AtLeast(20.0));
        report.add_with_floor(
            "insert",
            "durable inserts, 64 clients : 1 client",
            Unit::Times,
            floor,
            peer.kind(),
            times,
        );
        Ok(())
    });
}

/// Every row that was acknowledged is there.
fn check_count(peer: &mut dyn Peer, rows: u64) -> crate::error::Result<()> {
    let answer = peer.query("SELECT count(*) FROM rows")?;
    let count = answer
        .first()
        .and_then(|row| row.first())
        .cloned()
        .unwrap_or_default();
    match count == rows.to_string() {
        true => Ok(()),
        false => Err(format!("{rows} rows were acknowledged, count(*) is {count}").into()),
    }
}

/// A thousand rows per statement and commit, from one client.
pub(crate) fn batch(bench: &mut Bench<'_>) {
    const ROWS: u64 = 1000;
    let scale = bench.scale;
    for (protocol, name) in [
        (Protocol::Prepared, "INSERT of 1000 rows, parameters, rows"),
        (Protocol::Simple, "INSERT of 1000 rows, literals, rows"),
    ] {
        bench.repeat(name, |peer, report, _| {
            peer.create(Table::Rows)?;
            let load = Load::new(Operation::Insert { rows: ROWS }, protocol, 0);
            let sample = measure(peer, scale, &load, 1)?;
            check_count(peer, load.keys())?;
            report.add(
                "batch",
                name,
                Unit::PerSecond,
                peer.kind(),
                sample.per_second() * ROWS as f64,
            );
            Ok(())
        });
        bench.forgive();
    }
}

/// Reads of one row by its key, uniformly at random.
pub(crate) fn point(bench: &mut Bench<'_>) {
    let scale = bench.scale;
    bench.fill(Table::Rows, scale.keyed_rows);
    let phases = [
        (Protocol::Prepared, 1, "point SELECT, prepared, 1 client"),
        (Protocol::Simple, 1, "point SELECT, simple, 1 client"),
        (
            Protocol::Prepared,
            MANY,
            "point SELECT, prepared, 64 clients",
        ),
        (Protocol::Simple, MANY, "point SELECT, simple, 64 clients"),
    ];
    for (protocol, clients, name) in phases {
        bench.repeat(name, |peer, report, _| {
            let load = Load::new(Operation::Select, protocol, scale.keyed_rows);
            let sample = measure(peer, scale, &load, clients)?;
            let (rate, p50) = match clients {
                1 => (1.0, Some(Floor::AtMost(150.0))),
                _ => (1.5, None),
            };
            add(
                report,
                peer,
                "point",
                name,
                &sample,
                Some(Floor::TimesPostgres(rate)),
                p50,
            );
            Ok(())
        });
        bench.forgive();
    }
}

/// Durable updates of one row by its key, uniformly at random.
pub(crate) fn update(bench: &mut Bench<'_>) {
    let scale = bench.scale;
    bench.fill(Table::Rows, scale.keyed_rows);
    for (clients, name) in [
        (1, "durable updates by key, 1 client"),
        (MANY, "durable updates by key, 64 clients"),
    ] {
        bench.repeat(name, |peer, report, _| {
            let load = Load::new(Operation::Update, Protocol::Prepared, scale.keyed_rows);
            let sample = measure(peer, scale, &load, clients)?;
            add(report, peer, "update", name, &sample, None, None);
            check_count(peer, scale.keyed_rows)
        });
        bench.forgive();
    }
}
