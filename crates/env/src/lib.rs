//! The world outside the program: clock, disk, randomness, and facts about the machine.
//!
//! Owns every call to the wall clock, the operating system's random source and the file
//! system. All other crates take them from an [`Env`], so that a test can put a
//! simulated world underneath: a clock that stands still, random numbers that repeat,
//! and a disk whose power can be cut at any write.
//!
//! ```text
//!     store, node, server, ...
//!            |  Env { clock, disk, random }
//!            v
//!     SystemClock | RealDisk | OsRandom        Env::real()
//!     SimClock    | SimDisk  | SimRandom       Env::simulated(seed), SimEnv
//! ```
//!
//! Refuses: sockets (the server owns them), and any knowledge of what the files mean.

mod clock;
mod disk;
mod machine;
mod random;

use std::sync::Arc;

pub use clock::{Clock, SimClock, SystemClock};
pub use disk::{
    is_medium_error, Disk, DiskFile, LockError, LockGuard, RealDisk, SequentialReader, SimDisk,
};
pub use machine::{
    available_memory_bytes, cpu_count, free_disk_bytes, fresh_directory,
    lower_priority_of_this_thread, resident_memory_bytes,
};
pub use random::{OsRandom, Random, SimRandom};

/// The world a component runs in. Cheap to clone; clones share the same world.
#[derive(Clone, Debug)]
pub struct Env {
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The real machine.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(RealDisk),
            random: Arc::new(OsRandom),
        }
    }

    /// A simulated world that behaves the same for the same seed. Use [`SimEnv`] to
    /// keep hold of the parts and steer them.
    pub fn simulated(seed: u64) -> Self {
        SimEnv::new(seed).env()
    }
}

/// A simulated world whose parts a test can steer while components run in [`SimEnv::env`].
#[derive(Clone, Debug)]
pub struct SimEnv {
    /// Stands still until set or advanced. Starts at 2024-01-01T00:00:00Z.
    pub clock: Arc<SimClock>,
    /// Empty at first; its power can be cut.
    pub disk: SimDisk,
    /// Repeats for a seed.
    pub random: Arc<SimRandom>,
}

impl SimEnv {
    /// A fresh world: empty disk, clock at 2024-01-01T00:00:00Z.
    pub fn new(seed: u64) -> Self {
        Self::with_disk(SimDisk::new(seed), seed)
    }

    /// A fresh world around a disk that may hold files already, for example one that
    /// [`SimDisk::restart`] returned.
    pub fn with_disk(disk: SimDisk, seed: u64) -> Self {
        const START_MICROS: u64 = 1_704_067_200_000_000;
        Self {
            clock: Arc::new(SimClock::new(START_MICROS)),
            disk,
            random: Arc::new(SimRandom::new(seed)),
        }
    }

    /// The world as components see it.
    pub fn env(&self) -> Env {
        Env {
            clock: self.clock.clone(),
            disk: Arc::new(self.disk.clone()),
            random: self.random.clone(),
        }
    }
}
