//! The engines that are compared, one face for all of them.
//!
//! Every engine is used by one thread and keeps at most [`CACHE_BYTES`] of data in memory, where
//! it lets one choose. Batches are durable when they are ingested: each is one commit with a
//! sync, except for Parquet, which has one file and one sync.

pub(crate) mod chronos;
mod duckdb;
mod fjall;
mod pair;
pub(crate) mod pairs;
mod parquet;
mod redb;
mod sqlite;

use std::path::Path;

use crate::data::{Aggregate, Rows};
use crate::error::{failure, Result};
use crate::scratch::disk_bytes;

pub(crate) use duckdb::run as run_duckdb;

/// Bytes of data that an engine may keep in memory, where it lets one choose.
const CACHE_BYTES: usize = 128 << 20;

/// An engine of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chronos,
    Fjall,
    Redb,
    Sqlite,
    Duckdb,
    Parquet,
    ParquetZstd,
}

impl Kind {
    /// In the order in which they are shown.
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Chronos,
        Kind::Fjall,
        Kind::Redb,
        Kind::Sqlite,
        Kind::Duckdb,
        Kind::Parquet,
        Kind::ParquetZstd,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Chronos => "chronos",
            Kind::Fjall => "fjall",
            Kind::Redb => "redb",
            Kind::Sqlite => "sqlite",
            Kind::Duckdb => "duckdb",
            Kind::Parquet => "parquet",
            Kind::ParquetZstd => "parquet-zstd",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Kind> {
        match Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(kind),
            None => failure(format!("there is no engine {name}")),
        }
    }
}

/// Readings of one device in [from, to).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) device: u32,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What a range query gave: how many rows, and the sum of both values of all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slice {
    pub(crate) rows: u64,
    pub(crate) value: f64,
    pub(crate) noise: f64,
}

impl Slice {
    fn add(&mut self, value: f64, noise: f64) {
        self.rows += 1;
        self.value += value;
        self.noise += noise;
    }
}

/// One engine with one table: device, metric, ts, value, noise; key (device, metric, ts).
pub(crate) trait Engine {
    /// Adds rows; they are durable when this returns, or at the latest when [`Engine::seal`] does.
    fn ingest(&mut self, rows: &Rows) -> Result<()>;

    /// The last batch was ingested.
    fn seal(&mut self) -> Result<()> {
        Ok(())
    }

    /// Brings the data into the form in which the engine wants to be read and kept.
    fn settle(&mut self) -> Result<()>;

    /// Bytes on disk of the settled data, in the directory that the engine was opened on.
    /// A write-ahead log that is empty by now, but kept to be written again, is no data.
    fn data_bytes(&self, dir: &Path) -> u64 {
        disk_bytes(dir)
    }

    /// Average and maximum of `value` by device, in the order of their names.
    fn aggregate(&mut self) -> Result<Vec<Aggregate>>;

    /// Reads the rows of a range.
    fn range(&mut self, range: Range) -> Result<Slice>;

    /// The noise of one reading.
    fn point(&mut self, device: u32, ts: i64) -> Result<Option<f64>>;
}

/// Opens an engine on an empty directory.
pub(crate) fn open(kind: Kind, dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(match kind {
        Kind::Chronos => Box::new(chronos::Readings::open(dir)?),
        Kind::Fjall => Box::new(fjall::Fjall::open(dir)?),
        Kind::Redb => Box::new(redb::Redb::open(dir)?),
        Kind::Sqlite => Box::new(sqlite::Sqlite::open(dir)?),
        Kind::Parquet => Box::new(parquet::Parquet::new(dir, parquet::Tuning::Defaults)),
        Kind::ParquetZstd => Box::new(parquet::Parquet::new(dir, parquet::Tuning::BestEffort)),
        Kind::Duckdb => return failure("DuckDB runs in a process of Python"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::scratch::Scratch;

    #[test]
    fn every_engine_gives_the_same_answers() {
        let scratch = Scratch::new(None).unwrap();
        let rows = 100 * data::DEVICES;
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Duckdb) {
            let dir = scratch.dir(kind.name()).unwrap();
            let mut engine = open(kind, &dir).unwrap();
            for batch in data::Batches::new(rows) {
                engine.ingest(&batch).unwrap();
            }
            engine.seal().unwrap();
            engine.settle().unwrap();
            let (given, expected) = (engine.aggregate().unwrap(), data::expected(rows));
            assert_eq!(given.len(), expected.len(), "{}", kind.name());
            assert!(
                given.iter().zip(&expected).all(|(a, b)| a.agrees(b)),
                "{}",
                kind.name()
            );
            let range = Range {
                device: 7,
                from: data::ts(7, 30),
                to: data::ts(7, 45),
            };
            let slice = engine.range(range).unwrap();
            let noise: f64 = (30..45).map(|tick| data::noise(7, tick)).sum();
            assert_eq!(slice.rows, 15, "{}", kind.name());
            assert!((slice.noise - noise).abs() < 1e-9, "{}", kind.name());
            let found = engine.point(999, data::ts(999, 99)).unwrap();
            assert_eq!(found, Some(data::noise(999, 99)), "{}", kind.name());
            assert_eq!(engine.point(999, 5).unwrap(), None, "{}", kind.name());
        }
    }
}
