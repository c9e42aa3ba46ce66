//! SQLite, in this process: a function call instead of a wire, which is an advantage no
//! server can have. WAL with synchronous=FULL, so that a commit is on disk when it returns.
//!
//! Many clients are many threads with a connection each. SQLite lets one of them write and
//! makes the others poll with growing pauses, so writers queue at a mutex of ours instead,
//! which is kinder to it.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, Statement, ToSql};

use super::{Disk, Kind, Peer};
use crate::data::{self, Chunk, Random, Shape};
use crate::error::Result;
use crate::load::{Load, Protocol, Table, Value};
use crate::process::disk_bytes;
use crate::sample::{Bound, Sample};

/// How long a reader or writer may be kept out by another.
const BUSY: Duration = Duration::from_secs(30);

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(match *self {
            Value::Int(number) | Value::Time(number) => SqlValue::Integer(number),
            Value::Float(number) => SqlValue::Real(number),
            Value::Device(_) | Value::Payload(_) => {
                let mut text = String::with_capacity(8);
                self.write(&mut text);
                SqlValue::Text(text)
            }
        }))
    }
}

/// The database file and the connection for the suites' own statements.
pub(crate) struct Sqlite {
    file: PathBuf,
    connection: Connection,
}

fn connect(file: &Path) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

impl Sqlite {
    /// A new database in a directory of its own.
    pub(crate) fn open(scratch: &Path) -> Result<Sqlite> {
        let dir = scratch.join("sqlite");
        std::fs::create_dir(&dir)?;
        let file = dir.join("bench.db");
        Ok(Sqlite {
            connection: connect(&file)?,
            file,
        })
    }

    fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(&self.file)
    }
}

/// Runs a prepared statement; the rows it changed or gave.
fn execute(statement: &mut Statement<'_>, values: &[Value]) -> Result<u64> {
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    run(statement)
}

fn run(statement: &mut Statement<'_>) -> Result<u64> {
    if statement.column_count() == 0 {
        return Ok(statement.raw_execute()? as u64);
    }
    let columns = statement.column_count();
    let (mut rows, mut count) = (statement.raw_query(), 0);
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            std::hint::black_box(row.get_ref(column)?);
        }
        count += 1;
    }
    Ok(count)
}

/// One client's phase on a connection of its own.
fn client(file: &Path, load: &Load, writer: &Mutex<()>, bounds: [Bound; 2]) -> Result<Sample> {
    let connection = connect(file)?;
    let mut prepared = connection.prepare(&load.statement(|out, _| out.push('?')))?;
    let (mut random, mut values, mut text) = (Random::new(), Vec::new(), String::new());
    let mut sample = Sample::default();
    for bound in bounds {
        sample = Sample::default();
        let start = Instant::now();
        while bound.allows(sample.count(), start) {
            load.next(&mut random, &mut values);
            let begun = Instant::now();
            let turn = load.writes().then(|| writer.lock());
            let count = match load.protocol {
                Protocol::Prepared => execute(&mut prepared, &values)?,
                Protocol::Simple => {
                    text.clear();
                    load.literal(&values, &mut text);
                    run(&mut connection.prepare(&text)?)?
                }
            };
            drop(turn);
            sample.add(begun.elapsed());
            if count != load.answer() {
                return Err(format!("{count} rows instead of {}", load.answer()).into());
            }
        }
        sample.finish(start.elapsed());
    }
    Ok(sample)
}

impl Peer for Sqlite {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    fn describe(&self) -> String {
        format!(
            "{}, in this process, WAL, synchronous=FULL",
            rusqlite::version()
        )
    }

    fn fresh(&mut self) -> Result<()> {
        self.connection = Connection::open_in_memory()?;
        let dir = self.dir().to_owned();
        std::fs::remove_dir_all(&dir)?;
        std::fs::create_dir(&dir)?;
        self.connection = connect(&self.file)?;
        Ok(())
    }

    fn create(&mut self, table: Table) -> Result<()> {
        let columns = "device TEXT NOT NULL, ts INTEGER NOT NULL, value REAL NOT NULL";
        let definition = match table {
            Table::Rows => format!("(id INTEGER PRIMARY KEY, {columns})"),
            Table::Series => format!("({columns}, PRIMARY KEY (device, ts)) WITHOUT ROWID"),
            Table::Loose => format!("({columns})"),
        };
        let name = table.name();
        self.connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS {name}; CREATE TABLE {name} {definition};"
        ))?;
        Ok(())
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut statement = self.connection.prepare(sql)?;
        let columns = statement.column_count();
        let (mut rows, mut all) = (statement.query([])?, Vec::new());
        while let Some(row) = rows.next()? {
            let text = |column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => "NULL".to_owned(),
                    ValueRef::Integer(number) => number.to_string(),
                    ValueRef::Real(number) => number.to_string(),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                        String::from_utf8_lossy(bytes).into_owned()
                    }
                })
            };
            all.push((0..columns).map(text).collect::<Result<Vec<String>>>()?);
        }
        Ok(all)
    }

    fn load(
        &mut self,
        load: &Load,
        clients: usize,
        warm_up: Bound,
        bound: Bound,
    ) -> Result<Sample> {
        let (writer, file) = (Mutex::new(()), self.file.as_path());
        let bound = Bound {
            ops: bound.ops / clients as u64,
            ..bound
        };
        let samples = std::thread::scope(|scope| {
            let writer = &writer;
            let start = |_| scope.spawn(move || client(file, load, writer, [warm_up, bound]));
            let clients: Vec<_> = (0..clients).map(start).collect();
            let joined = clients.into_iter().map(|client| client.join());
            joined
                .map(|result| result.unwrap_or_else(|_| Err("a client panicked".into())))
                .collect::<Result<Vec<Sample>>>()
        })?;
        let mut all = Sample::default();
        samples.into_iter().for_each(|sample| all.merge(sample));
        Ok(all)
    }

    fn copy(&mut self, table: Table, chunk: &Chunk) -> Result<Duration> {
        let start = Instant::now();
        let transaction = self.connection.transaction()?;
        {
            let marks = if chunk.shape == Shape::Keyed {
                "?, ?, ?, ?"
            } else {
                "?, ?, ?"
            };
            let sql = format!(
                "INSERT INTO {} ({}) VALUES ({marks})",
                table.name(),
                table.columns()
            );
            let mut statement = transaction.prepare(&sql)?;
            for position in chunk.first..chunk.first + chunk.rows {
                let row = data::reading(position);
                let values = [
                    Value::Int(position as i64),
                    Value::Device(row.device),
                    Value::Time(row.micros),
                    Value::Float(row.value),
                ];
                let from = usize::from(chunk.shape == Shape::Series);
                execute(&mut statement, &values[from..])?;
            }
        }
        transaction.commit()?;
        Ok(start.elapsed())
    }

    fn settle(&mut self, _table: Table) -> Result<()> {
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")?;
        self.connection.execute_batch("ANALYZE")?;
        Ok(())
    }

    fn memory(&self) -> Option<u64> {
        None
    }

    fn disk(&mut self, _table: Table) -> Result<Option<Disk>> {
        let all = disk_bytes(self.dir());
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(Some(Disk {
            table: disk_bytes(self.dir()),
            all,
        }))
    }

    fn time_literal(&self, micros: i64) -> String {
        micros.to_string()
    }
}
