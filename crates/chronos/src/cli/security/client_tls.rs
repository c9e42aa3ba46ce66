//! TLS as a client of a node: whom it takes for the node, and what it shows of itself.

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

use crate::cli::files;

/// Whose certificate is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust<'a> {
    /// Anybody's: it is not looked at.
    Anybody,
    /// One of the authorities in this file has made it, for whomever.
    Authority(&'a Path),
    /// One of them has made it, for the host that was asked for.
    AuthorityAndName(&'a Path),
}

/// Where authorities are unless a file is named: `~/.postgresql/root.crt`.
pub(crate) fn habitual_authorities() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".postgresql/root.crt"))
}

/// How connections are encrypted. `shown`: the client's own certificate and its key.
///
/// Errors: a file cannot be used, as a sentence with its name.
pub(crate) fn client_config(
    trust: Trust<'_>,
    shown: Option<(&Path, &Path)>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let authorities = match trust {
        Trust::Anybody => None,
        Trust::Authority(file) | Trust::AuthorityAndName(file) => {
            Some(authorities(file, &provider)?)
        }
    };
    let verifier = Verifier {
        authorities,
        checks_name: matches!(trust, Trust::AuthorityAndName(_)),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = shown else {
        return Ok(builder.with_no_client_auth());
    };
    let read = |file: &Path| files::read_all(file).map_err(|e| e.to_string());
    let chain = pem_certificates(&read(certificate)?, certificate)?;
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|e| format!("cannot use {}: {e}", key.display()))?;
    builder
        .with_client_auth_cert(chain, key_der)
        .map_err(|e| format!("cannot use {}: {e}", certificate.display()))
}

/// What the certificate of a node at a host must be good for.
pub(crate) fn server_name(host: &str, domain: Option<&str>) -> Result<ServerName<'static>, String> {
    let name = domain.unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("\"{name}\" is no name that a certificate can be for"))
}

fn authorities(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let pem = files::read_all(file)
        .map_err(|e| format!("{e}; it is to hold the certificate of the server's authority; --tls-ca-cert or sslrootcert names another file"))?;
    let mut roots = RootCertStore::empty();
    for certificate in pem_certificates(&pem, file)? {
        let added = roots.add(certificate);
        added.map_err(|e| format!("cannot use {}: {e}", file.display()))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| e.to_string())
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
