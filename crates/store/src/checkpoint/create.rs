//! Making a checkpoint of an open store, and using one that is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{DiskFile, Env};

use super::list::{CheckpointFile, CheckpointList, LIST};
use super::{
    checksum, create_dir, exists, remove_tree, rename, sync_dir, sync_parent, unfinished,
    UNFINISHED,
};
use crate::error::StoreError;
use crate::manifest::{self, Manifest, ManifestState};
use crate::store::{segment_path, Store, SEGMENTS};

/// The number of a checkpoint's manifest.
const MANIFEST_NUMBER: u64 = 1;

/// A complete checkpoint in a directory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    env: Env,
    dir: PathBuf,
    list: CheckpointList,
}

impl Store {
    /// Makes a checkpoint of everything applied so far in a new directory, which must be on the
    /// store's file system. Flushes, but waits for nobody: writes, compactions and readers go on.
    ///
    /// Errors: the directory is there already; a segment is damaged; the disk fails. Nothing is
    /// left of a checkpoint that fails, but for what a power cut leaves:
    /// [`remove_unfinished`] is for that.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, StoreError> {
        let env = &self.shared().env;
        if exists(env, dir)? {
            return Err(StoreError::Checkpoint {
                reason: format!("{} exists", dir.display()),
            });
        }
        self.flush_now()?;
        let part = unfinished(dir);
        remove_tree(&*env.disk, &part)?;
        let made = self.checkpoint_in(&part);
        let made = made.and_then(|list| {
            rename(env, &part, dir)?;
            Ok(list)
        });
        if made.is_err() {
            // What cannot be removed now is removed with all that is unfinished.
            let _ = remove_tree(&*env.disk, &part);
        }
        Ok(Checkpoint {
            env: env.clone(),
            dir: dir.to_owned(),
            list: made?,
        })
    }

    fn checkpoint_in(&self, part: &Path) -> Result<CheckpointList, StoreError> {
        let env = &self.shared().env;
        create_dir(env, &part.join(SEGMENTS))?;
        let mut state = self.link_segments(part)?;
        let mut files = Vec::with_capacity(state.segments.len() + 1);
        for entry in &mut state.segments {
            let path = segment_path(part, entry.meta.id);
            let crc32 = match entry.crc32 {
                Some(known) => known,
                // It is as old as that.
                None => checksum(env, &path)?.1,
            };
            entry.crc32 = Some(crc32);
            files.push(CheckpointFile {
                name: format!("{SEGMENTS}/{}.segment", entry.meta.id),
                bytes: entry.meta.bytes,
                crc32,
            });
        }
        sync_dir(env, &part.join(SEGMENTS))?;
        let manifest = Manifest::write_state(env, part, MANIFEST_NUMBER, state.clone())?;
        let (bytes, crc32) = checksum(env, &manifest)?;
        let name = manifest.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        files.insert(0, CheckpointFile { name, bytes, crc32 });
        let position = (state.flushed_term, state.flushed_index);
        let list = CheckpointList::new(position, state.floor, state.membership, files);
        let path = part.join(LIST);
        let written = env.disk.replace(&path, &list.encode()?);
        written.map_err(|e| StoreError::io("write", &path, e))?;
        Ok(list)
    }

    /// Gives the segments that the manifest names a name in a checkpoint, too.
    fn link_segments(&self, part: &Path) -> Result<ManifestState, StoreError> {
        let shared = self.shared();
        // While it is held, no segment that the manifest names can go.
        let manifest = shared.manifest.lock();
        let state = manifest.state().clone();
        let damage = self.damage();
        let lost = damage.iter().find(|damage| {
            let mut named = state.segments.iter();
            named.any(|entry| entry.meta.id == damage.id)
        });
        if let Some(lost) = lost {
            return Err(StoreError::Damaged {
                path: lost.path.clone(),
                offset: lost.offset,
                reason: lost.reason.clone(),
            });
        }
        for entry in &state.segments {
            let path = segment_path(&shared.dir, entry.meta.id);
            let link = segment_path(part, entry.meta.id);
            let linked = shared.env.disk.hard_link(&path, &link);
            linked.map_err(|e| StoreError::io("link", &path, e))?;
        }
        Ok(state)
    }
}

