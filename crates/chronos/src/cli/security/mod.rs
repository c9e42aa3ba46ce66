//! Passwords, tokens and certificates between the command line and the servers.
//!
//! Reads what flags and environment name, refuses to start what would let everybody in, makes the
//! first admin, and looks after certificate files while the node runs ([`certificates`]). As a client:
//! who it is ([`login`]), and whom it takes for a node ([`client_tls`]).

mod args;
mod certificates;
mod client_tls;
mod login;

use std::net::IpAddr;
use std::sync::Arc;

use chronos_model::Secret;
use chronos_node::{AuthMode, AuthOptions, Node};
use chronos_server::tls::{ClientCertificates, TlsFiles, TlsPolicy, TlsServer};

use super::args::{HostPort, Listeners, StartArgs};
use super::error::{tell, CliError};
use super::start::node_error;
pub(crate) use args::{HttpLoginArgs, LoginArgs, ServeSecurityArgs};
pub(crate) use certificates::CertificateFiles;
pub(crate) use client_tls::{client_config, habitual_authorities, server_name, Trust};
pub(crate) use login::{authorization, basic, from_password_file, from_pgpass, prompt};

/// Shorter tokens could be found by trying.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// How a node with these arguments finds out who somebody is.
pub(super) fn auth_options(args: &StartArgs, listen: &Listeners) -> Result<AuthOptions, CliError> {
    let mode = match args.security.auth {
        _ if args.security.insecure => AuthMode::Trust,
        args::Auth::Trust => AuthMode::Trust,
        args::Auth::Password => AuthMode::Required,
        args::Auth::Auto if listens_elsewhere(listen) => AuthMode::Required,
        args::Auth::Auto => AuthMode::ByUsers,
    };
    Ok(AuthOptions {
        mode,
        token_admin: token("CHRONOS_AUTH_TOKEN_ADMIN")?,
        token_read_only: token("CHRONOS_AUTH_TOKEN_READONLY")?,
    })
}

fn token(variable: &str) -> Result<Option<Secret>, CliError> {
    match std::env::var(variable) {
        Ok(token) if token.is_empty() => Ok(None),
        Ok(token) if token.chars().count() < TOKEN_CHARACTERS_MIN => {
            Err(CliError::Usage(format!(
                "{variable} has fewer than {TOKEN_CHARACTERS_MIN} characters; make one with: openssl rand -hex 32"
            )))
        }
        Ok(token) => Ok(Some(Secret::new(token))),
        Err(_) => Ok(None),
    }
}

/// Whether others than this machine can connect.
fn listens_elsewhere(listen: &Listeners) -> bool {
    !(is_local(&listen.pg) && is_local(&listen.http))
}

/// Whether nobody is asked who he is.
pub(super) fn trusts_everybody(args: &ServeSecurityArgs) -> bool {
    args.insecure || matches!(args.auth, args::Auth::Trust)
}

/// Whether only this machine can connect to an address.
pub(super) fn is_local(address: &HostPort) -> bool {
    match address.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => address.host.eq_ignore_ascii_case("localhost"),
    }
}

/// Makes the first admin if the arguments give its password, and refuses to go on if nobody
/// could log in where somebody must.
pub(super) async fn prepare_users(
    args: &StartArgs,
    listen: &Listeners,
    node: &Node,
) -> Result<(), CliError> {
    ensure_admin(args, node).await?;
    if must_log_in(args, listen)? && !node.can_log_in() {
        return Err(CliError::Usage(NOBODY.to_owned()));
    }
    warn_of_openness(args, listen)
}

/// The same in a cluster that knows a leader. The users are the cluster's: that nobody can log in
/// yet is no reason to stop, as another node may make the admin.
pub(super) async fn prepare_users_of_cluster(
    args: &StartArgs,
    listen: &Listeners,
    node: &Node,
) -> Result<(), CliError> {
    ensure_admin(args, node).await?;
    if must_log_in(args, listen)? && !node.can_log_in() {
        tell(&format!("WARNING: {NOBODY}"));
    }
    Ok(())
}

