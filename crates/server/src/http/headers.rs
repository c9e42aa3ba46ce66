//! Headers by which a request says how its statements are to be run.

use axum::http::{HeaderMap, HeaderName};
use chronos_model::IDEMPOTENCY_KEY_BYTES_MAX;
use chronos_node::Session;

use super::error::Failure;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const READ_CONSISTENCY: HeaderName = HeaderName::from_static("chronos-read-consistency");

/// The `Idempotency-Key`, bare or as the quoted string that the draft standard makes of it.
///
/// Errors: it is empty, too long, given twice, or not of visible ASCII characters.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let wrong = |why: &str| Err(Failure::bad_request(format!("Idempotency-Key {why}")));
    if given.next().is_some() {
        return wrong("is given twice");
    }
    let Ok(text) = value.to_str() else {
        return wrong("has characters that are not visible ASCII");
    };
    let text = text.trim();
    let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match quoted.unwrap_or(text) {
        "" => wrong("is empty"),
        key if key.len() > IDEMPOTENCY_KEY_BYTES_MAX => {
            wrong(&format!("is longer than {IDEMPOTENCY_KEY_BYTES_MAX} bytes"))
        }
        key => Ok(Some(key)),
    }
}

/// Has a session do as the headers say.
pub(crate) fn apply(headers: &HeaderMap, session: &mut Session) -> Result<(), Failure> {
    if let Some(consistency) = headers.get(READ_CONSISTENCY) {
        let consistency = consistency.to_str().unwrap_or_default();
        session.set_startup("chronos.read_consistency", consistency)?;
    }
    if let Some(key) = idempotency_key(headers)? {
        session.set_idempotency_key(key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(values: &[&str]) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
        }
        let key = idempotency_key(&headers);
        key.map(|key| key.map(str::to_owned))
            .map_err(|failure| failure.status.as_u16())
    }

    #[test]
    fn a_key_is_bare_or_quoted() {
        assert_eq!(key_of(&[]), Ok(None));
        assert_eq!(key_of(&["order 7"]), Ok(Some("order 7".into())));
        assert_eq!(key_of(&["\"order 7\""]), Ok(Some("order 7".into())));
        let (longest, longer) = ("k".repeat(255), "k".repeat(256));
        assert_eq!(key_of(&[&longest]), Ok(Some(longest.clone())));
        for wrong in [&["\"\""][..], &[""], &["\u{e9}"], &["a", "b"], &[&longer]] {
            assert_eq!(key_of(wrong), Err(400), "{wrong:?}");
        }
    }
}
