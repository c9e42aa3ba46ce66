//! Noting transactions that are applied, in the table that the catalog names for it.

use chronos_model::{Author, Catalog, Stamp, TableId, Transaction, TRANSACTIONS_TABLE};

use crate::apply::Checked;
use crate::log::LogIndex;
use crate::prepare::{Prepared, PreparedWriteSet};
use crate::state::StoreState;

/// Notes a write set that was applied to a state; returns the bytes that it takes.
///
/// What changes neither rows nor tables (the node gives out numbers of a sequence, an index is
/// ready) is no transaction of anybody's.
pub(crate) fn note(
    state: &StoreState,
    index: LogIndex,
    recorded: Stamp,
    author: &Author,
    set: &PreparedWriteSet,
    checked: &Checked,
) -> u64 {
    let Some(log) = state.catalog.transactions.as_ref().filter(|l| l.enabled) else {
        return 0;
    };
    let Some(table) = state.tables.get(&TRANSACTIONS_TABLE) else {
        return 0;
    };
    let tables = names(set, &state.catalog, checked);
    if tables.is_empty() {
        return 0;
    }
    let transaction = Transaction {
        id: index.0,
        recorded,
        node: author.node,
        user: author.user.as_deref(),
        tables,
        rows: checked.applied.rows,
    };
    let Some(row) = transaction.row(&log.table) else {
        return 0;
    };
    table
        .active
        .insert(&row.key.0, &row, recorded, author.node, true)
}

/// The tables that a write set changed, by the names that they have afterwards, or had.
fn names(set: &PreparedWriteSet, before: &Catalog, checked: &Checked) -> Vec<String> {
    let after = checked.catalog.as_ref();
    let name = |id: TableId| {
        let table = after
            .and_then(|catalog| catalog.table_by_id(id))
            .or_else(|| before.table_by_id(id));
        table.map(|table| table.name.clone())
    };
    let created = set.changes.iter().filter_map(|change| match change {
        Prepared::CreateTable(schema) => Some(schema.name.clone()),
        _ => None,
    });
    let changed = set.changed_tables();
    changed
        .into_iter()
        .filter_map(name)
        .chain(created)
        .collect()
}
