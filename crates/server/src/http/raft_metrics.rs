//! What `GET /metrics` shows of the cluster: consensus, followers, checkpoints, alerts.

use std::fmt;
use std::sync::Arc;

use chronos_node::cluster::{ClusterStatus, FollowerStatus, NodeRole};
use chronos_node::{Alert, AlertWatch, Node};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::MetricType;

/// Asks the node at every scrape.
pub(super) struct RaftCollector {
    pub(super) node: Node,
    pub(super) alerts: Arc<AlertWatch>,
}

impl fmt::Debug for RaftCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RaftCollector")
    }
}

impl Collector for RaftCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.node.cluster().status();
        encode_indexes(&mut encoder, &status)?;
        encode_counts(&mut encoder, &status)?;
        encode_times(&mut encoder, &status)?;
        encode_members(&mut encoder, &status)?;
        encode_followers(&mut encoder, &status)?;
        let active = self.alerts.active();
        let mut metric = encoder.encode_descriptor(
            "chronos_alert",
            "1 for what somebody should look at",
            None,
            MetricType::Gauge,
        )?;
        for alert in Alert::ALL {
            let is_on = ConstGauge::new(i64::from(active.contains_key(&alert)));
            is_on.encode(metric.encode_family(&[("alert", alert.name())])?)?;
        }
        Ok(())
    }
}

fn encode_indexes(encoder: &mut DescriptorEncoder<'_>, status: &ClusterStatus) -> fmt::Result {
    let receiving = status.receiving.clone().unwrap_or_default();
    for (name, help, value) in [
        ("chronos_raft_term", "Current term", status.term),
        (
            "chronos_raft_is_leader",
            "1 on the node that leads",
            u64::from(status.role == "leader"),
        ),
        (
            "chronos_raft_has_leader",
            "1 when a leader is known",
            u64::from(status.leader.is_some()),
        ),
        (
            "chronos_raft_leader",
            "Number of the leader, 0 if none is known",
            status.leader.map_or(0, |leader| u64::from(leader.0)),
        ),
        (
            "chronos_raft_last_index",
            "Last entry in the log",
            status.last_index,
        ),
        (
            "chronos_raft_committed_index",
            "Last entry known to be committed",
            status.committed_index,
        ),
        (
            "chronos_raft_applied_index",
            "Last entry applied",
            status.applied_index,
        ),
        (
            "chronos_raft_purged_index",
            "Last entry that the log no longer has",
            status.purged_index,
        ),
        (
            "chronos_raft_checkpoint_index",
            "Last entry that a checkpoint of this node contains",
            status.checkpoint_index,
        ),
        (
            "chronos_raft_checkpoint_received_bytes",
            "Bytes that have arrived of the checkpoint that is being received, 0 if none is",
            receiving.bytes,
        ),
        (
            "chronos_raft_checkpoint_receiving_bytes",
            "Bytes of the checkpoint that is being received, 0 if none is",
            receiving.bytes_total,
        ),
    ] {
        let gauge = ConstGauge::new(value as i64);
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    Ok(())
}

fn encode_counts(encoder: &mut DescriptorEncoder<'_>, status: &ClusterStatus) -> fmt::Result {
    for (name, help, value) in [
        (
            "chronos_raft_elections",
            "Elections that this node began",
            status.elections,
        ),
        (
            "chronos_raft_terms_led",
            "Times that this node became leader",
            status.terms_led,
        ),
        (
            "chronos_raft_repairs",
            "Times that damaged files were replaced by another member's store",
            status.repair.done,
        ),
    ] {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    }
    Ok(())
}

fn encode_times(encoder: &mut DescriptorEncoder<'_>, status: &ClusterStatus) -> fmt::Result {
    for (name, help, value) in [
        (
            "chronos_raft_heartbeat_seconds",
            "Between heartbeats",
            Some(status.heartbeat_ms),
        ),
        (
            "chronos_raft_election_timeout_seconds",
            "Without a sign of the leader before an election, at least; longer than given where links or disks are slow",
            Some(status.election_timeout_ms),
        ),
        (
            "chronos_raft_quorum_acked_seconds",
            "Since a quorum answered this leader",
            status.quorum_acked_ms,
        ),
    ] {
        let Some(millis) = value else { continue };
        let gauge = ConstGauge::new(millis as f64 / 1e3);
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    Ok(())
}

fn encode_members(encoder: &mut DescriptorEncoder<'_>, status: &ClusterStatus) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(
        "chronos_raft_members",
        "Members of the cluster",
        None,
        MetricType::Gauge,
    )?;
    for (name, role) in [("voter", NodeRole::Voter), ("learner", NodeRole::Learner)] {
        let count = status.members.iter().filter(|m| m.role == role).count();
        let gauge = ConstGauge::new(count as i64);
        gauge.encode(metric.encode_family(&[("role", name)])?)?;
    }
    Ok(())
}

/// What the leader knows of the others.
fn encode_followers(encoder: &mut DescriptorEncoder<'_>, status: &ClusterStatus) -> fmt::Result {
    type Figure = fn(&FollowerStatus) -> Option<f64>;
    let figures: [(&str, &str, Figure); 6] = [
        (
            "chronos_raft_follower_matched_index",
            "Last entry that the member has as this leader has it",
            |f| Some(f.matched_index as f64),
        ),
        (
            "chronos_raft_follower_lag_entries",
            "Entries that the member lacks",
            |f| Some(f.lag_entries as f64),
        ),
        (
            "chronos_raft_follower_heard_seconds",
            "Since the member was heard of",
            |f| f.heard_ms.map(|ms| ms as f64 / 1e3),
        ),
        (
            "chronos_raft_follower_round_trip_seconds",
            "Until the member answers to a heartbeat, on average of the last minute",
            |f| f.round_trip_ms.map(|ms| ms / 1e3),
        ),
        (
            "chronos_raft_follower_checkpoint_sent_bytes",
            "Bytes sent of the checkpoint that is on its way to the member",
            |f| f.sending.as_ref().map(|sending| sending.bytes as f64),
        ),
        (
            "chronos_raft_follower_checkpoint_bytes",
            "Bytes of the checkpoint that is on its way to the member",
            |f| f.sending.as_ref().map(|sending| sending.bytes_total as f64),
        ),
    ];
    for (name, help, figure) in figures {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for member in &status.members {
            let Some(value) = member.progress.as_ref().and_then(figure) else {
                continue;
            };
            let gauge = ConstGauge::new(value);
            gauge.encode(metric.encode_family(&[("node", member.id.as_str())])?)?;
        }
    }
    Ok(())
}
