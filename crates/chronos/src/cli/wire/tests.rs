//! Sessions against a node whose answers are known byte by byte.

use std::io;

use super::fake::{self, FakeNode, Request};
use super::Session;
use crate::cli::error::CliError;
use crate::cli::reply::{Event, Kind, Progress, RunError, Transaction};

async fn node() -> FakeNode {
    FakeNode::start(|request| match request {
        Request::Query(sql) if sql == "begin" => {
            [fake::message(b'C', b"BEGIN\0"), fake::ready(b'T')].concat()
        }
        Request::Query(sql) if sql.starts_with("select") => {
            [fake::rows("n", 20, &["1", "2"]), fake::complete("SELECT 2")].concat()
        }
        Request::Query(sql) if sql.starts_with("copy") => fake::copy_in(),
        Request::Query(sql) if sql == "late" => [
            fake::rows("n", 25, &["1"]),
            fake::error("ERROR", "22012", "division by zero", ""),
        ]
        .concat(),
        Request::Query(sql) if sql == "shutdown" => {
            fake::error("FATAL", "57P01", "the node is stopping", "")
        }
        Request::Query(_) => Vec::new(),
        Request::Copy(_) => fake::complete("COPY 3"),
        Request::CopyFailed(reason) => fake::error("ERROR", "57014", reason, ""),
        Request::Cancel(_) => Vec::new(),
    })
    .await
}

/// The events of a statement, in short.
async fn run(session: &mut Session, sql: &str) -> (Vec<String>, Result<Progress, RunError>) {
    let mut events = Vec::new();
    let result = session
        .run(sql, &mut |event| {
            events.push(match event {
                Event::Columns(columns) => format!("{} {:?}", columns[0].name, columns[0].kind),
                Event::Row(cells) => cells[0].unwrap_or("NULL").to_owned(),
                Event::Complete(tag) => tag.to_owned(),
                other => format!("{other:?}"),
            });
            Ok(())
        })
        .await;
    (events, result)
}

#[tokio::test]
async fn rows_tags_and_the_transaction_state_arrive() {
    let node = node().await;
    let mut session = Session::connect(&node.target()).await.unwrap();
    assert_eq!(session.server_version(), "15.0");
    let (events, result) = run(&mut session, "select 1").await;
    assert!(matches!(result, Ok(Progress::Done)));
    assert_eq!(
        events,
        [&format!("n {:?}", Kind::Number), "1", "2", "SELECT 2"]
    );
    assert_eq!(session.transaction(), Transaction::Idle);
    let _ = run(&mut session, "begin").await;
    assert_eq!(session.transaction(), Transaction::Open);
}

#[tokio::test]
async fn an_error_after_rows_leaves_the_session_usable() {
    let node = node().await;
    let mut session = Session::connect(&node.target()).await.unwrap();
    let (events, result) = run(&mut session, "late").await;
    assert_eq!(events.len(), 2);
    assert!(matches!(result, Err(RunError::Sql(error)) if error.code == "22012"));
    assert!(matches!(
        run(&mut session, "select 1").await.1,
        Ok(Progress::Done)
    ));
}

#[tokio::test]
async fn a_node_that_stops_or_hangs_up_loses_the_session() {
    let node = node().await;
    let mut session = Session::connect(&node.target()).await.unwrap();
    let (_, result) = run(&mut session, "shutdown").await;
    assert!(matches!(result, Err(RunError::Lost(reason)) if reason.contains("stopping")));
    let mut session = Session::connect(&node.target()).await.unwrap();
    let (_, result) = run(&mut session, "hang up").await;
    assert!(matches!(result, Err(RunError::Lost(_))));
}

#[tokio::test]
async fn a_sink_that_fails_cancels_the_statement_and_keeps_the_session() {
    let node = node().await;
    let mut session = Session::connect(&node.target()).await.unwrap();
    let mut calls = 0;
    let result = session
        .run("select 1", &mut |event| {
            calls += 1;
            match event {
                Event::Row(_) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
                _ => Ok(()),
            }
        })
        .await;
    assert!(matches!(result, Err(RunError::Output(_))));
    assert_eq!(calls, 2, "columns and one row; nothing after the failure");
    assert!(node.seen().contains(&Request::Cancel(fake::PROCESS_ID)));
    assert!(matches!(
        run(&mut session, "select 1").await.1,
        Ok(Progress::Done)
    ));
}

#[tokio::test]
async fn copy_data_arrives_whole_or_is_withdrawn() {
    let node = node().await;
    let mut session = Session::connect(&node.target()).await.unwrap();
    let (_, result) = run(&mut session, "copy t from stdin").await;
    assert!(matches!(result, Ok(Progress::WantsCopyData)));
    let data = "x\n".repeat(400_000);
    session.copy_data(data.as_bytes()).await.unwrap();
    session.copy_finish(&mut |_| Ok(())).await.unwrap();
    assert!(node.seen().contains(&Request::Copy(data)));

    let _ = run(&mut session, "copy t from stdin").await;
    let result = session.copy_fail("no more").await;
    assert!(matches!(result, Err(RunError::Sql(error)) if error.message == "no more"));
    assert!(matches!(
        run(&mut session, "select 1").await.1,
        Ok(Progress::Done)
    ));
}

#[tokio::test]
async fn nobody_listening_is_explained() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u@{}/d", listener.local_addr().unwrap());
    drop(listener);
    let target = super::Target::parse(&url).unwrap();
    let error = Session::connect(&target).await.err().unwrap();
    assert!(matches!(error, CliError::Connect { .. }));
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("chronos start"), "{error}");
}
