//! Secondary indexes of a running node: built beside writers, taken up again after a kill,
//! unique against racing writers, and of no influence on what queries answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

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

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a number").get(0)
}

async fn plan(client: &Client, sql: &str) -> String {
    let rows = client.query(&format!("EXPLAIN {sql}"), &[]).await;
    let rows = rows.expect("a plan");
    rows.iter().map(|row| row.get::<_, String>(1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_while_others_write() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE t (id INT8 PRIMARY KEY, v INT8, w INT8); \
                  INSERT INTO t SELECT g, g % 1000, 0 FROM generate_series(1, 20000) s(g)";
    client.batch_execute(create).await.expect("a table");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..2i64 {
        let (client, stop) = (connect(&node).await, Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let mut id = 100_000 * (writer + 1);
            while !stop.load(Ordering::Relaxed) {
                id += 1;
                let insert = "INSERT INTO t VALUES ($1::int8, $1::int8 % 1000, 1)";
                client.execute(insert, &[&id]).await.expect("an insert");
                let update = "UPDATE t SET v = (v + 1) % 1000 WHERE id = $1";
                let old = id % 20_000;
                client.execute(update, &[&old]).await.expect("an update");
            }
        }));
    }
    for _ in 0..3 {
        let create = "CREATE INDEX t_v ON t (v)";
        client.batch_execute(create).await.expect("an index");
        let by_index = "SELECT count(*) FROM t FOR SYSTEM_TIME AS OF now() WHERE v = 7";
        assert!(plan(&client, by_index).await.contains("index=t_v"));
        client
            .batch_execute("DROP INDEX t_v")
            .await
            .expect("it is dropped");
    }
    let create = "CREATE INDEX t_v ON t (v)";
    client.batch_execute(create).await.expect("an index");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
    for v in 0..20 {
        let by_index = format!("SELECT count(*) FROM t WHERE v = {v}");
        assert!(plan(&client, &by_index).await.contains("index=t_v"));
        // An expression is not looked up.
        let by_scan = format!("SELECT count(*) FROM t WHERE v + 0 = {v}");
        assert!(!plan(&client, &by_scan).await.contains("index=t_v"));
        assert_eq!(
            number(&client, &by_index).await,
            number(&client, &by_scan).await
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_racing_writers_gets_a_unique_value() {
    const RACES: i64 = 60;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE t (id INT8 PRIMARY KEY, v INT8 UNIQUE)";
    client.batch_execute(create).await.expect("a table");
    let mut writers = Vec::new();
    for writer in 0..3i64 {
        let client = connect(&node).await;
        writers.push(tokio::spawn(async move {
            let mut won = 0;
            for v in 0..RACES {
                let id = v * 10 + writer;
                let insert = "INSERT INTO t VALUES ($1, $2)";
                match client.execute(insert, &[&id, &v]).await {
                    Ok(_) => won += 1,
                    Err(e) => assert_eq!(e.code(), Some(&SqlState::UNIQUE_VIOLATION), "{e}"),
                }
                let upsert = "INSERT INTO t VALUES ($1, -1) ON CONFLICT (v) DO UPDATE SET v = -1";
                client
                    .execute(upsert, &[&(100_000 + id)])
                    .await
                    .expect("an upsert");
            }
            won
        }));
    }
    let mut won = 0;
    for writer in writers {
        won += writer.await.expect("a writer");
    }
    assert_eq!(won, RACES);
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, RACES + 1);
    assert_eq!(
        number(&client, "SELECT count(DISTINCT v) FROM t").await,
        RACES + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_on_after_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE t (id INT8 PRIMARY KEY, v INT8, w INT8); \
                  INSERT INTO t SELECT g, g % 1000, g FROM generate_series(1, 30000) s(g)";
    client.batch_execute(create).await.expect("a table");
    let waiting = tokio::spawn(async move {
        let create = "CREATE INDEX t_v ON t (v)";
        let first = client.batch_execute(create).await;
        let second = "CREATE UNIQUE INDEX t_w ON t (w)";
        first.and(client.batch_execute(second).await)
    });
    // As soon as there is an index, complete or not.
    let other = connect(&node).await;
    let count = "SELECT count(*) FROM pg_indexes WHERE tablename = 't'";
    while number(&other, count).await < 2 {
        tokio::task::yield_now().await;
    }
    node.kill();
    let _ = waiting.await.expect("the waiting client");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    while number(&client, invalid).await > 0 {
        tokio::task::yield_now().await;
    }
    let by_index = "SELECT count(*) FROM t WHERE v = 7";
    assert!(plan(&client, by_index).await.contains("index=t_v"));
    assert_eq!(number(&client, by_index).await, 30);
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 30_000);
}

/// Predicates of every kind, on a table with indexes and on one without.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_do_not_change_answers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    for table in ["plain", "indexed"] {
        let sql = format!(
            "CREATE TABLE {table} (id INT8 PRIMARY KEY, a INT4, b TEXT, c FLOAT8, d NUMERIC(9,2), e BOOL, f TIMESTAMPTZ); \
             INSERT INTO {table} SELECT g, CASE WHEN g % 11 = 0 THEN NULL ELSE g % 97 END, \
                CASE WHEN g % 13 = 0 THEN NULL ELSE 't' || (g % 53) END, \
                CASE g % 7 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN -'NaN'::float8 WHEN 3 THEN -0.0 ELSE g % 31 END, \
                (g % 71) / 10.0, g % 3 = 0, timestamptz '2024-01-01' + (g % 61) * interval '1 day' \
             FROM generate_series(1, 3000) s(g)"
        );
        client.batch_execute(&sql).await.expect("a table");
    }
    let indexes = "CREATE INDEX i1 ON indexed (a, b DESC); CREATE INDEX i2 ON indexed (b, a) WHERE e; \
                   CREATE INDEX i3 ON indexed (c, f); CREATE INDEX i4 ON indexed (d DESC, a); \
                   CREATE INDEX i5 ON indexed (f) WHERE a IS NOT NULL AND d > 2; CREATE INDEX i6 ON indexed (a NULLS FIRST)";
    for index in indexes.split(';') {
        client.batch_execute(index).await.expect("an index");
    }
    let before: String = client
        .query_one("SELECT now()::text", &[])
        .await
        .expect("an instant")
        .get(0);
    for table in ["plain", "indexed"] {
        let change = format!(
            "UPDATE {table} SET a = a + 1, c = -c WHERE id % 5 = 0; DELETE FROM {table} WHERE id % 17 = 0; \
             UPDATE {table} SET b = 't1' WHERE a = 7"
        );
        for change in change.split(';') {
            client.batch_execute(change).await.expect("a change");
        }
    }
    let predicates = [
        "a = 7",
        "a = 7 AND b = 't1'",
        "a = 7 AND b > 't2'",
        "a IS NULL",
        "a IS NULL AND b < 't3'",
        "a IN (1, 5, 5, 96)",
        "a IN (1, 5) AND b IN ('t1', 't5')",
        "a > 94",
        "a BETWEEN 3 AND 4",
        "a < 2",
        "a = 3 OR a = 9",
        "a = 3 OR b = 't2'",
        "b = 't2' AND e",
        "b = 't2' AND NOT e",
        "b IS NULL AND e",
        "c = 0",
        "c = 'NaN'",
        "c > 29",
        "c < 0",
        "c = -0.0::float8",
        "c IS NULL AND f > '2024-02-25'",
        "d = 3.1",
        "d > 6.9",
        "d <= 0.1 AND a > 50",
        "d = 3.1 AND a IS NULL",
        "f = '2024-01-05' AND a IS NOT NULL AND d > 2",
        "f = '2024-01-05' AND a = 3 AND d > 2",
        "f = '2024-01-05' AND d > 2",
        "f = '2024-01-05' AND a > 3 AND d = 3.5",
        "a = 5.0",
        "a = 5.5",
        "a <> 7 AND a = 8",
        "a = 7 AND a = 8",
        "a = NULL",
    ];
    let orders = [
        "ORDER BY id",
        "ORDER BY a, b DESC, id LIMIT 9",
        "ORDER BY a LIMIT 3",
        "ORDER BY d DESC, a LIMIT 5",
        "ORDER BY f LIMIT 4",
        "ORDER BY a NULLS FIRST LIMIT 5",
        "ORDER BY b, a LIMIT 6",
        "ORDER BY f, c LIMIT 5",
    ];
    let mut used = 0;
    for predicate in predicates.into_iter().chain(["true"]) {
        for order in orders {
            for past in ["", &format!("FOR SYSTEM_TIME AS OF '{before}'")] {
                // What the order leaves open is left out of the answer.
                let shown = match order {
                    "ORDER BY id" | "ORDER BY a, b DESC, id LIMIT 9" => "id::text",
                    "ORDER BY a LIMIT 3" | "ORDER BY a NULLS FIRST LIMIT 5" => "a::text",
                    "ORDER BY d DESC, a LIMIT 5" => "d::text || coalesce(a::text, '')",
                    "ORDER BY f LIMIT 4" | "ORDER BY f, c LIMIT 5" => "f::text",
                    "ORDER BY b, a LIMIT 6" => "coalesce(b, '') || coalesce(a::text, '')",
                    other => panic!("{other}"),
                };
                let of = |table: &str| {
                    format!("SELECT {shown} FROM {table} {past} WHERE {predicate} {order}")
                };
                let mut answers = Vec::new();
                for table in ["plain", "indexed"] {
                    let rows = client.query(&of(table), &[]).await;
                    let rows = rows.unwrap_or_else(|e| panic!("{}: {e:?}", of(table)));
                    let texts = rows.iter().map(|row| row.get::<_, Option<String>>(0));
                    answers.push(texts.collect::<Vec<_>>());
                }
                assert_eq!(answers[0], answers[1], "{}", of("indexed"));
                if past.is_empty() {
                    used += u32::from(plan(&client, &of("indexed")).await.contains("IndexScan"));
                }
            }
        }
    }
    assert!(used > 100, "indexes were used {used} times");
}
