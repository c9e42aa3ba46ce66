//! fjall: an LSM tree. A batch is one write batch whose journal is synced; settling is writing
//! the memtable and a major compaction.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::pair::{self, ByDevice};
use super::{Engine, Range, Slice, CACHE_BYTES};
use crate::data::{Aggregate, Rows};
use crate::error::Result;

pub(super) struct Fjall {
    database: Database,
    rows: Keyspace,
}

impl Fjall {
    pub(super) fn open(dir: &Path) -> Result<Fjall> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES as u64)
            .open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, rows })
    }
}

impl Engine for Fjall {
    fn ingest(&mut self, rows: &Rows) -> Result<()> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for i in 0..rows.len() {
            let key = pair::key(rows.device[i], rows.ts[i]);
            let value = pair::value(rows.value[i], rows.noise[i]);
            batch.insert(&self.rows, key, value.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn settle(&mut self) -> Result<()> {
        self.rows.rotate_memtable_and_wait()?;
        Ok(self.rows.major_compact()?)
    }

    fn data_bytes(&self, _: &Path) -> u64 {
        self.rows.disk_space()
    }

    fn aggregate(&mut self) -> Result<Vec<Aggregate>> {
        let mut all = ByDevice::default();
        for guard in self.rows.iter() {
            let (key, value) = guard.into_inner()?;
            all.add(&key, &value)?;
        }
        Ok(all.finish())
    }

    fn range(&mut self, range: Range) -> Result<Slice> {
        let mut slice = Slice::default();
        let keys = pair::key(range.device, range.from)..pair::key(range.device, range.to);
        for guard in self.rows.range(keys) {
            pair::add_to(&mut slice, &guard.value()?)?;
        }
        Ok(slice)
    }

    fn point(&mut self, device: u32, ts: i64) -> Result<Option<f64>> {
        let found = self.rows.get(pair::key(device, ts))?;
        found
            .map(|bytes| Ok(pair::read_value(&bytes)?.1))
            .transpose()
    }
}
