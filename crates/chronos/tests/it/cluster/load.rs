//! Clients of a cluster, and what they saw: registers that are written, read and swapped, and a ledger to which
//! entries are added; and accounts between which money is moved, in transactions, so that their sum is at every
//! moment, and by any node, what it was at first. Each client is connected to one node, and to another one when that does not answer.
//!
//! What a write's answer says, or its absence, decides what must be there in the end:
//!
//! ```text
//!   acknowledged                          it happened, before the answer
//!   an error with an SQLSTATE             it did not happen, and never will
//!   08007, or no answer at all            nobody knows: it may happen at any later time
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronos_sim::checkers::ledger::{self, Fate};
use chronos_sim::checkers::linearizable::{self, Action};
use chronos_sim::checkers::History;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls, Statement};

use super::nodes::{Cluster, Places};
use crate::random::SplitMix;

/// Registers; few, so that clients meet.
const REGISTERS: u64 = 4;
const ACCOUNTS: u64 = 5;
/// What all accounts have together.
const TOTAL: i64 = 500;
/// How long a client waits for an answer before it gives up and connects to another node.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long one waits that asks a frozen node.
const PATIENT: Duration = Duration::from_secs(40);
/// The client that asks it, in reports.
const READER: u64 = 99;
/// Operations after which a client turns to another node, so that all of them are asked.
const OPERATIONS_AT_A_NODE: u64 = 60;
/// Pause after a failed attempt, so that a cluster without a leader is not flooded.
const RETRY: Duration = Duration::from_millis(20);

const TABLES: &str = "CREATE TABLE registers (k INT8 PRIMARY KEY, v INT8 NOT NULL);
    CREATE TABLE ledger (id INT8 NOT NULL);
    CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL);
    INSERT INTO accounts SELECT x, 100 FROM generate_series(0, 4) g(x)";
const WRITE: &str =
    "INSERT INTO registers VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v";
const SWAP: &str = "UPDATE registers SET v = $2 WHERE k = $1 AND v = $3";
const READ: &str = "SELECT v FROM registers WHERE k = $1";
const SUM: &str = "SELECT sum(balance)::int8 FROM accounts";
const TAKE: &str = "UPDATE accounts SET balance = balance - $2 WHERE id = $1";
const GIVE: &str = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";
// The ledger has no key, so that an entry that is applied twice is there twice.
const ADD: &str = "INSERT INTO ledger VALUES ($1)";

/// How many clients do what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clients {
    pub(super) of_registers: u64,
    pub(super) of_ledger: u64,
    pub(super) of_accounts: u64,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            of_registers: 4,
            of_ledger: 2,
            of_accounts: 2,
        }
    }
}

/// What clients share.
struct Shared {
    places: Places,
    stop: AtomicBool,
    history: Mutex<History>,
    fates: Mutex<BTreeMap<u64, Fate>>,
    /// The next number that nobody has written.
    numbers: AtomicU64,
    /// When writes were acknowledged.
    acknowledged: Mutex<Vec<Instant>>,
    count: watch::Sender<u64>,
    /// How often each SQLSTATE was answered.
    refusals: Mutex<BTreeMap<String, u64>>,
}

/// Clients at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// How a statement ended.
enum End<T> {
    Done(T),
    /// With an error that says it had no effect.
    Refused,
    Unknown,
}

impl Load {
    /// Makes the tables and lets clients work until [`finish`](Load::finish).
    pub(super) async fn start(cluster: &Cluster, clients: Clients, seed: u64) -> Load {
        create(&cluster.places()).await;
        let shared = Arc::new(Shared {
            places: cluster.places(),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            fates: Mutex::default(),
            numbers: AtomicU64::new(1),
            acknowledged: Mutex::default(),
            count: watch::Sender::new(0),
            refusals: Mutex::default(),
        });
        let worker = |id| Worker {
            id,
            random: SplitMix(seed ^ ((id + 1) << 32)),
            connection: None,
            shared: Arc::clone(&shared),
        };
        let registers = (0..clients.of_registers).map(|id| tokio::spawn(worker(id).registers()));
        let ledgers = (0..clients.of_ledger).map(|id| {
            let id = clients.of_registers + id;
            tokio::spawn(worker(id).ledger())
        });
        let accounts = (0..clients.of_accounts).map(|id| {
            let id = clients.of_registers + clients.of_ledger + id;
            tokio::spawn(worker(id).accounts())
        });
        Load {
            clients: registers.chain(ledgers).chain(accounts).collect(),
            shared,
        }
    }