/// The password of the first admin, if the arguments or the environment give one.
pub(super) fn admin_password(args: &StartArgs) -> Result<Option<String>, CliError> {
    let password = match &args.security.admin_password_file {
        Some(file) => Some(from_password_file(file)?),
        None => std::env::var("CHRONOS_ADMIN_PASSWORD").ok(),
    };
    Ok(password.filter(|p| !p.is_empty()))
}

async fn ensure_admin(args: &StartArgs, node: &Node) -> Result<(), CliError> {
    let Some(password) = admin_password(args)? else {
        return Ok(());
    };
    let name = &args.security.admin_user;
    let made = node.ensure_admin(name, &password).await;
    match made.map_err(|e| node_error(&e))? {
        true => tracing::info!(name, "the admin was made"),
        false => tracing::info!(
            name,
            "there is such a user already; its password is left as it is"
        ),
    }
    Ok(())
}

fn must_log_in(args: &StartArgs, listen: &Listeners) -> Result<bool, CliError> {
    Ok(auth_options(args, listen)?.mode == AuthMode::Required)
}

/// Says what others on the network can do or see.
pub(super) fn warn_of_openness(args: &StartArgs, listen: &Listeners) -> Result<(), CliError> {
    let given = &args.security;
    let mode = auth_options(args, listen)?.mode;
    if mode == AuthMode::Trust && listens_elsewhere(listen) {
        tell("WARNING: everybody who can reach this machine may read, change and erase everything (--auth trust)");
    }
    let is_clear = given.tls_cert.is_none() || given.tls == args::Tls::Allow;
    if mode == AuthMode::Required && listens_elsewhere(listen) && is_clear {
        tell("WARNING: others on the network can read what is sent without TLS, passwords of HTTP requests too; give --tls-cert, --tls-key and --tls require");
    }
    Ok(())
}

const NOBODY: &str =
    "clients must log in here, but there is neither a user with a password nor a token\n\
Do one of these:\n  \
- make the first admin: chronos start --admin-password-file FILE .. (or CHRONOS_ADMIN_PASSWORD)\n  \
- the same at the prompt of the stopped node: chronos single-node --data-dir DIR -c \
\"CREATE USER ada PASSWORD '..' IN ROLE chronos_admin\"\n  \
- set CHRONOS_AUTH_TOKEN_ADMIN to a long random text, for HTTP\n  \
- listen on loopback only (--pg-address 127.0.0.1:5433, --address 127.0.0.1:8000)\n  \
- let everybody in: --auth trust";

/// TLS as the arguments ask for it; `None`: not at all.
pub(super) fn tls_server(args: &ServeSecurityArgs) -> Result<Option<Arc<TlsServer>>, CliError> {
    let Some(files) = tls_files(args)? else {
        return Ok(None);
    };
    let policy = match args.tls {
        args::Tls::Allow => TlsPolicy::Allow,
        args::Tls::RequireRemote => TlsPolicy::RequireRemote,
        args::Tls::Require => TlsPolicy::Require,
    };
    let server = TlsServer::new(&files, policy).map_err(|e| args.files().unusable("TLS", &e))?;
    Ok(Some(Arc::new(server)))
}

fn tls_files(args: &ServeSecurityArgs) -> Result<Option<TlsFiles>, CliError> {
    let Some(pem) = args.files().read()? else {
        return Ok(None);
    };
    let demand = match args.tls_client_cert {
        args::ClientCert::Optional => ClientCertificates::Optional,
        args::ClientCert::Required => ClientCertificates::Required,
    };
    Ok(Some(TlsFiles {
        certificates: pem.certificates,
        key: pem.key,
        client_authorities: pem.authorities.map(|pem| (pem, demand)),
        domain: args.tls_domain.clone(),
    }))
}

/// Reads the certificate files again when they have changed, and at SIGHUP. Ends never.
pub(super) async fn watch_certificates(args: ServeSecurityArgs, server: Arc<TlsServer>) {
    let files = args.files();
    let reload = || match tls_files(&args)? {
        Some(loaded) => server
            .reload(&loaded)
            .map_err(|e| files.unusable("TLS", &e)),
        None => Ok(()),
    };
    files.watch(reload).await;
}
