//! SQLite: a B-tree of rows in one file. WAL and synchronous=FULL, so that a batch, which is one
//! transaction, is on disk when it is ingested; settling is a checkpoint and ANALYZE.

use std::path::Path;

use rusqlite::{params, Connection, OptionalExtension};

use super::{Engine, Range, Slice, CACHE_BYTES};
use crate::data::{device_name, Aggregate, Rows, METRIC};
use crate::error::Result;

pub(super) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub(super) fn open(dir: &Path) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("rows.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Negative: KiB instead of pages.
        connection.pragma_update(None, "cache_size", -((CACHE_BYTES >> 10) as i64))?;
        connection.execute_batch(
            "CREATE TABLE rows (device TEXT NOT NULL, metric TEXT NOT NULL, ts INTEGER NOT NULL,
                 value REAL NOT NULL, noise REAL NOT NULL, PRIMARY KEY (device, metric, ts)
             ) WITHOUT ROWID",
        )?;
        Ok(Sqlite { connection })
    }
}

impl Engine for Sqlite {
    fn ingest(&mut self, rows: &Rows) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO rows VALUES (?, ?, ?, ?, ?)")?;
            for i in 0..rows.len() {
                let device = device_name(rows.device[i]);
                insert.execute(params![
                    device,
                    METRIC,
                    rows.ts[i],
                    rows.value[i],
                    rows.noise[i]
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn settle(&mut self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(self.connection.execute_batch("ANALYZE")?)
    }

    fn aggregate(&mut self) -> Result<Vec<Aggregate>> {
        let sql = "SELECT device, avg(value), max(value) FROM rows GROUP BY device ORDER BY device";
        let mut statement = self.connection.prepare_cached(sql)?;
        let all = statement.query_map([], |row| {
            Ok(Aggregate {
                device: row.get(0)?,
                average: row.get(1)?,
                max: row.get(2)?,
            })
        })?;
        Ok(all.collect::<rusqlite::Result<_>>()?)
    }

    fn range(&mut self, range: Range) -> Result<Slice> {
        let mut statement = self.connection.prepare_cached(
            "SELECT ts, value, noise FROM rows
             WHERE device = ? AND metric = ? AND ts >= ? AND ts < ?",
        )?;
        let device = device_name(range.device);
        let mut found = statement.query(params![device, METRIC, range.from, range.to])?;
        let mut slice = Slice::default();
        while let Some(row) = found.next()? {
            slice.add(row.get(1)?, row.get(2)?);
        }
        Ok(slice)
    }

    fn point(&mut self, device: u32, ts: i64) -> Result<Option<f64>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT noise FROM rows WHERE device = ? AND metric = ? AND ts = ?")?;
        let found = statement.query_row(params![device_name(device), METRIC, ts], |row| row.get(0));
        Ok(found.optional()?)
    }
}
