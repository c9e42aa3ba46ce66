//! A client of a simulated cluster: connects to any node, does one small thing after another, and notes what it was
//! told. Tables that it finds there:
//!
//! ```text
//!   registers (k, v)   single writes, reads, and swaps in transactions       linearizable
//!   lists (k, v)       transactions that read lists and append to them       snapshot isolation
//!   ledger (id, by)    rows that are inserted once                           there once or not at all
//!   journal (id, by)   the same, without a primary key
//!   counters (k, v)    v = v + 1                                             applied once
//! ```

use std::sync::Arc;
use std::time::Duration;

use chronos_env::SimRandom;
use chronos_model::{text, Value};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::{shown, Connection, Reply};
use super::record::Record;
use super::trace::{note, Trace};
use super::Cluster;
use crate::checkers::ledger::Fate;
use crate::checkers::linearizable::Action;
use crate::checkers::list_append::{List, Op, Transaction};
use crate::checkers::past::{Answer, Question};

/// Registers, lists and counters.
pub(super) const KEYS: u64 = 3;
/// Lists that one transaction works on, at most.
const LISTS_MAX: u64 = 4;
/// A client pauses for up to so long between two things.
const PAUSE_MICROS_MAX: u64 = 60_000;
/// How far into the past questions reach.
const PAST_MICROS: u64 = 3_000_000;
/// How often a request with an idempotency key is sent.
const SENDINGS_MAX: u32 = 6;

/// What makes the tables.
pub(super) const TABLES: [&str; 5] = [
    "CREATE TABLE registers (k INT8 PRIMARY KEY, v INT8 NOT NULL)",
    "CREATE TABLE lists (k INT8 PRIMARY KEY, v TEXT NOT NULL)",
    "CREATE TABLE ledger (id INT8 PRIMARY KEY, by INT8 NOT NULL)",
    "CREATE TABLE journal (id INT8 NOT NULL, by INT8 NOT NULL)",
    "CREATE TABLE counters (k INT8 PRIMARY KEY, v INT8 NOT NULL)",
];

/// A client.
pub(super) struct Client {
    id: u64,
    random: SimRandom,
    cluster: Cluster,
    trace: Arc<Trace>,
    record: Arc<Mutex<Record>>,
    connection: Option<Connection>,
}

/// How one thing that was asked for ended.
enum End {
    Done(Vec<Vec<Value>>, u64),
    Refused,
    Unknown,
}

impl Client {
    /// A client that notes what it sees in a record.
    pub(super) fn new(
        id: u64,
        seed: u64,
        cluster: &Cluster,
        record: &Arc<Mutex<Record>>,
    ) -> Client {
        Client {
            id,
            random: SimRandom::new(seed),
            cluster: cluster.clone(),
            trace: Arc::clone(cluster.trace()),
            record: Arc::clone(record),
            connection: None,
        }
    }

