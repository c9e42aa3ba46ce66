//! Judges of what clients of a cluster saw. Pure: a history in, a verdict out.
//!
//! [`History`] notes what clients do as they do it; [`linearizable`] says whether its registers behaved as one
//! register each would have; [`ledger`] says whether what was acknowledged is there, once; [`list_append`] says
//! whether transactions were isolated as promised; [`past`] says whether the past stays as it was.

mod history;
pub mod ledger;
pub mod linearizable;
pub mod list_append;
pub mod past;

pub use history::{History, Invocation};
