//! Opening a session: the socket, the start-up message and the log-in.

use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication;
use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::net::{TcpStream, UnixStream};

use super::target::Endpoint;
use super::tls::{end_point, secure, Secured, TlsWish};
use super::{sql_error, Session, Socket, Target};
use crate::cli::error::CliError;
use crate::cli::reply::{RunError, Transaction};
use crate::cli::security;

/// For reaching one endpoint, and then for its log-in.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// For a cancel request to take effect before we stop waiting for it.
pub(super) const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// Why a log-in ended early.
enum LoginError {
    /// The node wants a password, and there is none.
    NoPassword,
    /// Anything else.
    Refused(String),
}

impl From<String> for LoginError {
    fn from(reason: String) -> Self {
        LoginError::Refused(reason)
    }
}

const NO_PASSWORD: &str = "the node asks for a password: give --password-file, or put it into \
                           PGPASSWORD, ~/.pgpass or the URL";

impl Session {
    /// Opens a session with the first endpoint that answers. A password that the node asks for
    /// and nothing gives is asked for at the terminal.
    pub(crate) async fn connect(target: &Target) -> Result<Self, CliError> {
        match Self::connect_once(target).await? {
            Ok(session) => Ok(session),
            Err(LoginError::NoPassword) => {
                let refused = |reason: &str| CliError::Connect {
                    target: target.to_string(),
                    reason: reason.to_owned(),
                    hint: String::new(),
                };
                let password = security::prompt(&target.user);
                let password = password.ok_or_else(|| refused(NO_PASSWORD))?;
                let mut target = target.clone();
                target.password = Some(password.into_bytes());
                match Self::connect_once(&target).await? {
                    Ok(session) => Ok(session),
                    Err(LoginError::NoPassword) => Err(refused(NO_PASSWORD)),
                    Err(LoginError::Refused(reason)) => Err(refused(&reason)),
                }
            }
            Err(LoginError::Refused(reason)) => Err(CliError::Connect {
                target: target.to_string(),
                reason,
                hint: String::new(),
            }),
        }
    }

    async fn connect_once(target: &Target) -> Result<Result<Self, LoginError>, CliError> {
        let socket = open_socket(target)
            .await
            .map_err(|reason| refused(target, reason))?;
        let mut session = Self {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            target: target.clone(),
            server_version: String::new(),
            process_id: 0,
            secret_key: 0,
            transaction: Transaction::Idle,
        };
        match tokio::time::timeout(CONNECT_WAIT, session.log_in()).await {
            Ok(Ok(())) => Ok(Ok(session)),
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => Err(CliError::Connect {
                target: target.to_string(),
                reason: format!("no answer to the log-in within {CONNECT_WAIT:?}"),
                hint: "\nIs this the PostgreSQL port of a node (5433 by default)?".into(),
            }),
        }
    }

