//! The TPC-B transaction under SIGKILL: money is neither made nor lost, whatever the moment.
//!
//! ```text
//!   account += delta, teller += delta, branch += delta, one row of history    (one transaction)
//!
//!   round:  start ─▶ sums agree, history is what was acknowledged ─▶ clients work, a reader adds up
//!           ─▶ SIGKILL when so many are acknowledged
//! ```
//!
//! Clients share all rows, so they lose against each other (40001) and try again. Each row of history
//! says which client's which transaction it is. A transaction is *acknowledged* (its row must be there,
//! once, for ever), *lost* (the connection died before COMMIT was sent: it must not be there) or
//! *unknown* (it died while COMMIT was under way: either, and what a restart finds is how it stays).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::{Client, NoTls};

use crate::node::Node;
use crate::random::{variable, SplitMix};

const CLIENTS: usize = 6;
const ROUNDS: u64 = 8;
const BRANCHES: u64 = 2;
const TELLERS: u64 = 10;
const ACCOUNTS: u64 = 100;
/// Acknowledged transactions of a round, at least; and what chance adds.
const ROUND_MIN: u64 = 5;
const ROUND_RANDOM: u64 = 40;
/// How often a transaction may lose against others.
const TRIES_MAX: u32 = 10_000;
/// So little memory that some rounds' accounts fill a memtable.
const MEMORY: [&str; 2] = ["--memory-limit", "8MiB"];

const TABLES: &str = "
    CREATE TABLE branches (bid INT8 PRIMARY KEY, balance INT8 NOT NULL);
    CREATE TABLE tellers (tid INT8 PRIMARY KEY, bid INT8, balance INT8 NOT NULL);
    CREATE TABLE accounts (aid INT8 PRIMARY KEY, bid INT8, balance INT8 NOT NULL, filler TEXT);
    CREATE TABLE history (client INT8, number INT8, aid INT8, tid INT8, bid INT8, delta INT8);
    INSERT INTO branches SELECT x, 0 FROM generate_series(0, 1) g(x);
    INSERT INTO tellers SELECT x, x % 2, 0 FROM generate_series(0, 9) g(x);
    INSERT INTO accounts SELECT x, x % 2, 0, repeat('x', 8000) FROM generate_series(0, 99) g(x)";

/// Sums of the three tables, and of history.
const SUMS: &str =
    "SELECT (SELECT sum(balance) FROM accounts)::int8, (SELECT sum(balance) FROM tellers)::int8,
    (SELECT sum(balance) FROM branches)::int8, (SELECT coalesce(sum(delta), 0) FROM history)::int8";

/// Rows whose balance is not what history says of them: none.
const WRONG: [&str; 3] = [
    "SELECT count(*) FROM accounts LEFT JOIN (SELECT aid, sum(delta) AS s FROM history GROUP BY aid) h USING (aid)
        WHERE balance <> coalesce(s, 0)",
    "SELECT count(*) FROM tellers LEFT JOIN (SELECT tid, sum(delta) AS s FROM history GROUP BY tid) h USING (tid)
        WHERE balance <> coalesce(s, 0)",
    "SELECT count(*) FROM branches LEFT JOIN (SELECT bid, sum(delta) AS s FROM history GROUP BY bid) h USING (bid)
        WHERE balance <> coalesce(s, 0)",
];

/// One transaction; as history shows it, but for client and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Transfer {
    aid: i64,
    tid: i64,
    bid: i64,
    delta: i64,
}

impl Transfer {
    fn random(random: &mut SplitMix) -> Transfer {
        Transfer {
            aid: random.below(ACCOUNTS) as i64,
            tid: random.below(TELLERS) as i64,
            bid: random.below(BRANCHES) as i64,
            delta: random.below(10_001) as i64 - 5_000,
        }
    }
}

/// How a transaction ended for its client.
enum End {
    Acknowledged,
    /// It lost against another.
    Conflict,
    /// The connection died before COMMIT was sent.
    Lost,
    /// The connection died when COMMIT had been sent.
    Unknown,
}

/// What one client has done in all rounds.
struct Worker {
    id: i64,
    random: SplitMix,
    /// Number of the next transaction.
    next: i64,
    acknowledged: BTreeMap<i64, Transfer>,
    /// Of this round.
    unknown: BTreeMap<i64, Transfer>,
}

impl Worker {
    fn new(id: i64, seed: u64) -> Worker {
        Worker {
            id,
            random: SplitMix(seed ^ ((id as u64 + 1) << 32)),
            next: 0,
            acknowledged: BTreeMap::new(),
            unknown: BTreeMap::new(),
        }
    }

