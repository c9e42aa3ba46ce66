//! What is read AS OF an instant that has passed is read the same for ever.
//!
//! A commit gets its stamp when it is proposed and is seen when it is durable and applied. A reader
//! of an instant in between must not miss it, since a later reader of that instant sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tokio_postgres::{Client, NoTls};

use crate::node::Node;

const WRITERS: usize = 8;
const READS: usize = 150;

async fn connect(node: &Node) -> Client {
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

async fn sum_as_of(client: &Client, instant: &str) -> i64 {
    let sql = format!("SELECT sum(n)::int8 FROM t FOR SYSTEM_TIME AS OF '{instant}'");
    client.query_one(&sql, &[]).await.expect("a sum").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_reads_the_same_while_others_write() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let reader = connect(&node).await;
    let create = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8); \
                  INSERT INTO t SELECT g, 0 FROM generate_series(0, 7) s(g)";
    reader.batch_execute(create).await.expect("a table");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for id in 0..WRITERS as i64 {
        let (client, stop) = (connect(&node).await, Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let update = client.prepare("UPDATE t SET n = n + 1 WHERE id = $1").await;
            let update = update.expect("an update");
            while !stop.load(Ordering::Relaxed) {
                client.execute(&update, &[&id]).await.expect("an update");
            }
        }));
    }
    let mut read = Vec::new();
    for _ in 0..READS {
        let row = reader.query_one("SELECT now()::text", &[]).await;
        let instant: String = row.expect("an instant").get(0);
        let sum = sum_as_of(&reader, &instant).await;
        read.push((instant, sum));
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
    for (instant, sum) in read {
        assert_eq!(sum_as_of(&reader, &instant).await, sum, "AS OF {instant}");
    }
}
