//! Tables that change while they are used: columns that come and go beside writers and over kills,
//! numbers of sequences that never come twice.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use futures::TryStreamExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::node::Node;

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect(sql);
}

/// All rows as text, columns joined.
async fn shown(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.expect(sql);
    let mut rows = Vec::new();
    for message in messages {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let cells = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL"));
            rows.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_tables_are_read_alike_after_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let mut client = connect(&node).await;
    run(
        &client,
        "CREATE TABLE t (a INT PRIMARY KEY, b INT2, c TEXT, d REAL);
         CREATE INDEX t_c ON t (c);
         INSERT INTO t SELECT x, x, 'c' || x, 1.5 FROM generate_series(1, 300) AS g(x);",
    )
    .await;
    let steps = [
        "ALTER TABLE t ADD COLUMN e INT DEFAULT 7, ALTER b TYPE INT8",
        "INSERT INTO t SELECT x, 100000 + x, 'c' || x, 2.5, x FROM generate_series(301, 400) AS g(x)",
        "ALTER TABLE t DROP COLUMN d",
        "UPDATE t SET e = e + 1 WHERE a % 3 = 0",
        "ALTER TABLE t ADD COLUMN d TEXT DEFAULT 'new'",
        "DELETE FROM t WHERE a % 50 = 0",
        "ALTER TABLE t ADD CONSTRAINT e_low CHECK (e < 1000)",
        "INSERT INTO t SELECT x, x, 'c' || x, x, 'd' FROM generate_series(401, 405) AS g(x)",
        "ALTER TABLE t RENAME COLUMN e TO f",
        "COMPACT t",
    ];
    let questions = [
        "SELECT * FROM t ORDER BY a",
        "SELECT * FROM t FOR SYSTEM_TIME ALL ORDER BY a, _system_from",
        "SELECT * FROM t WHERE c = 'c399'",
        "SELECT count(*), sum(b) FROM t WHERE b > 150",
    ];
    for step in steps {
        run(&client, step).await;
        let mut before = Vec::new();
        for question in questions {
            before.push(shown(&client, question).await);
        }
        node.kill();
        node = Node::start(directory.path());
        client = connect(&node).await;
        for (question, before) in questions.iter().zip(before) {
            assert_eq!(shown(&client, question).await, before, "{step}: {question}");
        }
    }
    let refused = client
        .batch_execute("INSERT INTO t VALUES (999, 1, 'c', 1000, 'd')")
        .await;
    let code = refused.expect_err("it fails the CHECK");
    assert_eq!(code.code(), Some(&SqlState::CHECK_VIOLATION));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_while_columns_come_and_go() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    run(
        &client,
        "CREATE TABLE t (id INT8 PRIMARY KEY, v INT8 NOT NULL)",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    // What looks at all rows gives up in the end beside writers without pause: they make one.
    let gate = Arc::new(tokio::sync::RwLock::new(()));
    let mut writers = Vec::new();
    for writer in 0..2i64 {
        let (client, stop) = (connect(&node).await, Arc::clone(&stop));
        let gate = Arc::clone(&gate);
        writers.push(tokio::spawn(async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let _writing = gate.read().await;
                let id = writer * 1_000_000 + written;
                let insert = "INSERT INTO t (id, v) VALUES ($1, $1)";
                client.execute(insert, &[&id]).await.expect("an insert");
                let update = "UPDATE t SET v = v + 1 WHERE id = $1";
                assert_eq!(client.execute(update, &[&id]).await.expect("an update"), 1);
                written += 1;
            }
            written
        }));
    }
    for round in 0..12 {
        run(
            &client,
            &format!("ALTER TABLE t ADD COLUMN x{round} INT DEFAULT {round}"),
        )
        .await;
        run(&client, "ALTER TABLE t ALTER v DROP NOT NULL").await;
        let writers_wait = gate.write().await;
        run(&client, "ALTER TABLE t ALTER v SET NOT NULL").await;
        drop(writers_wait);
        if round % 2 == 0 {
            run(&client, &format!("ALTER TABLE t DROP COLUMN x{round}")).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for writer in writers {
        total += writer.await.expect("a writer");
    }
    let wrong = shown(
        &client,
        "SELECT count(*), count(*) FILTER (WHERE v <> id + 1 OR x11 <> 11) FROM t",
    )
    .await;
    assert_eq!(wrong, [format!("{total} 0")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_comes_twice_after_kills() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    run(
        &connect(&node).await,
        "CREATE SEQUENCE s; CREATE TABLE t (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x INT)",
    )
    .await;
    let mut seen = HashSet::new();
    for _ in 0..4 {
        let mut takers = Vec::new();
        for _ in 0..3 {
            let client = connect(&node).await;
            takers.push(tokio::spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..60 {
                    let row = client.query_one("SELECT nextval('s')", &[]).await;
                    taken.push(row.expect("a number").get::<_, i64>(0));
                    let insert = "INSERT INTO t (x) VALUES (1)";
                    client.execute(insert, &[]).await.expect("a row of its own");
                }
                taken
            }));
        }
        for taker in takers {
            for number in taker.await.expect("a taker") {
                assert!(seen.insert(number), "{number} came twice");
            }
        }
        node.kill();
        node = Node::start(directory.path());
    }
    assert_eq!(seen.len(), 4 * 3 * 60);
    let client = connect(&node).await;
    assert_eq!(shown(&client, "SELECT count(*) FROM t").await, ["720"]);
}

/// Readings that come for a table with more columns than they have get their defaults.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_goes_on_when_its_table_is_altered() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let post = |seq: u64| {
        let reading = format!(
            r#"{{"device_id":"p1","ts":1704067200,"seq":{seq},"metrics":{{"temp":20.5}}}}"#
        );
        let (status, answer) =
            crate::node::post(node.http, "/ingest", &reading).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        answer.trim_end().to_owned()
    };
    run(
        &client,
        "CREATE TABLE readings (device_id TEXT, metric TEXT, ts TIMESTAMPTZ, seq INT8, value FLOAT8,
         twice FLOAT8 GENERATED ALWAYS AS (value * 2) STORED, PRIMARY KEY (device_id, metric, ts, seq))",
    )
    .await;
    assert_eq!(post(1), r#"{"rows":1,"duplicates":0}"#);
    run(
        &client,
        "ALTER TABLE readings ADD COLUMN site TEXT NOT NULL DEFAULT 'barn';
         ALTER TABLE readings ALTER COLUMN site SET DEFAULT 'stable'",
    )
    .await;
    assert_eq!(post(2), r#"{"rows":1,"duplicates":0}"#);
    assert_eq!(post(1), r#"{"rows":0,"duplicates":1}"#);
    let rows = client
        .query("SELECT seq, site, twice FROM readings ORDER BY seq", &[])
        .await
        .expect("the readings");
    let found: Vec<(i64, String, f64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let expected = [(1, "barn".to_owned(), 41.0), (2, "stable".to_owned(), 41.0)];
    assert_eq!(found, expected);
    // What goes out can come in again: no generated columns.
    let stream = client
        .copy_out("COPY readings TO STDOUT")
        .await
        .expect("a COPY");
    let lines: Vec<_> = stream.try_collect().await.expect("its data");
    assert_eq!(lines.len(), 2);
    let line = String::from_utf8_lossy(&lines[0]).into_owned();
    assert_eq!(line.trim_end().split('\t').count(), 6, "{line}");
}
