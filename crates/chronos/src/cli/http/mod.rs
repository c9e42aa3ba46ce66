//! A small HTTP/1.1 client of nodes: `/ingest`, `/health`, `/cluster`, `/admin/..`.
//!
//! Owns one pooled connection per host and bounds every request in time and size. Over https the
//! node's certificate must come from an authority that is named, and be for the host. Follows no
//! redirect: it talks to a node's own port.

mod connector;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;

use self::connector::{Connector, Https};
use super::error::CliError;
use super::security::{authorization, HttpLoginArgs};
use super::wire::TlsWish;

/// For a request and its answer.
const REQUEST_WAIT: Duration = Duration::from_secs(30);
/// For a change of a cluster: the node gives up earlier, unless its elections take very long.
const CHANGE_WAIT: Duration = Duration::from_secs(120);
/// For a page such as `/health`.
const PAGE_WAIT: Duration = Duration::from_secs(3);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// An answer of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Seconds from `Retry-After`.
    pub(crate) retry_after_secs: Option<u64>,
    /// The body.
    pub(crate) body: Bytes,
}

/// Sends requests to nodes.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    /// The header of that name.
    authorization: Option<String>,
}

impl Client {
    /// Nobody in particular, without connections yet.
    pub(crate) fn new() -> Self {
        Self::by(&HttpLoginArgs::default())
    }

    /// Nobody in particular, who takes for a node whom a session would.
    pub(crate) fn as_wished(wish: &TlsWish) -> Self {
        Self::with(Https::as_wished(wish))
    }

    /// Whoever the arguments and the environment name.
    pub(crate) fn of(args: &HttpLoginArgs) -> Result<Self, CliError> {
        let authorization = authorization(&args.login)?;
        Ok(Self::by(args).with_authorization(authorization))
    }

    /// Nobody in particular, who takes for a node what the arguments say.
    pub(crate) fn by(args: &HttpLoginArgs) -> Self {
        Self::with(Https::new(args))
    }

    fn with(https: Https) -> Self {
        Self {
            pool: Pool::builder(TokioExecutor::new()).build(Connector::new(https)),
            authorization: None,
        }
    }

    /// The same, saying who it is.
    pub(crate) fn with_authorization(self, authorization: Option<String>) -> Self {
        Self {
            authorization,
            ..self
        }
    }

    fn request(&self, method: Method, uri: &Uri) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(uri);
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// Posts JSON.
    pub(crate) async fn post_json(&self, uri: &Uri, body: Bytes) -> Result<Answer, String> {
        self.send(Method::POST, uri, body, REQUEST_WAIT).await
    }

    /// Has a cluster changed, which a quorum has to agree to.
    pub(crate) async fn post_change(&self, uri: &Uri, body: Bytes) -> Result<Answer, String> {
        self.send(Method::POST, uri, body, CHANGE_WAIT).await
    }

    /// Asks for a small page, such as `/health`.
    pub(crate) async fn get(&self, uri: &Uri) -> Result<Answer, String> {
        self.send(Method::GET, uri, Bytes::new(), PAGE_WAIT).await
    }

    /// Posts nothing, and gives the answer's lines as they come, however long that takes.
    pub(crate) async fn post_for_lines(&self, uri: &Uri) -> Result<Lines, String> {
        let request = self
            .request(Method::POST, uri)
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let response = self.pool.request(request).await.map_err(innermost)?;
        Ok(Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        })
    }

    /// Posts JSON, or nothing, and gives the answer's bytes as they come, however long that takes.
    pub(crate) async fn post_for_stream(&self, uri: &Uri, body: Bytes) -> Result<Stream, String> {
        self.stream(Method::POST, uri, body).await
    }

    /// Asks for something that may take long, and gives the answer's bytes as they come.
    pub(crate) async fn get_stream(&self, uri: &Uri) -> Result<Stream, String> {
        self.stream(Method::GET, uri, Bytes::new()).await
    }

    async fn stream(&self, method: Method, uri: &Uri, body: Bytes) -> Result<Stream, String> {
        let request = self
            .request(method, uri)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let response = self.pool.request(request).await.map_err(innermost)?;
        Ok(Stream {
            is_error: !response.status().is_success(),
            body: response.into_body(),
        })
    }

    async fn send(
        &self,
        method: Method,
        uri: &Uri,
        body: Bytes,
        wait: Duration,
    ) -> Result<Answer, String> {
        let request = self
            .request(method, uri)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.pool.request(request).await.map_err(innermost)?;
            let status = response.status().as_u16();
            let retry_after_secs = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| error.to_string())?
                .to_bytes();
            Ok(Answer {
                status,
                retry_after_secs,
                body,
            })
        };
        match tokio::time::timeout(wait, exchange).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {wait:?}")),
        }
    }
}

/// The bytes of an answer.
pub(crate) struct Stream {
    is_error: bool,
    body: Incoming,
}

impl Stream {
    /// The message of an answer that is an error.
    pub(crate) async fn error(&mut self) -> Result<Option<String>, String> {
        if !self.is_error {
            return Ok(None);
        }
        let document = self.whole().await?;
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap_or_default();
        let message = document.pointer("/error/message").and_then(|m| m.as_str());
        Ok(Some(message.unwrap_or("it does not say why").to_owned()))
    }

    /// All that comes, up to the limit of an answer.
    pub(crate) async fn whole(&mut self) -> Result<Vec<u8>, String> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
            if whole.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too long".to_owned());
            }
        }
        Ok(whole)
    }

    /// What comes next; `None`: nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(None),
            }
        }
    }
}

/// The lines of an answer.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line, without its end; `None`: there is none.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err("the answer has a line that is too long".to_owned());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(None),
            }
        }
    }
}

/// The reason at the bottom of an error: "connection refused", not "client error".
fn innermost(error: hyper_util::client::legacy::Error) -> String {
    let mut reason: &dyn std::error::Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}