    async fn log_in(&mut self) -> Result<(), LoginError> {
        let target = self.target.clone();
        let mut parameters = vec![
            ("user", target.user.as_str()),
            ("database", target.database.as_str()),
            ("client_encoding", "UTF8"),
            ("application_name", "chronos"),
        ];
        if let Some(options) = &target.options {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, &mut self.output).map_err(|e| e.to_string())?;
        loop {
            self.flush().await.map_err(plain)?;
            match self.receive().await.map_err(plain)? {
                Message::AuthenticationOk | Message::NoticeResponse(_) => {}
                Message::AuthenticationCleartextPassword => {
                    let password = self.password()?;
                    frontend::password_message(&password, &mut self.output)
                        .map_err(|e| e.to_string())?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = authentication::md5_hash(
                        self.target.user.as_bytes(),
                        &self.password()?,
                        body.salt(),
                    );
                    frontend::password_message(hash.as_bytes(), &mut self.output)
                        .map_err(|e| e.to_string())?;
                }
                Message::AuthenticationSasl(body) => self.scram(&body).await?,
                Message::ParameterStatus(body) => {
                    if body.name().is_ok_and(|name| name == "server_version") {
                        self.server_version = body.value().unwrap_or_default().to_owned();
                    }
                }
                Message::BackendKeyData(body) => {
                    self.process_id = body.process_id();
                    self.secret_key = body.secret_key();
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => {
                    let error = sql_error(body.fields()).map_err(|e| e.to_string())?;
                    return Err(error.to_string().into());
                }
                _ => {
                    let reason = "the node asks for a log-in this client does not know";
                    return Err(reason.to_owned().into());
                }
            }
        }
    }

    /// SCRAM-SHA-256 (RFC 7677), bound to the TLS connection where there is one.
    async fn scram(&mut self, body: &AuthenticationSaslBody) -> Result<(), LoginError> {
        let offers = |wanted: &str| {
            let found = body.mechanisms().any(|mechanism| Ok(mechanism == wanted));
            found.map_err(|e| e.to_string())
        };
        let hash = match &self.socket {
            Socket::Tls(stream) => end_point(stream),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        };
        let (mechanism, binding) = match hash {
            Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS)? => (
                sasl::SCRAM_SHA_256_PLUS,
                ChannelBinding::tls_server_end_point(hash),
            ),
            Some(_) => (sasl::SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (sasl::SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offers(mechanism)? {
            let reason = "the node offers no log-in this client knows (SCRAM-SHA-256)";
            return Err(reason.to_owned().into());
        }
        let password = self.password()?;
        let mut scram = ScramSha256::new(&password, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.output)
            .map_err(|e| e.to_string())?;
        self.flush().await.map_err(plain)?;
        match self.receive().await.map_err(plain)? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(|e| e.to_string())?;
            }
            other => return Err(unexpected(other).into()),
        }
        frontend::sasl_response(scram.message(), &mut self.output).map_err(|e| e.to_string())?;
        self.flush().await.map_err(plain)?;
        match self.receive().await.map_err(plain)? {
            Message::AuthenticationSaslFinal(body) => {
                Ok(scram.finish(body.data()).map_err(|e| e.to_string())?)
            }
            other => Err(unexpected(other).into()),
        }
    }

    fn password(&self) -> Result<Vec<u8>, LoginError> {
        let password = self.target.password.clone();
        password.ok_or(LoginError::NoPassword)
    }
}

fn plain(error: RunError) -> String {
    match error {
        RunError::Lost(reason) => reason,
        other => other.to_string(),
    }
}

fn unexpected(message: Message) -> String {
    match message {
        Message::ErrorResponse(body) => {
            sql_error(body.fields()).map_or_else(|e| e.to_string(), |error| error.to_string())
        }
        _ => "the node broke off the log-in".to_owned(),
    }
}

fn refused(target: &Target, reason: String) -> CliError {
    let hint = if target.is_local() {
        "\nIs `chronos start` running on this machine?"
    } else {
        "\nIs the node running, and does it listen on that address (`chronos start --pg-address`)?"
    };
    CliError::Connect {
        target: target.to_string(),
        reason,
        hint: hint.to_owned(),
    }
}

/// Connects to the first endpoint that answers; the last one's reason otherwise.
pub(super) async fn open_socket(target: &Target) -> Result<Socket, String> {
    let mut reason = "no address".to_owned();
    for endpoint in &target.endpoints {
        match tokio::time::timeout(CONNECT_WAIT, open_endpoint(endpoint, &target.tls)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => reason = error,
            Err(_) => reason = format!("no answer within {CONNECT_WAIT:?}"),
        }
    }
    Err(reason)
}

/// "Connection refused", without the number that means something to few.
fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

async fn open_endpoint(endpoint: &Endpoint, tls: &TlsWish) -> Result<Socket, String> {
    let failed = |e: std::io::Error| without_number(&e);
    match endpoint {
        Endpoint::Tcp(address) => {
            let connecting = TcpStream::connect((address.host.as_str(), address.port));
            let stream = connecting.await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Ok(match secure(stream, &address.host, tls).await? {
                Secured::Plain(stream) => Socket::Tcp(stream),
                Secured::Tls(stream) => Socket::Tls(stream),
            })
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            Ok(Socket::Unix(stream))
        }
        Endpoint::Embedded(streams) => {
            let (ours, theirs) = UnixStream::pair().map_err(failed)?;
            let closed = |_| "the database is closed".to_owned();
            streams.0.send(theirs).await.map_err(closed)?;
            Ok(Socket::Unix(ours))
        }
    }
}
