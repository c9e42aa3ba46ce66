//! Checking everything that a node stores: every record of the log, decoded; the manifest;
//! every page of every segment, decoded; and that log and store fit together.
//!
//! ```text
//!   check_dir(data directory)     nobody has it open: takes its lock, changes nothing
//!   Node::check                   a node at work: its log and store as they are now
//!          \__ CheckEvent: progress, findings __ CheckSummary
//! ```

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use chronos_env::{Env, LockError};
use chronos_model::{Catalog, SqlState};
use chronos_store::log::{self, LogError, LogIndex, Verified};
use chronos_store::verify::{segment_bytes, verify_store, Checked, Finding};
use chronos_store::with_causes;
use serde::Serialize;

use crate::node::{keys_text, lock_error};
use crate::replica::check_payload;
use crate::{Error, Node};

/// What a check tells while it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckEvent {
    /// How far it is.
    Progress {
        /// Bytes that were read.
        bytes: u64,
        /// Bytes there are to read, about.
        bytes_total: u64,
    },
    /// Damage.
    Finding(CheckFinding),
}

/// Damage of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What was found.
    pub reason: String,
    /// The table whose data it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The keys concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// What is lost.
    pub lost: String,
}

/// What a check has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckSummary {
    /// Files of log, manifest and segments.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Entries of the log.
    pub entries: u64,
    /// How often damage was found.
    pub findings: u64,
}

/// Told of each event; a check that is told to break off does so soon.
pub type CheckReport<'a> = dyn FnMut(CheckEvent) -> ControlFlow<()> + Send + 'a;

/// Progress is told each time so many bytes were read.
const PROGRESS_BYTES: u64 = 4 << 20;

struct Check<'a> {
    report: &'a mut CheckReport<'a>,
    summary: CheckSummary,
    bytes_total: u64,
    bytes_told: u64,
    broken_off: bool,
}

