//! The databases under comparison, each behind the same few verbs.
//!
//! `server` holds what the two that speak PostgreSQL's protocol share; what they do not share
//! (starting, settling, looking at memory and disk) is in their own files.

pub(crate) mod chronos;
mod postgres;
pub(crate) mod server;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use crate::args::Options;
use crate::data::Chunk;
use crate::error::Result;
use crate::load::{Load, Table};
use crate::sample::{Bound, Sample};

pub(crate) use chronos::Chronos;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// In this process; no wire, no server.
    Sqlite,
    /// A cluster of our own.
    Postgres,
    /// A child process, or a node that runs already.
    Chronos,
}

impl Kind {
    /// Its column's heading.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
            Kind::Chronos => "chronos",
        }
    }
}

/// Space on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// The table with its indexes.
    pub(crate) table: u64,
    /// Everything in the data directory, logs included.
    pub(crate) all: u64,
}

/// What a suite asks of a database.
pub(crate) trait Peer {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// Version and settings in a line.
    fn describe(&self) -> String;

    /// Back to nothing: no tables, and where it can be had, a new process.
    fn fresh(&mut self) -> Result<()>;

    /// Makes a table, in place of one that is there.
    fn create(&mut self, table: Table) -> Result<()>;

    /// Runs one statement; the rows as text.
    fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>>;

    /// Runs a load from so many clients.
    fn load(&mut self, load: &Load, clients: usize, warm_up: Bound, bound: Bound)
        -> Result<Sample>;

    /// Stores a chunk in one transaction; the time until it is durable.
    fn copy(&mut self, table: Table, chunk: &Chunk) -> Result<Duration>;

    /// Lets the work finish that a load left behind, and statistics be taken.
    fn settle(&mut self, table: Table) -> Result<()>;

    /// Resident memory of the server.
    fn memory(&self) -> Option<u64>;

    /// What a table takes on disk, once nothing of it is only in a log.
    fn disk(&mut self, table: Table) -> Result<Option<Disk>>;

    /// How this database writes a point in time in SQL, and `ts` being within two of them.
    fn time_literal(&self, micros: i64) -> String {
        let mut text = String::from("'");
        crate::data::write_time(&mut text, micros);
        text + "'"
    }

    /// The node itself, for what only Chronos has.
    fn as_chronos(&mut self) -> Option<&mut Chronos> {
        None
    }
}

/// Starts what there is, in the order of the table's columns. Chronos is asked for if its
/// binary is named or a URL is given; a peer that is only missing is left out with a word.
pub(crate) fn start_all(options: &Options, scratch: &Path) -> Result<Vec<Box<dyn Peer>>> {
    let wanted = |name: &str| !options.without.iter().any(|left_out| left_out == name);
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if wanted("sqlite") {
        peers.push(Box::new(sqlite::Sqlite::open(scratch)?));
    }
    if wanted("postgres") {
        match postgres::find_binaries() {
            Some(binaries) => peers.push(Box::new(postgres::Postgres::start(&binaries, scratch)?)),
            None => println!("postgres   not installed: left out"),
        }
    }
    if wanted("chronos") {
        match Chronos::from_options(options, scratch)? {
            Some(chronos) => peers.push(Box::new(chronos)),
            None => println!("chronos    no binary: build one with `cargo build --release`, or give --chronos or --pg-url"),
        }
    }
    if peers.is_empty() {
        return Err("there is no database to measure".into());
    }
    Ok(peers)
}
