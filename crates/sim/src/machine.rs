//! One node on a simulated machine: scripts that run until the power is cut, and checks of what is found when it
//! comes back.
//!
//! A script is a list of SQL statements; the harness runs it on a [`SimDisk`] that loses power at a chosen write,
//! brings the disk back as a real one might be found (what was not synced kept, dropped or torn, by a seed), and
//! tells what was acknowledged before and what is there after.

use std::path::Path;

use chronos_env::{SimDisk, SimEnv};
use chronos_model::Value;
use chronos_node::{
    Error, Node, NodeOptions, NodeStatus, Outcome, Profile, RowData, Session, Statement,
};

/// Where the simulated node keeps its files.
const DATA_DIR: &str = "/data";

/// A simulated machine with one node.
pub struct Machine {
    env: SimEnv,
    node: Node,
}

impl Machine {
    /// A machine with an empty disk.
    ///
    /// Errors: the power was cut while the node started.
    pub fn boot(disk: SimDisk, seed: u64) -> Result<Machine, Error> {
        let env = SimEnv::with_disk(disk, seed);
        // The smallest log files: each takes memory as soon as it is allocated.
        let options = NodeOptions {
            profile: Some(Profile::Potato),
            ..NodeOptions::new(Path::new(DATA_DIR))
        };
        let node = Node::open(env.env(), &options)?;
        Ok(Machine { env, node })
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        &self.env.disk
    }

    /// A session on the node.
    pub fn session(&self) -> Session {
        self.node.session()
    }

    /// The node at this moment.
    pub fn status(&self) -> NodeStatus {
        self.node.status()
    }

    /// Brings everything that is applied to segments.
    pub fn flush(&self) -> Result<(), Error> {
        self.node.flush()
    }

    /// Shuts down in order.
    pub fn close(&self) -> Result<(), Error> {
        self.node.close()
    }
}

/// Runs one statement and gives the rows that it returned without the engine's
/// help (point reads, RETURNING of single rows), else none.
pub async fn run(session: &mut Session, sql: &str) -> Result<Vec<Vec<Value>>, Error> {
    match session.run(&Statement { sql: sql.into() }).await? {
        Outcome::Rows(rows) => match rows.data {
            RowData::Values(values) => Ok(values),
            RowData::Batches(_) => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}
