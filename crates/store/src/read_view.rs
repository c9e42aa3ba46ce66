//! A consistent view of the store at the stamp of the last applied commit.
//!
//! Cheap to make and to keep: it holds the state it was made from. Memtables go on
//! growing under it, but what is recorded after its stamp is not seen. Segments that
//! compaction replaces keep their files while a view uses them.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use chronos_model::{
    decode_column, decode_row, value_at, Catalog, Change, ForeignKey, IndexSchema, Key, Kind,
    NodeId, Period, Stamp, TableId, TableSchema, Value, WriteSet,
};

use crate::apply::{write, Checked};
use crate::error::{ApplyError, StoreError};
use crate::foreign_keys::{self, End};
use crate::index::{self, IndexScan, IndexScanRequest};
use crate::memtable::Memtable;
use crate::merge::Resolution;
use crate::migrate;
use crate::prepare::prepare;
use crate::retention::Retained;
use crate::scan::{
    plan, KeyRange, Order, ScanPartition, ScanRequest, ScanShape, ValidFilter, VersionFilter,
};
use crate::serial::ReadLog;
use crate::state::{Newest, Place, StoreState, TableState};

/// The store as it was at one stamp.
#[derive(Clone, Debug)]
pub struct ReadView {
    state: StoreState,
    stamp: Stamp,
    /// When it was made: what expired before is gone.
    now_micros: i64,
    /// Takes note of what is read.
    reads: Option<Arc<ReadLog>>,
}

/// A current row.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its values, on demand.
    pub row: RowData,
    /// When it was recorded.
    pub recorded: Stamp,
}

/// A stored row that is decoded as far as it is asked for.
#[derive(Clone, Debug)]
pub struct RowData {
    schema: Arc<TableSchema>,
    place: Place,
}

impl RowData {
    pub(crate) fn new(schema: Arc<TableSchema>, place: Place) -> RowData {
        RowData { schema, place }
    }

    /// The values of the given columns, by position in the schema, in that order.
    pub fn values(&self, columns: &[usize]) -> Result<Vec<Value>, StoreError> {
        let types = |c: usize| &self.schema.columns[c].data_type;
        match &self.place {
            Place::Row(bytes) => match columns {
                [only] => Ok(vec![decode_column(&self.schema, bytes, *only)?]),
                _ => {
                    let row = decode_row(&self.schema, bytes)?;
                    Ok(columns.iter().map(|c| row[*c].clone()).collect())
                }
            },
            Place::Run(run, row) => {
                let value = |c: &usize| Ok(value_at(&run.columns()[*c], *row, types(*c))?);
                columns.iter().map(value).collect()
            }
            Place::Segment(segment, page, row) => {
                let value = |c: &usize| Ok(segment.value(*page, *row, *c)?);
                columns.iter().map(value).collect()
            }
        }
    }

    /// The values of all columns.
    pub fn all_values(&self) -> Result<Vec<Value>, StoreError> {
        match &self.place {
            Place::Row(bytes) => Ok(decode_row(&self.schema, bytes)?),
            _ => self.values(&(0..self.schema.columns.len()).collect::<Vec<_>>()),
        }
    }
}

impl ReadView {
    pub(crate) fn new(state: StoreState, stamp: Stamp, now_micros: i64) -> ReadView {
        ReadView {
            state,
            stamp,
            now_micros: now_micros.max(stamp.micros()),
            reads: None,
        }
    }

    /// This view, and all that are made of it, note in `log` what is read of them.
    pub fn noting_reads(&self, log: Arc<ReadLog>) -> ReadView {
        ReadView {
            reads: Some(log),
            ..self.clone()
        }
    }

    pub(crate) fn state(&self) -> &StoreState {
        &self.state
    }

    /// When it was made, in microseconds since the epoch: what it takes for the present.
    pub fn now_micros(&self) -> i64 {
        self.now_micros
    }

