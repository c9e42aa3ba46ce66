//! Noting transactions that are applied, in the table that the catalog names for it.

use chronos_model::{shown_name, Author, Catalog, Stamp, TableId, Transaction, TRANSACTIONS_TABLE};

use crate::log::LogIndex;
use crate::prepare::{Prepared, PreparedWriteSet};
use crate::state::StoreState;

/// Notes a write set that was applied to a state and changed some tables; returns the bytes
/// that it takes.
///
/// What changes no table (the node gives out numbers of a sequence, an index is ready) is no
/// transaction of anybody's.
pub(crate) fn note(
    state: &StoreState,
    index: LogIndex,
    recorded: Stamp,
    author: &Author,
    tables: Vec<String>,
    rows: u64,
) -> u64 {
    let log = state.catalog.transactions.as_ref();
    let Some(log) = log.filter(|log| log.enabled && !tables.is_empty()) else {
        return 0;
    };
    let Some(table) = state.tables.get(&TRANSACTIONS_TABLE) else {
        return 0;
    };
    let transaction = Transaction {
        id: index.0,
        recorded,
        node: author.node,
        user: author.user.as_deref(),
        tables,
        rows,
    };
    let Some(row) = transaction.row(&log.table) else {
        return 0;
    };
    table
        .active
        .insert(&row.key.0, &row, recorded, author.node, true)
}

/// The tables of which a write set changed rows or what the catalog says of them, by the names
/// that they have afterwards, or had.
pub(crate) fn changed(set: &PreparedWriteSet, before: &Catalog, after: &Catalog) -> Vec<String> {
    if after.transactions.is_none() {
        return Vec::new();
    }
    let mut changed = set.tables();
    let mut created = Vec::new();
    for change in &set.changes {
        match change {
            Prepared::CreateTable(schema) => created.push(schema.name.clone()),
            Prepared::DropTable(id) | Prepared::Truncate(id) | Prepared::AlterOptions(id, _) => {
                changed.extend([*id])
            }
            Prepared::Catalog(change) => changed.extend(change.edited()),
            Prepared::CreateIndex(schema) => changed.extend([schema.table]),
            Prepared::Migrate(migration) => {
                changed.extend(migration.edited());
                created.extend(migration.created().map(|schema| schema.name.clone()));
            }
            _ => {}
        }
    }
    let name = |id: TableId| {
        let table = after.table_by_id(id).or_else(|| before.table_by_id(id));
        table.map(|table| table.name.clone())
    };
    let names = changed.into_iter().filter_map(name).chain(created);
    let mut names: Vec<String> = names.map(|name| shown_name(&name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}
