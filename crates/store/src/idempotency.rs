//! Applying a write set once: its key is looked up before anything of it is checked, and noted
//! in the same step in which its rows are written.
//!
//! Both follow from the log and its stamps alone, the end of a key's time too: so a replay, every
//! replica, and whoever was given a checkpoint answer alike. A set that is refused notes nothing.

use chronos_model::{NodeId, Once, Remembered, Stamp, IDEMPOTENCY_TABLE};

use crate::error::{ApplyError, StoreError};
use crate::log::LogIndex;
use crate::read_view::{ReadView, RowData};
use crate::retention::Retained;
use crate::state::StoreState;

/// What a write set did when it was applied before; `None`: it was not, as far as is known.
///
/// Errors: the key is that of another request.
pub(crate) fn before(
    state: &StoreState,
    once: &Once,
    recorded: Stamp,
) -> Result<Option<Remembered>, ApplyError> {
    let found = find(state, &once.key, Stamp::MAX, recorded.micros())?;
    match found {
        Some(found) if found.fingerprint != once.fingerprint => Err(ApplyError::KeyReused {
            key: once.key.clone(),
        }),
        found => Ok(found),
    }
}

/// Remembers a write set that was applied to a state; returns the bytes that it takes.
pub(crate) fn note(
    state: &StoreState,
    once: &Once,
    index: LogIndex,
    recorded: Stamp,
    node: NodeId,
    rows: u64,
) -> u64 {
    let Some(table) = state.tables.get(&IDEMPOTENCY_TABLE) else {
        return 0;
    };
    let row = once.row(&state.catalog.idempotency, index.0, recorded, rows);
    let Some(row) = row else {
        return 0;
    };
    // An earlier use of the key may be there that is over.
    table.active.insert(&row.key.0, &row, recorded, node, false)
}

fn find(
    state: &StoreState,
    key: &str,
    view: Stamp,
    now_micros: i64,
) -> Result<Option<Remembered>, StoreError> {
    let keys = &state.catalog.idempotency;
    let (Some(key), Some(table)) = (keys.key_of(key), state.tables.get(&IDEMPOTENCY_TABLE)) else {
        return Ok(None);
    };
    if let Some(reason) = &table.held_back {
        return Err(StoreError::HeldBack {
            table: table.schema.name.clone(),
            reason: reason.clone(),
        });
    }
    let retained = Retained::of(&table.schema, now_micros);
    let Some(newest) = table.newest_retained(&key.0, view, &retained)? else {
        return Ok(None);
    };
    let row = RowData::new(table.schema.clone(), newest.place);
    Ok(Remembered::of_row(&row.all_values()?))
}

impl ReadView {
    /// What was done with an idempotency key, if it is remembered.
    pub fn remembered(&self, key: &str) -> Result<Option<Remembered>, StoreError> {
        find(self.state(), key, self.stamp(), self.now_micros())
    }
}
