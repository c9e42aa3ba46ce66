//! The wire protocols: each translates to `chronos_node` and none to another.

pub mod http;
