//! Checkpoints: the store as it was after one log entry, as a directory of its own.
//!
//! ```text
//!   store/                        checkpoints/7/                    incoming/
//!     manifest-..c  --flushed-->    CHECKPOINT   list of files  -->   the same files, received,
//!     segments/                     manifest-..1                      checked, complete
//!       a.segment   ==one file==    segments/                              |
//!       b.segment                     a.segment                     replace_store
//!                                                                          v
//!                                                                       store/
//! ```
//!
//! A checkpoint costs no copy: segments never change, so a second name (a hard link) keeps what
//! compaction lets go of. Its manifest is a fresh one with the state of that moment and nothing
//! behind it. A copy of the directory opens as a store.
//!
//! | module | owns |
//! |---|---|
//! | `list` | what is in a checkpoint: position, files with sizes and checksums; its bytes |
//! | `create` | making, opening and removing one |
//! | `receive` | taking one in by pieces, in any number of attempts |
//! | `replace` | a received one in the place of the store |
//!
//! Whatever is unfinished has another name than what is complete, and gets its name by one rename
//! after everything in it is durable. Bytes: `docs/format/checkpoint.md`.

mod create;
mod list;
mod receive;
mod replace;

use std::path::{Path, PathBuf};

use chronos_env::{Disk, Env};

pub use create::{remove_all, remove_unfinished, Checkpoint};
pub use list::{CheckpointFile, CheckpointList};
pub use receive::{Receiver, Wanted};
pub use replace::{finish_replacement, replace_store, INCOMING};

use crate::error::StoreError;

/// Bytes of files read at a time.
const READ_BYTES: usize = 256 << 10;

/// The name of something that is not complete.
fn unfinished(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

const UNFINISHED: &str = ".part";

/// Length and CRC-32 of a file, as it is on disk.
fn checksum(env: &Env, path: &Path) -> Result<(u64, u32), StoreError> {
    let io = |e| StoreError::io("read", path, e);
    let file = env.disk.open_read(path).map_err(io)?;
    let mut crc = crc32fast::Hasher::new();
    let (mut buffer, mut offset) = (vec![0; READ_BYTES], 0);
    loop {
        match file.read_at(&mut buffer, offset).map_err(io)? {
            0 => return Ok((offset, crc.finalize())),
            count => {
                crc.update(&buffer[..count]);
                offset += count as u64;
            }
        }
    }
}

fn exists(env: &Env, path: &Path) -> Result<bool, StoreError> {
    let exists = env.disk.exists(path);
    exists.map_err(|e| StoreError::io("look for", path, e))
}

fn rename(env: &Env, from: &Path, to: &Path) -> Result<(), StoreError> {
    let renamed = env.disk.rename(from, to);
    renamed.map_err(|e| StoreError::io("rename", from, e))?;
    sync_parent(env, to)
}

fn sync_dir(env: &Env, dir: &Path) -> Result<(), StoreError> {
    let synced = env.disk.sync_dir(dir);
    synced.map_err(|e| StoreError::io("sync", dir, e))
}

/// Makes the name of a file or directory durable.
fn sync_parent(env: &Env, path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => sync_dir(env, dir),
        _ => sync_dir(env, Path::new(".")),
    }
}

/// Creates a directory whose name is durable, with those above it.
fn create_dir(env: &Env, dir: &Path) -> Result<(), StoreError> {
    let missing = dir.ancestors().take_while(|above| {
        let is_root = above.as_os_str().is_empty();
        !is_root && !env.disk.exists(above).unwrap_or(false)
    });
    let missing: Vec<&Path> = missing.collect();
    let created = env.disk.create_dir_all(dir);
    created.map_err(|e| StoreError::io("create", dir, e))?;
    for dir in missing {
        sync_parent(env, dir)?;
    }
    Ok(())
}

/// Removes a directory with everything in it, if it is there.
fn remove_tree(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let names = match disk.read_dir(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(StoreError::io("list", dir, e)),
    };
    for name in names {
        let path = dir.join(name);
        match disk.remove_file(&path) {
            Ok(()) => {}
            // A directory, which systems refuse in different words.
            Err(_) if disk.read_dir(&path).is_ok() => remove_tree(disk, &path)?,
            Err(e) => return Err(StoreError::io("remove", &path, e)),
        }
    }
    let removed = disk.remove_dir(dir);
    removed.map_err(|e| StoreError::io("remove", dir, e))
}
