//! Chronos, embedded: a SQL database that never overwrites a fact, in a directory of
//! your program.
//!
//! ```no_run
//! use futures::StreamExt;
//!
//! # async fn example() -> Result<(), chronos::Error> {
//! let db = chronos::Database::open("farm.db").await?;
//! db.execute("CREATE TABLE IF NOT EXISTS temps (ts TIMESTAMPTZ PRIMARY KEY, value DOUBLE PRECISION)", &[]).await?;
//! db.execute("INSERT INTO temps VALUES (now(), $1)", &[21.4.into()]).await?;
//!
//! let mut rows = db.query("SELECT * FROM temps FOR SYSTEM_TIME ALL", &[]).await?;
//! while let Some(batch) = rows.next().await {
//!     println!("{} rows", batch?.num_rows()); // an Arrow RecordBatch
//! }
//! db.close().await?;
//! # Ok(())
//! # }
//! ```

mod database;

pub use arrow_array::RecordBatch;
pub use chronos_model::{DataType, SqlState, Value};
pub use chronos_node::{Durability, Error, NodeOptions, Profile, Spill};
pub use database::{Database, Rows, Transaction};