    /// Works until the node goes away.
    async fn work(mut self, client: Client, progress: Arc<Progress>) -> Worker {
        let _end = EndOfWork(Arc::clone(&progress));
        loop {
            let number = self.next;
            let transfer = Transfer::random(&mut self.random);
            self.next += 1;
            match self.transfer(&client, number, transfer).await {
                End::Acknowledged => {
                    self.acknowledged.insert(number, transfer);
                    progress.acknowledged();
                }
                End::Unknown => {
                    self.unknown.insert(number, transfer);
                    return self;
                }
                End::Lost => return self,
                End::Conflict => panic!("client {} lost {TRIES_MAX} times", self.id),
            }
        }
    }

    /// Tries until it does not lose against another. Every second client sends each
    /// transaction as one message, the others statement by statement, prepared.
    async fn transfer(&self, client: &Client, number: i64, transfer: Transfer) -> End {
        for _ in 0..TRIES_MAX {
            let end = match self.id % 2 {
                0 => self.in_steps(client, number, transfer).await,
                _ => self.at_once(client, number, transfer).await,
            };
            let End::Conflict = end else { return end };
            if client.batch_execute("ROLLBACK").await.is_err() {
                return End::Lost;
            }
        }
        End::Conflict
    }

    async fn in_steps(&self, client: &Client, number: i64, t: Transfer) -> End {
        match self.steps(client, number, t).await {
            Ok(()) => {}
            Err(e) => return ended(&e, End::Lost),
        }
        match client.batch_execute("COMMIT").await {
            Ok(()) => End::Acknowledged,
            Err(e) => ended(&e, End::Unknown),
        }
    }

    async fn steps(
        &self,
        client: &Client,
        number: i64,
        t: Transfer,
    ) -> Result<(), tokio_postgres::Error> {
        client.batch_execute("BEGIN").await?;
        let account = "SELECT balance FROM accounts WHERE aid = $1";
        let before: i64 = client.query_one(account, &[&t.aid]).await?.get(0);
        let add = "UPDATE accounts SET balance = balance + $1 WHERE aid = $2";
        assert_eq!(client.execute(add, &[&t.delta, &t.aid]).await?, 1);
        let after: i64 = client.query_one(account, &[&t.aid]).await?.get(0);
        assert_eq!(after, before + t.delta, "a transaction sees its own writes");
        let add = "UPDATE tellers SET balance = balance + $1 WHERE tid = $2";
        assert_eq!(client.execute(add, &[&t.delta, &t.tid]).await?, 1);
        let add = "UPDATE branches SET balance = balance + $1 WHERE bid = $2";
        assert_eq!(client.execute(add, &[&t.delta, &t.bid]).await?, 1);
        let insert = "INSERT INTO history VALUES ($1, $2, $3, $4, $5, $6)";
        client
            .execute(
                insert,
                &[&self.id, &number, &t.aid, &t.tid, &t.bid, &t.delta],
            )
            .await?;
        Ok(())
    }

    async fn at_once(&self, client: &Client, number: i64, t: Transfer) -> End {
        let Transfer {
            aid,
            tid,
            bid,
            delta,
        } = t;
        let sql = format!(
            "BEGIN; UPDATE accounts SET balance = balance + ({delta}) WHERE aid = {aid};
             UPDATE tellers SET balance = balance + ({delta}) WHERE tid = {tid};
             UPDATE branches SET balance = balance + ({delta}) WHERE bid = {bid};
             INSERT INTO history VALUES ({}, {number}, {aid}, {tid}, {bid}, {delta}); COMMIT",
            self.id
        );
        match client.batch_execute(&sql).await {
            Ok(()) => End::Acknowledged,
            Err(e) => ended(&e, End::Unknown),
        }
    }

    /// Compares what is there of this client with what it was told.
    fn settle(&mut self, mut found: BTreeMap<i64, Transfer>) {
        for (number, transfer) in &self.acknowledged {
            let there = found.remove(number);
            let which = format!("transaction {number} of client {}", self.id);
            assert_eq!(there, Some(*transfer), "{which} was acknowledged");
        }
        for (number, transfer) in std::mem::take(&mut self.unknown) {
            if let Some(there) = found.remove(&number) {
                assert_eq!(
                    there, transfer,
                    "transaction {number} of client {}",
                    self.id
                );
                self.acknowledged.insert(number, there);
            }
        }
        assert!(
            found.is_empty(),
            "client {} never sent COMMIT for {found:?}, or they were gone before",
            self.id
        );
    }
}

