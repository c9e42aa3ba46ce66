//! A transaction's buffered writes: the last state of every key it touched. What it does to the
//! catalog is in `migration`.
//!
//! Nothing leaves the session before COMMIT; then all of it is one write set. The
//! session reads through its own writes with
//! [`ReadView::with_writes`](chronos_store::ReadView::with_writes).

use std::collections::BTreeMap;
use std::sync::Arc;

use chronos_model::{
    BatchChange, Catalog, Change, Expect, Key, Kind, RowChange, RowChanges, Stamp, TableId,
    TableSchema, WriteSet,
};
use chronos_store::{ReadLog, ReadView, Reservation};

use super::migration::TableChanges;
use crate::replica::HiddenKeys;
use crate::Error;

/// Changes by key, in order. One is enough unless rows are true for periods.
pub(super) type Changes = BTreeMap<Key, Vec<RowChange>>;
/// A write is there as it was given, and overlaid on what the transaction sees, or in the form
/// in which it is committed.
const FORMS: u64 = 2;

/// Buffered writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Writes {
    pub(super) rows: BTreeMap<TableId, Changes>,
    pub(super) batches: Vec<BatchChange>,
}

/// What ROLLBACK TO goes back to.
pub(super) struct Savepoint {
    pub(super) name: String,
    writes: Writes,
    view: ReadView,
    tables: TableChanges,
}

/// A transaction block.
pub(super) struct Transaction {
    /// What it read first: what its changes are compared with at COMMIT.
    pub(super) base: ReadView,
    /// The same with its own changes of the catalog, without its writes.
    pub(super) view: ReadView,
    /// What it has read, if that must be as it was at COMMIT.
    pub(super) reads: Option<Arc<ReadLog>>,
    /// Whether anything was read, or looked for, so far.
    pub(super) has_read: bool,
    /// Its changes of the catalog.
    pub(super) tables: TableChanges,
    /// `now()`, in microseconds since the Unix epoch.
    pub(super) now_micros: i64,
    pub(super) writes: Writes,
    /// Innermost last.
    pub(super) savepoints: Vec<Savepoint>,
    pub(super) failed: bool,
    pub(super) read_only: bool,
    /// What it reads tables at that do not say so themselves.
    pub(super) as_of: Option<Stamp>,
    /// Opened by a multi-statement query, not by BEGIN.
    pub(super) implicit: bool,
    /// What it knows of foreign keys.
    pub(super) constraints: super::foreign_keys::Constraints,
    /// What it is for an idempotency key.
    pub(super) attempt: Option<super::once::Attempt>,
    /// The view with the writes, until the next write.
    pub(super) overlaid: Option<ReadView>,
    /// Memory for the writes, for another form of them that reading them or committing makes,
    /// and for savepoints.
    pub(super) held: Reservation,
    /// Of that, for what changes of tables have copied.
    pub(super) copied_bytes: u64,
}

impl Transaction {
    /// Whether nothing was written so far, and nothing can be taken back.
    pub(super) fn is_fresh(&self) -> bool {
        self.writes.is_empty() && self.tables.is_empty() && self.savepoints.is_empty()
    }

    pub(super) fn new(
        view: ReadView,
        now_micros: i64,
        implicit: bool,
        read_only: bool,
        held: Reservation,
    ) -> Transaction {
        Transaction {
            base: view.clone(),
            view,
            reads: None,
            has_read: false,
            tables: TableChanges::default(),
            copied_bytes: 0,
            now_micros,
            writes: Writes::default(),
            savepoints: Vec::new(),
            failed: false,
            read_only,
            as_of: None,
            implicit,
            constraints: Default::default(),
            attempt: None,
            overlaid: None,
            held,
        }
    }