impl<'a> Check<'a> {
    fn new(bytes_total: u64, report: &'a mut CheckReport<'a>) -> Check<'a> {
        Check {
            report,
            summary: CheckSummary::default(),
            bytes_total,
            bytes_told: 0,
            broken_off: false,
        }
    }

    fn tell(&mut self, event: CheckEvent) -> ControlFlow<()> {
        if !self.broken_off {
            self.broken_off = (self.report)(event).is_break();
        }
        match self.broken_off {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn read(&mut self, bytes: u64) -> ControlFlow<()> {
        self.summary.bytes += bytes;
        if self.summary.bytes - self.bytes_told < PROGRESS_BYTES {
            return ControlFlow::Continue(());
        }
        self.bytes_told = self.summary.bytes;
        self.tell(CheckEvent::Progress {
            bytes: self.summary.bytes,
            bytes_total: self.bytes_total.max(self.summary.bytes),
        })
    }

    fn found(&mut self, finding: CheckFinding) -> ControlFlow<()> {
        self.summary.findings += 1;
        self.tell(CheckEvent::Finding(finding))
    }

    fn in_log(&mut self, file: &Path, offset: u64, reason: String) -> ControlFlow<()> {
        self.found(CheckFinding {
            file: file.display().to_string(),
            offset,
            reason,
            table: None,
            keys: None,
            lost: "writes of the log from there on that no segment contains".into(),
        })
    }

    fn log_error(&mut self, dir: &Path, error: &LogError) -> ControlFlow<()> {
        match error {
            LogError::Damaged {
                path,
                offset,
                reason,
            } => self.in_log(path, *offset, reason.clone()),
            LogError::Io { path, .. } => self.in_log(path, 0, with_causes(error)),
            other => self.in_log(dir, 0, with_causes(other)),
        }
    }

    fn entry(&mut self, file: &Path, index: LogIndex, payload: &[u8]) -> ControlFlow<()> {
        self.summary.entries += 1;
        if let Err(error) = check_payload(&Bytes::copy_from_slice(payload)) {
            let reason = format!("entry {index} does not decode: {error}");
            self.in_log(file, 0, reason)?;
        }
        self.read(payload.len() as u64)
    }

    fn of_store(&mut self, checked: Checked, catalog: &Catalog) -> ControlFlow<()> {
        match checked {
            Checked::Bytes(bytes) => self.read(bytes),
            Checked::File => {
                self.summary.files += 1;
                ControlFlow::Continue(())
            }
            Checked::Finding(finding) => self.found(of_finding(finding, catalog)),
        }
    }
}

fn of_finding(finding: Finding, catalog: &Catalog) -> CheckFinding {
    let schema = finding.table.as_ref().and_then(|name| catalog.table(name));
    let schema = schema.map(|schema| &**schema);
    CheckFinding {
        file: finding.path.display().to_string(),
        offset: finding.offset,
        reason: finding.reason,
        keys: finding.keys.as_ref().map(|keys| keys_text(schema, keys)),
        table: finding.table,
        lost: finding.lost,
    }
}

/// Checks a data directory that no process has open, or a copy of one. Blocks, and changes
/// nothing.
///
/// Errors: there is no database in it; a process has it open (55006); it cannot be read.
/// Damage is no error but a finding.
pub fn check_dir<'a>(
    env: &Env,
    data_dir: &Path,
    report: &'a mut CheckReport<'a>,
) -> Result<CheckSummary, Error> {
    let disk = &*env.disk;
    let (store, log) = (data_dir.join("store"), data_dir.join("log"));
    let unreadable = |e: std::io::Error| {
        let message = format!("cannot read {}: {e}", data_dir.display());
        Error::new(SqlState::IO_ERROR, message)
    };
    if !disk.exists(&store).map_err(unreadable)? {
        let message = format!("there is no database in {}", data_dir.display());
        return Err(Error::new(SqlState::UNDEFINED_OBJECT, message)
            .with_hint("Name a data directory, or a copy of one, by --data-dir."));
    }
    let lock_path = data_dir.join("LOCK");
    let had_lock = disk.exists(&lock_path).map_err(unreadable)?;
    let lock = match disk.lock_exclusive(&lock_path) {
        Ok(lock) => Some(lock),
        // Nobody writes where nothing can be written.
        Err(LockError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
        {
            None
        }
        Err(e) => return Err(lock_error(data_dir, &e)),
    };
    let log_names = disk.read_dir(&log).unwrap_or_default();
    let log_bytes = |name: &String| disk.file_len(&log.join(name)).unwrap_or(0);
    let total = segment_bytes(env, &store) + log_names.iter().map(log_bytes).sum::<u64>();
    let mut check = Check::new(total, report);
    check_closed(env, &store, &log, &mut check);
    let summary = check.summary;
    drop(lock);
    if !had_lock {
        let _ = disk.remove_file(&lock_path);
    }
    Ok(summary)
}

fn check_closed(env: &Env, store: &Path, log: &Path, check: &mut Check<'_>) {
    // The tables first, so that keys can be shown as values.
    let catalog = chronos_store::verify::catalog(env, store);
    let report = &mut |checked| check.of_store(checked, &catalog);
    let stored = verify_store(env, store, report);
    let mut damaged = Vec::new();
    let verified = log::verify(
        &*env.disk,
        log,
        |file, index, payload| {
            let _ = check.entry(file, index, payload);
        },
        |error| damaged.push(error),
    );
    let is_whole = damaged.is_empty();
    for error in &damaged {
        let _ = check.log_error(log, error);
    }
    match verified {
        Ok(verified) => {
            check.summary.files += verified.files;
            if let (Some(flushed), true) = (stored.flushed_index, is_whole) {
                let _ = check_seam(check, log, flushed, &verified);
            }
        }
        Err(error) => {
            let _ = check.log_error(log, &error);
        }
    }
}

/// The log must go on where the store ends.
fn check_seam(
    check: &mut Check<'_>,
    log: &Path,
    flushed: LogIndex,
    verified: &Verified,
) -> ControlFlow<()> {
    let reason = match verified.bounds {
        Some((first, _)) if first > flushed.next() => format!(
            "the log begins at entry {first}, but the store contains entries up to {flushed} only"
        ),
        None if flushed > LogIndex(0) && verified.files == 0 => {
            format!("the log has no file, although the store contains its entries up to {flushed}")
        }
        _ => return ControlFlow::Continue(()),
    };
    check.in_log(log, 0, reason)
}

impl Node {
    /// Checks the files of this node while it works. Blocks. What is found damaged is
    /// refused from then on as if a statement had met it.
    pub fn check<'a>(&self, report: &'a mut CheckReport<'a>) -> CheckSummary {
        let replica = &self.inner.replica;
        let total = replica.store.stats().segment_bytes + replica.log.stats().file_bytes;
        let mut check = Check::new(total, report);
        let log_dir = self.data_dir().join("log");
        check.summary.files += replica.log.stats().files;
        if let Some((first, _)) = replica.log.bounds() {
            match replica.log.read(first) {
                Ok(entries) => {
                    for entry in entries {
                        let told = match &entry {
                            Ok(entry) => check.entry(&log_dir, entry.index, &entry.payload),
                            Err(error) => check.log_error(&log_dir, error),
                        };
                        if told.is_break() {
                            return check.summary;
                        }
                    }
                }
                // Cut meanwhile: what is left is newer, and was verified when it was written.
                Err(LogError::BelowStart { .. }) => {}
                Err(error) => {
                    let _ = check.log_error(&log_dir, &error);
                }
            }
        }
        let catalog = replica.store.catalog();
        let store = &replica.store;
        store.verify(&mut |checked| check.of_store(checked, &catalog));
        check.summary
    }
}
