//! Which node of which cluster a data directory belongs to: `identity.json`.
//!
//! ```text
//!   {"cluster_id": "5f1c..", "name": "n1", "number": 1, "began": "static"}
//! ```
//!
//! It is written once, under the directory's lock, before the node does anything (or when a snapshot
//! is restored for it), and never changed. A node that is started under another name, or for another cluster, is refused: its
//! votes and its entries would be taken for those of somebody else.

use std::io;
use std::path::Path;

use chronos_env::{Disk, Env};
use chronos_model::SqlState;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ClusterOptions, ClusterStart, Member, MemberError, NodeNumber};
use crate::Error;

/// In the data directory.
const FILE: &str = "identity.json";
/// Bytes of a cluster's id, which is shown as twice as many hexadecimal digits.
const ID_BYTES: usize = 16;

/// Which node of which cluster a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Names the cluster.
    pub cluster_id: String,
    /// The node's name.
    pub name: String,
    /// Its number.
    pub number: NodeNumber,
    /// How its cluster began.
    pub began: Beginning,
}

/// How a node came to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beginning {
    /// It was the first member.
    Alone,
    /// It began together with others.
    Static,
    /// It was added.
    Join,
}

impl NodeIdentity {
    /// What a data directory says, if it belongs to a node already.
    ///
    /// Errors: the file cannot be read, or is damaged.
    pub fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Option<NodeIdentity>, Error> {
        let path = data_dir.join(FILE);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path, &e)),
        };
        let identity = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(
                SqlState::DATA_CORRUPTED,
                format!("{} is damaged: {e}", path.display()),
            )
        })?;
        Ok(Some(identity))
    }

    /// Makes sure that a node of this name and cluster, where they are given, is this one.
    pub fn check(
        &self,
        name: Option<&str>,
        cluster_id: Option<&str>,
        data_dir: &Path,
    ) -> Result<(), Error> {
        let dir = data_dir.display();
        if let Some(name) = name.filter(|name| *name != self.name) {
            return Err(Error::new(
                SqlState::OBJECT_IN_USE,
                format!(
                    "the data directory {dir} belongs to the node \"{}\", not to \"{name}\"",
                    self.name
                ),
            )
            .with_hint("Give each node a --data-dir of its own, and always the same --id."));
        }
        match cluster_id.filter(|id| *id != self.cluster_id) {
            None => Ok(()),
            Some(wanted) => Err(Error::new(
                SqlState::OBJECT_IN_USE,
                format!(
                    "the data directory {dir} belongs to the cluster \"{}\", not to \"{wanted}\"",
                    self.cluster_id
                ),
            )
            .with_hint(
                "A node cannot change its cluster; it joins another one with an empty --data-dir.",
            )),
        }
    }

    /// Of a node that is to begin a cluster by itself. Without an id the cluster gets a new one.
    ///
    /// Errors: the name is none.
    pub fn first_of_cluster(
        name: &str,
        cluster_id: Option<&str>,
        env: &Env,
    ) -> Result<NodeIdentity, MemberError> {
        let member = Member::new(name, "")?;
        Ok(NodeIdentity {
            cluster_id: cluster_id.map_or_else(|| new_cluster_id(env), str::to_owned),
            name: member.name,
            number: member.number,
            began: Beginning::Alone,
        })
    }

    pub(crate) fn write(&self, disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        disk.replace(&data_dir.join(FILE), &bytes)
    }
}

fn io_error(what: &str, path: &Path, e: &io::Error) -> Error {
    Error::new(
        SqlState::IO_ERROR,
        format!("cannot {what} {}: {e}", path.display()),
    )
}

/// The id of a cluster whose members begin together: the same on each of them, in whatever order
/// they are named.
pub fn static_cluster_id(members: &[Member]) -> String {
    let mut named: Vec<String> = members
        .iter()
        .map(|member| format!("{}={}\n", member.name, member.address))
        .collect();
    named.sort_unstable();
    let digest = Sha256::digest(named.concat().as_bytes());
    hexadecimal(&digest[..ID_BYTES])
}

