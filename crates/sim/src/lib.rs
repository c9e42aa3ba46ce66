//! Nodes on simulated machines, and judges of what their clients saw. For tests only.
//!
//! - [`machine`]: one node. A script of SQL statements runs until the power is cut at a chosen write; the disk comes
//!   back as a real one might be found, and what is there is compared with what was acknowledged.
//! - [`cluster`]: several nodes with a network between them, in simulated time, under faults that follow from a seed.
//! - [`checkers`]: what must hold of the histories that clients saw.

pub mod checkers;
pub mod cluster;
pub mod machine;

pub use machine::{run, Machine};