/// What a failed statement means: 40001, or that the connection died at a point that says
/// `died`. Anything else is a wrong answer.
fn ended(error: &tokio_postgres::Error, died: End) -> End {
    match error.as_db_error() {
        None => died,
        Some(told) if told.code().code() == "40001" => End::Conflict,
        Some(told) => panic!("refused: {told:?}"),
    }
}

/// Ends a round, too, when a client has failed.
struct EndOfWork(Arc<Progress>);

impl Drop for EndOfWork {
    fn drop(&mut self) {
        self.0.enough.notify_one();
    }
}

/// Counts what is acknowledged in a round, until it is enough.
struct Progress {
    left: AtomicU64,
    enough: Notify,
}

impl Progress {
    fn acknowledged(&self) {
        let one_less = |left: u64| left.checked_sub(1);
        let before = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        if before == Ok(1) {
            self.enough.notify_one();
        }
    }
}

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

/// `None`: the connection died.
async fn sums(client: &Client) -> Option<[i64; 4]> {
    match client.query_one(SUMS, &[]).await {
        Ok(row) => Some([0, 1, 2, 3].map(|i| row.get(i))),
        Err(e) => match e.as_db_error() {
            None => None,
            Some(told) => panic!("refused: {told:?}"),
        },
    }
}

fn agree(sums: [i64; 4]) {
    let [accounts, tellers, branches, history] = sums;
    assert!(
        accounts == history && tellers == history && branches == history,
        "accounts, tellers, branches and history add up to {sums:?}"
    );
}

/// Adds up beside the writers until the node goes away; returns how often.
async fn audit(client: Client) -> u64 {
    let mut audits = 0;
    while let Some(sums) = sums(&client).await {
        agree(sums);
        audits += 1;
    }
    audits
}

async fn check(client: &Client, workers: &mut [Worker]) {
    agree(sums(client).await.expect("the sums"));
    for sql in WRONG {
        let row = client.query_one(sql, &[]).await.expect(sql);
        assert_eq!(row.get::<_, i64>(0), 0, "{sql}");
    }
    let rows = "SELECT client, number, aid, tid, bid, delta FROM history";
    let rows = client.query(rows, &[]).await.expect("history");
    let mut found: BTreeMap<i64, BTreeMap<i64, Transfer>> = BTreeMap::new();
    for row in rows {
        let transfer = Transfer {
            aid: row.get(2),
            tid: row.get(3),
            bid: row.get(4),
            delta: row.get(5),
        };
        let (worker, number) = (row.get(0), row.get(1));
        let twice = found.entry(worker).or_default().insert(number, transfer);
        assert_eq!(
            twice, None,
            "transaction {number} of client {worker} is there twice"
        );
    }
    for worker in workers {
        worker.settle(found.remove(&worker.id).unwrap_or_default());
    }
    assert!(found.is_empty(), "history of nobody: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_agree_after_every_kill() {
    let seed = variable("CHRONOS_TPCB_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = variable("CHRONOS_TPCB_ROUNDS").unwrap_or(ROUNDS);
    println!("CHRONOS_TPCB_SEED={seed} CHRONOS_TPCB_ROUNDS={rounds}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut random = SplitMix(seed);
    let mut workers: Vec<Worker> = (0..CLIENTS as i64)
        .map(|id| Worker::new(id, seed))
        .collect();
    let mut audits = 0;
    for round in 0..=rounds {
        let mut node = Node::start_with(directory.path(), &MEMORY);
        let client = connect(&node).await;
        if round == 0 {
            client.batch_execute(TABLES).await.expect("the tables");
        }
        check(&client, &mut workers).await;
        if round == rounds {
            break;
        }
        let progress = Arc::new(Progress {
            left: AtomicU64::new(ROUND_MIN + random.below(ROUND_RANDOM)),
            enough: Notify::new(),
        });
        let mut tasks = Vec::with_capacity(CLIENTS);
        for worker in workers.drain(..) {
            let client = connect(&node).await;
            tasks.push(tokio::spawn(worker.work(client, Arc::clone(&progress))));
        }
        let auditor = tokio::spawn(audit(connect(&node).await));
        progress.enough.notified().await;
        node.kill();
        for task in tasks {
            workers.push(task.await.expect("a client"));
        }
        audits += auditor.await.expect("the auditor");
    }
    let done: usize = workers.iter().map(|w| w.acknowledged.len()).sum();
    println!("{done} transactions, {audits} audits beside them");
    assert!(audits > 0, "nobody added up beside the writers");
}