impl Checkpoint {
    /// Opens a checkpoint that is there. Its files are not looked at.
    pub fn open(env: &Env, dir: &Path) -> Result<Checkpoint, StoreError> {
        let path = dir.join(LIST);
        let bytes = env.disk.read(&path);
        let bytes = bytes.map_err(|e| StoreError::io("read", &path, e))?;
        Ok(Checkpoint {
            env: env.clone(),
            dir: dir.to_owned(),
            list: CheckpointList::decode(&bytes, &path)?,
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it contains.
    pub fn list(&self) -> &CheckpointList {
        &self.list
    }

    /// Its files: the manifest first, then the segments.
    pub fn files(&self) -> &[CheckpointFile] {
        self.list.files()
    }

    /// Opens one of its files, to be sent. The open file stays when the checkpoint is removed.
    ///
    /// Errors: it has no file of that name, or the file is not as long as it was.
    pub fn open_file(&self, name: &str) -> Result<Arc<dyn DiskFile>, StoreError> {
        let listed = self.files().iter().find(|file| file.name == name);
        let listed = listed.ok_or_else(|| StoreError::Checkpoint {
            reason: format!("it has no file {name:?}"),
        })?;
        let path = self.dir.join(name);
        let io = |e| StoreError::io("open", &path, e);
        let file = self.env.disk.open_read(&path).map_err(io)?;
        let bytes = file.len().map_err(io)?;
        if bytes == listed.bytes {
            return Ok(file);
        }
        Err(StoreError::Damaged {
            path,
            offset: bytes,
            reason: format!("it has {bytes} bytes instead of {}", listed.bytes),
        })
    }

    /// Reads all files and compares their checksums.
    pub fn verify(&self) -> Result<(), StoreError> {
        for file in self.files() {
            let path = self.dir.join(&file.name);
            if checksum(&self.env, &path)? != (file.bytes, file.crc32) {
                return Err(StoreError::Damaged {
                    path,
                    offset: 0,
                    reason: "its checksum is not the one it had".into(),
                });
            }
        }
        Ok(())
    }

    /// Makes it the store of a new cluster, in a directory that does not exist: the same content, at
    /// the same place in a log that goes on from there, with no members.
    pub fn into_new_cluster(self, dir: &Path) -> Result<(), StoreError> {
        let found = manifest::read(&self.env, &self.dir)?;
        let before = found.newest.unwrap_or(0);
        let state = ManifestState {
            membership: None,
            ..found.state
        };
        Manifest::write_state(&self.env, &self.dir, before + 1, state)?;
        for name in [format!("manifest-{before:016x}"), LIST.to_owned()] {
            let path = self.dir.join(name);
            let removed = self.env.disk.remove_file(&path);
            removed.map_err(|e| StoreError::io("remove", &path, e))?;
        }
        sync_dir(&self.env, &self.dir)?;
        rename(&self.env, &self.dir, dir)
    }

    /// Removes it. What is only half removed is no checkpoint any more.
    pub fn remove(self) -> Result<(), StoreError> {
        let part = unfinished(&self.dir);
        remove_tree(&*self.env.disk, &part)?;
        rename(&self.env, &self.dir, &part)?;
        remove_tree(&*self.env.disk, &part)?;
        sync_parent(&self.env, &part)
    }
}

/// Removes a directory and all checkpoints in it.
pub fn remove_all(env: &Env, dir: &Path) -> Result<(), StoreError> {
    match exists(env, dir)? {
        true => remove_tree(&*env.disk, dir),
        false => Ok(()),
    }
}

/// Removes the unfinished checkpoints in a directory: for when a node starts.
pub fn remove_unfinished(env: &Env, dir: &Path) -> Result<(), StoreError> {
    if !exists(env, dir)? {
        return Ok(());
    }
    let names = env.disk.read_dir(dir);
    for name in names.map_err(|e| StoreError::io("list", dir, e))? {
        if name.ends_with(UNFINISHED) {
            remove_tree(&*env.disk, &dir.join(name))?;
        }
    }
    Ok(())
}
