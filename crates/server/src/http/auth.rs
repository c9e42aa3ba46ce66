//! Who sends a request: `Authorization: Basic` against the users, `Bearer` against the tokens.
//!
//! `/health` and `/ready` are open, as load balancers and supervisors ask them. Everything else,
//! metrics too, needs somebody as soon as the node asks who is there: 401 for nobody, 403 for
//! somebody who may not. A wrong password or token is answered after a pause.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{header, HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use chronos_model::{Role, SqlState};
use chronos_node::{Identity, Session};

use super::error::Failure;
use super::{answer, App};

/// How long who gave a wrong password or token waits to hear so.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);

/// Finds out who sends the request, and hands it on with its [`Identity`].
pub(super) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/health" | "/ready") || !app.node.asks_who() {
        request.extensions_mut().insert(Identity::Trusted);
        return next.run(request).await;
    }
    match identity(&app, request.headers()).await {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn identity(app: &App, headers: &HeaderMap) -> Result<Identity, Failure> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(unknown("this node asks who is there"));
    };
    let (scheme, credentials) = given
        .to_str()
        .ok()
        .and_then(|given| given.trim().split_once(' '))
        .ok_or_else(|| unknown("the Authorization header cannot be read"))?;
    let found = if scheme.eq_ignore_ascii_case("basic") {
        by_password(app, credentials.trim()).await?
    } else if scheme.eq_ignore_ascii_case("bearer") {
        let found = app.node.check_token(credentials.trim());
        found.ok_or_else(|| unknown("nobody has this token"))
    } else {
        return Err(unknown(
            "the Authorization header is neither Basic nor Bearer",
        ));
    };
    if let Err(failure) = &found {
        tracing::warn!(reason = failure.message(), "an HTTP client was not let in");
        tokio::time::sleep(FAILURE_PAUSE).await;
    }
    found
}

async fn by_password(app: &App, credentials: &str) -> Result<Result<Identity, Failure>, Failure> {
    let decoded = STANDARD.decode(credentials).ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) =
        pair.ok_or_else(|| unknown("the credentials are not user:password in base64"))?;
    if let Some(identity) = app.node.remembered(user, password) {
        return Ok(Ok(identity));
    }
    let (node, user, password) = (app.node.clone(), user.to_owned(), password.to_owned());
    // Hashing takes milliseconds, during which others are served; whoever guesses passwords gets
    // no more than a part of the machine. The semaphore is never closed.
    let _permit = app.password_permits.acquire().await;
    let checked = answer::blocking(move || node.check_password(&user, &password)).await?;
    Ok(checked.map_err(|e| unknown(e.message)))
}

fn unknown(message: impl Into<String>) -> Failure {
    Failure::new(
        StatusCode::UNAUTHORIZED,
        SqlState::INVALID_AUTHORIZATION,
        message,
    )
    .with_hint("Send Authorization: Basic with user and password, or Bearer with a token.")
    .with_header(
        header::WWW_AUTHENTICATE,
        "Basic realm=\"chronos\", charset=\"UTF-8\"",
    )
    .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"chronos\"")
}

/// 403 unless somebody may do as much as that role.
pub(super) fn demand(app: &App, identity: &Identity, least: Role) -> Result<(), Failure> {
    let role = app.node.role_of(identity).map_err(|e| unknown(e.message))?;
    if role >= Some(least) {
        return Ok(());
    }
    let message = format!("this takes the role {}", least.name());
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        SqlState::INSUFFICIENT_PRIVILEGE,
        message,
    ))
}

/// A session that belongs to somebody.
pub(super) fn session_of(app: &App, identity: &Identity) -> Result<Session, Failure> {
    let mut session = app.node.session();
    session
        .log_in(identity.clone())
        .map_err(|e| unknown(e.message))?;
    Ok(session)
}
