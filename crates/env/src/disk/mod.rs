//! Files and directories, behind one object-safe trait.
//!
//! Owns the vocabulary of durability: what is written is durable only after
//! [`DiskFile::sync_data`] or [`DiskFile::sync_all`]; a name that was created, renamed
//! or removed is durable only after [`Disk::sync_dir`] of its directory. [`RealDisk`]
//! is the operating system; [`SimDisk`] holds everything in memory and takes the
//! liberties that a real disk may take when the power goes.
//!
//! All access is positioned (`pread`, `pwrite`): a file has no cursor, and many threads
//! may share it.

mod real;
mod sim;

use std::fmt::{self, Debug, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

pub use real::RealDisk;
pub use sim::SimDisk;

/// A file system.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens an existing file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file for reading and writing, or empties the one that exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file for reading and writing; `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a directory and those above it that are missing.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or directory a new name, atomically replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives an existing file a second name.
    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted, without `.` and `..`. A name that is not UTF-8
    /// is shown with replacement characters (no file of ours has one).
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether a file or directory of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// A file's length in bytes.
    fn file_len(&self, path: &Path) -> io::Result<u64>;

    /// Makes the creations, renames and removals of names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes that can still be written to the file system that holds `path`.
    fn available_space(&self, path: &Path) -> io::Result<u64>;

    /// Takes the advisory lock of the file `path`, creating it if needed, until the
    /// guard is dropped or the process ends. The file holds the owner's process id, so
    /// that the one who is refused can name the owner.
    fn lock_exclusive(&self, path: &Path) -> Result<Box<dyn LockGuard>, LockError>;

    /// A file's whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open_read(path)?;
        let len = usize::try_from(file.len()?)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "larger than memory"))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a small file so that after a power cut either the old or the new content
    /// is there: temporary file `<path>.tmp`, sync, rename, sync of the directory.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.create(&temporary)?;
        file.write_at(bytes, 0)?;
        file.sync_all()?;
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => self.sync_dir(dir),
            _ => self.sync_dir(Path::new(".")),
        }
    }
}

/// An open file. Stays usable after its name is removed.
#[allow(
    clippy::len_without_is_empty,
    reason = "the length is asked of the operating system and may fail"
)]
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads some bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, growing the file if needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes content and length durable, not necessarily times and rights.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and everything the file system knows about the file durable.
    fn sync_all(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space up to `len` bytes and extends a shorter file to it with zeros.
    /// Where the file system cannot reserve, the file is only extended. Never shortens.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buf = &mut buf[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a failed read means that the medium has lost what was written to it, as a bad
/// sector or a damaged file system does, and not that something is wrong with how the
/// file was asked for.
pub fn is_medium_error(error: &io::Error) -> bool {
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| lost.contains(&code))
}

/// Holds the lock of a data directory; dropping it releases the lock.
pub trait LockGuard: Debug + Send + Sync {}

/// Why a lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Another process (or another part of this one) holds it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder, as it wrote itself into the lock file.
        pid: Option<u32>,
    },
    /// The lock file could not be opened or locked.
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held {
                path,
                pid: Some(pid),
            } => {
                write!(f, "{} is locked by process {pid}", path.display())
            }
            Self::Held { path, pid: None } => {
                write!(f, "{} is locked by another process", path.display())
            }
            Self::Io { path, .. } => write!(f, "cannot lock {}", path.display()),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

/// Reads a file from front to back. Buffers nothing: wrap it in a `BufReader`.
#[derive(Clone, Debug)]
pub struct SequentialReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl SequentialReader {
    /// A reader that starts at `offset`.
    pub fn new(file: Arc<dyn DiskFile>, offset: u64) -> Self {
        Self { file, offset }
    }

    /// Where the next read starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl io::Read for SequentialReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
