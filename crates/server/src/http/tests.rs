//! A real server on loopback, spoken to in raw bytes.

mod cluster;
mod statements;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Longest time a test waits for something.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(options: HttpOptions) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, test_node(), options, shutdown));
        Server {
            address,
            stop,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and gives everything that came back until the server closed.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that answers early may close before it has read everything.
        let _ = stream.write_all(request).await;
        read_to_end(&mut stream).await
    }

    async fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat()).await
    }

    async fn get(&self, path: &str) -> String {
        self.request("GET", path, "", b"").await
    }

    /// Asks for the metrics until they hold `line`.
    async fn wait_for_metric(&self, line: &str) {
        let wait = async {
            while !self.get("/metrics").await.lines().any(|l| l == line) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{line} did not come");
    }

    async fn finish(self) {
        self.stop.send(()).unwrap();
        let finished = tokio::time::timeout(PATIENCE, self.task).await;
        finished.expect("the server did not stop").unwrap().unwrap();
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server did not close the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).unwrap_or_default();
    code.parse()
        .unwrap_or_else(|_| panic!("no status in {answer:?}"))
}

fn json(answer: &str) -> serde_json::Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e} in {answer:?}"))
}

#[tokio::test]
async fn addresses_and_methods() {
    let server = Server::start(HttpOptions::default()).await;
    let health = server.get("/health").await;
    assert_eq!(status(&health), 200, "{health}");
    assert_eq!(json(&health)["status"], "ok");
    let is_ready = test_node().status().ready;
    let ready = server.get("/ready").await;
    assert_eq!(status(&ready), if is_ready { 200 } else { 503 });
    assert_eq!(json(&ready)["ready"], is_ready);
    let lost = server.get("/nothing").await;
    assert_eq!(status(&lost), 404);
    assert_eq!(
        json(&lost)["error"]["message"],
        "there is nothing at /nothing"
    );
    let wrong = server.get("/ingest").await;
    assert_eq!(status(&wrong), 405);
    assert!(
        wrong.to_ascii_lowercase().contains("\r\nallow: post\r\n"),
        "{wrong}"
    );
    assert!(json(&wrong)["error"]["code"].is_string());
    let write = server.get("/sql?q=DROP%20TABLE%20t").await;
    assert_eq!(status(&write), 405);
    server.finish().await;
}

#[tokio::test]
async fn metrics_in_both_text_formats() {
    let server = Server::start(HttpOptions::default()).await;
    let classic = server.get("/metrics").await;
    assert!(classic.contains("text/plain; version=0.0.4"));
    assert!(
        classic.contains("\n# TYPE chronos_http_requests_total counter\n"),
        "{classic}"
    );
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = server.request("GET", "/metrics", accept, b"").await;
    assert!(open.contains("application/openmetrics-text"));
    assert!(open.ends_with("# EOF\n"));
    server
        .wait_for_metric("chronos_http_requests_total{kind=\"metrics\",outcome=\"ok\"} 3")
        .await;
    server.finish().await;
}

#[tokio::test]
async fn other_sites_are_refused() {
    let server = Server::start(HttpOptions::default()).await;
    for (origin, expected) in [
        (format!("http://{}", server.address), 200),
        ("http://evil.example".to_owned(), 403),
        ("null".to_owned(), 403),
    ] {
        let headers = format!("Origin: {origin}\r\n");
        let answer = server.request("GET", "/health", &headers, b"").await;
        assert_eq!(status(&answer), expected, "{origin}");
    }
    server.finish().await;
}

