//! TLS of a session: what `sslmode` asks for, and libpq's other names for it.
//!
//! | sslmode | |
//! |---|---|
//! | `disable` | in clear |
//! | `prefer` | TLS if the server has it; who the server is, is not looked at |
//! | `require` | TLS; a given `sslrootcert` is looked at as by `verify-ca` |
//! | `verify-ca` | and the certificate must come from an authority in `sslrootcert` |
//! | `verify-full` | and it must be for the host that was asked for (or `CHRONOS_TLS_DOMAIN`) |
//!
//! `sslrootcert` is `~/.postgresql/root.crt` unless it is given. `sslcert` and `sslkey` are a
//! client's certificate. Each is also read from the environment, as `PGSSLMODE` and so on.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

use crate::cli::args::HostPort;
use crate::cli::error::CliError;
use crate::cli::security::{client_config, habitual_authorities, server_name, Trust};
use crate::cli::values::HttpUrl;

/// How much a session wants to be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What a connection URL and the environment say of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsWish {
    pub(super) mode: SslMode,
    root_cert: Option<PathBuf>,
    client_cert: Option<(PathBuf, PathBuf)>,
    domain: Option<String>,
}

impl TlsWish {
    /// No TLS.
    pub(in crate::cli) fn none() -> TlsWish {
        TlsWish {
            mode: SslMode::Disable,
            root_cert: None,
            client_cert: None,
            domain: None,
        }
    }

    /// What the environment says.
    pub(in crate::cli) fn of_environment() -> Result<TlsWish, CliError> {
        TlsWish::of(&[])
    }

    /// What these parameters of a URL say, and the environment where they say nothing.
    fn of(parameters: &[(String, String)]) -> Result<TlsWish, CliError> {
        let value = |name: &str, variable: &str| {
            let given = parameters.iter().find(|(n, _)| n == name);
            let given = given.map(|(_, value)| value.clone());
            given.or_else(|| std::env::var(variable).ok())
        };
        let mode = match value("sslmode", "PGSSLMODE").as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("" | "prefer" | "allow") => SslMode::Prefer,
            Some("require") => SslMode::Require,
            Some("verify-ca") => SslMode::VerifyCa,
            Some("verify-full") => SslMode::VerifyFull,
            Some(other) => {
                let message = format!(
                    "sslmode is disable, prefer, require, verify-ca or verify-full, not {other:?}"
                );
                return Err(CliError::Usage(message));
            }
        };
        let file = |name: &str, variable: &str| value(name, variable).map(PathBuf::from);
        let client_cert = match (file("sslcert", "PGSSLCERT"), file("sslkey", "PGSSLKEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                let message = "sslcert and sslkey are given together";
                return Err(CliError::Usage(message.to_owned()));
            }
        };
        Ok(TlsWish {
            mode,
            root_cert: file("sslrootcert", "PGSSLROOTCERT"),
            client_cert,
            domain: std::env::var("CHRONOS_TLS_DOMAIN").ok(),
        })
    }

    /// How HTTP is asked for at an address, in this order.
    pub(in crate::cli) fn http_urls(&self, address: &HostPort) -> Vec<HttpUrl> {
        let plain = HttpUrl::of(address.clone());
        let encrypted = plain.with_tls();
        match self.mode {
            SslMode::Disable => vec![plain],
            SslMode::Prefer => vec![plain, encrypted],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => vec![encrypted],
        }
    }

    /// The name that certificates must be good for instead of the host's.
    pub(in crate::cli) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Takes what is about TLS out of a connection URL, or out of `name=value` pairs.
    pub(super) fn taken_from(url: &str) -> Result<(TlsWish, String), CliError> {
        let mut taken = Vec::new();
        let mut is_taken = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let is = matches!(name, "sslmode" | "sslrootcert" | "sslcert" | "sslkey");
            if is {
                taken.push((name.to_owned(), percent_decoded(value.trim_matches('\''))));
            }
            is
        };
        let rest = match url.split_once("://") {
            Some(_) => match url.split_once('?') {
                Some((before, query)) => {
                    let kept: Vec<&str> = query.split('&').filter(|p| !is_taken(p)).collect();
                    match kept.is_empty() {
                        true => before.to_owned(),
                        false => format!("{before}?{}", kept.join("&")),
                    }
                }
                None => url.to_owned(),
            },
            None => {
                let kept: Vec<&str> = url.split(' ').filter(|p| !is_taken(p)).collect();
                kept.join(" ")
            }
        };
        Ok((TlsWish::of(&taken)?, rest))
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%');
        let decoded = hex.and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What came of asking for TLS.
pub(super) enum Secured {
    /// The server has none, and that is good enough.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Asks the server for TLS as far as is wished.
pub(super) async fn secure(
    mut stream: TcpStream,
    host: &str,
    wish: &TlsWish,
) -> Result<Secured, String> {
    /// SSLRequest: length and code.
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    if wish.mode == SslMode::Disable {
        return Ok(Secured::Plain(stream));
    }
    let mut config = config(wish)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    stream
        .write_all(&SSL_REQUEST)
        .await
        .map_err(|e| e.to_string())?;
    let answer = stream.read_u8().await.map_err(|e| e.to_string())?;
    match answer {
        b'S' => {}
        b'N' if wish.mode == SslMode::Prefer => return Ok(Secured::Plain(stream)),
        b'N' => return Err("the server does not support TLS, but sslmode asks for it".into()),
        _ => return Err("the server does not answer to a request for TLS".into()),
    }
    let name = server_name(host, wish.domain.as_deref())?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let encrypted = connecting.await.map_err(|e| format!("TLS: {e}"))?;
    Ok(Secured::Tls(Box::new(encrypted)))
}

/// The hash that SCRAM is bound to; `None`: the certificate has none.
pub(super) fn end_point(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    chronos_server::tls::end_point_hash(certificate)
}

/// How connections are encrypted, whatever goes over them.
pub(in crate::cli) fn config(wish: &TlsWish) -> Result<ClientConfig, String> {
    let habitual = || {
        let missing = "sslmode=verify-ca and verify-full need sslrootcert";
        habitual_authorities().ok_or(missing)
    };
    let authorities = match (&wish.root_cert, wish.mode) {
        (_, SslMode::Disable | SslMode::Prefer) | (None, SslMode::Require) => None,
        (Some(file), _) => Some(file.clone()),
        (None, SslMode::VerifyCa | SslMode::VerifyFull) => Some(habitual()?),
    };
    let trust = match (&authorities, wish.mode) {
        (None, _) => Trust::Anybody,
        (Some(file), SslMode::VerifyFull) => Trust::AuthorityAndName(file),
        (Some(file), _) => Trust::Authority(file),
    };
    let shown = wish.client_cert.as_ref();
    let shown = shown.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    client_config(trust, shown)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn parameters_are_taken_out_of_urls() {
        let url = "postgres://h/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fa%20b";
        let (wish, rest) = TlsWish::taken_from(url).unwrap();
        assert_eq!(rest, "postgres://h/d?application_name=x");
        assert_eq!(wish.mode, SslMode::VerifyFull);
        assert_eq!(wish.root_cert.as_deref(), Some(Path::new("/a b")));
        let (wish, rest) = TlsWish::taken_from("host=h sslmode=require user=u").unwrap();
        assert_eq!(
            (wish.mode, rest.as_str()),
            (SslMode::Require, "host=h user=u")
        );
        assert!(TlsWish::taken_from("postgres://h/d?sslmode=maybe").is_err());
        assert!(TlsWish::taken_from("postgres://h/d?sslcert=a").is_err());
    }
}
