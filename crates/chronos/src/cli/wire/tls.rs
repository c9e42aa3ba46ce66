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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

use crate::cli::error::CliError;
use crate::cli::files;

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
    pub(super) fn none() -> TlsWish {
        TlsWish {
            mode: SslMode::Disable,
            root_cert: None,
            client_cert: None,
            domain: None,
        }
    }

    /// What the environment says.
    pub(super) fn of_environment() -> Result<TlsWish, CliError> {
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
    let config = config(wish)?;
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
    let name = wish.domain.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("\"{name}\" is no name that a certificate can be for"))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let encrypted = connecting.await.map_err(|e| format!("TLS: {e}"))?;
    Ok(Secured::Tls(Box::new(encrypted)))
}

/// The hash that SCRAM is bound to; `None`: the certificate has none.
pub(super) fn end_point(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    chronos_server::tls::end_point_hash(certificate)
}

fn config(wish: &TlsWish) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        authorities: authorities(wish, &provider)?,
        checks_name: wish.mode == SslMode::VerifyFull,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &wish.client_cert {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let read = |file: &Path| files::read_all(file).map_err(|e| e.to_string());
            let chain = pem_certificates(&read(certificate)?, certificate)?;
            let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|e| format!("cannot use {}: {e}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|e| format!("cannot use {}: {e}", certificate.display()))?
        }
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// Whom the server's certificate may come from; `None`: it is not looked at.
fn authorities(
    wish: &TlsWish,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
    let by_habit = || {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".postgresql/root.crt"))
    };
    let verifies = wish.mode >= SslMode::VerifyCa;
    let file = match (&wish.root_cert, verifies) {
        (Some(file), _) if wish.mode >= SslMode::Require => file.clone(),
        (_, false) => return Ok(None),
        (_, true) => by_habit().ok_or("sslmode=verify-ca and verify-full need sslrootcert")?,
    };
    let pem = files::read_all(&file)
        .map_err(|e| format!("{e}; sslrootcert names the certificate of the server's authority"))?;
    let mut roots = RootCertStore::empty();
    for certificate in pem_certificates(&pem, &file)? {
        let added = roots.add(certificate);
        added.map_err(|e| format!("cannot use {}: {e}", file.display()))?;
    }
    let built =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map(Some).map_err(|e| e.to_string())
}

fn pem_certificates(pem: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{} holds no PEM certificate", file.display())),
        Err(e) => Err(format!("cannot use {}: {e}", file.display())),
    }
}

/// Looks at as much of the server's certificate as is wished.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The chain was looked at before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
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
