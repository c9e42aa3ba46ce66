//! `POST /admin/check`: reads everything that the node stores and tells what is damaged.
//!
//! The answer is NDJSON, a line for each event, sent as it happens: `progress`, `finding`,
//! and at the end one `summary`, without which the check was not finished. One check runs
//! at a time (429); it ends soon after its client has gone.

use std::convert::Infallible;
use std::ops::ControlFlow;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{header, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chronos_model::{Role, SqlState};
use chronos_node::{CheckEvent, CheckSummary, Identity};
use serde::Serialize;
use tokio::sync::mpsc;

use super::auth;
use super::error::Failure;
use super::metrics::Kind;
use super::App;

/// Lines that may wait for the client; the check waits then, too.
const LINES_WAITING: usize = 16;

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Last {
    Summary(CheckSummary),
}

pub(super) async fn post(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Response {
    let request = app.metrics.begin(Kind::Check);
    if let Err(failure) = auth::demand(&app, &identity, Role::Admin) {
        request.finish(failure.status);
        return failure.into_response();
    }
    let Ok(permit) = app.check_permit.clone().try_acquire_owned() else {
        let failure = Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            SqlState::OBJECT_IN_USE,
            "a check is under way already",
        );
        request.finish(StatusCode::TOO_MANY_REQUESTS);
        return failure.into_response();
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(LINES_WAITING);
    let node = app.node.clone();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let report = &mut |event: CheckEvent| match sender.blocking_send(line(&event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let summary = node.check(report);
        // A client that has gone away does not hear of it.
        let _ = sender.blocking_send(line(&Last::Summary(summary)));
        request.finish(StatusCode::OK);
    });
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, Infallible>(line), receiver))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, ndjson);
    response
}

fn line(event: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
