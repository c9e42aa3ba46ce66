//! `GET /metrics`: what this face counted and what the node tells, for Prometheus.
//!
//! Owns the counters of HTTP requests and a collector that asks the node at every
//! scrape. Other protocols register their own counters in the same registry before it
//! comes here ([`HttpOptions::registry`](super::HttpOptions)). Names and meanings are
//! documented in `docs/http.md`.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use chronos_env::Clock;
use chronos_node::{LatencyHistogram, MemoryClassStatus, Node, NodeStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::App;

/// Upper bounds of the latency buckets in seconds.
const LATENCY_BUCKETS: [f64; 17] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// What a request asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Sql,
    Ingest,
    Health,
    Ready,
    Metrics,
    Check,
    Cluster,
    Snapshot,
    Hashes,
}

impl Kind {
    fn label(self) -> (&'static str, &'static str) {
        let name = match self {
            Kind::Sql => "sql",
            Kind::Ingest => "ingest",
            Kind::Health => "health",
            Kind::Ready => "ready",
            Kind::Metrics => "metrics",
            Kind::Check => "check",
            Kind::Cluster => "cluster",
            Kind::Snapshot => "snapshot",
            Kind::Hashes => "hashes",
        };
        ("kind", name)
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum End {
    Ok,
    ClientError,
    ServerError,
    /// Turned away because too much was going on.
    Rejected,
    /// The client left, or the body broke off after its status was sent.
    Aborted,
}

impl End {
    fn of(status: StatusCode) -> End {
        match status.as_u16() {
            0..=399 => End::Ok,
            429 => End::Rejected,
            499 => End::Aborted,
            400..=498 => End::ClientError,
            _ => End::ServerError,
        }
    }

    fn label(self) -> (&'static str, &'static str) {
        let name = match self {
            End::Ok => "ok",
            End::ClientError => "client_error",
            End::ServerError => "server_error",
            End::Rejected => "rejected",
            End::Aborted => "aborted",
        };
        ("outcome", name)
    }
}

/// Label names with their values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters of this face.
pub(crate) struct Metrics {
    clock: Arc<dyn Clock>,
    registry: Registry,
    requests: Family<Labels<2>, Counter>,
    in_flight: Family<Labels<1>, Gauge>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    pub(crate) connections: Gauge,
    pub(crate) ingest_rows: Counter,
    pub(crate) ingest_duplicates: Counter,
}

impl Metrics {
    pub(crate) fn new(mut registry: Registry, clock: Arc<dyn Clock>, node: Node) -> Metrics {
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let metrics = Metrics {
            clock,
            requests: Family::default(),
            in_flight: Family::default(),
            durations: Family::new_with_constructor(histogram),
            connections: Gauge::default(),
            ingest_rows: Counter::default(),
            ingest_duplicates: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "chronos_http_requests",
            "HTTP requests by what they asked for and how they ended",
            metrics.requests.clone(),
        );
        registry.register(
            "chronos_http_requests_in_flight",
            "HTTP requests being answered",
            metrics.in_flight.clone(),
        );
        registry.register(
            "chronos_http_request_duration_seconds",
            "Time from a request's head to the last byte of its answer",
            metrics.durations.clone(),
        );
        registry.register(
            "chronos_http_connections",
            "Open HTTP connections",
            metrics.connections.clone(),
        );
        registry.register(
            "chronos_ingest_rows",
            "Rows stored by POST /ingest",
            metrics.ingest_rows.clone(),
        );
        registry.register(
            "chronos_ingest_duplicates",
            "Rows of POST /ingest that had been stored before",
            metrics.ingest_duplicates.clone(),
        );
        registry.register_collector(Box::new(NodeCollector(node)));
        metrics.create_families();
        Metrics {
            registry,
            ..metrics
        }
    }

    /// Makes the families that dashboards ask for exist from the first scrape on.
    fn create_families(&self) {
        for kind in [Kind::Sql, Kind::Ingest] {
            let labels = [kind.label()];
            drop(self.in_flight.get_or_create(&labels));
            drop(self.durations.get_or_create(&labels));
            for end in [
                End::Ok,
                End::ClientError,
                End::ServerError,
                End::Rejected,
                End::Aborted,
            ] {
                drop(self.requests.get_or_create(&[kind.label(), end.label()]));
            }
        }
    }

    /// Counts a request from now on until its guard is finished or dropped.
    pub(crate) fn begin(self: &Arc<Metrics>, kind: Kind) -> RequestGuard {
        self.in_flight.get_or_create(&[kind.label()]).inc();
        RequestGuard {
            metrics: self.clone(),
            kind,
            started_nanos: self.clock.monotonic_nanos(),
            end: End::Aborted,
        }
    }

    fn encode(&self, is_open_metrics: bool) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(if is_open_metrics {
            text
        } else {
            classic_text(&text)
        })
    }
}

/// A request under way. Dropped unfinished, it counts as aborted.
pub(crate) struct RequestGuard {
    metrics: Arc<Metrics>,
    kind: Kind,
    started_nanos: u64,
    end: End,
}

impl RequestGuard {
    /// The request was answered with this status.
    pub(crate) fn finish(mut self, status: StatusCode) {
        self.end = End::of(status);
    }

