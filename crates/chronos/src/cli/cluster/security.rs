//! Who may talk to this node as another node.

use std::sync::Arc;

use chronos_node::cluster::Member;
use chronos_server::grpc::{GrpcOptions, PeerTls, PeerTlsFiles, Secret};
use chronos_server::tls::ClientCertificates;

use crate::cli::args::{HostPort, NodeArgs, PeerSecurityArgs};
use crate::cli::error::{tell, CliError};
use crate::cli::files;
use crate::cli::security::{from_password_file, is_local, trusts_everybody};

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
    args: &PeerSecurityArgs,
    member: &Member,
) -> Result<GrpcOptions, CliError> {
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
        ..GrpcOptions::new(member.clone())
    })
}

fn peer_tls(args: &PeerSecurityArgs) -> Result<Option<Arc<PeerTls>>, CliError> {
    let (Some(certificates), Some(key), Some(authorities)) = (
        &args.peer_tls_cert,
        &args.peer_tls_key,
        &args.peer_tls_ca_cert,
    ) else {
        return Ok(None);
    };
    let files = PeerTlsFiles {
        certificates: files::read_all(certificates)?,
        key: files::read_all(key)?,
        authorities: files::read_all(authorities)?,
        callers: ClientCertificates::Required,
        domain: args.peer_tls_domain.clone(),
    };
    let tls = PeerTls::new(&files).map_err(|e| {
        let file = match e.what {
            "private key" => key,
            "CA certificate" => authorities,
            _ => certificates,
        };
        CliError::Usage(format!(
            "cannot use {} for TLS between nodes: {e}",
            file.display()
        ))
    })?;
    Ok(Some(Arc::new(tls)))
}
