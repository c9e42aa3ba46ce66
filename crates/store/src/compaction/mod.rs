//! Compaction: many segments of a table become one, so that reads look at few.
//!
//! [`policy`] decides from the sizes alone; [`run`] does it. No version is dropped: what
//! was superseded is history.

pub(crate) mod policy;
mod run;
