//! A node: one replica of the database with its sessions.
//!
//! Servers translate their protocol into calls of [`Session`] and nothing else;
//! a session plans statements with `query`, proposes write sets to the replica
//! and reads through read views of `store`.

mod alerts;
mod archive;
mod auth;
mod check;
pub mod cluster;
mod consistency;
mod error;
mod hashes;
mod indexes;
mod ingest;
mod node;
mod outcome;
mod profile;
mod replica;
mod sequences;
mod session;
mod settled;
mod status;
mod transactions;

pub use alerts::{judge, Alert, AlertThresholds, AlertWatch, Observation};
pub use archive::{archived_tables, remove_restored, restore_archive, ArchivedTable, Archiving};
pub use auth::{
    wrong_password, AuthMode, AuthOptions, Binding, Exchange, Identity, ScramError, Verifier,
    SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
};
pub use check::{check_dir, CheckEvent, CheckFinding, CheckReport, CheckSummary};
pub use chronos_query::object_ids::parameters as object_id_parameters;
pub use chronos_store::archive::{
    ArchiveBase, ArchiveError, ArchiveHeader, ArchiveReader, Chain, Piece,
};
pub use chronos_store::log::Durability;
pub use chronos_store::{MemoryClass, OutOfMemory, Reservation};
pub use consistency::ReadConsistency;
pub use error::Error;
pub use hashes::{IndexCheck, NodeHashes, NodePosition, TableHash};
pub use ingest::{Ingested, Readings, READINGS};
pub use node::{durability_warning, Node, NodeOptions, Spill};
pub use outcome::{
    CommandTag, CopyFormat, CopyIn, CopyOptions, CopyOut, Notice, Outcome, RowData, RowStream,
    Rows, Severity, TransactionStatus,
};
pub use profile::{Profile, UnknownProfile};
pub use session::{CancelHandle, Prepared, Session, Statement};
pub use settled::KeepKeys;
pub use status::{
    CompactionStatus, DamageStatus, DurabilityStatus, LatencyHistogram, LogStatus,
    MemoryClassStatus, MemoryStatus, NodeStatus, ResourceStatus, StoreStatus,
};
pub use transactions::NoteTransactions;
