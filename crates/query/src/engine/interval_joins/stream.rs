//! One partition of an interval join that is running: chunks of pairs, tested and given out.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use datafusion::common::{JoinSide, JoinType};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::StreamExt;
use tokio::sync::OnceCell;

use super::bounds::Meeting;
use super::exec::{of_left, Keys};
use super::held::{Held, KeyColumns, Plan};
use super::pairs::{Pairs, Probe, Wanted};

/// A left side, or why there is none; for all who wait for it.
pub(super) type Built = Result<Arc<Held>, Arc<DataFusionError>>;

/// What becomes the left side, when somebody asks for it.
pub(super) type Build =
    Box<dyn FnOnce() -> DfResult<(SendableRecordBatchStream, Plan, MemoryReservation)> + Send>;

pub(super) enum State {
    /// Batches of the right, one of which is looked at.
    Right(Option<Box<Probe>>),
    /// Rows of the left that are still to be given.
    Left(Vec<u32>),
    Done,
}

/// One partition of a join that is running.
pub(super) struct Joining {
    pub(super) cell: Arc<OnceCell<Built>>,
    pub(super) build: Option<Build>,
    pub(super) keys: Option<Keys>,
    pub(super) held: Option<Arc<Held>>,
    pub(super) right: SendableRecordBatchStream,
    pub(super) right_keys: Option<KeyColumns>,
    pub(super) meeting: Meeting,
    pub(super) filter: Option<JoinFilter>,
    pub(super) join_type: JoinType,
    pub(super) output: Vec<ColumnIndex>,
    pub(super) schema: SchemaRef,
    pub(super) chunk_rows: usize,
    pub(super) rows_left: Option<usize>,
    pub(super) state: State,
    pub(super) metrics: BaselineMetrics,
}

