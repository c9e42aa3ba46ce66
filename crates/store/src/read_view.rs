//! A consistent view of the store at the stamp of the last applied commit.
//!
//! Cheap to make and to keep: it holds the state it was made from. Memtables go on
//! growing under it, but what is recorded after its stamp is not seen. Segments that
//! compaction replaces keep their files while a view uses them.

use std::collections::HashSet;
use std::sync::Arc;

use chronos_model::{
    decode_column, decode_row, value_at, Catalog, Kind, NodeId, Stamp, TableId, TableSchema, Value,
    WriteSet,
};

use crate::apply::{write, Checked};
use crate::error::{ApplyError, StoreError};
use crate::memtable::Memtable;
use crate::merge::Resolution;
use crate::prepare::prepare;
use crate::scan::{plan, Order, ScanPartition, ScanRequest, ScanShape, VersionFilter};
use crate::segment::PageColumn;
use crate::state::{Newest, Place, StoreState, TableState};

/// The store as it was at one stamp.
#[derive(Clone, Debug)]
pub struct ReadView {
    state: StoreState,
    stamp: Stamp,
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
                let wanted: Vec<_> = columns.iter().map(|c| PageColumn::Column(*c)).collect();
                let arrays = segment.read_rows(*page, &[*row], &wanted)?;
                let value = |(array, c): (&arrow_array::ArrayRef, &usize)| {
                    Ok(value_at(array, 0, types(*c))?)
                };
                arrays.iter().zip(columns).map(value).collect()
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
    pub(crate) fn new(state: StoreState, stamp: Stamp) -> ReadView {
        ReadView { state, stamp }
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
        let prepared = prepare(set, &self.state.catalog)?;
        // Commits differ in their microseconds, so the next stamp belongs to none.
        let recorded = Stamp(self.stamp.0.saturating_add(1));
        let state = self.state.with_tables(|tables| {
            for id in prepared.tables() {
                let Some(table) = tables.get(&id) else {
                    continue;
                };
                let mut own = TableState::clone(table);
                own.frozen.push(own.active.clone());
                own.active = Arc::new(Memtable::new(own.schema.clone()));
                tables.insert(id, Arc::new(own));
            }
        });
        let unchecked = Checked::unchecked(&prepared);
        write(&state, recorded, NodeId(0), &prepared, &unchecked)?;
        Ok(ReadView::new(state, recorded))
    }

    fn table(&self, schema: &TableSchema) -> Result<&Arc<TableState>, StoreError> {
        let found = self.state.tables.get(&schema.id);
        found.ok_or_else(|| StoreError::UnknownTable {
            name: schema.name.clone(),
        })
    }

    /// The current row of a key.
    pub fn get(&self, table: &TableSchema, key: &[u8]) -> Result<Option<Found>, StoreError> {
        let table = self.table(table)?;
        let horizon = table.horizon(self.stamp);
        let found = table.newest(key, self.stamp)?;
        Ok(found
            .filter(|n| n.kind == Kind::Put && n.recorded >= horizon)
            .map(
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

    /// Stamp and kind of the newest version of a key, be it a put or a delete. A
    /// truncation counts as a delete of all that was there before it.
    pub fn newest(
        &self,
        table: &TableSchema,
        key: &[u8],
    ) -> Result<Option<(Stamp, Kind)>, StoreError> {
        let table = self.table(table)?;
        let horizon = table.horizon(self.stamp);
        let found = table.newest(key, self.stamp)?;
        Ok(found.map(|n| {
            if n.recorded < horizon {
                (horizon, Kind::Delete)
            } else {
                (n.recorded, n.kind)
            }
        }))
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

    fn scan_in(
        &self,
        table: &Arc<TableSchema>,
        request: ScanRequest,
        order: Order,
    ) -> Result<Vec<ScanPartition>, StoreError> {
        let state = self.table(table)?;
        let resolution = match request.filter {
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
        };
        let shape = ScanShape::new(
            state.schema.clone(),
            &request.columns,
            resolution,
            self.stamp,
            state.truncated.clone(),
        );
        let sources = state.sources(resolution, shape.wants);
        Ok(plan(sources, shape, &request, order))
    }

    /// How many current rows the table has, and whether that is exact.
    pub fn table_rows_estimate(&self, table: &TableSchema) -> (u64, bool) {
        let Ok(state) = self.table(table) else {
            return (0, true);
        };
        let request = ScanRequest::default();
        let resolution = Resolution::Snapshot { at: self.stamp };
        let shape = ScanShape::new(
            state.schema.clone(),
            &[],
            resolution,
            self.stamp,
            state.truncated.clone(),
        );
        let sources = state.sources(resolution, shape.wants);
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

    /// Ids of the tables in it, those just dropped excluded.
    pub fn table_ids(&self) -> HashSet<TableId> {
        self.state.tables.keys().copied().collect()
    }
}
