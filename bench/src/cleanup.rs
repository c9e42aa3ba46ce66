//! What has to be undone: processes to stop and directories to remove.
//!
//! Everything that outlives a phase is registered here by pid or path. It is undone when its
//! owner is dropped (a panic unwinds through the owners), or by the signal handler when the
//! run is interrupted. Only SIGKILL of the benchmark itself leaves something behind.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, waitpid, Pid, Signal, WaitOptions};

use crate::error::Result;

/// How long a process may take to follow a signal before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is still to be undone, oldest first.
static PENDING: Mutex<Vec<Pending>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq)]
enum Pending {
    Process { pid: Pid, signal: Signal },
    Directory(PathBuf),
}

fn pending() -> std::sync::MutexGuard<'static, Vec<Pending>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On SIGINT, SIGTERM or SIGHUP: undo everything, newest first, and exit with 130.
pub(crate) fn on_signal() -> Result<()> {
    ctrlc::set_handler(|| {
        eprintln!("\nbench: interrupted, stopping what was started");
        let all: Vec<Pending> = pending().drain(..).collect();
        for item in all.into_iter().rev() {
            match item {
                Pending::Process { pid, signal } => end(pid, signal),
                Pending::Directory(path) => remove(&path),
            }
        }
        std::process::exit(130);
    })
    .map_err(|error| format!("cannot handle signals: {error}").into())
}

/// Registers a process to be ended with `signal`.
pub(crate) fn register_process(pid: Pid, signal: Signal) {
    pending().push(Pending::Process { pid, signal });
}

/// The process has been waited for: its pid means nothing any more.
pub(crate) fn forget_process(pid: Pid) {
    pending().retain(|item| !matches!(item, Pending::Process { pid: known, .. } if *known == pid));
}

/// Ends a child of ours and reaps it.
fn end(pid: Pid, signal: Signal) {
    if kill_process(pid, signal).is_err() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Failing means that it is gone, which is what is wanted.
    let _ = kill_process(pid, Signal::KILL);
}

/// Removes a directory of ours. A failure is told, not returned: there is no one to act on it.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        if error.kind() != std::io::ErrorKind::NotFound {
            eprintln!("bench: cannot remove {}: {error}", path.display());
        }
    }
}

/// The directory in which all data of a run is kept; removed with its owner.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory below `dir`, or below `$TMPDIR`, or below `/var/tmp`, which unlike
    /// `/tmp` is hardly ever a file system in memory.
    pub(crate) fn new(dir: Option<&Path>) -> Result<Scratch> {
        let parent = match (dir, std::env::var_os("TMPDIR")) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(dir)) => dir.into(),
            (None, None) => "/var/tmp".into(),
        };
        let path = parent.join(format!("chronos-bench-{}", std::process::id()));
        std::fs::create_dir(&path)
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        // PostgreSQL may run as another user and has to reach its own directory in here.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode)?;
        pending().push(Pending::Directory(path.clone()));
        Ok(Scratch(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
        pending().retain(|item| *item != Pending::Directory(self.0.clone()));
    }
}
