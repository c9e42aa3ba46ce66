//! Cursors: queries that a client reads piece by piece.
//!
//! A cursor is a running query whose stream stays with the session: DECLARE starts it on the
//! transaction's view, FETCH takes rows off it. Rows that were passed are given up, unless the cursor was
//! declared with SCROLL: then what was read stays in memory, which is reserved. A cursor ends with its
//! transaction, or, WITH HOLD, with the session or CLOSE: its read view is its own, so it goes on unchanged.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_model::{columns_bytes, SqlState, Value};
use chronos_query::sql::{Declare, Direction};
use chronos_store::Reservation;
use futures::StreamExt;

use super::prepare::Plan;
use super::{read, Prepared, Session};
use crate::{CommandTag, Error, Outcome, RowData, RowStream, Rows};

/// Cursors that a session may have open.
const OPEN_MAX: usize = 256;
/// What a FETCH answers with is held until it is sent.
const PURPOSE: &str = "rows of cursors";

/// The open cursors of a session.
#[derive(Default)]
pub(super) struct Cursors {
    open: HashMap<String, Cursor>,
}

/// What a cursor lives as long as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    /// The transaction, or what of it is left after ROLLBACK TO so many savepoints.
    Transaction { savepoints: usize },
    /// The session: WITH HOLD, in a transaction that has not ended yet.
    HeldOnCommit { savepoints: usize },
    /// The session.
    Held,
}

struct Cursor {
    schema: SchemaRef,
    /// A mutex, so that a session may be shared; nobody else locks it.
    stream: parking_lot::Mutex<RowStream>,
    is_at_end: bool,
    /// Reading on failed: what is missing cannot be had any more.
    has_failed: bool,
    /// A table that it reads.
    reads: Option<String>,
    /// What was read and is not passed; with `scroll`, all that was read.
    batches: Vec<RecordBatch>,
    /// Rows before the first of `batches`.
    given_up: u64,
    /// The row on which it stands, from 1; 0: before the first. Behind the last: one more than there are.
    position: u64,
    scroll: bool,
    life: Life,
    held: Reservation,
}

impl Cursors {
    /// A transaction has been committed.
    pub(super) fn committed(&mut self) {
        self.open
            .retain(|_, c| !matches!(c.life, Life::Transaction { .. }));
        for cursor in self.open.values_mut() {
            cursor.life = Life::Held;
        }
    }

    /// A transaction has been rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.open.retain(|_, c| c.life == Life::Held);
    }

    /// Only so many savepoints are left, and nothing that came after the last of them.
    pub(super) fn rolled_back_to(&mut self, left: usize) {
        self.open.retain(|_, c| match c.life {
            Life::Transaction { savepoints } | Life::HeldOnCommit { savepoints } => {
                savepoints < left
            }
            Life::Held => true,
        });
    }

    /// Savepoints from this one on are no more; what came after them stays.
    pub(super) fn released(&mut self, left: usize) {
        for cursor in self.open.values_mut() {
            if let Life::Transaction { savepoints } | Life::HeldOnCommit { savepoints } =
                &mut cursor.life
            {
                *savepoints = left.min(*savepoints);
            }
        }
    }

    /// Closes all.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    fn get(&mut self, name: &str) -> Result<&mut Cursor, Error> {
        let cursor = self.open.get_mut(name);
        cursor.ok_or_else(|| no_cursor(name))
    }

    /// A table that it reads.
    pub(super) fn reads(&self, name: &str) -> Option<&str> {
        self.open.get(name)?.reads.as_deref()
    }

    /// Its columns.
    pub(super) fn schema(&self, name: &str) -> Result<SchemaRef, Error> {
        let cursor = self.open.get(name).ok_or_else(|| no_cursor(name))?;
        Ok(Arc::clone(&cursor.schema))
    }
}

fn no_cursor(name: &str) -> Error {
    let message = format!("cursor \"{name}\" does not exist");
    Error::new(SqlState::INVALID_CURSOR_NAME, message)
}

impl Session {
    /// Commits a transaction, and with it what becomes of its cursors and settings.
    pub(super) async fn commit_with_cursors(
        &mut self,
        transaction: super::Transaction,
    ) -> Result<(), Error> {
        let key = transaction.attempt.as_ref().map(|attempt| attempt.key());
        let committed = self.commit_transaction(transaction).await;
        match &committed {
            Ok(()) => {
                self.cursors.committed();
                self.settings.committed();
                self.use_up(key.as_deref());
            }
            Err(_) => self.forget_transaction(),
        }
        committed
    }

