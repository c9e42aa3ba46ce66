//! Kill tests: what was acknowledged survives SIGKILL at a random moment, and nothing is half there.
//!
//! ```text
//!   round:  start ─▶ check all of before ─▶ writers write and note what was acknowledged ─▶ SIGKILL
//! ```
//!
//! Four writers share a node: rows by autocommit, transactions of several rows in two tables, updates of
//! one counter, and readings by HTTP. Each owns its rows, so that what must be there is known exactly:
//! everything acknowledged, of what was under way at the kill all or nothing, and nothing else. States that
//! were read before a kill are read again AS OF then. All rounds share one data directory, so
//! that recovery meets what earlier recoveries left, and memory is so small that rows move from
//! memtables to segments and between segments meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::node::{post, Node};
use crate::random::{variable, SplitMix};

/// Rounds unless `CHRONOS_CRASH_ROUNDS` says otherwise.
const ROUNDS: u64 = 200;
/// Rows of one transaction of the second writer.
const GROUP_ROWS: i64 = 7;
/// How often a long row repeats its number.
const PAD_REPEATS: usize = 1_000;
/// So little memory that 1 MiB of rows fills a memtable.
const MEMORY: [&str; 2] = ["--memory-limit", "8MiB"];
/// Readings of one post.
const METRICS: [&str; 3] = ["temp", "amps", "rpm"];
/// The longest time between start and kill.
const LIFE_MS_MAX: u64 = 200;
/// Every so many rounds, everything is compared and not only the latest.
const FULL_CHECK_EVERY: u64 = 20;
/// Every so many rounds, a state is noted, to be read again AS OF then.
const STATE_EVERY: u64 = 4;
/// States kept.
const STATES_MAX: usize = 20;

/// A sequence of steps: the first `done` were acknowledged; the next one may have been under way.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Steps known to be stored.
    done: i64,
    /// Whether step `done` was sent and not answered.
    pending: bool,
}

impl Progress {
    /// Takes what the node says after a restart; it must be `done`, or one more if that was pending.
    fn settle(&mut self, what: &str, found: i64) {
        let most = self.done + i64::from(self.pending);
        assert!(
            (self.done..=most).contains(&found),
            "{what}: {} acknowledged, {most} sent, {found} found after the kill",
            self.done
        );
        *self = Progress {
            done: found,
            pending: false,
        };
    }
}

/// What each writer has reached.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    rows: Progress,
    groups: Progress,
    counter: Progress,
    readings: Progress,
}

/// An answer to be read again later: the instant, and the counts and sums of all tables at it.
struct State {
    at: String,
    answer: String,
}

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

async fn number(client: &Client, sql: &str) -> i64 {
    let row = client
        .query_one(sql, &[])
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    row.get::<_, Option<i64>>(0).unwrap_or(0)
}

async fn create(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE single (n INT8 PRIMARY KEY, pad TEXT NOT NULL);
             CREATE TABLE grouped (g INT8, i INT8, v INT8, PRIMARY KEY (g, i));
             CREATE TABLE totals (g INT8 PRIMARY KEY, total INT8);
             CREATE TABLE counter (id INT8 PRIMARY KEY, n INT8);
             INSERT INTO counter VALUES (1, 0)",
        )
        .await
        .expect("the tables");
}

/// Runs one writer's steps until the node goes away. `step` says whether it was acknowledged.
async fn work<F>(mut progress: Progress, stop: Arc<AtomicBool>, step: impl Fn(i64) -> F) -> Progress
where
    F: std::future::Future<Output = bool>,
{
    while !stop.load(Ordering::Acquire) {
        progress.pending = true;
        if !step(progress.done).await {
            break;
        }
        progress.done += 1;
        progress.pending = false;
    }
    progress
}

/// A long row, so that memtables fill up, are flushed, and segments are merged.
async fn insert_row(client: &Client, n: i64) -> bool {
    let pad = format!("{n}:").repeat(PAD_REPEATS);
    acknowledged(
        client
            .execute("INSERT INTO single VALUES ($1, $2)", &[&n, &pad])
            .await,
    )
}

/// Several rows in one statement, their total in another table, one commit.
async fn insert_group(client: &Client, g: i64) -> bool {
    let rows: Vec<String> = (0..GROUP_ROWS)
        .map(|i| format!("({g}, {i}, {})", g + i))
        .collect();
    let total: i64 = (0..GROUP_ROWS).map(|i| g + i).sum();
    let sql = format!(
        "BEGIN; INSERT INTO grouped VALUES {}; INSERT INTO totals VALUES ({g}, {total}); COMMIT",
        rows.join(", ")
    );
    acknowledged(client.batch_execute(&sql).await)
}

