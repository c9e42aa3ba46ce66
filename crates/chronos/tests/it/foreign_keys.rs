//! Foreign keys beside other writers: clients insert and delete parents and children at random, and
//! at no moment, now or as of then, is there a child without its parent.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

use tokio_postgres::{Client, NoTls};

use crate::node::Node;
use crate::random::{variable, SplitMix};

const CLIENTS: u64 = 6;
/// Statements or transactions of each client.
const STEPS: u64 = 150;
const PARENTS: u64 = 4;
/// Moments of the past that are looked at.
const MOMENTS: usize = 40;

const TABLES: &str = "
    CREATE TABLE p (id INT8 PRIMARY KEY, code TEXT UNIQUE);
    CREATE TABLE plain (id INT8 PRIMARY KEY, p INT8 NOT NULL REFERENCES p);
    CREATE TABLE cascades (id INT8 PRIMARY KEY, p INT8 REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE below (id INT8, c INT8 REFERENCES cascades ON DELETE SET NULL);
    CREATE TABLE codes (id INT8 PRIMARY KEY, code TEXT
        REFERENCES p (code) ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)";

/// What refers to nothing, of the tables at some time.
fn orphans(clause: &str) -> String {
    let count = |child: &str, column: &str, parent: &str, key: &str| {
        format!(
            "(SELECT count(*) FROM {child}{clause} AS c WHERE c.{column} IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM {parent}{clause} AS p WHERE p.{key} = c.{column}))"
        )
    };
    let counts = [
        count("plain", "p", "p", "id"),
        count("cascades", "p", "p", "id"),
        count("below", "c", "cascades", "id"),
        count("codes", "code", "p", "code"),
    ];
    format!("SELECT {}", counts.join(" + "))
}

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

struct Writer {
    client: Client,
    random: SplitMix,
    ids: Arc<AtomicI64>,
    done: u64,
}

impl Writer {
    async fn work(mut self) -> u64 {
        for _ in 0..STEPS {
            let statements = match self.random.below(3) {
                0 => {
                    let count = 1 + self.random.below(3);
                    let many: Vec<String> = (0..count).map(|_| self.statement()).collect();
                    format!("BEGIN; {}; COMMIT", many.join("; "))
                }
                _ => self.statement(),
            };
            match self.client.batch_execute(&statements).await {
                Ok(()) => self.done += 1,
                Err(error) => {
                    let told = error.as_db_error();
                    let told = told.unwrap_or_else(|| panic!("no answer: {error:?}"));
                    let code = told.code().code();
                    let may_be = ["23503", "23505", "40001"].contains(&code);
                    assert!(may_be, "{statements}: {told:?}");
                    self.client
                        .batch_execute("ROLLBACK")
                        .await
                        .expect("ROLLBACK");
                }
            }
        }
        self.done
    }

    fn statement(&mut self) -> String {
        let p = self.random.below(PARENTS);
        let q = self.random.below(PARENTS);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        match self.random.below(12) {
            0 | 1 => format!("INSERT INTO p VALUES ({p}, 'c{p}') ON CONFLICT (id) DO NOTHING"),
            2 => format!("DELETE FROM p WHERE id = {p}"),
            3 => format!("UPDATE p SET id = {p} WHERE id = {q}"),
            4 => format!("UPDATE p SET code = 'c{p}' WHERE id = {q}"),
            5 => format!("INSERT INTO plain VALUES ({id}, {p})"),
            6 => format!("DELETE FROM plain WHERE p = {p}"),
            7 => format!("INSERT INTO cascades VALUES ({id}, {p})"),
            8 => format!("UPDATE cascades SET p = {p} WHERE p = {q}"),
            9 => format!("INSERT INTO below SELECT {id}, min(id) FROM cascades WHERE p = {p}"),
            10 => format!("INSERT INTO codes VALUES ({id}, 'c{p}')"),
            _ => format!("DELETE FROM codes WHERE code = 'c{p}'"),
        }
    }
}

async fn count(client: &Client, query: &str) -> i64 {
    let row = client.query_one(query, &[]).await;
    row.unwrap_or_else(|e| panic!("{query}: {e:?}")).get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_child_is_ever_without_its_parent() {
    let seed = variable("CHRONOS_FK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("CHRONOS_FK_SEED={seed}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(dir.path());
    let client = connect(&node).await;
    client.batch_execute(TABLES).await.expect("tables");
    let ids = Arc::new(AtomicI64::new(1));
    let mut writers = Vec::new();
    for number in 0..CLIENTS {
        let writer = Writer {
            client: connect(&node).await,
            random: SplitMix(seed.wrapping_add(number)),
            ids: ids.clone(),
            done: 0,
        };
        writers.push(tokio::spawn(writer.work()));
    }
    let mut done = 0;
    for writer in writers {
        done += writer.await.expect("a client that did its work");
    }
    assert!(done > CLIENTS * STEPS / 10, "only {done} succeeded");
    assert_eq!(count(&client, &orphans("")).await, 0);
    // A crash and a replay of the log change nothing.
    let before = sums(&client).await;
    node.kill();
    let node = Node::start(dir.path());
    let client = connect(&node).await;
    assert_eq!(sums(&client).await, before);
    assert_eq!(count(&client, &orphans("")).await, 0);
    let moments = client
        .query(
            "SELECT DISTINCT _system_from FROM p FOR SYSTEM_TIME ALL
             UNION SELECT DISTINCT _system_to FROM p FOR SYSTEM_TIME ALL WHERE _system_to IS NOT NULL
             UNION SELECT DISTINCT _system_from FROM plain FOR SYSTEM_TIME ALL
             UNION SELECT DISTINCT _system_to FROM cascades FOR SYSTEM_TIME ALL WHERE _system_to IS NOT NULL",
            &[],
        )
        .await
        .expect("the moments at which something was written");
    let mut random = SplitMix(seed);
    for _ in 0..MOMENTS {
        let row = &moments[random.below(moments.len() as u64) as usize];
        let at: std::time::SystemTime = row.get(0);
        let micros = at
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after the epoch")
            .as_micros();
        let clause = format!(
            " FOR SYSTEM_TIME AS OF TIMESTAMPTZ '1970-01-01Z' + INTERVAL '{micros} microseconds'"
        );
        assert_eq!(count(&client, &orphans(&clause)).await, 0, "{clause}");
    }
}

async fn sums(client: &Client) -> Vec<(i64, Option<i64>)> {
    let mut sums = Vec::new();
    for table in ["p", "plain", "cascades", "below", "codes"] {
        let query = format!("SELECT count(*), sum(id)::int8 FROM {table}");
        let row = client.query_one(&query, &[]).await.expect("sums");
        sums.push((row.get(0), row.get(1)));
    }
    sums
}