    /// Works until a moment.
    pub(super) async fn run(mut self, until: Instant) {
        while Instant::now() < until {
            if self.connect() {
                self.act().await;
            }
            let pause = self.random.below(PAUSE_MICROS_MAX);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    /// Sees to it that there is a connection; now and then to another node.
    fn connect(&mut self) -> bool {
        let stays = self.random.below(8) > 0;
        let is_open = self.connection.as_ref().is_some_and(Connection::is_open);
        if !(stays && is_open) {
            self.connection = self.cluster.connect(&self.random);
        }
        self.connection.is_some()
    }

    async fn act(&mut self) {
        let key = self.random.below(KEYS);
        match self.random.below(100) {
            0..25 => self.write_register(key).await,
            25..60 => drop(self.read_register(key).await),
            60..68 => self.swap_register(key).await,
            68..84 => self.append_to_lists().await,
            84..88 => self.insert("ledger").await,
            88..92 => self.insert("journal").await,
            92..94 => self.raise(key).await,
            94..97 => self.raise_once(key).await,
            _ => self.ask_the_past(key).await,
        }
    }

    /// Sends a statement. When its outcome is unknown, the connection is given up.
    async fn ask(&mut self, sql: &str) -> End {
        let Some(connection) = &mut self.connection else {
            return End::Refused;
        };
        let node = connection.node();
        let reply = connection.ask(sql).await;
        let id = self.id;
        let mut record = self.record.lock();
        match reply {
            Reply::Done { rows, count } => {
                record.tally.done += 1;
                let answer = shown(&rows);
                note!(self.trace, "client {id} at {node}: {sql}: {count} {answer}");
                End::Done(rows, count)
            }
            Reply::Refused(error) => {
                record.tally.refused += 1;
                note!(self.trace, "client {id} at {node}: {sql}: refused: {error}");
                End::Refused
            }
            Reply::Unknown(why) => {
                record.tally.unknown += 1;
                note!(self.trace, "client {id} at {node}: {sql}: unknown: {why}");
                self.connection = None;
                End::Unknown
            }
        }
    }

    async fn write_register(&mut self, key: u64) {
        let (invocation, value) = {
            let mut record = self.record.lock();
            let value = record.number();
            let write = Action::Write(Some(value));
            (record.registers.invoke(self.id, key, write), value)
        };
        let sql = format!("UPDATE registers SET v = {value} WHERE k = {key}");
        match self.ask(&sql).await {
            End::Done(_, 1) => self.record.lock().registers.done(invocation),
            // It found no row: then none was there before, which the reads say too.
            End::Done(..) | End::Refused => self.record.lock().registers.failed(invocation),
            End::Unknown => {}
        }
    }

    async fn read_register(&mut self, key: u64) -> Option<u64> {
        let read = Action::Read(None);
        let invocation = self.record.lock().registers.invoke(self.id, key, read);
        let sql = format!("SELECT v FROM registers WHERE k = {key}");
        let End::Done(rows, _) = self.ask(&sql).await else {
            self.record.lock().registers.failed(invocation);
            return None;
        };
        let value = number(&rows);
        self.record.lock().registers.read(invocation, value);
        value
    }

    /// Reads a register, and puts another value in its place if it still has that one.
    async fn swap_register(&mut self, key: u64) {
        let Some(seen) = self.read_register(key).await else {
            return;
        };
        let (invocation, value) = {
            let mut record = self.record.lock();
            let value = record.number();
            let swap = Action::Swap {
                from: Some(seen),
                to: Some(value),
            };
            (record.registers.invoke(self.id, key, swap), value)
        };
        let select = format!("SELECT v FROM registers WHERE k = {key}");
        let update = format!("UPDATE registers SET v = {value} WHERE k = {key}");
        let begun = matches!(self.ask("BEGIN").await, End::Done(..));
        let found = match begun {
            true => self.ask(&select).await,
            false => End::Refused,
        };
        let updated = match &found {
            End::Done(rows, _) if number(rows) == Some(seen) => self.ask(&update).await,
            _ => End::Refused,
        };
        if !matches!(updated, End::Done(_, 1)) {
            self.roll_back().await;
            let mut record = self.record.lock();
            match found {
                End::Done(rows, _) if number(&rows) != Some(seen) => {
                    record.registers.differed(invocation);
                }
                _ => record.registers.failed(invocation),
            }
            return;
        }
        match self.ask("COMMIT").await {
            End::Done(..) => self.record.lock().registers.done(invocation),
            End::Refused => self.record.lock().registers.failed(invocation),
            End::Unknown => {}
        }
    }

    async fn roll_back(&mut self) {
        if self.connection.is_some() {
            self.ask("ROLLBACK").await;
        }
    }

    /// A transaction that reads some lists and appends to some.
    async fn append_to_lists(&mut self) {
        if !matches!(self.ask("BEGIN").await, End::Done(..)) {
            return;
        }
        let mut ops = Vec::new();
        for _ in 0..1 + self.random.below(LISTS_MAX) {
            let key = self.random.below(KEYS);
            let appends = self.random.below(2) == 0;
            if !self.append_or_read(key, appends, &mut ops).await {
                self.roll_back().await;
                return self.note_transaction(ops, End::Refused);
            }
        }
        let end = self.ask("COMMIT").await;
        self.note_transaction(ops, end);
    }

    async fn append_or_read(&mut self, key: u64, appends: bool, ops: &mut Vec<Op>) -> bool {
        let select = format!("SELECT v FROM lists WHERE k = {key}");
        let End::Done(rows, _) = self.ask(&select).await else {
            return false;
        };
        let mut list = list(&rows);
        ops.push(Op::Read(key as i64, list.clone()));
        if !appends {
            return true;
        }
        let number = self.record.lock().number();
        list.push(number);
        ops.push(Op::Append(key as i64, number));
        let text: Vec<String> = list.iter().map(u64::to_string).collect();
        let text = text.join(",");
        let update = format!("UPDATE lists SET v = '{text}' WHERE k = {key}");
        matches!(self.ask(&update).await, End::Done(_, 1))
    }

    fn note_transaction(&self, ops: Vec<Op>, end: End) {
        let transaction = Transaction {
            client: self.id as usize,
            ops,
            is_committed: matches!(end, End::Done(..)),
        };
        let mut record = self.record.lock();
        match end {
            End::Unknown => record.unsettled.push(transaction),
            End::Done(..) | End::Refused => record.transactions.push(transaction),
        }
    }

    async fn insert(&mut self, table: &'static str) {
        let id = self.record.lock().number();
        let by = self.id;
        let sql = format!("INSERT INTO {table} VALUES ({id}, {by})");
        let fate = match self.ask(&sql).await {
            End::Done(..) => Fate::Acknowledged,
            End::Refused => Fate::Refused,
            End::Unknown => Fate::Unknown,
        };
        let mut record = self.record.lock();
        record.entries.entry(table).or_default().insert(id, fate);
    }

    async fn raise(&mut self, key: u64) {
        let sql = format!("UPDATE counters SET v = v + 1 WHERE k = {key}");
        let end = self.ask(&sql).await;
        let mut record = self.record.lock();
        let raises = record.counters.entry(key).or_default();
        match end {
            End::Done(_, 1) => raises.known += 1,
            End::Done(..) | End::Refused => {}
            End::Unknown => raises.unknown += 1,
        }
    }

    /// The same with an idempotency key: sent again, to whatever node, until the outcome is known.
    async fn raise_once(&mut self, key: u64) {
        let number = self.record.lock().number();
        let name = format!("SET chronos.idempotency_key = '{number}'");
        let sql = format!("UPDATE counters SET v = v + 1 WHERE k = {key}");
        for _ in 0..SENDINGS_MAX {
            if !self.connect() || !matches!(self.ask(&name).await, End::Done(..)) {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            // A refusal does not say what became of a sending before, so it is no end either.
            if let End::Done(_, 1) = self.ask(&sql).await {
                self.record.lock().counters.entry(key).or_default().known += 1;
                return;
            }
            self.connection = None;
        }
        let mut record = self.record.lock();
        record.counters.entry(key).or_default().unknown += 1;
    }

    /// Asks what a register held at some moment: a new question, or one that was asked before. Not about the
    /// future: nodes promise to repeat what they say about moments that were past by their clock.
    async fn ask_the_past(&mut self, key: u64) {
        let node = self.connection.as_ref().map_or(0, Connection::node);
        let now = self.cluster.clock_micros(node);
        let question = {
            let record = self.record.lock();
            let asked = record.past.questions().count() as u64;
            match asked > 0 && self.random.below(2) == 0 {
                true => {
                    let nth = self.random.below(asked) as usize;
                    let question = record.past.questions().nth(nth);
                    question.filter(|q| q.at_micros < now).cloned()
                }
                false => None,
            }
        };
        let question = question.unwrap_or_else(|| Question {
            at_micros: now - 1 - self.random.below(PAST_MICROS),
            about: format!("registers {key}"),
        });
        if let End::Done(rows, _) = self.ask(&question_sql(&question)).await {
            let rows = shown(&rows);
            let answer = Answer { node, rows };
            self.record.lock().past.answered(question, answer);
        }
    }
}

/// The statement that asks a question: about `<table> <key>`.
pub(super) fn question_sql(question: &Question) -> String {
    let at = text::format(&Value::TimestampTz(question.at_micros as i64));
    let (table, key) = question.about.split_once(' ').unwrap_or(("registers", "0"));
    format!("SELECT v FROM {table} FOR SYSTEM_TIME AS OF TIMESTAMPTZ '{at}' WHERE k = {key}")
}

/// The number in the first column of the first row.
fn number(rows: &[Vec<Value>]) -> Option<u64> {
    match rows.first()?.first()? {
        Value::Int8(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// The list in the first column of the first row.
pub(super) fn list(rows: &[Vec<Value>]) -> List {
    match rows.first().and_then(|row| row.first()) {
        Some(Value::Text(text)) => {
            let numbers = text.split(',').filter(|n| !n.is_empty());
            numbers.filter_map(|n| n.parse().ok()).collect()
        }
        _ => List::new(),
    }
}
