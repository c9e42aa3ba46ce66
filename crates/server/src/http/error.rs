//! Failures as HTTP answers.
//!
//! Owns the one shape in which this face reports an error, whatever its cause:
//! `{"error":{"code":"42P01","message":".."}}`, where `code` is a SQLSTATE. Members that
//! have nothing to say are left out.

use axum::body::Body;
use axum::http::{header, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chronos_model::SqlState;
use serde::Serialize;

use super::ingest::IngestError;

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    report: Box<Report>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

#[derive(Debug, Serialize, Default)]
struct Report {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraint: Option<String>,
    /// How many rows of the body were stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Position {
    /// In a statement: characters from 1.
    Statement(u32),
    /// In a body of readings.
    Body { index: u64, line: u64, byte: u64 },
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: SqlState, message: impl Into<String>) -> Failure {
        let report = Report {
            code: code.0,
            message: message.into(),
            ..Report::default()
        };
        Failure {
            status,
            report: Box::new(report),
            headers: Vec::new(),
        }
    }

    /// 400 with "invalid parameter value".
    pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(
            StatusCode::BAD_REQUEST,
            SqlState::INVALID_PARAMETER,
            message,
        )
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.report.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_header(mut self, name: header::HeaderName, value: &'static str) -> Failure {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Says that nothing of an ingested body was stored.
    pub(crate) fn nothing_stored(mut self) -> Failure {
        self.report.stored = Some(0);
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.report.message
    }
}

impl From<chronos_node::Error> for Failure {
    fn from(e: chronos_node::Error) -> Failure {
        let status = StatusCode::from_u16(e.http_status());
        let mut failure = Failure::new(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            e.code,
            e.message,
        );
        if e.code == SqlState::CANNOT_CONNECT_NOW {
            failure = failure.with_header(header::RETRY_AFTER, "1");
        }
        failure.report.detail = e.detail;
        failure.report.hint = e.hint;
        failure.report.position = e.position.map(Position::Statement);
        failure.report.table = e.table;
        failure.report.column = e.column;
        failure.report.constraint = e.constraint;
        failure
    }
}

impl From<IngestError> for Failure {
    fn from(e: IngestError) -> Failure {
        let mut failure = Failure::new(StatusCode::BAD_REQUEST, SqlState::INVALID_TEXT, e.message);
        failure.report.field = e.field;
        failure.report.position = Some(Position::Body {
            index: e.index,
            line: e.line,
            byte: e.byte,
        });
        failure.nothing_stored()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Document<'a> {
            error: &'a Report,
        }
        let document = Document {
            error: &self.report,
        };
        let mut response = json_response(self.status, &document);
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// An answer with a JSON document and a line break.
pub(crate) fn json_response(status: StatusCode, document: &impl Serialize) -> Response {
    let mut body = serde_json::to_vec(document).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Answer for an address that does not exist.
pub(crate) async fn not_found(uri: Uri) -> Failure {
    let message = format!("there is nothing at {}", uri.path());
    Failure::new(StatusCode::NOT_FOUND, SqlState::UNDEFINED_OBJECT, message).with_hint(
        "GET and POST /sql, POST /ingest, GET /health, /ready, /metrics and /cluster; \
             what else there is stands in docs/http.md",
    )
}

/// Answer for a method that an address does not have.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    let message = format!("{} does not take {method}", uri.path());
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        SqlState::FEATURE_NOT_SUPPORTED,
        message,
    )
}
