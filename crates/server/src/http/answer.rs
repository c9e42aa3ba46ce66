//! What handlers share: counting requests, work that blocks, what runs once at a time, bodies that
//! come piece by piece.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{header, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chronos_model::SqlState;
use serde::Serialize;
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};

use super::error::{json_response, Failure};
use super::metrics::Kind;
use super::App;

/// Answers a request with a JSON document, and counts it.
pub(super) async fn document<T: Serialize>(
    app: &App,
    kind: Kind,
    work: impl Future<Output = Result<T, Failure>>,
) -> Response {
    let request = app.metrics.begin(kind);
    let response = match work.await {
        Ok(document) => json_response(StatusCode::OK, &document),
        Err(failure) => failure.into_response(),
    };
    request.finish(response.status());
    response
}

/// Does what would keep others waiting on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            SqlState::INTERNAL,
            format!("it was broken off: {e}"),
        )
    })
}

/// The permit for what runs once at a time.
///
/// Errors: somebody else has it (429).
pub(super) fn only_one(
    permit: &Arc<Semaphore>,
    under_way: &'static str,
) -> Result<OwnedSemaphorePermit, Failure> {
    let acquired = Arc::clone(permit).try_acquire_owned();
    acquired.map_err(|_| {
        Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            SqlState::OBJECT_IN_USE,
            under_way,
        )
    })
}

/// An answer whose pieces are sent as they come.
pub(super) fn streamed(pieces: mpsc::Receiver<Bytes>, content_type: &'static str) -> Response {
    let pieces = futures::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
