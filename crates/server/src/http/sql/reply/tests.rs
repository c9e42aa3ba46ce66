//! Bodies that stream, break off and are left.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow_array::Int64Array;
use chronos_env::SimEnv;
use http_body_util::BodyExt;
use prometheus_client::registry::Registry;

use super::*;
use crate::http::metrics::{Kind, Metrics};

const ROWS_PER_BATCH: i64 = 8192;

fn guard() -> RequestGuard {
    let clock = SimEnv::new(1).clock;
    let metrics = Metrics::new(Registry::default(), clock, crate::http::test_node());
    Arc::new(metrics).begin(Kind::Sql)
}

/// Says when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Watched {
    outcome: Outcome,
    produced: Arc<AtomicU64>,
    dropped: Arc<AtomicBool>,
}

/// `batches` batches of numbers, and then an error if `fails`.
fn numbers(batches: i64, fails: bool) -> Watched {
    let schema = Arc::new(Schema::new(vec![DataType::Int8.to_field("n", false)]));
    let produced = Arc::new(AtomicU64::new(0));
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(dropped.clone());
    let (stream_schema, count) = (schema.clone(), produced.clone());
    let rows = futures::stream::iter(0..batches + i64::from(fails)).map(move |batch| {
        let _held = &flag;
        count.fetch_add(1, Ordering::SeqCst);
        if batch == batches {
            return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        let first = batch * ROWS_PER_BATCH;
        let column = Int64Array::from_iter_values(first..first + ROWS_PER_BATCH);
        let batch = RecordBatch::try_new(stream_schema.clone(), vec![Arc::new(column)]);
        batch.map_err(|e| Error::new(SqlState::INTERNAL, e.to_string()))
    });
    let outcome = Outcome::Rows(Rows {
        schema,
        data: RowData::Batches(Box::pin(rows)),
        tag: CommandTag {
            verb: "SELECT",
            rows: None,
        },
    });
    Watched {
        outcome,
        produced,
        dropped,
    }
}

#[tokio::test]
async fn a_large_result_streams_and_is_whole() {
    for format in [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow] {
        let Ok(response) = reply(numbers(40, false).outcome, format, None, guard()).await else {
            panic!("{format:?} failed");
        };
        assert!(!response.headers().contains_key("chronos-command"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let rows = 40 * ROWS_PER_BATCH;
        match format {
            Format::Json => {
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(json["row_count"], rows);
                assert_eq!(json["rows"][rows as usize - 1][0], rows - 1);
            }
            Format::Ndjson => assert_eq!(memchr::memchr_iter(b'\n', &body).count() as i64, rows),
            Format::Csv => assert!(body.ends_with(format!("{}\r\n", rows - 1).as_bytes())),
            Format::Arrow => {
                let reader = arrow_ipc::reader::StreamReader::try_new(&*body, None).unwrap();
                let count: usize = reader.map(|b| b.unwrap().num_rows()).sum();
                assert_eq!(count as i64, rows);
            }
        }
    }
}

#[tokio::test]
async fn a_body_is_produced_as_it_is_taken() {
    let watched = numbers(1000, false);
    let Ok(response) = reply(watched.outcome, Format::Csv, None, guard()).await else {
        panic!("failed");
    };
    let mut body = response.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    let produced = watched.produced.load(Ordering::SeqCst);
    assert!(produced < 20, "{produced} batches for three chunks");
    assert!(!watched.dropped.load(Ordering::SeqCst));
    drop(body);
    assert!(watched.dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn an_early_error_is_an_answer_and_a_late_one_breaks_the_body() {
    let Err((e, _)) = reply(numbers(0, true).outcome, Format::Json, None, guard()).await else {
        panic!("the error was swallowed");
    };
    assert_eq!(e.code, SqlState::DIVISION_BY_ZERO);
    let Ok(response) = reply(numbers(40, true).outcome, Format::Json, None, guard()).await else {
        panic!("the error came too early");
    };
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn rows_that_never_were_columns() {
    let fields = vec![
        DataType::Int8.to_field("n", false),
        DataType::Uuid.to_field("u", true),
    ];
    let outcome = Outcome::Rows(Rows {
        schema: Arc::new(Schema::new(fields)),
        data: RowData::Values(vec![
            vec![Value::Int8(1), Value::Uuid([0x11; 16])],
            vec![Value::Int8(2), Value::Null],
        ]),
        tag: CommandTag {
            verb: "SELECT",
            rows: None,
        },
    });
    let Ok(response) = reply(outcome, Format::Ndjson, None, guard()).await else {
        panic!("failed");
    };
    assert_eq!(response.headers()["chronos-command"], "SELECT 2");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let expected =
        "{\"n\":1,\"u\":\"11111111-1111-1111-1111-111111111111\"}\n{\"n\":2,\"u\":null}\n";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn several_outcomes_make_an_array() {
    let request = guard();
    let mut collected = Collected::new(1 << 20);
    let done = || {
        Outcome::Done(CommandTag {
            verb: "INSERT",
            rows: Some(2),
        })
    };
    collected.push(done(), &request).await.unwrap();
    collected
        .push(numbers(1, false).outcome, &request)
        .await
        .unwrap();
    let mut json = collected.out.clone();
    json.push(b']');
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[0]["row_count"], 2);
    assert_eq!(json[1]["row_count"], ROWS_PER_BATCH);
    let e = collected
        .push(numbers(200, false).outcome, &request)
        .await
        .unwrap_err();
    assert_eq!(e.code, SqlState::PROGRAM_LIMIT);
}
