//! `chronos.transactions`: what was committed is told once, with who did it, also after a crash
//! that lets the log be replayed; what was refused is not; and it can be switched off.

use tokio_postgres::{Client, NoTls};

use crate::node::Node;

async fn connect(node: &Node, user: &str) -> Client {
    let url = format!("postgres://{user}@{}/chronos", node.pg);
    let (client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

/// User, tables and rows of each transaction, in order.
async fn told(client: &Client) -> Vec<(Option<String>, Vec<String>, i64)> {
    let sql = "SELECT user_name, tables, rows FROM chronos.transactions ORDER BY id";
    let rows = client.query(sql, &[]).await.expect("the transactions");
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_is_told_once_whatever_happens_to_the_process() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let (ann, bob) = (connect(&node, "ann").await, connect(&node, "bob").await);
    ann.batch_execute("CREATE TABLE a (id INT8 PRIMARY KEY, v INT8)")
        .await
        .expect("a table");
    let refused = "INSERT INTO a VALUES (3, 3), (3, 3)";
    assert!(ann.batch_execute(refused).await.is_err());
    bob.batch_execute("INSERT INTO a VALUES (1, 1), (2, 2)")
        .await
        .expect("rows");
    bob.batch_execute("BEGIN; UPDATE a SET v = 5; ROLLBACK")
        .await
        .expect("nothing");
    ann.batch_execute("UPDATE a SET v = v; UPDATE a SET v = 3 WHERE id = 1")
        .await
        .expect("a changed row, and one that stays as it is");
    let migration = "BEGIN; CREATE TABLE x (y INT8); INSERT INTO x VALUES (1);
        UPDATE a SET v = 9 WHERE id = 2; COMMIT";
    ann.batch_execute(migration).await.expect("a migration");
    let reading = r#"{"device_id":"p1","ts":1704067200,"metrics":{"temp":20.5}}"#;
    let posted = crate::node::post(node.http, "/ingest", reading).expect("an answer");
    assert_eq!(posted.0, 200, "{}", posted.1);
    let by = |user: Option<&str>, tables: &str, rows| {
        let tables = tables.split(' ').map(str::to_owned).collect();
        (user.map(str::to_owned), tables, rows)
    };
    let expected = [
        by(Some("ann"), "a", 0),
        by(Some("bob"), "a", 2),
        by(Some("ann"), "a", 1),
        by(Some("ann"), "a x", 2),
        by(None, "readings", 0),
        by(None, "readings", 1),
    ];
    assert_eq!(told(&ann).await, expected);
    node.kill();

    let mut node = Node::start(directory.path());
    let client = connect(&node, "ann").await;
    assert_eq!(told(&client).await, expected);
    let joined = "SELECT count(*) FROM a FOR SYSTEM_TIME ALL AS a
        JOIN chronos.transactions t ON t.system_time = a._system_from";
    let row = client.query_one(joined, &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 4);
    let written = client
        .batch_execute("DELETE FROM chronos.transactions")
        .await;
    assert!(written.is_err(), "it can be written");
    node.kill();

    let node = Node::start_with(directory.path(), &["--keep-transactions", "off"]);
    let client = connect(&node, "ann").await;
    client
        .batch_execute("DELETE FROM a")
        .await
        .expect("a transaction that is not noted");
    assert_eq!(told(&client).await, expected);
    assert_eq!(node.stop(), Some(0));
}
