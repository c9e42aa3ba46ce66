//! Archives of a node's store, for backups: made while it works, restored to a new data directory.
//!
//! ```text
//!   Node::begin_archive ─► a checkpoint in <data-dir>/archiving ─► Archiving::write_to ─► a stream
//!   restore_archive     ─► <data-dir>.restoring: store, log ─── complete ───► <data-dir>
//! ```
//!
//! A restored directory is of a cluster of its own: no members, an empty log that goes on where the
//! archive ends; it may be given to the node that is to begin the cluster. What is not complete has another name than the data directory, so no node opens it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::Env;
use chronos_model::{SqlState, TableSchema};
use chronos_store::archive::{
    write_archive, ArchiveBase, ArchiveError, ArchiveHeader, Chain, RestoredFile,
};
use chronos_store::checkpoint::{remove_all, Checkpoint};
use chronos_store::log::{Log, LogOptions};
use chronos_store::{with_causes, ReadView, ScanRequest, Store, StoreError, StoreOptions};

use crate::cluster::NodeIdentity;
use crate::{Error, Node};

/// Where checkpoints are while they are read, in a data directory.
pub(crate) const ARCHIVING: &str = "archiving";

/// Of the file with which the log of a restored directory begins.
const LOG_SEGMENT_BYTES: u64 = 8 << 20;

/// An archive that is about to be written. Its checkpoint goes with it.
#[derive(Debug)]
pub struct Archiving {
    checkpoint: Option<Checkpoint>,
    header: ArchiveHeader,
}

impl Archiving {
    /// What the archive will be.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// Writes it. Blocks.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), ArchiveError> {
        match &self.checkpoint {
            Some(checkpoint) => write_archive(checkpoint, &self.header, out),
            None => Ok(()),
        }
    }
}

impl Drop for Archiving {
    fn drop(&mut self) {
        let removed = self.checkpoint.take().map(Checkpoint::remove);
        if let Some(Err(error)) = removed {
            // The next start removes it.
            let error = with_causes(&error);
            tracing::warn!(error, "the checkpoint of an archive cannot be removed");
        }
    }
}

impl Node {
    /// Makes a checkpoint of everything that is applied, of which an archive can be written: a
    /// full one, or one without what a base has. Blocks; everything else goes on.
    pub fn begin_archive(&self, base: Option<&ArchiveBase>) -> Result<Archiving, Error> {
        let env = self.env();
        let id = u128::from(env.random.u64()) << 64 | u128::from(env.random.u64());
        let dir = self.data_dir().join(ARCHIVING).join(format!("{id:032x}"));
        let checkpoint = self.inner.replica.store.checkpoint(&dir)?;
        let created = env.clock.now_micros() as i64;
        let header = ArchiveHeader::new(id, base, created, checkpoint.list().clone());
        Ok(Archiving {
            checkpoint: Some(checkpoint),
            header,
        })
    }
}

/// Removes the checkpoints of archives that a process before did not finish.
pub(crate) fn remove_left(env: &Env, data_dir: &Path) -> Result<(), Error> {
    Ok(remove_all(env, &data_dir.join(ARCHIVING))?)
}

/// Restores archives to a data directory that does not exist, or is empty. Blocks. With an identity
/// it is that of a node, which begins a cluster with it when it is started.
///
/// Errors: there is something; an archive is damaged; the disk. Nothing is left then.
pub fn restore_archive<R: Read>(
    env: &Env,
    chain: &Chain,
    data_dir: &Path,
    identity: Option<&NodeIdentity>,
    open: impl Fn(&str) -> Result<R, ArchiveError>,
    told: &mut RestoredFile<'_>,
) -> Result<(), ArchiveError> {
    if let Some(found) = first_name(env, data_dir)? {
        return Err(ArchiveError::Chain {
            reason: format!("{} is not empty: there is {found}", data_dir.display()),
        });
    }
    let mut part = data_dir.as_os_str().to_owned();
    part.push(".restoring");
    let part = PathBuf::from(part);
    remove_all(env, &part)?;
    let restored = restore_in(env, chain, &part, open, told);
    let restored = restored.and_then(|()| {
        if let Some(identity) = identity {
            identity.write(&*env.disk, &part)?;
        }
        if env.disk.exists(data_dir)? {
            env.disk.remove_dir(data_dir)?;
        }
        env.disk.rename(&part, data_dir)?;
        let parent = data_dir.parent().filter(|p| !p.as_os_str().is_empty());
        Ok(env.disk.sync_dir(parent.unwrap_or(Path::new(".")))?)
    });
    if restored.is_err() {
        let _ = remove_all(env, &part);
    }
    restored
}