async fn count_up(client: &Client, n: i64) -> bool {
    let sql = "UPDATE counter SET n = n + 1 WHERE id = 1 AND n = $1";
    match client.execute(sql, &[&n]).await {
        Ok(changed) => {
            assert_eq!(changed, 1, "the counter is not at {n}");
            true
        }
        Err(e) => acknowledged::<()>(Err(e)),
    }
}

/// A failed step is one whose connection went away; anything else is a wrong answer.
fn acknowledged<T>(answer: Result<T, tokio_postgres::Error>) -> bool {
    match answer {
        Ok(_) => true,
        Err(e) => match e.as_db_error() {
            Some(told) => panic!("refused: {told:?}"),
            None => false,
        },
    }
}

fn post_reading(http: SocketAddr, n: i64) -> bool {
    let body = format!(
        r#"{{"device_id":"d{}","ts":{},"seq":{n},"metrics":{{"temp":{n},"amps":{n}.5,"rpm":-{n}}}}}"#,
        n % 5,
        1_700_000_000 + n
    );
    match post(http, "/ingest", &body) {
        Ok((200, _)) => true,
        Ok((status, answer)) => panic!("refused: {status} {answer}"),
        Err(_) => false,
    }
}

/// Starts the writers, kills the node after `life`, and returns what was acknowledged.
async fn live(mut node: Node, reached: Reached, life: Duration) -> Reached {
    let stop = Arc::new(AtomicBool::new(false));
    let (a, b, c) = (
        connect(&node).await,
        connect(&node).await,
        connect(&node).await,
    );
    let http = node.http;
    let flag = || Arc::clone(&stop);
    let (x, y, z) = (flag(), flag(), flag());
    let rows = tokio::spawn(async move { work(reached.rows, x, |n| insert_row(&a, n)).await });
    let groups =
        tokio::spawn(async move { work(reached.groups, y, |g| insert_group(&b, g)).await });
    let counter = tokio::spawn(async move { work(reached.counter, z, |n| count_up(&c, n)).await });
    let halt = flag();
    let readings = tokio::task::spawn_blocking(move || {
        let mut progress = reached.readings;
        while !halt.load(Ordering::Acquire) {
            progress.pending = true;
            if !post_reading(http, progress.done) {
                break;
            }
            progress.done += 1;
            progress.pending = false;
        }
        progress
    });
    tokio::time::sleep(life).await;
    node.kill();
    stop.store(true, Ordering::Release);
    Reached {
        rows: rows.await.expect("the writer of rows"),
        groups: groups.await.expect("the writer of groups"),
        counter: counter.await.expect("the writer of the counter"),
        readings: readings.await.expect("the writer of readings"),
    }
}

/// How much is there, in one statement: rows, groups, their rows, counter.
const COUNTS: &str = "SELECT (SELECT count(*) FROM single), (SELECT count(*) FROM totals),
    (SELECT count(*) FROM grouped), (SELECT max(n) FROM counter)";

/// What must be 0: wrong values, gaps, groups that are half there, totals that do not fit.
const WRONG: [&str; 4] = [
    "SELECT count(*) FROM single WHERE pad <> repeat(n || ':', 1000)",
    "SELECT coalesce(max(n) + 1, 0) - count(*) FROM single",
    "SELECT count(*) FROM (SELECT g FROM grouped GROUP BY g HAVING count(*) <> 7) x",
    "SELECT count(*) FROM totals t JOIN (SELECT g, sum(v) AS total FROM grouped GROUP BY g) x
        ON x.g = t.g AND x.total <> t.total",
];

/// Compares what is there with what was acknowledged.
async fn check_counts(client: &Client, reached: &mut Reached) {
    let counts = client.query_one(COUNTS, &[]).await.expect("the counts");
    let count = |column| counts.get::<_, Option<i64>>(column).expect("a count");
    reached.rows.settle("rows", count(0));
    reached.groups.settle("groups", count(1));
    assert_eq!(
        count(2),
        count(1) * GROUP_ROWS,
        "a transaction of two tables is half there"
    );
    reached.counter.settle("counter", count(3));

    let per_post = METRICS.len() as i64;
    let readings = match client.query_one("SELECT count(*) FROM readings", &[]).await {
        Ok(row) => row.get::<_, i64>(0),
        // The table comes with the first post.
        Err(_) if reached.readings.done == 0 => 0,
        Err(e) => panic!("readings: {e:?}"),
    };
    assert_eq!(readings % per_post, 0, "a post is half there");
    reached.readings.settle("readings", readings / per_post);
}

