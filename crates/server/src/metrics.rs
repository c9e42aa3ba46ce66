//! The PostgreSQL server's counters, in the form in which `GET /metrics` shows them.
//!
//! Stands between the two protocols so that neither knows the other.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::pgwire::PgStats;

/// Shows `stats` in `registry`, which is then given to
/// [`HttpOptions::registry`](crate::http::HttpOptions::registry).
pub fn register_pgwire(registry: &mut Registry, stats: Arc<PgStats>) {
    registry.register_collector(Box::new(PgCollector(stats)));
}

#[derive(Debug)]
struct PgCollector(Arc<PgStats>);

impl Collector for PgCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.0;
        let open = ConstGauge::new(stats.connections_open.get() as i64);
        open.encode(encoder.encode_descriptor(
            "chronos_pgwire_connections",
            "Open PostgreSQL connections",
            None,
            MetricType::Gauge,
        )?)?;
        for (name, help, counter) in [
            (
                "connections_opened",
                "PostgreSQL connections past start-up",
                &stats.connections_total,
            ),
            (
                "connections_refused",
                "PostgreSQL connections turned away",
                &stats.connections_refused,
            ),
            (
                "logins_failed",
                "PostgreSQL clients with a wrong name or password",
                &stats.logins_failed,
            ),
            (
                "panics",
                "PostgreSQL connections closed by a panic",
                &stats.panics,
            ),
            (
                "cancels",
                "Cancel requests that were honoured",
                &stats.cancels,
            ),
            ("errors", "Errors sent to PostgreSQL clients", &stats.errors),
            (
                "received_bytes",
                "Bytes received from PostgreSQL clients",
                &stats.bytes_received,
            ),
            (
                "sent_bytes",
                "Bytes sent to PostgreSQL clients",
                &stats.bytes_sent,
            ),
            (
                "writes",
                "Writes to PostgreSQL clients' sockets",
                &stats.writes,
            ),
        ] {
            let name = format!("chronos_pgwire_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.get()).encode(metric)?;
        }
        let mut messages = encoder.encode_descriptor(
            "chronos_pgwire_messages",
            "Messages of PostgreSQL clients by kind",
            None,
            MetricType::Counter,
        )?;
        for (kind, counter) in [
            ("query", &stats.queries),
            ("parse", &stats.parses),
            ("bind", &stats.binds),
            ("execute", &stats.executes),
            ("copy_data", &stats.copy_data),
            ("other", &stats.other_messages),
        ] {
            let labels = [("kind", kind)];
            let metric = messages.encode_family(&labels)?;
            ConstCounter::new(counter.get()).encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_shown() {
        let mut registry = Registry::default();
        register_pgwire(&mut registry, Arc::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "chronos_pgwire_connections 0",
            "chronos_pgwire_errors_total 0",
            "chronos_pgwire_messages_total{kind=\"query\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
