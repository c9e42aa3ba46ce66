//! Archives as files: their headers, and those that belong together.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use chronos_node::{ArchiveError, ArchiveHeader, ArchiveReader, Chain};

use super::failed;
use crate::cli::error::CliError;
use crate::cli::files;

/// An archive, its bases, and the files they are in.
#[derive(Debug)]
pub(super) struct Archives {
    pub(super) chain: Chain,
    files: HashMap<String, PathBuf>,
}

impl Archives {
    /// Of some files, of which the newest is to be restored. Bases that are not among them are
    /// looked for beside it.
    pub(super) fn find(given: &[PathBuf]) -> Result<Archives, CliError> {
        let mut known: Vec<(PathBuf, ArchiveHeader)> = Vec::new();
        for file in given {
            known.push((file.clone(), header(file)?));
        }
        let (file, newest) = newest(&known)?;
        let headers = |known: &[(PathBuf, ArchiveHeader)]| -> Vec<ArchiveHeader> {
            known.iter().map(|(_, header)| header.clone()).collect()
        };
        let mut chain = Chain::new(newest.clone(), &headers(&known));
        if let Err(ArchiveError::BaseMissing { .. }) = chain {
            known.extend(beside(&file));
            chain = Chain::new(newest, &headers(&known));
        }
        let chain = chain.map_err(|e| failed(&file, &e))?;
        let files = known.into_iter().rev();
        Ok(Archives {
            chain,
            files: files.map(|(file, header)| (header.id, file)).collect(),
        })
    }

    /// Opens the archive with an id.
    pub(super) fn open(&self, id: &str) -> Result<BufReader<File>, ArchiveError> {
        let file = self
            .files
            .get(id)
            .ok_or_else(|| ArchiveError::BaseMissing {
                base: id.to_owned(),
            })?;
        Ok(files::open_archive(file)?)
    }

    /// The file of the archive that is restored.
    pub(super) fn file(&self) -> &Path {
        let id = &self.chain.headers()[0].id;
        self.files.get(id).map_or(Path::new("?"), PathBuf::as_path)
    }
}

/// What an archive is.
pub(super) fn header(file: &Path) -> Result<ArchiveHeader, CliError> {
    let opened = files::open_archive(file).map_err(|source| CliError::File {
        action: "open",
        name: file.display().to_string(),
        source,
    })?;
    let reader = ArchiveReader::open(opened).map_err(|e| failed(file, &e))?;
    Ok(reader.header().clone())
}

/// The one that is no other's base.
fn newest(known: &[(PathBuf, ArchiveHeader)]) -> Result<(PathBuf, ArchiveHeader), CliError> {
    let is_base = |id: &String| known.iter().any(|(_, h)| h.base.as_ref() == Some(id));
    let mut newest = known.iter().filter(|(_, header)| !is_base(&header.id));
    match (newest.next(), newest.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some((one, _)), Some((other, _))) => Err(CliError::Usage(format!(
            "{} and {} do not belong together: neither is based on the other",
            one.display(),
            other.display()
        ))),
        _ => Err(CliError::Usage("no file was named".to_owned())),
    }
}

/// The archives in the directory of a file.
fn beside(file: &Path) -> Vec<(PathBuf, ArchiveHeader)> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let files = files::in_directory(dir.unwrap_or(Path::new(".")));
    let read = |file: PathBuf| {
        let reader = ArchiveReader::open(files::open_archive(&file).ok()?).ok()?;
        Some((file, reader.header().clone()))
    };
    files.into_iter().filter_map(read).collect()
}