/// Looks at every value.
async fn check_values(client: &Client, reached: &Reached) {
    for sql in WRONG {
        assert_eq!(number(client, sql).await, 0, "{sql}");
    }
    if reached.readings.done > 0 {
        let wrong = "SELECT count(*) FROM readings WHERE value <>
            CASE metric WHEN 'temp' THEN seq WHEN 'amps' THEN seq + 0.5 ELSE -seq END";
        assert_eq!(number(client, wrong).await, 0, "readings have other values");
    }
}

/// All that must not change about the past, as one line.
const AS_OF: &str = "SELECT
    (SELECT count(*) || ':' || coalesce(sum(n), 0) FROM single FOR SYSTEM_TIME AS OF '{}')
    || ' ' || (SELECT count(*) || ':' || coalesce(sum(v), 0) FROM grouped FOR SYSTEM_TIME AS OF '{}')
    || ' ' || (SELECT count(*) || ':' || coalesce(sum(n), 0) FROM counter FOR SYSTEM_TIME AS OF '{}')";

async fn answer_as_of(client: &Client, at: &str) -> String {
    let sql = AS_OF.replace("{}", at);
    let row = client
        .query_one(&sql, &[])
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    row.get(0)
}

async fn remember(client: &Client, states: &mut Vec<State>) {
    let at: String = client
        .query_one("SELECT now()::text", &[])
        .await
        .expect("now")
        .get(0);
    let answer = answer_as_of(client, &at).await;
    states.push(State { at, answer });
}

/// Every version of the counter is there, each with the next one's beginning as its end.
async fn check_history(client: &Client, reached: &Reached) {
    let rows = client
        .query(
            "SELECT n, _system_from::text, _system_to::text FROM history('counter', 1)",
            &[],
        )
        .await
        .expect("the counter's history");
    let versions: BTreeMap<i64, (String, Option<String>)> = rows
        .iter()
        .map(|r| (r.get(0), (r.get(1), r.get(2))))
        .collect();
    assert_eq!(
        versions.len() as i64,
        reached.counter.done + 1,
        "versions of the counter"
    );
    for (n, (_, to)) in &versions {
        let next = versions.get(&(n + 1)).map(|(from, _)| from.clone());
        assert_eq!(
            *to, next,
            "the version of count {n} does not end where the next begins"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let rounds = variable("CHRONOS_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = variable("CHRONOS_CRASH_SEED")
        .unwrap_or_else(|| u64::from(std::process::id()) << 20 | rounds);
    println!("CHRONOS_CRASH_SEED={seed} CHRONOS_CRASH_ROUNDS={rounds}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let begun = Instant::now();
    let reached = runtime.block_on(all_rounds(rounds, seed));
    println!("{rounds} rounds in {:?}: {reached:?}", begun.elapsed());
}

async fn all_rounds(rounds: u64, seed: u64) -> Reached {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut random = SplitMix(seed);
    let mut reached = Reached::default();
    let mut states: Vec<State> = Vec::new();
    for round in 0..=rounds {
        let node = Node::start_with(directory.path(), &MEMORY);
        let client = connect(&node).await;
        if round == 0 {
            create(&client).await;
        }
        check_counts(&client, &mut reached).await;
        let full = round % FULL_CHECK_EVERY == 0 || round == rounds;
        let unread = if full {
            0
        } else {
            states.len().saturating_sub(1)
        };
        for State { at, answer } in &states[unread..] {
            assert_eq!(
                &answer_as_of(&client, at).await,
                answer,
                "the state as of {at} has changed"
            );
        }
        if full {
            check_values(&client, &reached).await;
            check_history(&client, &reached).await;
            if round == rounds {
                assert_eq!(node.stop(), Some(0), "SIGTERM ends a node with 0");
                let segments = std::fs::read_dir(directory.path().join("store/segments"));
                let count = segments.map_or(0, Iterator::count);
                println!("{count} segments");
                assert!(count > 0 || rounds < ROUNDS, "nothing was ever flushed");
                break;
            }
        }
        if round % STATE_EVERY == 0 {
            if states.len() == STATES_MAX {
                states.remove(random.below(STATES_MAX as u64) as usize);
            }
            remember(&client, &mut states).await;
        }
        let life = Duration::from_micros(random.below(LIFE_MS_MAX * 1_000));
        reached = live(node, reached, life).await;
    }
    reached
}
