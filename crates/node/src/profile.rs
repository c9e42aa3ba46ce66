//! Hardware profiles: how much of a machine a node takes.

use std::fmt;
use std::str::FromStr;

use chronos_store::log::Durability;

use crate::cluster::Timing;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A class of machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// A board with one core or less than 1 GiB: one worker, small buffers.
    Potato,
    /// A gateway or a small server.
    Standard,
    /// Eight cores and 16 GiB or more.
    Server,
}

impl Profile {
    /// The profile for the machine, or the part of it that a container may use.
    pub fn of_this_machine() -> Profile {
        Profile::of(
            chronos_env::cpu_count(),
            chronos_env::available_memory_bytes().unwrap_or(GIB),
        )
    }

    /// The profile for so many cores and so much memory.
    pub fn of(cores: usize, memory_bytes: u64) -> Profile {
        if cores <= 1 || memory_bytes < GIB {
            Profile::Potato
        } else if cores >= 8 && memory_bytes >= 16 * GIB {
            Profile::Server
        } else {
            Profile::Standard
        }
    }

    /// Threads that serve connections.
    pub fn worker_threads(self) -> usize {
        match self {
            Profile::Potato => 1,
            Profile::Standard => chronos_env::cpu_count().clamp(2, 4),
            Profile::Server => chronos_env::cpu_count(),
        }
    }

    /// Threads that one query may use.
    pub fn query_threads(self) -> usize {
        match self {
            Profile::Potato => 1,
            _ => chronos_env::cpu_count(),
        }
    }

    /// Time between a leader's heartbeats, in milliseconds.
    pub fn heartbeat_ms(self) -> u64 {
        match self {
            Profile::Potato => 500,
            Profile::Standard => 150,
            Profile::Server => 50,
        }
    }

    /// Times of heartbeats and elections. An election waits for ten heartbeats: on a slow disk or
    /// link a few may be late without harm.
    pub fn timing(self) -> Timing {
        Timing {
            heartbeat_ms: self.heartbeat_ms(),
            election_timeout_ms: 10 * self.heartbeat_ms(),
        }
    }

    /// Durability unless told otherwise. Never less than strict: who wants to
    /// trade safety for speed says so.
    pub fn durability(self) -> Durability {
        Durability::Strict
    }

    /// Bytes for memtables, caches and queries unless told otherwise.
    pub fn memory_bytes(self) -> u64 {
        let quarter = chronos_env::available_memory_bytes().unwrap_or(GIB) / 4;
        match self {
            Profile::Potato => quarter.clamp(32 * MIB, 128 * MIB),
            _ => quarter.max(64 * MIB),
        }
    }

    /// Size of the log's files.
    pub(crate) fn log_segment_bytes(self) -> u64 {
        match self {
            Profile::Potato => 8 * MIB,
            _ => 64 * MIB,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Potato => "potato",
            Profile::Standard => "standard",
            Profile::Server => "server",
        })
    }
}

/// A profile's name that is none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown profile \"{0}\": expected auto, potato, standard or server")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Profile, UnknownProfile> {
        match name {
            "auto" => Ok(Profile::of_this_machine()),
            "potato" => Ok(Profile::Potato),
            "standard" => Ok(Profile::Standard),
            "server" => Ok(Profile::Server),
            other => Err(UnknownProfile(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_profiles() {
        assert_eq!(Profile::of(1, 8 * GIB), Profile::Potato);
        assert_eq!(Profile::of(4, GIB / 2), Profile::Potato);
        assert_eq!(Profile::of(4, 4 * GIB), Profile::Standard);
        assert_eq!(Profile::of(16, 64 * GIB), Profile::Server);
        assert!("huge".parse::<Profile>().is_err());
    }
}
