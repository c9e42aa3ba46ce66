//! Secondary indexes: tables of (indexed columns, key), kept beside the tables they index.
//!
//! An index only ever grows. An entry says that *some* version of a row has had these
//! values; nothing is taken away when the row changes, so a write reads nothing. Readers pay
//! instead, and little: they look up the version that they may see and ask whether it still
//! has the entry's values. By that one index serves every moment of system time.
//!
//! ```text
//!   put (k: a=5)  ---apply---> version of k      entry (5, k)
//!   put (k: a=7)  ---apply---> version of k      entry (7, k)
//!
//!   scan a=5: entry (5, k) -> version of k as of now: a=7 -> passed over
//!                          -> version of k as of then: a=5 -> given
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `entries` | adding entries, finding those of some values, counting them |
//! | `lookup` | the visible versions of many keys |
//! | `scan` | rows in the order of an index |
//! | `unique` | refusing values that another row has |
//! | `changes` | the catalog's part of creating and dropping |
//! | `build` | entries of the versions from before an index was created |
//! | `verify` | whether the entries of all versions are there |
//!
//! Entries are keys without columns. Where they are written to segments, one of each is
//! kept; entries that no version needs any more stay until retention takes the versions.

mod build;
pub(crate) mod changes;
mod entries;
mod lookup;
mod scan;
mod unique;
mod verify;

pub(crate) use build::complete;
pub use build::Duplicate;
pub(crate) use entries::{add_row, add_run, attach, count, for_each_with_prefix};
pub(crate) use scan::ENTRY;
pub use scan::{IndexScan, IndexScanRequest};
pub(crate) use unique::{check as check_unique, holder, SeenAt};
pub use verify::IndexContent;
