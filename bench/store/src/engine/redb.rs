//! redb: a copy-on-write B-tree in one file. A batch is one transaction with its default,
//! immediate durability; settling is its compaction.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::pair::{self, ByDevice};
use super::{Engine, Range, Slice, CACHE_BYTES};
use crate::data::{Aggregate, Rows};
use crate::error::Result;

const ROWS: TableDefinition<&[u8], [u8; pair::VALUE_BYTES]> = TableDefinition::new("rows");

pub(super) struct Redb {
    database: Database,
}

impl Redb {
    pub(super) fn open(dir: &Path) -> Result<Redb> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        Ok(Redb {
            database: builder.create(dir.join("rows.redb"))?,
        })
    }
}

impl Engine for Redb {
    fn ingest(&mut self, rows: &Rows) -> Result<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ROWS)?;
            for i in 0..rows.len() {
                let key = pair::key(rows.device[i], rows.ts[i]);
                table.insert(key.as_slice(), pair::value(rows.value[i], rows.noise[i]))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn settle(&mut self) -> Result<()> {
        self.database.compact()?;
        Ok(())
    }

    fn aggregate(&mut self) -> Result<Vec<Aggregate>> {
        let table = self.database.begin_read()?.open_table(ROWS)?;
        let mut all = ByDevice::default();
        for entry in table.iter()? {
            let (key, value) = entry?;
            all.add(key.value(), &value.value())?;
        }
        Ok(all.finish())
    }

    fn range(&mut self, range: Range) -> Result<Slice> {
        let table = self.database.begin_read()?.open_table(ROWS)?;
        let (from, to) = (
            pair::key(range.device, range.from),
            pair::key(range.device, range.to),
        );
        let mut slice = Slice::default();
        for entry in table.range(from.as_slice()..to.as_slice())? {
            pair::add_to(&mut slice, &entry?.1.value())?;
        }
        Ok(slice)
    }

    fn point(&mut self, device: u32, ts: i64) -> Result<Option<f64>> {
        let table = self.database.begin_read()?.open_table(ROWS)?;
        let found = table.get(pair::key(device, ts).as_slice())?;
        found
            .map(|bytes| Ok(pair::read_value(&bytes.value())?.1))
            .transpose()
    }
}
