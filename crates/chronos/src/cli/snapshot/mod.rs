//! `chronos snapshot`: archives of a node, written, restored and verified.
//!
//! ```text
//!   create   a node (POST /admin/snapshot), or a directory ─► FILE.part ─► FILE
//!   restore  FILE, its bases ─► DIR.restoring ─► DIR
//!   verify   FILE, its bases ─► FILE.verify, read and removed ─► a report
//! ```
//!
//! Code says *archive*, people say *snapshot* (GLOSSARY.md).

mod archives;
mod args;
mod create;
mod restore;
mod verify;

use std::path::Path;

use chronos_node::ArchiveError;

pub(crate) use args::{SnapshotCreateArgs, SnapshotRestoreArgs, SnapshotVerifyArgs};
pub(super) use create::create;
pub(super) use restore::restore;
pub(super) use verify::verify;

use super::error::CliError;

/// What is wrong with an archive, in a sentence with its name.
fn failed(file: &Path, error: &ArchiveError) -> CliError {
    let text = with_causes(error);
    match error {
        ArchiveError::Store(_) | ArchiveError::Chain { .. } => CliError::Failed(text),
        ArchiveError::BaseMissing { .. } => CliError::Failed(format!(
            "{}: {text}\nName the file, or put it into the same directory.",
            file.display()
        )),
        _ => CliError::Failed(format!("{}: {text}", file.display())),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
