//! placeholder

pub mod log;