    pub(crate) fn elapsed_nanos(&self) -> u64 {
        let now = self.metrics.clock.monotonic_nanos();
        now.saturating_sub(self.started_nanos)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let seconds = self.elapsed_nanos() as f64 / 1e9;
        let labels = [self.kind.label()];
        self.metrics.in_flight.get_or_create(&labels).dec();
        self.metrics
            .durations
            .get_or_create(&labels)
            .observe(seconds);
        let labels = [self.kind.label(), self.end.label()];
        self.metrics.requests.get_or_create(&labels).inc();
    }
}

/// Asks the node for its figures at every scrape.
struct NodeCollector(Node);

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        encode_counters(&mut encoder, &status)?;
        encode_gauges(&mut encoder, &status)?;
        encode_memory(&mut encoder, &status)?;
        encode_histogram(
            &mut encoder,
            "chronos_log_fsync_duration_seconds",
            "How long syncs of the log took",
            &status.log.fsync_latency,
        )?;
        let mut metric = encoder.encode_descriptor(
            "chronos_role",
            "1 for the role that the node has",
            None,
            MetricType::Gauge,
        )?;
        for role in ["leader", "follower", "candidate", "learner"] {
            let is_it = ConstGauge::new(i64::from(status.role == role));
            is_it.encode(metric.encode_family(&[("role", role)])?)?;
        }
        let build = [
            ("version", status.version.as_str()),
            ("profile", status.profile.as_str()),
            ("durability", status.durability.mode.as_str()),
            ("node_id", status.node_id.as_str()),
        ];
        let mut metric = encoder.encode_descriptor(
            "chronos_node_info",
            "Always 1; its labels describe the node",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(1i64).encode(metric.encode_family(&build)?)
    }
}

fn encode_counters(encoder: &mut DescriptorEncoder<'_>, status: &NodeStatus) -> fmt::Result {
    let (log, store) = (&status.log, &status.store);
    for (name, help, value) in [
        ("chronos_log_fsyncs", "Syncs of the log to disk", log.fsyncs),
        (
            "chronos_log_entries",
            "Entries appended to the log",
            log.entries,
        ),
        (
            "chronos_log_appended_bytes",
            "Bytes appended to the log",
            log.bytes,
        ),
        (
            "chronos_store_flushes",
            "Memtables written to segments",
            store.flushes,
        ),
        (
            "chronos_store_compactions",
            "Compactions finished",
            store.compactions,
        ),
        (
            "chronos_compaction_read_bytes",
            "Bytes of segments that compactions replaced",
            store.compaction.bytes_read,
        ),
        (
            "chronos_compaction_written_bytes",
            "Bytes of segments that compactions wrote",
            store.compaction.bytes_written,
        ),
        (
            "chronos_compaction_wait_microseconds",
            "Time that compactions waited for flushes and for --compaction-io-limit",
            store.compaction.waited_micros,
        ),
        (
            "chronos_memory_refusals",
            "Times that memory was asked for and not to be had; queries spill then, statements fail",
            status.memory.refusals,
        ),
        (
            "chronos_store_stall_microseconds",
            "Time that writes waited for flushes or were slowed down by them",
            store.stall_micros,
        ),
        (
            "chronos_cache_page_hits",
            "Parts of pages that were found in memory",
            store.cache_page_hits,
        ),
        (
            "chronos_cache_page_misses",
            "Parts of pages that had to be read",
            store.cache_page_misses,
        ),
        (
            "chronos_cache_row_hits",
            "Rows that were found in memory by their key",
            store.cache_row_hits,
        ),
        (
            "chronos_cache_row_misses",
            "Rows that had to be looked for in segments",
            store.cache_row_misses,
        ),
    ] {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    }
    Ok(())
}

