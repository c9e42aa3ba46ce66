//! The certificate files of a side that serves, clients or other nodes: read, watched, and named when
//! they cannot be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chronos_server::tls::TlsError;
use tokio::signal::unix::{signal, SignalKind};

use crate::cli::error::CliError;
use crate::cli::files;

/// How often the files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// Where the files are.
#[derive(Debug, Clone, Default)]
pub(crate) struct CertificateFiles {
    /// What is shown.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key.
    pub(crate) key: Option<PathBuf>,
    /// Who is believed.
    pub(crate) authorities: Option<PathBuf>,
}

/// What they hold.
pub(crate) struct Pem {
    pub(crate) certificates: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) authorities: Option<Vec<u8>>,
}

impl CertificateFiles {
    /// `None`: there is no certificate to be shown.
    pub(crate) fn read(&self) -> Result<Option<Pem>, CliError> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        let authorities = self.authorities.as_deref().map(files::read_all);
        Ok(Some(Pem {
            certificates: files::read_all(certificate)?,
            key: files::read_all(key)?,
            authorities: authorities.transpose()?,
        }))
    }

    /// The error with the name of the file that it is about. `what`: TLS with whom.
    pub(crate) fn unusable(&self, what: &str, error: &TlsError) -> CliError {
        let file = match error.what {
            "private key" => &self.key,
            "CA certificate" => &self.authorities,
            _ => &self.certificate,
        };
        let file = file.as_deref().unwrap_or(Path::new("-")).display();
        CliError::Usage(format!("cannot use {file} for {what}: {error}"))
    }

    /// Has the files read again when they have changed, and at SIGHUP; a state of them that cannot be
    /// used leaves the one before in force. Ends never.
    pub(crate) async fn watch(&self, reload: impl Fn() -> Result<(), CliError>) {
        let mut seen = self.states();
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("cannot watch for SIGHUP");
            return;
        };
        loop {
            let is_told = tokio::select! {
                signal = hangup.recv() => signal.is_some(),
                () = tokio::time::sleep(WATCH_EVERY) => false,
            };
            let now = self.states();
            if !is_told && now == seen {
                continue;
            }
            seen = now;
            match reload() {
                Ok(()) => tracing::info!("certificates were read again"),
                Err(error) => tracing::error!(%error, "certificates stay as they were"),
            }
        }
    }

    fn states(&self) -> impl PartialEq {
        [&self.certificate, &self.key, &self.authorities]
            .map(|file| file.as_deref().and_then(files::state_of))
    }
}
