//! What a transaction does to the catalog, beside the rows it writes.
//!
//! The changes of its statements in their order. They were made for one version of the catalog
//! and hold for no other: so whoever made them knows the ids that new tables, indexes, sequences
//! and views get, and the rows of the same write set are encoded for the tables as they are
//! after the last of the changes.

use super::{decode_change, encode_change, Change};
use crate::{CatalogChange, CatalogEdit, DataError, Decoder, Encoder, Stamp, TableId, TableSchema};
use bytes::Bytes;

/// Changes of the catalog, all of them or none. Stands at the beginning of a write set.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Migration {
    /// The version of the catalog that they were made for.
    pub base: u64,
    /// Tables of which nothing may have been recorded after a stamp: what is stored of them
    /// was looked at as of then, or goes.
    pub unchanged: Vec<(TableId, Stamp)>,
    /// The changes in order; of no rows. Conditions of [`Change::Catalog`] among them do not
    /// count.
    pub changes: Vec<Change>,
}

impl Migration {
    /// The tables that it is about, as far as they are older than it.
    pub fn tables(&self) -> Vec<TableId> {
        let unchanged = self.unchanged.iter().map(|(id, _)| *id);
        self.edited().chain(unchanged).collect()
    }

    /// The tables that it edits, as far as they are older than it.
    pub fn edited(&self) -> impl Iterator<Item = TableId> + '_ {
        self.changes.iter().flat_map(|change| match change {
            Change::DropTable(id) | Change::Truncate(id) | Change::AlterOptions(id, _) => vec![*id],
            Change::Catalog(change) => change.edited().collect(),
            _ => vec![],
        })
    }

    /// The tables that it creates.
    pub fn created(&self) -> impl Iterator<Item = &TableSchema> {
        self.changes.iter().filter_map(|change| match change {
            Change::CreateTable(schema) => Some(schema),
            _ => None,
        })
    }

    pub(super) fn encode(&self, e: &mut Encoder) -> Result<(), DataError> {
        e.u64(self.base);
        e.varint(self.unchanged.len() as u64);
        for (table, stamp) in &self.unchanged {
            e.u32(table.0);
            e.u64(stamp.0);
        }
        e.varint(self.changes.len() as u64);
        self.changes.iter().try_for_each(|c| encode_change(c, e))
    }

    pub(super) fn decode(d: &mut Decoder<'_>, whole: &Bytes) -> Result<Migration, DataError> {
        let base = d.u64()?;
        let count = d.count()?;
        let unchanged = (0..count)
            .map(|_| Ok((TableId(d.u32()?), Stamp(d.u64()?))))
            .collect::<Result<_, DataError>>()?;
        let count = d.count()?;
        let mut changes = Vec::new();
        for _ in 0..count {
            // Before the change is read: one within another could go on for ever.
            if d.peek() == Some(super::MIGRATION) {
                return Err(d.damaged("a migration within a migration"));
            }
            let change = decode_change(d, whole)?;
            if !change.is_of_catalog() {
                return Err(d.damaged("a change of rows within a migration"));
            }
            changes.push(change);
        }
        Ok(Migration {
            base,
            unchanged,
            changes,
        })
    }
}

impl Change {
    /// Whether it may be part of a [`Migration`].
    pub fn is_of_catalog(&self) -> bool {
        match self {
            Change::CreateTable(_)
            | Change::DropTable(_)
            | Change::Truncate(_)
            | Change::AlterOptions(..)
            | Change::Catalog(_)
            | Change::CreateIndex(_)
            | Change::DropIndex(_)
            | Change::CreateSequence(_)
            | Change::SetSequence(..) => true,
            Change::Rows(_)
            | Change::Batch(_)
            | Change::ExpectShape(..)
            | Change::Migrate(_)
            | Change::ExpectReads(_)
            | Change::Once(_)
            | Change::GiveUpIndex(_)
            | Change::SetIndexState(..)
            | Change::ReserveNumbers(..) => false,
        }
    }
}

impl CatalogChange {
    /// Edits without a condition, as a migration has them.
    pub fn unconditional(edits: Vec<CatalogEdit>) -> CatalogChange {
        CatalogChange {
            base: 0,
            unchanged: vec![],
            edits,
        }
    }
}
