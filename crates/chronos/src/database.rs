//! The embedded database: a node without servers.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_env::Env;
use chronos_model::{DataType, SqlState, Value};
use chronos_node::{
    Error, Node, NodeOptions, Outcome, RowData, RowStream, Session, Spill, Statement,
};
use futures::Stream;

/// An open database. Clones are handles to the same one.
#[derive(Clone)]
pub struct Database {
    node: Node,
}

impl Database {
    /// Opens the database in `path`, creating it if there is none, and locks the
    /// directory. Needs a Tokio runtime.
    ///
    /// Errors: another process has it open (55006); its files are damaged (XX001);
    /// the disk (58030).
    pub async fn open(path: impl AsRef<Path>) -> Result<Database, Error> {
        let mut options = NodeOptions::new(path.as_ref());
        options.spill = Spill::BesideData;
        Database::open_with(options).await
    }

    /// Opens a database with other than the default options.
    pub async fn open_with(options: NodeOptions) -> Result<Database, Error> {
        let node = blocking(move || Node::open(Env::real(), &options)).await?;
        Ok(Database { node })
    }

    /// Executes one statement by itself (autocommit); `params` take the places of
    /// `$1`, `$2` .. Gives the number of rows it changed or returned. What it wrote
    /// is durable when this returns.
    pub async fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, Error> {
        execute(&mut self.node.session(), sql, params).await
    }

    /// Runs a query. Its rows are those of one consistent state of the database,
    /// whatever is written while they are read.
    pub async fn query(&self, sql: &str, params: &[Value]) -> Result<Rows, Error> {
        query(&mut self.node.session(), sql, params).await
    }

    /// Begins a transaction: snapshot isolation, first committer wins (40001).
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let mut session = self.node.session();
        execute(&mut session, "BEGIN", &[]).await?;
        Ok(Transaction { session })
    }

    /// Flushes everything and unlocks the directory. Dropping all handles without it
    /// loses nothing either, but the next start has more of the log to replay.
    pub async fn close(&self) -> Result<(), Error> {
        let node = self.node.clone();
        blocking(move || node.close()).await
    }
}

/// A transaction of an embedded database; dropped, it is rolled back.
pub struct Transaction {
    session: Session,
}

impl Transaction {
    /// Executes a statement within the transaction.
    pub async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Error> {
        execute(&mut self.session, sql, params).await
    }

    /// Runs a query; it sees what the transaction has written.
    pub async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Rows, Error> {
        query(&mut self.session, sql, params).await
    }

    /// Makes all of it durable and visible at once, or fails and leaves no trace.
    pub async fn commit(mut self) -> Result<(), Error> {
        execute(&mut self.session, "COMMIT", &[]).await.map(drop)
    }

    /// Leaves no trace.
    pub async fn rollback(mut self) -> Result<(), Error> {
        execute(&mut self.session, "ROLLBACK", &[]).await.map(drop)
    }
}

/// The rows of a query, batch by batch.
pub struct Rows {
    schema: SchemaRef,
    batches: RowStream,
}

impl Rows {
    /// Names and types of the columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(context)
    }
}

async fn run(session: &mut Session, sql: &str, params: &[Value]) -> Result<Outcome, Error> {
    let prepared = session.prepare(&Statement { sql: sql.into() }, &[]).await?;
    let given = params.len();
    let needed = prepared.parameters.len();
    if given != needed {
        let message = format!("the statement takes {needed} parameters, but {given} were given");
        return Err(Error::new(SqlState::PROTOCOL_VIOLATION, message));
    }
    let params = params
        .iter()
        .zip(&prepared.parameters)
        .map(|(value, data_type)| Ok(value.clone().coerce(data_type)?))
        .collect::<Result<Vec<_>, Error>>()?;
    session.execute(&prepared, params).await
}

async fn execute(session: &mut Session, sql: &str, params: &[Value]) -> Result<u64, Error> {
    use futures::StreamExt;
    match run(session, sql, params).await? {
        Outcome::Done(tag) => Ok(tag.rows.unwrap_or(0)),
        Outcome::Empty => Ok(0),
        Outcome::Rows(rows) => match rows.data {
            RowData::Values(values) => Ok(rows.tag.rows.unwrap_or(values.len() as u64)),
            RowData::Batches(mut batches) => {
                let mut seen = 0;
                while let Some(batch) = batches.next().await {
                    seen += batch?.num_rows() as u64;
                }
                Ok(rows.tag.rows.unwrap_or(seen))
            }
        },
        Outcome::CopyIn(_) | Outcome::CopyOut(_) => Err(no_copy()),
    }
}

async fn query(session: &mut Session, sql: &str, params: &[Value]) -> Result<Rows, Error> {
    match run(session, sql, params).await? {
        Outcome::Rows(rows) => {
            let batches: RowStream = match rows.data {
                RowData::Batches(batches) => batches,
                RowData::Values(values) => {
                    let batch = to_batch(&rows.schema, &values)?;
                    Box::pin(futures::stream::iter([Ok(batch)]))
                }
            };
            Ok(Rows {
                schema: rows.schema,
                batches,
            })
        }
        Outcome::Done(_) | Outcome::Empty => Ok(Rows {
            schema: Arc::new(arrow_schema::Schema::empty()),
            batches: Box::pin(futures::stream::empty()),
        }),
        Outcome::CopyIn(_) | Outcome::CopyOut(_) => Err(no_copy()),
    }
}

fn no_copy() -> Error {
    Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "COPY needs a client connection",
    )
    .with_hint("Use INSERT with several rows, or the command `chronos import`.")
}

fn to_batch(schema: &SchemaRef, rows: &[Vec<Value>]) -> Result<RecordBatch, Error> {
    let internal = |e: arrow_schema::ArrowError| Error::new(SqlState::INTERNAL, e.to_string());
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let mut builder = chronos_model::column_builder(&DataType::of_field(field), rows.len());
            for row in rows {
                chronos_model::append_value(&mut builder, &row[i])?;
            }
            Ok(builder.finish())
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(internal)
}

/// Runs what waits on the disk beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(
            SqlState::INTERNAL,
            format!("the database's task failed: {e}"),
        )),
    }
}
