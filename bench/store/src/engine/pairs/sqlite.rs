//! SQLite: WAL and synchronous=FULL. A batch is one transaction; settling is a checkpoint and
//! ANALYZE.

use std::path::Path;

use rusqlite::{params, Connection, OptionalExtension};

use super::{Pair, Pairs};
use crate::engine::CACHE_BYTES;
use crate::error::Result;

pub(super) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub(super) fn open(dir: &Path) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("pairs.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Negative: KiB instead of pages.
        connection.pragma_update(None, "cache_size", -((CACHE_BYTES >> 10) as i64))?;
        connection.execute_batch(
            "CREATE TABLE pairs (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        )?;
        Ok(Sqlite { connection })
    }

    fn write(&mut self, sql: &str, pairs: &[Pair]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(sql)?;
            for (key, value) in pairs {
                statement.execute(params![key, value])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Pairs for Sqlite {
    fn insert(&mut self, pairs: &[Pair]) -> Result<()> {
        self.write("INSERT INTO pairs VALUES (?1, ?2)", pairs)
    }

    fn update(&mut self, pairs: &[Pair]) -> Result<()> {
        self.write("UPDATE pairs SET value = ?2 WHERE key = ?1", pairs)
    }

    fn settle(&mut self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(self.connection.execute_batch("ANALYZE")?)
    }

    fn get(&mut self, key: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM pairs WHERE key = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![key], |row| row.get(0));
        Ok(found.optional()?)
    }
}
