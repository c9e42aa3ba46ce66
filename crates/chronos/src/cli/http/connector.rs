//! Connections to nodes: in clear where the URL is http, TLS where it is https.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::cli::security::{
    client_config, habitual_authorities, server_name, HttpLoginArgs, Trust,
};
use crate::cli::wire::{tls_config, TlsWish};

/// For a connection, its handshake apart.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

type Load = Box<dyn Fn() -> Result<ClientConfig, String> + Send + Sync>;

/// What connections over https need to know. Files are read when the first one is opened.
pub(super) struct Https {
    load: Load,
    domain: Option<String>,
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

impl Https {
    /// As these arguments say: the node's certificate must come from the authority, and be for the
    /// host or the name that stands for it.
    pub(super) fn new(args: &HttpLoginArgs) -> Https {
        let authorities = args.tls_ca_cert.clone();
        let shown = args.tls_cert.clone().zip(args.tls_key.clone());
        let load = move || {
            let file = authorities.clone().or_else(habitual_authorities);
            let file = file.ok_or("https needs --tls-ca-cert, the node's authority")?;
            let shown = shown.as_ref();
            let shown = shown.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            client_config(Trust::AuthorityAndName(&file), shown)
        };
        Https::with(load, args.tls_domain.clone())
    }

    /// As a session would be.
    pub(super) fn as_wished(wish: &TlsWish) -> Https {
        let domain = wish.domain().map(str::to_owned);
        let wish = wish.clone();
        Https::with(move || tls_config(&wish), domain)
    }

    fn with(
        load: impl Fn() -> Result<ClientConfig, String> + Send + Sync + 'static,
        domain: Option<String>,
    ) -> Https {
        Https {
            load: Box::new(load),
            domain,
            config: OnceLock::new(),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let load = || {
            let mut config = (self.load)()?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        };
        self.config.get_or_init(load).clone()
    }

    async fn encrypt(&self, stream: TcpStream, host: &str) -> Result<Stream, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = server_name(host, self.domain.as_deref())?;
        let handshake = TlsConnector::from(self.config()?).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_WAIT, handshake).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(e)) => Err(format!("TLS: {e}")),
            Err(_) => Err(format!("no TLS within {HANDSHAKE_WAIT:?}")),
        }
    }
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    https: Arc<Https>,
}

impl Connector {
    pub(super) fn new(https: Https) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_WAIT));
        tcp.enforce_http(false);
        Connector {
            tcp,
            https: Arc::new(https),
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, Failure>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let https = (uri.scheme_str() == Some("https")).then(|| Arc::clone(&self.https));
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let tcp = connecting.await?.into_inner();
            let stream = match https {
                None => Stream::Plain(tcp),
                Some(https) => https.encrypt(tcp, &host).await?,
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// A connection's bytes.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
