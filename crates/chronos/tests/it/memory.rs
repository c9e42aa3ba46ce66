//! A node with a small memory limit: what does not fit is spilled or refused with 53200, answers
//! are those of a node without a limit, and sessions go on.

use std::path::Path;

use futures::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::node::{get, post, Node};

const LIMIT: &str = "64MiB";
/// Rows of the table, and of one COPY.
const ROWS: u32 = 160_000;
const PIECE: u32 = 40_000;
/// A prime larger than all ids: numbers that are multiplied by others and brought below it all differ.
const PRIME: u64 = 1_000_003;

/// Queries, each of which has to hold more than a statement may with the limit, and a part of the
/// plan that says so.
const QUERIES: [&str; 9] = [
    // Sorts without an index; the order of all rows shows in the answer.
    "SELECT name, v FROM t ORDER BY name DESC, v OFFSET 79990 LIMIT 20",
    "SELECT sum(r * v % 1009) FROM (SELECT v, row_number() OVER (ORDER BY name) r FROM t) s",
    // Aggregates of as many groups as there are rows.
    "SELECT count(*), sum(n), min(x), max(m) FROM (SELECT name || 'x' AS m, x, count(*) n FROM t GROUP BY name, x) s",
    "SELECT count(DISTINCT name), count(DISTINCT v) FROM t",
    // Joins of the whole table with itself, with each kind of row that has no partner.
    "SELECT count(*), sum(a.v - b.x), max(a.name || b.name) FROM t a JOIN t b ON a.name = b.name",
    "SELECT count(*), count(b.id), max(b.name) FROM t a LEFT JOIN t b ON a.v = b.id AND b.x < 9",
    "SELECT count(*), count(a.id), count(b.id) FROM (SELECT * FROM t WHERE id % 2 = 0) a FULL JOIN (SELECT * FROM t WHERE id % 3 = 0) b ON a.name = b.name",
    "SELECT count(*), max(name) FROM t a WHERE NOT EXISTS (SELECT 1 FROM t b WHERE b.v = a.id AND b.x > 3)",
    "SELECT count(*), min(name) FROM t a WHERE name IN (SELECT name FROM t b WHERE b.grp < 900)",
];

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

/// The rows of a query, as text.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL"));
            Some(cells.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Lines of rows `from..to`.
fn lines(from: u32, to: u32) -> String {
    let line = |i: u32| {
        let id = u64::from(i) * 7_919 % PRIME;
        let (v, x) = (id * 31 % PRIME, i % 11);
        format!(
            "{id},{},{v},reading number {} of many,{x}.25\n",
            i % 1000,
            id * 17 % PRIME
        )
    };
    (from..to).map(line).collect()
}

async fn copy(client: &Client, text: String) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in("COPY t FROM STDIN (FORMAT csv)").await?;
    let mut sink = std::pin::pin!(sink);
    let mut text = bytes::Bytes::from(text);
    while !text.is_empty() {
        // As clients do; a message of all of it would be refused as such.
        let piece = text.split_to(text.len().min(64 << 10));
        sink.send(piece).await?;
    }
    sink.finish().await
}

/// A node with the table in memory and in segments.
async fn filled(directory: &Path, flags: &[&str]) -> (Node, Client) {
    let node = Node::start_with(directory, flags);
    let client = connect(&node).await;
    let create = "CREATE TABLE t (id INT8 PRIMARY KEY, grp INT4, v INT8, name TEXT, x FLOAT8)";
    client.batch_execute(create).await.expect("a table");
    for from in (0..ROWS).step_by(PIECE as usize) {
        let copied = copy(&client, lines(from, from + PIECE)).await;
        assert_eq!(copied.expect("a COPY"), u64::from(PIECE));
    }
    (node, client)
}

/// Whether a statement is refused for want of memory, in words that say what to do.
async fn is_refused(client: &Client, sql: &str) {
    let refused = client.batch_execute(sql).await.expect_err(sql);
    let error = refused
        .as_db_error()
        .unwrap_or_else(|| panic!("{sql}: {refused:?}"));
    assert_eq!(error.code(), &SqlState::OUT_OF_MEMORY, "{sql}: {error}");
    assert!(
        error.message().contains("memory limit of 64 MiB"),
        "{error}"
    );
    assert!(
        error.hint().is_some_and(|h| h.contains("--memory-limit")),
        "{error}"
    );
}

