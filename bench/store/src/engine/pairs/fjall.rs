//! fjall: a batch is one write batch whose journal is synced; settling is writing the memtable
//! and a major compaction.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{text_of, Pair, Pairs};
use crate::engine::CACHE_BYTES;
use crate::error::Result;

pub(super) struct Fjall {
    database: Database,
    pairs: Keyspace,
}

impl Fjall {
    pub(super) fn open(dir: &Path) -> Result<Fjall> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES as u64)
            .open()?;
        let pairs = database.keyspace("pairs", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, pairs })
    }
}

impl Pairs for Fjall {
    fn insert(&mut self, pairs: &[Pair]) -> Result<()> {
        let durable = Some(PersistMode::SyncData);
        let mut batch = self.database.batch().durability(durable);
        for (key, value) in pairs {
            batch.insert(&self.pairs, key.as_bytes(), value.as_bytes());
        }
        Ok(batch.commit()?)
    }

    fn update(&mut self, pairs: &[Pair]) -> Result<()> {
        self.insert(pairs)
    }

    fn settle(&mut self) -> Result<()> {
        self.pairs.rotate_memtable_and_wait()?;
        Ok(self.pairs.major_compact()?)
    }

    fn data_bytes(&self, _: &Path) -> u64 {
        self.pairs.disk_space()
    }

    fn get(&mut self, key: &str) -> Result<Option<String>> {
        let found = self.pairs.get(key.as_bytes())?;
        found.map(|bytes| text_of(&bytes)).transpose()
    }
}
