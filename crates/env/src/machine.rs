//! Facts about the machine, from which a hardware profile is chosen.
//!
//! Owns reading `/proc` and the control group files of a container. Refuses to decide
//! anything: the profile is the node's choice.

#![allow(
    clippy::disallowed_methods,
    reason = "reads /proc and /sys of this machine and makes a scratch directory, never a data file"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// On the scale of `nice`: 0 is normal, 19 the last.
#[cfg(target_os = "linux")]
const BACKGROUND_PRIORITY: i32 = 10;

/// How many processors this process may keep busy: the scheduler's affinity mask and
/// control group quotas are respected. At least 1.
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How much memory this process may come to use: the machine's physical memory, or the
/// smallest control group limit above the process where that is less. `None` where the
/// operating system does not say.
pub fn available_memory_bytes() -> Option<u64> {
    let physical = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total_bytes(&text));
    let limit = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| smallest_limit(&limit_files(&text, Path::new("/sys/fs/cgroup"))));
    match (physical, limit) {
        (Some(physical), Some(limit)) => Some(physical.min(limit)),
        (known, None) | (None, known) => known,
    }
}

/// Lets the scheduler prefer other threads to this one, for good. Where it cannot, nothing
/// happens.
pub fn lower_priority_of_this_thread() {
    // On Linux the priority of "this process" is the calling thread's (setpriority(2)).
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, BACKGROUND_PRIORITY);
}

/// Bytes that this process may still put on the disk that holds `path`. `None` where the
/// operating system does not say.
pub fn free_disk_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Makes an empty directory of the real disk, for files that nobody misses after a crash:
/// whatever is there is removed.
pub fn fresh_directory(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::create_dir(path)
}

/// How much of the machine's memory this process holds now. `None` where the operating
/// system does not say.
pub fn resident_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kibibytes_line(&status, "VmRSS:")
}

/// The `MemTotal` line of `/proc/meminfo`, whose "kB" are units of 1,024 bytes.
fn memory_total_bytes(meminfo: &str) -> Option<u64> {
    kibibytes_line(meminfo, "MemTotal:")
}

/// The bytes that a line `name 123 kB` tells.
fn kibibytes_line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that may hold a limit for the process described by `/proc/self/cgroup`:
/// its own group's and every group's above. A container often sees its group as the
/// root, so the root is always among them.
fn limit_files(cgroup: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (base, name) = if id == "0" && controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|it| it == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let own = base.join(group.trim_start_matches('/'));
        files.extend(
            own.ancestors()
                .take_while(|dir| dir.starts_with(&base))
                .map(|dir| dir.join(name)),
        );
    }
    files
}

/// The smallest number in `files`. Missing files and the word `max` mean no limit; an
/// unlimited version 1 group holds a number near 2^63, which the minimum discards.
fn smallest_limit(files: &[PathBuf]) -> Option<u64> {
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_total_is_read_in_kibibytes() {
        let text = "MemTotal:       24563460 kB\nMemFree:        100 kB\n";
        assert_eq!(memory_total_bytes(text), Some(24_563_460 * 1024));
        assert_eq!(memory_total_bytes("MemFree: 1 kB"), None);
        assert_eq!(memory_total_bytes("MemTotal: many kB"), None);
    }

    #[test]
    fn the_smallest_limit_above_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("system/chronos");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("system/memory.max"), "536870912\n").unwrap();
        let files = limit_files("0::/system/chronos\n", root.path());
        assert_eq!(files.len(), 3);
        assert_eq!(smallest_limit(&files), Some(512 << 20));
    }

    #[test]
    fn a_fresh_directory_is_empty_whatever_was_there() {
        let root = tempfile::tempdir().unwrap();
        let scratch = root.path().join("scratch");
        fresh_directory(&scratch).unwrap();
        fs::create_dir(scratch.join("left")).unwrap();
        fs::write(scratch.join("left/over"), "by a crash").unwrap();
        fresh_directory(&scratch).unwrap();
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        assert!(fresh_directory(&root.path().join("no/such")).is_err());
        assert!(free_disk_bytes(&scratch).unwrap() > 0);
    }

    #[test]
    fn version_1_groups_are_found_by_controller() {
        let files = limit_files(
            "5:cpu,cpuacct:/a\n4:memory:/docker/x\n",
            Path::new("/sys/fs/cgroup"),
        );
        assert_eq!(
            files[0],
            Path::new("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes")
        );
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn this_machine_has_a_processor_and_some_memory() {
        assert!(cpu_count() >= 1);
        if cfg!(target_os = "linux") {
            assert!(available_memory_bytes().unwrap() > 16 << 20);
            assert!(resident_memory_bytes().unwrap() > 64 << 10);
        }
    }
}
