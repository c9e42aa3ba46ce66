//! ADD PRIMARY KEY beside writers: whether the table got its key or rows came first, each value is there
//! once, and what was acknowledged is found by it.

use tokio_postgres::{Client, NoTls};

use crate::node::Node;

const ROUNDS: usize = 20;
const WRITERS: i64 = 4;
/// Values that each writer inserts; the next writer may insert half of them, too.
const VALUES: i64 = 6;

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection to a node that announced itself");
    tokio::spawn(connection);
    client
}

fn code(error: &tokio_postgres::Error) -> String {
    let told = error.as_db_error().expect("an answer");
    told.code().code().to_owned()
}

/// Returns what was acknowledged.
async fn insert(client: Client, table: String, first: i64) -> (Client, Vec<i64>) {
    let mut acknowledged = Vec::new();
    for value in first..first + VALUES {
        let sql = format!("INSERT INTO {table} VALUES ($1, $2)");
        match client.execute(&sql, &[&value, &first]).await {
            Ok(_) => acknowledged.push(value),
            Err(e) => assert!(["23505", "40001"].contains(&code(&e).as_str()), "{e:?}"),
        }
    }
    (client, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_comes_while_rows_come() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(directory.path());
    let client = connect(&node).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(connect(&node).await);
    }
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        let table = format!("t{round}");
        let create = format!("CREATE TABLE {table} (a INT8, b INT8)");
        client.batch_execute(&create).await.expect("the table");
        // In every second round, so that the others' keys do come.
        let apart = [VALUES, VALUES / 2][round % 2];
        let tasks: Vec<_> = (0..WRITERS)
            .zip(writers.drain(..))
            .map(|(i, writer)| tokio::spawn(insert(writer, table.clone(), i * apart)))
            .collect();
        let add = format!("ALTER TABLE {table} ADD PRIMARY KEY (a)");
        let added = client.batch_execute(&add).await;
        let mut acknowledged = Vec::new();
        for task in tasks {
            let (writer, values) = task.await.expect("a writer");
            writers.push(writer);
            acknowledged.extend(values);
        }
        acknowledged.sort_unstable();
        match added {
            Ok(()) => expected.push((table, acknowledged)),
            // Twice the same value before, or another change meanwhile.
            Err(e) => assert!(["23505", "40001"].contains(&code(&e).as_str()), "{e:?}"),
        }
    }
    for (table, acknowledged) in &expected {
        check(&client, table, acknowledged).await;
    }
    assert!(
        expected.len() >= ROUNDS / 4,
        "keys came to {} tables only",
        expected.len()
    );
    node.kill();
    let node = Node::start(directory.path());
    let client = connect(&node).await;
    for (table, acknowledged) in &expected {
        check(&client, table, acknowledged).await;
    }
}

async fn check(client: &Client, table: &str, acknowledged: &[i64]) {
    let all = format!("SELECT a FROM {table} ORDER BY a");
    let rows = client.query(&all, &[]).await.expect("the rows");
    let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, acknowledged, "{table}");
    let mut once = found.clone();
    once.dedup();
    assert_eq!(once, found, "{table} has a value twice");
    for value in found {
        let by_key = format!("SELECT a FROM {table} WHERE a = $1");
        let rows = client.query(&by_key, &[&value]).await.expect("a row");
        assert_eq!(rows.len(), 1, "{value} in {table}");
        let again = format!("INSERT INTO {table} VALUES ($1, 0)");
        let refused = client.execute(&again, &[&value]).await;
        assert_eq!(code(&refused.expect_err("a duplicate")), "23505");
    }
}