#[tokio::test]
async fn bad_readings_are_refused_with_their_position() {
    let server = Server::start(HttpOptions::default()).await;
    let body = b"{\"device_id\":\"d\",\"ts\":0,\"metrics\":{\"t\":1}}\n{\"device_id\":\"d\",\"ts\":0,\"metrics\":{\"t\":\"x\"}}";
    let answer = server.request("POST", "/ingest", "", body).await;
    assert_eq!(status(&answer), 400);
    let error = &json(&answer)["error"];
    assert_eq!(error["field"], "metrics.t");
    assert_eq!(error["stored"], 0);
    let position = serde_json::json!({"index": 1, "line": 2, "byte": 82});
    assert_eq!(error["position"], position);
    let empty = server.request("POST", "/ingest", "", b"[]").await;
    assert_eq!(
        json(&empty),
        serde_json::json!({"rows": 0, "duplicates": 0})
    );
    for headers in ["Content-Encoding: br\r\n", "Content-Type: text/csv\r\n"] {
        let answer = server.request("POST", "/ingest", headers, b"[]").await;
        assert_eq!(status(&answer), 415, "{headers}");
    }
    let answer = server
        .request("POST", "/ingest", "Content-Encoding: gzip\r\n", b"[]")
        .await;
    assert_eq!(status(&answer), 400);
    server.finish().await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let server = Server::start(HttpOptions {
        ingest_max_body_bytes: 1000,
        sql_max_body_bytes: 1000,
        ..HttpOptions::default()
    })
    .await;
    let large = vec![b' '; 1001];
    for path in ["/ingest", "/sql"] {
        let answer = server.request("POST", path, "", &large).await;
        assert_eq!(status(&answer), 413, "{answer}");
    }
    let chunked = "POST /ingest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut request = chunked.as_bytes().to_vec();
    for _ in 0..3 {
        request.extend_from_slice(b"190\r\n");
        request.extend_from_slice(&[b' '; 400]);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = server.send(&request).await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert_eq!(json(&answer)["error"]["stored"], 0);
    server.finish().await;
}

#[tokio::test]
async fn too_many_at_once_are_turned_away() {
    let server = Server::start(HttpOptions {
        ingest_max_inflight: 1,
        ..HttpOptions::default()
    })
    .await;
    let mut slow = server.connect().await;
    let head =
        "POST /ingest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[";
    slow.write_all(head.as_bytes()).await.unwrap();
    server
        .wait_for_metric("chronos_http_requests_in_flight{kind=\"ingest\"} 1")
        .await;
    let answer = server.request("POST", "/ingest", "", b"[]").await;
    assert_eq!(status(&answer), 429, "{answer}");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("\r\nretry-after: 1\r\n"),
        "{answer}"
    );
    slow.write_all(b"]").await.unwrap();
    assert_eq!(status(&read_to_end(&mut slow).await), 200);
    let answer = server.request("POST", "/ingest", "", b"[]").await;
    assert_eq!(status(&answer), 200);
    server.finish().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(HttpOptions {
        body_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    let head =
        b"POST /sql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\nSEL";
    let answer = server.send(head).await;
    assert_eq!(status(&answer), 408, "{answer}");
    server.finish().await;
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way() {
    let server = Server::start(HttpOptions::default()).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    let head = "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[";
    busy.write_all(head.as_bytes()).await.unwrap();
    server
        .wait_for_metric("chronos_http_requests_in_flight{kind=\"ingest\"} 1")
        .await;
    let (address, task) = (server.address, server.task);
    server.stop.send(()).unwrap();
    assert_eq!(read_to_end(&mut idle).await, "");
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("connections are still accepted");
    assert!(!task.is_finished());
    busy.write_all(b"]").await.unwrap();
    let answer = read_to_end(&mut busy).await;
    assert_eq!(status(&answer), 200, "{answer}");
    tokio::time::timeout(PATIENCE, task)
        .await
        .expect("no end")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let server = Server::start(HttpOptions {
        shutdown_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    let mut stuck = server.connect().await;
    let head = "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[";
    stuck.write_all(head.as_bytes()).await.unwrap();
    server
        .wait_for_metric("chronos_http_requests_in_flight{kind=\"ingest\"} 1")
        .await;
    server.finish().await;
}
