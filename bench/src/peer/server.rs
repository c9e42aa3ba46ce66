//! What the peers that speak PostgreSQL's protocol do alike.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::data::Chunk;
use crate::error::{Error, Result};
use crate::load::Table;
use crate::process;
use crate::wire::{Connection, Target};

/// A server and one kept connection for the suites' own statements.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it is.
    pub(crate) target: Target,
    connection: Connection,
}

impl Server {
    /// Connects.
    pub(crate) fn connect(target: Target) -> Result<Server> {
        let connection = Connection::open(&target)?;
        Ok(Server { target, connection })
    }

    /// Connects to a process that may not listen yet.
    pub(crate) fn connect_within(
        limit: Duration,
        target: Target,
        process: &mut process::Server,
    ) -> Result<Server> {
        let deadline = Instant::now() + limit;
        loop {
            let error = match Server::connect(target.clone()) {
                Ok(server) => return Ok(server),
                Err(error) => error,
            };
            if let Some(ended) = process.ended() {
                return Err(ended.into());
            }
            if Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One statement.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.connection.query(sql)
    }

    /// One statement's first value.
    pub(crate) fn value(&mut self, sql: &str) -> Result<String> {
        let rows = self.query(sql)?;
        rows.into_iter()
            .flatten()
            .next()
            .ok_or_else(|| format!("no row from {sql}").into())
    }

    /// Makes a table, in place of one that is there.
    pub(crate) fn create(&mut self, table: Table) -> Result<()> {
        self.query(&format!("DROP TABLE IF EXISTS {}", table.name()))?;
        let columns =
            "device TEXT NOT NULL, ts TIMESTAMPTZ NOT NULL, value DOUBLE PRECISION NOT NULL";
        let definition = match table {
            Table::Rows => format!("id BIGINT PRIMARY KEY, {columns}"),
            Table::Series => format!("{columns}, PRIMARY KEY (device, ts)"),
            Table::Loose => columns.to_owned(),
        };
        self.query(&format!("CREATE TABLE {} ({definition})", table.name()))?;
        Ok(())
    }

    /// COPY .. FROM STDIN of one chunk.
    pub(crate) fn copy(&mut self, table: Table, chunk: &Chunk) -> Result<Duration> {
        let sql = format!("COPY {} ({}) FROM STDIN", table.name(), table.columns());
        let result = self.connection.copy(&sql, chunk);
        if result.is_err() {
            // Whatever state the old connection is in, the next statement shall not find it.
            self.connection = Connection::open(&self.target)?;
        }
        result
    }
}

/// An error with the last lines the server wrote.
pub(crate) fn with_log(error: &Error, log: &Path) -> Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.reverse();
    format!("{error}; it wrote: {}", lines.join(" | ")).into()
}
