//! redb: a batch is one transaction with its default, immediate durability; settling is its
//! compaction.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::{Pair, Pairs};
use crate::engine::CACHE_BYTES;
use crate::error::Result;

const PAIRS: TableDefinition<&str, &str> = TableDefinition::new("pairs");

pub(super) struct Redb {
    database: Database,
}

impl Redb {
    pub(super) fn open(dir: &Path) -> Result<Redb> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        Ok(Redb {
            database: builder.create(dir.join("pairs.redb"))?,
        })
    }
}

impl Pairs for Redb {
    fn insert(&mut self, pairs: &[Pair]) -> Result<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(PAIRS)?;
            for (key, value) in pairs {
                table.insert(key.as_str(), value.as_str())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn update(&mut self, pairs: &[Pair]) -> Result<()> {
        self.insert(pairs)
    }

    fn settle(&mut self) -> Result<()> {
        self.database.compact()?;
        Ok(())
    }

    fn get(&mut self, key: &str) -> Result<Option<String>> {
        let table = self.database.begin_read()?.open_table(PAIRS)?;
        Ok(table.get(key)?.map(|found| found.value().to_owned()))
    }
}