    /// DECLARE: starts the query.
    pub(super) async fn declare(
        &mut self,
        declare: &Declare,
        query: &Prepared,
        parameters: &[Value],
    ) -> Result<Outcome, Error> {
        let savepoints = match &self.transaction {
            Some(t) => t.savepoints.len(),
            None if declare.hold => 0,
            None => {
                let message = "DECLARE CURSOR can only be used in transaction blocks";
                return Err(Error::new(SqlState::NO_ACTIVE_TRANSACTION, message));
            }
        };
        let name = &declare.name;
        if self.cursors.open.contains_key(name) {
            let message = format!("cursor \"{name}\" already exists");
            return Err(Error::new(SqlState("42P03"), message));
        }
        if self.cursors.open.len() >= OPEN_MAX {
            let message = format!("more than {OPEN_MAX} cursors are open");
            return Err(Error::new(SqlState::PROGRAM_LIMIT, message));
        }
        let Plan::Query(plan) = &query.plan else {
            let message = "a cursor reads a query without SETTING";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        };
        let context = self.read_context_of(plan).await?;
        let engine = &self.node.inner.engine;
        let stream = engine.execute(plan, parameters, context).await?;
        let life = match (declare.hold, self.transaction.is_some()) {
            (true, true) => Life::HeldOnCommit { savepoints },
            (true, false) => Life::Held,
            (false, _) => Life::Transaction { savepoints },
        };
        let cursor = Cursor {
            schema: Arc::clone(&plan.schema),
            // FETCH is what is cancelled and timed, not the query between two of them.
            stream: parking_lot::Mutex::new(read::drive(
                stream,
                Arc::clone(&plan.schema),
                read::Stop::never(),
            )),
            is_at_end: false,
            has_failed: false,
            reads: plan.reads_table(),
            batches: Vec::new(),
            given_up: 0,
            position: 0,
            scroll: declare.scroll,
            life,
            held: self.memory_of(PURPOSE),
        };
        self.cursors.open.insert(name.clone(), cursor);
        super::command::done("DECLARE CURSOR")
    }

    /// FETCH: the rows.
    pub(super) async fn fetch(
        &mut self,
        name: &str,
        direction: Direction,
    ) -> Result<Outcome, Error> {
        let mut held = self.memory_of(PURPOSE);
        let cursor = self.cursors.get(name)?;
        let batches = cursor.go(direction, Some(&mut held)).await?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let batches = futures::stream::iter(batches.into_iter().map(Ok));
        // What is held goes with the last row.
        let stream = batches.map(move |batch| {
            let _ = &held;
            batch
        });
        Ok(Outcome::Rows(Rows {
            schema: Arc::clone(&cursor.schema),
            data: RowData::Batches(Box::pin(stream)),
            tag: CommandTag {
                verb: "FETCH",
                rows: Some(rows as u64),
            },
        }))
    }

    /// MOVE: as FETCH, without the rows.
    pub(super) async fn move_cursor(
        &mut self,
        name: &str,
        direction: Direction,
    ) -> Result<Outcome, Error> {
        let cursor = self.cursors.get(name)?;
        let batches = cursor.go(direction, None).await?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        Ok(Outcome::Done(CommandTag {
            verb: "MOVE",
            rows: Some(rows as u64),
        }))
    }

    /// The columns of a cursor that DECLARE has made; `None`: there is none of that name.
    pub fn cursor_columns(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.schema(name).ok()
    }

    /// CLOSE
    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<Outcome, Error> {
        let Some(name) = name else {
            self.cursors.close_all();
            return super::command::done("CLOSE CURSOR ALL");
        };
        match self.cursors.open.remove(name) {
            Some(_) => super::command::done("CLOSE CURSOR"),
            None => Err(no_cursor(name)),
        }
    }
}

impl Cursor {
    /// Goes where it is told, and gives the rows that FETCH shows. `kept`: for the memory of
    /// rows that the cursor does not keep itself.
    async fn go(
        &mut self,
        direction: Direction,
        mut kept: Option<&mut Reservation>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let position = self.position as i64;
        match direction {
            Direction::Rows(0) | Direction::Relative(0) => {
                if !self.scroll && self.position > 0 {
                    return Err(only_forward());
                }
                self.row_at(position).await
            }
            Direction::Rows(count) if count > 0 => self.ahead(count as u64, &mut kept).await,
            Direction::Rest => self.ahead(u64::MAX, &mut kept).await,
            Direction::Rows(count) => self.back(count.unsigned_abs()),
            Direction::Back => self.back(u64::MAX),
            Direction::Absolute(at) if at >= 0 => self.to(at).await,
            Direction::Absolute(at) => {
                self.may_go_back()?;
                self.read_to(u64::MAX).await?;
                let rows = self.rows_read() as i64;
                self.to((rows + 1).saturating_add(at).max(0)).await
            }
            Direction::Relative(by) => self.to(position.saturating_add(by).max(0)).await,
        }
    }

