//! What `GET /metrics` shows of the ways to other nodes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{GrpcPeers, LinkStatus};

/// Shows the ways to other nodes in a registry, as they are at each scrape.
pub fn register(registry: &mut Registry, peers: Arc<GrpcPeers>) {
    registry.register_collector(Box::new(LinkCollector(peers)));
}

#[derive(Debug)]
struct LinkCollector(Arc<GrpcPeers>);

impl Collector for LinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let links = self.0.links();
        let mut metric = encoder.encode_descriptor(
            "chronos_raft_link_round_trip_seconds",
            "There and back to the node",
            None,
            MetricType::Gauge,
        )?;
        for link in &links {
            let Some(micros) = link.round_trip_micros else {
                continue;
            };
            let gauge = ConstGauge::new(micros as f64 / 1e6);
            gauge.encode(metric.encode_family(&labels(link))?)?;
        }
        type Count = fn(&LinkStatus) -> u64;
        let counts: [(&str, &str, Count); 5] = [
            (
                "chronos_raft_link_connects",
                "Connections that were opened to the node",
                |link| link.connects,
            ),
            (
                "chronos_raft_link_sent_bytes",
                "Bytes sent to the node, but for what TLS adds",
                |link| link.sent_bytes,
            ),
            (
                "chronos_raft_link_received_bytes",
                "Bytes that the node answered, but for what TLS adds",
                |link| link.received_bytes,
            ),
            (
                "chronos_raft_link_plain_bytes",
                "Bytes that were compressed before they were sent",
                |link| link.plain_bytes,
            ),
            (
                "chronos_raft_link_packed_bytes",
                "What became of the bytes that were compressed",
                |link| link.packed_bytes,
            ),
        ];
        for (name, help, count) in counts {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for link in &links {
                let counter = ConstCounter::new(count(link));
                counter.encode(metric.encode_family(&labels(link))?)?;
            }
        }
        Ok(())
    }
}

fn labels(link: &LinkStatus) -> [(&'static str, &str); 1] {
    [("node", link.member.name.as_str())]
}
