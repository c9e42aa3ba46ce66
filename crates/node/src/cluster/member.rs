//! Members of a cluster: names, numbers, addresses.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node's number in its cluster: it stands in votes and as the origin of versions.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeNumber(pub u32);

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NodeNumber {
    /// The number that belongs to a name: the digits at its end (`node3` is 3), else a hash.
    pub fn of_name(name: &str) -> NodeNumber {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        match name[name.len() - digits..].parse() {
            Ok(number) if number != 0 => NodeNumber(number),
            // 31 bits and never one that a name with digits is likely to have.
            _ => NodeNumber(crc32fast::hash(name.as_bytes()) | 1 << 31),
        }
    }
}

/// Whether a member votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It counts for a quorum and can lead.
    Voter,
    /// It receives everything and does not vote.
    Learner,
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub number: NodeNumber,
    /// Its name, `--id`.
    pub name: String,
    /// Where other nodes reach it: `host:port`.
    pub address: String,
}

/// Why members cannot be those of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// A name that is none.
    #[error("\"{name}\" is no name of a node: expected 1 to 63 letters, digits, '-', '_' or '.'")]
    Name {
        /// What was given.
        name: String,
    },
    /// Two names have one number.
    #[error("the nodes \"{first}\" and \"{second}\" both have the number {number}; number them differently at the end of their names")]
    SameNumber {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Their number.
        number: NodeNumber,
    },
}

impl Member {
    /// A member whose number is its name's.
    ///
    /// Errors: the name is none.
    pub fn new(name: &str, address: &str) -> Result<Member, MemberError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
            return Err(MemberError::Name { name: name.into() });
        }
        Ok(Member {
            number: NodeNumber::of_name(name),
            name: name.into(),
            address: address.into(),
        })
    }
}

/// Makes sure that no two members have one number.
pub fn numbered(members: &[Member]) -> Result<(), MemberError> {
    for (i, first) in members.iter().enumerate() {
        if let Some(second) = members[..i].iter().find(|m| m.number == first.number) {
            return Err(MemberError::SameNumber {
                first: second.name.clone(),
                second: first.name.clone(),
                number: first.number,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_names() {
        assert_eq!(NodeNumber::of_name("n1"), NodeNumber(1));
        assert_eq!(NodeNumber::of_name("node-12"), NodeNumber(12));
        assert_eq!(NodeNumber::of_name("7"), NodeNumber(7));
        assert!(NodeNumber::of_name("north").0 > 1 << 30);
        assert!(NodeNumber::of_name("n0").0 > 1 << 30);
        assert_ne!(NodeNumber::of_name("north"), NodeNumber::of_name("south"));
    }

    #[test]
    fn wrong_members_are_told() {
        assert!(Member::new("", "a:1").is_err());
        assert!(Member::new("a b", "a:1").is_err());
        let of = |name| Member::new(name, "a:1").unwrap();
        assert!(numbered(&[of("n1"), of("n2")]).is_ok());
        let error = numbered(&[of("n1"), of("node1")]).unwrap_err();
        assert!(
            error.to_string().contains("\"n1\" and \"node1\""),
            "{error}"
        );
    }
}
