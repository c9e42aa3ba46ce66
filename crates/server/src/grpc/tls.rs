//! TLS between nodes: both ends of each connection, of one set of files.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::tls::{self, wrong, ClientCertificates, TlsError, TlsFiles};

const ALPN_H2: &[u8] = b"h2";

/// Contents of the files of TLS between nodes.
#[derive(Clone)]
pub struct PeerTlsFiles {
    /// This node's certificate and those between it and its authority, as PEM. It is shown to
    /// nodes that call and to nodes that are called.
    pub certificates: Vec<u8>,
    /// The certificate's private key, as PEM.
    pub key: Vec<u8>,
    /// Authorities of nodes' certificates, as PEM.
    pub authorities: Vec<u8>,
    /// Whether nodes that call must show a certificate of these authorities (mTLS). Called nodes
    /// always must.
    pub callers: ClientCertificates,
    /// A name that the certificates of called nodes must be good for; `None`: the host of their
    /// address.
    pub domain: Option<String>,
}

/// TLS between nodes.
pub struct PeerTls(RwLock<Arc<Loaded>>);

pub(super) struct Loaded {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    domain: Option<ServerName<'static>>,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").finish_non_exhaustive()
    }
}

impl PeerTls {
    /// TLS with these certificates.
    ///
    /// Errors: they cannot be read, or do not go together.
    pub fn new(files: &PeerTlsFiles) -> Result<PeerTls, TlsError> {
        Ok(PeerTls(RwLock::new(Arc::new(load(files)?))))
    }

    /// Takes other certificates for connections from now on. After an error the old ones stay.
    pub fn reload(&self, files: &PeerTlsFiles) -> Result<(), TlsError> {
        let loaded = Arc::new(load(files)?);
        *self.0.write() = loaded;
        Ok(())
    }

    pub(super) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.read())
    }
}

impl Loaded {
    /// What the certificate of a node at an address (`host:port`) must be good for.
    ///
    /// Errors: the host is neither a name nor an address.
    pub(super) fn name_of(&self, address: &str) -> Result<ServerName<'static>, TlsError> {
        if let Some(domain) = &self.domain {
            return Ok(domain.clone());
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        server_name(host.trim_start_matches('[').trim_end_matches(']'))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| wrong("domain", format!("\"{host}\" is no host name or address")))
}

fn load(files: &PeerTlsFiles) -> Result<Loaded, TlsError> {
    let chain = tls::certificates("certificate", &files.certificates)?;
    let server_files = TlsFiles {
        certificates: files.certificates.clone(),
        key: files.key.clone(),
        client_authorities: Some((files.authorities.clone(), files.callers)),
        domain: None,
    };
    let mut server = tls::config(&server_files, chain.clone())?;
    server.alpn_protocols = vec![ALPN_H2.to_vec()];
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("TLS", e))?
        .with_root_certificates(tls::authorities(&files.authorities)?)
        .with_client_auth_cert(chain, tls::private_key(&files.key)?)
        .map_err(|e| wrong("certificate and private key", e))?;
    client.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(Loaded {
        server: Arc::new(server),
        client: Arc::new(client),
        domain: files.domain.as_deref().map(server_name).transpose()?,
    })
}
