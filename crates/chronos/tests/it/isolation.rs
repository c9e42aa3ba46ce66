//! Snapshot isolation as a client sees it: concurrent transactions append to lists and read them, and
//! `list_append` judges what they saw. Beside it, what snapshot isolation allows, shown on purpose.
//!
//! A list is a text to which `,n` is appended by UPDATE. Statements take every way through the node:
//! by key without the planner, by conditions that need it, several lists in one statement, alone,
//! in blocks, and in blocks that are rolled back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use chronos_sim::checkers::list_append::{anomalies, Key, List, Op, Promise, Transaction};
use tokio_postgres::{Client, NoTls, Row};

use crate::node::{repository, Node};
use crate::random::{variable, SplitMix};

const CLIENTS: usize = 6;
/// Transactions of each client.
const TRANSACTIONS: usize = 120;
const KEYS: u64 = 3;
/// Operations of a transaction at most.
const OPS_MAX: u64 = 5;
/// One in so many transactions is rolled back on purpose.
const ROLLBACK_IN: u64 = 8;

const TABLE: &str = "CREATE TABLE lists (k INT8 PRIMARY KEY, v TEXT NOT NULL);
    INSERT INTO lists VALUES (0, ''), (1, ''), (2, '')";

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

fn list(row: &Row, column: usize) -> List {
    let text: &str = row.get(column);
    let numbers = text.split(',').filter(|n| !n.is_empty());
    numbers.map(|n| n.parse().expect("a number")).collect()
}

/// Whether a statement lost against another transaction; every other error is a wrong answer.
fn lost(error: &tokio_postgres::Error) -> bool {
    let told = error.as_db_error();
    let told = told.unwrap_or_else(|| panic!("no answer: {error:?}"));
    assert_eq!(told.code().code(), "40001", "{told:?}");
    true
}

/// One client and what it has done.
struct Writer {
    id: usize,
    client: Client,
    random: SplitMix,
    /// The next number that nobody has appended.
    numbers: Arc<AtomicU64>,
    history: Vec<Transaction>,
    promise: Promise,
}

impl Writer {
    async fn work(mut self) -> Vec<Transaction> {
        for _ in 0..TRANSACTIONS {
            let mut ops = Vec::new();
            // A statement alone is promised a snapshot only.
            let alone = self.random.below(4) == 0 && self.promise == Promise::Snapshot;
            let is_committed = match alone {
                true => self.append(&mut ops).await.map_err(|e| lost(&e)).is_ok(),
                false => self.block(&mut ops).await,
            };
            self.history.push(Transaction {
                client: self.id,
                ops,
                is_committed,
            });
        }
        self.history
    }

    /// Returns whether it was committed.
    async fn block(&mut self, ops: &mut Vec<Op>) -> bool {
        let begin = match self.promise {
            Promise::Snapshot => "BEGIN",
            Promise::Serial => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        };
        self.client.batch_execute(begin).await.expect("BEGIN");
        for _ in 0..=self.random.below(OPS_MAX) {
            let done = match self.random.below(4) {
                0 => self.read_all(ops).await,
                1 => self.read(ops).await,
                _ => self.append(ops).await,
            };
            if done.is_err_and(|e| lost(&e)) {
                self.client
                    .batch_execute("ROLLBACK")
                    .await
                    .expect("ROLLBACK");
                return false;
            }
        }
        if self.random.below(ROLLBACK_IN) == 0 {
            self.client
                .batch_execute("ROLLBACK")
                .await
                .expect("ROLLBACK");
            return false;
        }
        let committed = self.client.batch_execute("COMMIT").await;
        committed.map_err(|e| lost(&e)).is_ok()
    }

    fn key(&mut self) -> Key {
        self.random.below(KEYS) as Key
    }

    /// By key, or by a condition that does not name it. Sees what it has made.
    async fn append(&mut self, ops: &mut Vec<Op>) -> Result<(), tokio_postgres::Error> {
        let key = self.key();
        let n = self.numbers.fetch_add(1, Ordering::Relaxed);
        let condition = match self.random.below(2) {
            0 => "k = $1",
            _ => "k + 1 = $1 + 1",
        };
        let sql = format!("UPDATE lists SET v = v || ',{n}' WHERE {condition} RETURNING v");
        ops.push(Op::Append(key, n));
        let row = self.client.query_one(&sql, &[&key]).await?;
        ops.push(Op::Read(key, list(&row, 0)));
        Ok(())
    }

    async fn read(&mut self, ops: &mut Vec<Op>) -> Result<(), tokio_postgres::Error> {
        let key = self.key();
        let sql = "SELECT v FROM lists WHERE k = $1";
        let row = self.client.query_one(sql, &[&key]).await?;
        ops.push(Op::Read(key, list(&row, 0)));
        Ok(())
    }

