//! The first packets of a connection: encryption requests, cancel requests, and the
//! start-up message itself.
//!
//! Knows nothing of sessions: it turns bytes into a [`Hello`], which the connection
//! acts upon. TLS begins when it is asked for, or with the first byte. Where there is none, it is
//! declined with `N`; the client then goes on in clear or leaves, as its `sslmode` says.

use bytes::BufMut;
use chronos_model::SqlState;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend;
use super::failure::{Failure, Handled};
use super::frontend::utf8;
use super::wire::Wire;
use crate::tls::TlsServer;

const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;
const SSL_REQUEST: u32 = (1234 << 16) | 5679;
const GSS_ENCRYPTION_REQUEST: u32 = (1234 << 16) | 5680;

/// What a client came for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// A session, with these settings: `user`, `database` and others, in their order.
    Start(Vec<(String, String)>),
    /// To cancel another connection's statement.
    Cancel {
        /// The other connection.
        process_id: u32,
        /// The proof that the client may.
        secret: u32,
    },
}

/// Reads packets until the client has said what it came for. Replies to declined
/// requests are sent; a NegotiateProtocolVersion is left in the output, ahead of
/// AuthenticationOk.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    tls: Option<&TlsServer>,
) -> Handled<Hello> {
    let mut ssl_declined = false;
    let mut gss_declined = false;
    loop {
        if let Some(tls) = tls.filter(|_| !ssl_declined && wire.begins_with_tls()) {
            wire.start_tls(&tls.loaded()).await?;
            // As in PostgreSQL: other protocols must not be talked into this one.
            if wire.alpn() != Some(b"postgresql") {
                return Err(violation(
                    "received direct SSL connection request without ALPN protocol negotiation extension",
                ));
            }
            ssl_declined = true;
        }
        let Some(packet) = wire.pop_startup()? else {
            wire.flush().await?;
            wire.fill().await?;
            continue;
        };
        // `pop_startup` lets no packet through that is shorter.
        let Some((code, body)) = packet.split_first_chunk() else {
            return Err(violation("invalid length of startup packet"));
        };
        match u32::from_be_bytes(*code) {
            SSL_REQUEST if body.is_empty() && !ssl_declined => {
                ssl_declined = true;
                let Some(tls) = tls else {
                    wire.output.put_u8(b'N');
                    continue;
                };
                // Whoever sits between could have put it there (CVE-2021-23214).
                if wire.has_input() {
                    return Err(violation("received unencrypted data after SSL request"));
                }
                wire.output.put_u8(b'S');
                wire.flush().await?;
                wire.start_tls(&tls.loaded()).await?;
            }
            GSS_ENCRYPTION_REQUEST if body.is_empty() && !gss_declined => {
                gss_declined = true;
                wire.output.put_u8(b'N');
            }
            CANCEL_REQUEST => return cancel_request(body),
            code if code >> 16 == 3 => {
                let (settings, unknown_options) = settings(body)?;
                if code & 0xffff != 0 || !unknown_options.is_empty() {
                    backend::negotiate_protocol_version(&mut wire.output, &unknown_options);
                }
                return Ok(Hello::Start(settings));
            }
            code => {
                return Err(Failure::fatal(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "unsupported frontend protocol {}.{}: server supports 3.0",
                        code >> 16,
                        code & 0xffff
                    ),
                ))
            }
        }
    }
}

fn violation(message: &str) -> Failure {
    Failure::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

fn cancel_request(body: &[u8]) -> Handled<Hello> {
    let Ok([a, b, c, d, e, f, g, h]) = <[u8; 8]>::try_from(body) else {
        return Err(violation("invalid length of cancel request"));
    };
    Ok(Hello::Cancel {
        process_id: u32::from_be_bytes([a, b, c, d]),
        secret: u32::from_be_bytes([e, f, g, h]),
    })
}

/// Settings, and the names of protocol options (`_pq_.`), of which we know none.
type Settings = (Vec<(String, String)>, Vec<String>);

fn settings(body: &[u8]) -> Handled<Settings> {
    let fatal = |failure| match failure {
        Failure::Statement(error) => Failure::Fatal(error),
        other => other,
    };
    let mut rest = body;
    let mut text = || -> Handled<&str> {
        let end = memchr::memchr(0, rest).ok_or_else(|| {
            violation("invalid startup packet layout: expected terminator as last byte")
        })?;
        let text = utf8(&rest[..end]).map_err(|e| fatal(e.into()))?;
        rest = &rest[end + 1..];
        Ok(text)
    };
    let mut settings: Vec<(String, String)> = Vec::new();
    let mut unknown_options = Vec::new();
    loop {
        let name = text()?;
        if name.is_empty() {
            break;
        }
        let value = text()?;
        if name.starts_with("_pq_.") {
            unknown_options.push(name.to_owned());
        } else {
            settings.push((name.to_owned(), value.to_owned()));
        }
    }
    if !rest.is_empty() {
        return Err(violation(
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    complete(&mut settings)?;
    Ok((settings, unknown_options))
}

/// Checks what every session needs, and fills in what it may leave out.
fn complete(settings: &mut Vec<(String, String)>) -> Handled {
    let value = |wanted: &str| {
        let found = settings.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let user = value("user");
    if user.is_empty() {
        return Err(Failure::fatal(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    let replication = value("replication");
    let off = ["", "0", "f", "false", "n", "no", "off"];
    if !off.contains(&replication.to_ascii_lowercase().as_str()) {
        return Err(Failure::fatal(
            SqlState::FEATURE_NOT_SUPPORTED,
            "the streaming replication protocol is not supported",
        ));
    }
    if value("database").is_empty() {
        settings.retain(|(name, _)| name != "database");
        settings.push(("database".to_owned(), user));
    }
    settings.retain(|(name, _)| name != "replication");
    Ok(())
}