    /// Waits until so many further writes were acknowledged.
    pub(super) async fn progress(&self, cluster: &Cluster, writes: u64) {
        let count = self.shared.count.subscribe();
        let goal = *count.borrow() + writes;
        let what = format!("{writes} more acknowledged writes");
        cluster
            .wait(&what, async || (*count.borrow() >= goal).then_some(()))
            .await;
    }

    /// A client that is connected to one node, and has done nothing yet.
    pub(super) async fn reader_at(&self, node: usize) -> Reader {
        let place = self.shared.places.lock().expect("no panic")[node];
        let opened = Connection::open(place.expect("the node runs")).await;
        Reader(Worker {
            id: READER,
            random: SplitMix(node as u64),
            connection: Some(opened.expect("a connection")),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Clients turn away from a node that is to leave.
    pub(super) fn leave(&self, node: usize) {
        self.shared.places.lock().expect("no panic")[node] = None;
    }

    /// The longest time without an acknowledged write that had not ended at `since`.
    pub(super) fn pause_since(&self, since: Instant) -> Duration {
        let acknowledged = self.shared.acknowledged.lock().expect("no panic");
        let first = acknowledged.partition_point(|at| *at < since);
        let from = first.saturating_sub(1);
        let pauses = acknowledged[from..]
            .windows(2)
            .map(|pair| pair[1] - pair[0]);
        pauses.max().unwrap_or_default()
    }

    /// Stops the clients, and checks what they saw and what every node has.
    pub(super) async fn finish(self, cluster: &Cluster) {
        self.shared.stop.store(true, Ordering::Release);
        for client in self.clients {
            client.await.expect("a client's work");
        }
        let shared = &self.shared;
        let nodes: Vec<usize> = {
            let places = shared.places.lock().expect("no panic");
            (0..places.len())
                .filter(|&node| places[node].is_some())
                .collect()
        };
        cluster.leader_among(&nodes).await;
        let fates = shared.fates.lock().expect("no panic").clone();
        for &node in &nodes {
            let found = entries(cluster, node).await;
            let faults: Vec<String> = ledger::faults(&fates, &found)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert!(faults.is_empty(), "on node {node}: {faults:#?}");
            assert_eq!(total(cluster, node).await, TOTAL, "on node {node}");
        }
        let operations = shared.history.lock().expect("no panic").operations();
        if let Err(fault) = linearizable::check(&operations) {
            panic!("{fault}");
        }
        let of = |fate| fates.values().filter(|of| **of == fate).count();
        let unknown = operations.iter().filter(|o| o.returned.is_none()).count();
        let refusals = shared.refusals.lock().expect("no panic");
        println!(
            "{} operations on registers, {unknown} of unknown outcome; {} entries, {} of unknown outcome; refused: {refusals:?}",
            operations.len(),
            of(Fate::Acknowledged),
            of(Fate::Unknown),
        );
        let internal = refusals.keys().find(|code| code.starts_with("XX"));
        assert_eq!(internal, None, "an internal error was answered");
    }
}

/// Makes the tables, by whichever node does it.
async fn create(places: &Places) {
    let place = places
        .lock()
        .expect("no panic")
        .iter()
        .flatten()
        .next()
        .copied();
    let (client, connection) = connect(place.expect("a node runs"))
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    // In one transaction, which loses against no table that the new cluster makes by itself.
    client.batch_execute(TABLES).await.expect("the tables");
    connection.abort();
}

/// All entries, as a node has them.
async fn entries(cluster: &Cluster, node: usize) -> Vec<u64> {
    let place = cluster.places().lock().expect("no panic")[node];
    let (client, connection) = connect(place.expect("the node runs"))
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    let rows = client
        .query("SELECT id FROM ledger", &[])
        .await
        .expect("the ledger");
    connection.abort();
    rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect()
}

/// The sum of all accounts, as a node has them.
async fn total(cluster: &Cluster, node: usize) -> i64 {
    let place = cluster.places().lock().expect("no panic")[node];
    let (client, connection) = connect(place.expect("the node runs"))
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    let row = client.query_one(SUM, &[]).await.expect("the sum");
    connection.abort();
    row.get(0)
}

type Connecting = (
    Client,
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>,
);

async fn connect(to: std::net::SocketAddr) -> Result<Connecting, tokio_postgres::Error> {
    let url = format!("postgres://chronos@{to}/chronos?connect_timeout=2");
    tokio_postgres::connect(&url, NoTls).await
}

/// A connection with what is prepared on it.
struct Connection {
    client: Client,
    write: Statement,
    swap: Statement,
    read: Statement,
    add: Statement,
    task: JoinHandle<()>,
    operations: u64,
}

impl Connection {
    async fn open(to: std::net::SocketAddr) -> Result<Connection, tokio_postgres::Error> {
        let (client, connection) = connect(to).await?;
        let task = tokio::spawn(async move {
            // Its end is seen by the client.
            let _ = connection.await;
        });
        Ok(Connection {
            write: client.prepare(WRITE).await?,
            swap: client.prepare(SWAP).await?,
            read: client.prepare(READ).await?,
            add: client.prepare(ADD).await?,
            client,
            task,
            operations: 0,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that reads at one node.
pub(super) struct Reader(Worker);

/// Reads all registers once, however long the answers take; ends at the first that does not come.
pub(super) async fn ask(mut reader: Reader) {
    for key in 0..REGISTERS {
        if reader.0.connection.is_none() {
            return;
        }
        reader.0.read(key, PATIENT).await;
    }
}

struct Worker {
    id: u64,
    random: SplitMix,
    connection: Option<Connection>,
    shared: Arc<Shared>,
}

impl Worker {
    async fn registers(mut self) {
        let mut seen = vec![None; REGISTERS as usize];
        while self.connected().await {
            let key = self.random.below(REGISTERS);
            let last = seen[key as usize];
            match (self.random.below(10), last) {
                (0..5, _) => {
                    seen[key as usize] = self.read(key, ANSWER_WITHIN).await.unwrap_or(last)
                }
                (5..7, Some(from)) => self.swap(key, from).await,
                _ => self.write(key).await,
            }
        }
    }

    async fn ledger(mut self) {
        while self.connected().await {
            let id = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
            let end = self
                .run(ANSWER_WITHIN, async |c| {
                    c.client.execute(&c.add, &[&(id as i64)]).await
                })
                .await;
            let fate = match end {
                End::Done(_) => Fate::Acknowledged,
                End::Refused => Fate::Refused,
                End::Unknown => Fate::Unknown,
            };
            self.shared.fates.lock().expect("no panic").insert(id, fate);
            if fate == Fate::Acknowledged {
                self.acknowledge();
            }
        }
    }

    async fn accounts(mut self) {
        while self.connected().await {
            if self.random.below(3) == 0 {
                let sum = self.run(ANSWER_WITHIN, async |c| c.client.query_one(SUM, &[]).await);
                if let End::Done(row) = sum.await {
                    assert_eq!(row.get::<_, i64>(0), TOTAL, "the sum of all accounts");
                }
                continue;
            }
            let from = self.random.below(ACCOUNTS);
            let to = (from + 1 + self.random.below(ACCOUNTS - 1)) % ACCOUNTS;
            let (from, to, amount) = (from as i64, to as i64, self.random.below(20) as i64);
            let moved = self.run(ANSWER_WITHIN, async |c| {
                c.client.batch_execute("BEGIN").await?;
                c.client.execute(TAKE, &[&from, &amount]).await?;
                c.client.execute(GIVE, &[&to, &amount]).await?;
                c.client.batch_execute("COMMIT").await
            });
            if let End::Done(()) = moved.await {
                self.acknowledge();
            }
        }
    }

    /// The value that was read, if there was an answer.
    async fn read(&mut self, key: u64, within: Duration) -> Option<Option<u64>> {
        let read = self.history().invoke(self.id, key, Action::Read(None));
        let end = self
            .run(within, async |c| {
                c.client.query(&c.read, &[&(key as i64)]).await
            })
            .await;
        let End::Done(rows) = end else {
            self.history().failed(read);
            return None;
        };
        let value = rows.first().map(|row| row.get::<_, i64>(0) as u64);
        self.history().read(read, value);
        Some(value)
    }

    async fn write(&mut self, key: u64) {
        let value = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let write = self
            .history()
            .invoke(self.id, key, Action::Write(Some(value)));
        let parameters = (key as i64, value as i64);
        let end = self
            .run(ANSWER_WITHIN, async |c| {
                c.client
                    .execute(&c.write, &[&parameters.0, &parameters.1])
                    .await
            })
            .await;
        match end {
            End::Done(_) => {
                self.history().done(write);
                self.acknowledge();
            }
            End::Refused => self.history().failed(write),
            End::Unknown => {}
        }
    }

    async fn swap(&mut self, key: u64, from: u64) {
        let to = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let action = Action::Swap {
            from: Some(from),
            to: Some(to),
        };
        let swap = self.history().invoke(self.id, key, action);
        let (key, from, to) = (key as i64, from as i64, to as i64);
        let end = self
            .run(ANSWER_WITHIN, async |c| {
                c.client.execute(&c.swap, &[&key, &to, &from]).await
            })
            .await;
        match end {
            End::Done(1) => {
                self.history().done(swap);
                self.acknowledge();
            }
            // It found another value. That says little, and would keep unknown writes from being left out.
            End::Done(_) | End::Refused => self.history().failed(swap),
            End::Unknown => {}
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.shared.history.lock().expect("no panic")
    }

    fn acknowledge(&self) {
        let now = Instant::now();
        let mut all = self.shared.acknowledged.lock().expect("no panic");
        // Two clients may have come here in the other order.
        let at = all.partition_point(|earlier| *earlier <= now);
        all.insert(at, now);
        self.shared.count.send_modify(|count| *count += 1);
    }

    /// Sees to it that there is a connection; false when it is time to stop.
    async fn connected(&mut self) -> bool {
        if self
            .connection
            .as_ref()
            .is_some_and(|c| c.operations >= OPERATIONS_AT_A_NODE)
        {
            self.connection = None;
        }
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.connection.is_some() {
                return true;
            }
            let places: Vec<_> = {
                let places = self.shared.places.lock().expect("no panic");
                places.iter().flatten().copied().collect()
            };
            if places.is_empty() {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let place = places[self.random.below(places.len() as u64) as usize];
            let opened = tokio::time::timeout(ANSWER_WITHIN, Connection::open(place)).await;
            match opened {
                Ok(Ok(connection)) => self.connection = Some(connection),
                _ => tokio::time::sleep(RETRY).await,
            }
        }
        false
    }

    /// Runs a statement on the connection, and drops that if there is no answer.
    async fn run<T>(
        &mut self,
        within: Duration,
        statement: impl AsyncFnOnce(&Connection) -> Result<T, tokio_postgres::Error>,
    ) -> End<T> {
        let mut connection = self.connection.take().expect("a connection");
        let answer = tokio::time::timeout(within, statement(&connection)).await;
        let error = match answer {
            Ok(Ok(done)) => {
                connection.operations += 1;
                self.connection = Some(connection);
                return End::Done(done);
            }
            Ok(Err(error)) => error,
            Err(_) => return End::Unknown,
        };
        let Some(told) = error.as_db_error() else {
            return End::Unknown;
        };
        let code = told.code().code().to_owned();
        let end = match code.as_str() {
            // Nobody knows, or the session was ended while the statement ran.
            "08007" | "57P01" | "57P02" => End::Unknown,
            _ => End::Refused,
        };
        *self
            .shared
            .refusals
            .lock()
            .expect("no panic")
            .entry(code)
            .or_default() += 1;
        tokio::time::sleep(RETRY).await;
        end
    }
}
