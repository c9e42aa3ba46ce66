//! What a request to `/sql` asks for: statements, parameters, and the form of the answer.
//!
//! ```text
//!     GET  /sql?q=SELECT 1&format=csv
//!     POST /sql   application/json                    {"sql": "..", "params": [..], "format": "csv", "multi": true}
//!                 text/plain, application/sql         the statements
//!                 application/x-www-form-urlencoded   q=.. or sql=.., else the statements (what `curl -d` sends)
//! ```
//!
//! Refuses writes by GET: browsers and proxies repeat and prefetch it.

use axum::http::{header, HeaderMap, StatusCode};
use chronos_model::SqlState;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::encode::Format;
use crate::http::error::Failure;

/// A request to `/sql`.
#[derive(Debug)]
pub(crate) struct SqlRequest {
    pub(crate) sql: String,
    /// JSON values of `$1`, `$2` ..
    pub(crate) params: Vec<Box<RawValue>>,
    pub(crate) format: Format,
    /// Whether every statement's result is wanted, not only the last one's.
    pub(crate) multi: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonBody {
    sql: String,
    #[serde(default)]
    params: Vec<Box<RawValue>>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    multi: bool,
}

/// A body that is compressed is not taken for text.
fn refuse_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(());
    };
    if encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("/sql does not take a body with Content-Encoding {encoding:?}"),
    ))
}

/// As by the PostgreSQL protocol, no text has a NUL.
fn refuse_nul(text: &str) -> Result<(), Failure> {
    if !text.contains('\0') {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::BAD_REQUEST,
        SqlState::INVALID_ENCODING,
        NUL_MESSAGE,
    ))
}

/// PostgreSQL's words for it.
pub(super) const NUL_MESSAGE: &str = "invalid byte sequence for encoding \"UTF8\": 0x00";

impl SqlRequest {
    /// Of `GET /sql?q=..`.
    pub(crate) fn of_query(headers: &HeaderMap, query: &str) -> Result<SqlRequest, Failure> {
        let fields = Fields::parse(query)?;
        let Some(sql) = fields.sql else {
            return Err(Failure::bad_request("the query string has no q"));
        };
        refuse_nul(&sql)?;
        Ok(SqlRequest {
            sql,
            params: Vec::new(),
            format: choose_format(headers, fields.format.as_deref())?,
            multi: false,
        })
    }

    /// Of `POST /sql`.
    pub(crate) fn of_body(
        headers: &HeaderMap,
        query: &str,
        body: &[u8],
    ) -> Result<SqlRequest, Failure> {
        let fields = Fields::parse(query)?;
        refuse_encoding(headers)?;
        let body = std::str::from_utf8(body).map_err(|e| {
            let message = format!("the body is not UTF-8 at byte {}", e.valid_up_to());
            Failure::new(StatusCode::BAD_REQUEST, SqlState::INVALID_ENCODING, message)
        })?;
        let body = body.trim_start_matches('\u{feff}');
        let plain = |sql: String, format: Option<String>| {
            refuse_nul(&sql)?;
            Ok(SqlRequest {
                sql,
                params: Vec::new(),
                format: choose_format(headers, format.as_deref())?,
                multi: false,
            })
        };
        let looks_like_json = body.trim_start().starts_with('{');
        match media_type(headers).as_str() {
            "application/json" => {}
            "" | "application/x-www-form-urlencoded" if looks_like_json => {}
            "" | "text/plain" | "application/sql" => return plain(body.to_owned(), fields.format),
            "application/x-www-form-urlencoded" => {
                return match Fields::parse(body) {
                    Ok(Fields {
                        sql: Some(sql),
                        format,
                    }) => plain(sql, format.or(fields.format)),
                    _ => plain(body.to_owned(), fields.format),
                }
            }
            other => {
                let message = format!("/sql takes JSON or text, not {other:?}");
                return Err(Failure::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    SqlState::FEATURE_NOT_SUPPORTED,
                    message,
                ));
            }
        }
        let json: JsonBody = serde_json::from_str(body).map_err(|e| {
            Failure::bad_request(format!("the body is no request: {e}"))
                .with_hint("{\"sql\": \"SELECT $1\", \"params\": [1]}")
        })?;
        refuse_nul(&json.sql)?;
        Ok(SqlRequest {
            sql: json.sql,
            params: json.params,
            format: choose_format(headers, json.format.or(fields.format).as_deref())?,
            multi: json.multi,
        })
    }
}

/// The media type of a request's body, lower-case, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next();
    media_type.unwrap_or_default().trim().to_ascii_lowercase()
}

fn choose_format(headers: &HeaderMap, name: Option<&str>) -> Result<Format, Failure> {
    if let Some(name) = name {
        return Format::parse(name).ok_or_else(|| {
            Failure::bad_request(format!(
                "format {name:?} is none of json, ndjson, csv, arrow"
            ))
        });
    }
    let accept: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    negotiate(&accept.join(",")).ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_ACCEPTABLE,
            SqlState::FEATURE_NOT_SUPPORTED,
            "none of the accepted media types can be given",
        )
        .with_hint(
            "application/json, application/x-ndjson, text/csv, application/vnd.apache.arrow.stream",
        )
    })
}

