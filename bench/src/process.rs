//! A server process that was started here, and what the system says about one.

use std::ffi::OsStr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};

use crate::cleanup;
use crate::error::Result;

/// How long a server may take to stop in good order, flushing what it holds.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A child process, ended with its owner.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: Pid,
    signal: Signal,
    name: String,
}

impl Server {
    /// Starts `command` in a process group of its own, so that a Ctrl-C in the terminal
    /// reaches only the benchmark, which then ends it with `signal`.
    pub(crate) fn start(command: &mut Command, signal: Signal) -> Result<Server> {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or(OsStr::new("?"));
        let name = name.to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let pid = Pid::from_child(&child);
        cleanup::register_process(pid, signal);
        Ok(Server {
            child,
            pid,
            signal,
            name,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub(crate) fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(match status.signal() {
                Some(signal) => format!("{} was ended by signal {signal}", self.name),
                None => format!("{} exited with {}", self.name, status.code().unwrap_or(-1)),
            }),
            _ => None,
        }
    }

    /// Stops it in good order, else kills it, which is an error.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.ended().is_none() {
            // It may end by itself meanwhile; the wait below finds out.
            let _ = kill_process(self.pid, self.signal);
            let deadline = Instant::now() + STOP_WITHIN;
            while self.ended().is_none() {
                if Instant::now() >= deadline {
                    self.child.kill()?;
                    self.child.wait()?;
                    cleanup::forget_process(self.pid);
                    return Err(format!(
                        "{} did not stop within {STOP_WITHIN:?} and was killed",
                        self.name
                    )
                    .into());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        cleanup::forget_process(self.pid);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("bench: {error}");
        }
    }
}

/// Resident memory of one process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Resident memory of a process and its children, in bytes; pages they share count once.
pub(crate) fn proportional_bytes(pid: u32) -> Option<u64> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children = children
        .split_whitespace()
        .filter_map(|text| text.parse::<u32>().ok());
    let all = std::iter::once(pid).chain(children);
    // A child that ended meanwhile holds nothing.
    Some(
        all.filter_map(|pid| field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
            .sum(),
    )
}

/// A field of one of the kernel's tables of `name: number kB`, in bytes.
pub(crate) fn field_kib(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let number: u64 = line[name.len()..].split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

/// Processor time a process has used so far.
pub(crate) fn processor_time(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields 14 and 15 are counted from behind it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(
        (user + system) as f64 / ticks as f64,
    ))
}

/// Waits until a process uses less than a twentieth of a core, at most `limit` long.
/// Returns how long that took.
pub(crate) fn wait_until_quiet(pid: u32, limit: Duration) -> Duration {
    const WINDOW: Duration = Duration::from_millis(500);
    let start = Instant::now();
    while start.elapsed() < limit {
        let before = processor_time(pid);
        std::thread::sleep(WINDOW);
        match (before, processor_time(pid)) {
            (Some(before), Some(after)) if after.saturating_sub(before) < WINDOW / 20 => break,
            (Some(_), Some(_)) => {}
            _ => break,
        }
    }
    start.elapsed()
}

/// Bytes the file system has given to everything below a directory. Blocks count, not
/// lengths: a preallocated file costs what it takes, a sparse one only what was written.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // Removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}
