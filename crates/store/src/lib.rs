//! placeholder
pub mod log;
pub mod segment;
pub mod version;
