//! Secondary indexes in plans.
//!
//! ```text
//!   filters of a scan -> Facts -> for each usable index: which entries -> the fewest, if few
//!                                                            |
//!   ORDER BY .. LIMIT -> IndexOrder: a scan that an index gives sorted    IndexScanExec
//! ```
//!
//! An index only narrows or sorts: the engine applies every filter again.

mod choice;
mod exec;
mod order;

pub(super) use choice::{choose, is_usable, Usable};
pub(super) use exec::IndexScanExec;
pub(super) use order::IndexOrder;
