//! Processes on simulated machines: a process can be killed at any moment, and its disk handles with it, while the
//! machine and what was written to its disk stay.
//!
//! The tasks of a killed process may go on for a while, since they share a thread with everything else. They can do no
//! harm: every operation on their disk fails, and no message leaves or reaches them.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use chronos_env::{Disk, DiskFile, LockError, LockGuard, SimDisk};
use chronos_node::cluster::NodeNumber;
use tokio_util::sync::CancellationToken;

/// A process, while it runs and after.
#[derive(Clone)]
pub(super) struct Process {
    /// The node that it runs.
    pub(super) number: NodeNumber,
    /// How many processes of this node there were before.
    pub(super) generation: u32,
    killed: CancellationToken,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}#{}", self.number, self.generation)
    }
}

impl Process {
    /// A process that starts.
    pub(super) fn start(number: NodeNumber, generation: u32) -> Process {
        Process {
            number,
            generation,
            killed: CancellationToken::new(),
        }
    }

    /// Ends it, at once.
    pub(super) fn kill(&self) {
        self.killed.cancel();
    }

    /// Whether it was killed.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// Returns when it is killed.
    pub(super) async fn killed(&self) {
        self.killed.cancelled().await;
    }
}

/// Whether syncs do what they promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// They do.
    Honest,
    /// They say so.
    Skipped,
}

/// The disk of a machine as one process sees it.
#[derive(Clone, Debug)]
pub(super) struct ProcessDisk {
    disk: SimDisk,
    process: Process,
    syncs: Syncs,
}

impl ProcessDisk {
    /// A process's view of a disk.
    pub(super) fn new(disk: SimDisk, process: Process, syncs: Syncs) -> ProcessDisk {
        ProcessDisk {
            disk,
            process,
            syncs,
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.process.is_killed() {
            true => Err(io::Error::other("the process was killed")),
            false => Ok(()),
        }
    }

    fn opened(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(ProcessFile {
            file,
            disk: self.clone(),
        })
    }
}

impl Disk for ProcessDisk {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        self.disk.open_read(path).map(|file| self.opened(file))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        self.disk.open_write(path).map(|file| self.opened(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        self.disk.create(path).map(|file| self.opened(file))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        self.disk.create_new(path).map(|file| self.opened(file))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.rename(from, to)
    }

    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.hard_link(existing, link)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.check()?;
        self.disk.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.check()?;
        self.disk.exists(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.check()?;
        self.disk.file_len(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.sync_dir(path)
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.check()?;
        self.disk.available_space(path)
    }

    /// A process that was killed holds no lock, although its guard may still be there; so the lock is not the
    /// disk's. There is one process at a time.
    fn lock_exclusive(&self, path: &Path) -> Result<Box<dyn LockGuard>, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_path_buf(),
            source,
        };
        if !self.exists(path).map_err(failed)? {
            self.create_new(path).map_err(failed)?;
        }
        Ok(Box::new(ProcessLock))
    }
}

#[derive(Debug)]
struct ProcessLock;

impl LockGuard for ProcessLock {}

#[derive(Debug)]
struct ProcessFile {
    file: Arc<dyn DiskFile>,
    disk: ProcessDisk,
}

impl DiskFile for ProcessFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.check()?;
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.check()?;
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check()?;
        match self.disk.syncs {
            Syncs::Honest => self.file.sync_data(),
            Syncs::Skipped => Ok(()),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.check()?;
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.check()?;
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.check()?;
        self.file.allocate(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_wrote_stays_and_it_writes_no_more() {
        let machine = SimDisk::new(1);
        let path = Path::new("/file");
        let first = Process::start(NodeNumber(1), 0);
        let disk = ProcessDisk::new(machine.clone(), first.clone(), Syncs::Honest);
        let lock = disk.lock_exclusive(Path::new("/LOCK")).unwrap();
        let file = disk.create(path).unwrap();
        file.write_at(b"one", 0).unwrap();
        first.kill();
        assert!(file.write_at(b"two", 0).is_err());
        assert!(disk.read(path).is_err());
        let second = Process::start(NodeNumber(1), 1);
        let disk = ProcessDisk::new(machine, second, Syncs::Honest);
        assert_eq!(disk.read(path).unwrap(), b"one");
        disk.lock_exclusive(Path::new("/LOCK")).unwrap();
        drop(lock);
    }
}
