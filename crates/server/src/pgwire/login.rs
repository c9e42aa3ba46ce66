//! The log-in: SCRAM-SHA-256 over PostgreSQL's SASL messages, with channel binding over TLS.
//!
//! One try per connection. A wrong password is answered after a pause, and a name that is no
//! user's goes the same way as one that is.

use std::time::Duration;

use chronos_model::SqlState;
use chronos_node::{
    wrong_password, Binding, Error, Identity, Node, ScramError, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend;
use super::failure::{Failure, Handled};
use super::wire::Wire;

/// How long who gave a wrong password waits to hear so.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);

/// Finds out who the client is that calls itself `user`. AuthenticationOk is left to the caller.
pub(super) async fn log_in<S>(wire: &mut Wire<S>, node: &Node, user: &str) -> Handled<Identity>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !node.asks_who() {
        return Ok(Identity::Trusted);
    }
    let end_point = wire.end_point();
    let mechanisms: &[&str] = match &end_point {
        Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        None => &[SCRAM_SHA_256],
    };
    backend::authentication_sasl(&mut wire.output, mechanisms);
    let message = next(wire).await?;
    let (mechanism, data) = initial_response(&message)?;
    let binding = match (mechanism, end_point) {
        (SCRAM_SHA_256_PLUS, Some(hash)) => Binding::EndPoint(hash),
        (SCRAM_SHA_256, Some(_)) => Binding::Offered,
        (SCRAM_SHA_256, None) => Binding::None,
        _ => {
            return Err(violation(
                "client selected an invalid SASL authentication mechanism",
            ))
        }
    };
    let mut exchange = node.exchange(user, binding);
    let challenge = exchange.first(data).map_err(|e| refusal(&e, user))?;
    backend::authentication_sasl_continue(&mut wire.output, challenge.as_bytes());
    let message = next(wire).await?;
    match exchange.last(&message) {
        Ok(proof) => {
            backend::authentication_sasl_final(&mut wire.output, proof.as_bytes());
            let identity = node.identity_of(user);
            identity.map_err(|e| Failure::Fatal(Box::new(e)))
        }
        Err(e) => {
            tokio::time::sleep(FAILURE_PAUSE).await;
            Err(refusal(&e, user))
        }
    }
}

/// The client's next message of the log-in.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Handled<bytes::Bytes> {
    loop {
        if let Some(message) = wire.pop_authentication()? {
            return Ok(message);
        }
        wire.flush().await?;
        wire.fill().await?;
    }
}

/// `SASLInitialResponse`: a mechanism's name and the first message of its exchange.
fn initial_response(body: &[u8]) -> Handled<(&str, &[u8])> {
    let malformed = || violation("malformed SASL message");
    let end = memchr::memchr(0, body).ok_or_else(malformed)?;
    let mechanism = std::str::from_utf8(&body[..end]).map_err(|_| malformed())?;
    let (length, data) = body[end + 1..].split_first_chunk().ok_or_else(malformed)?;
    let length = u32::from_be_bytes(*length) as usize;
    match length == data.len() {
        true => Ok((mechanism, data)),
        false => Err(malformed()),
    }
}

fn refusal(error: &ScramError, user: &str) -> Failure {
    Failure::Fatal(Box::new(match error {
        ScramError::WrongPassword => wrong_password(user),
        ScramError::Malformed(why) => {
            Error::new(SqlState::PROTOCOL_VIOLATION, "malformed SCRAM message").with_detail(*why)
        }
    }))
}

fn violation(message: &str) -> Failure {
    Failure::fatal(SqlState::PROTOCOL_VIOLATION, message)
}
