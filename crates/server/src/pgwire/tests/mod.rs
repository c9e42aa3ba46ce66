//! Drives whole connections over in-memory streams with hand-made frames, as far as no
//! statement is executed: start-up, errors, skipping, limits, shutdown, garbage.
//!
//! Every wait has a deadline, so a connection that hangs fails its test.

mod garbage;
mod login;
mod messages;
mod sending;
mod startup;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chronos_env::Env;
use chronos_node::Session;
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::server::{serve_stream, PgOptions, Shared};

const DEADLINE: Duration = Duration::from_secs(20);

/// The one place that knows how a session is made for these tests.
fn session() -> Session {
    chronos_node::Node::open(Env::simulated(1), &chronos_node::NodeOptions::new("/node"))
        .expect("a node on a simulated machine")
        .session()
}

fn options() -> PgOptions {
    PgOptions {
        message_bytes_max: 100_000,
        ..PgOptions::new(&Env::simulated(1))
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("hangs")
}

/// A server without a listener.
struct Server {
    shared: Arc<Shared<fn() -> Session>>,
    options: PgOptions,
    shutdown: CancellationToken,
}

impl Server {
    fn new(options: PgOptions) -> Server {
        Server::of(session, options)
    }

    fn of(sessions: fn() -> Session, options: PgOptions) -> Server {
        let shutdown = CancellationToken::new();
        Server {
            shared: Arc::new(Shared::new(sessions, options.clone(), shutdown.clone())),
            options,
            shutdown,
        }
    }

    /// A client whose connection is in start-up.
    fn connect(&self) -> Client {
        let (ours, theirs) = duplex(16 * 1024);
        let shared = self.shared.clone();
        let task = tokio::spawn(async move { serve_stream(theirs, &shared).await });
        Client {
            stream: ours,
            task,
            process_id: 0,
            secret: 0,
        }
    }

    /// A client that may send messages.
    async fn session(&self) -> Client {
        let mut client = self.connect();
        client.send(&startup_packet(3 << 16, USER)).await;
        for reply in client.cycle().await {
            if reply.tag == b'K' {
                client.process_id = reply.u32_at(0);
                client.secret = reply.u32_at(4);
            }
        }
        client
    }
}

struct Client {
    stream: DuplexStream,
    task: JoinHandle<()>,
    process_id: u32,
    secret: u32,
}

#[derive(Debug)]
struct Reply {
    tag: u8,
    body: Vec<u8>,
}

impl Reply {
    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    /// A field of an ErrorResponse.
    fn field(&self, code: u8) -> Option<&str> {
        let fields = self.body.split(|b| *b == 0);
        fields
            .filter(|f| f.first() == Some(&code))
            .map(|f| std::str::from_utf8(&f[1..]).unwrap())
            .next()
    }

    /// Severity and SQLSTATE of an ErrorResponse.
    fn error(&self) -> (&str, &str) {
        assert_eq!(self.tag, b'E', "{self:?}");
        (self.field(b'S').unwrap(), self.field(b'C').unwrap())
    }
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        in_time(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next message; `None`: the server closed.
    async fn reply(&mut self) -> Option<Reply> {
        in_time(async {
            let mut header = [0; 5];
            match self.stream.read_exact(&mut header).await {
                Ok(_) => {}
                Err(_) => return None,
            }
            let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await.unwrap();
            Some(Reply {
                tag: header[0],
                body,
            })
        })
        .await
    }

    /// All messages up to ReadyForQuery, that included.
    async fn cycle(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            replies.push(self.reply().await.expect("closed early"));
            if replies.last().unwrap().tag == b'Z' {
                return replies;
            }
        }
    }

    /// The FATAL error that ends the connection, of which nothing else is left.
    async fn fatal(mut self) -> String {
        let reply = self.reply().await.expect("closed without an error");
        let (severity, code) = reply.error();
        assert_eq!(severity, "FATAL", "{reply:?}");
        let code = code.to_owned();
        assert!(self.reply().await.is_none());
        self.closed().await;
        code
    }

    /// Leaves, and waits for the server to notice.
    async fn closed(self) {
        drop(self.stream);
        in_time(self.task).await.expect("the connection panicked");
    }
}

const USER: &[(&str, &[u8])] = &[("user", b"ada"), ("application_name", b"test")];

fn startup_packet(version: u32, settings: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in settings {
        body.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
    }
    body.push(0);
    untagged(&body)
}

fn untagged(body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 4) as u32;
    [&length.to_be_bytes()[..], body].concat()
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &untagged(body)].concat()
}

fn tags(replies: &[Reply]) -> String {
    replies.iter().map(|r| char::from(r.tag)).collect()
}
