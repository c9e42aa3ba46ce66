//! `POST /admin/check`: reads everything that the node stores and tells what is damaged.
//!
//! The answer is NDJSON, a line for each event, sent as it happens: `progress`, `finding`,
//! and at the end one `summary`, without which the check was not finished. One check runs
//! at a time (429); it ends soon after its client has gone.

use std::ops::ControlFlow;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chronos_model::Role;
use chronos_node::{CheckEvent, CheckSummary, Identity};
use serde::Serialize;
use tokio::sync::mpsc;

use super::metrics::Kind;
use super::{answer, auth, App};

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
    let allowed = auth::demand(&app, &identity, Role::Admin);
    let permit = match allowed
        .and_then(|()| answer::only_one(&app.check_permit, "a check is under way already"))
    {
        Ok(permit) => permit,
        Err(failure) => {
            request.finish(failure.status);
            return failure.into_response();
        }
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
    answer::streamed(receiver, "application/x-ndjson")
}

fn line(event: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
