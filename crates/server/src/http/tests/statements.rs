//! Statements and readings through a server into a node and back.

use serde_json::{json, Value};

use super::*;

async fn sql(server: &Server, request: Value) -> (u16, Value) {
    let body = request.to_string();
    let headers = "Content-Type: application/json\r\n";
    let answer = server
        .request("POST", "/sql", headers, body.as_bytes())
        .await;
    (status(&answer), json(&answer))
}

async fn rows(server: &Server, statement: &str) -> Value {
    let (status, mut document) = sql(server, json!({"sql": statement})).await;
    assert_eq!(status, 200, "{statement}: {document}");
    document["rows"].take()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_in_and_come_out_in_every_format() {
    let server = Server::start(HttpOptions::default()).await;
    let create = "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, at TIMESTAMPTZ)";
    let (code, created) = sql(&server, json!({"sql": create})).await;
    assert_eq!(
        (code, &created["command"]),
        (200, &json!("CREATE TABLE")),
        "{created}"
    );
    let insert = json!({
        "sql": "INSERT INTO t VALUES ($1, $2, $3)",
        "params": [1, "a,\"b\"", "2024-01-01T00:00:00.5Z"],
    });
    let (code, inserted) = sql(&server, insert.clone()).await;
    assert_eq!(
        (code, &inserted["row_count"]),
        (200, &json!(1)),
        "{inserted}"
    );
    let (code, again) = sql(&server, insert).await;
    assert_eq!((code, &again["error"]["code"]), (409, &json!("23505")));
    let expected = json!([[1, "a,\"b\"", "2024-01-01T00:00:00.5Z"]]);
    assert_eq!(rows(&server, "SELECT * FROM t").await, expected);
    // Not by key, so that it is planned in full.
    assert_eq!(
        rows(&server, "SELECT * FROM t WHERE name LIKE 'a%'").await,
        expected
    );
    for (accept, expected) in [
        ("text/csv", "id,name\r\n1,\"a,\"\"b\"\"\"\r\n"),
        (
            "application/x-ndjson",
            "{\"id\":1,\"name\":\"a,\\\"b\\\"\"}\n",
        ),
    ] {
        let headers = format!("Accept: {accept}\r\nContent-Type: text/plain\r\n");
        let answer = server
            .request("POST", "/sql", &headers, b"SELECT id, name FROM t")
            .await;
        assert_eq!(body(&answer), expected, "{answer}");
    }
    let answer = server.get("/sql?q=SELECT+id+FROM+t&format=csv").await;
    assert_eq!(body(&answer), "id\r\n1\r\n");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_fail() {
    let server = Server::start(HttpOptions::default()).await;
    for (request, code, state) in [
        (json!({"sql": "SELECT * FROM nothing"}), 404, "42P01"),
        (json!({"sql": "SELEC 1"}), 400, "42601"),
        (json!({"sql": " ; "}), 400, "42601"),
        (json!({"sql": "SELECT $1::bigint"}), 400, "08P01"),
        (
            json!({"sql": "SELECT $1::bigint", "params": ["x"]}),
            400,
            "22P02",
        ),
        (
            json!({"sql": "SELECT 1; SELECT 2", "params": [1]}),
            400,
            "42601",
        ),
        (json!({"sql": "BEGIN"}), 400, "25000"),
    ] {
        let (got, document) = sql(&server, request.clone()).await;
        let got_state = &document["error"]["code"];
        assert_eq!(
            (got, got_state),
            (code, &json!(state)),
            "{request}: {document}"
        );
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_statements_are_one_transaction() {
    let server = Server::start(HttpOptions::default()).await;
    let (code, _) = sql(
        &server,
        json!({"sql": "CREATE TABLE t (id BIGINT PRIMARY KEY)"}),
    )
    .await;
    assert_eq!(code, 200);
    let twice = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)";
    let (code, document) = sql(&server, json!({"sql": twice})).await;
    assert_eq!(code, 409, "{document}");
    assert_eq!(rows(&server, "SELECT count(*) FROM t").await, json!([[0]]));
    let good = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); SELECT id FROM t ORDER BY id";
    assert_eq!(rows(&server, good).await, json!([[1], [2]]));
    let multi = json!({"sql": "SELECT 1 AS a; DELETE FROM t", "multi": true});
    let (code, documents) = sql(&server, multi).await;
    assert_eq!(code, 200, "{documents}");
    assert_eq!(documents[0]["rows"], json!([[1]]));
    assert_eq!(
        (&documents[1]["command"], &documents[1]["row_count"]),
        (&json!("DELETE"), &json!(2))
    );
    assert_eq!(rows(&server, "SELECT count(*) FROM t").await, json!([[0]]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_are_stored_once() {
    let server = Server::start(HttpOptions::default()).await;
    let readings =
        "{\"device_id\":\"d\",\"ts\":1704067200,\"metrics\":{\"temp\":21.5,\"ok\":true}}\n\
                    {\"device_id\":\"d\",\"ts\":1704067201,\"metrics\":{\"temp\":22}}\n";
    let answer = server
        .request("POST", "/ingest", "", readings.as_bytes())
        .await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(json(&answer), json!({"rows": 3, "duplicates": 0}));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, readings.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let headers = "Content-Encoding: gzip\r\nContent-Type: application/x-ndjson\r\n";
    let answer = server.request("POST", "/ingest", headers, &gzip).await;
    assert_eq!(
        json(&answer),
        json!({"rows": 0, "duplicates": 3}),
        "{answer}"
    );
    let same = br#"[{"device_id":"e","ts":1,"metrics":{"m":1}},{"device_id":"e","ts":1,"metrics":{"m":2}}]"#;
    let answer = server.request("POST", "/ingest", "", same).await;
    assert_eq!(
        json(&answer),
        json!({"rows": 1, "duplicates": 1}),
        "{answer}"
    );
    let stored = "SELECT device_id, metric, ts, seq, value FROM readings ORDER BY 1, 3, 2";
    let expected = json!([
        ["d", "ok", "2024-01-01T00:00:00Z", 0, 1],
        ["d", "temp", "2024-01-01T00:00:00Z", 0, 21.5],
        ["d", "temp", "2024-01-01T00:00:01Z", 0, 22],
        ["e", "m", "1970-01-01T00:00:01Z", 0, 1],
    ]);
    assert_eq!(rows(&server, stored).await, expected);
    server
        .wait_for_metric("chronos_ingest_duplicates_total 4")
        .await;
    let bad = br#"[{"device_id":"f","ts":1,"metrics":{"m":1}},{"device_id":"f","ts":2,"metrics":{"m":null}}]"#;
    assert_eq!(
        status(&server.request("POST", "/ingest", "", bad).await),
        400
    );
    let none = rows(
        &server,
        "SELECT count(*) FROM readings WHERE device_id = 'f'",
    )
    .await;
    assert_eq!(none, json!([[0]]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_with_a_nul_and_compressed_bodies_are_refused() {
    let server = Server::start(HttpOptions::default()).await;
    for request in [
        json!({"sql": "SELECT 'a\0b'"}),
        json!({"sql": "SELECT $1", "params": ["a\0b"]}),
        json!({"sql": "SELECT $1::jsonb", "params": [{"a": "\0"}]}),
    ] {
        let (status, answer) = sql(&server, request).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("22021")));
    }
    let (status_of_escape, answer) =
        sql(&server, json!({"sql": "SELECT $1", "params": ["a\\u0000"]})).await;
    assert_eq!(
        (status_of_escape, &answer["rows"]),
        (200, &json!([["a\\u0000"]]))
    );
    let headers = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n";
    let answer = server.request("POST", "/sql", headers, b"\x1f\x8b").await;
    assert_eq!(status(&answer), 415);
    server.finish().await;
}
