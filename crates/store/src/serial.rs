//! Serializable transactions: what they have read is noted, and must be as it was when they
//! commit.
//!
//! ```text
//!   view --reads--> log: tables, or keys of tables
//!   COMMIT: write set with these -> apply: nothing recorded of them after its begin? -> or 40001
//! ```
//!
//! So a transaction that is applied has read what it would have read at that moment: those that
//! are applied come one after the other, in the order of the log. Who writes nothing has read one
//! moment of the log and need not be looked at. Conditions, ranges and indexes count as reads of
//! the whole table; a table that had no such row has none still.
//!
//! What is looked at must not go away with time, or a replay might answer otherwise. Nothing
//! ever does of a table that neither rows nor history are let go of; other tables are not read.

use std::collections::{BTreeMap, BTreeSet};

use chronos_model::{Key, ReadSet, Stamp, TableId, TableSchema, TRANSACTIONS_TABLE};
use parking_lot::Mutex;

use crate::erase::erased_before;
use crate::error::{ApplyError, StoreError};
use crate::state::StoreState;

/// Keys of a table beyond which it counts as read as a whole.
const KEYS_MAX: usize = 4096;

/// What was read of some views.
#[derive(Debug, Default)]
pub struct ReadLog(Mutex<BTreeMap<TableId, Noted>>);

#[derive(Debug)]
enum Noted {
    Keys(BTreeSet<Box<[u8]>>),
    Whole,
}

impl ReadLog {
    pub(crate) fn note_table(&self, table: &TableSchema) -> Result<(), StoreError> {
        check_keeps_all(table)?;
        self.0.lock().insert(table.id, Noted::Whole);
        Ok(())
    }

    pub(crate) fn note_key(&self, table: &TableSchema, key: &[u8]) -> Result<(), StoreError> {
        check_keeps_all(table)?;
        let mut log = self.0.lock();
        let noted = log
            .entry(table.id)
            .or_insert_with(|| Noted::Keys(BTreeSet::new()));
        if let Noted::Keys(keys) = noted {
            keys.insert(key.into());
            if keys.len() > KEYS_MAX {
                *noted = Noted::Whole;
            }
        }
        Ok(())
    }

    /// What was read so far of tables with ids below `fresh_from`, in a catalog of a version.
    pub fn read_set(&self, base: u64, fresh_from: TableId) -> ReadSet {
        let log = self.0.lock();
        let mut set = ReadSet {
            base,
            ..ReadSet::default()
        };
        for (id, noted) in log.range(..fresh_from) {
            match noted {
                Noted::Whole => set.tables.push(*id),
                Noted::Keys(keys) => {
                    let keys = keys.iter().map(|key| (*id, Key(key.clone())));
                    set.keys.extend(keys);
                }
            }
        }
        set
    }
}

fn check_keeps_all(table: &TableSchema) -> Result<(), StoreError> {
    match keeps_all(table) {
        true => Ok(()),
        false => Err(StoreError::NotSerializable {
            table: table.name.clone(),
        }),
    }
}

/// Whether nothing of a table is ever let go of, or was; and it is none that every commit
/// writes.
fn keeps_all(table: &TableSchema) -> bool {
    if table.id == TRANSACTIONS_TABLE {
        return false;
    }
    let options = &table.options;
    options.shortest_micros().is_none()
        && options.history_keep.is_none()
        && options.floors == Default::default()
}

/// Whether nothing was recorded after `begin` of what was read. `previous`: the last commit.
///
/// Errors: something was, or it cannot be known.
pub(crate) fn check(
    state: &StoreState,
    reads: &ReadSet,
    begin: Stamp,
    previous: Stamp,
) -> Result<(), ApplyError> {
    if reads.base != state.catalog.version {
        return Err(ApplyError::CatalogConflict);
    }
    let conflict = |name: &str| {
        Err(ApplyError::Conflict {
            table: name.to_owned(),
        })
    };
    // An erasure since then may not be known any more.
    let is_too_old = begin < erased_before(previous);
    for id in reads.of_tables() {
        let table = state.tables.get(&id);
        let table = table.ok_or(ApplyError::UnknownTable { id })?;
        let truncated = table.truncated.last().is_some_and(|at| *at > begin);
        if truncated || is_too_old || !keeps_all(&table.schema) {
            return conflict(&table.schema.name);
        }
    }
    for id in &reads.tables {
        let table = &state.tables[id];
        if table.last_recorded() > begin {
            return conflict(&table.schema.name);
        }
    }
    for (id, key) in &reads.keys {
        let table = &state.tables[id];
        let newest = table.newest(&key.0, Stamp::MAX)?;
        if newest.is_some_and(|newest| newest.recorded > begin) {
            return conflict(&table.schema.name);
        }
    }
    Ok(())
}
