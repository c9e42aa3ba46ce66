//! `GET /admin/position` and `GET /admin/hashes?at=..&retained_at=..`: what replicas compare.
//!
//! A position is the last applied log entry and the stamp of the last commit. Hashes are of the
//! content of each table as of a stamp (`docs/http.md`), which reads everything; one request
//! does so at a time (429).

use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::Response;
use chronos_model::{Role, Stamp};
use chronos_node::{Identity, NodeHashes};

use super::error::Failure;
use super::metrics::Kind;
use super::{answer, auth, App};

pub(super) async fn position(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Response {
    answer::document(&app, Kind::Hashes, async {
        auth::demand(&app, &identity, Role::Admin)?;
        Ok(app.node.position())
    })
    .await
}

pub(super) async fn hashes(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    uri: Uri,
) -> Response {
    answer::document(&app, Kind::Hashes, hashed(&app, &identity, &uri)).await
}

async fn hashed(app: &App, identity: &Identity, uri: &Uri) -> Result<NodeHashes, Failure> {
    auth::demand(app, identity, Role::Admin)?;
    let at = stamp_of(uri, "at")?;
    let retained_at = stamp_of(uri, "retained_at")?;
    let permit = answer::only_one(&app.hashes_permit, "everything is hashed already")?;
    let node = app.node.clone();
    let hashed = answer::blocking(move || {
        let _permit = permit;
        node.content_hashes(at, retained_at)
    });
    Ok(hashed.await??)
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
