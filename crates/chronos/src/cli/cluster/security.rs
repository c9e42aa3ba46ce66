//! Who may talk to this node as another node.

use std::num::NonZeroU64;
use std::sync::Arc;

use chronos_node::cluster::Member;
use chronos_server::grpc::{GrpcOptions, PeerTls, PeerTlsFiles, Secret};
use chronos_server::tls::ClientCertificates;
use tokio::sync::watch;

use crate::cli::args::{ClusterArgs, HostPort, NodeArgs, PeerSecurityArgs};
use crate::cli::error::{tell, CliError};
use crate::cli::security::{from_password_file, is_local, trusts_everybody};

/// What certificates between nodes are for, in errors.
const BETWEEN_NODES: &str = "TLS between nodes";

/// Refuses to take everybody on the network for a node: a node may write whatever it likes.
pub(super) fn check(args: &NodeArgs, listen: &HostPort) -> Result<(), CliError> {
    if args.cluster.security.keeps_others_out() {
        return Ok(());
    }
    match (is_local(listen), trusts_everybody(&args.start.security)) {
        (true, _) => Ok(()),
        (false, true) => {
            tell(&format!(
                "WARNING: everybody who can reach {listen} is taken for a node of the cluster"
            ));
            Ok(())
        }
        (false, false) => Err(CliError::Usage(format!(
            "everybody who can reach {listen} would be taken for a node of the cluster\n\
             Do one of these, on each node alike:\n  \
             - give nodes a secret: --cluster-secret-file FILE (or CHRONOS_CLUSTER_SECRET)\n  \
             - give them certificates: --peer-tls-cert, --peer-tls-key and --peer-tls-ca-cert\n  \
             - let everybody in: --auth trust"
        ))),
    }
}

/// How the node talks to others.
pub(super) fn grpc_options(
    cluster: &ClusterArgs,
    member: &Member,
    ready: watch::Receiver<bool>,
) -> Result<GrpcOptions, CliError> {
    let args = &cluster.security;
    let secret = match (&args.cluster_secret, &args.cluster_secret_file) {
        (Some(secret), _) => Some(secret.clone()),
        (None, Some(file)) => Some(from_password_file(file)?),
        (None, None) => None,
    };
    if secret.as_deref() == Some("") {
        return Err(CliError::Usage("the cluster secret is empty".to_owned()));
    }
    Ok(GrpcOptions {
        secret: secret.as_deref().map(Secret::new),
        tls: peer_tls(args)?,
        compression: cluster.wire_compression,
        checkpoint_bytes_per_second: cluster
            .checkpoint_io_limit
            .and_then(|limit| NonZeroU64::new(limit.0)),
        ready,
        ..GrpcOptions::new(member.clone())
    })
}

fn peer_tls(args: &PeerSecurityArgs) -> Result<Option<Arc<PeerTls>>, CliError> {
    let Some(files) = peer_tls_files(args)? else {
        return Ok(None);
    };
    let tls = PeerTls::new(&files).map_err(|e| args.files().unusable(BETWEEN_NODES, &e))?;
    Ok(Some(Arc::new(tls)))
}

fn peer_tls_files(args: &PeerSecurityArgs) -> Result<Option<PeerTlsFiles>, CliError> {
    let Some(pem) = args.files().read()? else {
        return Ok(None);
    };
    Ok(pem.authorities.map(|authorities| PeerTlsFiles {
        certificates: pem.certificates,
        key: pem.key,
        authorities,
        callers: ClientCertificates::Required,
        domain: args.peer_tls_domain.clone(),
    }))
}

/// Reads the certificate files between nodes again when they have changed, and at SIGHUP. Ends
/// never.
pub(super) async fn watch_certificates(args: PeerSecurityArgs, tls: Arc<PeerTls>) {
    let files = args.files();
    let reload = || match peer_tls_files(&args)? {
        Some(loaded) => tls
            .reload(&loaded)
            .map_err(|e| files.unusable(BETWEEN_NODES, &e)),
        None => Ok(()),
    };
    files.watch(reload).await;
}