    /// The stamp of the last commit it contains.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The tables it contains.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.state.catalog
    }

    /// This view with a transaction's own writes on top, as if they were committed
    /// right after it. Preconditions are not checked; the store is not changed.
    ///
    /// Errors: a table that the view does not have; damaged rows.
    pub fn with_writes(&self, set: &WriteSet) -> Result<ReadView, ApplyError> {
        let prepared = prepare(set.clone(), &self.state.catalog)?;
        // Commits differ in their microseconds, so the next stamp belongs to none.
        let recorded = Stamp(self.stamp.0.saturating_add(1));
        let state = self.state.with_tables(|tables| {
            for id in with_their_indexes(prepared.tables(), &self.state.catalog) {
                let Some(table) = tables.get(&id) else {
                    continue;
                };
                let mut own = TableState::clone(table);
                own.frozen.push(own.active.clone());
                own.active = Arc::new(Memtable::new(own.schema.clone()));
                tables.insert(id, Arc::new(own));
            }
        });
        let unchecked = Checked::unchecked(&prepared, recorded);
        write(&state, recorded, NodeId(0), &prepared, &unchecked)?;
        let reads = self.reads.clone();
        let view = ReadView::new(state, unchecked.last_stamp, self.now_micros);
        Ok(ReadView { reads, ..view })
    }

    /// This view of a transaction, which reads as of `begin`, with its own changes of the
    /// catalog; the catalog's version becomes `version`. What the transaction has written itself
    /// must not be in the view. Tables, indexes and sequences with ids from `fresh_from` on are
    /// its own.
    ///
    /// Errors: a change cannot be made; damaged rows.
    pub fn with_changes(
        &self,
        begin: Stamp,
        fresh_from: TableId,
        changes: &[Change],
        version: u64,
    ) -> Result<ReadView, ApplyError> {
        // Commits differ in their microseconds, so the next stamp belongs to none.
        let truncated_at = Stamp(begin.0.saturating_add(1));
        let (state, truncates) = migrate::overlaid(
            &self.state,
            begin,
            truncated_at,
            fresh_from,
            changes,
            version,
        )?;
        let stamp = match truncates {
            true => self.stamp.max(truncated_at),
            false => self.stamp,
        };
        let reads = self.reads.clone();
        let view = ReadView::new(state, stamp, self.now_micros);
        Ok(ReadView { reads, ..view })
    }

    /// Bytes of a table that are in memory, and have to be copied when its columns change in a
    /// view.
    pub fn bytes_in_memory(&self, table: TableId) -> u64 {
        let table = self.state.tables.get(&table);
        table.map_or(0, |table| table.memtables().map(|m| m.bytes()).sum())
    }

    pub(crate) fn retained(&self, table: &TableState) -> Retained {
        Retained::of(&table.schema, self.now_micros)
    }

    /// Errors unless statements that were planned for a table's schema can read the view.
    pub fn check_shape(&self, table: &TableSchema) -> Result<(), StoreError> {
        self.shaped_table(table).map(drop)
    }

    /// A table of which anything may be read from now on.
    fn table(&self, schema: &TableSchema) -> Result<&Arc<TableState>, StoreError> {
        let table = self.shaped_table(schema)?;
        if let Some(reads) = &self.reads {
            reads.note_table(&table.schema)?;
        }
        Ok(table)
    }

    /// A table of which nothing but a key is read.
    fn table_for(&self, schema: &TableSchema, key: &[u8]) -> Result<&Arc<TableState>, StoreError> {
        let table = self.shaped_table(schema)?;
        if let Some(reads) = &self.reads {
            reads.note_key(&table.schema, key)?;
        }
        Ok(table)
    }

    fn shaped_table(&self, schema: &TableSchema) -> Result<&Arc<TableState>, StoreError> {
        let table = self.table_by_id(schema.id, &schema.name)?;
        // Columns are asked for by position.
        match table.schema.shape.version == schema.shape.version {
            true => Ok(table),
            false => Err(StoreError::Reshaped {
                table: table.schema.name.clone(),
            }),
        }
    }

    fn table_by_id(&self, id: TableId, name: &str) -> Result<&Arc<TableState>, StoreError> {
        let found = self.state.tables.get(&id);
        let table = found.ok_or_else(|| StoreError::UnknownTable {
            name: name.to_owned(),
        })?;
        match &table.held_back {
            None => Ok(table),
            Some(reason) => Err(StoreError::HeldBack {
                table: name.to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    fn indexed_table(&self, index: &IndexSchema) -> Result<&Arc<TableState>, StoreError> {
        let schema = self.state.catalog.table_by_id(index.table);
        let name = schema.map_or(&index.name, |schema| &schema.name);
        let table = self.table_by_id(index.table, name)?;
        if let Some(reads) = &self.reads {
            reads.note_table(&table.schema)?;
        }
        Ok(table)
    }

    /// The current row of a key.
    pub fn get(&self, table: &TableSchema, key: &[u8]) -> Result<Option<Found>, StoreError> {
        let table = self.table_for(table, key)?;
        let retained = self.retained(table);
        let found = match table.has_periods() {
            false => {
                let found = table.newest_retained(key, self.stamp, &retained)?;
                found.map(|newest| table.keep(key, newest))
            }
            true => table.row_at(key, self.stamp, self.now_micros, &retained)?,
        };
        Ok(found.filter(|n| n.kind == Kind::Put).map(
            |Newest {
                 recorded, place, ..
             }| Found {
                row: RowData {
                    schema: table.schema.clone(),
                    place,
                },
                recorded,
            },
        ))
    }

    /// What is true of a key in a period: when, and the row's values.
    pub fn pieces(
        &self,
        table: &TableSchema,
        key: &[u8],
        valid: Period,
    ) -> Result<Vec<(Period, Vec<Value>)>, StoreError> {
        let table = self.table(table)?;
        table.pieces_within(key, self.stamp, valid, &self.retained(table))
    }

    /// Stamp and kind of the newest version of a key, be it a put or a delete. A
    /// truncation counts as a delete of all that was there before it.
    pub fn newest(
        &self,
        table: &TableSchema,
        key: &[u8],
    ) -> Result<Option<(Stamp, Kind)>, StoreError> {
        let table = self.table(table)?;
        let horizon = table.horizon(self.stamp);
        let found = table.newest_unexpired(key, self.stamp, &self.retained(table))?;
        Ok(found.map(|n| {
            if n.recorded < horizon {
                (horizon, Kind::Delete)
            } else {
                (n.recorded, n.kind)
            }
        }))
    }

    /// The rows of a table that a request asks for, in the order of an index, which must
    /// be valid in this view's catalog.
    pub fn index_scan(
        &self,
        index: &Arc<IndexSchema>,
        request: &IndexScanRequest,
    ) -> Result<IndexScan, StoreError> {
        let table = self.indexed_table(index)?;
        let retained = self.retained(table);
        check_horizon(
            &table.schema,
            request.filter,
            request.valid,
            retained.horizon,
        )?;
        let shape = ScanShape::new(
            table.schema.clone(),
            &request.columns,
            self.resolution(request.filter),
            self.stamp,
            table.truncated.clone(),
            retained,
        )
        .with_valid(request.valid, table.has_periods(), self.now_micros);
        let entry_table = Arc::new(index.entry_table());
        let mut entries = Vec::new();
        for range in &request.ranges {
            let of_range = ScanRequest {
                columns: index::ENTRY.to_vec(),
                key_range: range.clone(),
                batch_rows: request.batch_rows,
                ..ScanRequest::default()
            };
            entries.extend(self.scan(&entry_table, of_range)?);
        }
        let index = index.clone();
        Ok(IndexScan::new(
            index,
            table.clone(),
            shape,
            entries,
            request,
        ))
    }

    /// How many entries of an index are in some ranges, counting no further than `enough`.
    /// Rows are at most as many, unless a scan returns more than one version of each.
    pub fn count_entries(
        &self,
        index: &IndexSchema,
        ranges: &[KeyRange],
        enough: u64,
    ) -> Result<u64, StoreError> {
        let Some(entries) = self.state.tables.get(&index.id) else {
            return Ok(0);
        };
        let mut sum = 0;
        for range in ranges {
            sum += index::count(entries, range, enough)?;
            if sum >= enough {
                break;
            }
        }
        Ok(sum)
    }

    /// The key of the current row that has the same values in a unique index as `row`, all
    /// values of a row of its table; rows with keys in `replaced` do not count.
    pub fn holder(
        &self,
        index: &IndexSchema,
        row: &[Value],
        replaced: &HashSet<Key>,
    ) -> Result<Option<Key>, StoreError> {
        let table = self.indexed_table(index)?;
        let prefix = index.prefix_of_row(&table.schema, row)?;
        let Some(prefix) = prefix.filter(|p| !p.has_null) else {
            return Ok(None);
        };
        let replaced = |key: &[u8]| replaced.contains(key);
        let seen = index::SeenAt {
            view: self.stamp,
            retained: self.retained(table),
        };
        let found = index::holder(&self.state, table, index, &prefix.bytes, &seen, replaced)?;
        Ok(found.map(Key))
    }

    /// Checks foreign keys as if a write set were applied to what this view shows. `asked`
    /// chooses, by the constraint and the end at which a row is written.
    pub fn check_foreign_keys(
        &self,
        set: &WriteSet,
        asked: impl Fn(&ForeignKey, End) -> bool,
    ) -> Result<(), ApplyError> {
        let prepared = prepare(set.clone(), &self.state.catalog)?;
        foreign_keys::check(&self.at(), &prepared, &[], &[], asked)
    }

    /// Calls `visit` with the keys and values of the current rows that refer to a row, all values
    /// of a row of `parent`, by a foreign key of a table; with some of them more than once,
    /// perhaps.
    pub fn for_each_referring(
        &self,
        child: &TableSchema,
        key: &ForeignKey,
        parent: &TableSchema,
        row: &[Value],
        mut visit: impl FnMut(Key, Vec<Value>) -> ControlFlow<()>,
    ) -> Result<(), ApplyError> {
        let child = self.table(child)?;
        self.at()
            .for_each_child(parent, child, key, row, |key, row| {
                Ok(match visit(Key(key.into()), row.all_values()?) {
                    ControlFlow::Continue(()) => foreign_keys::Search::GoesOn,
                    ControlFlow::Break(()) => foreign_keys::Search::Ends,
                })
            })
    }

    fn at(&self) -> foreign_keys::At<'_> {
        foreign_keys::At {
            state: &self.state,
            view: self.stamp,
            now_micros: self.now_micros,
        }
    }

    /// The versions that a request asks for, as at most `request.partitions`
    /// iterators; the keys of each follow those of the one before.
    pub fn scan(
        &self,
        table: &Arc<TableSchema>,
        request: ScanRequest,
    ) -> Result<Vec<ScanPartition>, StoreError> {
        self.scan_in(table, request, Order::ByKey)
    }

    /// As [`scan`](Self::scan), but from the last key to the first within each iterator.
    pub fn scan_descending(
        &self,
        table: &Arc<TableSchema>,
        request: ScanRequest,
    ) -> Result<Vec<ScanPartition>, StoreError> {
        self.scan_in(table, request, Order::ByKeyDescending)
    }

    /// As [`scan`](Self::scan), but in no order: sources whose keys interleave without
    /// meeting, as segments of readings at different times do, need no merge then.
    pub fn scan_unordered(
        &self,
        table: &Arc<TableSchema>,
        request: ScanRequest,
    ) -> Result<Vec<ScanPartition>, StoreError> {
        self.scan_in(table, request, Order::Any)
    }

    fn resolution(&self, filter: VersionFilter) -> Resolution {
        match filter {
            VersionFilter::Current => Resolution::Snapshot { at: self.stamp },
            VersionFilter::AsOf(at) => Resolution::Snapshot {
                at: at.min(self.stamp),
            },
            VersionFilter::Between {
                from,
                to,
                inclusive_to,
            } => Resolution::History {
                from,
                to,
                inclusive_to,
            },
            VersionFilter::All => Resolution::History {
                from: Stamp::MIN,
                to: Stamp::MAX,
                inclusive_to: true,
            },
        }
    }

    fn scan_in(
        &self,
        table: &Arc<TableSchema>,
        request: ScanRequest,
        order: Order,
    ) -> Result<Vec<ScanPartition>, StoreError> {
        let state = self.table(table)?;
        let retained = self.retained(state);
        check_horizon(table, request.filter, request.valid, retained.horizon)?;
        let resolution = self.resolution(request.filter);
        let shape = ScanShape::new(
            state.schema.clone(),
            &request.columns,
            resolution,
            self.stamp,
            state.truncated.clone(),
            retained,
        )
        .with_valid(request.valid, state.has_periods(), self.now_micros);
        let sources = state.sources_for(&shape);
        Ok(plan(sources, shape, &request, order))
    }

    /// Whether versions of the table are true for periods of their own.
    pub fn has_periods(&self, table: &TableSchema) -> bool {
        let state = self.state.tables.get(&table.id);
        state.is_some_and(|state| state.has_periods())
    }

    /// How many current rows the table has, and whether that is exact.
    pub fn table_rows_estimate(&self, table: &TableSchema) -> (u64, bool) {
        let Ok(state) = self.table(table) else {
            return (0, false);
        };
        let request = ScanRequest::default();
        let resolution = Resolution::Snapshot { at: self.stamp };
        let shape = ScanShape::new(
            state.schema.clone(),
            &[],
            resolution,
            self.stamp,
            state.truncated.clone(),
            self.retained(state),
        )
        .with_valid(ValidFilter::Now, state.has_periods(), self.now_micros);
        let sources = state.sources_for(&shape);
        let partitions = plan(sources, shape, &request, Order::Any);
        let exact: Option<u64> = partitions.iter().map(ScanPartition::exact_rows).sum();
        if let Some(rows) = exact {
            return (rows, true);
        }
        let in_memory: u64 = state.memtables().map(|m| m.versions()).sum();
        let deletes: u64 = state.memtables().map(|m| m.rows.deletes()).sum();
        let in_segments: u64 = state.segments.iter().map(|s| s.meta().rows).sum();
        // A delete takes away itself and the row it deletes.
        ((in_memory + in_segments).saturating_sub(2 * deletes), false)
    }

    /// Whether no version of any row is stored of a table, current or past.
    pub fn is_blank(&self, table: &TableSchema) -> Result<bool, StoreError> {
        Ok(self.table(table)?.last_recorded() == Stamp::MIN)
    }

    /// How many versions of a table may be current: at least as many as it has rows. Costs
    /// no look at pages.
    pub fn table_versions(&self, table: &TableSchema) -> u64 {
        let Ok(state) = self.table(table) else {
            return 0;
        };
        let in_memory: u64 = state.memtables().map(|m| m.versions()).sum();
        let in_segments: u64 = state.segments.iter().map(|s| s.meta().rows).sum();
        in_memory + in_segments
    }

    /// Ids of the tables in it, those just dropped excluded.
    pub fn table_ids(&self) -> HashSet<TableId> {
        self.state.tables.keys().copied().collect()
    }
}

/// Refuses to read what may be gone.
fn check_horizon(
    table: &TableSchema,
    filter: VersionFilter,
    valid: ValidFilter,
    horizon: Stamp,
) -> Result<(), StoreError> {
    let system = match filter {
        VersionFilter::AsOf(at) => at,
        VersionFilter::Between { from, .. } => from,
        VersionFilter::Current | VersionFilter::All => Stamp::MAX,
    };
    // What was superseded so long ago may have been the last to say what was true then.
    let valid = match valid {
        ValidFilter::AsOf(moment) => Stamp::last_of_micros(moment),
        ValidFilter::Between { from, .. } => Stamp::last_of_micros(from),
        ValidFilter::Now | ValidFilter::All | ValidFilter::Written => Stamp::MAX,
    };
    let asked = system.min(valid);
    if asked >= horizon {
        return Ok(());
    }
    Err(StoreError::BeforeHorizon {
        table: table.name.clone(),
        asked,
        horizon,
    })
}

/// Tables and their secondary indexes.
fn with_their_indexes(tables: BTreeSet<TableId>, catalog: &Catalog) -> Vec<TableId> {
    let indexes = tables.iter().flat_map(|id| catalog.indexes_of(*id));
    let indexes: Vec<TableId> = indexes.map(|index| index.id).collect();
    tables.into_iter().chain(indexes).collect()
}
