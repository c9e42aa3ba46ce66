//! What executing a statement gives.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_model::{DataType, SqlState, TableSchema, Value};
use chronos_store::Reservation;
use futures::Stream;

use crate::Error;

/// A stream of record batches of one schema.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, Error>> + Send>>;

/// What a statement gave.
pub enum Outcome {
    /// Rows, and then a command tag.
    Rows(Rows),
    /// Nothing but a command tag.
    Done(CommandTag),
    /// `COPY .. FROM STDIN`: the session waits for data, given to
    /// [`Session::copy_write`](crate::Session::copy_write).
    CopyIn(CopyIn),
    /// `COPY .. TO STDOUT`.
    CopyOut(CopyOut),
    /// The statement was empty.
    Empty,
}

/// The rows of a statement.
pub struct Rows {
    /// Columns; `DataType::of_field` gives their SQL types.
    pub schema: SchemaRef,
    /// The rows.
    pub data: RowData,
    /// The tag; its row count, if it has one, is the number of rows sent.
    pub tag: CommandTag,
}

/// Rows in one of two shapes.
pub enum RowData {
    /// A few rows that never were columns (point reads, SHOW).
    Values(Vec<Vec<Value>>),
    /// Batches of `Rows::schema`.
    Batches(RowStream),
}

/// What PostgreSQL's CommandComplete says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandTag {
    /// `SELECT`, `INSERT`, `CREATE TABLE` ..
    pub verb: &'static str,
    /// Rows affected or returned, for the verbs that tell. For
    /// [`RowData::Batches`] under `SELECT` it is unknown until the end: `None`
    /// means "count what was sent".
    pub rows: Option<u64>,
}

impl fmt::Display for CommandTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.verb, self.rows) {
            ("INSERT", Some(rows)) => write!(f, "INSERT 0 {rows}"),
            (verb, Some(rows)) => write!(f, "{verb} {rows}"),
            (verb, None) => f.write_str(verb),
        }
    }
}

/// How `COPY` data is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyFormat {
    /// Tab-separated with backslash escapes.
    Text,
    /// RFC 4180 with PostgreSQL's NULL rules.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
}

/// Options of `COPY`.
#[derive(Clone, PartialEq, Debug)]
pub struct CopyOptions {
    /// Layout.
    pub format: CopyFormat,
    /// Column separator.
    pub delimiter: u8,
    /// Text that stands for NULL.
    pub null: String,
    /// Whether the first line names the columns.
    pub header: bool,
    /// CSV quote.
    pub quote: u8,
    /// CSV escape within quotes.
    pub escape: u8,
}

/// A running `COPY .. FROM STDIN`.
pub struct CopyIn {
    /// The table.
    pub table: Arc<TableSchema>,
    /// Positions of the columns that the data has, in its order.
    pub columns: Vec<usize>,
    /// Layout.
    pub options: CopyOptions,
    /// What has come so far.
    pub(crate) batches: Vec<RecordBatch>,
    /// Memory for it.
    pub(crate) held: Reservation,
}

impl CopyIn {
    /// Types of the columns that the data has, in its order.
    pub fn column_types(&self) -> Vec<DataType> {
        self.columns
            .iter()
            .map(|&c| self.table.columns[c].data_type.clone())
            .collect()
    }
}

/// A running `COPY .. TO STDOUT`.
pub struct CopyOut {
    /// Columns.
    pub schema: SchemaRef,
    /// Layout.
    pub options: CopyOptions,
    /// The rows.
    pub batches: RowStream,
}

/// How bad a notice is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// NOTICE
    Notice,
    /// WARNING
    Warning,
}

/// Something to tell the client beside the result.
#[derive(Clone, Debug)]
pub struct Notice {
    /// How bad.
    pub severity: Severity,
    /// SQLSTATE.
    pub code: SqlState,
    /// The message.
    pub message: String,
}

/// Where a session stands, as ReadyForQuery reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Active,
    /// In a failed one: only ROLLBACK helps.
    Failed,
}
