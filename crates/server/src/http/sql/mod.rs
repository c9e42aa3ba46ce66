//! `/sql`: statements in, rows out.
//!
//! ```text
//!     request ─▶ SqlRequest ─▶ Session (one per request) ─▶ Outcome ─▶ Encoder ─▶ body
//!                 request.rs     params.rs                  reply.rs   encode.rs, cells.rs
//! ```
//!
//! Several statements of one request run in one transaction, as in PostgreSQL's simple
//! protocol: all of them take effect or none. A transaction cannot outlive its request.

mod cells;
mod encode;
mod json;
mod params;
mod reply;
mod request;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chronos_model::SqlState;
use chronos_node::{Error, Identity, Outcome, Session, Statement};

use self::encode::Format;
use self::reply::{discard, reply, CancelOnDrop, Closing, Collected};
pub(crate) use self::request::media_type;
use self::request::{is_read_only, SqlRequest};
use super::auth::session_of;
use super::body::read_body;
use super::error::Failure;
use super::headers;
use super::metrics::{Kind, RequestGuard};
use super::App;

/// How large the results of a request with `"multi": true` may become together; they
/// are not streamed.
const MULTI_RESULT_MAX_BYTES: usize = 64 << 20;

/// `POST /sql`
pub(crate) async fn post(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let guard = app.metrics.begin(Kind::Sql);
    let (max_bytes, timeout) = (app.options.sql_max_body_bytes, app.options.body_timeout);
    let request = match read_body(&headers, body, max_bytes, timeout).await {
        Ok(body) => SqlRequest::of_body(&headers, query.as_deref().unwrap_or_default(), &body),
        Err(failure) => Err(failure),
    };
    match request {
        Ok(request) => answer(&app, &identity, &headers, request, guard).await,
        Err(failure) => fail(failure, guard),
    }
}

/// `GET /sql?q=..`: reading statements only.
pub(crate) async fn get(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let guard = app.metrics.begin(Kind::Sql);
    let request = SqlRequest::of_query(&headers, query.as_deref().unwrap_or_default());
    let request = match request {
        Ok(request) => request,
        Err(failure) => return fail(failure, guard),
    };
    let statements = app.node.session().split(&request.sql);
    let is_allowed = |s: &Statement| s.sql.trim().is_empty() || is_read_only(&s.sql);
    match statements {
        Ok(statements) if statements.iter().all(is_allowed) => {
            answer(&app, &identity, &headers, request, guard).await
        }
        Ok(_) => {
            let failure = Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                SqlState::READ_ONLY_TRANSACTION,
                "GET /sql only takes statements that read",
            );
            let failure = failure
                .with_hint("use POST /sql")
                .with_header(header::ALLOW, "POST");
            fail(failure, guard)
        }
        Err(e) => fail(e.into(), guard),
    }
}

fn fail(failure: Failure, guard: RequestGuard) -> Response {
    guard.finish(failure.status);
    failure.into_response()
}

async fn answer(
    app: &App,
    identity: &Identity,
    headers: &HeaderMap,
    request: SqlRequest,
    guard: RequestGuard,
) -> Response {
    let mut session = match session_of(app, identity) {
        Ok(session) => session,
        Err(failure) => return fail(failure, guard),
    };
    if let Err(failure) = headers::apply(headers, &mut session) {
        return fail(failure, guard);
    }
    let cancel = CancelOnDrop::new(&session);
    let replied = match execute(&mut session, &request, &guard).await {
        Ok(Executed::Last(outcome, has_implicit)) => {
            let closing = Closing {
                cancel,
                session,
                has_implicit,
            };
            reply(outcome, request.format, Some(closing), guard).await
        }
        Ok(Executed::All(collected)) => {
            let closing = Closing {
                cancel,
                session,
                has_implicit: true,
            };
            collected.reply(closing, guard).await
        }
        Err(e) => Err((e, guard)),
    };
    replied.unwrap_or_else(|(e, guard)| fail(e.into(), guard))
}

enum Executed {
    /// The last statement's outcome, and whether it belongs to an implicit transaction.
    Last(Outcome, bool),
    /// Every statement's.
    All(Collected),
}

async fn execute(
    session: &mut Session,
    request: &SqlRequest,
    guard: &RequestGuard,
) -> Result<Executed, Error> {
    let mut statements = session.split(&request.sql)?;
    statements.retain(|s| !s.sql.trim().is_empty());
    let Some((last, before)) = statements.split_last() else {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "the request holds no statement",
        ));
    };
    if request.multi {
        if request.format != Format::Json || !request.params.is_empty() {
            let message = "\"multi\" goes with format json and without params";
            return Err(Error::new(SqlState::INVALID_PARAMETER, message));
        }
        session.begin_implicit().await?;
        let mut collected = Collected::new(MULTI_RESULT_MAX_BYTES);
        for statement in &statements {
            let outcome = session.run(statement).await?;
            collected.push(outcome, guard).await?;
        }
        return Ok(Executed::All(collected));
    }
    if before.is_empty() {
        let prepared = session.prepare(last, &[]).await?;
        let values = params::bind(&request.params, &prepared.parameters)?;
        let outcome = session.execute(&prepared, values).await?;
        return Ok(Executed::Last(outcome, false));
    }
    if !request.params.is_empty() {
        let message = "params go with one statement, not with several";
        return Err(Error::new(SqlState::SYNTAX_ERROR, message));
    }
    session.begin_implicit().await?;
    for statement in before {
        discard(session.run(statement).await?).await?;
    }
    Ok(Executed::Last(session.run(last).await?, true))
}