    /// What the transaction sees: its view and its own writes.
    pub(super) fn read_view(&mut self) -> Result<ReadView, Error> {
        self.has_read = true;
        if self.writes.is_empty() {
            return Ok(self.view.clone());
        }
        if let Some(view) = &self.overlaid {
            return Ok(view.clone());
        }
        let writes = self.writes.to_write_set(Stamp::MAX, self.view.catalog());
        let view = self
            .view
            .with_writes(&writes)
            .map_err(|e| Error::new(e.sqlstate(), e.to_string()))?;
        self.overlaid = Some(view.clone());
        Ok(view)
    }

    /// Adds a change.
    ///
    /// Errors: there is no memory for it (53200).
    pub(super) fn add(&mut self, change: Change) -> Result<(), Error> {
        let bytes = FORMS * change.memory_bytes() as u64;
        self.overlaid = None;
        if self.held.try_grow(bytes).is_err() {
            // What was written again since counts only once.
            self.held.try_resize(self.bytes())?;
            self.held.try_grow(bytes)?;
        }
        self.writes.add(change);
        Ok(())
    }

    /// Remembers the writes under a name.
    pub(super) fn save(&mut self, name: &str) -> Result<(), Error> {
        self.held.try_grow(self.writes.bytes())?;
        self.savepoints.push(Savepoint {
            name: name.to_owned(),
            writes: self.writes.clone(),
            view: self.view.clone(),
            tables: self.tables.clone(),
        });
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        let saved = self.savepoints.iter().map(|s| s.writes.bytes());
        self.copied_bytes + FORMS * self.writes.bytes() + saved.sum::<u64>()
    }

    /// Rows of batches become single rows, so that they can be changed again.
    /// Those of a table without a primary key get keys with this stamp.
    ///
    /// Errors: there is no memory for it (53200).
    pub(super) fn unbatch(
        &mut self,
        table: &Arc<TableSchema>,
        keys: HiddenKeys,
    ) -> Result<(), Error> {
        if !self.writes.has_batch_of(table) {
            return Ok(());
        }
        self.overlaid = None;
        self.writes.unbatch(table, keys)?;
        let bytes = self.bytes();
        match bytes.checked_sub(self.held.bytes()) {
            Some(more) => self.held.try_grow(more).map_err(Error::from),
            None => Ok(()),
        }
    }

    /// Goes back to the writes and the catalog at a savepoint, which stays.
    pub(super) fn restore(&mut self, savepoint: usize) {
        self.overlaid = None;
        self.savepoints.truncate(savepoint + 1);
        let saved = &self.savepoints[savepoint];
        self.writes = saved.writes.clone();
        self.view = saved.view.clone();
        self.tables = saved.tables.clone();
        let given_up = self.held.bytes().saturating_sub(self.bytes());
        self.held.shrink(given_up);
    }
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.batches.is_empty()
    }

    fn bytes(&self) -> u64 {
        let rows = self.rows.values().flat_map(BTreeMap::values).flatten();
        let rows: usize = rows.map(RowChange::memory_bytes).sum();
        let batches = self.batches.iter().map(BatchChange::memory_bytes);
        (rows + batches.sum::<usize>()) as u64
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Rows(changes) => {
                let table = self.rows.entry(changes.table).or_default();
                for change in changes.rows {
                    merge(table, change);
                }
            }
            Change::Batch(batch) => self.batches.push(batch),
            // Those are kept with the transaction's catalog.
            _ => {}
        }
    }

    fn has_batch_of(&self, table: &TableSchema) -> bool {
        self.batches.iter().any(|batch| batch.table == table.id)
    }

    pub(super) fn unbatch(
        &mut self,
        table: &Arc<TableSchema>,
        keys: HiddenKeys,
    ) -> Result<(), Error> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.batches.drain(..).partition(|b| b.table == table.id);
        self.batches = others;
        let mut position = 0;
        for batch in own {
            let rows = self.rows.entry(table.id).or_default();
            for row in 0..batch.batch.num_rows() {
                let values = chronos_query::dml::row_values(table, &batch.batch, row)?;
                let (key, expect) = match table.has_hidden_key() {
                    true => (keys.key(position), Expect::Any),
                    false => (chronos_query::dml::key_of(table, &values)?, batch.expect),
                };
                position += 1;
                merge(rows, chronos_query::dml::put(key, &values, expect));
            }
        }
        Ok(())
    }

    /// All writes as one write set of a transaction that read at `begin` and whose statements
    /// were planned for `catalog`.
    pub(super) fn to_write_set(&self, begin: Stamp, catalog: &Catalog) -> WriteSet {
        let rows = self
            .rows
            .iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(table, rows)| {
                Change::Rows(RowChanges {
                    table: *table,
                    rows: rows.values().flatten().cloned().collect(),
                })
            });
        let batches = self.batches.iter().cloned().map(Change::Batch);
        let changes: Vec<Change> = rows.chain(batches).collect();
        let is_written = |id: TableId| {
            changes.iter().any(|change| match change {
                Change::Rows(rows) => rows.table == id,
                Change::Batch(batch) => batch.table == id,
                _ => false,
            })
        };
        let tables = catalog.tables.values();
        let tables = tables.filter(|t| t.shape.version > 0 && is_written(t.id));
        let shapes = tables.filter_map(|table| chronos_query::dml::expected_shape(table));
        WriteSet {
            begin,
            changes: shapes
                .collect::<Vec<_>>()
                .into_iter()
                .chain(changes)
                .collect(),
        }
    }
}

