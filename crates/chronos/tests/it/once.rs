//! Requests with an idempotency key are applied once: sent again, sent to a node that was killed
//! meanwhile, or sent by many at the same time.

use std::net::SocketAddr;

use tokio_postgres::{Client, NoTls};

use crate::node::{get, request_as, Node};

/// Clients that send the same request at the same time, and how often.
const CLIENTS: usize = 8;
const ROUNDS: usize = 12;

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

/// Posts with a key; gives the status and the body, without how long it took.
fn post(to: SocketAddr, path: &str, key: &str, body: &str) -> (u16, String) {
    let header = format!("Idempotency-Key: {key}\r\n");
    let (status, answer) = request_as(to, "POST", path, &header, body).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body = body.split("\"elapsed_ms\"").next().unwrap_or_default();
    (status, body.to_owned())
}

fn sql(to: SocketAddr, key: &str, sql: &str) -> (u16, String) {
    let body = serde_json::json!({ "sql": sql }).to_string();
    post(to, "/sql", key, &body)
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_again_is_answered_again_and_not_applied() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let create = "CREATE TABLE a (id INT8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n INT8)";
    let created = sql(node.http, "create", create);
    assert_eq!(created.0, 200, "{}", created.1);
    let insert = "INSERT INTO a (n) SELECT 1 FROM generate_series(1, 3) RETURNING id, n";
    let two = "UPDATE a SET n = n + 1; INSERT INTO a (n) VALUES (7); SELECT count(*) FROM a";
    let copy = "CREATE TABLE b AS SELECT id, n FROM a";
    let requests = [
        ("create", create),
        ("insert", insert),
        ("two", two),
        ("copy", copy),
    ];
    let first: Vec<_> = requests.map(|(key, text)| sql(node.http, key, text)).into();
    assert!(first.iter().all(|(status, _)| *status == 200), "{first:?}");
    assert_eq!(first[0], created);
    let reading = r#"{"device_id":"p1","ts":1704067200,"metrics":{"temp":20.5,"rpm":3}}"#;
    let stored = post(node.http, "/ingest", "reading", reading);
    assert_eq!(stored, (200, "{\"rows\":2,\"duplicates\":0}\n".to_owned()));
    node.kill();

    let node = Node::start(directory.path());
    for ((key, text), first) in requests.iter().zip(&first) {
        assert_eq!(sql(node.http, key, text), *first, "{text}");
    }
    assert_eq!(post(node.http, "/ingest", "reading", reading), stored);
    let client = connect(&node).await;
    assert_eq!(
        number(&client, "SELECT sum(n)::int8 FROM a").await,
        3 * 2 + 7
    );
    assert_eq!(number(&client, "SELECT count(*) FROM readings").await, 2);

    // Other requests with these keys do nothing.
    let other = r#"{"device_id":"p2","ts":1704067200,"metrics":{"temp":20.5}}"#;
    for (path, key, body) in [
        ("/ingest", "reading", other),
        ("/ingest", "two", other),
        ("/sql", "reading", r#"{"sql":"DELETE FROM a"}"#),
        ("/sql", "insert", r#"{"sql":"DELETE FROM a"}"#),
    ] {
        let (status, answer) = post(node.http, path, key, body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains("22023"), "{answer}");
    }
    assert_eq!(number(&client, "SELECT count(*) FROM a").await, 4);
    assert_eq!(number(&client, "SELECT count(*) FROM readings").await, 2);
    let twice = "BEGIN; DELETE FROM a; COMMIT; DELETE FROM readings";
    let refused = sql(node.http, "twice", twice);
    assert!(refused.1.contains("0A000"), "{}", refused.1);
    assert_eq!(post(node.http, "/sql", "", r#"{"sql":"SELECT 1"}"#).0, 400);
    assert_eq!(get(node.http, "/ready").expect("an answer").0, 200);
    assert_eq!(node.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_the_same_time_one_is_applied_and_all_are_answered_alike() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    client
        .batch_execute(
            "CREATE TABLE c (id INT8 PRIMARY KEY, n INT8); INSERT INTO c VALUES (1, 0);
             CREATE TABLE l (id INT8 GENERATED ALWAYS AS IDENTITY, round INT8)",
        )
        .await
        .expect("tables");
    for round in 0..ROUNDS {
        let statements = [
            "UPDATE c SET n = n + 1 WHERE id = 1 RETURNING n".to_owned(),
            format!("INSERT INTO l (round) VALUES ({round}) RETURNING id"),
            format!("INSERT INTO c VALUES ({}, 0)", round + 2),
        ];
        for (i, statement) in statements.iter().enumerate() {
            let key = format!("{round}/{i}");
            let to = node.http;
            let sent: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (key, statement) = (key.clone(), statement.clone());
                    std::thread::spawn(move || sql(to, &key, &statement))
                })
                .collect();
            let mut answers: Vec<_> = sent
                .into_iter()
                .map(|thread| thread.join().expect("an answer"))
                .collect();
            answers.dedup();
            assert_eq!(answers.len(), 1, "{answers:?}");
            assert_eq!(answers[0].0, 200, "{answers:?}");
        }
        let reading = format!(r#"{{"device_id":"p","ts":{round},"metrics":{{"temp":1}}}}"#);
        let key = format!("{round}/reading");
        let to = node.http;
        let sent: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (key, reading) = (key.clone(), reading.clone());
                std::thread::spawn(move || post(to, "/ingest", &key, &reading))
            })
            .collect();
        for thread in sent {
            let (status, answer) = thread.join().expect("an answer");
            assert_eq!(
                (status, answer.as_str()),
                (200, "{\"rows\":1,\"duplicates\":0}\n")
            );
        }
    }
    let rounds = ROUNDS as i64;
    assert_eq!(
        number(&client, "SELECT n FROM c WHERE id = 1").await,
        rounds
    );
    assert_eq!(number(&client, "SELECT count(*) FROM l").await, rounds);
    assert_eq!(
        number(&client, "SELECT count(*) FROM readings").await,
        rounds
    );
    assert_eq!(node.stop(), Some(0));
}

/// `readings` with rules goes another way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_of_a_table_with_rules_are_stored_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    client
        .batch_execute(
            "CREATE TABLE readings (device_id TEXT, metric TEXT, ts TIMESTAMPTZ, seq INT8, value FLOAT8,
                 number INT8 GENERATED ALWAYS AS IDENTITY, CHECK (value >= 0),
                 PRIMARY KEY (device_id, metric, ts, seq))",
        )
        .await
        .expect("a table");
    let refused = r#"{"device_id":"p","ts":1,"metrics":{"temp":-1}}"#;
    let reading = r#"{"device_id":"p","ts":1,"metrics":{"temp":1,"rpm":2}}"#;
    let (status, answer) = post(node.http, "/ingest", "k", refused);
    assert_eq!(status, 400, "{answer}");
    let stored = (200, "{\"rows\":2,\"duplicates\":0}\n".to_owned());
    assert_eq!(post(node.http, "/ingest", "k", reading), stored);
    client
        .batch_execute("DELETE FROM readings")
        .await
        .expect("rows go");
    assert_eq!(post(node.http, "/ingest", "k", reading), stored);
    assert_eq!(number(&client, "SELECT count(*) FROM readings").await, 0);
    assert_eq!(post(node.http, "/ingest", "k", refused).0, 400);
    assert_eq!(node.stop(), Some(0));
}
