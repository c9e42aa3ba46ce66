//! The storage engine: the replicated log, and the versions that applying it leaves.
pub mod log;
pub mod segment;
pub mod version;
