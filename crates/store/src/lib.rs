//! placeholder
pub mod segment;
pub mod version;
