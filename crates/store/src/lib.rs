//! The store of one node: a replicated log's effects as immutable versions.
//!
//! | module | owns |
//! |---|---|
//! | `log` | the write-ahead log and its thread |
//! | `store` | the store's face, its published state, opening |
//! | `prepare`, `apply` | a write set's way into the memtables |
//! | `memtable` | new versions in memory |
//! | `memory` | how the memory limit is divided, and who holds how much |
//! | `segment`, `version` | immutable columnar files of versions |
//! | `flush`, `compaction`, `maintenance` | from memory to files, and fewer files |
//! | `history`, `write` | which versions are history; segments written, it apart |
//! | `pace` | writers slow down in time, the background gives way |
//! | `retention` | what has expired |
//! | `buckets` | which rows are stored together by their time |
//! | `damage` | what is refused when a file cannot be read, and how it is told |
//! | `verify` | everything read again, and what is damaged |
//! | `migrate` | what a transaction does to the catalog |
//! | `serial` | what a transaction has read, and whether it is still so |
//! | `index` | secondary indexes: entries, unique values, building, reading |
//! | `manifest` | which files there are |
//! | `archive` | a checkpoint as a stream of bytes, and back |
//! | `checkpoint` | the store of one moment as a directory: made, received, put in place |
//! | `content` | hashes of what every replica must have |
//! | `progress` | how far the log is applied, in which term, and who belongs to the cluster |
//! | `state`, `read_view` | what readers see |
//! | `merge` | sorted sources to one stream; which versions are seen |
//! | `scan` | plans and partitions of scans |
//!
//! Knows no SQL and no network. Stamps come with the entries of the log; the clock is asked
//! by readers only, for what has expired by now.

pub mod log;
pub mod segment;
pub mod version;

mod apply;
pub mod archive;
mod buckets;
pub mod checkpoint;
mod compaction;
mod content;
mod damage;
mod erase;
mod error;
mod first;
mod flush;
mod foreign_keys;
mod history;
mod idempotency;
mod index;
mod maintenance;
mod manifest;
mod memory;
mod memtable;
mod merge;
mod migrate;
mod pace;
mod page_size;
mod prepare;
mod present;
mod progress;
mod read_view;
mod retention;
mod scan;
mod sequences;
mod serial;
mod state;
mod store;
mod transactions;
pub mod verify;
mod write;

pub use apply::Applied;
pub use content::{ContentHash, ContentHashes, TableContent};
pub use error::{with_causes, ApplyError, Reason, StoreError};
pub use foreign_keys::{End, ForeignKeyViolation};
pub use index::{Duplicate, IndexContent, IndexScan, IndexScanRequest};
pub use log::{LogIndex, Term};
pub use memory::{MemoryAccount, MemoryClass, MemoryShares, OutOfMemory, Reservation};
pub use prepare::PreparedWriteSet;
pub use progress::Membership;
pub use read_view::{Found, ReadView, RowData};
pub use scan::{
    KeyRange, PageCounts, PageUse, PassingPage, ScanColumn, ScanPartition, ScanRequest,
    ValidFilter, VersionFilter,
};
pub use segment::reshaped_batch;
pub use serial::ReadLog;
pub use store::{Store, StoreOptions, StoreStats};
