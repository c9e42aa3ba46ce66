//! Compaction: many segments of a table become one, so that reads look at few.
//!
//! [`policy`] decides from what is known of the segments; [`run`] does it. No version is
//! dropped but what a table's options let go: what was superseded is history.

pub(crate) mod policy;
mod run;