    async fn read_all(&mut self, ops: &mut Vec<Op>) -> Result<(), tokio_postgres::Error> {
        let rows = self.client.query("SELECT k, v FROM lists", &[]).await?;
        assert_eq!(rows.len() as u64, KEYS);
        ops.extend(rows.iter().map(|row| Op::Read(row.get(0), list(row, 1))));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_those_of_snapshot_isolation() {
    histories_keep(Promise::Snapshot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_serializable_transactions_are_serial() {
    histories_keep(Promise::Serial).await;
}

async fn histories_keep(promise: Promise) {
    let seed = variable("CHRONOS_ISOLATION_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("CHRONOS_ISOLATION_SEED={seed}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    client.batch_execute(TABLE).await.expect("the table");
    let numbers = Arc::new(AtomicU64::new(1));
    let mut tasks = Vec::with_capacity(CLIENTS);
    for id in 0..CLIENTS {
        let writer = Writer {
            id,
            client: connect(&node).await,
            random: SplitMix(seed ^ ((id as u64 + 1) << 32)),
            numbers: Arc::clone(&numbers),
            history: Vec::with_capacity(TRANSACTIONS),
            promise,
        };
        tasks.push(tokio::spawn(writer.work()));
    }
    let mut history = Vec::with_capacity(CLIENTS * TRANSACTIONS);
    for task in tasks {
        history.extend(task.await.expect("a client"));
    }
    let rows = client.query("SELECT k, v FROM lists", &[]).await;
    let rows = rows.expect("the lists at the end");
    let end: BTreeMap<Key, List> = rows.iter().map(|r| (r.get(0), list(r, 1))).collect();
    let committed = history.iter().filter(|t| t.is_committed).count();
    println!("{committed} of {} transactions committed", history.len());
    let found = anomalies(&history, &end, promise);
    assert!(
        found.is_empty(),
        "{found:?} in {history:#?}, at the end {end:?}"
    );
    // Where nothing ever collided, nothing was tested.
    assert!(committed > CLIENTS && committed < history.len());
}

/// The code of the error that a statement ends with.
async fn refusal(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let told = error.as_db_error().expect("an answer");
    told.code().code().to_owned()
}

/// Two nurses on call; each leaves if the other stays.
#[tokio::test]
async fn write_skew_is_possible_and_documented() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let (first, second) = (connect(&node).await, connect(&node).await);
    let tables = "CREATE TABLE nurses (name TEXT PRIMARY KEY, on_call BOOL);
        INSERT INTO nurses VALUES ('ada', true), ('bob', true)";
    first.batch_execute(tables).await.expect("the table");
    let on_call = |client: Client| async move {
        let sql = "SELECT count(*) FROM nurses WHERE on_call";
        let row = client.query_one(sql, &[]).await.expect(sql);
        (row.get::<_, i64>(0), client)
    };
    first.batch_execute("BEGIN").await.expect("BEGIN");
    second.batch_execute("BEGIN").await.expect("BEGIN");
    let (seen, first) = on_call(first).await;
    assert_eq!(seen, 2);
    let (seen, second) = on_call(second).await;
    assert_eq!(seen, 2);
    for (client, name) in [(&first, "ada"), (&second, "bob")] {
        let sql = format!("UPDATE nurses SET on_call = false WHERE name = '{name}'; COMMIT");
        client.batch_execute(&sql).await.expect("no conflict");
    }
    let (seen, first) = on_call(first).await;
    assert_eq!(seen, 0, "each has left because of the other");

    // So it is written.
    let shown = first.query_one("SHOW transaction_isolation", &[]).await;
    assert_eq!(shown.expect("SHOW").get::<_, &str>(0), "repeatable read");
    let docs = std::fs::read_to_string(repository().join("docs/sql.md")).expect("docs/sql.md");
    assert!(docs.contains("**Write skew is possible** (G2-item)"));
}

/// What two sessions do in serializable transactions side by side, and how the second one's COMMIT
/// ends: each statement of the first, then each of the second, then both COMMIT.
async fn side_by_side(clients: &(Client, Client), first: &str, second: &str) -> String {
    for (client, sql) in [(&clients.0, first), (&clients.1, second)] {
        let sql = format!("BEGIN ISOLATION LEVEL SERIALIZABLE; {sql}");
        client.batch_execute(&sql).await.expect(&sql);
    }
    clients.0.batch_execute("COMMIT").await.expect("the first");
    match clients.1.batch_execute("COMMIT").await {
        Ok(()) => String::new(),
        Err(e) => e.as_db_error().expect("an answer").code().code().to_owned(),
    }
}

#[tokio::test]
async fn serializable_transactions_have_no_skew_and_no_phantoms() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let clients = (connect(&node).await, connect(&node).await);
    let tables = "CREATE TABLE t (id INT PRIMARY KEY, v INT, w TEXT);
        CREATE INDEX t_v ON t (v);
        CREATE TABLE other (id INT PRIMARY KEY);
        CREATE TABLE expiring (at TIMESTAMPTZ PRIMARY KEY) WITH (ttl = '1d');
        INSERT INTO t SELECT x, x, 'w' || x FROM generate_series(1, 1000) g(x)";
    clients.0.batch_execute(tables).await.expect("the tables");
    for (first, second, expected) in [
        // Each reads what the other writes: by key, by a scan, by an index, by what is not there.
        (
            "SELECT v FROM t WHERE id = 1; UPDATE t SET v = 0 WHERE id = 2",
            "SELECT v FROM t WHERE id = 2; UPDATE t SET v = 0 WHERE id = 1",
            "40001",
        ),
        (
            "SELECT sum(v) FROM t; INSERT INTO t VALUES (2001, 1)",
            "SELECT sum(v) FROM t; INSERT INTO t VALUES (2002, 1)",
            "40001",
        ),
        (
            "SELECT w FROM t WHERE v = 500; INSERT INTO t VALUES (2003, 501)",
            "SELECT w FROM t WHERE v = 501; INSERT INTO t VALUES (2004, 500)",
            "40001",
        ),
        (
            "SELECT * FROM t WHERE id = 3001; INSERT INTO t VALUES (3002, 1)",
            "SELECT * FROM t WHERE id = 3002; INSERT INTO t VALUES (3001, 1)",
            "40001",
        ),
        (
            "DELETE FROM t WHERE id = 7",
            "SELECT count(*) FROM t; INSERT INTO other VALUES (1)",
            "40001",
        ),
        (
            "TRUNCATE other",
            "SELECT * FROM other; INSERT INTO t VALUES (2005, 1)",
            "40001",
        ),
        (
            "ALTER TABLE other ADD COLUMN c INT",
            "SELECT * FROM t WHERE id = 8; UPDATE t SET v = 1 WHERE id = 9",
            "40001",
        ),
        // Rows that were inserted instead, and skipped.
        (
            "DELETE FROM t WHERE id = 10",
            "INSERT INTO t VALUES (10, 1) ON CONFLICT DO NOTHING; INSERT INTO other VALUES (2)",
            "40001",
        ),
        (
            "INSERT INTO t VALUES (2006, 1)",
            "CREATE TABLE copied AS SELECT * FROM t",
            "40001",
        ),
        // They do not meet.
        (
            "UPDATE t SET v = 0 WHERE id = 11",
            "SELECT v FROM t WHERE id = 12; UPDATE t SET v = 0 WHERE id = 13",
            "",
        ),
        (
            "INSERT INTO other VALUES (3)",
            "SELECT count(*) FROM t; INSERT INTO t VALUES (2007, 1)",
            "",
        ),
        // Who only reads has read one moment.
        (
            "UPDATE t SET v = 5 WHERE id = 14",
            "SELECT count(*) FROM t; SELECT v FROM t WHERE id = 14",
            "",
        ),
    ] {
        let ended = side_by_side(&clients, first, second).await;
        assert_eq!(ended, expected, "{first} | {second}");
    }
    let refused = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM expiring";
    assert_eq!(refusal(&clients.0, refused).await, "0A000");
    clients.0.batch_execute("ROLLBACK").await.expect("ROLLBACK");
    let late = "BEGIN; SELECT * FROM t WHERE id = 1; BEGIN ISOLATION LEVEL SERIALIZABLE";
    assert_eq!(refusal(&clients.0, late).await, "25001");
    clients.0.batch_execute("ROLLBACK").await.expect("ROLLBACK");
    let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE";
    clients.0.batch_execute(begin).await.expect(begin);
    let shown = clients.0.query_one("SHOW transaction_isolation", &[]).await;
    assert_eq!(shown.expect("SHOW").get::<_, &str>(0), "serializable");
}

/// The same row, read by both before either writes it.
#[tokio::test]
async fn the_second_of_two_updates_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let (first, second) = (connect(&node).await, connect(&node).await);
    first.batch_execute(TABLE).await.expect("the table");
    for client in [&first, &second] {
        let read = "BEGIN; SELECT v FROM lists WHERE k = 0";
        client.batch_execute(read).await.expect("a read");
    }
    let append = "UPDATE lists SET v = v || ',1' WHERE k = 0; COMMIT";
    first.batch_execute(append).await.expect("the first");
    assert_eq!(refusal(&second, append).await, "40001");
}
