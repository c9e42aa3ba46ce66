//! Applying a write set: all preconditions are checked first, against what is stored
//! and against the changes before in the same set; only then anything is changed.
//!
//! Everything here depends on the log alone, so that every replica that applies the
//! same entries has the same rows and gives the same answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_buffer::BooleanBuffer;
use chronos_model::{
    key_values, Catalog, CatalogChange, Expect, IndexSchema, IndexState, Kind, OptionChange,
    Period, Remembered, Reserved, RowChange, Stamp, TableId, TableSchema, Uniqueness,
};

use crate::erase::erased_before;
use crate::error::{ApplyError, StoreError};
use crate::first::FirstVersions;
use crate::foreign_keys;
use crate::index;
use crate::prepare::{Prepared, PreparedBatch, PreparedRows, PreparedWriteSet, Shapes};
use crate::present::EarlierChange;
use crate::retention::Retained;
use crate::sequences;
use crate::state::{StoreState, Stored, TableState};

/// Periods of one key that a write set may write: their stamps share a microsecond.
const PERIODS_OF_KEY_MAX: usize = 2048;

pub(crate) mod catalog_changes;
mod write;

pub(crate) use write::write;
use write::Stamps;

/// What became of a write set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Rows changed.
    pub rows: u64,
    /// Rows left out because they were present (`AbsentOrSkip`).
    pub skipped: u64,
    /// Which ones: positions, ascending, among all rows of the write set in order.
    pub skipped_rows: Vec<u32>,
    /// The table created, if one was.
    pub created: Option<TableId>,
    /// The secondary indexes created.
    pub created_indexes: Vec<TableId>,
    /// The secondary indexes that moved on, or were given up.
    pub moved_indexes: Vec<TableId>,
    /// The numbers of a sequence that were handed out.
    pub reserved: Option<Reserved>,
    /// What the set did when it was applied before with its key: now it did nothing.
    pub before: Option<Remembered>,
}

impl Applied {
    /// Of a write set that did nothing, because it was applied before.
    pub(crate) fn again(before: Option<Remembered>) -> Applied {
        Applied {
            rows: before.as_ref().map_or(0, |before| before.rows),
            before,
            ..Applied::default()
        }
    }
}

/// A write set whose preconditions hold.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) applied: Applied,
    /// Per change, the rows not to be written, by their position in the change;
    /// empty: all are written.
    leave_out: Vec<Vec<bool>>,
    /// The stamp of the last version; those of one key in a write set have different ones.
    pub(crate) last_stamp: Stamp,
    /// Per change, the rows before which nothing was stored of their keys.
    first: Vec<FirstVersions>,
    /// Tables created, dropped or truncated.
    pub(crate) catalog: Option<Catalog>,
    pub(crate) truncated: Vec<TableId>,
    /// Whether columns of a table change, so that nothing may be left in memory.
    pub(crate) reshapes: bool,
}

impl Checked {
    /// All rows of a set, whatever is stored.
    pub(crate) fn unchecked(set: &PreparedWriteSet, recorded: Stamp) -> Checked {
        Checked {
            applied: Applied::default(),
            leave_out: vec![Vec::new(); set.changes.len()],
            last_stamp: recorded,
            first: vec![FirstVersions::None; set.changes.len()],
            catalog: None,
            truncated: Vec::new(),
            reshapes: false,
        }
        .with_last_stamp(set)
    }

    /// Finds out how many versions the key that has the most of them gets.
    fn with_last_stamp(mut self, set: &PreparedWriteSet) -> Checked {
        let mut stamps = Stamps::new(set, self.last_stamp);
        if !stamps.differ() {
            return self;
        }
        for (change, leave_out) in set.changes.iter().zip(&self.leave_out) {
            let Prepared::Rows(rows) = change else {
                continue;
            };
            for (i, change) in rows.changes.rows.iter().enumerate() {
                if !leave_out.get(i).copied().unwrap_or(false) {
                    let stamp = stamps.next(rows.changes.table, &change.key.0);
                    self.last_stamp = self.last_stamp.max(stamp);
                }
            }
        }
        self
    }
}