    fn may_go_back(&self) -> Result<(), Error> {
        match self.scroll {
            true => Ok(()),
            false => Err(only_forward()),
        }
    }

    /// Rows that have come from the query so far.
    fn rows_read(&self) -> u64 {
        let there: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        self.given_up + there as u64
    }

    /// Reads on until there are so many rows.
    async fn read_to(&mut self, wanted: u64) -> Result<(), Error> {
        while !self.is_at_end && self.rows_read() < wanted {
            self.read_batch().await?;
            if !self.scroll {
                // What is passed on the way is not needed.
                self.give_up(self.rows_read().min(wanted.saturating_sub(1)));
            }
        }
        Ok(())
    }

    async fn read_batch(&mut self) -> Result<(), Error> {
        if self.has_failed {
            let message = "the cursor cannot be read on after an error";
            return Err(Error::new(SqlState("55000"), message));
        }
        // Also if it is cancelled in between.
        self.has_failed = true;
        let next = self.stream.get_mut().next().await;
        match next {
            None => self.is_at_end = true,
            Some(batch) => {
                let batch = batch?;
                self.held.try_grow(columns_bytes(batch.columns()) as u64)?;
                self.batches.push(batch);
            }
        }
        self.has_failed = false;
        Ok(())
    }

    /// Gives the first so many rows up.
    fn give_up(&mut self, rows: u64) {
        while self.given_up < rows {
            let Some(first) = self.batches.first() else {
                return;
            };
            let all = first.num_rows() as u64;
            let excess = rows - self.given_up;
            if excess >= all {
                let gone = self.batches.remove(0);
                self.held.shrink(columns_bytes(gone.columns()) as u64);
                self.given_up += all;
            } else {
                // A slice keeps the memory of the whole.
                self.batches[0] = first.slice(excess as usize, (all - excess) as usize);
                self.given_up += excess;
            }
        }
    }

    /// The next rows, so many at most.
    async fn ahead(
        &mut self,
        count: u64,
        kept: &mut Option<&mut Reservation>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let from = self.position;
        let mut taken: Vec<RecordBatch> = Vec::new();
        let mut rows = 0_u64;
        while rows < count {
            if self.rows_read() <= from + rows {
                if self.is_at_end {
                    break;
                }
                self.read_batch().await?;
                continue;
            }
            let slice = self.slice_from(from + rows, count - rows);
            rows += slice.num_rows() as u64;
            if let Some(kept) = kept.as_deref_mut() {
                kept.try_grow(columns_bytes(slice.columns()) as u64)?;
            }
            if !self.scroll {
                self.give_up(from + rows);
            }
            taken.push(slice);
        }
        // Behind the last row, if there were not enough.
        self.position = from + rows + u64::from(rows < count);
        Ok(taken)
    }

    /// Rows from one (counted from 0) on that lie in one batch, so many at most.
    fn slice_from(&self, row: u64, count: u64) -> RecordBatch {
        let mut before = self.given_up;
        for batch in &self.batches {
            let rows = batch.num_rows() as u64;
            if row < before + rows {
                let at = row - before;
                return batch.slice(at as usize, (rows - at).min(count) as usize);
            }
            before += rows;
        }
        RecordBatch::new_empty(Arc::clone(&self.schema))
    }

    /// The rows before, nearest first, so many at most.
    fn back(&mut self, count: u64) -> Result<Vec<RecordBatch>, Error> {
        self.may_go_back()?;
        let last = self.position.saturating_sub(1).min(self.rows_read());
        let rows = last.min(count);
        let taken = (0..rows).map(|i| self.slice_from(last - 1 - i, 1));
        let taken = taken.collect();
        self.position = last - rows + u64::from(rows == count);
        if rows < count {
            self.position = 0;
        }
        Ok(taken)
    }

    /// To one row, from 1; gives it if it is there.
    async fn to(&mut self, at: i64) -> Result<Vec<RecordBatch>, Error> {
        let at = at as u64;
        if at < self.position || (at == self.position && at > 0) {
            self.may_go_back()?;
        }
        self.read_to(at).await?;
        self.position = at.min(self.rows_read() + 1);
        self.row_at(at as i64).await
    }

    async fn row_at(&mut self, at: i64) -> Result<Vec<RecordBatch>, Error> {
        let at = at as u64;
        let is_there = at > self.given_up && at <= self.rows_read();
        Ok(match is_there {
            true => vec![self.slice_from(at - 1, 1)],
            false => Vec::new(),
        })
    }
}

fn only_forward() -> Error {
    Error::new(SqlState("55000"), "cursor can only scan forward")
        .with_hint("Declare it with SCROLL option to enable backward scan.")
}
