//! `GET /admin/position` and `GET /admin/hashes?at=..&retained_at=..`: what replicas compare.
//!
//! A position is the last applied log entry and the stamp of the last commit. Hashes are of the
//! content of each table as of a stamp (`docs/http.md`), which reads everything; one request
//! does so at a time (429).

use axum::extract::{Extension, State};
use axum::http::{header, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chronos_model::{Role, SqlState, Stamp};
use chronos_node::Identity;
use serde::Serialize;

use super::error::Failure;
use super::metrics::Kind;
use super::{auth, App};

pub(super) async fn position(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Response {
    let request = app.metrics.begin(Kind::Hashes);
    let answer = auth::demand(&app, &identity, Role::Admin).map(|()| app.node.position());
    request.finish(
        answer
            .as_ref()
            .map_or_else(|f| f.status, |_| StatusCode::OK),
    );
    answer.map_or_else(IntoResponse::into_response, |position| json(&position))
}

pub(super) async fn hashes(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    uri: Uri,
) -> Response {
    let request = app.metrics.begin(Kind::Hashes);
    let answer = hashed(&app, &identity, &uri).await;
    request.finish(
        answer
            .as_ref()
            .map_or_else(|f| f.status, |_| StatusCode::OK),
    );
    answer.map_or_else(IntoResponse::into_response, |hashes| json(&hashes))
}

async fn hashed(
    app: &App,
    identity: &Identity,
    uri: &Uri,
) -> Result<chronos_node::NodeHashes, Failure> {
    auth::demand(app, identity, Role::Admin)?;
    let at = stamp_of(uri, "at")?;
    let retained_at = stamp_of(uri, "retained_at")?;
    let permit = app.hashes_permit.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            SqlState::OBJECT_IN_USE,
            "everything is hashed already",
        )
    })?;
    let node = app.node.clone();
    let hashed = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        node.content_hashes(at, retained_at)
    });
    let hashed = hashed.await.map_err(|e| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Failure::new(
            status,
            SqlState::INTERNAL,
            format!("it was broken off: {e}"),
        )
    })?;
    Ok(hashed?)
}

/// A stamp of the query, as its 64-bit integer.
fn stamp_of(uri: &Uri, name: &str) -> Result<Option<Stamp>, Failure> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut given = pairs.filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = given.find(|(key, _)| *key == name) else {
        return Ok(None);
    };
    let number = text.parse();
    number
        .map(|number| Some(Stamp(number)))
        .map_err(|_| Failure::bad_request(format!("{name} is no stamp: {text:?}")))
}

fn json(document: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let mut response = bytes.into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
