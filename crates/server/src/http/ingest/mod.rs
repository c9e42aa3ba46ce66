//! `POST /ingest`: readings of sensors become rows of the table `readings`.
//!
//! ```text
//!     permit (429) ─▶ body (413, 408) ─▶ memory (503) ─▶ gunzip (415, 413) ─▶ parse (400) ─▶ commit ─▶ 200
//! ```
//!
//! A body is stored as a whole or not at all, and answered after its commit. Sending it
//! again changes nothing. Every stage has a limit, so that what may be in memory at once
//! is known: requests in flight times the size of a body, and of their rows what the memory
//! account has.

mod number;
mod parse;
mod time;

use std::borrow::Cow;
use std::io::Read;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chronos_model::{Role, SqlState};
use chronos_node::{Identity, Ingested, MemoryClass, Readings, Reservation};
use flate2::bufread::MultiGzDecoder;
use serde::Serialize;

pub use self::parse::{parse_body, IngestError, NAME_MAX_BYTES};
use super::body::{read_body, too_large};
use super::error::{json_response, Failure};
use super::metrics::Kind;
use super::sql::media_type;
use super::{answer, auth, App};

/// Bodies up to this size are parsed where the request is handled; larger ones would
/// hold up other requests and go to a thread for such work.
const INLINE_MAX_BYTES: usize = 64 << 10;

/// A body is there as it came, and as rows.
const BODY_FORMS: usize = 2;
/// How many times its size a compressed body is taken for.
const GZIP_RATIO: usize = 10;

#[derive(Serialize)]
struct Stored {
    rows: u64,
    duplicates: u64,
}

/// `POST /ingest`
pub(crate) async fn post(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request = app.metrics.begin(Kind::Ingest);
    let ingested = match auth::demand(&app, &identity, Role::ReadWrite) {
        Ok(()) => ingest(&app, &identity, &headers, body).await,
        Err(failure) => Err(failure.nothing_stored()),
    };
    let response = match ingested {
        Ok(Ingested { rows, duplicates }) => {
            app.metrics.ingest_rows.inc_by(rows);
            app.metrics.ingest_duplicates.inc_by(duplicates);
            json_response(StatusCode::OK, &Stored { rows, duplicates })
        }
        Err(failure) => {
            tracing::debug!(
                status = failure.status.as_u16(),
                reason = failure.message(),
                "readings refused"
            );
            failure.into_response()
        }
    };
    request.finish(response.status());
    response
}

async fn ingest(
    app: &App,
    identity: &Identity,
    headers: &HeaderMap,
    body: Body,
) -> Result<Ingested, Failure> {
    let Ok(_permit) = app.ingest_permits.clone().try_acquire_owned() else {
        return Err(Failure::new(
            StatusCode::TOO_MANY_REQUESTS,
            SqlState("53300"),
            format!(
                "{} ingest requests are in flight already",
                app.options.ingest_max_inflight
            ),
        )
        .with_header(header::RETRY_AFTER, "1")
        .nothing_stored());
    };
    let key = super::headers::idempotency_key(headers).map_err(Failure::nothing_stored)?;
    let memory = app.node.memory();
    let mut held = memory.reservation(MemoryClass::Input, "a body of readings");
    let readings = receive(app, headers, body, &mut held)
        .await
        .map_err(Failure::nothing_stored)?;
    if readings.is_empty() {
        return Ok(Ingested::default());
    }
    let stored = match key {
        None => app.node.ingest(readings, identity.name()).await,
        Some(key) => app.node.ingest_once(readings, identity.name(), key).await,
    };
    stored.map_err(|e| match e.code {
        SqlState::OUT_OF_MEMORY => busy(e),
        _ => e.into(),
    })
}

/// Readings for which there is no memory now: there will be, when others are stored.
fn busy(e: chronos_node::Error) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, e.code, e.message)
        .with_hint("Send it again a little later, or send fewer readings at a time.")
        .with_header(header::RETRY_AFTER, "1")
        .nothing_stored()
}