fn encode_gauges(encoder: &mut DescriptorEncoder<'_>, status: &NodeStatus) -> fmt::Result {
    let (log, store) = (&status.log, &status.store);
    let rss = chronos_env::resident_memory_bytes();
    for (name, help, value) in [
        (
            "chronos_log_size_bytes",
            "Bytes of the log's files",
            Some(log.size_bytes),
        ),
        (
            "chronos_memtable_bytes",
            "Bytes in memtables",
            Some(store.memtable_bytes),
        ),
        (
            "chronos_cache_bytes",
            "Bytes of pages and rows kept in memory",
            Some(store.cache_bytes),
        ),
        (
            "chronos_segment_bytes",
            "Bytes of segments on disk",
            Some(store.segment_bytes),
        ),
        ("chronos_segments", "Segments on disk", Some(store.segments)),
        (
            "chronos_damaged_segments",
            "Segments found damaged: what needs them is refused",
            Some(store.damaged.len() as u64),
        ),
        ("chronos_tables", "Tables that exist", Some(store.tables)),
        ("chronos_term", "Current term", Some(status.term)),
        (
            "chronos_applied_index",
            "Index of the last applied log entry",
            Some(status.applied_index),
        ),
        (
            "chronos_ready",
            "1 when the node answers statements",
            Some(u64::from(status.ready)),
        ),
        (
            "chronos_healthy",
            "0 when the node takes no more writes",
            Some(u64::from(status.fault.is_none())),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory of the process",
            rss,
        ),
    ] {
        if let Some(value) = value {
            let gauge = ConstGauge::new(value as i64);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
    }
    let uptime = ConstGauge::new(status.uptime_secs);
    uptime.encode(encoder.encode_descriptor(
        "chronos_uptime_seconds",
        "Seconds since the node was opened",
        None,
        MetricType::Gauge,
    )?)
}

/// Classes of the memory limit: what they hold, may hold, and have held.
fn encode_memory(encoder: &mut DescriptorEncoder<'_>, status: &NodeStatus) -> fmt::Result {
    type Figure = fn(&MemoryClassStatus) -> Option<u64>;
    let figures: [(&str, &str, Figure); 3] = [
        (
            "chronos_memory_bytes",
            "Bytes held, of those that count towards the memory limit",
            |class| Some(class.bytes),
        ),
        (
            "chronos_memory_max_bytes",
            "Bytes that may be held; queries, writes and input share theirs",
            |class| Some(class.bytes_max),
        ),
        (
            "chronos_memory_peak_bytes",
            "The most bytes that were held since the start",
            |class| class.peak_bytes,
        ),
    ];
    for (name, help, figure) in figures {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for class in &status.memory.classes {
            let Some(bytes) = figure(class) else { continue };
            let gauge = ConstGauge::new(bytes as i64);
            gauge.encode(metric.encode_family(&[("class", class.class)])?)?;
        }
    }
    let limit = ConstGauge::new(status.memory.limit_bytes as i64);
    limit.encode(encoder.encode_descriptor(
        "chronos_memory_limit_bytes",
        "The memory limit",
        None,
        MetricType::Gauge,
    )?)
}

fn encode_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histogram: &LatencyHistogram,
) -> fmt::Result {
    let bounds = histogram.bounds_micros.iter().map(|b| *b as f64 / 1e6);
    let bounds = bounds.chain([f64::MAX]);
    let buckets: Vec<_> = bounds.zip(histogram.counts.iter().copied()).collect();
    if buckets.is_empty() {
        return Ok(());
    }
    let count = buckets.iter().map(|b| b.1).sum();
    let sum = histogram.sum_micros as f64 / 1e6;
    encoder
        .encode_descriptor(name, help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// OpenMetrics text as the older Prometheus text format: a counter's family carries the
/// `_total` of its samples, and there is no end mark.
fn classic_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 256);
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some(help) = help.take() {
                let help = help["# HELP ".len()..]
                    .strip_prefix(name)
                    .unwrap_or_default();
                text.push_str(&format!("# HELP {name}{suffix}{help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let request = app.metrics.begin(Kind::Metrics);
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let is_open_metrics = accept.is_some_and(|a| a.contains("application/openmetrics-text"));
    let content_type = match is_open_metrics {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    };
    let mut response = match app.metrics.encode(is_open_metrics) {
        Ok(text) => Response::new(Body::from(text)),
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    request.finish(response.status());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_text_names_counters_as_their_samples() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{k=\"v\"} 1\n# HELP b Size.\n# TYPE b gauge\n# UNIT b bytes\nb 2\n# EOF\n";
        let classic = "# HELP a_total Things.\n# TYPE a_total counter\na_total{k=\"v\"} 1\n# HELP b Size.\n# TYPE b gauge\nb 2\n";
        assert_eq!(classic_text(open), classic);
    }

    #[test]
    fn an_unfinished_request_counts_as_aborted() {
        let sim = chronos_env::SimEnv::new(1);
        let metrics = Metrics::new(
            Registry::default(),
            sim.clock.clone(),
            crate::http::test_node(),
        );
        let metrics = Arc::new(metrics);
        let request = metrics.begin(Kind::Sql);
        sim.clock.advance(std::time::Duration::from_millis(20));
        let text = metrics.encode(false).unwrap();
        assert!(text.contains("chronos_http_requests_in_flight{kind=\"sql\"} 1\n"));
        drop(request);
        metrics
            .begin(Kind::Ingest)
            .finish(StatusCode::TOO_MANY_REQUESTS);
        let text = metrics.encode(false).unwrap();
        for line in [
            "chronos_http_requests_in_flight{kind=\"sql\"} 0",
            "chronos_http_requests_total{kind=\"sql\",outcome=\"aborted\"} 1",
            "chronos_http_requests_total{kind=\"ingest\",outcome=\"rejected\"} 1",
            "chronos_http_request_duration_seconds_bucket{le=\"0.01\",kind=\"sql\"} 0",
            "chronos_http_request_duration_seconds_bucket{le=\"0.025\",kind=\"sql\"} 1",
            "# TYPE chronos_log_fsyncs_total counter",
            "chronos_role{role=\"leader\"} 1",
            "chronos_memory_bytes{class=\"queries\"} 0",
            "# TYPE chronos_compaction_written_bytes_total counter",
            "chronos_role{role=\"follower\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(metrics.encode(true).unwrap().ends_with("# EOF\n"));
    }
}