fn new_cluster_id(env: &Env) -> String {
    let mut bytes = [0; ID_BYTES];
    env.random.fill(&mut bytes);
    hexadecimal(&bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Completes `given` with what the data directory knows, and makes the directory know it. The
/// caller holds its lock.
///
/// Errors: the directory belongs to another node or another cluster, or it holds a database that
/// is none of the cluster which the node is to begin with others or to join.
pub(crate) fn settle(
    env: &Env,
    data_dir: &Path,
    given: &ClusterOptions,
) -> Result<ClusterOptions, Error> {
    let mut settled = given.clone();
    if let Some(known) = NodeIdentity::read(&*env.disk, data_dir)? {
        // A node that is opened by itself has no name of its own.
        let name = (given.start != ClusterStart::Alone).then_some(given.member.name.as_str());
        known.check(name, given.cluster_id.as_deref(), data_dir)?;
        settled.member.name = known.name;
        settled.member.number = known.number;
        settled.cluster_id = Some(known.cluster_id);
        // Whoever began with others never begins a second time, and alone.
        if given.start == ClusterStart::Alone && known.began != Beginning::Alone {
            settled.start = ClusterStart::Join;
        }
        return Ok(settled);
    }
    let began = match &given.start {
        ClusterStart::Alone => Beginning::Alone,
        ClusterStart::Static(members) if members.len() == 1 => Beginning::Alone,
        ClusterStart::Static(_) => Beginning::Static,
        ClusterStart::Join => Beginning::Join,
    };
    let cluster_id = match (&given.cluster_id, &given.start) {
        (Some(id), _) => id.clone(),
        (None, ClusterStart::Static(members)) => static_cluster_id(members),
        (None, ClusterStart::Alone) => new_cluster_id(env),
        // It is not known yet which cluster it will be.
        (None, ClusterStart::Join) => return Ok(settled),
    };
    if began != Beginning::Alone {
        check_empty(&*env.disk, data_dir)?;
    }
    let identity = NodeIdentity {
        cluster_id: cluster_id.clone(),
        name: given.member.name.clone(),
        number: given.member.number,
        began,
    };
    let written = identity.write(&*env.disk, data_dir);
    written.map_err(|e| io_error("write", &data_dir.join(FILE), &e))?;
    settled.cluster_id = Some(cluster_id);
    Ok(settled)
}

/// A directory without identity that holds a database is one of a node alone.
fn check_empty(disk: &dyn Disk, data_dir: &Path) -> Result<(), Error> {
    let store = data_dir.join("store");
    match disk.exists(&store) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::new(
            SqlState::OBJECT_IN_USE,
            format!(
                "the data directory {} holds a database that belongs to no cluster",
                data_dir.display()
            ),
        )
        .with_hint(
            "Begin a cluster with it (chronos node --bootstrap) and let nodes with empty directories join.",
        )),
        Err(e) => Err(io_error("look for", &store, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: &str = "/node";

    fn options(name: &str, start: ClusterStart) -> ClusterOptions {
        ClusterOptions {
            member: Member::new(name, &format!("{name}:8000")).unwrap(),
            start,
            ..ClusterOptions::default()
        }
    }

    fn members(names: &[&str]) -> Vec<Member> {
        let member = |name: &&str| Member::new(name, &format!("{name}:8000")).unwrap();
        names.iter().map(member).collect()
    }

    fn world() -> Env {
        let env = Env::simulated(7);
        env.disk.create_dir_all(Path::new(DIR)).unwrap();
        env
    }

    fn settled(env: &Env, options: &ClusterOptions) -> Result<ClusterOptions, Error> {
        settle(env, Path::new(DIR), options)
    }

    #[test]
    fn a_static_id_does_not_depend_on_the_order() {
        let id = static_cluster_id(&members(&["n1", "n2", "n3"]));
        assert_eq!(id, static_cluster_id(&members(&["n3", "n1", "n2"])));
        assert_ne!(id, static_cluster_id(&members(&["n1", "n2"])));
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn what_was_settled_once_stays() {
        let env = world();
        let began = options("n2", ClusterStart::Static(members(&["n1", "n2"])));
        let first = settled(&env, &began).unwrap();
        assert_eq!(
            first.cluster_id,
            Some(static_cluster_id(&members(&["n1", "n2"])))
        );
        // Other members, given later, make no other cluster.
        let later = options("n2", ClusterStart::Static(members(&["n2", "n5"])));
        assert_eq!(settled(&env, &later).unwrap().cluster_id, first.cluster_id);
        // Nor does a node of several begin anew when it is opened by itself.
        let alone = settled(&env, &options("n1", ClusterStart::Alone)).unwrap();
        assert_eq!(alone.start, ClusterStart::Join);
        assert_eq!(alone.member.name, "n2");
        assert_eq!(alone.member.number, NodeNumber(2));
    }

    #[test]
    fn another_name_or_cluster_is_refused() {
        let env = world();
        settled(&env, &options("n1", ClusterStart::Alone)).unwrap();
        let refused = settled(&env, &options("n2", ClusterStart::Join)).unwrap_err();
        assert!(refused.message.contains("belongs to the node \"n1\""));
        let mut other = options("n1", ClusterStart::Join);
        other.cluster_id = Some("elsewhere".into());
        let refused = settled(&env, &other).unwrap_err();
        assert!(refused.message.contains("not to \"elsewhere\""));
    }

    #[test]
    fn each_cluster_that_begins_alone_has_an_id_of_its_own() {
        let (one, other) = (Env::simulated(1), Env::simulated(2));
        let id = |env: &Env| {
            env.disk.create_dir_all(Path::new(DIR)).unwrap();
            let settled = settled(env, &options("n1", ClusterStart::Alone)).unwrap();
            settled.cluster_id.unwrap()
        };
        assert_ne!(id(&one), id(&other));
    }

    #[test]
    fn a_database_of_no_cluster_joins_none() {
        let env = world();
        let store = Path::new(DIR).join("store");
        env.disk.create_dir_all(&store).unwrap();
        let mut joins = options("n4", ClusterStart::Join);
        joins.cluster_id = Some("c".into());
        for options in [
            joins,
            options("n1", ClusterStart::Static(members(&["n1", "n2"]))),
        ] {
            let refused = settled(&env, &options).unwrap_err();
            assert!(refused.message.contains("belongs to no cluster"));
        }
        assert!(NodeIdentity::read(&*env.disk, Path::new(DIR))
            .unwrap()
            .is_none());
        settled(&env, &options("n1", ClusterStart::Alone)).unwrap();
    }

    #[test]
    fn a_damaged_file_is_told() {
        let env = world();
        let path = Path::new(DIR).join(FILE);
        env.disk.replace(&path, b"{\"cluster_id\":").unwrap();
        let refused = settled(&env, &options("n1", ClusterStart::Alone)).unwrap_err();
        assert_eq!(refused.code, SqlState::DATA_CORRUPTED);
    }
}
