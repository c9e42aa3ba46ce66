//! Running queries: streams of batches that stop when nobody wants them.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_model::{columns_bytes, SqlState, Value};
use chronos_query::SendableRecordBatchStream;
use chronos_query::{coerce_array, QueryError, QueryPlan, ReadContext, TemporalDefaults};
use chronos_store::Reservation;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::timeouts::Limit;
use super::{interruption, Session};
use crate::{CommandTag, Error, Outcome, RowData, RowStream, Rows};

/// Batches that may wait for a slow client.
const BATCHES_AHEAD: usize = 2;

/// What ends a query before its end.
pub(super) struct Stop {
    token: CancellationToken,
    limit: Option<Limit>,
}

impl Stop {
    /// Goes on until nobody wants the rows.
    pub(super) fn never() -> Stop {
        Stop {
            token: CancellationToken::new(),
            limit: None,
        }
    }
}

impl Session {
    /// A statement's token, and the session's time limit from now on.
    pub(super) fn stop_of(&self, token: &CancellationToken) -> Stop {
        Stop {
            token: token.clone(),
            limit: self.statement_limit(),
        }
    }

    pub(super) async fn execute_query(
        &mut self,
        plan: &QueryPlan,
        parameters: &[Value],
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let defaults = self.defaults();
        self.execute_query_at(plan, parameters, defaults, token)
            .await
    }

    /// The same, of tables that are read at `defaults` unless they say otherwise.
    pub(super) async fn execute_query_at(
        &mut self,
        plan: &QueryPlan,
        parameters: &[Value],
        defaults: TemporalDefaults,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let context = self.read_context_of(plan).await?;
        let context = ReadContext {
            defaults,
            ..context
        };
        let stream = self
            .node
            .inner
            .engine
            .execute(plan, parameters, context)
            .await?;
        let is_explain = plan.is_explain();
        Ok(Outcome::Rows(Rows {
            schema: Arc::clone(&plan.schema),
            data: RowData::Batches(drive(stream, Arc::clone(&plan.schema), self.stop_of(token))),
            tag: CommandTag {
                verb: if is_explain { "EXPLAIN" } else { "SELECT" },
                rows: None,
            },
        }))
    }

    /// Runs a query to its end; its rows are added to what `held` is for.
    pub(super) async fn collect(
        &mut self,
        plan: &QueryPlan,
        parameters: &[Value],
        held: &mut Reservation,
    ) -> Result<Vec<RecordBatch>, Error> {
        let context = self.read_context_of(plan).await?;
        let mut stream = self
            .node
            .inner
            .engine
            .execute(plan, parameters, context)
            .await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(QueryError::from)?;
            if batch.num_rows() > 0 {
                held.try_grow(columns_bytes(batch.columns()) as u64)?;
                batches.push(batch);
            }
        }
        Ok(batches)
    }
}

/// Runs the query on its own task, a few batches ahead of the client. It ends
/// when it is done, cancelled, or when the client drops the stream.
pub(super) fn drive(
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    stop: Stop,
) -> RowStream {
    let (sender, receiver) = mpsc::channel::<Result<RecordBatch, Error>>(BATCHES_AHEAD);
    tokio::spawn(async move {
        let interrupted = interruption(&stop.token, stop.limit);
        tokio::pin!(interrupted);
        loop {
            let next = tokio::select! {
                biased;
                e = &mut interrupted => Some(Err(e)),
                () = sender.closed() => return,
                next = stream.next() => next.map(|batch| {
                    batch.map_err(|e| Error::from(QueryError::from(e))).and_then(|b| conform(b, &schema))
                }),
            };
            let Some(batch) = next else { return };
            let is_last = batch.is_err();
            if sender.send(batch).await.is_err() || is_last {
                return;
            }
        }
    });
    Box::pin(futures::stream::unfold(
        receiver,
        |mut receiver| async move { receiver.recv().await.map(|batch| (batch, receiver)) },
    ))
}

/// The batch with exactly the columns that the client was told of.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let internal = |e: arrow_schema::ArrowError| {
        Error::new(
            SqlState::INTERNAL,
            format!("a result does not have its announced columns: {e}"),
        )
    };
    if batch
        .schema()
        .fields()
        .iter()
        .zip(schema.fields())
        .all(|(a, b)| a.data_type() == b.data_type())
    {
        return with_schema(batch, schema).map_err(internal);
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .zip(batch.schema().fields())
        .map(|((array, wanted), given)| {
            if array.data_type() == wanted.data_type() {
                Ok(Arc::clone(array))
            } else {
                coerce_array(array, given, &chronos_model::DataType::of_field(wanted))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(internal)
}

fn with_schema(
    batch: RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let nullable: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_nullable(true))
        .collect();
    let schema = Arc::new(arrow_schema::Schema::new(nullable));
    RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
}
