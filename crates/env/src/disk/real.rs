//! The operating system's file system.
//!
//! Owns every call to `std::fs`. A thin layer: positioned reads and writes, the sync
//! calls as they are, and `fallocate` where the file system has it.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the one module that touches data files"
)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile, LockError, LockGuard};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: File,
}

fn boxed(file: File) -> Arc<dyn DiskFile> {
    Arc::new(RealFile { file })
}

impl Disk for RealDisk {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        File::open(path).map(boxed)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(boxed)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map(boxed)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map(boxed)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        fs::hard_link(existing, link)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let stats = rustix::fs::statvfs(path)?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    fn lock_exclusive(&self, path: &Path) -> Result<Box<dyn LockGuard>, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file
                    .take(32)
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held {
                    path: path.to_path_buf(),
                    pid,
                });
            }
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// The lock lives as long as the open file does.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl LockGuard for RealLock {}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{fallocate, FallocateFlags};
        use rustix::io::Errno;
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                if self.len()? < len {
                    self.set_len(len)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positioned_access_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        RealDisk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = RealDisk.create_new(&path).unwrap();
        assert_eq!(
            RealDisk.create_new(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        file.sync_data().unwrap();
        RealDisk.sync_dir(path.parent().unwrap()).unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"hello world");
        let mut four = [0; 4];
        file.read_exact_at(&mut four, 7).unwrap();
        assert_eq!(&four, b"orld");
        assert_eq!(
            file.read_exact_at(&mut four, 8).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        file.allocate(4096).unwrap();
        assert_eq!(RealDisk.file_len(&path).unwrap(), 4096);
        file.allocate(10).unwrap();
        assert_eq!(file.len().unwrap(), 4096);
        RealDisk.hard_link(&path, &dir.path().join("link")).unwrap();
        RealDisk
            .rename(&path, &dir.path().join("a/renamed"))
            .unwrap();
        assert_eq!(RealDisk.read_dir(dir.path()).unwrap(), ["a", "link"]);
        assert!(!RealDisk.exists(&path).unwrap());
        assert!(RealDisk.available_space(dir.path()).unwrap() > 0);
    }

    #[test]
    fn replace_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("current");
        RealDisk.replace(&path, b"one").unwrap();
        RealDisk.replace(&path, b"two").unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"two");
        assert_eq!(RealDisk.read_dir(dir.path()).unwrap(), ["current"]);
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let guard = RealDisk.lock_exclusive(&path).unwrap();
        match RealDisk.lock_exclusive(&path) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("expected Held, got {other:?}"),
        }
        drop(guard);
        drop(RealDisk.lock_exclusive(&path).unwrap());
    }
}
