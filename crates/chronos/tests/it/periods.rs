//! Periods of rows: joins by them, however they are written, and columns that are their bounds, by
//! the ways in which rows come that scripts do not know.

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{Client, NoTls};

use crate::node::Node;

/// Seconds since the epoch.
const YEAR_2090: u64 = 3_786_912_000;
const YEAR_2095: u64 = 3_944_678_400;

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

async fn plan(client: &Client, sql: &str) -> String {
    let rows = client.query(&format!("EXPLAIN {sql}"), &[]).await;
    let rows = rows.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get::<_, String>(1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_by_periods_are_interval_joins() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE a (id INT, x TIMESTAMPTZ, y TIMESTAMPTZ); \
                  CREATE TABLE b (id INT, x TIMESTAMPTZ, y TIMESTAMPTZ, ts TIMESTAMPTZ); \
                  INSERT INTO a VALUES (1, '2020-01-01', '2020-02-01'); \
                  INSERT INTO b VALUES (1, '2020-01-15', '2020-03-01', '2020-01-20')";
    client.batch_execute(create).await.expect("tables");
    let conditions = [
        "a._valid_time OVERLAPS b._valid_time",
        "a.id = b.id AND a._valid_time OVERLAPS b._valid_time",
        "a._system_time OVERLAPS b._system_time",
        "PERIOD(a.x, a.y) OVERLAPS PERIOD(b.x, b.y)",
        "PERIOD(a.x, a.y) CONTAINS PERIOD(b.ts, b.ts)",
        "PERIOD(a.x, a.y) CONTAINS b.ts",
        "a._valid_time EQUALS b._valid_time",
        "a.x < b.y AND b.x < a.y",
        "b.ts >= a.x AND b.ts < a.y",
        "b.ts BETWEEN a.x AND a.y AND a.id = b.id",
        "b.ts >= a.x AND (b.ts < a.y OR a.y IS NULL)",
        "a.x < coalesce(b.y, now()) AND b.x < coalesce(a.y, now())",
    ];
    for condition in conditions {
        let joins = [
            format!("SELECT a.id, b.id FROM a JOIN b ON {condition}"),
            format!("SELECT a.id, b.id FROM a LEFT JOIN b ON {condition}"),
            format!("SELECT count(*) FROM a, b WHERE {condition}"),
            format!("SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE {condition})"),
        ];
        for sql in joins {
            let plan = plan(&client, &sql).await;
            assert!(plan.contains("IntervalJoin"), "{sql}\n{plan}");
            let other = plan.contains("NestedLoop") || plan.contains("CrossJoin");
            assert!(!other, "{sql}\n{plan}");
        }
    }
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_with_periods_by_copy_and_by_parameters_and_stay() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let create = "CREATE TABLE t (id INT, a TIMESTAMPTZ NOT NULL, b TIMESTAMPTZ, PERIOD FOR VALID_TIME (a, b), \
                  PRIMARY KEY (id, VALID_TIME WITHOUT OVERLAPS))";
    client.batch_execute(create).await.expect("a table");
    let sink = client.copy_in("COPY t FROM STDIN (FORMAT csv)").await;
    let mut sink = std::pin::pin!(sink.expect("COPY begins"));
    let rows = "1,2020-01-01,2021-01-01\n1,2021-01-01,\n2,2090-01-01,2091-01-01\n";
    sink.send(Bytes::from_static(rows.as_bytes()))
        .await
        .expect("COPY takes rows");
    assert_eq!(sink.finish().await.expect("COPY ends"), 3);
    let insert = "INSERT INTO t VALUES ($1, $2, $3) RETURNING b - a = INTERVAL '1826 days'";
    let row = client
        .query_one(insert, &[&3_i64, &time(YEAR_2090), &time(YEAR_2095)])
        .await;
    assert!(row.expect("an insert").get::<_, bool>(0));
    let shorten = client.prepare("UPDATE t SET b = $1 WHERE id = $2").await;
    let shorten = shorten.expect("a statement");
    let changed = client.execute(&shorten, &[&time(YEAR_2095), &1_i64]).await;
    assert_eq!(changed.expect("an update"), 1);
    node.stop();
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    let shown = "SELECT string_agg(id || ' ' || a::date || ' ' || b::date, ', ' ORDER BY id, a) FROM t FOR VALID_TIME ALL";
    let shown: String = client.query_one(shown, &[]).await.expect("rows").get(0);
    assert_eq!(
        shown,
        "1 2020-01-01 2021-01-01, 1 2021-01-01 2095-01-01, 2 2090-01-01 2091-01-01, 3 2090-01-01 2095-01-01"
    );
    let refused = client.batch_execute("ALTER TABLE t DROP COLUMN b").await;
    assert_eq!(
        refused
            .expect_err("b bounds the period")
            .code()
            .map(|c| c.code()),
        Some("2BP01")
    );
    node.stop();
}

fn time(seconds: u64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}
