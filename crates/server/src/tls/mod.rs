//! TLS of the servers: certificates, who must use it, and the streams it makes.
//!
//! ```text
//!     PEM ─► TlsServer ─► Loaded (one config per protocol, hash for channel binding)
//!              │ reload: a new Loaded, with a new memory of sessions
//!              ▼
//!     Transport: plain ─start_tls─► encrypted
//! ```
//!
//! Files are not read here: whoever runs the server gives their contents, and again when they have
//! changed. Each reload makes new configurations, so that nobody resumes a session that was
//! begun under a certificate or an authority which has been taken away since.

mod end_point;
mod transport;

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

pub use end_point::end_point_hash;
pub(crate) use transport::Transport;

/// What a client asks for that speaks TLS from its first byte to the PostgreSQL port.
const ALPN_POSTGRESQL: &[u8] = b"postgresql";
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Who has to use TLS, where it is there to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsPolicy {
    /// Whoever wants to.
    Allow,
    /// Everybody who does not come from this machine.
    RequireRemote,
    /// Everybody.
    Require,
}

/// Whether clients must show certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientCertificates {
    /// Those that are shown must be good.
    Optional,
    /// Each client must show one.
    Required,
}

/// Contents of certificate files.
#[derive(Clone)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its authority, as PEM.
    pub certificates: Vec<u8>,
    /// The certificate's private key, as PEM.
    pub key: Vec<u8>,
    /// Authorities of clients' certificates, as PEM; `None`: clients show none.
    pub client_authorities: Option<(Vec<u8>, ClientCertificates)>,
    /// A name that the certificate must be good for.
    pub domain: Option<String>,
}

/// Why TLS cannot be served. `what` is the thing whose file is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct TlsError {
    /// `certificate`, `private key`, `CA certificate` ..
    pub what: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

pub(crate) fn wrong(what: &'static str, reason: impl fmt::Display) -> TlsError {
    TlsError {
        what,
        reason: reason.to_string(),
    }
}

/// TLS as the servers share it.
pub struct TlsServer {
    policy: TlsPolicy,
    loaded: RwLock<Arc<Loaded>>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// The configurations of one state of the files.
pub(crate) struct Loaded {
    pub(crate) pgwire: Arc<ServerConfig>,
    pub(crate) http: Arc<ServerConfig>,
    /// What SCRAM-SHA-256-PLUS is bound to.
    pub(crate) end_point: Option<Vec<u8>>,
}

impl TlsServer {
    /// TLS with these certificates.
    ///
    /// Errors: they cannot be read, or do not go together.
    pub fn new(files: &TlsFiles, policy: TlsPolicy) -> Result<TlsServer, TlsError> {
        Ok(TlsServer {
            policy,
            loaded: RwLock::new(Arc::new(load(files)?)),
        })
    }

    /// Takes other certificates for connections from now on. After an error the old ones stay.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let loaded = Arc::new(load(files)?);
        *self.loaded.write() = loaded;
        Ok(())
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read())
    }

    /// Whether somebody may speak without encryption.
    pub(crate) fn allows_plain(&self, is_local: bool) -> bool {
        match self.policy {
            TlsPolicy::Allow => true,
            TlsPolicy::RequireRemote => is_local,
            TlsPolicy::Require => false,
        }
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let chain = certificates("certificate", &files.certificates)?;
    let first = &chain[0];
    let end_point = end_point_hash(first);
    if let Some(domain) = &files.domain {
        check_domain(first, domain)?;
    }
    let mut pgwire = config(files, chain)?;
    let mut http = pgwire.clone();
    pgwire.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
    http.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    // A session of one protocol is none of the other.
    http.session_storage = rustls::server::ServerSessionMemoryCache::new(256);
    Ok(Loaded {
        pgwire: Arc::new(pgwire),
        http: Arc::new(http),
        end_point,
    })
}

pub(crate) fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(what, e))?;
    match chain.is_empty() {
        true => Err(wrong(what, "the file holds no PEM certificate")),
        false => Ok(chain),
    }
}

fn check_domain(certificate: &CertificateDer<'_>, domain: &str) -> Result<(), TlsError> {
    let name = ServerName::try_from(domain)
        .map_err(|_| wrong("domain", format!("\"{domain}\" is no host name or address")))?;
    let parsed = ParsedCertificate::try_from(certificate).map_err(|e| wrong("certificate", e))?;
    verify_server_name(&parsed, &name)
        .map_err(|e| wrong("certificate", format!("it is not for \"{domain}\": {e}")))
}

pub(crate) fn config(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
) -> Result<ServerConfig, TlsError> {
    let key = private_key(&files.key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("TLS", e))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some((pem, demand)) => {
            let roots = authorities(pem)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match demand {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::Required => verifier,
            };
            let verifier = verifier.build().map_err(|e| wrong("CA certificate", e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    // This refuses a key that is not the certificate's.
    builder.with_single_cert(chain, key).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            wrong("private key", "it is not the key of the certificate")
        }
        e => wrong("certificate and private key", e),
    })
}

pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        rustls::pki_types::pem::Error::NoItemsFound => wrong(
            "private key",
            "the file holds no PEM private key without passphrase",
        ),
        e => wrong("private key", e),
    })
}

pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("CA certificate", pem)? {
        roots
            .add(authority)
            .map_err(|e| wrong("CA certificate", e))?;
    }
    Ok(roots)
}
