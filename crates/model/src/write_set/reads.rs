//! What a transaction has read, for one that asks for it to be still so when it commits.

use crate::{DataError, Decoder, Encoder, Key, TableId};

/// Of the catalog of a version, tables and single keys of others: nothing of them may have been
/// recorded after the write set's `begin`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadSet {
    /// The version of the catalog that was read.
    pub base: u64,
    /// Tables read as a whole.
    pub tables: Vec<TableId>,
    /// Keys read, whether there is a row or not.
    pub keys: Vec<(TableId, Key)>,
}

impl ReadSet {
    /// The tables it is about.
    pub fn of_tables(&self) -> impl Iterator<Item = TableId> + '_ {
        let of_keys = self.keys.iter().map(|(table, _)| *table);
        self.tables.iter().copied().chain(of_keys)
    }

    pub(super) fn encode(&self, e: &mut Encoder) {
        e.u64(self.base);
        e.varint(self.tables.len() as u64);
        self.tables.iter().for_each(|table| e.u32(table.0));
        e.varint(self.keys.len() as u64);
        for (table, key) in &self.keys {
            e.u32(table.0);
            e.bytes(&key.0);
        }
    }

    pub(super) fn decode(d: &mut Decoder<'_>) -> Result<ReadSet, DataError> {
        let base = d.u64()?;
        let count = d.count()?;
        let tables = (0..count)
            .map(|_| Ok(TableId(d.u32()?)))
            .collect::<Result<_, DataError>>()?;
        let count = d.count()?;
        let keys = (0..count)
            .map(|_| Ok((TableId(d.u32()?), Key(d.bytes()?.into()))))
            .collect::<Result<_, DataError>>()?;
        Ok(ReadSet { base, tables, keys })
    }
}
