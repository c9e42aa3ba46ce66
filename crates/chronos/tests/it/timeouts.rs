//! Connections that are silent, or transactions that last, for too long.

use tokio_postgres::error::SqlState;

use crate::login::connect;
use crate::node::Node;

/// The code of the error that ends a connection after these statements.
async fn end_after(statements: &[&str]) -> (bool, Option<SqlState>) {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let connected = connect(&node, "ada", None).await.expect("a connection");
    let mut last = None;
    for statement in statements {
        let done = connected.client.batch_execute(statement).await;
        last = done.err().and_then(|e| e.code().cloned());
    }
    // The node closes it; without that this would wait for the test's own time limit.
    let patience = std::time::Duration::from_secs(60);
    let ended = tokio::time::timeout(patience, connected.ended).await;
    let ended = ended.expect("the connection ends").expect("its task ends");
    let code = ended.and_then(|e| e.code().cloned());
    (connected.client.is_closed(), code.or(last))
}

#[tokio::test]
async fn a_silent_session_ends() {
    let ended = end_after(&["SET idle_session_timeout = '100ms'"]).await;
    assert_eq!(ended, (true, Some(SqlState::from_code("57P05"))));
}

#[tokio::test]
async fn a_silent_transaction_ends() {
    let set = "SET idle_in_transaction_session_timeout = 100";
    let ended = end_after(&[set, "BEGIN"]).await;
    let code = SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT;
    assert_eq!(ended, (true, Some(code.clone())));
    // A failed one is open, too.
    let ended = end_after(&[set, "BEGIN", "SELECT 1/0"]).await;
    assert_eq!(ended, (true, Some(code)));
}

#[tokio::test]
async fn a_long_transaction_ends_silent_or_not() {
    let code = Some(SqlState::from_code("25P04"));
    let ended = end_after(&["SET transaction_timeout = '100ms'", "BEGIN"]).await;
    assert_eq!(ended, (true, code.clone()));
    let long = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b";
    let ended = end_after(&["SET transaction_timeout = '100ms'", long]).await;
    assert_eq!(ended, (true, code));
}

#[tokio::test]
async fn what_is_not_idle_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let connected = connect(&node, "ada", None).await.expect("a connection");
    let client = &connected.client;
    let set = "SET idle_in_transaction_session_timeout = '1ms'; SET transaction_timeout = '1h'";
    client.batch_execute(set).await.expect("SET");
    // Outside of a transaction neither holds; a statement that works is not silent.
    let work = "SELECT count(*) FROM generate_series(1, 1000000)";
    client.batch_execute(work).await.expect("a statement");
    let shown = client.query_one("SHOW transaction_timeout", &[]).await;
    assert_eq!(shown.expect("SHOW").get::<_, &str>(0), "1h");
}
