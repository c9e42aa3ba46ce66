//! Metrics per second through POST /ingest: JSON over kept connections, one commit per body.
//! Only Chronos has this face, so there is nobody beside it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Bench;
use crate::args::Scale;
use crate::data;
use crate::error::Result;
use crate::http::Connection;
use crate::peer::Kind;
use crate::report::Unit;
use crate::sample::{Bound, Sample};

/// Metrics of one reading.
const METRICS: [&str; 4] = ["temp", "humidity", "amps", "rpm"];

/// Bodies of 100 and of 1000 metrics, from 1 and from 16 clients.
pub(crate) fn run(bench: &mut Bench<'_>) {
    let scale = bench.scale;
    let next = AtomicU64::new(0);
    for (clients, metrics) in [(1, 100), (1, 1000), (16, 100), (16, 1000)] {
        let plural = if clients == 1 { "client" } else { "clients" };
        let name = format!("/ingest, {metrics} metrics a body, {clients} {plural}, metrics");
        bench.repeat(&name, |peer, report, _| {
            if peer.kind() != Kind::Chronos {
                return Ok(());
            }
            let Some(address) = peer.as_chronos().and_then(|chronos| chronos.http()) else {
                return Err("no HTTP address is known: give --http-url".into());
            };
            let sample = post(address, scale, clients, metrics, &next)?;
            let kind = peer.kind();
            report.add(
                "ingest",
                &name,
                Unit::PerSecond,
                kind,
                sample.per_second() * metrics as f64,
            );
            let latency = name.replace(", metrics", ", p99");
            report.add("ingest", &latency, Unit::Micros, kind, sample.micros(0.99));
            Ok(())
        });
        bench.forgive();
    }
    bench.each("ingest", |peer, report| {
        if let (Kind::Chronos, Some(bytes)) = (peer.kind(), peer.memory()) {
            report.add(
                "ingest",
                "resident afterwards",
                Unit::Mebibytes,
                Kind::Chronos,
                bytes as f64 / (1u64 << 20) as f64,
            );
        }
        Ok(())
    });
}

/// One phase; a client's body is made while nothing of it is under way, outside its latency.
fn post(
    address: SocketAddr,
    scale: &Scale,
    clients: usize,
    metrics: u64,
    next: &AtomicU64,
) -> Result<Sample> {
    let bounds = [Bound::time(scale.warm_up), Bound::time(scale.phase)];
    let samples = std::thread::scope(|scope| {
        let start = |_| scope.spawn(|| client(address, metrics, next, bounds));
        let clients: Vec<_> = (0..clients).map(start).collect();
        let joined = clients.into_iter().map(|client| client.join());
        joined
            .map(|result| result.unwrap_or_else(|_| Err("a client panicked".into())))
            .collect::<Result<Vec<Sample>>>()
    })?;
    let mut all = Sample::default();
    samples.into_iter().for_each(|sample| all.merge(sample));
    Ok(all)
}

fn client(
    address: SocketAddr,
    metrics: u64,
    next: &AtomicU64,
    bounds: [Bound; 2],
) -> Result<Sample> {
    let mut connection = Connection::open(address)?;
    let mut body = String::new();
    let mut sample = Sample::default();
    let stored = format!("\"rows\":{metrics}");
    for bound in bounds {
        sample = Sample::default();
        let start = Instant::now();
        while bound.allows(sample.count(), start) {
            let readings = metrics / METRICS.len() as u64;
            write_body(
                &mut body,
                next.fetch_add(readings, Ordering::Relaxed),
                readings,
            );
            let begun = Instant::now();
            let answer = connection.post("/ingest", body.as_bytes())?;
            sample.add(begun.elapsed());
            if !answer.replace(' ', "").contains(&stored) {
                return Err(format!("answered {answer:.200} to {metrics} new metrics").into());
            }
        }
        sample.finish(start.elapsed());
    }
    Ok(sample)
}

/// An array of readings from position `first` on, each with all metrics.
fn write_body(body: &mut String, first: u64, readings: u64) {
    body.clear();
    for position in first..first + readings {
        let row = data::reading(position);
        body.push(if position == first { '[' } else { ',' });
        body.push_str("{\"device_id\":\"");
        data::write_device(body, row.device);
        let _ = write!(
            body,
            "\",\"ts\":{},\"seq\":{position},\"metrics\":{{",
            row.micros
        );
        for (index, metric) in METRICS.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(body, "{comma}\"{metric}\":{}", row.value + index as f64);
        }
        body.push_str("}}");
    }
    body.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_with_all_metrics() {
        let mut body = String::new();
        write_body(&mut body, 250, 25);
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        let all = parsed.as_array().unwrap();
        assert_eq!(all.len(), 25);
        assert_eq!(all[0]["device_id"], "dev-050");
        assert_eq!(all[0]["seq"], 250);
        assert_eq!(all[24]["metrics"].as_object().unwrap().len(), METRICS.len());
    }
}