/// A figure of `/metrics`.
fn metric(node: &Node, line: &str) -> u64 {
    let (_, text) = get(node.http, "/metrics").expect("metrics");
    let found = text.lines().find_map(|l| l.strip_prefix(line));
    let figure = found.and_then(|rest| rest.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("no {line} in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_limit_changes_no_answer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let limited = directory.path().join("limited");
    let free = directory.path().join("free");
    let (small, client) = filled(&limited, &["--memory-limit", LIMIT]).await;
    let (_large, reference) = filled(&free, &["--memory-limit", "4GiB"]).await;

    for sql in QUERIES {
        assert_eq!(
            rows(&client, sql).await,
            rows(&reference, sql).await,
            "{sql}"
        );
    }
    // Each of them was refused memory at least once, and spilled or began again.
    let refusals = metric(&small, "chronos_memory_refusals_total");
    assert!(
        refusals >= 5,
        "only {refusals} refusals: the table is too small for this test"
    );
    assert_eq!(rows(&client, "SELECT * FROM t").await.len(), ROWS as usize);

    refused_writes(&client).await;
    let changes = "UPDATE t SET v = v + 1 WHERE grp = 7; CREATE INDEX t_v ON t (v); \
                   DELETE FROM t WHERE grp = 8; VACUUM FULL t";
    let sums =
        "SELECT count(*), sum(v), sum(id), max(name), count(DISTINCT grp) FROM t WHERE v > 10";
    for client in [&client, &reference] {
        for statement in changes.split(';') {
            client.batch_execute(statement).await.expect(statement);
        }
    }
    assert_eq!(rows(&client, sums).await, rows(&reference, sums).await);

    for figure in ["read", "written"] {
        let bytes = metric(&small, &format!("chronos_compaction_{figure}_bytes_total"));
        assert!(bytes > 0, "VACUUM FULL has {figure} nothing");
    }
    // Nothing is held when nothing is under way, and nothing is left of what was spilled.
    for class in ["queries", "writes", "input"] {
        let held = metric(
            &small,
            &format!("chronos_memory_bytes{{class=\"{class}\"}}"),
        );
        assert_eq!(held, 0, "{class}");
    }
    let spilled = walk(&limited.join("spill"));
    assert!(spilled.is_empty(), "left over: {spilled:?}");
    assert_eq!(small.stop(), Some(0));
}

/// Statements that hold too much, each followed by one that works in the same session.
async fn refused_writes(client: &Client) {
    let one_commit = copy(client, lines(0, ROWS))
        .await
        .expect_err("too large a COPY");
    assert_eq!(
        one_commit.code(),
        Some(&SqlState::OUT_OF_MEMORY),
        "{one_commit}"
    );
    client
        .batch_execute(
            "CREATE TABLE u (id INT8 PRIMARY KEY, grp INT4, v INT8, name TEXT, x FLOAT8)",
        )
        .await
        .expect("a table");
    is_refused(client, "INSERT INTO u SELECT * FROM t").await;
    is_refused(client, "UPDATE t SET x = x + 1").await;
    let rows_of_u = rows(client, "SELECT count(*) FROM u").await;
    assert_eq!(rows_of_u, ["0"], "a refused INSERT leaves nothing");
    let many = (0..20_000).map(|i| format!("({i}, 1, 2, 'a', 0.5)"));
    let many = many.collect::<Vec<_>>().join(", ");
    is_refused(client, &format!("INSERT INTO u VALUES {many}")).await;
    // One long value takes no more than its own copies.
    let long = format!(
        "INSERT INTO u VALUES (-1, 1, 2, '{}', 0.5)",
        "x".repeat(1 << 20)
    );
    client.batch_execute(&long).await.expect("a long value");
    client
        .batch_execute("DELETE FROM u")
        .await
        .expect("a delete");
    // A transaction that has become too large is failed, and can be rolled back.
    client.batch_execute("BEGIN").await.expect("a transaction");
    let mut step = 0;
    let refused = loop {
        let (tenth, copy) = (step % 10, step / 10);
        let insert = format!(
            "INSERT INTO u SELECT id + {copy} * 2000000, grp, v, name, x FROM t WHERE grp / 100 = {tenth}"
        );
        if let Err(refused) = client.batch_execute(&insert).await {
            break refused;
        }
        step += 1;
        assert!(step < 50, "the transaction fits");
    };
    assert_eq!(refused.code(), Some(&SqlState::OUT_OF_MEMORY), "{refused}");
    client.batch_execute("ROLLBACK").await.expect("a rollback");
    // In steps it fits.
    for step in 0..10 {
        let insert = format!("INSERT INTO u SELECT * FROM t WHERE grp / 100 = {step}");
        client.batch_execute(&insert).await.expect("a tenth");
    }
    assert_eq!(
        rows(client, "SELECT count(*) FROM u").await,
        [ROWS.to_string()]
    );
    client.batch_execute("DROP TABLE u").await.expect("a drop");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spilled_before_a_crash_is_removed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spill = directory.path().join("spill");
    let mut node = Node::start_with(directory.path(), &["--memory-limit", LIMIT]);
    node.kill();
    std::fs::create_dir_all(spill.join("datafusion-x")).expect("a directory");
    std::fs::write(spill.join("datafusion-x/left"), "over").expect("a file");
    let node = Node::start_with(directory.path(), &["--memory-limit", LIMIT]);
    assert!(walk(&spill).is_empty());
    // Readings are stored, and what a body takes is given back.
    let body = r#"[{"device_id": "d", "ts": 1700000000000, "seq": 1, "metrics": {"t": 1.5}}]"#;
    let (status, answer) = post(node.http, "/ingest", body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(metric(&node, "chronos_memory_bytes{class=\"input\"}"), 0);
    let (_, health) = get(node.http, "/health").expect("health");
    let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(health["memory"]["limit_bytes"], 64 << 20);
}

/// All files below a directory.
fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        }
    };
    entries.flat_map(of).collect()
}