/// The wanted one of our formats by an `Accept` header; of equally wanted ones the first
/// named. An empty header wants JSON.
fn negotiate(accept: &str) -> Option<Format> {
    if accept.trim().is_empty() {
        return Some(Format::Json);
    }
    let mut best: Option<(f32, Format)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Ndjson,
            "text/csv" | "text/*" => Format::Csv,
            "application/vnd.apache.arrow.stream" => Format::Arrow,
            _ => continue,
        };
        let quality = parts.find_map(|p| p.strip_prefix("q=")?.parse().ok());
        let quality = quality.unwrap_or(1.0);
        if quality > 0.0 && best.is_none_or(|(q, _)| quality > q) {
            best = Some((quality, format));
        }
    }
    best.map(|(_, format)| format)
}

/// Fields of a query string or form that mean something here.
#[derive(Default)]
struct Fields {
    sql: Option<String>,
    format: Option<String>,
}

impl Fields {
    fn parse(text: &str) -> Result<Fields, Failure> {
        let mut fields = Fields::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "q" | "sql" => fields.sql = Some(decode(value)?),
                "format" => fields.format = Some(decode(value)?),
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// Resolves `+` and `%41`.
fn decode(text: &str) -> Result<String, Failure> {
    let malformed = || Failure::bad_request(format!("{text:?} is not URL-encoded text"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = |b: &u8| char::from(*b).to_digit(16);
                let digits = rest.first().and_then(hex).zip(rest.get(1).and_then(hex));
                let (high, low) = digits.ok_or_else(malformed)?;
                bytes.push((high * 16 + low) as u8);
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// Whether a statement surely only reads. Judged by its words, so a harmless statement
/// may be misjudged as a writing one, but not the other way round.
pub(crate) fn is_read_only(statement: &str) -> bool {
    let mut words = statement
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|w| !w.is_empty());
    let is = |word: &str, list: &[&str]| list.iter().any(|l| l.eq_ignore_ascii_case(word));
    let reads = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"];
    let writes = [
        "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "DROP", "COPY", "INTO",
    ];
    words.next().is_some_and(|w| is(w, &reads)) && !words.any(|w| is(w, &writes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let pair = |(n, v): &(header::HeaderName, &str)| (n.clone(), v.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn accept_chooses_the_format() {
        for (accept, format) in [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            (
                "text/html,application/xhtml+xml,*/*;q=0.8",
                Some(Format::Json),
            ),
            ("text/csv", Some(Format::Csv)),
            ("Text/CSV; header=present", Some(Format::Csv)),
            (
                "application/json;q=0.5, application/vnd.apache.arrow.stream",
                Some(Format::Arrow),
            ),
            ("text/csv, application/json", Some(Format::Csv)),
            (
                "application/x-ndjson;q=0.9, text/csv;q=0.9",
                Some(Format::Ndjson),
            ),
            ("text/html", None),
            ("text/csv;q=0", None),
        ] {
            assert_eq!(negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn every_form_of_a_request() {
        let json = headers(&[(header::CONTENT_TYPE, "application/json; charset=utf-8")]);
        let form = headers(&[(header::CONTENT_TYPE, "application/x-www-form-urlencoded")]);
        let text = headers(&[(header::CONTENT_TYPE, "text/plain")]);
        let none = HeaderMap::new();
        for (headers, query, body) in [
            (&json, "", r#"{"sql":"SELECT 'a+b'","format":"csv"}"#),
            (&none, "", r#" {"sql":"SELECT 'a+b'","format":"csv"}"#),
            (&form, "", r#"{"sql":"SELECT 'a+b'","format":"csv"}"#),
            (&form, "", "q=SELECT+'a%2Bb'&format=csv"),
            (&form, "format=csv", "sql=SELECT%20'a%2bb'"),
            (&form, "format=csv", "SELECT 'a+b'"),
            (&text, "format=CSV", "SELECT 'a+b'"),
            (&none, "format=csv", "SELECT 'a+b'"),
        ] {
            let request = SqlRequest::of_body(headers, query, body.as_bytes()).unwrap();
            assert_eq!(
                (request.sql.as_str(), request.format),
                ("SELECT 'a+b'", Format::Csv),
                "{body}"
            );
        }
        let request = SqlRequest::of_query(&none, "q=SELECT%201").unwrap();
        assert_eq!(request.sql, "SELECT 1");
    }

    #[test]
    fn bad_requests() {
        let json = headers(&[(header::CONTENT_TYPE, "application/json")]);
        let xml = headers(&[(header::CONTENT_TYPE, "application/xml")]);
        for (headers, query, body, status) in [
            (&json, "", "{", 400),
            (&json, "", r#"{"sql":1}"#, 400),
            (&json, "", r#"{"sql":"x","parameters":[]}"#, 400),
            (&json, "", r#"{"sql":"x","format":"xml"}"#, 400),
            (&json, "format=%2", r#"{"sql":"x"}"#, 400),
            (&xml, "", "<sql/>", 415),
        ] {
            let failure = SqlRequest::of_body(headers, query, body.as_bytes()).unwrap_err();
            assert_eq!(failure.status.as_u16(), status, "{body}");
        }
        assert!(SqlRequest::of_query(&json, "format=csv").is_err());
    }

    #[test]
    fn only_reading_statements_pass_get() {
        for sql in [
            "SELECT 1",
            " (select 1)",
            "with a as (select 1) table a",
            "SHOW x",
            "EXPLAIN SELECT 1",
        ] {
            assert!(is_read_only(sql), "{sql}");
        }
        for sql in [
            "INSERT INTO t VALUES (1)",
            "WITH a AS (DELETE FROM t RETURNING 1) SELECT 1",
            "EXPLAIN ANALYZE DELETE FROM t",
            "BEGIN",
            "SET a = 1",
            "",
        ] {
            assert!(!is_read_only(sql), "{sql}");
        }
    }
}
