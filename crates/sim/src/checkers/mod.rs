//! Judges of what clients of a cluster saw. Pure: a history in, a verdict out.
//!
//! [`History`] notes what clients do as they do it; [`linearizable`] says whether its registers behaved as one
//! register each would have; [`ledger`] says whether what was acknowledged is there, once.

mod history;
pub mod ledger;
pub mod linearizable;

pub use history::{History, Invocation};
