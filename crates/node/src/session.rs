//! Sessions: one client's settings, transaction and statements.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_model::{DataType, Value};

use crate::{CommandTag, CopyIn, Error, Notice, Outcome, TransactionStatus};

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its text, without the closing semicolon.
    pub sql: Arc<str>,
}

/// A planned statement.
pub struct Prepared {
    /// The text.
    pub sql: Arc<str>,
    /// Parameter types, `$1` first.
    pub parameters: Vec<DataType>,
    /// Columns of the rows it returns; `None`: it returns none.
    pub columns: Option<SchemaRef>,
}

/// A client's session.
pub struct Session {}

/// Cancels what a session is doing; usable from anywhere.
#[derive(Clone)]
pub struct CancelHandle {}

impl CancelHandle {
    /// The running statement, if there is one, fails with 57014.
    pub fn cancel(&self) {}
}

fn unfinished<T>() -> Result<T, Error> {
    Err(Error::new(
        chronos_model::SqlState::FEATURE_NOT_SUPPORTED,
        "not built yet",
    ))
}

impl Session {
    /// Splits a query string into its statements (PostgreSQL's lexical rules:
    /// quotes, dollar quotes, nested comments).
    pub fn split(&self, sql: &str) -> Result<Vec<Statement>, Error> {
        Ok(vec![Statement { sql: sql.into() }])
    }

    /// Plans one statement. `parameter_types` may be shorter than the
    /// parameters; `None` and missing ones are inferred.
    pub async fn prepare(
        &mut self,
        _statement: &Statement,
        _parameter_types: &[Option<DataType>],
    ) -> Result<Arc<Prepared>, Error> {
        unfinished()
    }

    /// Executes a planned statement. `parameters` are of `prepared.parameters`'
    /// types.
    pub async fn execute(
        &mut self,
        _prepared: &Arc<Prepared>,
        _parameters: Vec<Value>,
    ) -> Result<Outcome, Error> {
        unfinished()
    }

    /// Plans and executes a statement without parameters.
    pub async fn run(&mut self, statement: &Statement) -> Result<Outcome, Error> {
        let prepared = self.prepare(statement, &[]).await?;
        self.execute(&prepared, Vec::new()).await
    }

    /// Gives data to a running COPY: `batch` has the columns of
    /// [`CopyIn::columns`] in that order.
    pub async fn copy_write(
        &mut self,
        _copy: &mut CopyIn,
        _batch: RecordBatch,
    ) -> Result<(), Error> {
        unfinished()
    }

    /// Commits a COPY. Dropping a [`CopyIn`] instead leaves no trace of it
    /// (then call [`fail_transaction`](Self::fail_transaction)).
    pub async fn copy_finish(&mut self, _copy: CopyIn) -> Result<CommandTag, Error> {
        unfinished()
    }

    /// Tells the session that a statement failed outside of it (bad COPY data, a
    /// protocol error while streaming rows): an open transaction is now failed.
    pub fn fail_transaction(&mut self) {}

    /// Where the session stands.
    pub fn transaction_status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }

    /// Begins/ends the implicit transaction of a multi-statement simple query.
    pub fn begin_implicit(&mut self) {}

    /// Commits the implicit transaction, if one is open.
    pub async fn end_implicit(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Notices since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }

    /// Settings that clients are told of (ParameterStatus) and that changed
    /// since the last call; the first call gives all of them.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Sets a setting as the connection's start-up packet asks (`user`,
    /// `database`, `application_name`, `options`, `client_encoding` ..).
    pub fn set_startup(&mut self, _name: &str, _value: &str) -> Result<(), Error> {
        Ok(())
    }

    /// A handle that cancels this session's statement.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle {}
    }
}