/// Checks a write set recorded at a stamp, which follows `previous`, that of the commit
/// before; `state` is not changed.
pub(crate) fn check(
    state: &StoreState,
    set: &PreparedWriteSet,
    recorded: Stamp,
    previous: Stamp,
) -> Result<Checked, ApplyError> {
    let mut checker = Checker {
        state,
        begin: set.begin,
        recorded,
        previous,
        earlier: set.repeats.then(HashMap::new),
        catalog: None,
        has_unique: false,
        truncated: Vec::new(),
        shapes: Shapes::default(),
        reshapes: false,
        applied: Applied::default(),
        leave_out: vec![Vec::new(); set.changes.len()],
        first: vec![FirstVersions::None; set.changes.len()],
    };
    for (number, change) in set.changes.iter().enumerate() {
        match change {
            Prepared::CreateTable(schema) => checker.create(schema)?,
            Prepared::DropTable(id) => checker.drop_table(*id)?,
            Prepared::Truncate(id) => checker.truncate(*id, &set.changes[..number])?,
            Prepared::AlterOptions(id, changes) => checker.alter_options(*id, changes)?,
            Prepared::ExpectShape(id, version) => checker.expect_shape(*id, *version)?,
            Prepared::Catalog(change) if set.changes.len() == 1 => checker.change(change)?,
            Prepared::Catalog(_) => return Err(ApplyError::CatalogConflict),
            // The state that is checked is the one after it.
            Prepared::Migrate(_) => {}
            // Looked at before, in the state that was read.
            Prepared::ExpectReads(_) => {}
            // The same.
            Prepared::Once(_) => {}
            Prepared::CreateIndex(schema) => checker.create_index(schema)?,
            Prepared::DropIndex(id) => checker.drop_index(*id)?,
            Prepared::GiveUpIndex(id) => checker.give_up_index(*id)?,
            Prepared::CreateSequence(schema) => {
                let fresh = checker.applied.created;
                sequences::create(checker.catalog(), schema, fresh)?;
            }
            Prepared::ReserveNumbers(id, count) => {
                let reserved = sequences::reserve(checker.catalog(), *id, *count)?;
                checker.applied.reserved = Some(reserved);
            }
            Prepared::SetSequence(id, value, called) => {
                sequences::set(checker.catalog(), *id, *value, *called)?;
            }
            Prepared::SetIndexState(id, state) => checker.set_index_state(*id, *state)?,
            Prepared::Rows(rows) => checker.rows(number, rows)?,
            Prepared::Batch(batch) => checker.batch(number, batch)?,
        }
    }
    if checker.has_unique {
        checker.check_unique(set)?;
    }
    checker.check_foreign_keys(set)?;
    let Checker {
        mut applied,
        leave_out,
        first,
        catalog,
        truncated,
        reshapes,
        ..
    } = checker;
    applied.skipped_rows.sort_unstable();
    applied.skipped = applied.skipped_rows.len() as u64;
    let checked = Checked {
        applied,
        leave_out,
        last_stamp: recorded,
        first,
        catalog,
        truncated,
        reshapes,
    };
    Ok(checked.with_last_stamp(set))
}

/// Where in the write set a key was changed, and how.
struct Earlier {
    is: EarlierChange,
    change: usize,
    row: usize,
}

/// Of each key in order.
type EarlierKeys = BTreeMap<Box<[u8]>, Vec<Earlier>>;

struct Checker<'a> {
    state: &'a StoreState,
    begin: Stamp,
    recorded: Stamp,
    previous: Stamp,
    /// Keys changed earlier in the set; `None`: no key occurs twice.
    earlier: Option<HashMap<TableId, EarlierKeys>>,
    catalog: Option<Catalog>,
    /// Whether rows of a table with a unique index in force are written.
    has_unique: bool,
    truncated: Vec<TableId>,
    shapes: Shapes,
    reshapes: bool,
    applied: Applied,
    leave_out: Vec<Vec<bool>>,
    first: Vec<FirstVersions>,
}

/// What is to be done with a row.
enum Verdict {
    Write,
    /// The same, and nothing is stored of its key.
    WriteFirst,
    Skip,
}

