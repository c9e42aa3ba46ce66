//! How a node takes part in a cluster.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chronos_query::table_options;

use super::{Member, Simulated};

/// Called when something waits for the disk.
pub type OnWork = Arc<dyn Fn() + Send + Sync>;

/// How a node takes part in a cluster.
#[derive(Clone)]
pub struct ClusterOptions {
    /// This node.
    pub member: Member,
    /// How its cluster begins, if the data directory does not know one yet.
    pub start: ClusterStart,
    /// Names the cluster; `None`: as the data directory says, else a new one.
    pub cluster_id: Option<String>,
    /// Times of heartbeats and elections; `None`: by the hardware profile.
    pub timing: Option<Timing>,
    /// Whether a leader answers linearizable reads by its lease, without asking a quorum.
    pub lease_reads: bool,
    /// Entries of the log that are older are not kept for nodes that are behind.
    pub log_keep_for: Duration,
    /// Where the consensus runs.
    pub runtime: ConsensusRuntime,
    /// Called when the log has something to write, where that is done in steps.
    pub on_log_work: Option<OnWork>,
    /// What is different in a simulation.
    #[doc(hidden)]
    pub simulated: Simulated,
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("member", &self.member)
            .field("start", &self.start)
            .field("cluster_id", &self.cluster_id)
            .field("timing", &self.timing)
            .field("lease_reads", &self.lease_reads)
            .field("log_keep_for", &self.log_keep_for)
            .field("runtime", &self.runtime)
            .finish_non_exhaustive()
    }
}

/// How a cluster begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterStart {
    /// The node is a cluster of one, now and later if nobody is added.
    Alone,
    /// All these members, this node among them, begin together: each is told the same.
    Static(Vec<Member>),
    /// The node waits to be added to a cluster.
    Join,
}

/// Times of heartbeats and elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// Without a sign of the leader before an election, in milliseconds, at least. At random up
    /// to a fifth longer. At least five heartbeats.
    pub election_timeout_ms: u64,
}

/// Where the consensus runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsensusRuntime {
    /// On a thread of its own, which nothing else keeps busy.
    OwnThread,
    /// As tasks of the runtime in which the node is opened: for simulations. No thread is
    /// started, and all work is done in steps.
    Ambient {
        /// What its random choices follow from.
        seed: u64,
    },
}

/// How long entries of the log are kept for nodes that are behind: a minute at least, since they are
/// flushed to be let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLog(Duration);

impl KeepLog {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for KeepLog {
    /// A day.
    fn default() -> KeepLog {
        KeepLog(Duration::from_secs(24 * 60 * 60))
    }
}

impl FromStr for KeepLog {
    type Err = String;

    fn from_str(text: &str) -> Result<KeepLog, String> {
        let micros = table_options::duration_micros(text);
        let micros = micros.map_err(|_| "expected a duration such as 12h or 7d")?;
        let keep = Duration::from_micros(u64::try_from(micros).unwrap_or_default());
        match keep >= Duration::from_secs(60) {
            true => Ok(KeepLog(keep)),
            false => Err("expected at least 1m".to_owned()),
        }
    }
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            member: Member {
                number: super::NodeNumber(1),
                name: "n1".into(),
                address: "127.0.0.1:8000".into(),
            },
            start: ClusterStart::Alone,
            cluster_id: None,
            timing: None,
            lease_reads: false,
            log_keep_for: KeepLog::default().duration(),
            runtime: ConsensusRuntime::OwnThread,
            on_log_work: None,
            simulated: Simulated::default(),
        }
    }
}
