//! The `chronos` binary.
fn main() {}
