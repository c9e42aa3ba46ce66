//! Posting readings to a node, however busy it is.
//!
//! A node that answers 429, 503 or 504, or does not answer, is tried again after a growing
//! pause; of several nodes the next one is asked then. Sending a message twice is harmless: `/ingest` recognises a reading by its
//! device, metric, time and sequence number. Any other refusal ends the demo.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chronos_env::Env;
use hyper::Uri;

use super::site::Reading;
use crate::cli::error::CliError;
use crate::cli::http::{Answer, Client};
use crate::cli::output::one_line;
use crate::cli::values::HttpUrl;

/// Tries of one message before the node counts as gone.
const TRIES_MAX: u32 = 10;
/// Pause after the first failure.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// No pause is longer, unless the node asks for it.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest pause a node may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(10);

/// Tries of one message with nodes of which any will do, and their longest pause: to see how long they take to agree.
const TRIES_OF_ANY_MAX: u32 = 600;
const PAUSE_OF_ANY_MAX: Duration = Duration::from_millis(60);

/// Posts to a node, or to any of several, and counts.
#[derive(Debug)]
pub(super) struct Feed {
    client: Client,
    /// Where readings are posted, by node.
    uris: Vec<Uri>,
    /// The node that is asked: the one at this number, modulo theirs.
    asked: AtomicUsize,
    tries_max: u32,
    pause_max: Duration,
    health: Uri,
    env: Env,
    rows: AtomicU64,
    posts: AtomicU64,
    retries: AtomicU64,
}

/// What was posted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows the node says it accepted.
    pub(super) rows: u64,
    /// Requests it answered with 200.
    pub(super) posts: u64,
    /// Requests that were sent again.
    pub(super) retries: u64,
}

impl Feed {
    /// A feed to the node whose HTTP address is `url`.
    pub(super) fn new(url: &HttpUrl, client: Client, env: &Env) -> Result<Self, CliError> {
        let mut feed = Self::to_any(std::slice::from_ref(url), env)?;
        feed.client = client;
        (feed.tries_max, feed.pause_max) = (TRIES_MAX, PAUSE_MAX);
        Ok(feed)
    }

    /// A feed to whichever of these nodes takes it.
    pub(super) fn to_any(urls: &[HttpUrl], env: &Env) -> Result<Self, CliError> {
        let uris = urls.iter().map(|url| url.path("/ingest"));
        let habitual = HttpUrl::habitual();
        let first = urls.first().unwrap_or(&habitual);
        Ok(Self {
            client: Client::new(),
            uris: uris.collect::<Result<_, _>>()?,
            asked: AtomicUsize::new(0),
            tries_max: TRIES_OF_ANY_MAX,
            pause_max: PAUSE_OF_ANY_MAX,
            health: first.path("/health")?,
            env: env.clone(),
            rows: AtomicU64::new(0),
            posts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        })
    }

    /// What was posted so far.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            rows: self.rows.load(Ordering::Relaxed),
            posts: self.posts.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    /// Fails at once, and helpfully, when nobody listens.
    pub(super) async fn check(&self) -> Result<(), CliError> {
        match self.client.get(&self.health).await {
            // A node that is not well says so in its answers to readings.
            Ok(_) => Ok(()),
            Err(reason) => Err(unreachable(&self.uris[0], &reason)),
        }
    }

    /// Posts these readings as one message; returns when they are stored.
    pub(super) async fn post(&self, readings: &[Reading]) -> Result<(), CliError> {
        let messages: Vec<serde_json::Value> = readings.iter().map(Reading::json).collect();
        let body = Bytes::from(serde_json::Value::Array(messages).to_string());
        let mut tries = 0;
        loop {
            let node = self.asked.load(Ordering::Relaxed);
            let uri = &self.uris[node % self.uris.len()];
            let outcome = self.client.post_json(uri, body.clone()).await;
            tries += 1;
            let asked = match &outcome {
                Ok(answer) if answer.status == 200 => return self.accept(answer, uri),
                Ok(answer) if matches!(answer.status, 429 | 503 | 504) => answer.retry_after_secs,
                Ok(answer) => return Err(refusal(uri, answer)),
                Err(_) => None,
            };
            if tries >= self.tries_max {
                return Err(match outcome {
                    Ok(answer) => refusal(uri, &answer),
                    Err(reason) => unreachable(uri, &reason),
                });
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            self.asked.store(node.wrapping_add(1), Ordering::Relaxed);
            // Where there is another node, none says how long to wait for it.
            let asked = asked.filter(|_| self.uris.len() == 1);
            let pause = pause(tries, self.pause_max, asked, self.env.random.u64());
            tokio::time::sleep(pause).await;
        }
    }

    fn accept(&self, answer: &Answer, uri: &Uri) -> Result<(), CliError> {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(rows) = body.get("rows").and_then(serde_json::Value::as_u64) else {
            return Err(CliError::Failed(format!(
                "{} answered 200 without a number of rows; is it a chronos node?",
                uri
            )));
        };
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.posts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn unreachable(uri: &Uri, reason: &str) -> CliError {
    CliError::Connect {
        target: uri.to_string(),
        reason: reason.to_owned(),
        hint: "\nIs `chronos start` running?".to_owned(),
    }
}

/// How long to wait after the `tries`-th failure: doubling, with jitter so that many
/// senders do not return at the same moment, and no shorter than the node asked for.
fn pause(tries: u32, longest: Duration, asked_secs: Option<u64>, random: u64) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16));
    let longest = doubled.min(longest).as_micros() as u64;
    let jittered = Duration::from_micros(longest / 2 + random % (longest / 2 + 1));
    let asked = Duration::from_secs(asked_secs.unwrap_or(0)).min(PAUSE_ASKED_MAX);
    jittered.max(asked)
}

