//! Request bodies: read whole, within a limit and a time.
//!
//! Refuses what is too large before memory is spent on it. A body only somewhat too
//! large is still taken off the wire, because a client that is cut off while sending
//! sees a broken connection and never the answer.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{header, HeaderMap, StatusCode};
use chronos_model::SqlState;
use http_body_util::BodyExt;

use super::error::Failure;

/// How much of a refused body is read and thrown away.
const DRAIN_MAX_BYTES: usize = 16 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The whole body, of at most `max_bytes`, received within `timeout`.
///
/// Errors: 413, 408, or 400 when the connection broke.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > max_bytes as u64) {
        // A client that asked first has sent nothing yet.
        if !headers.contains_key(header::EXPECT) {
            drain(body).await;
        }
        return Err(too_large(max_bytes));
    }
    match tokio::time::timeout(timeout, collect(body, max_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Some(rest))) => {
            drain(rest).await;
            Err(too_large(max_bytes))
        }
        Ok(Err(None)) => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            SqlState::CONNECTION_EXCEPTION,
            "the body ended before its announced end",
        )),
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            SqlState::CONNECTION_EXCEPTION,
            format!("the body did not arrive within {} s", timeout.as_secs()),
        )),
    }
}

/// Errors: the rest of a body that is too large, or `None` for one that broke off.
async fn collect(mut body: Body, max_bytes: usize) -> Result<Bytes, Option<Body>> {
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| None)?.into_data() else {
            continue;
        };
        if first.len().max(whole.len()) + data.len() > max_bytes {
            return Err(Some(body));
        }
        if first.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.into()
    })
}

async fn drain(mut body: Body) {
    let mut drained = 0;
    let drain = async {
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > DRAIN_MAX_BYTES {
                break;
            }
        }
    };
    // Running out of time means the same as running out of patience with its size.
    let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
}

/// The answer to a body over its limit.
pub(crate) fn too_large(max_bytes: usize) -> Failure {
    Failure::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        SqlState::PROGRAM_LIMIT,
        format!("the body is larger than {max_bytes} bytes"),
    )
}
