//! The naive store that the real one is compared with: of each key all versions, in a list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chronos_model::{decode_row, value_at};
use chronos_model::{
    CatalogEdit, Change, Expect, Kind, Stamp, TableId, TableSchema, Value, WriteSet,
};
use chronos_store::{KeyRange, VersionFilter};

use crate::fixture::{key_of, Shown};

#[derive(Clone, Debug)]
struct Version {
    recorded: Stamp,
    row: Option<Arc<Vec<Value>>>,
}

#[derive(Clone, Debug)]
struct Table {
    schema: Arc<TableSchema>,
    /// Versions of each key, oldest first.
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    truncated: Vec<Stamp>,
}

/// Clones share the tables until they are changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    tables: BTreeMap<TableId, Arc<Table>>,
    next_id: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refused {
    Unique(Vec<Value>),
    Conflict,
    UnknownTable,
    DuplicateTable,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Done {
    pub(crate) rows: u64,
    pub(crate) skipped: Vec<u32>,
}

impl Table {
    /// Gives all versions, old ones too, the columns of another schema.
    fn alter(&mut self, schema: &TableSchema) {
        let value = |row: &[Value], i: usize| {
            let column = &schema.columns[i];
            match self.schema.position_of(schema.column_id(i)) {
                Some(before) => row[before].clone().coerce(&column.data_type).unwrap(),
                None => column.missing_value().unwrap(),
            }
        };
        for version in self.keys.values_mut().flatten() {
            if let Some(row) = &version.row {
                let columns = 0..schema.columns.len();
                version.row = Some(Arc::new(columns.map(|i| value(row, i)).collect()));
            }
        }
        self.schema = Arc::new(schema.clone());
    }

    fn horizon(&self, at: Stamp) -> Stamp {
        let before = self.truncated.iter().filter(|t| **t <= at);
        before.max().copied().unwrap_or(Stamp::MIN)
    }

    fn newest(&self, key: &[u8], at: Stamp) -> Option<&Version> {
        let versions = self.keys.get(key)?.iter();
        versions.rev().find(|v| v.recorded <= at)
    }

    /// When version `i` of a key ended, as far as a view knows.
    fn ended(&self, versions: &[Version], i: usize, view: Stamp) -> Stamp {
        let recorded = versions[i].recorded;
        let newer = versions[i + 1..].iter().map(|v| v.recorded);
        let truncated = self.truncated.iter().copied();
        let ends = newer
            .chain(truncated)
            .filter(|end| *end > recorded && *end <= view);
        ends.min().unwrap_or(Stamp::MAX)
    }

    fn put(&mut self, key: Vec<u8>, recorded: Stamp, row: Option<Vec<Value>>) {
        let row = row.map(Arc::new);
        let versions = self.keys.entry(key).or_default();
        versions.retain(|v| v.recorded != recorded);
        versions.push(Version { recorded, row });
    }
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            next_id: 1,
            ..Model::default()
        }
    }

    pub(crate) fn tables(&self) -> Vec<Arc<TableSchema>> {
        self.tables.values().map(|t| t.schema.clone()).collect()
    }

    pub(crate) fn apply(&mut self, recorded: Stamp, set: &WriteSet) -> Result<Done, Refused> {
        let mut next = self.clone();
        let mut done = Done::default();
        let mut position = 0;
        let mut own = BTreeSet::new();
        for change in &set.changes {
            next.change(
                change,
                recorded,
                set.begin,
                &mut position,
                &mut own,
                &mut done,
            )?;
        }
        done.skipped.sort_unstable();
        *self = next;
        Ok(done)
    }

    fn change(
        &mut self,
        change: &Change,
        recorded: Stamp,
        begin: Stamp,
        position: &mut u32,
        own: &mut BTreeSet<(TableId, Vec<u8>)>,
        done: &mut Done,
    ) -> Result<(), Refused> {
        let (id, changes) = match change {
            Change::CreateTable(schema) => {
                if self.tables.values().any(|t| t.schema.name == schema.name) {
                    return Err(Refused::DuplicateTable);
                }
                let id = TableId(self.next_id);
                self.next_id += 1;
                let schema = Arc::new(TableSchema {
                    id,
                    ..schema.clone()
                });
                let table = Table {
                    schema,
                    keys: BTreeMap::new(),
                    truncated: Vec::new(),
                };
                self.tables.insert(id, Arc::new(table));
                return Ok(());
            }
            Change::DropTable(id) => {
                return match self.tables.remove(id) {
                    Some(_) => Ok(()),
                    None => Err(Refused::UnknownTable),
                };
            }
            Change::Truncate(id) => {
                let table = self.tables.get_mut(id).ok_or(Refused::UnknownTable)?;
                let table = Arc::make_mut(table);
                for versions in table.keys.values_mut() {
                    versions.retain(|v| v.recorded < recorded);
                }
                table.truncated.push(recorded);
                return Ok(());
            }
            Change::AlterOptions(id, changes) => {
                let table = self.tables.get_mut(id).ok_or(Refused::UnknownTable)?;
                let table = Arc::make_mut(table);
                let mut schema = TableSchema::clone(&table.schema);
                schema.options = schema.options.changed(changes, recorded.micros());
                table.schema = Arc::new(schema);
                return Ok(());
            }
            Change::CreateIndex(_) => {
                // Indexes change no rows, but take their ids from the same numbers.
                self.next_id += 1;
                return Ok(());
            }
            Change::DropIndex(_) | Change::GiveUpIndex(_) | Change::SetIndexState(..) => {
                return Ok(());
            }
            Change::ExpectShape(..)
            | Change::ExpectReads(_)
            | Change::Once(_)
            | Change::CreateSequence(_)
            | Change::ReserveNumbers(..)
            | Change::SetSequence(..) => return Ok(()),
            Change::Catalog(change) => {
                for edit in &change.edits {
                    if let CatalogEdit::Table(schema) = edit {
                        let table = self.tables.get_mut(&schema.id);
                        Arc::make_mut(table.ok_or(Refused::UnknownTable)?).alter(schema);
                    }
                }
                return Ok(());
            }
            Change::Migrate(migration) => {
                for change in &migration.changes {
                    self.change(change, recorded, begin, position, own, done)?;
                }
                return Ok(());
            }
            Change::Rows(rows) => {
                let table = self.tables.get(&rows.table).ok_or(Refused::UnknownTable)?;
                let row = |r: &chronos_model::RowChange| {
                    let values = match r.kind {
                        Kind::Put => Some(decode_row(&table.schema, &r.row).unwrap()),
                        Kind::Delete => None,
                        Kind::Erase => panic!("erasures are asked for elsewhere"),
                    };
                    (r.key.0.to_vec(), r.expect, values)
                };
                (rows.table, rows.rows.iter().map(row).collect::<Vec<_>>())
            }
            Change::Batch(b) => {
                let table = self.tables.get(&b.table).ok_or(Refused::UnknownTable)?;
                let row = |i: usize| {
                    let columns = b.batch.columns().iter().zip(&table.schema.columns);
                    let values: Vec<_> = columns
                        .map(|(array, c)| value_at(array, i, &c.data_type).unwrap())
                        .collect();
                    let key = if table.schema.has_hidden_key() {
                        Vec::new()
                    } else {
                        key_of(&table.schema, &values)
                    };
                    (key, b.expect, Some(values))
                };
                (b.table, (0..b.batch.num_rows()).map(row).collect())
            }
        };
        let table = self.tables.get_mut(&id).ok_or(Refused::UnknownTable)?;
        let table = Arc::make_mut(table);
        for (mut key, expect, row) in changes {
            let at = *position;
            *position += 1;
            if key.is_empty() {
                key = recorded.0.to_be_bytes().to_vec();
                key.extend_from_slice(&u64::from(at).to_be_bytes());
                table.put(key, recorded, row);
                done.rows += 1;
                continue;
            }
            let horizon = table.horizon(Stamp::MAX);
            let newest = table.newest(&key, Stamp::MAX);
            let present = newest.is_some_and(|v| v.row.is_some() && v.recorded >= horizon);
            let changed = newest.map_or(horizon, |v| v.recorded.max(horizon));
            match expect {
                Expect::Absent if present => {
                    let key = chronos_model::key_values(&table.schema, &key).unwrap();
                    return Err(Refused::Unique(key));
                }
                Expect::AbsentOrSkip | Expect::DistinctOrSkip if present => {
                    done.skipped.push(at);
                    continue;
                }
                Expect::Unchanged
                    if changed > begin
                        && changed != recorded
                        && !own.contains(&(id, key.clone())) =>
                {
                    return Err(Refused::Conflict);
                }
                _ => {}
            }
            own.insert((id, key.clone()));
            table.put(key, recorded, row);
            done.rows += 1;
        }
        Ok(())
    }

    pub(crate) fn get(&self, id: TableId, key: &[u8], view: Stamp) -> Option<(Vec<Value>, Stamp)> {
        let table = &self.tables[&id];
        let newest = table.newest(key, view)?;
        let row = newest.row.as_ref()?;
        let is_seen = newest.recorded >= table.horizon(view);
        is_seen.then(|| (row.to_vec(), newest.recorded))
    }

    pub(crate) fn scan(
        &self,
        id: TableId,
        filter: VersionFilter,
        range: &KeyRange,
        view: Stamp,
    ) -> Vec<Shown> {
        use std::ops::RangeBounds;
        let table = &self.tables[&id];
        let keys = (range.lower.clone(), range.upper.clone());
        let mut shown = Vec::new();
        for (key, versions) in table.keys.iter().filter(|(key, _)| keys.contains(*key)) {
            for i in (0..versions.len()).rev() {
                let Version { recorded, row } = &versions[i];
                let ended = table.ended(versions, i, view);
                let overlaps = match filter {
                    VersionFilter::Current => ended > view,
                    VersionFilter::AsOf(at) => *recorded <= at.min(view) && ended > at.min(view),
                    VersionFilter::All => true,
                    VersionFilter::Between {
                        from,
                        to,
                        inclusive_to,
                    } => ended > from && (*recorded < to || (inclusive_to && *recorded == to)),
                };
                let Some(row) = row.as_ref().filter(|_| overlaps && *recorded <= view) else {
                    continue;
                };
                shown.push(Shown {
                    key: key.clone(),
                    from: recorded.micros(),
                    to: (ended != Stamp::MAX).then(|| ended.micros()),
                    values: row.to_vec(),
                });
            }
        }
        shown
    }
}