fn refusal(uri: &Uri, answer: &Answer) -> CliError {
    let text = String::from_utf8_lossy(&answer.body);
    let text = one_line(text.trim()).chars().take(500).collect::<String>();
    CliError::Failed(format!("{uri} answered {}: {text}", answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn pauses_grow_within_bounds() {
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            let first = pause(1, PAUSE_MAX, None, random);
            assert!(first >= PAUSE_FIRST / 2 && first <= PAUSE_FIRST);
            assert!(pause(40, PAUSE_MAX, None, random) <= PAUSE_MAX);
            assert!(pause(40, PAUSE_MAX, None, random) >= PAUSE_MAX / 2);
            assert_eq!(pause(1, PAUSE_MAX, Some(3), random), Duration::from_secs(3));
            assert_eq!(pause(1, PAUSE_MAX, Some(9999), random), PAUSE_ASKED_MAX);
        }
    }

    fn url_of(listener: &TcpListener) -> HttpUrl {
        let address = listener.local_addr().unwrap().to_string();
        address.parse().unwrap()
    }

    /// A feed to one node.
    fn feed_to(url: &HttpUrl) -> Feed {
        Feed::new(url, Client::new(), &Env::simulated(1)).unwrap()
    }

    /// Answers one request per connection from `answers`, then stops listening.
    async fn node(
        answers: &'static [(u16, &'static str)],
    ) -> (HttpUrl, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url_of(&listener);
        let served = tokio::spawn(async move {
            let mut bodies = Vec::new();
            for (status, body) in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                bodies.push(request_body(&mut socket).await);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            bodies
        });
        (url, served)
    }

    async fn request_body(socket: &mut tokio::net::TcpStream) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        loop {
            let read = socket.read(&mut buffer).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let (_, length) = head.split_once("content-length: ").unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if read == 0 || body.len() >= length {
                    return body.to_owned();
                }
            }
        }
    }

    fn reading() -> Reading {
        Reading {
            device_id: "soil-01".into(),
            ts_micros: 5,
            seq: 1,
            metrics: vec![("battery", 3.5)],
        }
    }

    #[tokio::test]
    async fn a_busy_node_is_tried_again_with_the_same_message() {
        let (url, served) = node(&[(429, ""), (503, ""), (504, ""), (200, "{\"rows\":1}")]).await;
        let feed = feed_to(&url);
        feed.post(&[reading()]).await.unwrap();
        let expected = Counts {
            rows: 1,
            posts: 1,
            retries: 3,
        };
        assert_eq!(feed.counts(), expected);
        let bodies = served.await.unwrap();
        assert!(bodies.iter().all(|body| *body == bodies[0]));
        assert!(
            bodies[0].contains("\"device_id\":\"soil-01\""),
            "{}",
            bodies[0]
        );
    }

    #[tokio::test]
    async fn another_node_is_asked_when_one_does_not_answer() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let first = url_of(&gone);
        drop(gone);
        let (second, served) = node(&[(200, "{\"rows\":1}"), (200, "{\"rows\":1}")]).await;
        let feed = Feed::to_any(&[first, second], &Env::simulated(1)).unwrap();
        feed.post(&[reading()]).await.unwrap();
        // The one that answered is asked again.
        feed.post(&[reading()]).await.unwrap();
        let expected = Counts {
            rows: 2,
            posts: 2,
            retries: 1,
        };
        assert_eq!(feed.counts(), expected);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_quoted() {
        let (url, served) = node(&[(400, "{\"error\":\"bad ts\"}")]).await;
        let feed = feed_to(&url);
        let error = feed.post(&[reading()]).await.unwrap_err().to_string();
        assert!(error.contains("400") && error.contains("bad ts"), "{error}");
        served.await.unwrap();
        assert_eq!(feed.counts().posts, 0);
    }

    #[tokio::test]
    async fn nobody_listening_is_a_connection_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url_of(&listener);
        drop(listener);
        let feed = feed_to(&url);
        let error = feed.check().await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("chronos start"));
    }
}
