//! SQL: reading it, planning it, running it.
//!
//! ```text
//! text -> lex (statements, temporal clauses) -> direct ------------------> node
//!                                            \-> sql (AST) -> ddl / dml -> engine (DataFusion)
//! ```
//!
//! The only crate that names DataFusion, and only behind the feature `engine`:
//! [`direct`], which plans statements that name one row by its key, compiles
//! without it. Nothing here writes: data-modifying statements become the SELECT
//! of the rows they touch and then a list of [`chronos_model::Change`]s, which
//! the node proposes.

pub mod direct;
pub mod lex;
pub mod object_ids;
pub mod temporal;

#[cfg(feature = "engine")]
mod copy;
#[cfg(feature = "engine")]
pub mod ddl;
#[cfg(feature = "engine")]
mod depth;
#[cfg(feature = "engine")]
pub mod dml;
#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "engine")]
mod error;
#[cfg(feature = "engine")]
mod functions;
#[cfg(feature = "engine")]
mod json;
#[cfg(feature = "engine")]
mod precedence;
#[cfg(feature = "engine")]
mod row_rules;
#[cfg(feature = "engine")]
pub mod schemas;
#[cfg(feature = "engine")]
pub mod sql;
#[cfg(feature = "engine")]
mod system_tables;
#[cfg(feature = "engine")]
pub mod table_options;
#[cfg(feature = "engine")]
pub mod views;

#[cfg(feature = "engine")]
pub use engine::{
    coerce_array, coerce_batch, CheckSetting, Engine, EngineOptions, QueryPlan, ReadContext,
    SequenceCall, SequenceCalls, SessionFacts, SessionSettings, SpillOptions, TemporalDefaults,
    TEMPORARY_TABLE_PREFIX,
};
#[cfg(feature = "engine")]
pub use error::QueryError;
#[cfg(feature = "engine")]
pub use row_rules::{is_false, RowRules};

#[cfg(feature = "engine")]
pub use datafusion::execution::SendableRecordBatchStream;
