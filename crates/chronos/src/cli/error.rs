//! What can end a command, and the exit code each ending has.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, or the reader of our output went away (`chronos … \| head`) |
//! | 1 | a statement, an import or a file failed |
//! | 2 | no connection to the node, or wrong arguments |
//! | 3 | a statement of a script (`-f`, stdin, `\i`) failed; the rest was not run |
//! | 130 | interrupted by Ctrl-C |

use std::io::{self, Write as _};

/// Writes a line to stderr. A person who is not there to read it is no reason to stop,
/// let alone to panic, as `eprintln!` would.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{}", line.trim_end_matches('\n'));
}

/// The reason a command stopped before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Arguments that parse but make no sense together.
    #[error("{0}")]
    Usage(String),
    /// No session with the node could be opened.
    #[error("cannot connect to {target}: {reason}{hint}")]
    Connect {
        /// Address as the user would write it, never with a password.
        target: String,
        /// What the operating system or the node answered.
        reason: String,
        /// A sentence that helps, starting with a line break, or nothing.
        hint: String,
    },
    /// The session was lost while it was in use.
    #[error("the connection to the node was lost: {0}")]
    Lost(String),
    /// A file named by the user could not be used.
    #[error("cannot {action} {name}: {source}")]
    File {
        /// `open`, `read`, `create`.
        action: &'static str,
        /// The name as given.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A failure described entirely by its sentence.
    #[error("{0}")]
    Failed(String),
    /// The message is already on stderr; only the code is left to report.
    #[error("stopped after an error")]
    Reported(u8),
    /// Writing a result failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The process exit code for this ending.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Connect { .. } | Self::Lost(_) => 2,
            Self::File { .. } | Self::Failed(_) => 1,
            Self::Reported(code) => *code,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 1,
        }
    }

    /// Whether the person at the terminal still has to be told.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Reported(_) => true,
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.exit_code(), 0);
        assert!(error.is_silent());
        let full = CliError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit_code(), 1);
        assert!(!full.is_silent());
    }
}