/// Removes a directory that was restored, if it is there.
pub fn remove_restored(env: &Env, data_dir: &Path) -> Result<(), Error> {
    Ok(remove_all(env, data_dir)?)
}

fn first_name(env: &Env, dir: &Path) -> Result<Option<String>, ArchiveError> {
    match env.disk.exists(dir)? {
        true => Ok(env.disk.read_dir(dir)?.into_iter().next()),
        false => Ok(None),
    }
}

fn restore_in<R: Read>(
    env: &Env,
    chain: &Chain,
    part: &Path,
    open: impl Fn(&str) -> Result<R, ArchiveError>,
    told: &mut RestoredFile<'_>,
) -> Result<(), ArchiveError> {
    let restored = chain.restore(env, &part.join("received"), open, told)?;
    let (term, index) = restored.list().applied();
    restored.into_new_cluster(&part.join("store"))?;
    let options = LogOptions {
        segment_bytes: LOG_SEGMENT_BYTES,
        ..LogOptions::default()
    };
    let failed = |e| std::io::Error::other(with_causes(&e));
    let (log, _) = Log::open(env, &part.join("log"), options).map_err(failed)?;
    log.purge(term, index).map_err(failed)?;
    log.close().map_err(failed)?;
    Ok(env.disk.sync_dir(part)?)
}

/// A table of a restored archive.
#[derive(Clone, Debug)]
pub struct ArchivedTable {
    /// Its name.
    pub name: String,
    /// Rows that are there now.
    pub rows: u64,
    /// Versions of all times.
    pub versions: u64,
    /// The hash of its content.
    pub hash: Option<[u8; 32]>,
}

/// The tables in a data directory that nobody has open. Reads everything.
pub fn archived_tables(env: &Env, data_dir: &Path) -> Result<Vec<ArchivedTable>, Error> {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    let store = Store::open(env, &data_dir.join("store"), options)?;
    let view = store.read_view();
    let hashes = store.content_hashes(None, view.stamp())?;
    let mut tables = Vec::with_capacity(hashes.tables.len());
    for content in hashes.tables {
        let stored = view.catalog().stored().find(|s| s.id == content.table);
        tables.push(ArchivedTable {
            rows: stored.map_or(Ok(0), |schema| rows(&view, &schema))?,
            name: chronos_model::shown_name(&content.name),
            versions: content.versions,
            hash: content.hash,
        });
    }
    Ok(tables)
}

/// The current rows of a table.
fn rows(view: &ReadView, schema: &Arc<TableSchema>) -> Result<u64, StoreError> {
    let mut rows = 0;
    for partition in view.scan(schema, ScanRequest::default())? {
        for batch in partition {
            rows += batch?.num_rows() as u64;
        }
    }
    Ok(rows)
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Error {
        let code = match &error {
            ArchiveError::Store(error) => error.sqlstate(),
            ArchiveError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                SqlState::DISK_FULL
            }
            ArchiveError::Io(_) => SqlState::IO_ERROR,
            ArchiveError::BaseMissing { .. } | ArchiveError::Chain { .. } => {
                SqlState::INVALID_PARAMETER
            }
            _ => SqlState::DATA_CORRUPTED,
        };
        Error::new(code, with_causes(&error))
    }
}