async fn receive(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    held: &mut Reservation,
) -> Result<Readings, Failure> {
    let is_gzip = is_gzip(headers)?;
    let content_type = accepted_type(headers)?;
    let max_bytes = app.options.ingest_max_body_bytes;
    let body = read_body(headers, body, max_bytes, app.options.body_timeout).await?;
    let bytes = match is_gzip {
        true => max_bytes.min(body.len().saturating_mul(GZIP_RATIO)),
        false => body.len(),
    };
    held.try_grow((bytes * BODY_FORMS) as u64)
        .map_err(|e| busy(e.into()))?;
    let is_small = !is_gzip && body.len() <= INLINE_MAX_BYTES;
    let parse = move || parse(&content_type, body, is_gzip, max_bytes);
    if is_small {
        return parse();
    }
    answer::blocking(parse).await?
}

fn parse(
    content_type: &str,
    body: Bytes,
    is_gzip: bool,
    max_bytes: usize,
) -> Result<Readings, Failure> {
    let body = if is_gzip {
        Cow::Owned(gunzip(&body, max_bytes)?)
    } else {
        Cow::Borrowed(body.as_ref())
    };
    let mut readings = Readings::new();
    parse_body(Some(content_type), &body, &mut readings)?;
    Ok(readings)
}

/// Whether the body is compressed. Errors: in a way that is not gzip (415).
fn is_gzip(headers: &HeaderMap) -> Result<bool, Failure> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(false);
    };
    match encoding.to_str().unwrap_or_default().trim() {
        e if e.eq_ignore_ascii_case("identity") => Ok(false),
        e if e.eq_ignore_ascii_case("gzip") || e.eq_ignore_ascii_case("x-gzip") => Ok(true),
        _ => Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("Content-Encoding {encoding:?} is not understood, only gzip is"),
        )
        .with_header(header::ACCEPT_ENCODING, "gzip, identity")),
    }
}

/// The body's media type. What surely is no JSON is refused before it is read.
fn accepted_type(headers: &HeaderMap) -> Result<String, Failure> {
    let media_type = media_type(headers);
    let is_json = media_type.ends_with("json")
        || media_type.ends_with("jsonl")
        || media_type.ends_with("jsonlines");
    // The last one is what `curl -d` says when told nothing.
    let is_vague = matches!(
        media_type.as_str(),
        "" | "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded"
    );
    if is_json || is_vague {
        return Ok(media_type);
    }
    Err(Failure::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("/ingest takes JSON or NDJSON, not {media_type:?}"),
    ))
}

/// Decompresses a body that must not become larger than `max_bytes`: a small file can
/// hold gigabytes of zeros.
fn gunzip(body: &[u8], max_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity((body.len() * 4).min(max_bytes));
    let decoder = MultiGzDecoder::new(body);
    let read = decoder.take(max_bytes as u64 + 1).read_to_end(&mut out);
    if out.len() > max_bytes {
        return Err(too_large(max_bytes).with_hint("the limit holds for the decompressed body"));
    }
    match read {
        Ok(_) => Ok(out),
        Err(e) => Err(Failure::bad_request(format!("the body is no gzip: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_decompressed_within_the_limit() {
        let body = vec![b'a'; 100_000];
        let compressed = gzip(&body);
        assert!(compressed.len() < 1000);
        assert_eq!(gunzip(&compressed, 100_000).unwrap(), body);
        assert_eq!(
            gunzip(&compressed, 99_999).unwrap_err().status,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        let two = [gzip(b"ab"), gzip(b"cd")].concat();
        assert_eq!(gunzip(&two, 10).unwrap(), b"abcd");
        for bad in [&compressed[..compressed.len() - 4], b"no gzip", b""] {
            assert_eq!(
                gunzip(bad, 100_000).unwrap_err().status,
                StatusCode::BAD_REQUEST
            );
        }
    }
}