impl Joining {
    pub(super) async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            if self.rows_left == Some(0) {
                return Ok(None);
            }
            let Some(batch) = self.step().await? else {
                return Ok(None);
            };
            if batch.num_rows() == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let batch = match &mut self.rows_left {
                None => batch,
                Some(left) => {
                    let batch = batch.slice(0, batch.num_rows().min(*left));
                    *left -= batch.num_rows();
                    batch
                }
            };
            self.metrics.record_output(batch.num_rows());
            return Ok(Some(batch));
        }
    }

    /// A little more of the work, and the rows that come of it.
    async fn step(&mut self) -> DfResult<Option<RecordBatch>> {
        let held = self.held().await?;
        match std::mem::replace(&mut self.state, State::Done) {
            State::Right(None) => match self.right.next().await.transpose()? {
                Some(rows) => {
                    let stretch = &self.meeting.right;
                    let probe = Probe::new(rows, stretch, self.right_keys.as_ref(), &held)?;
                    self.state = State::Right(Some(Box::new(probe)));
                    self.empty().map(Some)
                }
                None => {
                    let asked = of_left(self.join_type).filter(|_| held.is_last());
                    let rows = asked.map_or(vec![], |were_met| held.rows_met(were_met));
                    self.state = State::Left(rows);
                    self.empty().map(Some)
                }
            },
            State::Right(Some(mut probe)) => {
                let timer = self.metrics.elapsed_compute().timer();
                let rows = self.chunk(&held, &mut probe)?;
                timer.done();
                self.state = State::Right((!probe.is_done()).then_some(probe));
                Ok(Some(rows))
            }
            State::Left(rows) if rows.is_empty() => Ok(None),
            State::Left(mut rows) => {
                let rest = rows.split_off(rows.len().min(self.chunk_rows));
                self.state = State::Left(rest);
                let none = RecordBatch::new_empty(self.right.schema());
                let right = UInt32Array::new_null(rows.len());
                self.rows_of(&held, &UInt32Array::from(rows), &none, &right)
                    .map(Some)
            }
            State::Done => Ok(None),
        }
    }

    /// The left side, collected by whoever comes first.
    async fn held(&mut self) -> DfResult<Arc<Held>> {
        if let Some(held) = &self.held {
            return Ok(Arc::clone(held));
        }
        let build = self.build.take();
        let keys = self.keys.clone();
        let built = self
            .cell
            .get_or_init(|| async move {
                let build = build.ok_or_else(|| {
                    Arc::new(DataFusionError::Internal("a join begins twice".into()))
                })?;
                let (stream, plan, reservation) = build().map_err(Arc::new)?;
                let held = Held::collect(stream, plan, reservation).await;
                let held = held.map_err(Arc::new)?;
                if let Some(keys) = keys {
                    keys.tell(&held).map_err(Arc::new)?;
                }
                Ok(Arc::new(held))
            })
            .await;
        match built {
            Ok(held) => {
                self.held = Some(Arc::clone(held));
                Ok(Arc::clone(held))
            }
            Err(e) => Err(DataFusionError::Shared(Arc::clone(e))),
        }
    }

    fn empty(&self) -> DfResult<RecordBatch> {
        Ok(RecordBatch::new_empty(Arc::clone(&self.schema)))
    }

    fn wanted(&self) -> Wanted {
        match self.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => Wanted::NotMet,
            JoinType::RightSemi | JoinType::RightAnti if self.filter.is_none() => Wanted::First,
            _ => Wanted::All,
        }
    }

    /// Pairs of a batch, and the rows that they give.
    fn chunk(&self, held: &Held, probe: &mut Probe) -> DfResult<RecordBatch> {
        let first = probe.row();
        let pairs = probe.next(held, self.wanted(), self.chunk_rows);
        let pairs = self.filtered(held, probe, pairs)?;
        if !held.met.is_empty() {
            for left in &pairs.left {
                held.met[*left as usize].store(true, Ordering::Release);
            }
        }
        for right in &pairs.right {
            probe.met[*right as usize] = true;
        }
        match self.join_type {
            JoinType::Inner | JoinType::Left => {
                let (left, right) = (
                    UInt32Array::from(pairs.left),
                    UInt32Array::from(pairs.right),
                );
                self.rows_of(held, &left, &probe.rows, &right)
            }
            JoinType::Right | JoinType::Full => {
                let (left, right) = with_unmet(pairs, probe, first);
                self.rows_of(held, &left, &probe.rows, &right)
            }
            JoinType::RightSemi | JoinType::RightAnti => {
                probe.pass_met(held);
                let asked = self.join_type == JoinType::RightSemi;
                let done = (first..probe.row()).filter(|row| probe.met[*row] == asked);
                let right: UInt32Array = done.map(|row| row as u32).collect();
                let left = UInt32Array::new_null(right.len());
                self.rows_of(held, &left, &probe.rows, &right)
            }
            _ => self.empty(),
        }
    }

    /// The pairs for which the rest of the filter holds.
    fn filtered(&self, held: &Held, probe: &Probe, pairs: Pairs) -> DfResult<Pairs> {
        let Some(filter) = &self.filter else {
            return Ok(pairs);
        };
        let (left, right) = (
            UInt32Array::from(pairs.left),
            UInt32Array::from(pairs.right),
        );
        let columns = filter.column_indices().iter().map(|column| {
            let (rows, of) = match column.side {
                JoinSide::Left => (&left, &held.rows),
                _ => (&right, &probe.rows),
            };
            Ok(arrow_select::take::take(
                of.column(column.index),
                rows,
                None,
            )?)
        });
        let columns = columns.collect::<DfResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(left.len()));
        let schema = Arc::clone(filter.schema());
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let hold = filter.expression().evaluate(&batch)?;
        let hold = hold.into_array(left.len())?;
        let hold: &BooleanArray = hold.as_boolean();
        let kept = |rows: &UInt32Array| {
            let rows = rows.values().iter().zip(hold.iter());
            rows.filter(|(_, holds)| *holds == Some(true))
                .map(|(row, _)| *row)
                .collect::<Vec<u32>>()
        };
        Ok(Pairs {
            left: kept(&left),
            right: kept(&right),
        })
    }

    /// The columns that are asked for of rows of both sides; a row that is none is NULLs.
    fn rows_of(
        &self,
        held: &Held,
        left: &UInt32Array,
        right_rows: &RecordBatch,
        right: &UInt32Array,
    ) -> DfResult<RecordBatch> {
        let columns = self.output.iter().map(|column| {
            let (rows, of) = match column.side {
                JoinSide::Left => (left, &held.rows),
                _ => (right, right_rows),
            };
            Ok(arrow_select::take::take(
                of.column(column.index),
                rows,
                None,
            )?)
        });
        let columns = columns.collect::<DfResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(left.len()));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

/// The pairs, and between them the rows of the right, from `first` on, that are done and met none.
fn with_unmet(pairs: Pairs, probe: &Probe, first: usize) -> (UInt32Array, UInt32Array) {
    let mut left: Vec<Option<u32>> = Vec::with_capacity(pairs.left.len());
    let mut right = Vec::with_capacity(pairs.right.len());
    let mut found = pairs.left.into_iter().zip(pairs.right).peekable();
    for row in first..probe.row() {
        while let Some((l, r)) = found.next_if(|(_, r)| *r as usize == row) {
            left.push(Some(l));
            right.push(r);
        }
        if !probe.met[row] {
            left.push(None);
            right.push(row as u32);
        }
    }
    for (l, r) in found {
        left.push(Some(l));
        right.push(r);
    }
    (UInt32Array::from(left), UInt32Array::from(right))
}