impl<'a> Checker<'a> {
    fn catalog(&mut self) -> &mut Catalog {
        let state = self.state;
        self.catalog.get_or_insert_with(|| (*state.catalog).clone())
    }

    fn table(&self, id: TableId) -> Result<&'a Arc<TableState>, ApplyError> {
        let exists = match &self.catalog {
            Some(catalog) => catalog.table_by_id(id).is_some(),
            None => true,
        };
        let found = self.state.tables.get(&id).filter(|_| exists);
        found.ok_or(ApplyError::UnknownTable { id })
    }

    fn create(&mut self, schema: &TableSchema) -> Result<(), ApplyError> {
        let id = catalog_changes::create_table(self.catalog(), schema)?;
        self.applied.created = Some(id);
        Ok(())
    }

    fn drop_table(&mut self, id: TableId) -> Result<(), ApplyError> {
        catalog_changes::drop_table(self.catalog(), id)
    }

    fn alter_options(&mut self, id: TableId, changes: &[OptionChange]) -> Result<(), ApplyError> {
        let recorded = self.recorded;
        catalog_changes::alter_options(self.catalog(), id, changes, recorded)
    }

    /// Notes what the rows that follow were made for, and whether that is how the table is.
    fn expect_shape(&mut self, id: TableId, version: u32) -> Result<(), ApplyError> {
        self.shapes.expect(id, version);
        let table = self.table(id)?;
        self.shapes.check(&table.schema)
    }

    /// Edits the catalog, unless that has changed since the edits were made for it.
    fn change(&mut self, change: &CatalogChange) -> Result<(), ApplyError> {
        if change.base != self.state.catalog.version {
            return Err(ApplyError::CatalogConflict);
        }
        for (id, stamp) in &change.unchanged {
            let table = self.table(*id)?;
            if table.last_recorded() > *stamp {
                return Err(ApplyError::Conflict {
                    table: table.schema.name.clone(),
                });
            }
        }
        let next = change.applied(&self.state.catalog);
        let next = next.map_err(|_| ApplyError::CatalogConflict)?;
        self.reshapes = next.tables.values().any(|after| {
            let before = self.state.catalog.table_by_id(after.id);
            before.is_some_and(|before| !before.stores_like(after))
        });
        self.catalog = Some(next);
        Ok(())
    }

    /// What is there of a table when the set is recorded.
    fn retained(&self, table: &TableState) -> Retained {
        Retained::of(&table.schema, self.recorded.micros())
    }

    fn create_index(&mut self, schema: &IndexSchema) -> Result<(), ApplyError> {
        let (recorded, fresh) = (self.recorded, self.applied.created);
        let id = index::changes::create(self.catalog(), schema, recorded, fresh)?;
        self.applied.created_indexes.push(id);
        Ok(())
    }

    fn drop_index(&mut self, id: TableId) -> Result<(), ApplyError> {
        index::changes::drop(self.catalog(), id)
    }

    fn give_up_index(&mut self, id: TableId) -> Result<(), ApplyError> {
        self.applied.moved_indexes.push(id);
        index::changes::give_up(self.catalog(), id)
    }

    fn set_index_state(&mut self, id: TableId, state: IndexState) -> Result<(), ApplyError> {
        self.applied.moved_indexes.push(id);
        index::changes::set_state(self.catalog(), id, state)
    }

    /// Checks the rows that the set leaves behind, and leaves out what may be left out.
    fn check_unique(&mut self, set: &PreparedWriteSet) -> Result<(), ApplyError> {
        let skipped = index::check_unique(
            self.state,
            self.recorded,
            set,
            &self.leave_out,
            &self.truncated,
        )?;
        for row in skipped {
            let leave_out = &mut self.leave_out[row.change];
            leave_out.resize(set.changes[row.change].rows(), false);
            leave_out[row.row] = true;
            self.applied.skipped_rows.push(row.position);
            self.applied.rows -= 1;
        }
        Ok(())
    }

    /// Checks that the rows which the set leaves behind have what they refer to, and that the
    /// catalog still lets that be told.
    fn check_foreign_keys(&self, set: &PreparedWriteSet) -> Result<(), ApplyError> {
        if let Some(catalog) = &self.catalog {
            if !catalog.keeps_foreign_keys() {
                return Err(ApplyError::CatalogConflict);
            }
        }
        foreign_keys::check_truncations(self.state, &self.truncated)?;
        if !foreign_keys::concerns(self.state, set) {
            return Ok(());
        }
        let at = foreign_keys::At {
            state: self.state,
            view: Stamp::MAX,
            now_micros: self.recorded.micros(),
        };
        foreign_keys::check(&at, set, &self.leave_out, &self.truncated, |_, _| true)
    }

    /// Rows written before in the same set are gone too; they have the truncation's
    /// stamp and would outlive it.
    fn truncate(&mut self, id: TableId, before: &[Prepared]) -> Result<(), ApplyError> {
        self.table(id)?;
        if !self.truncated.contains(&id) {
            self.truncated.push(id);
        }
        if let Some(earlier) = &mut self.earlier {
            earlier.remove(&id);
        }
        for (leave_out, change) in self.leave_out.iter_mut().zip(before) {
            match change {
                Prepared::Rows(rows) if rows.changes.table == id => {
                    *leave_out = vec![true; rows.changes.rows.len()];
                }
                Prepared::Batch(batch) if batch.table == id => {
                    *leave_out = vec![true; batch.rows];
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn rows(&mut self, number: usize, rows: &PreparedRows) -> Result<(), ApplyError> {
        let table = self.table(rows.changes.table)?;
        self.shapes.check(&table.schema)?;
        self.has_unique |= table.indexes.iter().any(|i| i.is_enforced());
        self.leave_out[number] = vec![false; rows.changes.rows.len()];
        let mut first = Vec::with_capacity(rows.changes.rows.len());
        let mut skips = false;
        for (i, change) in rows.changes.rows.iter().enumerate() {
            let key = &change.key.0;
            self.check_period(table, change)?;
            let verdict = if key.is_empty() {
                Verdict::WriteFirst
            } else {
                self.verdict(table, key, change.expect, change.valid)?
            };
            first.push(matches!(verdict, Verdict::WriteFirst));
            match verdict {
                Verdict::Skip => {
                    skips = true;
                    self.leave_out[number][i] = true;
                    self.applied.skipped_rows.push(rows.first_row + i as u32);
                }
                Verdict::Write | Verdict::WriteFirst => {
                    self.applied.rows += 1;
                    if !key.is_empty() {
                        let is = EarlierChange {
                            kind: change.kind,
                            valid: match change.kind {
                                Kind::Erase => Period::ALWAYS,
                                _ => valid_when_recorded(change.valid, self.recorded),
                            },
                        };
                        self.remember(&table.schema, key, is, number, i)?;
                    }
                }
            }
        }
        if !skips && self.earlier.is_none() {
            self.leave_out[number].clear();
        }
        self.first[number] = BooleanBuffer::from(first).into();
        Ok(())
    }

    /// What is to be done with a row, by its key and its precondition.
    fn verdict(
        &self,
        table: &TableState,
        key: &[u8],
        expect: Expect,
        valid: Option<Period>,
    ) -> Result<Verdict, ApplyError> {
        if expect == Expect::Any {
            return Ok(Verdict::Write);
        }
        let id = table.schema.id;
        let mut to_write = Verdict::Write;
        let earlier = self.earlier.as_ref().and_then(|e| e.get(&id)?.get(key));
        let earlier = earlier.map_or(&[][..], Vec::as_slice);
        let present = match earlier.last() {
            Some(_) if expect == Expect::Unchanged => return Ok(Verdict::Write),
            _ if expect != Expect::Unchanged && self.is_by_period(table, valid, earlier) => {
                let earlier: Vec<_> = earlier.iter().map(|e| e.is).collect();
                let valid = valid_when_recorded(valid, self.recorded);
                let stored = !self.truncated.contains(&id);
                let retained = self.retained(table);
                let of_present = valid.from >= self.recorded.micros();
                table.is_true_within(key, valid, &earlier, (stored, of_present), &retained)?
            }
            Some(earlier) => earlier.is.kind == Kind::Put,
            None if self.truncated.contains(&id) => false,
            None => {
                let horizon = table.horizon(Stamp::MAX);
                let retained = self.retained(table);
                let newest = table.newest(key, Stamp::MAX)?;
                if newest.is_none() {
                    to_write = Verdict::WriteFirst;
                }
                let newest = table.unexpired(key, newest, &retained)?;
                if expect == Expect::Unchanged {
                    let forgotten = Retained::of(&table.schema, self.previous.micros()).history;
                    let is_gone = newest.is_none() && self.begin < erased_before(self.previous);
                    if self.begin < forgotten || is_gone {
                        // A delete since then, or an erasure, may not be known any more.
                        return Err(ApplyError::Conflict {
                            table: table.schema.name.clone(),
                        });
                    }
                    let last = newest.map_or(horizon, |n| n.recorded.max(horizon));
                    return if last > self.begin {
                        Err(ApplyError::Conflict {
                            table: table.schema.name.clone(),
                        })
                    } else {
                        Ok(to_write)
                    };
                }
                newest.is_some_and(|n| n.kind == Kind::Put && n.recorded >= horizon)
            }
        };
        match (present, expect) {
            (false, _) => Ok(to_write),
            (true, Expect::AbsentOrSkip | Expect::DistinctOrSkip) => Ok(Verdict::Skip),
            (true, _) => Err(violation(&table.schema, key)?),
        }
    }

    /// Whether it depends on its period if a row may be written.
    fn is_by_period(&self, table: &TableState, valid: Option<Period>, earlier: &[Earlier]) -> bool {
        let open = valid_when_recorded(None, self.recorded);
        valid.is_some() || table.has_periods() || earlier.iter().any(|e| e.is.valid != open)
    }

    /// Whether a row may be given a period at all. What is stored does not matter: some of it
    /// may be gone when the log is replayed.
    fn check_period(&self, table: &TableState, change: &RowChange) -> Result<(), ApplyError> {
        let Some(valid) = change.valid else {
            return Ok(());
        };
        let refused = |reason: &str| {
            Err(ApplyError::Period {
                table: table.schema.name.clone(),
                reason: reason.into(),
            })
        };
        if valid.is_empty() {
            return refused("it ends before it begins");
        }
        if table.indexes.iter().any(|i| i.unique != Uniqueness::No) {
            return refused("the table has a unique index, which knows one row of a key");
        }
        if !table.schema.rules.foreign_keys.is_empty() || !table.referenced_by.is_empty() {
            return refused(
                "the table has or is the target of a foreign key, which is about what is true now",
            );
        }
        // What was true then is asked of superseded versions.
        let is_past = valid.from < self.recorded.micros();
        if is_past && !matches!(change.expect, Expect::Any | Expect::Unchanged) {
            let retained = self.retained(table);
            if retained.keep.is_some() {
                return refused(
                    "it begins in the past, and history_keep does not keep all that was true then",
                );
            }
            let horizon = retained.history;
            if horizon > Stamp::MIN && valid.from < horizon.micros() {
                return refused("it begins before the table's horizon");
            }
        }
        Ok(())
    }

    /// Notes a change of a key, which replaces those made earlier in the set as far as its
    /// period goes.
    fn remember(
        &mut self,
        table: &TableSchema,
        key: &[u8],
        is: EarlierChange,
        change: usize,
        row: usize,
    ) -> Result<(), ApplyError> {
        let Some(earlier) = &mut self.earlier else {
            return Ok(());
        };
        let earlier = earlier.entry(table.id).or_default();
        let of_key = earlier.entry(key.into()).or_default();
        of_key.retain(|before| {
            // An erasure says more than that its key is gone.
            let stays = before.is.kind == Kind::Erase && is.kind != Kind::Erase;
            let is_replaced = is.valid.covers(before.is.valid) && !stays;
            if is_replaced {
                self.leave_out[before.change][before.row] = true;
            }
            !is_replaced
        });
        if of_key.len() >= PERIODS_OF_KEY_MAX {
            let reason =
                format!("a transaction writes more than {PERIODS_OF_KEY_MAX} periods of a key");
            return Err(ApplyError::Shape {
                table: table.name.clone(),
                reason,
            });
        }
        of_key.push(Earlier { is, change, row });
        Ok(())
    }

    fn batch(&mut self, number: usize, batch: &PreparedBatch) -> Result<(), ApplyError> {
        let table = self.table(batch.table)?;
        self.shapes.check(&table.schema)?;
        self.has_unique |= table.indexes.iter().any(|i| i.is_enforced());
        if let Some(key) = &batch.duplicate {
            return Err(violation(&table.schema, &key.0)?);
        }
        let skipped = batch.skipped.iter().map(|row| batch.first_row + row);
        self.applied.skipped_rows.extend(skipped);
        self.applied.rows += (batch.rows + batch.overwritten) as u64;
        if table.schema.has_hidden_key() {
            self.first[number] = FirstVersions::All;
            return Ok(());
        }
        let by_row = batch.expect != Expect::Any && table.has_periods();
        if self.earlier.is_some() || by_row {
            return self.batch_by_row(number, batch, table);
        }
        if batch.expect == Expect::Any {
            self.first[number] = FirstVersions::all_if(table.is_apart_from(&batch.ranges));
            return Ok(());
        }
        let stored = table.stored(&batch.keys, &batch.ranges, &self.retained(table))?;
        let Some(Stored { present, unknown }) = stored else {
            self.first[number] = FirstVersions::All;
            return Ok(());
        };
        self.first[number] = unknown;
        let Some(first) = present.iter().position(|p| *p) else {
            return Ok(());
        };
        if !matches!(batch.expect, Expect::AbsentOrSkip | Expect::DistinctOrSkip) {
            return Err(violation(&table.schema, batch.keys.get(first))?);
        }
        for row in (0..batch.rows).filter(|row| present[*row]) {
            self.skip(batch, row);
        }
        self.leave_out[number] = present;
        Ok(())
    }

    fn skip(&mut self, batch: &PreparedBatch, row: usize) {
        let given = batch.order.as_ref().map_or(row as u32, |order| order[row]);
        self.applied.skipped_rows.push(batch.first_row + given);
        self.applied.rows -= 1;
    }

    fn batch_by_row(
        &mut self,
        number: usize,
        batch: &PreparedBatch,
        table: &TableState,
    ) -> Result<(), ApplyError> {
        self.leave_out[number] = vec![false; batch.rows];
        let mut first = Vec::with_capacity(batch.rows);
        for row in 0..batch.rows {
            let key = batch.keys.get(row);
            let verdict = self.verdict(table, key, batch.expect, None)?;
            first.push(matches!(verdict, Verdict::WriteFirst));
            match verdict {
                Verdict::Write | Verdict::WriteFirst => {
                    let is = EarlierChange {
                        kind: Kind::Put,
                        valid: valid_when_recorded(None, self.recorded),
                    };
                    self.remember(&table.schema, key, is, number, row)?;
                }
                Verdict::Skip => {
                    self.leave_out[number][row] = true;
                    self.skip(batch, row);
                }
            }
        }
        self.first[number] = BooleanBuffer::from(first).into();
        Ok(())
    }
}

/// Errors unless the schema of a new relation's name is there.
pub(crate) fn check_schema(catalog: &Catalog, relation: &str) -> Result<(), ApplyError> {
    match catalog.has_schema_of(relation) {
        true => Ok(()),
        false => Err(ApplyError::UnknownSchema {
            name: chronos_model::name_parts(relation).0.to_owned(),
        }),
    }
}

/// When a version is true.
fn valid_when_recorded(valid: Option<Period>, recorded: Stamp) -> Period {
    valid.unwrap_or(Period {
        from: recorded.micros(),
        to: Period::UNTIL_CHANGED,
    })
}

fn violation(schema: &TableSchema, key: &[u8]) -> Result<ApplyError, StoreError> {
    Ok(ApplyError::UniqueViolation {
        table: schema.name.clone(),
        constraint: schema.primary_key_name(),
        key: key_values(schema, key)?,
    })
}
