//! The files a person names on the command line or at the prompt.
//!
//! The database's own files go through `chronos_env::Disk`, which the simulator can
//! replace. Scripts, CSV files, result files and the history of the prompt belong to
//! the person at the terminal, not to the database, so they are opened here, with
//! `std::fs`, and nowhere else in the command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::error::CliError;

/// Bytes read from, and written to, a file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// An input the user named, with its size in bytes when that is known beforehand.
pub(crate) struct Input {
    /// The raw bytes, unbuffered.
    pub(crate) reader: Box<dyn Read + Send>,
    /// `None` for stdin and for what is not a regular file.
    pub(crate) size_bytes: Option<u64>,
}

/// Opens `name` for reading; `-` is stdin.
#[allow(
    clippy::disallowed_methods,
    reason = "a file the user named, not one of the database's"
)]
pub(crate) fn open(name: &str) -> Result<Input, CliError> {
    if name == "-" {
        return Ok(Input {
            reader: Box::new(io::stdin()),
            size_bytes: None,
        });
    }
    let fail = |source| CliError::File {
        action: "open",
        name: name.to_owned(),
        source,
    };
    let file = File::open(name).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Ok(Input {
        reader: Box::new(file),
        size_bytes: metadata.is_file().then_some(metadata.len()),
    })
}

/// The whole of a small file: a password, a certificate.
#[allow(
    clippy::disallowed_methods,
    reason = "a file the user named, not one of the database's"
)]
pub(crate) fn read_all(name: &Path) -> Result<Vec<u8>, CliError> {
    /// No such file is larger.
    const BYTES_MAX: u64 = 1 << 20;
    let fail = |source| CliError::File {
        action: "read",
        name: name.display().to_string(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(name).map_err(fail)?;
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// What becomes other when a file is replaced or written; `None`: it is not there.
pub(crate) fn state_of(name: &Path) -> Option<(u64, u64, std::time::SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(name).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
}

/// Whether only its owner can read a file; `None`: it is not there.
pub(crate) fn is_private(name: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(name).ok()?;
    Some(metadata.mode() & 0o077 == 0)
}

/// The terminal of whoever started the program, for questions.
#[allow(
    clippy::disallowed_types,
    reason = "the terminal, not a file of the database"
)]
pub(crate) fn terminal() -> Option<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open("/dev/tty").ok()
}

/// Opens a script for reading line by line; `-` is stdin.
pub(crate) fn open_script(name: &str) -> Result<BufReader<Box<dyn Read + Send>>, CliError> {
    Ok(BufReader::with_capacity(BUFFER_BYTES, open(name)?.reader))
}

/// Creates `name`, replacing what it held.
#[allow(
    clippy::disallowed_methods,
    reason = "a file the user named, not one of the database's"
)]
pub(crate) fn create(name: &str) -> Result<Box<dyn Write + Send>, CliError> {
    let file = File::create(name).map_err(|source| CliError::File {
        action: "create",
        name: name.to_owned(),
        source,
    })?;
    Ok(Box::new(BufWriter::with_capacity(BUFFER_BYTES, file)))
}

/// Opens an archive for reading.
#[allow(
    clippy::disallowed_methods,
    reason = "a file the user named, not one of the database's"
)]
pub(crate) fn open_archive(name: &Path) -> io::Result<BufReader<File>> {
    let file = File::open(name)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// The files in a directory, as far as it can be read.
#[allow(
    clippy::disallowed_methods,
    reason = "a directory the user named, not one of the database's"
)]
pub(crate) fn in_directory(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.map(|entry| entry.path()).collect()
}

/// A file that gets its name when it is complete and durable. Until then it is `<name>.part`, which
/// goes when it does not come to that.
#[derive(Debug)]
pub(crate) struct NewFile {
    name: PathBuf,
    part: PathBuf,
    file: File,
    is_published: bool,
}

#[allow(
    clippy::disallowed_methods,
    reason = "a file the user named, not one of the database's"
)]
impl NewFile {
    /// Errors: a file of that name exists.
    pub(crate) fn begin(name: &Path) -> Result<NewFile, CliError> {
        let fail = |source| CliError::File {
            action: "create",
            name: name.display().to_string(),
            source,
        };
        if std::fs::symlink_metadata(name).is_ok() {
            return Err(fail(io::ErrorKind::AlreadyExists.into()));
        }
        let mut part = name.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        Ok(NewFile {
            file: File::create(&part).map_err(fail)?,
            name: name.to_owned(),
            part,
            is_published: false,
        })
    }

    /// Makes the content durable, then the name.
    pub(crate) fn publish(mut self) -> Result<(), CliError> {
        let published = (|| {
            self.file.sync_all()?;
            std::fs::rename(&self.part, &self.name)?;
            let dir = self.name.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        })();
        self.is_published = published.is_ok();
        published.map_err(|source| CliError::File {
            action: "write",
            name: self.name.display().to_string(),
            source,
        })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a file the user named, not one of the database's"
)]
impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_published {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Opens `path` for appending, creating it if there is none.
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a file the user named, not one of the database's"
)]
pub(crate) fn append(path: &std::path::Path) -> Result<std::fs::File, CliError> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| CliError::File {
            action: "open",
            name: path.display().to_string(),
            source,
        })
}

/// Where the prompt keeps its history: `$XDG_STATE_HOME/chronos/history`, or
/// `~/.chronos_history`. `None` when there is no home directory.
pub(crate) fn history_file() -> Option<PathBuf> {
    history_path(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))
}

fn history_path(state: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let state = state.map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = state {
        return Some(state.join("chronos").join("history"));
    }
    let home = home.map(PathBuf::from).filter(|path| path.is_absolute())?;
    Some(home.join(".chronos_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_prefers_the_state_directory() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(
            history_path(some("/s"), some("/h")),
            Some(PathBuf::from("/s/chronos/history"))
        );
        assert_eq!(
            history_path(some("relative"), some("/h")),
            Some(PathBuf::from("/h/.chronos_history"))
        );
        assert_eq!(history_path(None, None), None);
    }

    #[test]
    fn a_missing_file_is_named_in_the_error() {
        let error = open("/nonexistent/x.sql").err().map(|e| e.to_string());
        assert!(error.is_some_and(|text| text.starts_with("cannot open /nonexistent/x.sql")));
    }
}