/// A later change of a key on top of an earlier one.
fn merge(table: &mut Changes, mut change: RowChange) {
    let of_key = table.entry(change.key.clone()).or_default();
    let needs_order = |c: &RowChange| c.valid.is_some() || c.kind == Kind::Erase;
    if needs_order(&change) || of_key.iter().any(needs_order) {
        // The store takes from earlier ones what later ones cover.
        of_key.push(change);
        return;
    }
    let earlier = of_key.last().map(|c| (c.expect, c.kind));
    match (earlier, change.kind) {
        // Inserted and deleted again: as if it never was.
        (
            Some((Expect::Absent | Expect::AbsentOrSkip | Expect::DistinctOrSkip, Kind::Put)),
            Kind::Delete,
        ) => {
            table.remove(&change.key);
            return;
        }
        // Whatever held before the first change is what must still hold.
        (Some((expect, _)), _) => change.expect = expect,
        (None, _) => {}
    }
    *of_key = vec![change];
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn change(expect: Expect, kind: Kind, row: &'static [u8]) -> RowChange {
        RowChange {
            key: Key(Box::from(*b"k")),
            expect,
            kind,
            row: Bytes::from_static(row),
            valid: None,
        }
    }

    #[test]
    fn changes_for_periods_are_kept_in_order() {
        let valid = Some(chronos_model::Period { from: 1, to: 5 });
        let later = RowChange {
            valid,
            ..change(Expect::Unchanged, Kind::Put, b"2")
        };
        let mut table = BTreeMap::new();
        merge(&mut table, change(Expect::Absent, Kind::Put, b"1"));
        merge(&mut table, later.clone());
        let kept = vec![change(Expect::Absent, Kind::Put, b"1"), later];
        assert_eq!(table.into_values().collect::<Vec<_>>(), [kept]);
    }

    #[test]
    fn only_the_last_state_of_a_key_is_kept() {
        let mut table = BTreeMap::new();
        merge(&mut table, change(Expect::Absent, Kind::Put, b"1"));
        merge(&mut table, change(Expect::Unchanged, Kind::Put, b"2"));
        assert_eq!(
            table.values().next(),
            Some(&vec![change(Expect::Absent, Kind::Put, b"2")])
        );
        merge(&mut table, change(Expect::Unchanged, Kind::Delete, b""));
        assert!(table.is_empty());
        merge(&mut table, change(Expect::Unchanged, Kind::Delete, b""));
        merge(&mut table, change(Expect::Absent, Kind::Put, b"3"));
        assert_eq!(
            table.values().next(),
            Some(&vec![change(Expect::Unchanged, Kind::Put, b"3")])
        );
    }
}
