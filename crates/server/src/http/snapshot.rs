//! `POST /admin/snapshot`: an archive of everything that is committed when the request comes, as a
//! stream of bytes (`docs/format/snapshot.md`).
//!
//! The body is empty for a full archive; for an incremental one it is JSON, `{"base": {"id", "has"}}`: the
//! archive on which it is based and the files that this has, which are left out. The node works on
//! meanwhile. One archive is made at a time (429); it ends soon after its client has gone. What
//! goes wrong after the first byte stands in the stream.

use std::io;

use axum::body::Bytes;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chronos_model::Role;
use chronos_node::{ArchiveBase, Archiving, Identity};
use serde::Deserialize;
use tokio::sync::{mpsc, OwnedSemaphorePermit};

use super::body::read_body;
use super::error::Failure;
use super::metrics::Kind;
use super::{answer, auth, App};

/// Largest list of files that a base has.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Records that may wait for the client; each has 1 MiB at most.
const RECORDS_WAITING: usize = 4;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Asked {
    base: Option<ArchiveBase>,
}

pub(super) async fn post(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Response {
    let guard = app.metrics.begin(Kind::Snapshot);
    let (archiving, permit) = match begin(&app, &identity, request).await {
        Ok(begun) => begun,
        Err(failure) => {
            guard.finish(failure.status);
            return failure.into_response();
        }
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(RECORDS_WAITING);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let written = archiving.write_to(&mut Records(sender));
        match written {
            Ok(()) => guard.finish(StatusCode::OK),
            // Counted as broken off.
            Err(error) => {
                let error = chronos_node::Error::from(error);
                tracing::warn!(error = error.message, "an archive was not finished");
                drop(guard);
            }
        }
    });
    answer::streamed(receiver, "application/octet-stream")
}

async fn begin(
    app: &App,
    identity: &Identity,
    request: Request,
) -> Result<(Archiving, OwnedSemaphorePermit), Failure> {
    auth::demand(app, identity, Role::Admin)?;
    let permit = answer::only_one(&app.snapshot_permit, "an archive is made already")?;
    let (parts, body) = request.into_parts();
    let timeout = app.options.body_timeout;
    let body = read_body(&parts.headers, body, BODY_BYTES_MAX, timeout).await?;
    let asked = match body.is_empty() {
        true => Asked::default(),
        false => serde_json::from_slice(&body).map_err(|e| {
            Failure::bad_request(format!("the body does not say on which base: {e}"))
        })?,
    };
    let node = app.node.clone();
    let begun = answer::blocking(move || node.begin_archive(asked.base.as_ref()));
    Ok((begun.await??, permit))
}

/// Hands records on to the client, and fails when it has gone.
struct Records(mpsc::Sender<Bytes>);

impl io::Write for Records {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(record));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
