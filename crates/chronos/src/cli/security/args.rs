//! What the command line accepts about passwords and certificates.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::CertificateFiles;

/// Of a node: who is let in, and how connections are encrypted.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct ServeSecurityArgs {
    /// Whether clients must say who they are: as soon as there is a user with a password or a
    /// token, and always where others than this machine can connect (auto), always (password),
    /// or never (trust)
    #[arg(
        long,
        value_enum,
        env = "CHRONOS_AUTH",
        default_value_t = Auth::Auto
    )]
    pub(crate) auth: Auth,

    /// The same as --auth trust: everybody who can connect may do everything
    #[arg(long, conflicts_with = "auth")]
    pub(crate) insecure: bool,

    /// Name of the admin that --admin-password-file or CHRONOS_ADMIN_PASSWORD makes
    #[arg(
        long,
        value_name = "NAME",
        env = "CHRONOS_ADMIN_USER",
        default_value = "chronos"
    )]
    pub(crate) admin_user: String,

    /// Make this admin at the start if there is no such user yet; the file's first line is the
    /// password
    #[arg(long, value_name = "FILE", env = "CHRONOS_ADMIN_PASSWORD_FILE")]
    pub(crate) admin_password_file: Option<PathBuf>,

    /// Certificate chain as PEM; PostgreSQL and HTTP then speak TLS, too
    #[arg(
        long,
        value_name = "FILE",
        env = "CHRONOS_TLS_CERT",
        requires = "tls_key"
    )]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate as PEM, without passphrase
    #[arg(
        long,
        value_name = "FILE",
        env = "CHRONOS_TLS_KEY",
        requires = "tls_cert"
    )]
    pub(crate) tls_key: Option<PathBuf>,

    /// Authorities of clients' certificates as PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "CHRONOS_TLS_CA_CERT",
        requires = "tls_cert"
    )]
    pub(crate) tls_ca_cert: Option<PathBuf>,

    /// Whether every client must show a certificate; it logs in all the same
    #[arg(
        long,
        value_enum,
        default_value_t = ClientCert::Optional,
        requires = "tls_ca_cert"
    )]
    pub(crate) tls_client_cert: ClientCert,

    /// A name that the certificate must be good for; checked when it is loaded
    #[arg(long, value_name = "NAME", env = "CHRONOS_TLS_DOMAIN")]
    pub(crate) tls_domain: Option<String>,

    /// Who must use TLS: nobody (allow), whoever comes from another machine (require-remote),
    /// everybody (require)
    #[arg(
        long,
        value_enum,
        default_value_t = Tls::Allow,
        requires = "tls_cert"
    )]
    pub(crate) tls: Tls,
}

impl ServeSecurityArgs {
    /// The files of TLS with clients.
    pub(crate) fn files(&self) -> CertificateFiles {
        CertificateFiles {
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            authorities: self.tls_ca_cert.clone(),
        }
    }
}

/// Whether clients must say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// As soon as somebody could
    Auto,
    /// Always
    Password,
    /// Never
    Trust,
}

/// Whether clients must show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientCert {
    /// Those that are shown must be good
    Optional,
    /// Each client must show one
    Required,
}

/// Who must use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    /// Whoever wants to
    Allow,
    /// Whoever comes from another machine
    RequireRemote,
    /// Everybody
    Require,
}

/// Of a client: who it is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LoginArgs {
    /// User to log in as [default: that of the URL, PGUSER, or the system's]
    #[arg(short = 'U', long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// File whose first line is the password [default: that of the URL, PGPASSWORD, ~/.pgpass, or
    /// asked for at a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// Of a client over HTTP: who it is, and whom it takes for the node.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct HttpLoginArgs {
    #[command(flatten)]
    pub(crate) login: LoginArgs,

    /// Authorities of the node's certificate as PEM, where the URL is https
    /// [default: ~/.postgresql/root.crt]
    #[arg(long, value_name = "FILE", env = "PGSSLROOTCERT")]
    pub(crate) tls_ca_cert: Option<PathBuf>,

    /// Certificate chain as PEM, for a node that asks its clients for one
    #[arg(long, value_name = "FILE", env = "PGSSLCERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of that certificate as PEM, without passphrase
    #[arg(long, value_name = "FILE", env = "PGSSLKEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The name that the node's certificate must be good for [default: the host of the URL]
    #[arg(long, value_name = "NAME", env = "CHRONOS_TLS_DOMAIN")]
    pub(crate) tls_domain: Option<String>,
}
