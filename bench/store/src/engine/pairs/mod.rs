//! The engines of the suite `by-key`: a text and a value of 100 bytes under it.
//!
//! Each is used by one thread and keeps at most `CACHE_BYTES` of data in memory. A batch is one commit
//! (or transaction, or write batch) that is durable when it returns.

mod chronos;
mod fjall;
mod redb;
mod sqlite;

use std::path::Path;

use super::Kind;
use crate::error::{failure, Result};
use crate::scratch::disk_bytes;

/// A key and its value.
pub(crate) type Pair = (String, String);

/// One engine with one table of pairs.
pub(crate) trait Pairs {
    /// Adds pairs with new keys, in one commit.
    fn insert(&mut self, pairs: &[Pair]) -> Result<()>;

    /// Gives known keys other values; durable when it returns. Chronos makes each a commit of its
    /// own and syncs them together, the others make one commit of all.
    fn update(&mut self, pairs: &[Pair]) -> Result<()>;

    /// Brings the data into the form in which the engine wants to be read and kept.
    fn settle(&mut self) -> Result<()>;

    /// Bytes on disk of the settled data.
    fn data_bytes(&self, dir: &Path) -> u64 {
        disk_bytes(dir)
    }

    /// The value of a key.
    fn get(&mut self, key: &str) -> Result<Option<String>>;

    /// What the engine tells of its caches.
    fn notes(&self) -> String {
        String::new()
    }
}

/// Opens an engine on an empty directory; `None`: it keeps no pairs.
pub(crate) fn open(kind: Kind, dir: &Path) -> Result<Option<Box<dyn Pairs>>> {
    Ok(Some(match kind {
        Kind::Chronos => Box::new(chronos::Chronos::open(dir)?),
        Kind::Fjall => Box::new(fjall::Fjall::open(dir)?),
        Kind::Redb => Box::new(redb::Redb::open(dir)?),
        Kind::Sqlite => Box::new(sqlite::Sqlite::open(dir)?),
        Kind::Duckdb | Kind::Parquet | Kind::ParquetZstd => return Ok(None),
    }))
}

fn text_of(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => failure(format!("a value is no text: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn every_engine_gives_what_it_was_given_last() {
        let scratch = Scratch::new(None).unwrap();
        for kind in Kind::ALL {
            let dir = scratch.dir(&format!("pairs-{}", kind.name())).unwrap();
            let Some(mut engine) = open(kind, &dir).unwrap() else {
                continue;
            };
            let pair = |i: u32, value: &str| (format!("user:{i:08}"), value.to_owned());
            let pairs: Vec<Pair> = (0..1_000).map(|i| pair(i, "first")).collect();
            engine.insert(&pairs).unwrap();
            engine.settle().unwrap();
            engine
                .update(&[pair(7, "second"), pair(9, "third")])
                .unwrap();
            let mut get = |key: &str| engine.get(key).unwrap();
            assert_eq!(get("user:00000007").as_deref(), Some("second"));
            assert_eq!(get("user:00000008").as_deref(), Some("first"));
            assert_eq!(get("user:00001000"), None);
            engine.settle().unwrap();
            let found = engine.get("user:00000009").unwrap();
            assert_eq!(found.as_deref(), Some("third"), "{}", kind.name());
        }
    }
}
